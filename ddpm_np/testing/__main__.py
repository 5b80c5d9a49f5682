"""``python -m ddpm_np.testing module:object`` prints the report on an implementation.

Exit status: 0 if every identity that was checked holds, 1 if one fails, 2 for a wrong command.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any

from ddpm_np.schedules import SCHEDULES
from ddpm_np.testing import check_identities
from ddpm_np.testing._rows import in_one_line
from ddpm_np.testing.adapters.names import UnusualError, usual_arguments
from ddpm_np.testing.protocol import Implementation

PROGRAM = "python -m ddpm_np.testing"


class UsageError(Exception):
    """The object that was named cannot be checked; one sentence that says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    options = parse(arguments)
    try:
        implementation, claims = adapted(load(options.target, options.like), options)
        try:
            report = check_identities(implementation, seed=options.seed, **claims)
        except (TypeError, ValueError) as error:
            raise UsageError(f"{options.target}: {in_one_line(error)}") from None
    except UsageError as error:
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        return 2
    try:
        print(report.as_json() if options.json else report, flush=True)
    except OSError as error:  # a full disk, a closed pipe
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        return 2
    return 0 if report.ok else 1


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; what is not given is None, so that an adapter's own claims stand."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description="Check a diffusion implementation against the identities of DDPM."
    )
    add = parser.add_argument
    add(
        "target",
        metavar="module:object",
        help="an implementation, or a class or function that makes one",
    )
    add(
        "--like",
        choices=("pytorch", "diffusers"),
        help="it has the names of this kind: no adapter needed",
    )
    add("--seed", type=int, default=0, help="for observations, noise and times")
    add("--dtype", help="what it computes in, float64 (default) or float32")
    add("--target", dest="predicts", help="what its network predicts: eps (default), x0, mean or v")
    add("--clip", type=float, help="it limits x_0 to [-CLIP, CLIP] while it samples")
    add("--eta", type=float, help="its sampler is DDIM with this eta")
    add("--times", type=integers, help="the times that its sampler visits, such as 1,21,41")
    add("--decoder", help="of its L_0: gaussian (default) or discretised")
    add("--schedule", help=f"the schedule that its betas claim to be: {', '.join(SCHEDULES)}")
    add("--json", action="store_true", help="print the report as JSON")
    return parser.parse_args(arguments)


def integers(text: str) -> list[int]:
    """Argparse type: integers between commas."""
    return [int(part) for part in text.split(",")]


def adapted(found: Any, options: argparse.Namespace) -> tuple[Implementation, dict[str, Any]]:
    """The implementation, and its options: its adapter's claims, then those of the command line."""
    try:
        if options.like == "pytorch":
            from ddpm_np.testing.adapters.usual_names import UsualNames

            found = UsualNames(found)
        elif options.like == "diffusers":
            from ddpm_np.testing.adapters.diffusers import adapt

            found = adapt(found)
        own = dict(found.claims) if options.like else {}
    except (ImportError, TypeError, ValueError) as error:
        raise UsageError(f"{options.target}: {in_one_line(error)}") from None
    names = ("dtype", "clip", "eta", "times", "decoder", "schedule")
    asked = {**{name: getattr(options, name) for name in names}, "target": options.predicts}
    return found, {**own, **{name: value for name, value in asked.items() if value is not None}}


def load(target: str, like: str | None = None) -> Any:
    """Import ``module:object``, and call it if it is a class or function; the result is unchecked.

    ``like`` says which arguments a class may want: for "pytorch", a network and sizes.

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
            found = found(**(arguments_of(found) if like == "pytorch" else {}))
        except UsageError:
            raise
        except Exception as error:
            raise UsageError(
                f"{target}() does not make an implementation: {in_one_line(error)}"
            ) from None
    return found


def arguments_of(make: Any) -> dict[str, Any]:
    """A network and sizes for a class that wants them."""
    try:
        import torch

        return usual_arguments(make, torch.nn.Identity())
    except (ImportError, UnusualError) as error:
        raise UsageError(str(error)) from None


if __name__ == "__main__":
    sys.exit(main())
