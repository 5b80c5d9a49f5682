"""NumPy: the array-generic definitions as they are, on the CPU."""

import array_api_compat.numpy as xp
import numpy as np

from backends.base import Backend, host_asarray, host_normal
from ddpm_np.nn.ops import Ops


def make() -> Backend:
    """Return the NumPy backend. It always works."""
    return Backend(
        name="numpy",
        xp=xp,
        device="cpu",
        ops=Ops(),
        asarray=host_asarray,
        to_numpy=np.asarray,
        normal=host_normal,
        synchronize=lambda: None,
    )
