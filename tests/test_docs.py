"""What the documentation says exists, exists; what it says runs, runs."""

import ast
import dataclasses
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import pytest

from ddpm_np.nn.ops import GENERIC, Ops
from tests.map_links import with_lines

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EQUATIONS = (ROOT / "docs" / "equations.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.replace(r"\|", "¦").strip("|").split("|")]
    for line in EQUATIONS.splitlines()
    if re.match(r"\| \d", line)
]


def numbers(cell: str) -> set[int]:
    """The equation numbers of "8", "4, 5" or "11–13"."""
    found: set[int] = set()
    for part in cell.split(","):
        ends = [int(number) for number in part.split("–")]
        found |= set(range(ends[0], ends[-1] + 1))
    return found


def test_every_equation_of_the_primary_document_has_a_row():
    covered = [number for row in ROWS for number in numbers(row[0])]
    assert sorted(set(covered)) == list(range(1, 38))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_every_row_names_a_function_and_a_test(row):
    _, _, _, functions, tests = row
    assert re.findall(r"`ddpm_np\.[\w.]+`", functions), functions
    assert re.findall(r"`test_\w+\.py::test_\w+`", tests), tests


CITED = sorted(
    {name for path in DOCUMENTS for name in re.findall(r"`(ddpm_np(?:\.\w+)+)`", path.read_text())}
)


def look_up(name):
    """What a dotted name stands for, and the file of the module, class or function that it is in."""
    parts = name.split(".")
    for split in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:split]))
        except ModuleNotFoundError:
            continue
        except ImportError as error:  # an adapter for a library that is not installed
            pytest.skip(str(error))
        for part in parts[split:]:
            owner, fields = value, getattr(value, "__dataclass_fields__", {})
            value = fields[part] if part in fields else getattr(value, part)
        code = value if isinstance(value, FunctionType | ModuleType | type) else owner
        return value, Path(inspect.getsourcefile(code))
    pytest.fail(f"{name} does not exist")


@pytest.mark.parametrize("name", CITED)
def test_cited_name_exists(name):
    look_up(name)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_links_of_a_row_lead_to_the_code(row):
    links = re.findall(r"\[`([\w.:]+)`\]\(\.\./([\w/.]+)#L\d+\)", row[3] + row[4])
    assert len(links) == len(re.findall(r"`(?:ddpm_np|test_)\w*\.", row[3] + row[4]))
    for name, path in links:
        if name.startswith("ddpm_np."):
            assert look_up(name)[1] == ROOT / path
        else:
            assert path == f"tests/{name.partition('::')[0]}"


def test_links_of_the_map_lead_to_the_lines():
    assert with_lines(EQUATIONS) == EQUATIONS, "definitions have moved: make format"


def defined_tests(path: Path) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    }


CITED_TESTS = sorted(
    {
        pair
        for path in DOCUMENTS
        for pair in re.findall(r"`(?:tests/)?(test_\w+\.py)::(test_\w+)`", path.read_text())
    }
)


@pytest.mark.parametrize(("file", "name"), CITED_TESTS, ids=lambda part: part)
def test_cited_test_exists(file, name):
    assert name in defined_tests(ROOT / "tests" / file)


def test_cited_files_exist():
    pattern = r"(?:`|\()((?:ddpm_np|backends|examples|tests|docs)/[\w/]+\.(?:py|md|png))"
    for path in DOCUMENTS:
        for name in re.findall(pattern, path.read_text(encoding="utf-8")):
            assert (ROOT / name).exists(), f"{path.name} names {name}"
        for name in re.findall(r"\]\(([\w./-]+\.(?:md|png))\)", path.read_text(encoding="utf-8")):
            assert (path.parent / name).exists(), f"{path.name} links to {name}"


def test_readme_example_prints_what_it_says():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"## Ten lines\n\n((?:    .*\n|\n)+)", text)
    assert block
    code = re.sub(r"^    ", "", block[1], flags=re.MULTILINE)
    claimed = re.search(r"print\(.*\)\s+# ([\d.]+),", code)
    assert claimed
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"{float(done.stdout):.{len(claimed[1].split('.')[1])}f}" == claimed[1]


def test_the_kernel_of_the_documentation_is_one():
    text = (ROOT / "docs" / "backends.md").read_text(encoding="utf-8")
    block = re.search(r"with the same signature:\n\n((?:    .*\n|\n)+)", text)
    assert block
    names: dict[str, Any] = {}
    exec(re.sub(r"^    ", "", block[1], flags=re.MULTILINE), names)
    x = np.linspace(-30.0, 30.0, 61)
    for found, expected in zip(names["ops"].silu(x), GENERIC.silu(x), strict=True):
        # the gate of tanh loses digits where it is small
        np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-14)
    assert dataclasses.replace(names["ops"], silu=GENERIC.silu) == GENERIC


def test_the_table_of_operations_is_whole():
    text = (ROOT / "docs" / "backends.md").read_text(encoding="utf-8")
    rows = re.search(r"\| entry \| .*\n\| --- .*\n((?:\|.*\n)+)", text)
    assert rows
    named = set(re.findall(r"`(\w+)`", " ".join(row.split("|")[1] for row in rows[1].splitlines())))
    named |= {f"{name}_backward" for name in ("linear", "conv2d", "group_norm", "residual_mlp")}
    assert named - {"_backward"} == set(Ops.__dataclass_fields__)
