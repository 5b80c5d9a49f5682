"""Layers on rows for the Numba backend: linear and the residual network, as ddpm_np.nn.ops defines them.

Arguments are checked here; in float64, or with more axes, the definitions compute.
"""

from typing import Any

import numpy as np

from backends import numba_mlp
from backends.base import check_shapes, check_weight, numpy_arrays
from backends.numba_elementwise import squared_error
from backends.numba_products import add_transposed_product, affine, transpose
from backends.numba_tiles import REAL, Reals, compiled
from ddpm_np._arrays import Array
from ddpm_np.nn import ops
from ddpm_np.nn.ops import MLPParams, check_mlp
from ddpm_np.nn.tree import ravel


def linear(x: Array, weight: Array, bias: Array) -> Array:
    """Fused :func:`ddpm_np.nn.ops.linear`."""
    x, weight, bias = numpy_arrays(x=x, weight=weight, bias=bias)
    if x.dtype != np.float32 or x.ndim != 2:
        return ops.linear(x, weight, bias)
    n, m = weight.shape
    check_shapes(x=(x, (len(x), n)), bias=(bias, (m,)))
    y = np.empty((len(x), m), np.float32)
    affine(x, weight, bias, y)
    return y


def linear_backward(dy: Array, x: Array, weight: Array) -> tuple[Array, Array, Array]:
    """Fused :func:`ddpm_np.nn.ops.linear_backward`."""
    dy, x, weight = numpy_arrays(dy=dy, x=x, weight=weight)
    if x.dtype != np.float32 or x.ndim != 2:
        return ops.linear_backward(dy, x, weight)
    n, m = weight.shape
    check_shapes(x=(x, (len(x), n)), dy=(dy, (len(x), m)))
    dx, dweight, dbias = np.empty_like(x), np.empty_like(weight), np.empty(m, np.float32)
    _linear_backward_loop(dy, x, weight, dx, dweight, dbias)
    return dx, dweight, dbias


@compiled
def _linear_backward_loop(
    dy: Reals, x: Reals, weight: Reals, dx: Reals, dweight: Reals, dbias: Reals
) -> None:
    """Write the gradients of linear."""
    rows, m = dy.shape
    dweight[:] = 0
    dbias[:] = 0
    for i in range(rows):
        for j in range(m):
            dbias[j] += dy[i, j]
    add_transposed_product(x, dy, dweight)
    turned = np.empty((m, len(weight)), REAL)
    transpose(weight, turned)
    affine(dy, turned, np.zeros(len(weight), REAL), dx)


def residual_mlp(x: Array, embedding: Array, params: MLPParams, keep: bool = True) -> tuple[Array, Any]:
    """Fused :func:`ddpm_np.nn.ops.residual_mlp`."""
    x, embedding, *leaves = numpy_arrays(x=x, embedding=embedding, **params._asdict())
    params = MLPParams(*leaves)
    if x.dtype != np.float32:
        return ops.residual_mlp(x, embedding, params, keep)
    check_mlp(x, embedding, params)
    rows, n, depth, m = len(x), len(params.bias), len(params.hidden_weight), len(params.out_bias)
    kept = rows if keep else min(rows, numba_mlp.BLOCK)
    hidden, slopes = np.empty((2, depth + 1, kept, n), np.float32)
    y = np.empty((rows, m), np.float32)
    numba_mlp.forward(x, embedding, tuple(leaves), hidden, slopes, y)
    return y, (x, embedding, hidden, slopes) if keep else None


def residual_mlp_backward(dy: Array, cache: Any, params: MLPParams) -> tuple[Array, MLPParams]:
    """Fused :func:`ddpm_np.nn.ops.residual_mlp_backward`."""
    dy, *leaves = numpy_arrays(dy=dy, **params._asdict())
    params = MLPParams(*leaves)
    if dy.dtype != np.float32:
        return ops.residual_mlp_backward(dy, cache, params)
    x, embedding, hidden, slopes = cache
    check_mlp(x, embedding, params)
    layers, n = len(params.hidden_weight) + 1, len(params.bias)
    check_shapes(dy=(dy, (len(x), len(params.out_bias))), cache=(hidden, (layers, len(x), n)))
    dx, grads = np.empty_like(x), tuple(np.zeros_like(leaf) for leaf in leaves)
    numba_mlp.backward(dy, x, embedding, hidden, slopes, tuple(leaves), dx, grads)
    return dx, MLPParams(*grads)


def residual_mlp_loss(
    x: Array, embedding: Array, params: MLPParams, truth: Array, loss_weight: Array | float
) -> tuple[Array, Array]:
    """Fused :func:`ddpm_np.nn.ops.residual_mlp_loss`, for one weight or one for each row."""
    x, embedding, truth, *leaves = numpy_arrays(
        x=x, embedding=embedding, truth=truth, **params._asdict()
    )
    params = MLPParams(*leaves)
    if isinstance(loss_weight, int | float):
        weights = np.array([[loss_weight]], x.dtype)
    else:
        _, weights = numpy_arrays(x=x, loss_weight=loss_weight)
        check_weight("loss_weight", weights, (len(x), len(params.out_bias)))
    if x.dtype != np.float32 or weights.shape not in ((1, 1), (len(x), 1)):
        y, cache = residual_mlp(x, embedding, params)
        loss, dy = squared_error(y, truth, loss_weight)
        return loss, ravel(residual_mlp_backward(dy, cache, params)[1])
    check_mlp(x, embedding, params)
    check_shapes(truth=(truth, (len(x), len(params.out_bias))))
    gradient = np.zeros(sum(leaf.size for leaf in leaves), np.float32)
    loss = numba_mlp.loss(x, embedding, tuple(leaves), truth, weights, gradient)
    return np.float32(loss), gradient
