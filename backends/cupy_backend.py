"""CuPy: arrays on an NVIDIA GPU, with the elementwise work in fused CUDA kernels.

The kernels are CUDA C++, compiled when first used, once for float and once for double. They
use the accurate ``exp``: no fast math. Noise is drawn on the host by NumPy's Philox, so that
runs agree with the other backends and can be resumed exactly.
"""

import functools
from typing import Any

import numpy as np

from backends.base import Backend, BackendError, host_asarray, host_normal
from ddpm_np.nn.ops import Ops, describe

try:
    import array_api_compat.cupy as xp
    import cupy
except ImportError as _error:
    raise BackendError(
        f"backend cupy cannot run: {' '.join(str(_error).split())}; install it, in the project's "
        'folder, with: pip install -e ".[cuda12]" (or [cuda13], to match the driver)'
    ) from None

BLOCK = 256

SOURCE = r"""
extern "C" __global__
void silu(const REAL* x, REAL* y, REAL* gate, long long size) {
    long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (i >= size) return;
    REAL g = REAL(1) / (REAL(1) + exp(-x[i]));
    gate[i] = g;
    y[i] = x[i] * g;
}

extern "C" __global__
void silu_backward(const REAL* dy, const REAL* y, const REAL* gate, REAL* dx, long long size) {
    long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (i >= size) return;
    dx[i] = dy[i] * (gate[i] + y[i] * (REAL(1) - gate[i]));
}

extern "C" __global__
void adam(const REAL* param, const REAL* grad, const REAL* m, const REAL* v,
          REAL* new_param, REAL* new_m, REAL* new_v,
          REAL beta_1, REAL rest_1, REAL beta_2, REAL rest_2,
          REAL unbias, REAL epsilon, REAL keep, REAL rate, long long size) {
    long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (i >= size) return;
    REAL g = grad[i];
    REAL a = beta_1 * m[i] + rest_1 * g;
    REAL b = beta_2 * v[i] + rest_2 * (g * g);
    new_m[i] = a;
    new_v[i] = b;
    new_param[i] = keep * param[i] - rate * (a / (sqrt(b) * unbias + epsilon));
}

extern "C" __global__
void ema(const REAL* average, const REAL* value, REAL decay, REAL rest, REAL* result, long long size) {
    long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (i >= size) return;
    result[i] = decay * average[i] + rest * value[i];
}
"""
"""The kernels; REAL is float or double."""

C_TYPES = {"float32": "float", "float64": "double"}


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
        ops=Ops(silu=silu, silu_backward=silu_backward, adam=adam, ema=ema),
        asarray=asarray,
        to_numpy=cupy.asnumpy,
        normal=normal,
        synchronize=lambda: cupy.cuda.get_current_stream().synchronize(),
    )


def asarray(values: Any, dtype: str) -> Any:
    """Host values, or a CuPy array, as a CuPy array on the current GPU."""
    if isinstance(values, cupy.ndarray):
        return cupy.asarray(values, dtype=dtype, order="C")
    return cupy.asarray(host_asarray(values, dtype))


def normal(key: tuple[int, ...], shape: tuple[int, ...], dtype: str) -> Any:
    """Standard normal draws, made on the host and copied."""
    return cupy.asarray(host_normal(key, shape, dtype))


# --- the operations, as ddpm_np.nn.ops defines them ---------------------------------------


def silu(x: Any) -> tuple[Any, Any]:
    """Fused :func:`ddpm_np.nn.ops.silu`."""
    (x,) = _own(x=x)
    y, gate = cupy.empty_like(x), cupy.empty_like(x)
    _launch("silu", x, (x, y, gate))
    return y, gate


def silu_backward(dy: Any, y: Any, gate: Any) -> Any:
    """Fused :func:`ddpm_np.nn.ops.silu_backward`."""
    dy, y, gate = _own(dy=dy, y=y, gate=gate)
    dx = cupy.empty_like(dy)
    _launch("silu_backward", dy, (dy, y, gate, dx))
    return dx


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
    new = tuple(cupy.empty_like(param) for _ in range(3))
    scalars = (
        *(beta_1, 1.0 - beta_1, beta_2, 1.0 - beta_2),
        *((1.0 - beta_2**step) ** -0.5, epsilon, 1.0 - rate * decay, rate / (1.0 - beta_1**step)),
    )
    real = np.dtype(param.dtype).type
    _launch("adam", param, (param, grad, m, v, *new, *(real(s) for s in scalars)))
    return new


def ema(average: Any, value: Any, decay: float) -> Any:
    """Fused :func:`ddpm_np.nn.ops.ema`."""
    average, value = _own(average=average, value=value)
    result, real = cupy.empty_like(average), np.dtype(average.dtype).type
    _launch("ema", average, (average, value, real(decay), real(1.0 - decay), result))
    return result


# --- launching ----------------------------------------------------------------------------


@functools.cache
def _module(dtype: str) -> Any:
    return cupy.RawModule(code=SOURCE, options=(f"-DREAL={C_TYPES[dtype]}",))


def _launch(kernel: str, like: Any, arguments: tuple[Any, ...]) -> None:
    if like.size:
        grid = ((like.size + BLOCK - 1) // BLOCK,)
        function = _module(str(like.dtype)).get_function(kernel)
        function(grid, (BLOCK,), (*arguments, np.int64(like.size)))


def _own(**arrays: Any) -> tuple[Any, ...]:
    """Refuse what is not ours: kernels see bare addresses; make the rest contiguous."""
    for name, array in arrays.items():
        if type(array) is not cupy.ndarray or str(array.dtype) not in C_TYPES:
            raise TypeError(f"{name} must be a CuPy array of float32 or float64, got {describe(array)}")
    first_name, first = next(iter(arrays.items()))
    if first.device != cupy.cuda.Device():
        raise ValueError(
            f"{first_name} must be on the current GPU, {cupy.cuda.Device()}, got {first.device}"
        )
    for name, array in arrays.items():
        if (array.shape, array.dtype, array.device) != (first.shape, first.dtype, first.device):
            raise ValueError(
                f"{name} must have the shape, dtype and device of {first_name}, "
                f"{first.shape} {first.dtype}, got {array.shape} {array.dtype}"
            )
    return tuple(cupy.asarray(array, order="C") for array in arrays.values())
