"""CuPy: arrays on an NVIDIA GPU, where every launch counts.

Matrix products are cuBLAS's; everything between one product and the next is one kernel of our own,
in cupy_kernels. These are CUDA C++, compiled when first used, once for float
and once for double. They use the accurate ``exp``: no fast math. Only :func:`make` and the
Backend's ``to_numpy`` and ``synchronize`` wait for the GPU.

Noise is drawn on the host by NumPy's Philox, so that runs agree with the other backends; or, if
asked, on the GPU.
"""

from typing import Any

from backends.base import Backend, BackendError, Key, Shape, host_asarray, host_normal
from ddpm_np._arrays import Array
from ddpm_np.nn.ops import Ops
from ddpm_np.randomness import generator

try:
    import array_api_compat.cupy as xp
    import cupy

    from backends.cupy_elementwise import adam, ema, silu, squared_error
    from backends.cupy_images import conv2d, conv2d_backward, group_norm, group_norm_backward
    from backends.cupy_kernels import BLOCK
    from backends.cupy_launch import launch
    from backends.cupy_rows import residual_mlp, residual_mlp_backward
except ImportError as _error:
    raise BackendError(
        f"backend cupy cannot run: {' '.join(str(_error).split())}; install it, in the project's "
        'folder, with: pip install -e ".[cuda12]" (or [cuda13], to match the driver)'
    ) from None


def make() -> Backend:
    """Return the CuPy backend once a test kernel has run.

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
    except Exception as error:  # whatever a broken driver, compiler or library raises
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


def asarray(values: Any, dtype: str) -> Array:
    """Host values, or a CuPy array, as a CuPy array on the current GPU."""
    if isinstance(values, cupy.ndarray):
        return cupy.asarray(values, dtype=dtype, order="C")
    return cupy.asarray(host_asarray(values, dtype))


def noise_from_host(key: Key, shape: Shape, dtype: str) -> Array:
    """Standard normal draws, made on the host and copied."""
    return cupy.asarray(host_normal(key, shape, dtype))


def noise_from_device(key: Key, shape: Shape, dtype: str) -> Array:
    """Standard normal draws, made on the GPU: other numbers, from the words the host would draw."""
    state = generator(*key).bit_generator.state["state"]
    words, result = (*state["key"], *state["counter"][2:]), cupy.empty(shape, dtype)
    launch("normal", -(-result.size // (4 * BLOCK)), result.dtype, result, *words, result.size)
    return result
