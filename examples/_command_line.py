"""What the examples' command lines share: argument types, and errors as one sentence."""

import argparse
import io
import math
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

# For matrices this small a second BLAS thread gains little on an idle machine and makes
# training many times slower on a busy one, where the threads wait for each other. It must be set
# before NumPy is imported; a user's own setting is kept.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from backends import BackendError
from ddpm_np.data.files import DataError
from ddpm_np.runs.checkpoint import CheckpointError

USER_ERRORS = (BackendError, CheckpointError, DataError)
"""The project's own errors, whose messages are sentences for the user."""


def run_command(
    name: str,
    parse: Callable[[list[str] | None], argparse.Namespace],
    run: Callable[[argparse.Namespace], None],
    arguments: list[str] | None,
) -> int:
    """Parse and run; an error that the user can fix is one sentence on stderr and exit status 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # for ASCII terminals
    options = parse(arguments)
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    try:
        run(options)
    except KeyboardInterrupt:
        hint = "; the same command with --resume goes on from the checkpoint"
        print(f"\n{name}: stopped{hint if 'resume' in options else ''}", file=sys.stderr)
        return 130
    except (*USER_ERRORS, FloatingPointError, MemoryError, OSError, Warning) as error:
        print(f"{name}: error: {str(error) or type(error).__name__}", file=sys.stderr)
        return 2
    return 0


def new_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser whose help gives every default that is a value."""

    class Formatter(argparse.ArgumentDefaultsHelpFormatter):
        def _get_help_string(self, action: argparse.Action) -> str | None:
            unset = action.default is None or action.default is False
            return action.help if unset else super()._get_help_string(action)

    return argparse.ArgumentParser(description=description, formatter_class=Formatter)


def integer(minimum: int, maximum: int | None = None) -> Callable[[str], int]:
    """Return an argparse type: an integer within bounds."""
    upper = "" if maximum is None else f" and at most {maximum}"

    def convert(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = minimum - 1
        if number < minimum or (maximum is not None and number > maximum):
            raise argparse.ArgumentTypeError(
                f"must be an integer, at least {minimum}{upper}, got {text!r}"
            )
        return number

    return convert


def folder(text: str) -> Path:
    """Argparse type: a folder's path."""
    if not text.strip():
        raise argparse.ArgumentTypeError("must name a folder, got an empty name")
    return Path(text)


def positive(text: str) -> float:
    """Argparse type: a positive finite number."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0.0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"must be a positive number, got {text!r}")
    return number


def real(minimum: float) -> Callable[[str], float]:
    """Return an argparse type: a finite number, not below a minimum."""

    def convert(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not minimum <= number < math.inf:
            raise argparse.ArgumentTypeError(f"must be a number, at least {minimum:g}, got {text!r}")
        return number

    return convert
