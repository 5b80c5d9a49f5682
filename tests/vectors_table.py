"""What docs/ says of each function of the vectors and of their flags, from the files of the vectors.

    python -m tests.vectors_table

rewrites the tables of docs/vectors.md and all of docs/vectors_functions.md; `make format` does so too.
"""

import re
import textwrap
from pathlib import Path

from ddpm_np.testing.vectors import Function, load
from ddpm_np.testing.vectors._flags import MEANINGS

DOCS = Path(__file__).parents[1] / "docs"
DOCUMENT = DOCS / "vectors.md"
PAGE = DOCS / "vectors_functions.md"
HEAD = """# The functions of the test vectors

What goes in and what must come out, from the heads of the files in `ddpm_np/testing/vectors/v1/`; how
they are asked is in [vectors.md](vectors.md). Written by `python -m tests.vectors_table`.

`alpha = 1 - beta`, `alpha_bar[t]` is the product of alpha_1 ... alpha_t, and `alpha_bar[0] = 1`.
"""


def with_tables(text: str) -> str:
    """docs/vectors.md, with its tables as they should be."""
    for name, table in (("flags", flags()), ("functions", functions())):
        begin = f"<!-- {name}, written by tests/vectors_table.py -->\n"
        pattern = re.compile(re.escape(begin) + ".*?(?=<!-- end -->)", re.DOTALL)
        text, count = pattern.subn(lambda _, new=begin + table: new, text)
        assert count == 1, f"the table of {name} has no place"
    return text


def functions() -> str:
    """A row for each function."""
    rows = ["| function | | inputs | outputs | cases |", "| --- | --- | --- | --- | ---: |"]
    for function in load():
        name = f"[`{function.name}`]({PAGE.name}#{function.name})"
        inputs, outputs = (
            ", ".join(f"`{name}`" for name in names) for names in (function.inputs, function.outputs)
        )
        rows.append(f"| {name} | {function.equation} | {inputs} | {outputs} | {len(function.cases)} |")
    return "\n".join(rows) + "\n"


def flags() -> str:
    """A row for each flag that a case has."""
    found = {flag for function in load() for case in function.cases for flag in case.flags}
    rows = [f"| `{flag}` | {text} |" for flag, text in MEANINGS.items() if flag in found]
    return "\n".join(["| flag | usually means |", "| --- | --- |", *rows]) + "\n"


def page() -> str:
    """docs/vectors_functions.md."""
    return "\n".join([HEAD, *map(section, load())])


def section(function: Function) -> str:
    """A function: its formula, a line for each part of it, its inputs and its outputs."""
    lines = [f"## {function.name}", "", f"{function.equation}; {len(function.cases)} cases", ""]
    for part in re.split(r"(?<=[.;]) ", function.formula):
        lines += textwrap.wrap(part, 100, initial_indent=4 * " ", subsequent_indent=8 * " ")
    for word, table in (("in", function.inputs), ("out", function.outputs)):
        lines += ["", f"| {word} | |", "| --- | --- |"]
        lines += [f"| `{name}` | {_cell(text)} |" for name, text in table.items()]
    return "\n".join([*lines, ""])


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("<", "&lt;").replace("*", r"\*").replace("_", r"\_")


if __name__ == "__main__":
    DOCUMENT.write_text(with_tables(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")
