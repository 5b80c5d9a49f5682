"""Combinators: the only place where the chain rule is composed."""

from dataclasses import dataclass
from typing import Any

from numpy.random import Generator

from ddpm_np._arrays import Array
from ddpm_np.nn.layers import Layer
from ddpm_np.nn.ops import Ops
from ddpm_np.nn.tree import Tree


@dataclass(frozen=True)
class Serial:
    """Layers one after the other: y = layers[-1](... layers[0](x)). Params: a tuple, one per layer."""

    layers: tuple[Layer, ...]

    def init(self, rng: Generator) -> tuple[Tree, ...]:
        """Initialise the layers in order."""
        return tuple(layer.init(rng) for layer in self.layers)

    def forward(self, params: tuple[Tree, ...], x: Array, ops: Ops) -> tuple[Array, list[Any]]:
        """Apply the layers in order; the cache is the list of theirs."""
        caches = []
        for layer, own in zip(self.layers, params, strict=True):
            x, cache = layer.forward(own, x, ops)
            caches.append(cache)
        return x, caches

    def backward(
        self, params: tuple[Tree, ...], cache: list[Any], dy: Array, ops: Ops
    ) -> tuple[Array, tuple[Tree, ...]]:
        """Go through the layers in reverse."""
        grads = []
        for layer, own, own_cache in zip(
            reversed(self.layers), reversed(params), reversed(cache), strict=True
        ):
            dy, dparams = layer.backward(own, own_cache, dy, ops)
            grads.append(dparams)
        return dy, tuple(reversed(grads))


@dataclass(frozen=True)
class Residual:
    """A skip connection: y = x + branch(x). Params: those of the branch."""

    branch: Layer

    def init(self, rng: Generator) -> Tree:
        """Initialise the branch."""
        return self.branch.init(rng)

    def forward(self, params: Tree, x: Array, ops: Ops) -> tuple[Array, Any]:
        """Return x + branch(x); the cache is the branch's."""
        y, cache = self.branch.forward(params, x, ops)
        return x + y, cache

    def backward(self, params: Tree, cache: Any, dy: Array, ops: Ops) -> tuple[Array, Tree]:
        """Return dy + dbranch."""
        dx, grads = self.branch.backward(params, cache, dy, ops)
        return dy + dx, grads
