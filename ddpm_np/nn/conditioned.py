"""Layers that see an embedding of time and class beside the images.

y, cache = layer.forward(params, x, embedding, ops)             embedding: shape (B, m)
dx, dembedding, grads = layer.backward(params, cache, dy, ops)  otherwise as in layers.py
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from ddpm_np._arrays import Array, array_namespace, device
from ddpm_np._checks import check_integer
from ddpm_np.nn.combinators import Serial
from ddpm_np.nn.convolution import EPSILON, Conv2d, GroupNorm, check_groups
from ddpm_np.nn.layers import Layer, Linear, LinearParams, SiLU, embed, time_embedding
from ddpm_np.nn.ops import Ops, silu_backward
from ddpm_np.nn.tree import Tree


class ConditionedLayer(Protocol):
    """What every layer that sees an embedding offers."""

    def init(self, rng: Generator) -> Tree:
        """Draw initial parameters, on the host in float64."""
        ...

    def forward(self, params: Tree, x: Array, embedding: Array, ops: Ops) -> tuple[Array, Any]:
        """Return the output and what backward needs."""
        ...

    def backward(
        self, params: Tree, cache: Any, dy: Array, ops: Ops
    ) -> tuple[Array, Array | float, Tree]:
        """Return the gradients of the input, of the embedding (or 0) and of the parameters."""
        ...


@dataclass(frozen=True)
class Unconditioned:
    """A layer that does not look at the embedding. Params: those of the layer."""

    layer: Layer

    def init(self, rng: Generator) -> Tree:
        """Initialise the layer."""
        return self.layer.init(rng)

    def forward(self, params: Tree, x: Array, embedding: Array, ops: Ops) -> tuple[Array, Any]:
        """Apply the layer."""
        return self.layer.forward(params, x, ops)

    def backward(
        self, params: Tree, cache: Any, dy: Array, ops: Ops
    ) -> tuple[Array, Array | float, Tree]:
        """Return the layer's gradients, and none of the embedding."""
        dx, grads = self.layer.backward(params, cache, dy, ops)
        return dx, 0.0, grads


@dataclass(frozen=True)
class ConditionedSerial:
    """Layers one after the other, all with one embedding. Params: a tuple, one per layer."""

    layers: tuple[ConditionedLayer, ...]

    def init(self, rng: Generator) -> tuple[Tree, ...]:
        """Initialise the layers in order."""
        return tuple(layer.init(rng) for layer in self.layers)

    def forward(
        self, params: tuple[Tree, ...], x: Array, embedding: Array, ops: Ops
    ) -> tuple[Array, list[Any]]:
        """Apply the layers in order; the cache is the list of theirs."""
        caches = []
        for layer, own in zip(self.layers, params, strict=True):
            x, cache = layer.forward(own, x, embedding, ops)
            caches.append(cache)
        return x, caches

    def backward(
        self, params: tuple[Tree, ...], cache: list[Any], dy: Array, ops: Ops
    ) -> tuple[Array, Array | float, tuple[Tree, ...]]:
        """Go through the layers in reverse; what they ask of the embedding adds up."""
        dembedding: Array | float = 0.0
        grads = []
        for layer, own, own_cache in zip(
            reversed(self.layers), reversed(params), reversed(cache), strict=True
        ):
            dy, own_dembedding, dparams = layer.backward(own, own_cache, dy, ops)
            dembedding = dembedding + own_dembedding
            grads.append(dparams)
        return dy, dembedding, tuple(reversed(grads))


@dataclass(frozen=True)
class ConditionedResidual:
    """A skip connection: y = x + branch(x, embedding). Params: those of the branch."""

    branch: ConditionedLayer

    def init(self, rng: Generator) -> Tree:
        """Initialise the branch."""
        return self.branch.init(rng)

    def forward(self, params: Tree, x: Array, embedding: Array, ops: Ops) -> tuple[Array, Any]:
        """Return x + branch(x, embedding); the cache is the branch's."""
        y, cache = self.branch.forward(params, x, embedding, ops)
        return x + y, cache

    def backward(
        self, params: Tree, cache: Any, dy: Array, ops: Ops
    ) -> tuple[Array, Array | float, Tree]:
        """Return dy + dbranch."""
        dx, dembedding, grads = self.branch.backward(params, cache, dy, ops)
        return dy + dx, dembedding, grads


class ResidualBlockParams(NamedTuple):
    """Parameters of :class:`ResidualBlock`, or their gradients."""

    first: Tree
    modulation: LinearParams
    """To scales and shifts: shapes (embedding_size, 2 outputs) and (2 outputs,)."""
    last: Tree
    skip: Tree
    """Empty where the channels stay the same."""


