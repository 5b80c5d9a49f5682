"""Layers of images, channels last: shape (B, H, W, n). Otherwise as in :mod:`ddpm_np.nn.layers`."""

import math
import sys
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator

from ddpm_np._arrays import Array, array_namespace, check_layer_input
from ddpm_np._checks import check_integer, check_real, settle
from ddpm_np.nn.image_ops import check_images
from ddpm_np.nn.layers import LinearParams
from ddpm_np.nn.ops import Ops

EPSILON = 1e-5
"""Added to every variance that is divided by."""


@dataclass(frozen=True)
class Conv2d:
    """Convolution of square odd kernels, with zeros around the image, and a bias.

        y[b, p, q] = bias + sum over i, j of x[b, stride p + i - r, stride q + j - r] @ weight[i, j]

    with r = (kernel - 1) / 2, from shape (B, H, W, inputs) to
    (B, ceil(H / stride), ceil(W / stride), outputs). Weights, of shape
    (kernel, kernel, inputs, outputs), start as N(0, gain^2 / (kernel^2 inputs)), gain >= 0; biases,
    (outputs,), at 0. The stride is 1 or 2.
    """

    inputs: int
    outputs: int
    kernel: int = 3
    stride: int = 1
    gain: float = 1.0

    def __post_init__(self) -> None:
        settle(
            self,
            inputs=check_integer("inputs", self.inputs, 1),
            outputs=check_integer("outputs", self.outputs, 1),
            kernel=check_integer("kernel", self.kernel, 1),
            stride=check_integer("stride", self.stride, 1, 2),
            gain=check_real("gain", self.gain, 0.0, sys.float_info.max, closed=True),
        )
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, so that it has a middle, got {self.kernel}")

    def init(self, rng: Generator) -> LinearParams:
        """Draw weights; zero biases."""
        scale = self.gain / math.sqrt(self.kernel**2 * self.inputs)
        weight = scale * rng.standard_normal((self.kernel, self.kernel, self.inputs, self.outputs))
        return LinearParams(weight, np.zeros(self.outputs))

    def forward(self, params: LinearParams, x: Array, ops: Ops) -> tuple[Array, Array]:
        """Return y; the cache is x."""
        check_images("x", x, self.inputs)
        return ops.conv2d(x, params.weight, params.bias, self.stride), x

    def backward(
        self, params: LinearParams, cache: Array, dy: Array, ops: Ops
    ) -> tuple[Array, LinearParams]:
        """Return the gradients of x and of the parameters."""
        dx, dweight, dbias = ops.conv2d_backward(dy, cache, params.weight, self.stride)
        return dx, LinearParams(dweight, dbias)


class GroupNormParams(NamedTuple):
    """Parameters of :class:`GroupNorm`, or their gradients; shape (channels,) each."""

    gain: Array
    shift: Array


@dataclass(frozen=True)
class GroupNorm:
    """Group normalisation, Wu & He 2018: y = gain * (x - mean) / sqrt(variance + 1e-5) + shift.

    Mean and variance are those of one image and one group of adjacent channels; the groups divide
    the channels. Shapes (B, ..., channels). Gains start at 1, shifts at 0.
    """

    channels: int
    groups: int

    def __post_init__(self) -> None:
        channels, groups = check_groups("channels", self.channels, self.groups)
        settle(self, channels=channels, groups=groups)

    def init(self, rng: Generator) -> GroupNormParams:
        """Return gains of 1 and shifts of 0."""
        return GroupNormParams(np.ones(self.channels), np.zeros(self.channels))

    def forward(self, params: GroupNormParams, x: Array, ops: Ops) -> tuple[Array, Any]:
        """Return y; the cache is the backend's own."""
        xp = check_layer_input("x", x)
        if len(x.shape) < 2 or x.shape[-1] != self.channels or 0 in x.shape:
            raise ValueError(
                f"x must have shape (B, ..., {self.channels}) and no empty axis, got {x.shape}"
            )
        shape = (x.shape[0], self.channels)
        gain, shift = xp.broadcast_to(params.gain, shape), xp.broadcast_to(params.shift, shape)
        return ops.group_norm(x, gain, shift, self.groups, EPSILON)

    def backward(
        self, params: GroupNormParams, cache: Any, dy: Array, ops: Ops
    ) -> tuple[Array, GroupNormParams]:
        """Return the gradients of x and of the parameters, which all images share."""
        dx, dgain, dshift = ops.group_norm_backward(dy, cache)
        xp = array_namespace(dy)
        return dx, GroupNormParams(xp.sum(dgain, axis=0), xp.sum(dshift, axis=0))


@dataclass(frozen=True)
class AveragePool:
    """Half the resolution: y[b, p, q] = mean of x[b, 2p : 2p + 2, 2q : 2q + 2]; no parameters.

    Shapes (B, H, W, n) to (B, H / 2, W / 2, n), H and W even.
    """

    def init(self, rng: Generator) -> tuple[()]:
        """Return no parameters."""
        return ()

    def forward(self, params: tuple[()], x: Array, ops: Ops) -> tuple[Array, None]:
        """Return y; backward needs nothing.

        Raises
        ------
        ValueError
            If the height or the width is odd.
        """
        check_images("x", x)
        if x.shape[1] % 2 or x.shape[2] % 2:
            raise ValueError(f"x must have even height and width, got {x.shape[1]} x {x.shape[2]}")
        return 0.25 * _sum_of_four(x), None

    def backward(self, params: tuple[()], cache: None, dy: Array, ops: Ops) -> tuple[Array, tuple[()]]:
        """Return a quarter of dy for each of four pixels."""
        return _four_of_each(0.25 * dy), ()


@dataclass(frozen=True)
class Upsample:
    """Twice the resolution, by nearest neighbours: y[b, p, q] = x[b, p // 2, q // 2]; no parameters.

    Shapes (B, H, W, n) to (B, 2H, 2W, n).
    """

    def init(self, rng: Generator) -> tuple[()]:
        """Return no parameters."""
        return ()

    def forward(self, params: tuple[()], x: Array, ops: Ops) -> tuple[Array, None]:
        """Return y; backward needs nothing."""
        return _four_of_each(x), None

    def backward(self, params: tuple[()], cache: None, dy: Array, ops: Ops) -> tuple[Array, tuple[()]]:
        """Return the sum of dy over four pixels."""
        return _sum_of_four(dy), ()


def check_groups(name: str, channels: object, groups: object) -> tuple[int, int]:
    """Return channels and groups, integers >= 1 of which the latter divide the former."""
    number, parts = check_integer(name, channels, 1), check_integer("groups", groups, 1)
    if number % parts:
        raise ValueError(f"groups must divide {name}, {number}, got {parts}")
    return number, parts


def _sum_of_four(x: Array) -> Array:
    """Sum over squares of 2 x 2 pixels."""
    rows = x[:, ::2, :, :] + x[:, 1::2, :, :]
    return rows[:, :, ::2, :] + rows[:, :, 1::2, :]


def _four_of_each(x: Array) -> Array:
    """Repeat every pixel in a square of 2 x 2."""
    xp = check_images("x", x)
    batch, height, width, channels = x.shape
    pixels = xp.reshape(x, (batch, height, 1, width, 1, channels))
    squares = xp.broadcast_to(pixels, (batch, height, 2, width, 2, channels))
    return xp.reshape(squares, (batch, 2 * height, 2 * width, channels))
