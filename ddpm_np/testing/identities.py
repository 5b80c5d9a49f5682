"""Run every check: what must hold between the formulas, whatever the schedule."""

import math
from typing import cast

from ddpm_np._checks import check_choice, check_integer, describe
from ddpm_np.testing import _bound, _forward, _losses, _reverse, _sampling
from ddpm_np.testing._rows import Identity, Outcome, in_one_line, unmeasured
from ddpm_np.testing._subject import Subject, betas_of, chosen_times
from ddpm_np.testing._truth import Truth
from ddpm_np.testing.protocol import CompleteImplementation, Implementation
from ddpm_np.testing.report import Report

BETAS = Identity("betas: T numbers in (0, 1)", "M2 (20)")
CHECKS = (
    *_forward.CHECKS,
    *_reverse.CHECKS,
    *_sampling.CHECKS,
    *_losses.CHECKS,
    *_bound.CHECKS,
)


def check_identities(implementation: Implementation, *, seed: int = 0, dtype: str = "float64") -> Report:
    """Check every identity that the methods of an implementation allow.

    The right-hand sides come from the implementation's own ``betas()`` by other routes, in
    float64: composition of steps, Bayes' rule on a grid, quadrature, and for the sum of the
    bound the exact evidence and gap of an affine Gaussian model. What is missing is reported as
    not offered, and an exception that the implementation raises as a failed row with its message.

    Parameters
    ----------
    implementation : Implementation
        Methods as in :class:`CompleteImplementation`; all but ``T`` and ``betas`` are optional.
    seed : int
        For the observations, the noise and three of the times.
    dtype : {"float64", "float32"}
        What the implementation computes in; sets the tolerances.

    Raises
    ------
    TypeError, ValueError
        If the implementation has no integer ``T`` >= 1 or no method ``betas``, or an option
        is out of range.
    """
    check_choice("dtype", dtype, ("float64", "float32"))
    seed = check_integer("seed", seed, 0, math.inf)
    T = check_integer("implementation.T", getattr(implementation, "T", None), 1)
    if not callable(getattr(implementation, "betas", None)):
        raise TypeError(f"implementation must have a method betas(), got {describe(implementation)}")
    name = f"{type(implementation).__name__}, T = {T}, {dtype}"
    try:
        betas = betas_of(implementation, T)
    except Exception as error:  # whatever a stranger's code raises is a finding
        outcome = unmeasured("FAILS", f"{in_one_line(error)}; nothing else can be checked")
        return Report(name, (BETAS.row(outcome),))
    # Whether an optional method is there is asked before it is called.
    complete = cast(CompleteImplementation, implementation)
    subject = Subject(complete, Truth.of(betas), dtype, seed, chosen_times(T, seed))
    rows = [row for check in CHECKS for row in check.rows(subject)]
    return Report(name, (BETAS.row(Outcome(0.0, 0.0, "holds")), *rows))