@dataclass(frozen=True)
class ResidualBlock:
    """Residual block of two convolutions; between them the embedding scales and shifts.

        h = Conv2d(SiLU(GroupNorm(x)))
        scale, shift = Linear(embedding), cut in two
        h = (1 + scale) * normalised(h) + shift
        y = skip(x) + Conv2d(SiLU(h)), where skip is x, or Conv2d of 1 x 1 if the channels change

    Shapes (B, H, W, inputs) and (B, embedding_size) to (B, H, W, outputs). The last convolution
    starts at 0. Nichol & Dhariwal 2021, with additive skips of Ho et al. 2020. The second norm
    learns no gain and shift of its own: the bias of the linear map is both.

    Raises
    ------
    TypeError, ValueError
        If a size is no integer >= 1 or the groups do not divide the inputs and the outputs.
    """

    inputs: int
    outputs: int
    embedding_size: int
    groups: int

    def __post_init__(self) -> None:
        check_groups("inputs", self.inputs, self.groups)
        check_groups("outputs", self.outputs, self.groups)
        check_integer("embedding_size", self.embedding_size, 1)

    @cached_property
    def first(self) -> Serial:
        """What comes before the embedding."""
        norm = GroupNorm(self.inputs, self.groups)
        return Serial((norm, SiLU(), Conv2d(self.inputs, self.outputs)))

    @cached_property
    def modulation(self) -> Linear:
        """The map from the embedding to scales and shifts."""
        return Linear(self.embedding_size, 2 * self.outputs)

    @cached_property
    def last(self) -> Serial:
        """What comes after the embedding."""
        return Serial((SiLU(), Conv2d(self.outputs, self.outputs, gain=0.0)))

    @cached_property
    def skip(self) -> Serial:
        """The way around."""
        if self.inputs == self.outputs:
            return Serial(())
        return Serial((Conv2d(self.inputs, self.outputs, kernel=1),))

    def init(self, rng: Generator) -> ResidualBlockParams:
        """Draw initial parameters."""
        return ResidualBlockParams(
            first=self.first.init(rng),
            modulation=self.modulation.init(rng),
            last=self.last.init(rng),
            skip=self.skip.init(rng),
        )

    def forward(
        self, params: ResidualBlockParams, x: Array, embedding: Array, ops: Ops
    ) -> tuple[Array, Any]:
        """Return y and the caches of the parts."""
        h, first_cache = self.first.forward(params.first, x, ops)
        rows, modulation_cache = self.modulation.forward(params.modulation, embedding, ops)
        gain, shift = 1.0 + rows[:, : self.outputs], rows[:, self.outputs :]
        h, norm_cache = ops.group_norm(h, gain, shift, self.groups, EPSILON)
        h, last_cache = self.last.forward(params.last, h, ops)
        y, skip_cache = self.skip.forward(params.skip, x, ops)
        return y + h, (first_cache, modulation_cache, norm_cache, last_cache, skip_cache)

    def backward(
        self, params: ResidualBlockParams, cache: Any, dy: Array, ops: Ops
    ) -> tuple[Array, Array, ResidualBlockParams]:
        """Return the gradients of x, of the embedding and of the parameters."""
        first_cache, modulation_cache, norm_cache, last_cache, skip_cache = cache
        dskip_x, dskip = self.skip.backward(params.skip, skip_cache, dy, ops)
        dh, dlast = self.last.backward(params.last, last_cache, dy, ops)
        dh, dgain, dshift = ops.group_norm_backward(dh, norm_cache)
        drows = array_namespace(dy).concat([dgain, dshift], axis=1)
        dembedding, dmodulation = self.modulation.backward(
            params.modulation, modulation_cache, drows, ops
        )
        dx, dfirst = self.first.backward(params.first, first_cache, dh, ops)
        return dskip_x + dx, dembedding, ResidualBlockParams(dfirst, dmodulation, dlast, dskip)


class TimeAndClassParams(NamedTuple):
    """Parameters of :class:`TimeAndClass`, or their gradients."""

    time: Tree
    classes: Tree
    """Shape (classes + 1, size); row 0 stands for no class. Empty without classes."""


@dataclass(frozen=True)
class TimeAndClass:
    """Learned embedding of times and class labels, shape (B, size).

        embedding = SiLU(Linear(SiLU(Linear(time_embedding[t]))) + table[label])

    The table, of one row for each class and row 0 for no class, starts as N(0, 1); without
    classes there is none.

    Raises
    ------
    TypeError, ValueError
        If T is no integer >= 1, size no even integer >= 2, or classes no integer >= 0.
    """

    T: int
    size: int
    classes: int = 0

    def __post_init__(self) -> None:
        time_embedding(self.T, self.size)
        check_integer("classes", self.classes, 0)

    @cached_property
    def time(self) -> Serial:
        """The map of the fixed embedding of the time."""
        return Serial((Linear(self.size, self.size), SiLU(), Linear(self.size, self.size)))

    def init(self, rng: Generator) -> TimeAndClassParams:
        """Draw initial parameters."""
        time = self.time.init(rng)
        table = rng.standard_normal((self.classes + 1, self.size)) if self.classes else ()
        return TimeAndClassParams(time, table)

    def forward(
        self,
        params: TimeAndClassParams,
        t: NDArray[Any],
        labels: NDArray[Any],
        like: Array,
        ops: Ops,
    ) -> tuple[Array, Any]:
        """Return the embedding, with the dtype and device of ``like``.

        t and labels are integer arrays of shape (B,), on the host, that have been checked.
        """
        h, time_cache = self.time.forward(params.time, embed(t, self.T, self.size, like), ops)
        chosen = None
        if self.classes:
            # Choosing from the table is a product with rows of one 1 each, and its gradient is
            # one as well: the standard has no function that adds up rows of one class.
            rows = labels[:, None] == np.arange(self.classes + 1)
            chosen = array_namespace(h).asarray(rows, dtype=h.dtype, device=device(h))
            h = h + chosen @ params.classes
        embedding, slope = ops.silu(h)
        return embedding, (time_cache, chosen, slope)

    def backward(
        self, params: TimeAndClassParams, cache: Any, dembedding: Array, ops: Ops
    ) -> TimeAndClassParams:
        """Return the gradients of the parameters; times and labels have none."""
        time_cache, chosen, slope = cache
        dh = silu_backward(dembedding, slope)
        dtable = chosen.T @ dh if self.classes else ()
        _, dtime = self.time.backward(params.time, time_cache, dh, ops)
        return TimeAndClassParams(dtime, dtable)
