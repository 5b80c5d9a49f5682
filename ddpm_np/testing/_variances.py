"""Which reverse variances an implementation uses: tables of sigma_t^2 by name, length T + 1."""

from collections.abc import Mapping

import numpy as np

from ddpm_np._arrays import Table
from ddpm_np.testing._subject import Subject
from ddpm_np.testing._truth import Truth
from ddpm_np.testing.protocol import Values


def usual_variances(truth: Truth) -> dict[str, Table]:
    """The usual choices: beta_tilde (with beta_tilde[2] at t = 1), beta, 1."""
    posterior = truth.posterior_variance.copy()
    posterior[1] = posterior[2] if truth.T > 1 else truth.beta[1]
    return {"beta_tilde[t] (25)": posterior, "beta[t]": truth.beta, "1": np.ones(truth.T + 1)}


def variance_choices(subject: Subject) -> dict[str, Table]:
    """Tables to try: the implementation's own, or the usual ones if it does not say."""
    if subject.offers("reverse_variance"):
        return {"reverse_variance(t)": subject.reverse_variances()}
    return usual_variances(subject.truth)


def decoder_variance_choices(subject: Subject) -> dict[str, Table]:
    """Tables with sigma_1^2 > 0: where a sampler's is 0, any usual one may stand in for it."""
    result = {}
    for name, table in variance_choices(subject).items():
        if table[1] > 1e-9 * subject.truth.beta[1]:
            result[name] = table
            continue
        for other, usual in usual_variances(subject.truth).items():
            result[f"{name}, but at t = 1 {other}"] = np.concatenate([[0.0], usual[1:2], table[2:]])
    return result


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
