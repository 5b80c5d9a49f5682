"""The residual network of rows on the CuPy backend: cuBLAS's products, and a kernel between each two."""

from typing import Any

import cupy

from backends.base import check_shapes
from backends.cupy_launch import cupy_arrays, launch_each
from ddpm_np._arrays import Array
from ddpm_np.nn.ops import MLPParams, check_mlp


def residual_mlp(x: Array, embedding: Array, params: MLPParams, keep: bool = True) -> tuple[Array, Any]:
    """Fused :func:`ddpm_np.nn.ops.residual_mlp`: a product and a kernel for each layer."""
    x, embedding, *leaves = cupy_arrays(x=x, embedding=embedding, **params._asdict())
    params = MLPParams(*leaves)
    check_mlp(x, embedding, params)
    rows, n, depth = len(x), len(params.bias), len(params.hidden_weight)
    layers = depth + 1 if keep else min(depth + 1, 2)  # two take turns where none are kept
    hidden, slopes = (cupy.empty((layers, rows, n), x.dtype) for _ in range(2))
    shift = embedding @ params.time_weight
    h = cupy.matmul(x, params.weight, out=hidden[0])
    launch_each("entry_layer", h, shift, params.bias, h, slopes[0], shift.size, n)
    for l in range(depth):  # noqa: E741
        here = (l + 1) % layers
        before, h = h, cupy.matmul(h, params.hidden_weight[l], out=hidden[here])
        launch_each("hidden_layer", h, before, params.hidden_bias[l], h, slopes[here], n)
    y = h @ params.out_weight
    y += params.out_bias
    return y, (x, embedding, hidden, slopes) if keep else None


def residual_mlp_backward(dy: Array, cache: Any, params: MLPParams) -> tuple[Array, MLPParams]:
    """Fused :func:`ddpm_np.nn.ops.residual_mlp_backward`: two products and a kernel for each layer."""
    x, embedding, hidden, slopes = cache
    hidden, dy, *leaves = cupy_arrays(hidden=hidden, dy=dy, **params._asdict())
    params = MLPParams(*leaves)
    depth, n = len(hidden) - 1, hidden.shape[2]
    check_shapes(
        dy=(dy, (len(x), params.out_weight.shape[1])),
        hidden_weight=(params.hidden_weight, (depth, n, n)),
        out_weight=(params.out_weight, (n, dy.shape[-1])),
    )
    dz, dhidden_weight = cupy.empty_like(hidden), cupy.empty_like(params.hidden_weight)
    dh = dy @ params.out_weight.T
    cupy.multiply(dh, slopes[depth], out=dz[depth])
    for l in range(depth - 1, -1, -1):  # noqa: E741
        cupy.matmul(hidden[l].T, dz[l + 1], out=dhidden_weight[l])
        change = dz[l + 1] @ params.hidden_weight[l].T
        launch_each("hidden_layer_backward", dh, change, slopes[l], dh, dz[l])
    dbias = cupy.sum(dz, axis=1)
    shared = len(embedding) != len(dy)
    return dz[0] @ params.weight.T, MLPParams(
        weight=x.T @ dz[0],
        time_weight=embedding.T @ (dbias[:1] if shared else dz[0]),
        bias=dbias[0],
        hidden_weight=dhidden_weight,
        hidden_bias=dbias[1:],
        out_weight=hidden[depth].T @ dy,
        out_bias=cupy.sum(dy, axis=0),
    )
