"""Denoisers of images, channels last: a residual convolutional network and a U-Net."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import is_array_api_obj
from numpy.random import Generator
from numpy.typing import NDArray

from ddpm_np._arrays import Array, Times, check_times, to_host
from ddpm_np._checks import check_integer, check_plain, describe, settle
from ddpm_np.nn.attention import SelfAttention
from ddpm_np.nn.combinators import OnFirst, Residual, ResidualOnFirst, Serial
from ddpm_np.nn.conditioned import ResidualBlock, TimeAndClass, TimeAndClassParams
from ddpm_np.nn.convolution import AveragePool, Conv2d, GroupNorm, Upsample, check_groups
from ddpm_np.nn.denoisers import Labels, check_x_t
from ddpm_np.nn.layers import Layer, LinearParams, SiLU, check_embedding
from ddpm_np.nn.ops import Ops
from ddpm_np.nn.tree import Tree


class ConvDenoiserParams(NamedTuple):
    """Parameters of :class:`ConvDenoiser` or :class:`UNet`, or their gradients."""

    embedding: TimeAndClassParams
    entry: LinearParams
    trunk: Tree
    exit: Tree


@dataclass(frozen=True)
class ConvDenoiser:
    """A convolutional residual network of one resolution, for images of any size.

        h = Conv2d(x_t)
        h = ResidualBlock(h, embedding of t and labels), blocks times
        prediction = Conv2d(SiLU(GroupNorm(h)))

    The last convolution starts at 0, and so does the prediction.

    Parameters
    ----------
    channels : int
        C; x_t has shape (B, H, W, C).
    T : int
        The number of steps; times run from 1 to T.
    width, blocks : int
        Channels inside, and number of residual blocks.
    groups : int
        Of :class:`GroupNorm`; divides the width.
    embedding_size : int
        Even; see :func:`ddpm_np.nn.time_embedding`.
    classes : int
        Number of classes; 0 for a network that sees no labels.

    Raises
    ------
    TypeError, ValueError
        If a size is not an integer in range, or the groups do not divide the width.
    """

    channels: int
    T: int
    width: int = 64
    blocks: int = 3
    groups: int = 8
    embedding_size: int = 64
    classes: int = 0

    def __post_init__(self) -> None:
        channels, blocks = (
            check_integer("channels", self.channels, 1),
            check_integer("blocks", self.blocks, 1),
        )
        width, groups = check_groups("width", self.width, self.groups)
        T, size = check_embedding(self.T, self.embedding_size, "embedding_size")
        classes = TimeAndClass(T, size, self.classes).classes
        settle(self, channels=channels, T=T, width=width, blocks=blocks)
        settle(self, groups=groups, embedding_size=size, classes=classes)

    @cached_property
    def embedding(self) -> TimeAndClass:
        """What makes an embedding of times and labels."""
        return TimeAndClass(self.T, self.embedding_size, self.classes)

    @cached_property
    def layers(self) -> Serial:
        """From (x_t, embedding) to (prediction, embedding); parameters: entry, trunk and exit."""
        entry, norm = Conv2d(self.channels, self.width), GroupNorm(self.width, self.groups)
        exit = Serial((norm, SiLU(), Conv2d(self.width, self.channels, gain=0.0)))
        return Serial((OnFirst(entry), Serial(self._trunk()), OnFirst(exit)))

    def init(self, rng: Generator) -> ConvDenoiserParams:
        """Draw initial parameters, on the host in float64."""
        return ConvDenoiserParams(self.embedding.init(rng), *self.layers.init(rng))

    def forward(
        self, params: ConvDenoiserParams, x_t: Array, t: Times, ops: Ops, labels: Labels = None
    ) -> tuple[Array, Any]:
        """Return the prediction and the caches of the layers.

        Labels are 1..classes, or 0 for no class; None is all 0.

        Raises
        ------
        TypeError, ValueError
            If x_t has the wrong shape, or t or labels are not integers in range.
        """
        self._check_images(x_t)
        batch = x_t.shape[0]
        times = np.broadcast_to(check_times(t, self.T, batch), (batch,))
        classes = check_labels(labels, self.classes, batch)
        embedding, embedding_cache = self.embedding.forward(params.embedding, times, classes, x_t, ops)
        (prediction, _), cache = self.layers.forward(params[1:], (x_t, embedding), ops)
        return prediction, (embedding_cache, cache)

    def backward(
        self, params: ConvDenoiserParams, cache: Any, dy: Array, ops: Ops
    ) -> tuple[Array, ConvDenoiserParams]:
        """Return the gradients of x_t and of the parameters; t and labels have none."""
        embedding_cache, cache = cache
        (dx, dembedding), grads = self.layers.backward(params[1:], cache, (dy, 0.0), ops)
        dtimes = self.embedding.backward(params.embedding, embedding_cache, dembedding, ops)
        return dx, ConvDenoiserParams(dtimes, *grads)

    def _trunk(self) -> tuple[Layer, ...]:
        return self._blocks(self.width, self.width)

    def _blocks(self, inputs: int, outputs: int) -> tuple[ResidualBlock, ...]:
        """Residual blocks, of which the first changes the channels."""
        return tuple(
            ResidualBlock(outputs if i else inputs, outputs, self.embedding_size, self.groups)
            for i in range(self.blocks)
        )

    def _check_images(self, x_t: Array) -> None:
        check_x_t(x_t)
        if len(x_t.shape) != 4 or x_t.shape[3] != self.channels or 0 in x_t.shape:
            raise ValueError(
                f"x_t must have shape (B, H, W, {self.channels}) and no empty axis, got {x_t.shape}"
            )


@dataclass(frozen=True)
class UNet(ConvDenoiser):
    """A :class:`ConvDenoiser` that goes down to lower resolutions and back, Ronneberger et al. 2015.

        level(h) = blocks(below(blocks(h)))
        below(h) = h + Upsample(Conv2d(next level(AveragePool(h)))), with 1 x 1 weights
        below(h) = h + SelfAttention(h) at the lowest level, if there are heads

    Height and width must be divisible by 2^(number of levels - 1).

    Parameters
    ----------
    channels, T, width, blocks, groups, embedding_size, classes
        As :class:`ConvDenoiser`; a level has ``blocks`` residual blocks on the way down and
        as many on the way up.
    multipliers : tuple of int
        Channels at each level, from the highest resolution down, in units of the width; the
        first must be 1.
    heads : int
        Of attention at the lowest level; 0 for none. Divides the channels there.

    Raises
    ------
    TypeError, ValueError
        If a size is not an integer in range, or groups or heads do not divide the channels.
    """

    multipliers: tuple[int, ...] = (1, 2)
    heads: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.multipliers, tuple) or not self.multipliers:
            raise TypeError(
                "multipliers must be a tuple of integers, one per level, "
                f"got {describe(self.multipliers)}"
            )
        settle(self, multipliers=tuple(check_integer("multipliers", m, 1) for m in self.multipliers))
        settle(self, heads=check_integer("heads", self.heads, 0))
        if self.multipliers[0] != 1:
            raise ValueError(f"multipliers must start with 1, got {self.multipliers}")
        lowest = self.width * self.multipliers[-1]
        if self.heads and lowest % self.heads:
            raise ValueError(
                f"heads must divide the channels of the lowest level, {lowest}, got {self.heads}"
            )

    def _trunk(self) -> tuple[Layer, ...]:
        return self._level(0, self.width)

    def _level(self, level: int, inputs: int) -> tuple[Layer, ...]:
        width = self.width * self.multipliers[level]
        down, up = self._blocks(inputs, width), self._blocks(width, width)
        return (*down, *self._below(level, width), *up)

    def _below(self, level: int, width: int) -> tuple[Layer, ...]:
        if level + 1 < len(self.multipliers):
            # What comes up is added to what stayed, not put beside it: that copies nothing, and
            # the blocks behind it need not be wider. The 1 x 1 weights give it the right channels
            # before it is upsampled, with which they commute, at a quarter of the work.
            lower = self.width * self.multipliers[level + 1]
            lift = OnFirst(Serial((Conv2d(lower, width, kernel=1), Upsample())))
            next_level = self._level(level + 1, width)
            return (ResidualOnFirst(Serial((OnFirst(AveragePool()), *next_level, lift))),)
        if self.heads:
            return (OnFirst(Residual(SelfAttention(width, self.heads, self.groups))),)
        return ()

    def _check_images(self, x_t: Array) -> None:
        super()._check_images(x_t)
        factor, (_, height, width, _) = 2 ** (len(self.multipliers) - 1), x_t.shape
        if height % factor or width % factor:
            raise ValueError(
                f"x_t must have height and width divisible by {factor}, "
                f"for {len(self.multipliers)} levels, got {height} x {width}"
            )


def check_labels(labels: object, classes: int, batch: int) -> NDArray[np.integer[Any]]:
    """Return labels as an integer array of shape (batch,) on the host; None is all 0, no class.

    Raises
    ------
    TypeError, ValueError
        If they are not integers in 0..classes, one per example, or there are no classes.
    """
    if labels is None:
        return np.zeros(batch, dtype=np.int64)
    if classes == 0:
        raise ValueError(f"labels must be None where classes = 0, got {describe(labels)}")
    check_plain("labels", labels)
    wanted = f"labels must be an integer array of shape ({batch},)"
    if not is_array_api_obj(labels):
        raise TypeError(f"{wanted}, got {describe(labels)}")
    host = to_host(labels)
    if host.dtype.kind not in "iu":
        raise TypeError(f"{wanted}, got dtype {host.dtype}")
    if host.shape != (batch,):
        raise ValueError(f"{wanted}, got shape {host.shape}")
    if host.size and (host.min() < 0 or host.max() > classes):
        raise ValueError(
            f"labels must be between 0 (no class) and {classes}, "
            f"got values from {host.min()} to {host.max()}"
        )
    return host
