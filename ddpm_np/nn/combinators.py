"""Combinators: the chain rule, once for each way to put layers together.

Where none fits (attention, the two branches of a block, the embedding of times and labels), a layer
of several parts reads its forward in reverse.

The input of a layer may be a pair (h, z): images, and the embedding that many layers look at. Such a
layer returns (y, z), with z unchanged. Its backward takes the gradients (dy, dz) of both, and returns
dh, and dz plus the layer's own gradient of z.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

from numpy.random import Generator

from ddpm_np._arrays import Array
from ddpm_np.nn.layers import Layer
from ddpm_np.nn.ops import Ops
from ddpm_np.nn.tree import Tree

Pair: TypeAlias = tuple[Array, Array]


@dataclass(frozen=True)
class Serial:
    """Layers one after the other: y = layers[-1](... layers[0](x)). Params: a tuple, one per layer."""

    layers: tuple[Layer, ...]

    def init(self, rng: Generator) -> tuple[Tree, ...]:
        """Initialise the layers in order."""
        return tuple(layer.init(rng) for layer in self.layers)

    def forward(self, params: tuple[Tree, ...], x: Any, ops: Ops) -> tuple[Any, list[Any]]:
        """Apply the layers in order; the cache is the list of theirs."""
        caches = []
        for layer, own in zip(self.layers, params, strict=True):
            x, cache = layer.forward(own, x, ops)
            caches.append(cache)
        return x, caches

    def backward(
        self, params: tuple[Tree, ...], cache: list[Any], dy: Any, ops: Ops
    ) -> tuple[Any, tuple[Tree, ...]]:
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


@dataclass(frozen=True)
class OnFirst:
    """A layer that looks only at the first of a pair: (h, z) to (layer(h), z). Params: the layer's."""

    layer: Layer

    def init(self, rng: Generator) -> Tree:
        """Initialise the layer."""
        return self.layer.init(rng)

    def forward(self, params: Tree, x: Pair, ops: Ops) -> tuple[Pair, Any]:
        """Return (layer(h), z); the cache is the layer's."""
        h, z = x
        y, cache = self.layer.forward(params, h, ops)
        return (y, z), cache

    def backward(self, params: Tree, cache: Any, dy: Pair, ops: Ops) -> tuple[Pair, Tree]:
        """Return (dlayer, dz)."""
        dh, dz = dy
        dh, grads = self.layer.backward(params, cache, dh, ops)
        return (dh, dz), grads


@dataclass(frozen=True)
class ResidualOnFirst:
    """A skip connection on pairs: (h, z) to (h + branch(h, z), z). Params: those of the branch."""

    branch: Layer

    def init(self, rng: Generator) -> Tree:
        """Initialise the branch."""
        return self.branch.init(rng)

    def forward(self, params: Tree, x: Pair, ops: Ops) -> tuple[Pair, Any]:
        """Return (h + branch(h, z), z); the cache is the branch's."""
        h, z = x
        (y, _), cache = self.branch.forward(params, x, ops)
        return (h + y, z), cache

    def backward(self, params: Tree, cache: Any, dy: Pair, ops: Ops) -> tuple[Pair, Tree]:
        """Return (dh + dbranch, dz + dbranch_z)."""
        dh, dz = dy
        (dbranch, dbranch_z), grads = self.branch.backward(params, cache, (dh, 0.0), ops)
        return (dh + dbranch, dz + dbranch_z), grads
