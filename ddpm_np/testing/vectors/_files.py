"""The files of the test vectors: read, and checked as far as the runner relies on them."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VERSION = 1
FOLDER = Path(__file__).parent / f"v{VERSION}"
DTYPES = ("float64", "float32")
NO_CASES = ("index.json", "schema.json")


class VectorsError(RuntimeError):
    """The vectors, or a program, cannot be used; the message says why in one sentence."""


@dataclass(frozen=True)
class Case:
    """Inputs of a function and what must come out."""

    id: str
    """Never used again, should the case be withdrawn."""
    function: str
    equation: str
    inputs: dict[str, Any]
    expected: dict[str, Any]
    """By the name of the output: a number, or nested lists."""
    tolerance: dict[str, dict[str, list[float]]]
    """By dtype and output: [abs, rel]; see :func:`ddpm_np.testing.vectors._comparing.compare`."""
    flags: tuple[str, ...]
    """The mistakes that the case would show."""
    note: str


@dataclass(frozen=True)
class Function:
    """A function to be ported: what goes in, what comes out, and its cases."""

    name: str
    equation: str
    formula: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    cases: tuple[Case, ...]


def load(functions: Iterable[str] | None = None, folder: Path | str = FOLDER) -> tuple[Function, ...]:
    """Read the vectors: all functions, in the order of the index, or those named.

    Raises
    ------
    VectorsError
        If a file is missing, damaged or of another version, or there is no such function.
    """
    folder = Path(folder)
    index = folder / "index.json"
    rows = _field(index, _read(index), "functions", list)
    names = [_field(index, row, "function", str) for row in rows]
    wanted = names if functions is None else list(dict.fromkeys(functions))
    for name in wanted:
        if name not in names:
            raise VectorsError(f"there are no vectors for {name!r}: --list shows the functions")
    found = tuple(_function(folder / f"{name}.json", name) for name in names if name in wanted)
    ids = [case.id for function in found for case in function.cases]
    if len(set(ids)) < len(ids):
        twice = next(id for id in ids if ids.count(id) > 1)
        raise VectorsError(f"the vectors in {folder} have two cases {twice!r}")
    return found


def _function(path: Path, name: str) -> Function:
    whole = _read(path)
    if whole.get("function") != name:
        raise VectorsError(f"{path} is damaged: its function is {whole.get('function')!r}")
    texts = {key: _field(path, whole, key, str) for key in ("equation", "formula")}
    tables = {key: _field(path, whole, key, dict) for key in ("inputs", "outputs")}
    cases = tuple(_case(path, name, case) for case in _field(path, whole, "cases", list))
    return Function(name, **texts, **tables, cases=cases)


def _case(path: Path, function: str, case: Any) -> Case:
    texts = {key: _field(path, case, key, str) for key in ("id", "equation", "note")}
    tables = {key: _field(path, case, key, dict) for key in ("inputs", "expected", "tolerance")}
    for dtype in DTYPES:
        bounds = _field(path, tables["tolerance"], dtype, dict)
        if bounds.keys() != tables["expected"].keys():
            raise VectorsError(
                f"{path} is damaged: {texts['id']} has no {dtype} tolerance for each output"
            )
    flags = tuple(_field(path, case, "flags", list))
    return Case(function=function, flags=flags, **texts, **tables)


def _read(path: Path) -> dict[str, Any]:
    try:
        whole = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise VectorsError(f"there is no file {path}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise VectorsError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    version = whole.get("version") if isinstance(whole, dict) else None
    if version != VERSION:
        raise VectorsError(f"{path} must be of version {VERSION} of the vectors, got {version!r}")
    return whole


def _field(path: Path, table: Any, name: str, kind: type) -> Any:
    found = table.get(name) if isinstance(table, dict) else None
    if not isinstance(found, kind):
        raise VectorsError(f"{path} is damaged: {name!r} is {str(found)[:40]!r}")
    return found
