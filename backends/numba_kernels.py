"""The compiled loops of the Numba backend, on contiguous arrays; no checks.

In float32, but losses and optimizers also in float64.
"""

import math
from typing import Any

import numpy as np

from backends.numba_tiles import (
    LANES,
    REAL,
    address,
    compiled,
    fma,
    inlined,
    product,
    summing,
    transpose,
)

BLOCK = 32
"""Rows that go through all layers before the next ones: they stay in the first cache."""
BACK_AND_FORTH = 128
"""Rows that go through all layers and back before the next ones: they stay in the second cache."""


@compiled
def linear(x: Any, weight: Any, bias: Any, y: Any) -> None:
    """Write x @ weight + bias to y."""
    rows, n, m = x.shape[0], weight.shape[0], weight.shape[1]
    product(
        address(x, 0), n, 0, 1, address(weight, 0), 0, m,
        address(bias, 0), 0, address(y, 0), m, rows, m, 1, n,
    )  # fmt: skip


@compiled
def linear_backward(dy: Any, x: Any, weight: Any, dx: Any, dweight: Any, dbias: Any) -> None:
    """Gradients of linear."""
    rows, n, m = x.shape[0], weight.shape[0], weight.shape[1]
    dweight[:] = 0
    dbias[:] = 0
    for i in range(rows):
        for j in range(m):
            dbias[j] += dy[i, j]
    _add_xtd(x, dy, dweight)
    transposed, zero = np.empty((m, n), REAL), np.zeros(n, REAL)
    transpose(weight, transposed)
    product(
        address(dy, 0), m, 0, 1, address(transposed, 0), 0, n,
        address(zero, 0), 0, address(dx, 0), n, rows, n, 1, m,
    )  # fmt: skip


@compiled
def _add_xtd(x: Any, d: Any, result: Any) -> None:
    """Add x.T @ d to the result: how weights' gradients come from rows and theirs."""
    rows, n, m = x.shape[0], x.shape[1], d.shape[1]
    product(
        address(x, 0), 1, 0, n, address(d, 0), 0, m,
        address(result, 0), m, address(result, 0), m, n, m, 1, rows,
    )  # fmt: skip


@summing
def _rows_times_columns(x: Any, columns: Any, bias: Any, y: Any) -> None:
    """Write x @ columns.T + bias to y, for a few columns: fewer than fill a vector."""
    rows, n = x.shape
    for i in range(rows):
        for j in range(len(columns)):
            total = bias[j]
            for k in range(n):
                total += x[i, k] * columns[j, k]
            y[i, j] = total


# --- SiLU ---------------------------------------------------------------------------------


@inlined
def _exp(x: Any) -> Any:
    """Exponential of a float32 within 2 ulp for |x| <= 87; below exp(-87), above 88.4 infinity.

    exp(x) = 2^n exp(r) with n = round(x / log 2), |r| <= log(2) / 2, and a polynomial in r
    (coefficients of Cephes). Adding 1.5 * 2^23 rounds to an integer, and 2^n is written
    straight into the exponent's bits: neither stops vectorisation, as a call would.
    """
    x = min(max(x, REAL(-87.0)), REAL(89.0))
    n = (x * REAL(1.44269504) + REAL(12582912.0)) - REAL(12582912.0)
    r = x - n * REAL(0.693359375) + n * REAL(2.12194440e-4)
    p = REAL(1.9875691500e-4)
    p = p * r + REAL(1.3981999507e-3)
    p = p * r + REAL(8.3334519073e-3)
    p = p * r + REAL(4.1665795894e-2)
    p = p * r + REAL(1.6666665459e-1)
    p = p * r + REAL(5.0000001201e-1)
    power = np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)
    return (p * r * r + r + REAL(1.0)) * power


@inlined
def _gate(x: Any) -> Any:
    return REAL(1.0) / (REAL(1.0) + _exp(-x))


@inlined
def _silu(x: Any) -> Any:
    gate = _gate(x)
    y = x * gate
    return y, gate + y * (REAL(1.0) - gate)


@compiled
def silu(x: Any, y: Any, slope: Any) -> None:
    """Write x * gate and its derivative, gate = 1 / (1 + exp(-x))."""
    for i in range(x.size):
        y[i], slope[i] = _silu(x[i])


@compiled
def _to_silu(z: Any, slope: Any) -> None:
    """Write silu(z) to z, and its derivative."""
    for i in range(z.size):
        z[i], slope[i] = _silu(z[i])


@compiled
def _add_silu(h: Any, z: Any, slope: Any) -> None:
    """Write h + silu(z) to z, and the derivative of silu."""
    for i in range(z.size):
        x = z[i]
        gate = _gate(x)
        slope[i] = gate + x * gate * (REAL(1.0) - gate)
        z[i] = fma(x, gate, h[i])


@compiled
def _add_silu_alone(h: Any, z: Any) -> None:
    """The same bits without the derivative: the fma leaves the compiler no choice."""
    for i in range(z.size):
        z[i] = fma(z[i], _gate(z[i]), h[i])


