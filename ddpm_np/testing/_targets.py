"""What a network may be trained to predict for x_t = slope x_0 + sigma eps: four targets, and slips."""

import numpy as np

from ddpm_np.targets import Target
from ddpm_np.testing._truth import TimeArray, Truth
from ddpm_np.testing.protocol import Values


def targets(truth: Truth, t: TimeArray, x0: Values, eps: Values) -> dict[Target, Values]:
    """The four targets; t broadcasts against x0 and eps."""
    slope, sigma = truth.slope[t], truth.sigma[t]
    return {
        "eps": eps,
        "x0": x0,
        "v": slope * eps - sigma * x0,
        "mean": truth.c_xt[t] * (slope * x0 + sigma * eps) + truth.c_x0[t] * x0,
    }


def slips(truth: Truth, target: Target, t: TimeArray, x0: Values, eps: Values) -> dict[str, Values]:
    """What else was meant to be this target, by the sentence that describes it."""
    slope, sigma, before = truth.slope[t], truth.sigma[t], t - 1
    x_t = slope * x0 + sigma * eps
    named = {
        f"the target is {other}, not {target}": values
        for other, values in targets(truth, t, x0, eps).items()
        if other != target
    }
    return {
        **named,
        **{f"{text}, with the sign reversed": -values for text, values in named.items()},
        "the target is x_t itself": x_t,
        "the target is sqrt(1 - alpha_bar[t]) eps: the noise as it is in x_t, not before": sigma * eps,
        "the target is the score, -eps / sqrt(1 - alpha_bar[t])": -eps / sigma,
        "the target is x_t - x0": x_t - x0,
        "the target is eps - x0, the velocity of a straight line": eps - x0,
        "the target is x0 - eps, the velocity of a straight line": x0 - eps,
        "the coefficients of v are swapped": sigma * eps - slope * x0,
        "v with a plus for its minus": slope * eps + sigma * x0,
        "the coefficients of v lack their square roots": slope**2 * eps - sigma**2 * x0,
        "v of t - 1": truth.slope[before] * eps - truth.sigma[before] * x0,
        "v of t + 1": _v_after(truth, t, x0, eps),
        "the coefficients of x_t and x0 in the posterior mean are swapped": truth.c_x0[t] * x_t
        + truth.c_xt[t] * x0,
        "x_{t-1} made from x0 with the same noise, not the posterior mean": truth.slope[before] * x0
        + truth.sigma[before] * eps,
        "x_t / sqrt(alpha[t]): the posterior mean without its eps": x_t / np.sqrt(truth.alpha[t]),
    }


def _v_after(truth: Truth, t: TimeArray, x0: Values, eps: Values) -> Values:
    after = np.minimum(t + 1, truth.T)
    return truth.slope[after] * eps - truth.sigma[after] * x0
