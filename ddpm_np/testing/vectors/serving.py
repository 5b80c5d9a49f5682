"""The port's side of the protocol, for ports in Python."""

import json
import sys
from collections.abc import Mapping
from typing import IO, Any

import numpy as np

from ddpm_np.testing.vectors._comparing import WrongAnswer, as_numbers
from ddpm_np.testing.vectors._files import load
from ddpm_np.testing.vectors._judging import Skipped
from ddpm_np.testing.vectors._python import answer


def serve(
    implementation: object,
    name: str,
    lines: IO[str] = sys.stdin,
    out: IO[str] = sys.stdout,
) -> None:
    """Answer cases on ``lines`` until they end, by the functions of an object.

    The object is that of :func:`ddpm_np.testing.vectors.check_vectors`.
    """
    functions = {function.name: tuple(function.outputs) for function in load()}
    dtype = json.loads(next(lines))["dtype"]
    offered = [function for function in functions if hasattr(implementation, function)]
    _say(out, {"port": name, "dtype": dtype, "functions": offered})
    for line in lines:
        case = json.loads(line)
        function = case["function"]
        found: dict[str, Any]
        try:
            outputs = answer(implementation, function, case["inputs"], dtype, functions[function])
            found = {"outputs": {key: _as_json(key, value) for key, value in outputs.items()}}
        except Skipped as reason:
            found = {"skip": str(reason)}
        except WrongAnswer as reason:
            found = {"error": str(reason)}
        _say(out, {"id": case["id"], **found})


def _as_json(name: str, value: Any) -> Any:
    """Nested lists; what is not finite, which JSON cannot write, as text."""
    array = as_numbers(name, value)
    finite = np.isfinite(array)
    if finite.all():
        return array.tolist()
    return np.where(finite, array.astype(object), array.astype(str)).tolist()


def _say(out: IO[str], found: Mapping[str, Any]) -> None:
    print(json.dumps(found, allow_nan=False), file=out, flush=True)
