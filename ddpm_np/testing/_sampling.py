"""Checks of whole sampling loops, around a network that is known exactly."""

import numpy as np

from ddpm_np._arrays import Table
from ddpm_np.testing._affine_model import denoiser, recording_predictor
from ddpm_np.testing._comparison import Comparison
from ddpm_np.testing._probes import PROBE
from ddpm_np.testing._rows import Check, Identity
from ddpm_np.testing._subject import Subject
from ddpm_np.testing._truth import Truth
from ddpm_np.testing._variances import closest, usual_variances, variance_choices
from ddpm_np.testing.protocol import Values


def sample(subject: Subject) -> list[Comparison]:
    """The loop from T to 1, beside the same loop over composed tables."""
    truth, T = subject.truth, subject.truth.T
    x_T = subject.rng(1).standard_normal(PROBE.shape)
    noise = subject.rng(2).standard_normal((T + 1, *PROBE.shape))

    def loop(sigma: Table, z: Values, last: float = 0.0) -> Values:
        return _ancestral_loop(truth, x_T, sigma, z, last)[None]

    predict, _ = recording_predictor(truth)
    measured = subject.sample(predict, x_T, noise)[None]
    choices = {name: np.sqrt(table) for name, table in variance_choices(subject).items()}
    usual = {name: np.sqrt(table) for name, table in usual_variances(truth).items()}
    name = closest({key: loop(sigma, noise) for key, sigma in choices.items()}, measured)
    sigma = choices[name]
    expected = loop(sigma, noise)
    slips = {
        "noise is added at t = 1 too (E9)": loop(sigma, noise, 1.0),
        "sigma_t^2 multiplies z: its square root is missing": loop(sigma**2, noise),
        "noise[t - 1] is used for the step from t": loop(sigma, np.roll(noise, 1, axis=0)),
        "no noise is added": loop(0.0 * sigma, noise),
        **{f"sigma_t^2 is {key}": loop(sigma, noise) for key, sigma in usual.items()},
    }
    return [
        Comparison(
            np.array([(T + 1) // 2]),
            measured,
            expected,
            scale=np.max(np.abs(expected)) * np.ones_like(expected),
            loss=8.0,
            candidates=slips,
            hint="if reverse_step holds, the loop skips a step, counts from 0, or clips",
            note=f"sigma_t^2 is {name}",
        )
    ]


def _ancestral_loop(truth: Truth, x_T: Values, sigma: Table, z: Values, last: float) -> Values:
    """x_0 by Ho's Algorithm 2; at t = 1 the noise is multiplied by ``last``."""
    gain, offset = denoiser(truth)
    x = x_T
    for t in range(truth.T, 0, -1):
        x = truth.model_mean(x, t, gain[t] * x + offset[t])
        x = x + sigma[t] * z[t] * (last if t == 1 else 1.0)
    return x


CHECKS = (Check(("sample",), sample, (Identity("sample: the whole loop", "Algorithm 2"),)),)
