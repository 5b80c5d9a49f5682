"""Where arrays live, how noise is drawn and which kernels are fused: numpy, numba or cupy.

backend = get_backend("auto")
x = backend.asarray(host_array, "float32")
y, slope = backend.ops.silu(x)
"""

from backends.base import Backend, BackendError, describe_backend, get_backend

__all__ = ["Backend", "BackendError", "describe_backend", "get_backend"]