@compiled
def residual_mlp(
    x: Any, embedding: Any, weight: Any, time_weight: Any, bias: Any,
    hidden_weight: Any, hidden_bias: Any, out_weight: Any, out_bias: Any,
    hidden: Any, slopes: Any, y: Any,
) -> None:  # fmt: skip
    """Take some rows through all layers, then the next; keep every h and its SiLU's derivative.

    If hidden and slopes, (layers, ..., n), have room for fewer rows, the next overwrite the last.
    """
    layers, room, n = hidden.shape
    rows = x.shape[0]
    d, size, m = weight.shape[0], time_weight.shape[0], out_weight.shape[1]
    shared = embedding.shape[0] != rows
    out_transposed = np.empty((m, n), REAL)
    transpose(out_weight, out_transposed)
    shift = bias
    if shared:
        shift = np.empty(n, REAL)
        product(
            address(embedding, 0), 0, 0, 1, address(time_weight, 0), 0, n,
            address(bias, 0), 0, address(shift, 0), n, 1, n, 1, size,
        )  # fmt: skip
    for top in range(0, rows, BLOCK):
        bottom = min(top + BLOCK, rows)
        count = bottom - top
        first = top if room == rows else 0
        last = first + count
        z = hidden[0, first:last]
        product(
            address(x, top * d), d, 0, 1, address(weight, 0), 0, n,
            address(shift, 0), 0, address(z, 0), n, count, n, 1, d,
        )  # fmt: skip
        if not shared:
            product(
                address(embedding, top * size), size, 0, 1, address(time_weight, 0), 0, n,
                address(z, 0), n, address(z, 0), n, count, n, 1, size,
            )  # fmt: skip
        _to_silu(z.ravel(), slopes[0, first:last].ravel())
        for l in range(1, layers):  # noqa: E741
            h, z = hidden[l - 1, first:last], hidden[l, first:last]
            product(
                address(h, 0), n, 0, 1, address(hidden_weight, (l - 1) * n * n), 0, n,
                address(hidden_bias, (l - 1) * n), 0, address(z, 0), n, count, n, 1, n,
            )  # fmt: skip
            if room == rows:
                _add_silu(h.ravel(), z.ravel(), slopes[l, first:last].ravel())
            else:
                _add_silu_alone(h.ravel(), z.ravel())
        h = hidden[layers - 1, first:last]
        if m < LANES:
            _rows_times_columns(h, out_transposed, out_bias, y[top:bottom])
        else:
            product(
                address(h, 0), n, 0, 1, address(out_weight, 0), 0, m,
                address(out_bias, 0), 0, address(y, top * m), m, count, m, 1, n,
            )  # fmt: skip


@compiled
def residual_mlp_backward(
    dy: Any, x: Any, embedding: Any, hidden: Any, slopes: Any,
    weight: Any, hidden_weight: Any, out_weight: Any,
    dx: Any, dweight: Any, dtime_weight: Any, dbias: Any,
    dhidden_weight: Any, dhidden_bias: Any, dout_weight: Any, dout_bias: Any,
) -> None:  # fmt: skip
    """Add the gradients of the parameters to what is there, and write that of x."""
    rows, d = x.shape
    n = weight.shape[1]
    dz = np.empty((rows, n), REAL)
    _backward(
        dy, x, hidden, slopes, _all_transposed(hidden_weight), out_weight, dz,
        dweight, dbias, dhidden_weight, dhidden_bias, dout_weight, dout_bias,
    )  # fmt: skip
    _add_xtd(embedding, dz if len(embedding) == rows else dbias.reshape((1, n)), dtime_weight)
    transposed, zero = np.empty((n, d), REAL), np.zeros(d, REAL)
    transpose(weight, transposed)
    product(
        address(dz, 0), n, 0, 1, address(transposed, 0), 0, d,
        address(zero, 0), 0, address(dx, 0), d, rows, d, 1, n,
    )  # fmt: skip


@compiled
def residual_mlp_loss(
    x: Any, embedding: Any, weight: Any, time_weight: Any, bias: Any,
    hidden_weight: Any, hidden_bias: Any, out_weight: Any, out_bias: Any,
    truth: Any, loss_weight: Any, gradient: Any,
) -> Any:  # fmt: skip
    """Return the squared error of residual_mlp; add its gradient to what is there, leaf after leaf."""
    rows, n, m = len(x), len(bias), len(out_bias)
    layers = len(hidden_weight) + 1
    shared = len(embedding) != rows
    dweight, rest = _cut(gradient, weight)
    dtime_weight, rest = _cut(rest, time_weight)
    dbias, rest = _cut(rest, bias)
    dhidden_weight, rest = _cut(rest, hidden_weight)
    dhidden_bias, rest = _cut(rest, hidden_bias)
    dout_weight, dout_bias = _cut(rest, out_weight)
    transposed = _all_transposed(hidden_weight)
    # One allocation, and less than the allocator would hand back to the system each time.
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
        residual_mlp(
            some, times, weight, time_weight, bias, hidden_weight, hidden_bias, out_weight, out_bias,
            hidden, slopes, y,
        )  # fmt: skip
        for i in range(count):
            w = loss_weight[top + i, 0] if len(loss_weight) > 1 else loss_weight[0, 0]
            scale = w * REAL(2.0 / truth.size)
            for j in range(m):
                error = y[i, j] - truth[top + i, j]
                total += np.float64(w * error * error)
                y[i, j] = scale * error
        _backward(
            y, some, hidden, slopes, transposed, out_weight, dz,
            dweight, dbias, dhidden_weight, dhidden_bias, dout_weight, dout_bias,
        )  # fmt: skip
        if not shared:
            _add_xtd(times, dz, dtime_weight)
    if shared:
        _add_xtd(embedding, dbias.reshape((1, n)), dtime_weight)
    return total / truth.size


