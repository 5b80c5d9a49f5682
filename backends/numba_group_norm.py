"""Group normalisation of the Numba backend, as ddpm_np.nn.ops defines it."""

import math

import numpy as np

from backends.base import check_shapes, numpy_arrays
from backends.numba_tiles import REAL, Reals, compiled
from ddpm_np._arrays import Array
from ddpm_np.nn import ops
from ddpm_np.nn.convolution import check_groups


def group_norm(
    x: Array, gain: Array, shift: Array, groups: int, epsilon: float
) -> tuple[Array, tuple[Array, Array, Array]]:
    """Fused :func:`ddpm_np.nn.ops.group_norm`."""
    x, gain, shift = numpy_arrays(x=x, gain=gain, shift=shift)
    if x.dtype != np.float32:
        return ops.group_norm(x, gain, shift, groups, epsilon)
    images, n = len(x), x.shape[-1]
    check_shapes(gain=(gain, (images, n)), shift=(shift, (images, n)))
    check_groups("channels", n, groups)
    flat = x.reshape(images, math.prod(x.shape[1:-1]), n)
    y, normal = np.empty_like(flat), np.empty_like(flat)
    scale = np.empty((images, groups), np.float32)
    _group_norm_loop(flat, gain, shift, np.float32(epsilon), y, normal, scale)
    return y.reshape(x.shape), (normal.reshape(x.shape), scale, gain)


def group_norm_backward(dy: Array, cache: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
    """Fused :func:`ddpm_np.nn.ops.group_norm_backward`."""
    normal, scale, gain = cache
    dy, normal, scale, gain = numpy_arrays(dy=dy, normal=normal, scale=scale, gain=gain)
    if dy.dtype != np.float32:
        return ops.group_norm_backward(dy, (normal, scale, gain))
    images, n = len(dy), dy.shape[-1]
    check_shapes(
        dy=(dy, normal.shape), gain=(gain, (images, n)), scale=(scale, (images, scale.shape[-1]))
    )
    check_groups("channels", n, scale.shape[-1])
    flat = (images, math.prod(dy.shape[1:-1]), n)
    dx, dgain, dshift = np.empty(flat, np.float32), np.empty_like(gain), np.empty_like(gain)
    _group_norm_backward_loop(dy.reshape(flat), normal.reshape(flat), scale, gain, dx, dgain, dshift)
    return dx.reshape(dy.shape), dgain, dshift


# --- loops, unchecked: arrays of shape (B, pixels, n); scale, (B, groups), is the inverse deviation


@compiled
def _group_norm_loop(
    x: Reals,
    gain: Reals,
    shift: Reals,
    epsilon: np.float32,
    y: Reals,
    normal: Reals,
    scale: Reals,
) -> None:
    """Write y, normal = (x - mean) * scale and scale = 1 / sqrt(variance + epsilon)."""
    images, pixels, n = x.shape
    groups = scale.shape[1]
    size = n // groups
    count = REAL(pixels * size)
    total, centre, slope = np.empty(n, REAL), np.empty(n, REAL), np.empty(n, REAL)
    for b in range(images):
        total[:] = 0
        for p in range(pixels):
            for j in range(n):
                total[j] += x[b, p, j]
        for g in range(groups):
            mean = np.sum(total[g * size : (g + 1) * size]) / count
            centre[g * size : (g + 1) * size] = mean
        total[:] = 0
        for p in range(pixels):
            for j in range(n):
                d = x[b, p, j] - centre[j]
                total[j] += d * d
        for g in range(groups):
            variance = np.sum(total[g * size : (g + 1) * size]) / count
            scale[b, g] = REAL(1.0) / math.sqrt(variance + epsilon)
            slope[g * size : (g + 1) * size] = scale[b, g]
        for p in range(pixels):
            for j in range(n):
                d = (x[b, p, j] - centre[j]) * slope[j]
                normal[b, p, j] = d
                y[b, p, j] = gain[b, j] * d + shift[b, j]


@compiled
def _group_norm_backward_loop(
    dy: Reals, normal: Reals, scale: Reals, gain: Reals, dx: Reals, dgain: Reals, dshift: Reals
) -> None:
    """Write the gradients of group_norm."""
    images, pixels, n = dy.shape
    groups = scale.shape[1]
    size = n // groups
    count = REAL(pixels * size)
    level, along, slope = np.empty(n, REAL), np.empty(n, REAL), np.empty(n, REAL)
    dgain[:] = 0
    dshift[:] = 0
    for b in range(images):
        for p in range(pixels):
            for j in range(n):
                dshift[b, j] += dy[b, p, j]
                dgain[b, j] += dy[b, p, j] * normal[b, p, j]
        for g in range(groups):
            first = second = REAL(0.0)
            for j in range(g * size, (g + 1) * size):
                first += gain[b, j] * dshift[b, j]
                second += gain[b, j] * dgain[b, j]
            level[g * size : (g + 1) * size] = first / count
            along[g * size : (g + 1) * size] = second / count
            slope[g * size : (g + 1) * size] = scale[b, g]
        for p in range(pixels):
            for j in range(n):
                d = gain[b, j] * dy[b, p, j] - level[j] - normal[b, p, j] * along[j]
                dx[b, p, j] = slope[j] * d
