"""Checks of what is trained: the weight of a squared error in the bound."""

import numpy as np

from ddpm_np.testing._comparison import Comparison
from ddpm_np.testing._rows import Check, Identity
from ddpm_np.testing._subject import Subject
from ddpm_np.testing._variances import closest, usual_variances, variance_choices


def eps_loss_weight(subject: Subject) -> list[Comparison]:
    """The weight is (shift of the mean per eps)^2 / (2 sigma_t^2)."""
    truth, choices = subject.truth, variance_choices(subject)
    first = 1 if all(table[1] > 1e-9 * truth.beta[1] for table in choices.values()) else 2
    t = subject.times[subject.times >= first]
    measured = subject.eps_loss_weights(t)
    weights = {name: truth.mean_eps[t] ** 2 / (2.0 * table[t]) for name, table in choices.items()}
    name = closest(weights, measured)
    sigma2 = choices[name][t]
    table = np.zeros(truth.T + 1)
    table[first:] = truth.mean_eps[first:] ** 2 / (2.0 * choices[name][first:])
    printed = weights[name] * truth.alpha[t]
    misprint = 1.0 / (2.0 * sigma2 * truth.variance[t] * np.maximum(truth.alpha_bar[t], 1e-300))
    slips = {
        "(35) as it is printed: alpha[t] is missing in the denominator (E1)": printed,
        "1 / (2 sigma^2 (1 - alpha_bar[t]) alpha_bar[t]), a misprint (E10)": misprint,
        "1: the weight of L_simple, not of the bound": np.ones(len(t)),
        "1 / (2 sigma_t^2): the weight of the mean, not of eps": 1.0 / (2.0 * sigma2),
        **{
            f"sigma_t^2 is {key} here, elsewhere {name}": truth.mean_eps[t] ** 2 / (2.0 * usual[t])
            for key, usual in usual_variances(truth).items()
        },
    }
    note = f"sigma_t^2 is {name}"
    return [Comparison(t, measured, weights[name], table=table, candidates=slips, note=note)]


CHECKS = (
    Check(
        ("eps_loss_weight",),
        eps_loss_weight,
        (Identity("eps_loss_weight: squared shift / 2 sigma_t^2", "M2 (35)"),),
    ),
)
