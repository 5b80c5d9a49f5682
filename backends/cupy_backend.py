"""CuPy: arrays on an NVIDIA GPU, where every launch counts.

Matrix products are cuBLAS's; all that happens to their results, before the next product, is one
kernel of our own, in cupy_kernels. These are CUDA C++, compiled when first used, once for float
and once for double. They use the accurate ``exp``: no fast math. Nothing here waits for the GPU,
except :func:`make` and the Backend's ``to_numpy`` and ``synchronize``.

Noise is drawn on the host by NumPy's Philox, so that runs agree with the other backends; or, if
asked, on the GPU.
"""

import math
from typing import Any

from backends.base import Backend, BackendError, host_asarray, host_normal
from ddpm_np.nn import ops
from ddpm_np.nn.ops import MLPParams, Ops, check_mlp, describe
from ddpm_np.randomness import generator

try:
    import array_api_compat.cupy as xp
    import cupy

    from backends.cupy_kernels import BLOCK, C_TYPES, launch, launch_each
except ImportError as _error:
    raise BackendError(
        f"backend cupy cannot run: {' '.join(str(_error).split())}; install it, in the project's "
        'folder, with: pip install -e ".[cuda12]" (or [cuda13], to match the driver)'
    ) from None


def make() -> Backend:
    """Return the CuPy backend after a kernel really ran.

    Raises
    ------
    BackendError
        If CuPy is not installed (on import), or no GPU works.
    """
    advice = "check the NVIDIA driver with nvidia-smi, or choose --backend numba or numpy"
    if not cupy.is_available():
        raise BackendError(f"backend cupy cannot run: CuPy finds no usable NVIDIA GPU; {advice}")
    try:
        y, _ = silu(cupy.ones(1, dtype=cupy.float32))
        works = abs(float(y[0]) - 0.7310586) < 1e-6
        name = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode()
    except Exception as error:  # whatever a broken driver, compiler or library throws
        raise BackendError(
            "backend cupy cannot run: a test kernel failed on the GPU "
            f"({type(error).__name__}: {' '.join(str(error).split())}); {advice}"
        ) from None
    if not works:
        raise BackendError(f"backend cupy cannot run: a test kernel gave a wrong result; {advice}")
    return Backend(
        name="cupy",
        xp=xp,
        device=name,
        ops=Ops(
            silu=silu,
            residual_mlp=residual_mlp,
            residual_mlp_backward=residual_mlp_backward,
            conv2d=conv2d,
            conv2d_backward=conv2d_backward,
            group_norm=group_norm,
            group_norm_backward=group_norm_backward,
            squared_error=squared_error,
            adam=adam,
            ema=ema,
        ),
        asarray=asarray,
        to_numpy=cupy.asnumpy,
        normal=noise_from_host,
        synchronize=lambda: cupy.cuda.get_current_stream().synchronize(),
        device_normal=noise_from_device,
    )


def asarray(values: Any, dtype: str) -> Any:
    """Host values, or a CuPy array, as a CuPy array on the current GPU."""
    if isinstance(values, cupy.ndarray):
        return cupy.asarray(values, dtype=dtype, order="C")
    return cupy.asarray(host_asarray(values, dtype))


def noise_from_host(key: tuple[int, ...], shape: tuple[int, ...], dtype: str) -> Any:
    """Standard normal draws, made on the host and copied."""
    return cupy.asarray(host_normal(key, shape, dtype))


