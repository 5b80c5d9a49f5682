"""Test vectors: what every function of diffusion must return, for ports in any language.

The cases are JSON files in ``v1/``, with expected values from 40 digits. Ask a program, one JSON line a
case, by ``python -m ddpm_np.testing.vectors --run "node my_port.js"``; ask Python functions by::

    print(check_vectors(my_functions))

docs/vectors.md has the format, and how to write a port.
"""

from ddpm_np.testing.vectors._files import FOLDER, Case, Function, VectorsError, load
from ddpm_np.testing.vectors._judging import Result
from ddpm_np.testing.vectors._python import check_vectors
from ddpm_np.testing.vectors._report import Report, VectorsFailed

__all__ = [
    "FOLDER",
    "Case",
    "Function",
    "Report",
    "Result",
    "VectorsError",
    "VectorsFailed",
    "check_vectors",
    "load",
]
