"""Find out which formula another diffusion implementation got wrong.

Describe yours by a few methods (:class:`Implementation`), then ask::

    print(check_identities(MyAdapter()))

or ``python -m ddpm_np.testing my_module:MyAdapter``. docs/porting.md says how to write the
adapter and how to read the report. Hypothesis strategies are in ``ddpm_np.testing.strategies``, and test
vectors for ports in any language in ``ddpm_np.testing.vectors``.
"""

from ddpm_np.testing.adapters import Reference
from ddpm_np.testing.identities import check_identities
from ddpm_np.testing.protocol import CompleteImplementation, Implementation
from ddpm_np.testing.report import IdentityError, Report, Row

__all__ = [
    "CompleteImplementation",
    "IdentityError",
    "Implementation",
    "Reference",
    "Report",
    "Row",
    "check_identities",
]