@compiled
def _cut(flat: Any, leaf: Any) -> Any:
    """The start of a flat array in the shape of a leaf, and the rest."""
    return flat[: leaf.size].reshape(leaf.shape), flat[leaf.size :]


@compiled
def _all_transposed(hidden_weight: Any) -> Any:
    transposed = np.empty_like(hidden_weight)
    for l in range(len(transposed)):  # noqa: E741
        transpose(hidden_weight[l], transposed[l])
    return transposed


@compiled
def _backward(
    dy: Any, x: Any, hidden: Any, slopes: Any, transposed: Any, out_weight: Any, dz: Any,
    dweight: Any, dbias: Any, dhidden_weight: Any, dhidden_bias: Any, dout_weight: Any, dout_bias: Any,
) -> None:  # fmt: skip
    """Add gradients of all parameters but time_weight, which that of the first layer, dz, yields."""
    layers, rows, n = hidden.shape
    m = len(dout_bias)
    dh, zero = np.empty((rows, n), REAL), np.zeros(n, REAL)
    for i in range(rows):
        for j in range(m):
            dout_bias[j] += dy[i, j]
    dout_transposed = np.zeros((m, n), REAL)
    _add_xtd(dy, hidden[layers - 1], dout_transposed)  # its few columns as rows
    for i in range(n):
        for j in range(m):
            dout_weight[i, j] += dout_transposed[j, i]
    out_transposed = np.empty((m, n), REAL)
    transpose(out_weight, out_transposed)
    product(
        address(dy, 0), m, 0, 1, address(out_transposed, 0), 0, n,
        address(zero, 0), 0, address(dh, 0), n, rows, n, 1, m,
    )  # fmt: skip
    for l in range(layers - 1, 0, -1):  # noqa: E741
        _through_silu(dh, slopes[l], dz, dhidden_bias[l - 1])
        _add_xtd(hidden[l - 1], dz, dhidden_weight[l - 1])
        product(
            address(dz, 0), n, 0, 1, address(transposed, (l - 1) * n * n), 0, n,
            address(dh, 0), n, address(dh, 0), n, rows, n, 1, n,
        )  # fmt: skip
    _through_silu(dh, slopes[0], dz, dbias)
    _add_xtd(x, dz, dweight)


@compiled
def _through_silu(dh: Any, slope: Any, dz: Any, dbias: Any) -> None:
    """Write dh * slope, and add its rows to the bias's gradient."""
    rows, n = dh.shape
    for i in range(rows):
        for j in range(n):
            d = dh[i, j] * slope[i, j]
            dz[i, j] = d
            dbias[j] += d


# --- losses and optimizers, in float64 too ------------------------------------------------


@compiled
def squared_error(prediction: Any, truth: Any, weight: Any, dprediction: Any) -> Any:
    """Return the loss, summed in float64; write its gradient."""
    total = 0.0
    scale = weight * prediction.dtype.type(2.0 / prediction.size)
    for i in range(prediction.size):
        error = prediction[i] - truth[i]
        total += np.float64(weight * error * error)
        dprediction[i] = scale * error
    return total / prediction.size


@compiled
def adam(
    param: Any, grad: Any, m: Any, v: Any, new_param: Any, new_m: Any, new_v: Any,
    beta_1: Any, rest_1: Any, beta_2: Any, rest_2: Any, unbias: Any, epsilon: Any, keep: Any, rate: Any,
) -> None:  # fmt: skip
    """Write the new parameters and moments; rest = 1 - beta, keep and rate take decay and bias along."""
    for i in range(param.size):
        g = grad[i]
        a = beta_1 * m[i] + rest_1 * g
        b = beta_2 * v[i] + rest_2 * (g * g)
        new_m[i] = a
        new_v[i] = b
        new_param[i] = keep * param[i] - rate * (a / (math.sqrt(b) * unbias + epsilon))


@compiled
def ema(average: Any, value: Any, decay: Any, rest: Any, result: Any) -> None:
    """Write decay * average + rest * value."""
    for i in range(average.size):
        result[i] = decay * average[i] + rest * value[i]