def noise_from_device(key: tuple[int, ...], shape: tuple[int, ...], dtype: str) -> Any:
    """Standard normal draws, made on the GPU: other numbers, from the words that the host would draw."""
    state = generator(*key).bit_generator.state["state"]
    words, result = (*state["key"], *state["counter"][2:]), cupy.empty(shape, dtype)
    launch("normal", -(-result.size // (4 * BLOCK)), result.dtype, result, *words, result.size)
    return result


# --- the operations, as ddpm_np.nn.ops defines them ---------------------------------------


def silu(x: Any) -> tuple[Any, Any]:
    """Fused :func:`ddpm_np.nn.ops.silu`."""
    (x,) = _own(x=x)
    y, slope = cupy.empty_like(x), cupy.empty_like(x)
    launch_each("silu", x, x, y, slope)
    return y, slope


def residual_mlp(x: Any, embedding: Any, params: MLPParams, keep: bool = True) -> tuple[Any, Any]:
    """Fused :func:`ddpm_np.nn.ops.residual_mlp`: a product and a kernel for each layer."""
    x, embedding, *leaves = _own(x=x, embedding=embedding, **params._asdict())
    params = MLPParams(*leaves)
    check_mlp(x, embedding, params)
    rows, n, depth = len(x), len(params.bias), len(params.hidden_weight)
    layers = depth + 1 if keep else min(depth + 1, 2)  # then they take turns
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


def residual_mlp_backward(dy: Any, cache: Any, params: MLPParams) -> tuple[Any, MLPParams]:
    """Fused :func:`ddpm_np.nn.ops.residual_mlp_backward`: two products and a kernel for each layer."""
    x, embedding, hidden, slopes = cache
    hidden, dy, *leaves = _own(hidden=hidden, dy=dy, **params._asdict())
    params = MLPParams(*leaves)
    depth, n = len(hidden) - 1, hidden.shape[2]
    _shapes(
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
        *(x.T @ dz[0], embedding.T @ (dbias[:1] if shared else dz[0]), dbias[0]),
        *(dhidden_weight, dbias[1:]),
        *(hidden[depth].T @ dy, cupy.sum(dy, axis=0)),
    )


def conv2d(x: Any, weight: Any, bias: Any, stride: int) -> Any:
    """Fused :func:`ddpm_np.nn.ops.conv2d`: one product, of every pixel's patch and the weights."""
    x, weight, bias = _own(x=x, weight=weight, bias=bias)
    images, height, width, n = x.shape
    k, m = weight.shape[0], weight.shape[3]
    _shapes(weight=(weight, (k, k, n, m)), bias=(bias, (m,)))
    y = _patches(x, k, stride) @ weight.reshape(k * k * n, m)
    y += bias
    return y.reshape(images, -(-height // stride), -(-width // stride), m)


def conv2d_backward(dy: Any, x: Any, weight: Any, stride: int) -> tuple[Any, Any, Any]:
    """Fused :func:`ddpm_np.nn.ops.conv2d_backward`; dx is a convolution of dy with turned weights."""
    dy, x, weight = _own(dy=dy, x=x, weight=weight)
    images, height, width, n = x.shape
    k, m = weight.shape[0], weight.shape[3]
    size = (images, -(-height // stride), -(-width // stride), m)
    _shapes(weight=(weight, (k, k, n, m)), dy=(dy, size))
    flat, spread = dy.reshape(math.prod(size[:3]), m), dy
    if stride > 1:
        spread = cupy.zeros((images, height, width, m), dy.dtype)
        spread[:, ::stride, ::stride] = dy
    turned = weight[::-1, ::-1].transpose(0, 1, 3, 2).reshape(k * k * m, n)
    dx = _patches(spread, k, 1) @ turned
    dweight = _patches(x, k, stride).T @ flat
    return dx.reshape(x.shape), dweight.reshape(weight.shape), cupy.sum(flat, axis=0)


def _patches(x: Any, k: int, stride: int) -> Any:
    """The k x k pixels around every stride-th one as rows, shape (pixels, k * k * n): im2col."""
    images, height, width, n = x.shape
    if k == stride == 1:
        return x.reshape(images * height * width, n)
    rows, columns = -(-height // stride), -(-width // stride)
    result = cupy.empty((images * rows * columns, k * k * n), x.dtype)
    sizes = (height, width, n, rows, columns, k, stride)
    threads = min(BLOCK, 32 * -(-k * n // 32))
    launch("patches", len(result), x.dtype, x, result, *sizes, threads=threads)
    return result


def group_norm(x: Any, gain: Any, shift: Any, groups: int, epsilon: float) -> tuple[Any, Any]:
    """Fused :func:`ddpm_np.nn.ops.group_norm`."""
    x, gain, shift = _own(x=x, gain=gain, shift=shift)
    images, n = len(x), x.shape[-1]
    _shapes(gain=(gain, (images, n)), shift=(shift, (images, n)))
    if n % groups:
        raise ValueError(f"groups must divide the channels of x, {n}, got {groups}")
    y, normal = cupy.empty_like(x), cupy.empty_like(x)
    scale = cupy.empty((images, groups), x.dtype)
    launch(
        "group_norm", scale.size, x.dtype,
        x, gain, shift, y, normal, scale, epsilon, math.prod(x.shape[1:-1]), n, groups,
    )  # fmt: skip
    return y, (normal, scale, gain)


def group_norm_backward(dy: Any, cache: Any) -> tuple[Any, Any, Any]:
    """Fused :func:`ddpm_np.nn.ops.group_norm_backward`."""
    normal, scale, gain = cache
    normal, scale, gain, dy = _own(normal=normal, scale=scale, gain=gain, dy=dy)
    _shapes(dy=(dy, normal.shape))
    dx, dgain, dshift = cupy.empty_like(dy), cupy.empty_like(gain), cupy.empty_like(gain)
    launch(
        "group_norm_backward", scale.size, dy.dtype,
        dy, normal, scale, gain, dx, dgain, dshift,
        math.prod(dy.shape[1:-1]), dy.shape[-1], scale.shape[1],
    )  # fmt: skip
    return dx, dgain, dshift


def squared_error(prediction: Any, truth: Any, weight: Any) -> tuple[Any, Any]:
    """Fused :func:`ddpm_np.nn.ops.squared_error`; weights other than a number are left to it."""
    prediction, truth = _own(prediction=prediction, truth=truth)
    if not isinstance(weight, int | float):
        return ops.squared_error(prediction, truth, *_own(weight=weight))
    _shapes(truth=(truth, prediction.shape))
    size, dtype = prediction.size, prediction.dtype
    parts = min(-(-size // BLOCK), BLOCK)
    dprediction, part, loss = (
        cupy.empty_like(prediction),
        cupy.empty(parts, dtype),
        cupy.empty((), dtype),
    )
    scale = weight * (2.0 / size)
    launch("squared_error", parts, dtype, prediction, truth, dprediction, part, weight, scale, size)
    launch("mean", 1, dtype, part, loss, parts, size)
    return loss, dprediction


def adam(
    param: Any,
    grad: Any,
    m: Any,
    v: Any,
    rate: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    decay: float,
    step: int,
) -> tuple[Any, Any, Any]:
    """Fused :func:`ddpm_np.nn.ops.adam`."""
    param, grad, m, v = _own(param=param, grad=grad, m=m, v=v)
    _shapes(grad=(grad, param.shape), m=(m, param.shape), v=(v, param.shape))
    new_param, new_m, new_v = (cupy.empty_like(param) for _ in range(3))
    launch_each(
        "adam", param, param, grad, m, v, new_param, new_m, new_v,
        *(beta_1, 1.0 - beta_1, beta_2, 1.0 - beta_2),
        *((1.0 - beta_2**step) ** -0.5, epsilon),
        *(1.0 - rate * decay, rate / (1.0 - beta_1**step)),
    )  # fmt: skip
    return new_param, new_m, new_v


def ema(average: Any, value: Any, decay: float) -> Any:
    """Fused :func:`ddpm_np.nn.ops.ema`."""
    average, value = _own(average=average, value=value)
    _shapes(value=(value, average.shape))
    result = cupy.empty_like(average)
    launch_each("ema", average, average, value, result, decay, 1.0 - decay)
    return result


# --- what the kernels accept --------------------------------------------------------------


def _own(**arrays: Any) -> tuple[Any, ...]:
    """Refuse what is not ours: kernels see bare addresses; make the rest contiguous."""
    first_name, first = next(iter(arrays.items()))
    for name, array in arrays.items():
        if type(array) is not cupy.ndarray or array.dtype not in C_TYPES:
            raise TypeError(f"{name} must be a CuPy array of float32 or float64, got {describe(array)}")
        if array.dtype != first.dtype:
            raise ValueError(
                f"{name} must have the dtype of {first_name}, {first.dtype}, got {array.dtype}"
            )
        if array.device != cupy.cuda.Device():
            raise ValueError(
                f"{name} must be on the current GPU, {cupy.cuda.Device()}, got {array.device}"
            )
    return tuple(cupy.asarray(array, order="C") for array in arrays.values())


def _shapes(**arrays: tuple[Any, tuple[int, ...]]) -> None:
    """Refuse other shapes: the kernels check no bounds."""
    for name, (array, shape) in arrays.items():
        if array.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
