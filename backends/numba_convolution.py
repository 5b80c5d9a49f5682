"""Convolution of the Numba backend, as ddpm_np.nn.ops defines it; images have their channels last.

Two algorithms in float32: Winograd's where it applies, as it is faster, and otherwise products on
shifted rows of pixels. Both take images padded with k // 2 rows and columns of zeros.
"""

import numpy as np

from backends.base import check_shapes, numpy_arrays
from backends.numba_products import add_transposed_product, affine, product, transpose
from backends.numba_tiles import LANES, REAL, Reals, address, compiled, sandwich
from ddpm_np._arrays import Array
from ddpm_np.nn import ops

TILES = 64
"""Tiles of 2 x 2 pixels that Winograd's convolution takes at a time: they stay in the second cache."""


def conv2d(x: Array, weight: Array, bias: Array, stride: int) -> Array:
    """Fused :func:`ddpm_np.nn.ops.conv2d`."""
    x, weight, bias = numpy_arrays(x=x, weight=weight, bias=bias)
    if x.dtype != np.float32:
        return ops.conv2d(x, weight, bias, stride)
    images, height, width, n = x.shape
    k, m = weight.shape[0], weight.shape[3]
    check_shapes(weight=(weight, (k, k, n, m)), bias=(bias, (m,)))
    y = np.empty((images, -(-height // stride), -(-width // stride), m), np.float32)
    _convolve(_padded(x, k), weight, bias, stride, y)
    return y


def conv2d_backward(dy: Array, x: Array, weight: Array, stride: int) -> tuple[Array, Array, Array]:
    """Fused :func:`ddpm_np.nn.ops.conv2d_backward`; dx is a convolution of dy with rotated weights."""
    dy, x, weight = numpy_arrays(dy=dy, x=x, weight=weight)
    if x.dtype != np.float32:
        return ops.conv2d_backward(dy, x, weight, stride)
    images, height, width, n = x.shape
    k, m = weight.shape[0], weight.shape[3]
    size = (images, -(-height // stride), -(-width // stride), m)
    check_shapes(weight=(weight, (k, k, n, m)), dy=(dy, size))
    r = k // 2
    spread = np.zeros((images, height + 2 * r, width + 2 * r, m), np.float32)
    spread[:, r : r + height : stride, r : r + width : stride] = dy
    dx, dweight = np.empty_like(x), np.zeros_like(weight)
    turned = np.empty((k, k, m, n), np.float32)
    _turn(weight, turned)
    _convolve(spread, turned, np.zeros(n, np.float32), 1, dx)
    if _has_tiles(dy, weight, stride):
        _winograd_dweight(dy, _padded(x, k), dweight)
    else:
        _direct_dweight(dy, _padded(x, k), stride, dweight)
    return dx, dweight, dy.sum(axis=(0, 1, 2))


def _convolve(padded: Reals, weight: Reals, bias: Reals, stride: int, y: Reals) -> None:
    if _has_tiles(y, weight, stride):
        _winograd(padded, weight, bias, y)
    else:
        _direct(padded, weight, bias, stride, y)


def _has_tiles(y: Reals, weight: Reals, stride: int) -> bool:
    """Say whether Winograd's convolution, which is faster, applies."""
    k, _, n, m = weight.shape
    even = not (y.shape[1] % 2 or y.shape[2] % 2)
    return (k, stride) == (3, 1) and even and not (n % LANES or m % LANES)


def _padded(x: Reals, k: int) -> Reals:
    """Put k // 2 rows and columns of zeros around images."""
    r = k // 2
    images, height, width, n = x.shape
    padded = np.zeros((images, height + 2 * r, width + 2 * r, n), np.float32)
    padded[:, r : r + height, r : r + width] = x
    return padded


# --- products on shifted rows of pixels ---------------------------------------------------


@compiled
def _direct(padded: Reals, weight: Reals, bias: Reals, stride: int, y: Reals) -> None:
    """Write y, row of pixels by row: the sum over i of k pixels each and the weights' i-th row."""
    images, rows, columns, m = y.shape
    k, n = weight.shape[0], weight.shape[2]
    width = padded.shape[2]
    for b in range(images):
        for p in range(rows):
            # The k pixels that a row of weights sees, and their channels, lie side by side.
            product(
                (address(padded[b, stride * p], 0), stride * n, width * n, 1),
                (address(weight, 0), k * n * m, m),
                (address(bias, 0), 0),
                (address(y[b, p], 0), m),
                (columns, m, k, k * n),
            )


@compiled
def _direct_dweight(dy: Reals, padded: Reals, stride: int, dweight: Reals) -> None:
    """Add the gradient of the weights, row by row: sums over all pixels."""
    images, rows, columns, m = dy.shape
    k, n = dweight.shape[0], dweight.shape[2]
    width = padded.shape[2]
    for b in range(images):
        for i in range(k):
            product(
                (address(padded[b, i], 0), 1, stride * width * n, stride * n),
                (address(dy[b], 0), columns * m, m),
                (address(dweight[i], 0), m),
                (address(dweight[i], 0), m),
                (k * n, m, rows, columns),
            )


@compiled
def _turn(weight: Reals, turned: Reals) -> None:
    """Rotate weights by 180 degrees and swap their channels, to be convolved with the gradient."""
    k = weight.shape[0]
    for i in range(k):
        for j in range(k):
            transpose(weight[i, j], turned[k - 1 - i, k - 1 - j])


# --- Winograd's F(2 x 2, 3 x 3), Lavin & Gray 2015 ----------------------------------------
#
# 16 products instead of 36 make 2 x 2 pixels, for 3 x 3 weights, stride 1, even sides and channels
# that fill vectors:
#     y = A^T [ (G weight G^T) * (B^T pixels B) ] A,  pixels 4 x 4, weight 3 x 3, * elementwise.
# The gradient of the weight runs through the same formula backwards.

_A_T = ((1.0, 1.0, 1.0, 0.0), (0.0, 1.0, -1.0, -1.0))
_B_T = ((1.0, 0.0, -1.0, 0.0), (0.0, 1.0, 1.0, 0.0), (0.0, -1.0, 1.0, 0.0), (0.0, 1.0, 0.0, -1.0))
_G = ((1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, 1.0))
_A, _G_T = tuple(zip(*_A_T, strict=True)), tuple(zip(*_G, strict=True))

_from_pixels, _from_weight = sandwich(_B_T, add=False), sandwich(_G, add=False)
_to_pixels, _from_dpixels = sandwich(_A_T, add=True), sandwich(_A, add=False)
_to_dweight = sandwich(_G_T, add=True)


@compiled
def _winograd(padded: Reals, weight: Reals, bias: Reals, y: Reals) -> None:
    """Write y as _direct does."""
    images, height, width, m = y.shape
    rows, columns, n = height // 2, width // 2, weight.shape[2]
    together = max(1, TILES // columns)
    plane = together * columns
    pixels, sums = np.empty((16, plane, n), REAL), np.empty((16, plane, m), REAL)
    turned, zero = np.empty((16, n, m), REAL), np.zeros(m, REAL)
    for i in range(0, n * m, LANES):
        _from_weight((address(weight, i), 3 * n * m, n * m), (address(turned, i), 4 * n * m, n * m))
    for b in range(images):
        for p in range(height):
            for q in range(width):
                for j in range(m):
                    y[b, p, q, j] = bias[j]
    for start in range(0, images * rows, together):
        stop = min(start + together, images * rows)
        count = (stop - start) * columns
        _pixels(padded, start, stop, pixels)
        for u in range(16):
            affine(pixels[u, :count], turned[u], zero, sums[u, :count])
        for row in range(start, stop):
            for q in range(columns):
                at, corner = ((row - start) * columns + q) * m, (2 * row * width + 2 * q) * m
                for j in range(0, m, LANES):
                    _to_pixels(
                        (address(sums, at + j), 4 * plane * m, plane * m),
                        (address(y, corner + j), width * m, m),
                    )


@compiled
def _winograd_dweight(dy: Reals, padded: Reals, dweight: Reals) -> None:
    """Add the gradient of the weights, as _direct_dweight does."""
    images, height, width, m = dy.shape
    rows, columns, n = height // 2, width // 2, dweight.shape[2]
    together = max(1, TILES // columns)
    plane = together * columns
    pixels, dsums = np.empty((16, plane, n), REAL), np.empty((16, plane, m), REAL)
    dturned = np.zeros((16, n, m), REAL)
    for start in range(0, images * rows, together):
        stop = min(start + together, images * rows)
        count = (stop - start) * columns
        _pixels(padded, start, stop, pixels)
        for row in range(start, stop):
            for q in range(columns):
                at, corner = ((row - start) * columns + q) * m, (2 * row * width + 2 * q) * m
                for j in range(0, m, LANES):
                    _from_dpixels(
                        (address(dy, corner + j), width * m, m),
                        (address(dsums, at + j), 4 * plane * m, plane * m),
                    )
        for u in range(16):
            add_transposed_product(pixels[u, :count], dsums[u, :count], dturned[u])
    for i in range(0, n * m, LANES):
        _to_dweight((address(dturned, i), 4 * n * m, n * m), (address(dweight, i), 3 * n * m, n * m))


@compiled
def _pixels(padded: Reals, start: int, stop: int, result: Reals) -> None:
    """B^T pixels B for the tiles of some rows of tiles; result of shape (16, tiles, n)."""
    _, height, width, n = padded.shape
    rows, columns, plane = height // 2 - 1, width // 2 - 1, result.shape[1] * n
    for row in range(start, stop):
        top = ((row // rows) * height + 2 * (row % rows)) * width * n
        for q in range(columns):
            at = ((row - start) * columns + q) * n
            for j in range(0, n, LANES):
                _from_pixels(
                    (address(padded, top + 2 * q * n + j), width * n, n),
                    (address(result, at + j), 4 * plane, plane),
                )
