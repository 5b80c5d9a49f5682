"""The links of docs/equations.md: each name leads to the line of its definition.

    python tests/map_links.py

rewrites them; `make format` does so too.
"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
MAP = ROOT / "docs" / "equations.md"


def with_lines(text: str) -> str:
    """Set the line number in every link from a name in backticks to a Python file."""

    def link(found: re.Match[str]) -> str:
        name, path = found[1], found[2]
        return f"[`{name}`](../{path}#L{definition(ROOT / path, name)})"

    return re.sub(r"\[`([\w.:]+)`\]\(\.\./([\w/]+\.py)(?:#L\d+)?\)", link, text)


def definition(path: Path, name: str) -> int:
    """Line of a function, class or field; "Class.method" is looked for in the class."""
    body, line = ast.parse(path.read_text(encoding="utf-8")).body, 0
    for part in re.split(r"\.|::", name):
        for node in body:
            own = getattr(node, "name", None) or getattr(getattr(node, "target", None), "id", None)
            if own == part:
                line, body = node.lineno, getattr(node, "body", [])
                break
    assert line, f"{path.name} does not define {name}"
    return line


if __name__ == "__main__":
    MAP.write_text(with_lines(MAP.read_text(encoding="utf-8")), encoding="utf-8")
