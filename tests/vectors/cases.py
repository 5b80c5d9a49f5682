"""A function of the vectors, its cases, and how they are written."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.vectors.tolerances import midway, numbers, plain, tolerance

VERSION = 1
Draft = tuple[dict[str, Any], list[str], str]
"""Inputs, flags and the note of a case; where an input is a float, it is one for every port."""


@dataclass(frozen=True)
class Function:
    """One function: what the file says of it, its formula in 40 digits, and its cases."""

    name: str
    equation: str
    formula: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    compute: Callable[..., dict[str, Any]]
    """Takes inputs by name: mpmath's numbers, object arrays of them; integers and text as they are."""
    cases: Callable[[], Iterable[Draft]]
    prepare: Callable[..., dict[str, Any]] | None = None
    """What makes compute's inputs from those of the file, a table of beta say: it rounds as well."""
    optional: tuple[str, ...] = ()
    """Inputs that not every case has."""
    off_float32: tuple[str, ...] = ()
    """Inputs that float32 cannot hold; a port in float32 rounds them."""


def whole(function: Function) -> dict[str, Any]:
    """The contents of a function's file."""
    drafts = enumerate(function.cases(), start=1)
    return {
        "version": VERSION,
        "function": function.name,
        "equation": function.equation,
        "formula": function.formula,
        "inputs": function.inputs,
        "outputs": function.outputs,
        "cases": [_case(function, f"{function.name}-{n:03d}", *draft) for n, draft in drafts],
    }


def _case(
    function: Function, id: str, inputs: dict[str, Any], flags: list[str], note: str
) -> dict[str, Any]:
    inputs = {name: plain(value) for name, value in inputs.items()}
    wanted = [name for name in function.inputs if name in inputs or name not in function.optional]
    assert list(inputs) == wanted, f"{id}: inputs are {list(inputs)}"
    for name, value in inputs.items():
        found = np.array(list(numbers(value)))
        exact = name in function.off_float32 or bool(np.all(found.astype(np.float32) == found))
        assert exact, f"{id}: {name} does not fit into float32"

    def compute() -> dict[str, Any]:
        given = midway(inputs)
        if function.prepare is not None:
            given = midway(function.prepare(**given))
        return function.compute(**given)

    expected, bounds = tolerance(compute, seed=id)
    weights = inputs.get("weights", {})
    outputs = dict.fromkeys("d<name>" if y[1:] in weights else y for y in expected)
    assert list(outputs) == list(function.outputs), f"{id}: outputs are {list(expected)}"
    return {
        "id": id,
        "function": function.name,
        "equation": function.equation,
        "inputs": inputs,
        "expected": expected,
        "tolerance": bounds,
        "flags": flags,
        "note": note,
    }


def index(files: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The contents of index.json."""
    rows = [
        {
            "function": name,
            "file": f"{name}.json",
            "equation": file["equation"],
            "cases": len(file["cases"]),
        }
        for name, file in files.items()
    ]
    return {"version": VERSION, "cases": sum(row["cases"] for row in rows), "functions": rows}


def written(contents: dict[str, Any]) -> str:
    """A file as JSON: a line for each entry, and for each case or function of a list."""
    lines = []
    for name, value in contents.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            rows = ",\n".join(_line(row) for row in value)
            lines.append(f"{_line(name)}: [\n{rows}\n]")
        else:
            lines.append(f"{_line(name)}: {_line(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _line(value: Any) -> str:
    # Python writes the shortest decimals that read back as the same float64.
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(", ", ": "))
