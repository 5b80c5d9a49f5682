"""Convolution and group normalisation of channels-last images, as :mod:`ddpm_np.nn.ops` holds them."""

import math
from typing import Any

from ddpm_np._arrays import Array, array_namespace, check_layer_input, device


def conv2d(x: Array, weight: Array, bias: Array, stride: int) -> Array:
    """Convolution of channels-last images, as a sum over shifted slices, and a bias.

        y[b, p, q] = bias + sum over i, j of x[b, stride p + i - r, stride q + j - r] @ weight[i, j]

    with k x k weights, k odd, r = (k - 1) / 2, and zeros around the image.
    Shapes (B, H, W, n), (k, k, n, m), (m,) to (B, ceil(H / stride), ceil(W / stride), m).
    """
    check_images("x", x)
    k = weight.shape[0]
    rows, columns = -(-x.shape[1] // stride), -(-x.shape[2] // stride)
    padded = _pad(x, k // 2)
    y = bias
    for i in range(k):
        for j in range(k):
            y = y + padded[:, *_shifted(i, j, rows, columns, stride), :] @ weight[i, j, ...]
    return y


def conv2d_backward(dy: Array, x: Array, weight: Array, stride: int) -> tuple[Array, Array, Array]:
    """Gradients (dx, dweight, dbias) of :func:`conv2d`."""
    xp = check_images("dy", dy)
    k, (_, rows, columns, outputs) = weight.shape[0], dy.shape
    padded, flat = _pad(x, k // 2), xp.reshape(dy, (-1, outputs))
    dpadded, dweight = xp.zeros_like(padded), xp.zeros_like(weight)
    for i in range(k):
        for j in range(k):
            at = (slice(None), *_shifted(i, j, rows, columns, stride), slice(None))
            dpadded[at] += dy @ weight[i, j, ...].T
            dweight[i, j, ...] = xp.reshape(padded[at], (-1, x.shape[3])).T @ flat
    r, (_, height, width, _) = k // 2, x.shape
    return dpadded[:, r : r + height, r : r + width, :], dweight, xp.sum(flat, axis=0)


def group_norm(
    x: Array, gain: Array, shift: Array, groups: int, epsilon: float
) -> tuple[Array, tuple[Array, Array, Array]]:
    """Group normalisation, Wu & He 2018, of channels-last arrays, with a gain per example.

        y = gain * (x - mean) / sqrt(variance + epsilon) + shift

    Mean and variance are those of one example and one group of adjacent channels. Shapes
    (B, ..., n), (B, n), (B, n) to (B, ..., n). The second result is for :func:`group_norm_backward`.
    """
    xp = check_layer_input("x", x)
    grouped = _grouped(x, groups)
    centred = grouped - xp.mean(grouped, axis=(1, 3), keepdims=True)
    scale = (xp.mean(centred * centred, axis=(1, 3), keepdims=True) + epsilon) ** -0.5
    normal = xp.reshape(centred * scale, x.shape)
    return _per_channel(gain, x) * normal + _per_channel(shift, x), (normal, scale, gain)


def group_norm_backward(dy: Array, cache: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
    """Gradients (dx, dgain, dshift) of :func:`group_norm`."""
    normal, scale, gain = cache
    xp = check_layer_input("dy", dy)
    groups, middle = scale.shape[2], tuple(range(1, len(dy.shape) - 1))
    dnormal, grouped = _grouped(_per_channel(gain, dy) * dy, groups), _grouped(normal, groups)
    along = xp.mean(dnormal * grouped, axis=(1, 3), keepdims=True)
    dx = scale * (dnormal - xp.mean(dnormal, axis=(1, 3), keepdims=True) - grouped * along)
    return xp.reshape(dx, dy.shape), xp.sum(dy * normal, axis=middle), xp.sum(dy, axis=middle)


def check_images(name: str, x: Array, channels: int | None = None) -> Any:
    """Raise unless ``x`` is an array of shape (B, H, W, n), n the channels; return its namespace."""
    xp = check_layer_input(name, x)
    if len(x.shape) != 4 or channels not in (None, x.shape[3]):
        n = "n" if channels is None else channels
        raise ValueError(f"{name} must have shape (B, H, W, {n}), got {x.shape}")
    return xp


def _pad(x: Array, r: int) -> Array:
    """Put r rows and columns of zeros around images."""
    if r == 0:
        return x
    xp = array_namespace(x)
    batch, height, width, channels = x.shape
    padded = xp.zeros((batch, height + 2 * r, width + 2 * r, channels), dtype=x.dtype, device=device(x))
    padded[:, r : r + height, r : r + width, :] = x
    return padded


def _shifted(i: int, j: int, rows: int, columns: int, stride: int) -> tuple[slice, slice]:
    """Where the pixels lie in the padded image that weight [i, j] sees."""
    bottom, right = i + stride * (rows - 1) + 1, j + stride * (columns - 1) + 1
    return slice(i, bottom, stride), slice(j, right, stride)


def _grouped(x: Array, groups: int) -> Array:
    """Shape (B, ..., n) to (B, pixels, groups, n / groups)."""
    shape = (x.shape[0], math.prod(x.shape[1:-1]), groups, x.shape[-1] // groups)
    return array_namespace(x).reshape(x, shape)


def _per_channel(values: Array, x: Array) -> Array:
    """Shape (B, n) to (B, 1, ..., 1, n), to go with x."""
    shape = (values.shape[0], *[1] * (len(x.shape) - 2), values.shape[-1])
    return array_namespace(x).reshape(values, shape)
