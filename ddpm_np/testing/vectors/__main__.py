"""``python -m ddpm_np.testing.vectors --run "node my_port.js"`` asks a port all vectors.

Exit status: 0 if no case fails but those that are known to, 1 if one does, 2 for what cannot be run.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from ddpm_np.testing.vectors._files import FOLDER, Function, VectorsError, load
from ddpm_np.testing.vectors._port import check_port
from ddpm_np.testing.vectors._protocols import Json, Plain

PROGRAM = "python -m ddpm_np.testing.vectors"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    parser = new_parser()
    options = parser.parse_args(arguments)
    if not options.run and not options.list:
        parser.error("--run COMMAND is needed, such as --run 'node my_port.js'; or --list")
    try:
        functions = load(options.function, options.folder)
        if options.list:
            print(listing(functions), flush=True)
            return 0
        known = known_failures(options.xfail, options.folder) if options.xfail else frozenset()
        dtype = "float32" if options.float32 else "float64"
        language = Plain() if options.plain else Json()
        report = check_port(options.run, functions, language, dtype, options.timeout, known)
        print(report.as_json() if options.json else report, flush=True)
    except (VectorsError, OSError) as error:  # OSError: a full disk, a closed pipe
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        return 2
    return 0 if report.ok else 1


def new_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description="Ask a port of diffusion, in any language, all test vectors."
    )
    add = parser.add_argument
    add("--run", metavar="COMMAND", help="the port, such as 'node my_port.js'")
    add("--plain", action="store_true", help="talk in plain words, not in JSON")
    add("--float32", action="store_true", help="the port computes in float32, with its tolerances")
    add("--function", action="append", metavar="NAME", help="only this one; may be repeated")
    add("--xfail", metavar="FILE", help="ids or functions that are known to fail, one a line")
    add("--timeout", type=seconds, default=10.0, help="seconds that a case may take, 10 by default")
    add("--json", action="store_true", help="print the report as JSON")
    add("--list", action="store_true", help="print the functions and their number of cases")
    add("--folder", type=Path, default=FOLDER, help="read other vectors than those of this package")
    return parser


def seconds(text: str) -> float:
    """Argparse type: a positive time, up to a day."""
    number = float(text)
    if not 0.0 < number <= 86400.0:
        raise argparse.ArgumentTypeError(f"must be a positive number of seconds, got {text}")
    return number


def listing(functions: Iterable[Function]) -> str:
    """One line a function: its name, cases, inputs and outputs."""
    rows = [
        (f.name, f"{len(f.cases)}", f"({', '.join(f.inputs)}) -> {', '.join(f.outputs)}")
        for f in functions
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    return "\n".join(f"{a.ljust(widths[0])}  {b.rjust(widths[1])}  {c}" for a, b, c in rows)


def known_failures(path: str, folder: Path) -> frozenset[str]:
    """Read the ids and functions of a list of known failures; # begins a comment."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise VectorsError(f"{path} cannot be read: {reason}") from None
    known = {line.partition("#")[0].strip() for line in lines} - {""}
    functions = load(folder=folder)
    names = {f.name for f in functions} | {case.id for f in functions for case in f.cases}
    if known - names:
        raise VectorsError(f"{path} names {min(known - names)!r}, which is no case and no function")
    return frozenset(known)


if __name__ == "__main__":
    sys.exit(main())
