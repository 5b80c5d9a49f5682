"""The tables of docs/vectors.md: the functions of the vectors, and what their flags mean.

    python -m tests.vectors_table

rewrites them from the files of the vectors; `make format` does so too.
"""

import re
from pathlib import Path

from ddpm_np.testing.vectors import load
from ddpm_np.testing.vectors._flags import MEANINGS

DOCUMENT = Path(__file__).parents[1] / "docs" / "vectors.md"


def with_tables(text: str) -> str:
    """The document, with its tables as they should be."""
    for name, table in (("flags", flags()), ("functions", functions())):
        begin = f"<!-- {name}, written by tests/vectors_table.py -->\n"
        pattern = re.compile(re.escape(begin) + ".*?(?=<!-- end -->)", re.DOTALL)
        text, count = pattern.subn(lambda _, new=begin + table: new, text)
        assert count == 1, f"the table of {name} has no place"
    return text


def functions() -> str:
    """A row for each function."""
    rows = ["| function | inputs | outputs | formula | cases |", "| --- | --- | --- | --- | ---: |"]
    for function in load():
        cells = [
            f"`{function.name}`, {function.equation}",
            ", ".join(function.inputs),
            ", ".join(function.outputs),
            function.formula,
            str(len(function.cases)),
        ]
        rows.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |")
    return "\n".join(rows) + "\n"


def flags() -> str:
    """A row for each flag that a case has."""
    found = {flag for function in load() for case in function.cases for flag in case.flags}
    rows = [f"| `{flag}` | {text} |" for flag, text in MEANINGS.items() if flag in found]
    return "\n".join(["| flag | usually means |", "| --- | --- |", *rows]) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(with_tables(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
