"""The compiled loops of the Numba backend for images, channels last, on contiguous float32 arrays."""

import math
from typing import Any

import numpy as np

from backends.numba_tiles import LANES, REAL, address, compiled, product, sandwich, transpose

TILES = 64
"""Tiles of 2 x 2 pixels that Winograd's convolution takes at a time: they stay in the second cache."""

# --- convolution --------------------------------------------------------------------------


@compiled
def conv2d(padded: Any, weight: Any, bias: Any, stride: int, y: Any) -> None:
    """Convolve images that have their zeros around them; one product per row of pixels."""
    images, rows, columns, m = y.shape
    k, n = weight.shape[0], weight.shape[2]
    height, width = padded.shape[1], padded.shape[2]
    for b in range(images):
        for p in range(rows):
            # The k pixels that a row of weights sees, and their channels, lie side by side.
            product(
                address(padded, (b * height + stride * p) * width * n), stride * n, width * n, 1,
                address(weight, 0), k * n * m, m, address(bias, 0), 0,
                address(y, (b * rows + p) * columns * m), m, columns, m, k, k * n,
            )  # fmt: skip


@compiled
def conv2d_dweight(dy: Any, padded: Any, stride: int, dweight: Any) -> None:
    """Add the gradient of the weights."""
    images, rows, columns, m = dy.shape
    k, n = dweight.shape[0], dweight.shape[2]
    height, width = padded.shape[1], padded.shape[2]
    for b in range(images):
        for i in range(k):
            product(
                address(padded, (b * height + i) * width * n), 1, stride * width * n, stride * n,
                address(dy, b * rows * columns * m), columns * m, m, address(dweight, i * k * n * m), m,
                address(dweight, i * k * n * m), m, k * n, m, rows, columns,
            )  # fmt: skip


@compiled
def turn(weight: Any, turned: Any) -> None:
    """Turn weights by half a circle and swap their channels: what the gradient is convolved with."""
    k = weight.shape[0]
    for i in range(k):
        for j in range(k):
            transpose(weight[i, j], turned[k - 1 - i, k - 1 - j])


# Winograd's F(2 x 2, 3 x 3), Lavin & Gray 2015: 16 products instead of 36 make 2 x 2 pixels,
#     y = A^T [ (G weight G^T) * (B^T pixels B) ] A,  pixels 4 x 4, weight 3 x 3, * elementwise.
# The gradient of the weight runs through the same formula backwards.

_A_T = ((1.0, 1.0, 1.0, 0.0), (0.0, 1.0, -1.0, -1.0))
_B_T = ((1.0, 0.0, -1.0, 0.0), (0.0, 1.0, 1.0, 0.0), (0.0, -1.0, 1.0, 0.0), (0.0, 1.0, 0.0, -1.0))
_G = ((1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, 1.0))
_A, _G_T = tuple(zip(*_A_T, strict=True)), tuple(zip(*_G, strict=True))


_from_pixels, _from_weight = sandwich(_B_T, False), sandwich(_G, False)
_to_pixels, _from_dpixels = sandwich(_A_T, True), sandwich(_A, False)
_to_dweight = sandwich(_G_T, True)


@compiled
def _pixels(padded: Any, start: int, stop: int, result: Any) -> None:
    """B^T pixels B for the tiles of some rows of tiles; result of shape (16, tiles, n)."""
    _, height, width, n = padded.shape
    rows, columns, plane = height // 2 - 1, width // 2 - 1, result.shape[1] * n
    for row in range(start, stop):
        top = ((row // rows) * height + 2 * (row % rows)) * width * n
        for q in range(columns):
            at = ((row - start) * columns + q) * n
            for j in range(0, n, LANES):
                _from_pixels(
                    address(padded, top + 2 * q * n + j),
                    width * n,
                    n,
                    address(result, at + j),
                    4 * plane,
                    plane,
                )


@compiled
def winograd(padded: Any, weight: Any, bias: Any, y: Any) -> None:
    """Convolve as conv2d does, with 3 x 3 weights, stride 1, even sides, LANES-fold channels."""
    images, height, width, m = y.shape
    rows, columns, n = height // 2, width // 2, weight.shape[2]
    together = max(1, TILES // columns)
    plane = together * columns
    pixels, sums = np.empty((16, plane, n), REAL), np.empty((16, plane, m), REAL)
    turned, zero = np.empty((16, n, m), REAL), np.zeros(m, REAL)
    for i in range(0, n * m, LANES):
        _from_weight(address(weight, i), 3 * n * m, n * m, address(turned, i), 4 * n * m, n * m)
    for b in range(images):
        for p in range(height):
            for q in range(width):
                for j in range(m):
                    y[b, p, q, j] = bias[j]
    for start in range(0, images * rows, together):
        stop = min(start + together, images * rows)
        _pixels(padded, start, stop, pixels)
        for u in range(16):
            product(
                address(pixels, u * plane * n), n, 0, 1, address(turned, u * n * m), 0, m,
                address(zero, 0), 0, address(sums, u * plane * m), m, (stop - start) * columns, m, 1, n,
            )  # fmt: skip
        for row in range(start, stop):
            for q in range(columns):
                at, corner = ((row - start) * columns + q) * m, (2 * row * width + 2 * q) * m
                for j in range(0, m, LANES):
                    _to_pixels(
                        address(sums, at + j),
                        4 * plane * m,
                        plane * m,
                        address(y, corner + j),
                        width * m,
                        m,
                    )


@compiled
def winograd_dweight(dy: Any, padded: Any, dweight: Any) -> None:
    """Add the gradient of the weights of winograd."""
    images, height, width, m = dy.shape
    rows, columns, n = height // 2, width // 2, dweight.shape[2]
    together = max(1, TILES // columns)
    plane = together * columns
    pixels, dsums = np.empty((16, plane, n), REAL), np.empty((16, plane, m), REAL)
    dturned = np.zeros((16, n, m), REAL)
    for start in range(0, images * rows, together):
        stop = min(start + together, images * rows)
        _pixels(padded, start, stop, pixels)
        for row in range(start, stop):
            for q in range(columns):
                at, corner = ((row - start) * columns + q) * m, (2 * row * width + 2 * q) * m
                for j in range(0, m, LANES):
                    _from_dpixels(
                        address(dy, corner + j),
                        width * m,
                        m,
                        address(dsums, at + j),
                        4 * plane * m,
                        plane * m,
                    )
        for u in range(16):
            product(
                address(pixels, u * plane * n), 1, 0, n, address(dsums, u * plane * m), 0, m,
                address(dturned, u * n * m), m,
                address(dturned, u * n * m), m, n, m, 1, (stop - start) * columns,
            )  # fmt: skip
    for i in range(0, n * m, LANES):
        _to_dweight(address(dturned, i), 4 * n * m, n * m, address(dweight, i), 3 * n * m, n * m)


# --- group normalisation ------------------------------------------------------------------


@compiled
def group_norm(
    x: Any, gain: Any, shift: Any, groups: int, epsilon: Any, y: Any, normal: Any, scale: Any
) -> None:
    """Arrays of shape (B, pixels, n); scale, (B, groups), is 1 / sqrt(variance + epsilon)."""
    images, pixels, n = x.shape
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
def group_norm_backward(
    dy: Any, normal: Any, scale: Any, gain: Any, dx: Any, dgain: Any, dshift: Any
) -> None:
    """Gradients of group_norm."""
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
