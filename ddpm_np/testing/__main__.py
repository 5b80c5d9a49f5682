"""``python -m ddpm_np.testing module:object`` prints the report on an implementation.

Exit status: 0 if every identity that was checked holds, 1 if one fails, 2 for a wrong command.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any

from ddpm_np.testing import check_identities
from ddpm_np.testing._rows import in_one_line
from ddpm_np.testing.protocol import Implementation


class UsageError(Exception):
    """The object that was named cannot be checked; one sentence that says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m ddpm_np.testing",
        description="Check a diffusion implementation against the identities of DDPM.",
    )
    parser.add_argument(
        "target",
        metavar="module:object",
        help="an implementation, or a class or function that makes one",
    )
    parser.add_argument("--seed", type=int, default=0, help="for observations, noise and times")
    parser.add_argument(
        "--dtype", default="float64", help="what it computes in, float64 (default) or float32"
    )
    options = parser.parse_args(arguments)
    try:
        implementation = load(options.target)
        try:
            report = check_identities(implementation, seed=options.seed, dtype=options.dtype)
        except (TypeError, ValueError) as error:
            raise UsageError(f"{options.target}: {error}") from None
    except UsageError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2
    try:
        print(report, flush=True)
    except OSError as error:  # a full disk, a closed pipe
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2
    return 0 if report.ok else 1


def load(target: str) -> Implementation:
    """Import ``module:object``, and call it if it is a class or function; the result is unchecked.

    Raises
    ------
    UsageError
        If it cannot be imported, is not there, or cannot be called without arguments.
    """
    module_name, colon, path = target.partition(":")
    if not (module_name and colon and path):
        raise UsageError(f"the target must be module:object, such as my_adapter:Mine, got {target!r}")
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:  # importing runs a stranger's code
        raise UsageError(f"cannot import {module_name}: {in_one_line(error)}") from None
    for name in path.split("."):
        if not hasattr(found, name):
            raise UsageError(f"{module_name} has no {path}")
        found = getattr(found, name)
    # A class has the methods too, but they want an instance.
    if isinstance(found, type) or (callable(found) and not hasattr(found, "betas")):
        try:
            found = found()
        except Exception as error:
            raise UsageError(
                f"{target}() does not make an implementation: {in_one_line(error)}"
            ) from None
    return found


if __name__ == "__main__":
    sys.exit(main())
