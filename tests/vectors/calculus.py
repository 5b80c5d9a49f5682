"""Derivatives in 40 digits: arrays of mpmath's numbers that remember how they were made.

The rules are those of a first course in calculus, one for each operation. A network is written as its
formula, and its gradients are found by these rules alone: no line here knows a layer.

A network is long, and what is rounded on its way may cancel although its inputs do not. So every product
is a number midway: it is moved as well when the condition is sought.
"""

from collections.abc import Callable, Mapping
from typing import Any

import mpmath
import numpy as np

from tests.vectors.tolerances import midway

_exp = np.frompyfunc(mpmath.exp, 1, 1)


class Traced:
    """An array of numbers, and how a change of it moves what it was made of."""

    __array_ufunc__ = None  # so that array * traced asks traced

    def __init__(self, value: Any, *parts: tuple[Any, Callable[[Any], Any]]) -> None:
        self.value = np.asarray(value, dtype=object)
        self.parts = [(part, pull) for part, pull in parts if isinstance(part, Traced)]

    def __add__(self, other: Any) -> "Traced":
        return Traced(self.value + numbers(other), (self, lambda d: d), (other, lambda d: d))

    def __mul__(self, other: Any) -> "Traced":
        a, b = self.value, numbers(other)
        return Traced(midway(a * b), (self, lambda d: midway(d * b)), (other, lambda d: midway(d * a)))

    def __matmul__(self, other: "Traced") -> "Traced":
        a, b = self.value, other.value

        def left(d: Any) -> Any:
            return midway(d @ _transposed(b))

        def right(d: Any) -> Any:
            return midway(_transposed(a) @ d)

        return Traced(midway(a @ b), (self, left), (other, right))

    def __pow__(self, power: Any) -> "Traced":
        x = self.value
        return Traced(midway(x**power), (self, lambda d: midway(d * power * x ** (power - 1))))

    def __getitem__(self, index: Any) -> "Traced":
        def scatter(d: Any) -> Any:
            whole = np.zeros(self.value.shape, dtype=object)
            np.add.at(whole, index, d)
            return whole

        return Traced(self.value[index], (self, scatter))

    def sum(self, *axes: int) -> "Traced":
        """The sum over axes, which stay as axes of size 1."""
        shape = self.value.shape
        total = np.sum(self.value, axis=axes, keepdims=True)
        return Traced(total, (self, lambda d: np.broadcast_to(d, shape)))

    def reshape(self, *shape: int) -> "Traced":
        """The same numbers in another shape."""
        return Traced(self.value.reshape(shape), (self, lambda d: d.reshape(self.value.shape)))

    def transpose(self, *axes: int) -> "Traced":
        """The same numbers with the axes in another order."""
        back = np.argsort(axes)
        return Traced(self.value.transpose(axes), (self, lambda d: d.transpose(back)))

    def __neg__(self) -> "Traced":
        return self * -1

    def __sub__(self, other: Any) -> "Traced":
        return self + other * -1

    def __truediv__(self, other: Any) -> "Traced":
        return self * other**-1

    __radd__, __rmul__ = __add__, __mul__


def numbers(x: Any) -> Any:
    """The numbers of an array, traced or not."""
    return x.value if isinstance(x, Traced) else x


def exp(x: Traced) -> Traced:
    """e to the power of each number."""
    y = midway(_exp(x.value))
    return Traced(y, (x, lambda d: midway(d * y)))


def gradients(y: Traced, dy: Any, inputs: Mapping[str, Traced]) -> dict[str, Any]:
    """The derivative of sum(dy * y) by each of ``inputs``, under "d" and its name."""
    slopes = {id(y): np.asarray(dy, dtype=object)}
    for node in reversed(_in_order(y)):
        for part, pull in node.parts:
            d = _summed(pull(slopes[id(node)]), part.value.shape)
            slopes[id(part)] = slopes[id(part)] + d if id(part) in slopes else d
    return {f"d{name}": _without_dust(slopes[id(x)]) for name, x in inputs.items()}


def _in_order(y: Traced) -> list[Traced]:
    """All that y was made of, each after its parts."""
    order: list[Traced] = []
    seen: set[int] = set()
    waiting: list[tuple[Traced, bool]] = [(y, False)]
    while waiting:
        node, done = waiting.pop()
        if done:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            waiting += [(node, True), *((part, False) for part, _ in node.parts)]
    return order


def _without_dust(d: Any) -> Any:
    """Slopes with those made 0 that are, but for the rounding of the 40th digit."""
    return np.where(np.abs(d) < mpmath.mpf(10) ** -36, mpmath.mpf(0), d)


def _summed(d: Any, shape: tuple[int, ...]) -> Any:
    """Undo a broadcast: what every copy adds."""
    d = d.sum(axis=tuple(range(d.ndim - len(shape))))
    stretched = tuple(i for i, n in enumerate(shape) if n == 1 and d.shape[i] != 1)
    return d.sum(axis=stretched, keepdims=True)


def _transposed(x: Any) -> Any:
    return np.swapaxes(x, -1, -2)
