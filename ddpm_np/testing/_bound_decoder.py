"""The last term of the bound, log p(x_0 | x_1), and which sigma_1^2 is in it."""

import numpy as np

from ddpm_np.testing._affine_model import model_steps
from ddpm_np.testing._comparison import Comparison
from ddpm_np.testing._quadrature import log_normal
from ddpm_np.testing._subject import Subject
from ddpm_np.testing._truth import Truth
from ddpm_np.testing._units import in_other_units
from ddpm_np.testing._variances import closest, decoder_variances, usual_variances
from ddpm_np.testing.protocol import Values


def reconstruction(subject: Subject, x0: Values, x_1: Values, L_0: Values) -> Comparison | None:
    """L_0 of a Gaussian decoder; None if another is announced."""
    if subject.claims.decoder != "gaussian":
        return None
    truth, d = subject.truth, x0.shape[1]
    slope, offset = model_steps(truth)
    mean = slope[1] * x_1 + offset[1]
    squares = np.sum((x0 - mean) ** 2, axis=1)[None]

    def score(variance: float) -> Values:
        return log_normal(x0, mean, variance).sum(axis=1)[None]

    choices = with_implied(truth, decoder_variances(subject), squares, L_0[None])
    name = closest({key: score(value) for key, value in choices.items()}, L_0[None])
    variance, is_guess = choices[name], len(choices) > 1
    slips: dict[str, Values] = {}
    for key, value in choices.items():
        given = f" (it is {key})" if is_guess else ""
        own_slips = {
            "the sign is wrong: L_0 is a log-density": -score(value),
            "the standard deviation is taken for the variance": score(float(np.sqrt(value))),
            "the variance is squared": score(value**2),
            "the squared error alone: log(2 pi sigma_1^2) is left out": -squares / (2.0 * value),
            "log(2 pi) is left out": score(value) + 0.5 * d * np.log(2.0 * np.pi),
            "log(2 pi sigma_1^2) is counted once, not per dimension": score(value)
            + 0.5 * (d - 1) * np.log(2.0 * np.pi * value),
            "||x0 - mean||^2 / sigma_1^2: the 2 is missing": score(value) - squares / (2.0 * value),
            **in_other_units(score(value), d),
        }
        slips |= {f"{text}{given}": values for text, values in own_slips.items()}
    if not is_guess:
        slips |= {
            f"the variance is {key} at t = 1, not {name}": score(float(table[1]))
            for key, table in usual_variances(truth).items()
        }
    if not is_guess and subject.own_variances is not None:
        slips["the variance is reverse_variance(T), not that of t = 1"] = score(
            float(subject.own_variances[-1])
        )
    return Comparison(
        np.array([1]),
        L_0[None],
        score(variance),
        scale=squares / variance + d * (1.0 + abs(np.log(variance))),
        loss=1.0 + float(np.max(np.abs(mean))) / np.sqrt(variance) * np.ones(1),
        candidates=slips,
        guesses={key: score(value) for key, value in choices.items()} if is_guess else {},
        hint="L_0 = log N(x0; model mean at t = 1, sigma_1^2 I), summed over dimensions",
        note=f"the variance is {name}",
    )


def with_implied(
    truth: Truth, choices: dict[str, float], squares: Values, L_0: Values
) -> dict[str, float]:
    """With what the slope of L_0 in the squared errors says, if that lies between two choices."""
    tilde, beta = (float(table[1]) for table in list(usual_variances(truth).values())[:2])
    square = squares - squares.mean()
    slope = float(np.sum(square * L_0) / np.sum(square**2))
    implied = -0.5 / slope if slope < 0.0 else 0.0
    is_free = len(choices) > 1 and min(tilde, beta) < implied < max(tilde, beta)
    return {**choices, "between beta_tilde[2] and beta[1]": implied} if is_free else choices
