"""Weights of the bound, learned variances and single steps: right ones hold, slips are named."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ddpm_np.testing import check_identities
from tests.plain_diffusion import Plain

T = 100


class More(Plain):
    """Plain code with the weights of all targets, a learned variance and a single step."""

    def mean_loss_weight(self, t):
        return 1.0 / (2.0 * self.var[t - 1])

    def x0_loss_weight(self, t):
        i = t - 1
        return self.ab_prev[i] * self.beta[i] ** 2 / (2.0 * self.var[i] * (1.0 - self.ab[i]) ** 2)

    def v_loss_weight(self, t):
        return self.ab[t - 1] * self.eps_loss_weight(t)

    def learned_variance(self, v, t):
        low = self.post_var[max(t - 1, 1)]
        return np.exp(v * np.log(self.beta[t - 1]) + (1.0 - v) * np.log(low))

    def q_step(self, x_prev, t, noise):
        return np.sqrt(self.alpha[t - 1]) * x_prev + np.sqrt(self.beta[t - 1]) * noise


def row(name: str, seed: int = 0, **methods: Callable[..., Any]) -> Any:
    """One row; whatever else takes time is left out."""
    rest = dict.fromkeys(("sample", "elbo_terms", "reverse_step", "q_posterior", "model_mean"))
    implementation = type("Changed", (More,), {**rest, **methods})(T)
    return check_identities(implementation, seed=seed)[name]


def weight_row(target: str, method: Callable[..., Any], seed: int = 0) -> Any:
    name = f"{target}_loss_weight"
    return row(f"{name}: squared shift / 2 sigma_t^2", seed, **{name: method})


def test_right_formulas_hold():
    for seed in range(20):
        report = check_identities(More(T), seed=seed)
        assert {row.verdict for row in report.rows} - {"not offered"} == {"holds"}, str(report)


def snr(s, t):
    return s.ab[t - 1] / (1.0 - s.ab[t - 1])


def bound(target: str, sigma2: Callable[..., Any] | None = None) -> Callable[..., Any]:
    def method(s, t):
        own = getattr(More, f"{target}_loss_weight")(s, t)
        return own if sigma2 is None else own * s.var[t - 1] / sigma2(s, t)

    return method


WRONG_WEIGHTS = {
    "mean's for eps": ("eps", bound("mean"), "the weight of the mean, not of eps"),
    "x0's for eps": ("eps", bound("x0"), "the weight of x0, not of eps"),
    "eps's for x0": ("x0", bound("eps"), "the weight of eps, not of x0"),
    "v's for x0": ("x0", bound("v"), "the weight of v, not of x0"),
    "eps's for v": ("v", bound("eps"), "the weight of eps, not of v"),
    "eps's for the mean": ("mean", bound("eps"), "the weight of eps, not of the mean"),
    "mean's, beta, for x0": (
        "x0",
        bound("mean", lambda s, t: s.beta[t - 1]),
        "the weight of the mean, not of x0, and sigma_t^2 is beta[t] in it",
    ),
    "beta here": ("x0", bound("x0", lambda s, t: s.beta[t - 1]), "sigma_t^2 is beta[t] here"),
    "1": ("v", lambda s, t: 1.0, "1: the weight of L_simple"),
    "doubled": ("v", lambda s, t: 2.0 * More.v_loss_weight(s, t), "2"),
    "times 0.7": ("mean", lambda s, t: 0.7 * More.mean_loss_weight(s, t), "0.7 times"),
    "t - 1": ("x0", lambda s, t: More.x0_loss_weight(s, max(t - 1, 1)), "t - 1"),
    "at t = 2 alone": (
        "eps",
        lambda s, t: More.eps_loss_weight(s, t) * (1.5 if t == 2 else 1.0),
        "right but at t = 2 alone",
    ),
    "x0's min-SNR for eps": (
        "eps",
        lambda s, t: min(snr(s, t), 5.0),
        "the weight of x0, not of eps: min-SNR with gamma = 5",
    ),
    "negative": ("mean", lambda s, t: -(1.0 + t), "has to be positive"),
}


@pytest.mark.parametrize("slip", WRONG_WEIGHTS)
def test_wrong_weights_are_named(slip):
    target, method, words = WRONG_WEIGHTS[slip]
    for seed in range(2):
        found = weight_row(target, method, seed)
        assert found.verdict == "FAILS"
        assert words in found.explanation


@pytest.mark.parametrize(
    ("target", "method", "words"),
    [
        ("eps", lambda s, t: min(snr(s, t), 5.0) / snr(s, t), "min-SNR with gamma = 5; not the bound's"),
        ("x0", lambda s, t: max(snr(s, t), 1.0), "truncated SNR, max(SNR, 1); not the bound's"),
        ("eps", lambda s, t: 1.0 / (1.0 + snr(s, t)), "P2, (k + SNR)^-gamma with k = 1, gamma = 1"),
        ("v", lambda s, t: 1.0 + np.sin(t), "none of the known weights, and not the bound's"),
    ],
)
def test_other_weights_are_remarks(target, method, words):
    for seed in range(2):
        found = weight_row(target, method, seed)
        assert found.verdict == "remark"
        assert words in found.explanation


AT_1 = "learned_variance: beta[t] at v = 1"
AT_0 = "learned_variance: beta_tilde[t] at v = 0"
BETWEEN = "learned_variance: geometric mean between"
FIRST = "learned_variance: beta_tilde[2] at t = 1, v = 0"


def lower(s, t):
    return s.post_var[max(t - 1, 1)]


def floored(s, v, t):
    return np.exp(v * np.log(s.beta[t - 1]) + (1.0 - v) * np.log(max(s.post_var[t - 1], 1e-20)))


WRONG_VARIANCES = {
    "arithmetic": (
        BETWEEN,
        lambda s, v, t: v * s.beta[t - 1] + (1.0 - v) * lower(s, t),
        "the arithmetic mean",
    ),
    "swapped": (AT_1, lambda s, v, t: More.learned_variance(s, 1.0 - v, t), "swapped ends"),
    "swapped, seen between": (
        BETWEEN,
        lambda s, v, t: More.learned_variance(s, 1.0 - v, t),
        "the ends are swapped",
    ),
    "symmetric": (AT_0, lambda s, v, t: More.learned_variance(s, 0.5 * (v + 1.0), t), "[-1, 1]"),
    "logarithm": (BETWEEN, lambda s, v, t: np.log(More.learned_variance(s, v, t)), "the logarithm"),
    "standard deviation": (
        BETWEEN,
        lambda s, v, t: np.sqrt(More.learned_variance(s, v, t)),
        "the standard deviation",
    ),
    "beta always": (BETWEEN, lambda s, v, t: s.beta[t - 1], "beta[t] for every v"),
    "beta always, seen at the end": (AT_0, lambda s, v, t: s.beta[t - 1], "v is left out"),
    "beta_tilde always": (BETWEEN, lambda s, v, t: lower(s, t), "beta_tilde[t] for every v"),
    "0 at t = 1": (
        FIRST,
        lambda s, v, t: s.beta[t - 1] ** v * s.post_var[t - 1] ** (1.0 - v),
        "beta_tilde[1] has no logarithm",
    ),
    "beta at t = 1": (
        FIRST,
        lambda s, v, t: More.learned_variance(s, v, t) if t > 1 else s.beta[0],
        "the ends are swapped",
    ),
}


@pytest.mark.parametrize("slip", WRONG_VARIANCES)
def test_wrong_learned_variances_are_named(slip):
    name, method, words = WRONG_VARIANCES[slip]
    for seed in range(2):
        found = row(name, seed, learned_variance=method)
        assert found.verdict == "FAILS"
        assert words in found.explanation


def test_a_floor_at_t_1_is_a_remark():
    found = row(FIRST, learned_variance=floored)
    assert found.verdict == "remark"
    assert "1e-20 at t = 1" in found.explanation
    assert row(BETWEEN, learned_variance=floored).verdict == "holds"


OF_X = "q_step: coefficient of x_{t-1}"
OF_NOISE = "q_step: variance of the noise"


def step_with(of_x: Callable[..., Any], of_noise: Callable[..., Any]) -> Callable[..., Any]:
    return lambda s, x, t, e: of_x(s)[t - 1] * x + of_noise(s)[t - 1] * e


def keep(s):
    return np.sqrt(s.alpha)


def add(s):
    return np.sqrt(s.beta)


WRONG_STEPS = {
    "alpha": (OF_X, step_with(lambda s: s.alpha, add), "alpha[t] without its square root"),
    "beta": (OF_NOISE, step_with(keep, lambda s: s.beta), "beta[t] multiplies the noise"),
    "all steps": (OF_X, step_with(lambda s: np.sqrt(s.ab), add), "all steps at once"),
    "noise of all steps": (
        OF_NOISE,
        step_with(keep, lambda s: np.sqrt(1.0 - s.ab)),
        "all steps at once",
    ),
    "not scaled": (OF_X, step_with(lambda s: np.ones(s.T), add), "not scaled"),
    "swapped": (OF_X, step_with(add, keep), "swapped"),
    "swapped noise": (OF_NOISE, step_with(add, keep), "swapped"),
    "no noise": (OF_NOISE, lambda s, x, t, e: np.sqrt(s.alpha[t - 1]) * x, "no noise"),
    "t - 1": (OF_NOISE, lambda s, x, t, e: More.q_step(s, x, max(t - 1, 1), e), "off by one"),
}


@pytest.mark.parametrize("slip", WRONG_STEPS)
def test_wrong_steps_are_named(slip):
    name, method, words = WRONG_STEPS[slip]
    for seed in range(2):
        found = row(name, seed, q_step=method)
        assert found.verdict == "FAILS"
        assert words in found.explanation
