"""The compiled loops of the Numba backend, on contiguous arrays; no checks.

In float32, but losses and optimizers also in float64.
"""

import math
from typing import Any

import numpy as np

from backends.numba_tiles import REAL, address, compiled, inlined, product, transpose

BLOCK = 32
"""Rows that go through all layers before the next ones: they stay in the first cache."""


@compiled
def linear(x: Any, weight: Any, bias: Any, y: Any) -> None:
    """Write x @ weight + bias to y."""
    rows, n, m = x.shape[0], weight.shape[0], weight.shape[1]
    for i in range(rows):
        for j in range(m):
            y[i, j] = bias[j]
    product(
        address(x, 0), n, 0, 1, address(weight, 0), 0, m,
        address(y, 0), m, rows, m, 1, n,
    )  # fmt: skip


@compiled
def linear_backward(dy: Any, x: Any, weight: Any, dx: Any, dweight: Any, dbias: Any) -> None:
    """Gradients of linear."""
    rows, n, m = x.shape[0], weight.shape[0], weight.shape[1]
    dx[:] = 0
    dweight[:] = 0
    dbias[:] = 0
    for i in range(rows):
        for j in range(m):
            dbias[j] += dy[i, j]
    product(
        address(x, 0), 1, 0, n, address(dy, 0), 0, m,
        address(dweight, 0), m, n, m, 1, rows,
    )  # fmt: skip
    turned = np.empty((m, n), REAL)
    transpose(weight, turned)
    product(
        address(dy, 0), m, 0, 1, address(turned, 0), 0, n,
        address(dx, 0), n, rows, n, 1, m,
    )  # fmt: skip


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
def _silu(x: Any) -> Any:
    one = REAL(1.0)
    gate = one / (one + _exp(-x))
    y = x * gate
    return y, gate + y * (one - gate)


@compiled
def silu(x: Any, y: Any, slope: Any) -> None:
    """Write x * gate and its derivative, gate = 1 / (1 + exp(-x))."""
    for i in range(x.size):
        y[i], slope[i] = _silu(x[i])


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
    shift = bias.copy()
    if shared:
        product(
            address(embedding, 0), 0, 0, 1, address(time_weight, 0), 0, n,
            address(shift, 0), n, 1, n, 1, size,
        )  # fmt: skip
    for top in range(0, rows, BLOCK):
        bottom = min(top + BLOCK, rows)
        count = bottom - top
        first = top if room == rows else 0
        here, last = first * n, first + count
        for i in range(first, last):
            for j in range(n):
                hidden[0, i, j] = shift[j]
        if not shared:
            product(
                address(embedding, top * size), size, 0, 1, address(time_weight, 0), 0, n,
                address(hidden, here), n, count, n, 1, size,
            )  # fmt: skip
        product(
            address(x, top * d), d, 0, 1, address(weight, 0), 0, n,
            address(hidden, here), n, count, n, 1, d,
        )  # fmt: skip
        for i in range(first, last):
            for j in range(n):
                z = hidden[0, i, j]
                hidden[0, i, j], slopes[0, i, j] = _silu(z)
        for l in range(1, layers):  # noqa: E741
            start = (l - 1) * room * n + here
            for i in range(first, last):
                for j in range(n):
                    hidden[l, i, j] = hidden_bias[l - 1, j]
            product(
                address(hidden, start), n, 0, 1, address(hidden_weight, (l - 1) * n * n), 0, n,
                address(hidden, l * room * n + here), n, count, n, 1, n,
            )  # fmt: skip
            for i in range(first, last):
                for j in range(n):
                    change, slopes[l, i, j] = _silu(hidden[l, i, j])
                    hidden[l, i, j] = hidden[l - 1, i, j] + change
        for i in range(top, bottom):
            for j in range(m):
                y[i, j] = out_bias[j]
        start = (layers - 1) * room * n + here
        product(
            address(hidden, start), n, 0, 1, address(out_weight, 0), 0, m,
            address(y, top * m), m, count, m, 1, n,
        )  # fmt: skip


@compiled
def residual_mlp_backward(
    dy: Any, x: Any, embedding: Any, hidden: Any, slopes: Any,
    weight: Any, hidden_weight: Any, out_weight: Any,
    dx: Any, dweight: Any, dtime_weight: Any, dbias: Any,
    dhidden_weight: Any, dhidden_bias: Any, dout_weight: Any, dout_bias: Any,
) -> None:  # fmt: skip
    """Add the gradients of the parameters to what is there, and write that of x."""
    layers, rows, n = hidden.shape
    d, size, m = weight.shape[0], embedding.shape[1], out_weight.shape[1]
    dz, dh = np.empty((rows, n), REAL), np.zeros((rows, n), REAL)
    turned = np.empty((n, n), REAL)

    for i in range(rows):
        for j in range(m):
            dout_bias[j] += dy[i, j]
    product(
        address(hidden, (layers - 1) * rows * n), 1, 0, n, address(dy, 0), 0, m,
        address(dout_weight, 0), m, n, m, 1, rows,
    )  # fmt: skip
    out_turned = np.empty((m, n), REAL)
    transpose(out_weight, out_turned)
    product(
        address(dy, 0), m, 0, 1, address(out_turned, 0), 0, n,
        address(dh, 0), n, rows, n, 1, m,
    )  # fmt: skip

    for l in range(layers - 1, 0, -1):  # noqa: E741
        for i in range(rows):
            for j in range(n):
                d_ij = dh[i, j] * slopes[l, i, j]
                dz[i, j] = d_ij
                dhidden_bias[l - 1, j] += d_ij
        start = (l - 1) * n * n
        product(
            address(hidden, (l - 1) * rows * n), 1, 0, n, address(dz, 0), 0, n,
            address(dhidden_weight, start), n, n, n, 1, rows,
        )  # fmt: skip
        transpose(hidden_weight[l - 1], turned)
        product(
            address(dz, 0), n, 0, 1, address(turned, 0), 0, n,
            address(dh, 0), n, rows, n, 1, n,
        )  # fmt: skip

    for i in range(rows):
        for j in range(n):
            d_ij = dh[i, j] * slopes[0, i, j]
            dz[i, j] = d_ij
            dbias[j] += d_ij
    product(
        address(x, 0), 1, 0, d, address(dz, 0), 0, n,
        address(dweight, 0), n, d, n, 1, rows,
    )  # fmt: skip
    if embedding.shape[0] == rows:
        product(
            address(embedding, 0), 1, 0, size, address(dz, 0), 0, n,
            address(dtime_weight, 0), n, size, n, 1, rows,
        )  # fmt: skip
    else:
        product(
            address(embedding, 0), 1, 0, size, address(dbias, 0), 0, n,
            address(dtime_weight, 0), n, size, n, 1, 1,
        )  # fmt: skip
    dx[:] = 0
    in_turned = np.empty((n, d), REAL)
    transpose(weight, in_turned)
    product(
        address(dz, 0), n, 0, 1, address(in_turned, 0), 0, d,
        address(dx, 0), d, rows, d, 1, n,
    )  # fmt: skip


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
