"""Numba: NumPy arrays, with the work in fused compiled loops, over the threads of the machine.

Every kernel reads its inputs once and writes its results once, and is compiled once and cached on
disk. They are for float32, the dtype of training: in float64, layers run by their definitions, and
only losses and optimizers are compiled.

Threads share the batch, see numba_threads. Their number is NUMBA_NUM_THREADS, or else the number of
cores; it does not change a bit of the results.
"""

import numpy as np

from backends.base import Backend, BackendError, host_asarray, host_normal
from ddpm_np.nn.ops import Ops

try:
    from backends.numba_convolution import conv2d, conv2d_backward
    from backends.numba_elementwise import adam, ema, silu, squared_error
    from backends.numba_group_norm import group_norm, group_norm_backward
    from backends.numba_rows import (
        linear,
        linear_backward,
        residual_mlp,
        residual_mlp_backward,
        residual_mlp_loss,
    )
    from backends.numba_threads import in_parts
except ImportError as _error:
    raise BackendError(
        f"backend numba cannot run: {' '.join(str(_error).split())}; "
        'install it, in the project\'s folder, with: pip install -e ".[numba]"'
    ) from None


def make() -> Backend:
    """Return the Numba backend; importing this module raises BackendError without Numba."""
    return Backend(
        name="numba",
        xp=np,
        device="cpu",
        ops=Ops(
            linear=linear,
            linear_backward=linear_backward,
            silu=silu,
            residual_mlp=residual_mlp,
            residual_mlp_backward=residual_mlp_backward,
            residual_mlp_loss=residual_mlp_loss,
            conv2d=conv2d,
            conv2d_backward=conv2d_backward,
            group_norm=group_norm,
            group_norm_backward=group_norm_backward,
            squared_error=squared_error,
            adam=adam,
            ema=ema,
            in_parts=in_parts,
        ),
        asarray=host_asarray,
        to_numpy=np.asarray,
        normal=host_normal,
        synchronize=lambda: None,
    )
