"""All functions of the vectors, and what their files should hold."""

import importlib
import json
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from tests.vectors.cases import Function, index, whole, written

FOLDER = Path(__file__).parents[2] / "ddpm_np" / "testing" / "vectors" / "v1"
FAMILIES = (
    *("schedules", "visits", "forward", "reverse", "losses", "gaussians", "bound", "samplers"),
    "networks",
)
"""Modules, each with its FUNCTIONS, in the order of the index."""

FUNCTIONS: dict[str, Function] = {
    function.name: function
    for family in FAMILIES
    for function in importlib.import_module(f"tests.vectors.{family}").FUNCTIONS
}


def contents(names: Iterable[str]) -> dict[str, str]:
    """The text of the files of these functions and of the index, which takes the others from disk."""
    wanted = list(names)
    with ProcessPoolExecutor(max_workers=2) as pool:
        fresh = dict(zip(wanted, pool.map(_whole, wanted), strict=True))
    known = {name: fresh[name] if name in fresh else _on_disk(name) for name in FUNCTIONS}
    files = {f"{name}.json": written(file) for name, file in fresh.items()}
    return files | {"index.json": written(index({name: file for name, file in known.items() if file}))}


def differing(files: dict[str, str]) -> list[str]:
    """The names of those that are not so on disk."""
    on_disk = {path.name: path.read_bytes() for path in FOLDER.glob("*.json")}
    return [name for name, text in files.items() if on_disk.get(name) != text.encode()]


def _whole(name: str) -> dict[str, Any]:
    return whole(FUNCTIONS[name])


def _on_disk(name: str) -> dict[str, Any] | None:
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
