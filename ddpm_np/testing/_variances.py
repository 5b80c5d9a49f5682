"""Which reverse variances an implementation uses: tables of sigma_t^2 by name, length T + 1.

What it says of them itself is known; else they are guessed from what it does.
"""

from collections.abc import Mapping

import numpy as np

from ddpm_np._arrays import Table
from ddpm_np.testing._subject import Subject
from ddpm_np.testing._truth import LARGEST_IMPRECISION, TimeArray, Truth
from ddpm_np.testing.protocol import Values

OWN = "reverse_variance(t)"
BETWEEN = "between beta_tilde[t] and beta[t]"


def usual_variances(truth: Truth) -> dict[str, Table]:
    """The usual choices: beta_tilde (with beta_tilde[2] at t = 1), beta, 1."""
    posterior = truth.posterior_variance.copy()
    posterior[1] = posterior[2] if truth.T > 1 else truth.beta[1]
    return {"beta_tilde[t] (25)": posterior, "beta[t]": truth.beta, "1": np.ones(truth.T + 1)}


def variance_choices(subject: Subject) -> dict[str, Table]:
    """Tables to try: the implementation's own, or the usual ones if it does not say."""
    own = subject.own_variances
    return usual_variances(subject.truth) if own is None else {OWN: own}


def decoder_variances(subject: Subject) -> dict[str, float]:
    """Values of sigma_1^2 to try: its own; where that is none, or 0, any of the usual ones.

    1e-20 is what the logarithm of beta_tilde[1] = 0 is often limited to.
    """
    own = subject.own_variances
    if own is not None and own[1] > 1e-9 * subject.truth.beta[1]:
        return {f"{OWN} at t = 1": float(own[1])}
    usual = usual_variances(subject.truth)
    names = {"beta_tilde[2]": "beta_tilde[t] (25)", "beta[1]": "beta[t]", "1": "1"}
    return {**{text: float(usual[name][1]) for text, name in names.items()}, "1e-20": 1e-20}


def allowed_variances(truth: Truth, t: TimeArray, values: Values) -> tuple[str, Values]:
    """The choice that values at these times come closest to, and what it is there.

    Between beta_tilde and beta any value will do. At t = 1, where a sampler adds no noise and
    beta_tilde is 0, so will any up to the larger of beta[1] and beta_tilde[2].
    """
    usual = {name: table[t] for name, table in usual_variances(truth).items()}
    later = t >= 2
    judged = later if later.any() else t >= 1
    name = closest({key: table[judged] for key, table in usual.items()}, values[judged])
    expected = usual[name].copy()
    if not np.all(np.abs(values[later] / expected[later] - 1.0) <= LARGEST_IMPRECISION):
        name = BETWEEN
        expected = np.clip(values, truth.posterior_variance[t], truth.beta[t])
    if name != "1":
        expected[~later] = np.clip(values[~later], 0.0, most_at_1(truth))
    return name, expected


def most_at_1(truth: Truth) -> float:
    """The largest sigma_1^2 that is allowed, but for 1."""
    return float(max(table[1] for key, table in usual_variances(truth).items() if key != "1"))


def closest(choices: Mapping[str, Values], measured: Values) -> str:
    """The name of what comes closest to a measurement."""
    if measured.size == 0:
        return next(iter(choices))
    with np.errstate(all="ignore"):
        errors = {
            name: np.max(np.abs(measured - values) / np.maximum(np.abs(values), 1e-300))
            for name, values in choices.items()
        }
    return min(errors, key=lambda name: float(np.nan_to_num(errors[name], nan=np.inf)))
