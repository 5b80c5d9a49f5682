"""ddpm_np itself behind the interface of the vectors: the implementation that has to pass.

As a program: ``python -m ddpm_np.testing.vectors --run "python -m ddpm_np.testing.vectors.ours"``.
"""

from functools import partial
from types import SimpleNamespace

from ddpm_np.nn.ops import GENERIC, Ops
from ddpm_np.testing.vectors._ours_chains import CHAINS
from ddpm_np.testing.vectors._ours_formulas import FORMULAS
from ddpm_np.testing.vectors._ours_networks import NETWORKS
from ddpm_np.testing.vectors.serving import serve


def ours(ops: Ops = GENERIC, name: str = "ddpm_np") -> SimpleNamespace:
    """All functions of the vectors, by ddpm_np; its networks by these operations."""
    networks = {key: partial(function, ops) for key, function in NETWORKS.items()}
    return SimpleNamespace(name=name, **FORMULAS, **CHAINS, **networks)


if __name__ == "__main__":
    serve(ours(), "ddpm_np")
