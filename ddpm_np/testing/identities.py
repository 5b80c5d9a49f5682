"""Run every check: what must hold between the formulas, whatever the schedule."""

import math
from collections.abc import Sequence
from typing import cast

import numpy as np

from ddpm_np._checks import check_integer, describe
from ddpm_np.targets import Target
from ddpm_np.testing import (
    _announced_decoder,
    _bound,
    _forward,
    _learned,
    _loops,
    _losses,
    _reverse,
    _schedules,
    _training,
)
from ddpm_np.testing._claims import DecoderClaim, checked_claims
from ddpm_np.testing._levels import with_levels
from ddpm_np.testing._merge import merged
from ddpm_np.testing._rows import Identity, Outcome, in_one_line, unmeasured
from ddpm_np.testing._subject import Subject, betas_of, chosen_times
from ddpm_np.testing._truth import Truth, is_step
from ddpm_np.testing._unknown import unknown_methods
from ddpm_np.testing.protocol import CompleteImplementation, Implementation, Values
from ddpm_np.testing.report import Report

BETAS = Identity("betas: T numbers in (0, 1)", "M2 (20)")
UNCHANGED = Identity("arguments are left as they were", "")
CHECKS = (
    *_schedules.CHECKS,
    *_forward.CHECKS,
    *_reverse.CHECKS,
    *_loops.CHECKS,
    *_learned.CHECKS,
    *_losses.CHECKS,
    *_training.CHECKS,
    *_announced_decoder.CHECKS,
    *_bound.CHECKS,
)


def check_identities(
    implementation: Implementation,
    *,
    seed: int = 0,
    dtype: str = "float64",
    target: Target = "eps",
    clip: float | None = None,
    eta: float | None = None,
    times: Sequence[int] | None = None,
    decoder: DecoderClaim = "gaussian",
    schedule: str | None = None,
) -> Report:
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
    target : {"eps", "x0", "mean", "v"}
        What ``predict`` returns in ``loss``, ``sample`` and ``elbo_terms``.
    clip : float, optional
        The x_0 that a prediction implies is limited to [-clip, clip] in ``sample`` and
        ``reverse_step``.
    eta : float in [0, 1], optional
        ``sample`` is DDIM with this eta.
    times : sequence of int, optional
        Increasing, from 1..T: ``sample`` visits only these.
    decoder : {"gaussian", "discretised"} or callable (x0, mean, variance) -> (B,)
        The decoder of L_0. Unless it is Gaussian, observations are levels on [-1, 1]; an attribute
        ``levels`` of the implementation says how many, else that is found from L_0.
    schedule : str, optional
        The name of the schedule that the betas claim to be, a key of ``ddpm_np.schedules.SCHEDULES``,
        with its default parameters; "linear", "quadratic" and "sigmoid" may have any two ends.

    Raises
    ------
    TypeError, ValueError
        If the implementation has no integer ``T`` >= 1 or no method ``betas``, or an option
        is out of range.
    """
    seed = check_integer("seed", seed, 0, math.inf)
    T = check_integer("implementation.T", getattr(implementation, "T", None), 1)
    if not callable(getattr(implementation, "betas", None)):
        raise TypeError(f"implementation must have a method betas(), got {describe(implementation)}")
    claims = checked_claims(
        T,
        dtype=dtype,
        target=target,
        clip=clip,
        eta=eta,
        times=times,
        decoder=decoder,
        schedule=schedule,
    )
    called = getattr(implementation, "name", type(implementation).__name__)
    name = f"{called}, T = {T}, {dtype}"
    remarks = unknown_methods(implementation)
    try:
        betas = betas_of(implementation, T)
    except Exception as error:  # whatever a stranger's code raises is a finding
        outcome = unmeasured("FAILS", f"{in_one_line(error)}; nothing else can be checked")
        return Report(name, (BETAS.row(outcome),), remarks)
    # Whether an optional method is there is asked before it is called.
    complete, truth = cast(CompleteImplementation, implementation), Truth.of(betas)
    subject = with_levels(Subject(complete, claims, truth, seed, chosen_times(truth.times, seed)))
    rows = merged((row for check in CHECKS for row in check.rows(subject)), claims, T)
    unchanged = UNCHANGED.row(_unchanged(subject, betas))
    return Report(name, (BETAS.row(_are_steps(truth)), *rows, unchanged), remarks)


def _are_steps(truth: Truth) -> Outcome:
    """Whether all betas lie between 0 and 1; the last may be 1."""
    for t, beta in enumerate(truth.beta[1:].tolist(), 1):
        if not is_step(beta, last=t == truth.T):
            until = f"up to t = {truth.times[-1]}" if len(truth.times) else "at no t"
            wrong = f"beta[{t}] = {beta:g} is not between 0 and 1; formulas are judged {until}"
            return unmeasured("FAILS", wrong)
        if beta == 0.0:
            offset = "; does alpha_bar[1] hold what belongs to t = 0?" if t == 1 else ""
            return unmeasured("FAILS", f"beta[{t}] = 0: this step adds no noise{offset}")
    note = "beta[T] = 1: zero terminal SNR" if truth.beta[-1] == 1.0 else ""
    return Outcome(0.0, 0.0, "holds", note)


def _unchanged(subject: Subject, betas: Values) -> Outcome:
    """Whether all arrays that were handed out came back as they were, and its betas are the same."""
    changed = sorted(subject.changed)
    if not np.array_equal(betas_of(subject.implementation, subject.truth.T), betas, equal_nan=True):
        changed.append("its own betas()")
    if not changed:
        return Outcome(0.0, 0.0, "holds")
    return unmeasured("FAILS", f"changed in place: {', '.join(changed)}")
