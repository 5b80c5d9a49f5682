"""Layers that see an embedding of time and class beside the images, and what makes the embedding.

They are layers on pairs (h, embedding), see :mod:`ddpm_np.nn.combinators`, of shapes (B, H, W, n) and
(B, m). Otherwise as in :mod:`ddpm_np.nn.layers`; groups divide the channels.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from ddpm_np._arrays import Array, array_namespace, device
from ddpm_np._checks import check_integer, settle
from ddpm_np.nn.combinators import OnFirst, Pair, Serial
from ddpm_np.nn.convolution import EPSILON, Conv2d, GroupNorm, check_groups
from ddpm_np.nn.layers import Linear, LinearParams, SiLU, check_embedding, embed
from ddpm_np.nn.ops import Ops, silu_backward
from ddpm_np.nn.tree import Tree


@dataclass(frozen=True)
class AdaptiveGroupNorm:
    """Group normalisation that the embedding scales and shifts, Nichol & Dhariwal 2021.

        scale, shift = Linear(embedding), cut in two
        y = (1 + scale) * normalised(h) + shift

    It learns no gain and shift of its own: the bias of the linear map is both. Params: the map's,
    of shapes (embedding_size, 2 channels) and (2 channels,).
    """

    channels: int
    embedding_size: int
    groups: int

    def __post_init__(self) -> None:
        channels, groups = check_groups("channels", self.channels, self.groups)
        size = check_integer("embedding_size", self.embedding_size, 1)
        settle(self, channels=channels, groups=groups, embedding_size=size)

    @cached_property
    def linear(self) -> Linear:
        """The map from the embedding to scales and shifts."""
        return Linear(self.embedding_size, 2 * self.channels)

    def init(self, rng: Generator) -> LinearParams:
        """Draw initial parameters."""
        return self.linear.init(rng)

    def forward(self, params: LinearParams, x: Pair, ops: Ops) -> tuple[Pair, Any]:
        """Return (y, embedding), and the caches of the map and the norm."""
        h, embedding = x
        rows, linear_cache = self.linear.forward(params, embedding, ops)
        gain, shift = 1.0 + rows[:, : self.channels], rows[:, self.channels :]
        y, norm_cache = ops.group_norm(h, gain, shift, self.groups, EPSILON)
        return (y, embedding), (linear_cache, norm_cache)

    def backward(
        self, params: LinearParams, cache: Any, dy: Pair, ops: Ops
    ) -> tuple[Pair, LinearParams]:
        """Return the gradients of the pair and of the parameters."""
        linear_cache, norm_cache = cache
        dh, dembedding = dy
        dh, dgain, dshift = ops.group_norm_backward(dh, norm_cache)
        drows = array_namespace(dh).concat([dgain, dshift], axis=1)
        own, grads = self.linear.backward(params, linear_cache, drows, ops)
        return (dh, dembedding + own), grads


class ResidualBlockParams(NamedTuple):
    """Parameters of :class:`ResidualBlock`, or their gradients."""

    first: Tree
    modulation: LinearParams
    """Those of :class:`AdaptiveGroupNorm`."""
    last: Tree
    skip: Tree
    """Empty where the channels stay the same."""


@dataclass(frozen=True)
class ResidualBlock:
    """Residual block of two convolutions; between them the embedding scales and shifts.

        y      = skip(h) + branch(h, embedding)
        branch = Conv2d(SiLU(AdaptiveGroupNorm(Conv2d(SiLU(GroupNorm(h))), embedding)))
        skip   = h, or Conv2d(h) of 1 x 1 if the channels change

    Shapes (B, H, W, inputs) and (B, embedding_size) to (B, H, W, outputs) and the same. The last
    convolution starts at 0. Nichol & Dhariwal 2021, with additive skips of Ho et al. 2020.
    """

    inputs: int
    outputs: int
    embedding_size: int
    groups: int

    def __post_init__(self) -> None:
        inputs, groups = check_groups("inputs", self.inputs, self.groups)
        outputs, _ = check_groups("outputs", self.outputs, groups)
        size = check_integer("embedding_size", self.embedding_size, 1)
        settle(self, inputs=inputs, outputs=outputs, groups=groups, embedding_size=size)

    @cached_property
    def branch(self) -> Serial:
        """The layers whose parameters are called first, modulation and last."""
        norm = GroupNorm(self.inputs, self.groups)
        first = Serial((norm, SiLU(), Conv2d(self.inputs, self.outputs)))
        modulation = AdaptiveGroupNorm(self.outputs, self.embedding_size, self.groups)
        last = Serial((SiLU(), Conv2d(self.outputs, self.outputs, gain=0.0)))
        return Serial((OnFirst(first), modulation, OnFirst(last)))

    @cached_property
    def skip(self) -> Serial:
        """What brings h to the channels of the branch."""
        if self.inputs == self.outputs:
            return Serial(())
        return Serial((Conv2d(self.inputs, self.outputs, kernel=1),))

    def init(self, rng: Generator) -> ResidualBlockParams:
        """Draw initial parameters."""
        first, modulation, last = self.branch.init(rng)
        return ResidualBlockParams(first, modulation, last, self.skip.init(rng))

    def forward(self, params: ResidualBlockParams, x: Pair, ops: Ops) -> tuple[Pair, Any]:
        """Return (y, embedding), and the caches of branch and skip."""
        h, embedding = x
        (y, _), branch_cache = self.branch.forward(params[:3], x, ops)
        skipped, skip_cache = self.skip.forward(params.skip, h, ops)
        return (skipped + y, embedding), (branch_cache, skip_cache)

    def backward(
        self, params: ResidualBlockParams, cache: Any, dy: Pair, ops: Ops
    ) -> tuple[Pair, ResidualBlockParams]:
        """Return the gradients of the pair and of the parameters."""
        branch_cache, skip_cache = cache
        dskipped, dskip = self.skip.backward(params.skip, skip_cache, dy[0], ops)
        (dh, dembedding), (dfirst, dmodulation, dlast) = self.branch.backward(
            params[:3], branch_cache, dy, ops
        )
        grads = ResidualBlockParams(dfirst, dmodulation, dlast, dskip)
        return (dskipped + dh, dembedding), grads


class TimeAndClassParams(NamedTuple):
    """Parameters of :class:`TimeAndClass`, or their gradients."""

    time: Tree
    classes: Tree
    """Shape (classes + 1, size); row 0 stands for no class. Empty without classes."""


@dataclass(frozen=True)
class TimeAndClass:
    """Learned embedding of times and class labels, shape (B, size).

        embedding = SiLU(Linear(SiLU(Linear(time_embedding[t]))) + table[label])

    The table has a row for each class, after row 0 for no class, and starts as N(0, 1); with
    classes = 0 there is none. The size is even.
    """

    T: int
    size: int
    classes: int = 0

    def __post_init__(self) -> None:
        T, size = check_embedding(self.T, self.size)
        settle(self, T=T, size=size, classes=check_integer("classes", self.classes, 0))

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
