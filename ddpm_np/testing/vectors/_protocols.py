"""What is said to a port and what it answers: JSON, or plain words where a language has no JSON.

docs/vectors.md describes both. A protocol writes lines, and reads them by a function that returns
the next one; what cannot be read is Broken.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ddpm_np.testing.vectors._comparing import WrongAnswer
from ddpm_np.testing.vectors._files import VERSION, Case
from ddpm_np.testing.vectors._judging import Skipped
from ddpm_np.testing.vectors._program import Broken
from ddpm_np.testing.vectors._python import in_one_line

ReadLine = Callable[[], str]


@dataclass(frozen=True)
class Greeting:
    """What a port says of itself."""

    name: str
    dtype: str
    functions: frozenset[str] | None
    """Those that it offers; None for all."""

    def offers(self, function: str) -> bool:
        """Whether cases of the function are to be asked."""
        return self.functions is None or function in self.functions


class Language(Protocol):
    """How a runner and a port talk."""

    def greet(self, dtype: str) -> str:
        """The first line to the port."""
        ...

    def read_greeting(self, read: ReadLine, dtype: str) -> Greeting:
        """What the port says to that."""
        ...

    def ask(self, case: Case) -> str:
        """The lines that hold a case."""
        ...

    def read_answer(self, read: ReadLine, case: Case) -> Mapping[str, Any]:
        """The outputs; raises Skipped, WrongAnswer or Broken."""
        ...


class Json:
    """One JSON object a line, both ways."""

    def greet(self, dtype: str) -> str:
        """``{"vectors": 1, "dtype": "float64"}``."""
        return json.dumps({"vectors": VERSION, "dtype": dtype}) + "\n"

    def read_greeting(self, read: ReadLine, dtype: str) -> Greeting:
        """``{"port": name, "dtype": "float64", "functions": [...]}``; functions may be missing."""
        found = _object(read())
        functions = found.get("functions")
        named = functions is None or isinstance(functions, list)
        if not isinstance(found.get("port"), str) or not named:
            raise Broken(f"its first line must name the port, got {in_one_line(found, 100)}")
        offered = None if functions is None else frozenset(map(str, functions))
        return Greeting(found["port"], str(found.get("dtype", dtype)), offered)

    def ask(self, case: Case) -> str:
        """``{"id": ..., "function": ..., "inputs": {...}}``."""
        return json.dumps({"id": case.id, "function": case.function, "inputs": case.inputs}) + "\n"

    def read_answer(self, read: ReadLine, case: Case) -> Mapping[str, Any]:
        """``{"id": ..., "outputs": {...}}``, or "skip" or "error" and a reason in place of outputs."""
        found = _object(read())
        if found.get("id") != case.id:
            raise Broken(f"the answer to {case.id} was expected, got one to {found.get('id')!r}")
        if "skip" in found:
            raise Skipped(in_one_line(found["skip"]))
        if "error" in found:
            raise WrongAnswer(f"it says: {in_one_line(found['error'])}")
        if not isinstance(found.get("outputs"), dict):
            raise WrongAnswer("the answer has neither outputs, nor skip, nor error")
        return found["outputs"]


def _object(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        text = in_one_line(line, 100)
        raise Broken(f"it printed {text!r}, no JSON object; what is no answer belongs on stderr")
    return found


class Plain:
    """Words between spaces: an array is its name, number of axes, sizes, and numbers in row-major order.

    Objects are written as their parts, ``weights/bias``; text is ``target text eps``.
    """

    def greet(self, dtype: str) -> str:
        """``vectors 1 float64``."""
        return f"vectors {VERSION} {dtype}\n"

    def read_greeting(self, read: ReadLine, dtype: str) -> Greeting:
        """``port name float64 q_sample ...``; no function stands for all."""
        words = read().split()
        if len(words) < 3 or words[0] != "port":
            text = in_one_line(" ".join(words), 100)
            raise Broken(f"its first line must be 'port NAME DTYPE ...', got {text!r}")
        return Greeting(words[1], words[2], frozenset(words[3:]) or None)

    def ask(self, case: Case) -> str:
        """``case q_sample-003 q_sample``, a line for each input, and ``end``."""
        lines = [f"case {case.id} {case.function}"]
        for name, value in _leaves(case.inputs):
            if isinstance(value, str):
                lines.append(f"{name} text {value}")
            else:
                array = np.array(value, dtype=float)
                sizes = " ".join(map(str, (array.ndim, *array.shape)))
                lines.append(" ".join([name, sizes, *map(repr, array.ravel().tolist())]))
        return "\n".join([*lines, "end"]) + "\n"

    def read_answer(self, read: ReadLine, case: Case) -> Mapping[str, Any]:
        """``outputs q_sample-003``, a line for each, and ``end``; or ``skip q_sample-003 reason``."""
        line = read()
        kind, id, reason = (*line.split(" ", 2), "", "")[:3]
        if kind not in ("outputs", "skip", "error"):
            text = in_one_line(line, 100)
            raise Broken(f"it printed {text!r}, no answer; what is none belongs on stderr")
        if id != case.id:
            raise Broken(f"the answer to {case.id} was expected, got one to {id!r}")
        if kind == "skip":
            raise Skipped(in_one_line(reason))
        if kind == "error":
            raise WrongAnswer(f"it says: {in_one_line(reason)}")
        return dict(map(_array, iter(read, "end")))


def _leaves(inputs: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in inputs.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}/")
        else:
            yield prefix + name, value


def _array(line: str) -> tuple[str, Any]:
    try:
        name, axes, *rest = line.split()
        shape = tuple(map(int, rest[: int(axes)]))
        return name, np.array(rest[int(axes) :], dtype=float).reshape(shape)
    except ValueError:
        raise Broken(f"it printed {in_one_line(line, 100)!r}, no array of an answer") from None
