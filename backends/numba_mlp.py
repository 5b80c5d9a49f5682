"""The residual network of rows, ddpm_np.nn.ops.residual_mlp, as compiled loops in float32; no checks.

Parameters and their gradients are tuples of leaves, in the order of MLPParams. x has shape (rows, d);
the embedding has as many rows or, if all share it, one. hidden and slopes, of shape (layers, rows, n),
hold the output of every layer but the last, and the derivative of its SiLU.
"""

from typing import TypeAlias

import numpy as np

from backends.numba_elementwise import sigmoid, silu_and_slope
from backends.numba_products import add_product, add_transposed_product, affine, transpose
from backends.numba_tiles import LANES, REAL, Reals, compiled, fma, summing
from ddpm_np.nn.ops import MLPParams

BLOCK = 32
"""Rows that go through all layers before the next ones: they stay in the first cache."""
BACK_AND_FORTH = 128
"""Rows that go through all layers and back before the next ones: they stay in the second cache."""

Leaves: TypeAlias = tuple[Reals, ...]


@compiled
def forward(x: Reals, embedding: Reals, leaves: Leaves, hidden: Reals, slopes: Reals, y: Reals) -> None:
    """Write y, hidden and slopes; a block of rows goes through all layers, then the next.

    If hidden and slopes are too small for all rows, each block overwrites the last, and slopes are
    left out after the first layer.
    """
    params = MLPParams(*leaves)
    layers, kept, n = hidden.shape
    rows, m = y.shape
    shared = len(embedding) != rows
    out_transposed = np.empty((m, n), REAL)
    transpose(params.out_weight, out_transposed)
    shift = params.bias
    if shared:
        shift = np.empty(n, REAL)
        affine(embedding, params.time_weight, params.bias, shift.reshape((1, n)))
    for top in range(0, rows, BLOCK):
        bottom = min(top + BLOCK, rows)
        first = top if kept == rows else 0
        last = first + bottom - top
        z = hidden[0, first:last]
        affine(x[top:bottom], params.weight, shift, z)
        if not shared:
            add_product(embedding[top:bottom], params.time_weight, z)
        _to_silu(z.ravel(), slopes[0, first:last].ravel())
        for l in range(1, layers):  # noqa: E741
            h, z = hidden[l - 1, first:last], hidden[l, first:last]
            affine(h, params.hidden_weight[l - 1], params.hidden_bias[l - 1], z)
            if kept == rows:
                _add_silu(h.ravel(), z.ravel(), slopes[l, first:last].ravel())
            else:
                _add_silu_alone(h.ravel(), z.ravel())
        h = hidden[layers - 1, first:last]
        if m < LANES:
            _rows_times_columns(h, out_transposed, params.out_bias, y[top:bottom])
        else:
            affine(h, params.out_weight, params.out_bias, y[top:bottom])


@compiled
def backward(
    dy: Reals,
    x: Reals,
    embedding: Reals,
    hidden: Reals,
    slopes: Reals,
    leaves: Leaves,
    dx: Reals,
    grads: Leaves,
) -> None:
    """Write dx, and add the gradients of the parameters to grads."""
    params, dparams = MLPParams(*leaves), MLPParams(*grads)
    rows, d = x.shape
    n = len(params.bias)
    dz = np.empty((rows, n), REAL)
    _backward(dy, x, hidden, slopes, _transposed(params.hidden_weight), leaves, dz, grads)
    dshift = dz if len(embedding) == rows else dparams.bias.reshape((1, n))
    add_transposed_product(embedding, dshift, dparams.time_weight)
    turned = np.empty((n, d), REAL)
    transpose(params.weight, turned)
    affine(dz, turned, np.zeros(d, REAL), dx)


@compiled
def loss(
    x: Reals, embedding: Reals, leaves: Leaves, truth: Reals, loss_weight: Reals, gradient: Reals
) -> float:
    """Return the squared error, and add its gradient to a flat one, leaf after leaf.

    loss_weight has shape (rows, 1) or (1, 1).
    """
    params, grads = MLPParams(*leaves), _cut(gradient, leaves)
    dparams = MLPParams(*grads)
    (rows, m), n = truth.shape, len(params.bias)
    layers = len(params.hidden_weight) + 1
    shared = len(embedding) != rows
    transposed = _transposed(params.hidden_weight)
    # One allocation, too small for the allocator to return to the system each time.
    scratch = np.empty((2 * layers + 1) * min(rows, BACK_AND_FORTH) * n, REAL)
    total = 0.0
    for top in range(0, rows, BACK_AND_FORTH):
        bottom = min(top + BACK_AND_FORTH, rows)
        count = bottom - top
        some, times = x[top:bottom], embedding if shared else embedding[top:bottom]
        size = layers * count * n
        hidden = scratch[:size].reshape((layers, count, n))
        slopes = scratch[size : 2 * size].reshape((layers, count, n))
        dz = scratch[2 * size : 2 * size + count * n].reshape((count, n))
        y = np.empty((count, m), REAL)
        forward(some, times, leaves, hidden, slopes, y)
        for i in range(count):
            w = loss_weight[top + i, 0] if len(loss_weight) > 1 else loss_weight[0, 0]
            scale = w * REAL(2.0 / truth.size)
            for j in range(m):
                error = y[i, j] - truth[top + i, j]
                total += np.float64(w * error * error)
                y[i, j] = scale * error
        _backward(y, some, hidden, slopes, transposed, leaves, dz, grads)
        if not shared:
            add_transposed_product(times, dz, dparams.time_weight)
    if shared:
        add_transposed_product(embedding, dparams.bias.reshape((1, n)), dparams.time_weight)
    return total / truth.size


