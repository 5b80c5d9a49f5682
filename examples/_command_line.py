"""What the examples' command lines share: argument types, and errors as one sentence."""

import argparse
import math
import os
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

# For matrices this small a second BLAS thread gains little on an idle machine and makes
# training many times slower on a busy one, where the threads wait for each other. It must be set
# before NumPy is imported; a user's own setting is kept.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Pictures go to files, for which a user's choice of a window does not matter, not even a bad one.
os.environ["MPLBACKEND"] = "agg"

from _signals import raised_signals, sentence
from _streams import patient_streams

from backends import BackendError
from ddpm_np.data.files import LONGEST_LINE, FileError, shown


class PlottingError(RuntimeError):
    """Pictures cannot be drawn; the message says why in one sentence."""


OUT_DIR = "output folder; files of an earlier run there move to its subfolder previous"
USER_ERRORS = (BackendError, FileError, PlottingError)
"""The project's own errors, whose messages are sentences for the user."""


def run_command(
    name: str,
    parse: Callable[[list[str] | None], argparse.Namespace],
    run: Callable[[argparse.Namespace], None],
    arguments: list[str] | None,
) -> int:
    """Parse and run; an error that the user can fix is one sentence on stderr and exit status 2.

    Stopped by a signal, it says so and returns 128 and the signal's number, as shells do.
    """
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    with patient_streams():
        try:
            with raised_signals():
                run(parse(arguments))
                print(end="", flush=True)
        except KeyboardInterrupt as stop:
            number = getattr(stop, "number", signal.SIGINT)
            print(sentence(name, number, *getattr(stop, "__notes__", ())), end="", file=sys.stderr)
            return 128 + number
        except (*USER_ERRORS, FloatingPointError, MemoryError, OSError, Warning) as error:
            message = shown(" ".join(str(error).split()) or type(error).__name__, LONGEST_LINE)
            print(f"{name}: error: {message}", file=sys.stderr)
            return 2
    return 0


def require_plotting() -> None:
    """Import what draws, so that what keeps it from drawing is known before the work, not after it.

    Raises
    ------
    PlottingError
        If it cannot be imported.
    """
    try:
        import ddpm_np.plotting.images  # noqa: F401
    except (ImportError, ValueError) as error:
        raise PlottingError(f"pictures cannot be drawn, since an import failed: {error}") from None


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
