"""A network that is known exactly, and the sampling loop around it.

It is the exact denoiser of x_0 ~ N(MEAN, VARIANCE I), which is affine in x_t, so that
everything that follows from it is known.
"""

from collections.abc import Callable

import numpy as np

from ddpm_np._checks import check_integer
from ddpm_np.testing._compare import Comparison
from ddpm_np.testing._measure import (
    P,
    Subject,
    as_values,
    closest,
    usual_variances,
)
from ddpm_np.testing._truth import Truth, Values

MEAN, VARIANCE = 0.3, 0.25
Predict = Callable[[Values, int], Values]


def denoiser(truth: Truth) -> tuple[Values, Values]:
    """E[eps | x_t] = gain[t] x_t + offset[t] for x_0 ~ N(MEAN, VARIANCE I)."""
    gain = truth.sigma / (truth.alpha_bar * VARIANCE + truth.variance)
    return gain, -gain * truth.slope * MEAN


def recording_predictor(truth: Truth) -> tuple[Predict, dict[int, Values]]:
    """Return the exact denoiser, and where it keeps what it was asked."""
    gain, offset = denoiser(truth)
    asked: dict[int, Values] = {}

    def predict(x_t: Values, t: int) -> Values:
        t = check_integer("the t that predict is asked for", t, 1, truth.T)
        x = as_values(x_t, "the x_t that predict is asked for")
        asked[t] = x
        result: Values = gain[t] * x + offset[t]
        return result

    return predict, asked


def sample(s: Subject) -> list[Comparison]:
    """The loop from T to 1, beside the same loop over composed tables."""
    truth, T = s.truth, s.truth.T
    gain, offset = denoiser(truth)
    x_T, noise = s.rng(1).standard_normal(P.shape), s.rng(2).standard_normal((T + 1, *P.shape))

    def loop(sigma: Values, z: Values, last: float = 0.0) -> Values:
        x = x_T
        for t in range(T, 0, -1):
            x = truth.model_mean(x, t, gain[t] * x + offset[t])
            x = x + sigma[t] * z[t] * (last if t == 1 else 1.0)
        return x[None]

    predict, _ = recording_predictor(truth)
    measured = s.array("sample", predict, x_T, noise)[None]
    choices = s.variance_choices()
    name = closest({key: loop(np.sqrt(table), noise) for key, table in choices.items()}, measured)
    sigma = np.sqrt(choices[name])
    usual = {f"sigma_t^2 is {k}": loop(np.sqrt(v), noise) for k, v in usual_variances(truth).items()}
    slips = {
        "noise is added at t = 1 too (E9)": loop(sigma, noise, 1.0),
        "sigma_t^2 multiplies z: its square root is missing": loop(sigma**2, noise),
        "noise[t - 1] is used for the step from t": loop(sigma, np.roll(noise, 1, axis=0)),
        "no noise is added": loop(0.0 * sigma, noise),
        **usual,
    }
    expected = loop(sigma, noise)
    scale = np.max(np.abs(expected)) * np.ones_like(expected)
    hint = "if reverse_step holds, the loop skips a step, counts from 0, or clips"
    note = f"sigma_t^2 is {name}"
    return [
        Comparison(
            np.array([(T + 1) // 2]),
            measured,
            expected,
            scale=scale,
            loss=8.0,
            candidates=slips,
            hint=hint,
            note=note,
        )
    ]