@compiled
def _backward(
    dy: Reals,
    x: Reals,
    hidden: Reals,
    slopes: Reals,
    transposed: Reals,
    leaves: Leaves,
    dz: Reals,
    grads: Leaves,
) -> None:
    """Add the gradients of all parameters but time_weight, whose gradient follows from dz.

    transposed holds the transposed hidden weights; dz receives the gradient of the first layer.
    """
    params, dparams = MLPParams(*leaves), MLPParams(*grads)
    layers, rows, n = hidden.shape
    m = dy.shape[1]
    dh, zero = np.empty((rows, n), REAL), np.zeros(n, REAL)
    for i in range(rows):
        for j in range(m):
            dparams.out_bias[j] += dy[i, j]
    dout_transposed = np.zeros((m, n), REAL)
    add_transposed_product(dy, hidden[layers - 1], dout_transposed)  # its few columns become rows
    for i in range(n):
        for j in range(m):
            dparams.out_weight[i, j] += dout_transposed[j, i]
    out_transposed = np.empty((m, n), REAL)
    transpose(params.out_weight, out_transposed)
    affine(dy, out_transposed, zero, dh)
    for l in range(layers - 1, 0, -1):  # noqa: E741
        _through_silu(dh, slopes[l], dz, dparams.hidden_bias[l - 1])
        add_transposed_product(hidden[l - 1], dz, dparams.hidden_weight[l - 1])
        add_product(dz, transposed[l - 1], dh)
    _through_silu(dh, slopes[0], dz, dparams.bias)
    add_transposed_product(x, dz, dparams.weight)


@compiled
def _cut(flat: Reals, leaves: Leaves) -> Leaves:
    """The parts of a flat array, in the shapes of the leaves."""
    params = MLPParams(*leaves)
    weight, rest = _cut_one(flat, params.weight)
    time_weight, rest = _cut_one(rest, params.time_weight)
    bias, rest = _cut_one(rest, params.bias)
    hidden_weight, rest = _cut_one(rest, params.hidden_weight)
    hidden_bias, rest = _cut_one(rest, params.hidden_bias)
    out_weight, rest = _cut_one(rest, params.out_weight)
    return weight, time_weight, bias, hidden_weight, hidden_bias, out_weight, rest


@compiled
def _cut_one(flat: Reals, leaf: Reals) -> tuple[Reals, Reals]:
    """The start of a flat array in the shape of a leaf, and the rest."""
    return flat[: leaf.size].reshape(leaf.shape), flat[leaf.size :]


@compiled
def _transposed(hidden_weight: Reals) -> Reals:
    """The transposes of the hidden weights."""
    result = np.empty_like(hidden_weight)
    for l in range(len(result)):  # noqa: E741
        transpose(hidden_weight[l], result[l])
    return result


@summing
def _rows_times_columns(x: Reals, columns: Reals, bias: Reals, y: Reals) -> None:
    """Write x @ columns.T + bias to y, for a few columns: fewer than fill a vector."""
    rows, n = x.shape
    for i in range(rows):
        for j in range(len(columns)):
            total = bias[j]
            for k in range(n):
                total += x[i, k] * columns[j, k]
            y[i, j] = total


# --- SiLU ---------------------------------------------------------------------------------


@compiled
def _to_silu(z: Reals, slope: Reals) -> None:
    """Write silu(z) to z, and its derivative."""
    for i in range(z.size):
        z[i], slope[i] = silu_and_slope(z[i])


@compiled
def _add_silu(h: Reals, z: Reals, slope: Reals) -> None:
    """Write h + silu(z) to z, and the derivative of silu."""
    for i in range(z.size):
        x = z[i]
        gate = sigmoid(x)
        slope[i] = gate + x * gate * (REAL(1.0) - gate)
        z[i] = fma(x, gate, h[i])


@compiled
def _add_silu_alone(h: Reals, z: Reals) -> None:
    """The same bits without the derivative: the fma leaves the compiler no choice of rounding."""
    for i in range(z.size):
        z[i] = fma(z[i], sigmoid(z[i]), h[i])


@compiled
def _through_silu(dh: Reals, slope: Reals, dz: Reals, dbias: Reals) -> None:
    """Write dz = dh * slope, and add its rows to the bias's gradient."""
    rows, n = dh.shape
    for i in range(rows):
        for j in range(n):
            d = dh[i, j] * slope[i, j]
            dz[i, j] = d
            dbias[j] += d
