"""The identities: what must hold between the formulas, whatever the schedule."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ddpm_np._checks import check_choice, check_integer, describe
from ddpm_np.testing import _bound, _forward, _reverse, _sampling
from ddpm_np.testing._compare import Comparison, judge
from ddpm_np.testing._measure import Subject, as_values, chosen_times
from ddpm_np.testing._truth import Truth, Values
from ddpm_np.testing.protocol import Implementation
from ddpm_np.testing.report import Report, Row


@dataclass(frozen=True)
class Check:
    """Methods that are needed, what is compared, and the function that measures it."""

    needs: tuple[str, ...]
    identities: tuple[tuple[str, str], ...]
    measure: Callable[[Subject], list[Comparison]]

    def rows(self, subject: Subject) -> list[Row]:
        """One row per identity, whatever happens."""
        missing = [name for name in self.needs if not subject.offers(name)]
        if missing:
            return self._all("not offered", ", ".join(missing))
        try:
            outcomes = self.measure(subject)
        except NotImplementedError:
            return self._all("not offered", ", ".join(self.needs))
        except Exception as error:  # whatever a stranger's code raises is a finding
            return self._all("FAILS", f"{type(error).__name__}: {' '.join(str(error).split())}")
        rows = []
        for (identity, equation), outcome in zip(self.identities, outcomes, strict=True):
            residual, tolerance, verdict, text = judge(outcome, subject.truth, subject.dtype)
            rows.append(Row(identity, equation, residual, tolerance, verdict, text))
        return rows

    def _all(self, verdict: Any, explanation: str) -> list[Row]:
        return [Row(*names, np.nan, np.nan, verdict, explanation) for names in self.identities]


CHECKS = (
    Check(
        ("alpha_bars",),
        (
            ("alpha_bars: product of alpha_1..alpha_t", "M2 (22)"),
            ("alpha_bars: 1 - alpha_bar, composed from steps", "M2 (37)"),
        ),
        _forward.alpha_bars,
    ),
    Check(
        ("q_sample",),
        (
            ("q_sample: coefficient of x0", "M2 (27)"),
            ("q_sample: variance of T steps composed", "M2 (20), (37)"),
        ),
        _forward.q_sample,
    ),
    Check(
        ("q_posterior",),
        (
            ("q_posterior: mean by Bayes' rule, x_t", "M2 (26)"),
            ("q_posterior: mean by Bayes' rule, x0", "M2 (26)"),
            ("q_posterior: variance by Bayes' rule", "M2 (25)"),
            ("q_posterior: at t = 1 it is x0 exactly", "M2 (23)"),
        ),
        _forward.q_posterior,
    ),
    Check(
        ("q_sample", "q_posterior"),
        (
            ("q_posterior after q_sample: mean of x_{t-1}", "M2 (22), (24)"),
            ("q_posterior after q_sample: variance of x_{t-1}", "M2 (22), (24)"),
        ),
        _forward.marginal,
    ),
    Check(
        ("model_mean",),
        (("model_mean: coefficient of x_t", "M2 (34)"), ("model_mean: coefficient of eps", "M2 (34)")),
        _reverse.model_mean,
    ),
    Check(
        ("q_sample", "q_posterior", "model_mean"),
        (("model_mean at the true eps = q_posterior", "M2 (29)"),),
        _reverse.mean_at_true_eps,
    ),
    Check(
        ("reverse_variance",),
        (("reverse_variance: beta_tilde, beta, between, or 1", "M2 (31)"),),
        _reverse.reverse_variance,
    ),
    Check(
        ("reverse_step",),
        (
            ("reverse_step: coefficient of x_t", "Algorithm 2"),
            ("reverse_step: coefficient of eps", "Algorithm 2"),
            ("reverse_step: variance of the noise", "Algorithm 2"),
            ("reverse_step: no noise at t = 1", "Algorithm 2"),
        ),
        _reverse.reverse_step,
    ),
    Check(("sample",), (("sample: the whole loop", "Algorithm 2"),), _sampling.sample),
    Check(
        ("eps_loss_weight",),
        (("eps_loss_weight: squared shift / 2 sigma_t^2", "M2 (35)"),),
        _reverse.eps_loss_weight,
    ),
    Check(
        ("elbo_terms",),
        (
            ("elbo_terms: predict sees x_t = q_sample", "M2 (35)"),
            ("elbo_terms: L_T by quadrature", "M2 (36)"),
            ("elbo_terms: L_{t-1} by quadrature", "M2 (14)-(18)"),
            ("elbo_terms: L_0 of a Gaussian decoder", "M2 (19)"),
            ("elbo_terms: L[0] and L[1] are empty", "M2 (19)"),
        ),
        _bound.elbo_terms,
    ),
    Check(
        ("elbo_terms",),
        (("elbo_terms: sum = log p(x0) - KL(q || p)", "M2 (3), p. 25"),),
        _bound.evidence,
    ),
)


def check_identities(implementation: Implementation, *, seed: int = 0, dtype: str = "float64") -> Report:
    """Check every identity that the methods of an implementation allow.

    The right-hand sides come from the implementation's own ``betas()`` by other routes, in
    float64: composition of steps, Bayes' rule on a grid, quadrature, and for the sum of the
    bound the exact evidence and gap of an affine Gaussian model.

    Parameters
    ----------
    implementation : Implementation
        Methods as in :class:`CompleteImplementation`; all but ``T`` and ``betas`` are optional.
    seed : int
        For the observations, the noise and three of the times.
    dtype : {"float64", "float32"}
        In which the implementation computes; sets the tolerances.

    Returns
    -------
    Report
        What is missing is reported as not offered, and an exception that the implementation
        raises as a failed row with its message.

    Raises
    ------
    TypeError, ValueError
        If the implementation has no integer ``T`` >= 1 or no method ``betas``, or an option
        is out of range.
    """
    check_choice("dtype", dtype, ("float64", "float32"))
    seed = check_integer("seed", seed, 0)
    T = check_integer("implementation.T", getattr(implementation, "T", None), 1)
    if not callable(getattr(implementation, "betas", None)):
        raise TypeError(f"implementation must have a method betas(), got {describe(implementation)}")
    name = f"{type(implementation).__name__}, T = {T}, {dtype}"
    names = ("betas: T numbers in (0, 1)", "M2 (20)")
    try:
        betas = _checked_betas(implementation, T)
    except Exception as error:  # as above
        text = f"{type(error).__name__}: {error}; nothing else can be checked"
        return Report(name, (Row(*names, np.nan, np.nan, "FAILS", text),))
    subject = Subject(implementation, Truth.of(betas), dtype, seed, chosen_times(T, seed))
    first = Row(*names, 0.0, 0.0, "holds")
    return Report(name, (first, *(row for check in CHECKS for row in check.rows(subject))))


def _checked_betas(implementation: Implementation, T: int) -> Values:
    betas = as_values(implementation.betas(), "betas()")
    if betas.shape == (T + 1,) and betas[0] in (0.0, 1.0):
        raise ValueError(f"betas() must have T = {T} entries, without one for t = 0, got {T + 1}")
    if betas.shape != (T,):
        raise ValueError(f"betas() must have shape ({T},), got {betas.shape}")
    inside = (betas > 0.0) & (betas < 1.0)
    if not inside.all():
        t = 1 + int(np.argmin(inside))
        raise ValueError(f"betas() must lie strictly between 0 and 1, got {betas[t - 1]:g} for t = {t}")
    return betas
