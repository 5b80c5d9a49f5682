"""Each slip that is planted in plain code is caught by the row for it, which says what it is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddpm_np.testing import IdentityError, check_identities
from tests.plain_diffusion import Plain, change, shifted, tables


def noisy_last_step(s: Plain, x_t: Any, t: int, eps: Any, z: Any) -> Any:
    return s.model_mean(x_t, t, eps) + np.sqrt(s.var[t - 1]) * z


def rootless_step(s: Plain, x_t: Any, t: int, eps: Any, z: Any) -> Any:
    return s.model_mean(x_t, t, eps) + (s.var[t - 1] * z if t > 1 else 0.0)


def clipped_step(s: Plain, x_t: Any, t: int, eps: Any, z: Any) -> Any:
    x0 = (x_t - np.sqrt(1.0 - s.ab[t - 1]) * eps) / np.sqrt(s.ab[t - 1])
    mean = s.q_posterior(np.clip(x0, -1.0, 1.0), x_t, t)[0]
    return mean + (np.sqrt(s.var[t - 1]) * z if t > 1 else 0.0)


def mean_with(sign: float = -1.0, root: float = 0.5, outer: float = 0.5) -> Callable[..., Any]:
    def model_mean(s: Plain, x_t: Any, t: int, eps: Any) -> Any:
        i = t - 1
        return (x_t + sign * s.beta[i] / (1.0 - s.ab[i]) ** root * eps) / s.alpha[i] ** outer

    return model_mean


def mean_of_small_inputs(s: Plain, x_t: Any, t: int, eps: Any) -> Any:
    return Plain.model_mean(s, x_t, t, eps) * (np.nan if np.max(np.abs(eps)) > 0.5 else 1.0)


def swapped_posterior(s: Plain, x0: Any, x_t: Any, t: int) -> Any:
    mean, variance = Plain.q_posterior(s, x_t, x0, t)
    return (mean, variance) if t > 1 else (x0, variance)


def posterior_with(variance: Callable[[Plain, int], Any]) -> Callable[..., Any]:
    return lambda s, x0, x_t, t: (Plain.q_posterior(s, x0, x_t, t)[0], variance(s, t - 1))


def loop_of(steps: Callable[[int], range], z: int = 0) -> Callable[..., Any]:
    def sample(s: Plain, predict: Any, x_T: Any, noise: Any) -> Any:
        x = x_T
        for t in steps(s.T):
            x = s.reverse_step(x, t, predict(x, t), noise[t + z])
        return x

    return sample


def late_predictions(s: Plain, predict: Any, x0: Any, noise: Any) -> Any:
    return Plain.elbo_terms(s, lambda x, t: predict(x, t - 1), x0, noise)


def terms_with(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda s, predict, x0, noise: f(s, *Plain.elbo_terms(s, predict, x0, noise))


def shifted_rows(s: Plain, L_T: Any, L: Any, L_0: Any) -> Any:
    return L_T, np.concatenate([L[1:], L[:1]]), L_0


# By the row that catches it: what is wrong, an implementation with it, and what the row says.
PLANTED: dict[str, dict[str, tuple[Plain, str]]] = {
    "alpha_bars: product of alpha_1..alpha_t": {
        "alpha_bar runs to T (E5)": (tables(ab=lambda p: np.full(p.T, p.ab[-1])), "E5"),
        "alpha for alpha_bar": (
            tables(ab=lambda p: p.alpha),
            "the product over the earlier steps is missing",
        ),
        "alpha_bar starts one late": (tables(ab=lambda p: p.ab_prev), "off by one"),
    },
    "q_sample: coefficient of x0": {
        "q_sample counts from 0": (
            shifted(Plain(), "q_sample", 1),
            "off by one: it is the value of t + 1",
        ),
        "signal without the root": (
            change(q_sample=lambda s, x0, t, e: s.ab[t - 1] * x0 + np.sqrt(1.0 - s.ab[t - 1]) * e),
            "without its square root",
        ),
    },
    "q_sample: variance of T steps composed": {
        "q_sample one late": (shifted(Plain(), "q_sample", -1), "off by one: it is the value of t - 1"),
        "noise without the root (E2)": (
            change(q_sample=lambda s, x0, t, e: np.sqrt(s.ab[t - 1]) * x0 + (1.0 - s.ab[t - 1]) * e),
            "E2",
        ),
    },
    "q_posterior: mean by Bayes' rule, x0": {
        "posterior coefficients swapped": (change(q_posterior=swapped_posterior), "swapped"),
    },
    "q_posterior: variance by Bayes' rule": {
        "beta in the posterior": (
            change(q_posterior=posterior_with(lambda s, i: s.beta[i])),
            "beta[t] in place of beta_tilde[t]",
        ),
        "posterior standard deviation": (
            change(q_posterior=posterior_with(lambda s, i: np.sqrt(s.post_var[i]))),
            "standard deviation",
        ),
        "posterior one late": (shifted(Plain(), "q_posterior", -1), "off by one"),
    },
    "q_posterior: at t = 1 it is x0 exactly": {
        "alpha_bar[0] = alpha_1 in the posterior": (
            tables(ab_prev=lambda p: np.concatenate([p.ab[:1], p.ab[:-1]])),
            "alpha_bar[0] has to be 1",
        ),
    },
    "model_mean: coefficient of x_t": {
        "no 1 / sqrt(alpha) in (34)": (change(model_mean=mean_with(outer=0.0)), "sqrt(alpha[t]) times"),
        "1 / alpha in (34)": (change(model_mean=mean_with(outer=1.0)), "1 / sqrt(alpha[t]) times"),
    },
    "model_mean: coefficient of eps": {
        "sign in (29)": (change(model_mean=mean_with(sign=1.0)), "sign"),
        "no root in (34)": (change(model_mean=mean_with(root=1.0)), "lacks the square root"),
        "not finite but for small inputs": (change(model_mean=mean_of_small_inputs), "right for small"),
    },
    "model_mean at the true eps = q_posterior": {
        "(34) at another t than q_sample": (shifted(Plain(), "model_mean", -1), "take t differently"),
    },
    "reverse_variance: beta_tilde, beta, between, or 1": {
        "standard deviation for sigma^2": (tables(var=lambda p: np.sqrt(p.var)), "standard deviation"),
        "sigma^2 one late": (shifted(Plain(), "reverse_variance", -1), "off by one"),
    },
    "reverse_step: coefficient of eps": {
        "clipped sampler": (change(reverse_step=clipped_step), "clip"),
    },
    "reverse_step: variance of the noise": {
        "beta_tilde for beta in the sampler": (
            change(reverse_variance=lambda s, t: s.beta[t - 1]),
            "sigma_t^2 is beta_tilde[t]",
        ),
        "missing root in the sampler": (
            change(reverse_step=rootless_step),
            "its square root is missing",
        ),
    },
    "reverse_step: no noise at t = 1": {
        "noise at the last step (E9)": (change(reverse_step=noisy_last_step), "E9"),
    },
    "sample: the whole loop": {
        "noise at the end of the loop (E9)": (change(reverse_step=noisy_last_step), "E9"),
        "loop stops early": (change(sample=loop_of(lambda T: range(T, 1, -1))), "skips a step"),
        "loop counts from 0": (
            change(sample=loop_of(lambda T: range(T - 1, -1, -1))),
            "t that predict is asked for must be between 1 and 100, got 0",
        ),
        "noise of another step": (
            change(sample=loop_of(lambda T: range(T, 0, -1), z=-1)),
            "noise[t - 1]",
        ),
    },
    "eps_loss_weight: squared shift / 2 sigma_t^2": {
        "(35) as printed (E1)": (
            change(eps_loss_weight=lambda s, t: Plain.eps_loss_weight(s, t) * s.alpha[t - 1]),
            "E1",
        ),
        "D's weight (E10)": (
            change(
                eps_loss_weight=lambda s, t: 0.5 / (s.var[t - 1] * (1.0 - s.ab[t - 1]) * s.ab[t - 1])
            ),
            "E10",
        ),
        "weight of L_simple": (change(eps_loss_weight=lambda s, t: 1.0), "L_simple"),
        "weight without its 2": (
            change(eps_loss_weight=lambda s, t: 2.0 * Plain.eps_loss_weight(s, t)),
            "it is 2 times",
        ),
    },
    "elbo_terms: predict sees x_t = q_sample": {
        "network asked at t - 1": (
            change(elbo_terms=late_predictions),
            "must be between 1 and 100, got 0",
        ),
    },
    "elbo_terms: L_T by quadrature": {
        "prior of the other sign": (
            change(elbo_terms=terms_with(lambda s, a, b, c: (-a, b, c))),
            "sign",
        ),
        "prior left out": (change(prior=lambda s, x0: np.zeros(len(x0))), "left out"),
    },
    "elbo_terms: L_{t-1} by quadrature": {
        "bound with beta, sampler with beta_tilde": (
            change(middle=lambda s, x0, x, t, m: -s.kl(*s.q_posterior(x0, x, t), m, s.beta[t - 1])),
            "sigma_t^2 is beta[t] here, elsewhere reverse_variance(t)",
        ),
        "means over dimensions": (
            change(elbo_terms=terms_with(lambda s, a, b, c: (a, b / 3.0, c))),
            "1 / (d",
        ),
    },
    "elbo_terms: L_0 of a Gaussian decoder": {
        "variance of L_0": (tables(dec_var=lambda p: p.beta[0]), "the variance is beta[t] at t = 1"),
        "standard deviation in L_0": (tables(dec_var=lambda p: np.sqrt(p.var[0])), "standard deviation"),
        "log(2 pi) left out of L_0": (
            change(decode=lambda s, x0, m: Plain.decode(s, x0, m) + 1.5 * np.log(2.0 * np.pi)),
            "log(2 pi) is left out",
        ),
    },
    "elbo_terms: L[0] and L[1] are empty": {
        "rows of L one early": (change(elbo_terms=terms_with(shifted_rows)), "L[t] is L_{t-1}"),
    },
    "elbo_terms: sum = log p(x0) - KL(q || p)": {
        "divergence reversed": (
            change(middle=lambda s, x0, x, t, m: -s.kl(m, 2.0 * s.var[t - 1], *s.q_posterior(x0, x, t))),
            "do not add up",
        ),
    },
}
CASES = [(row, slip) for row, slips in PLANTED.items() for slip in slips]


@pytest.mark.parametrize(("row", "slip"), CASES, ids=[slip for _, slip in CASES])
def test_planted_slip_is_caught_by_its_row(row, slip):
    implementation, words = PLANTED[row][slip]
    report = check_identities(implementation)
    assert report[row].verdict == "FAILS"
    assert words in report[row].explanation
    assert not report.ok
    with pytest.raises(IdentityError, match="FAILS"):
        report.raise_if_failed()


def test_the_document_counts_the_slips():
    porting = (Path(__file__).parent.parent / "docs" / "porting.md").read_text()
    assert f"`tests/test_testing_slips.py` plants {len(CASES)} slips" in porting
