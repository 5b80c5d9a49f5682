"""The command; see the package."""

import argparse
import sys

from tests.vectors.files import FOLDER, FUNCTIONS, contents, differing


def main() -> int:
    """Write, or check."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.vectors", description="Write the test vectors."
    )
    parser.add_argument("functions", nargs="*", metavar="function", help="only these; all if left out")
    parser.add_argument("--check", action="store_true", help="write nothing; say what differs")
    options = parser.parse_args()
    unknown = sorted(set(options.functions) - FUNCTIONS.keys())
    if unknown:
        parser.error(f"there is no function {unknown[0]!r}")
    files = contents(options.functions or list(FUNCTIONS))
    different = differing(files)
    if not options.check:
        FOLDER.mkdir(exist_ok=True)
        for name in different:
            (FOLDER / name).write_text(files[name], encoding="utf-8", newline="\n")
    verb = "differs" if options.check else "written"
    for name in different:
        print(f"{FOLDER / name}: {verb}")
    print(f"{len(files) - len(different)} of {len(files)} files are as they should be")
    return int(options.check and bool(different))


if __name__ == "__main__":
    sys.exit(main())
