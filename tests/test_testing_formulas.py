"""Decoders that are not Gaussian, the chain, and the schedule that betas claim to be."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.special import log_ndtr, ndtr

import ddpm_np as ddpm
from ddpm_np.testing import check_identities
from tests.plain_diffusion import Plain, Without, with_betas

L_0, FAR = "elbo_terms: L_0 of the announced decoder", "elbo_terms: L_0 far from x_0"
GAUSSIAN = "elbo_terms: L_0 of a Gaussian decoder"
SUM = "elbo_terms: sum = log p(x0) - KL(q || p)"
CHAIN = "betas: x_0 fades into N(0, I) step by step"
SCHEDULE = "betas: the schedule that they claim to be"


def report_on(plain: Any, **options: Any) -> Any:
    """Of the bound alone."""
    rest = ("loss", "eps_loss_weight", "model_mean", "reverse_step", "q_posterior")
    return check_identities(Without(plain, *rest, "sample"), **options)


# --- a discretised decoder -------------------------------------------------------------------


def log_difference(a: Any, b: Any) -> Any:
    """log(Phi(b) - Phi(a)), exactly."""
    a, b = np.where(a + b > 0.0, -b, a), np.where(a + b > 0.0, -a, b)
    with np.errstate(divide="ignore"):
        return log_ndtr(b) + np.log(-np.expm1(log_ndtr(a) - log_ndtr(b)))


def naive(a: Any, b: Any) -> Any:
    with np.errstate(divide="ignore"):
        return np.log(ndtr(b) - ndtr(a))


def above(least: float) -> Callable[..., Any]:
    return lambda a, b: np.log(np.maximum(ndtr(b) - ndtr(a), least))


def plus(little: float) -> Callable[..., Any]:
    return lambda a, b: np.log(ndtr(b) - ndtr(a) + little)


def tanh_ndtr(z: Any) -> Any:
    z = np.clip(z, -50.0, 50.0)
    return 0.5 * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (z + 0.044715 * z**3)))


def by_tanh(a: Any, b: Any) -> Any:
    return np.log(np.maximum(tanh_ndtr(b) - tanh_ndtr(a), 1e-12))


class Discretised(Plain):
    """With Ho's decoder, written as for pixels."""

    def __init__(
        self,
        levels: int = 256,
        half: float | None = None,
        log_mass: Callable[..., Any] = log_difference,
        ends: tuple[float, float] = (-0.999, 0.999),
        score: Callable[..., Any] = lambda log_p, x0, mean, variance: log_p.sum(axis=1),
        size: Callable[[float], float] = np.sqrt,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.half = 1.0 / (levels - 1) if half is None else half
        self.log_mass, self.ends, self.score, self.size = log_mass, ends, score, size
        self.grid = levels

    def decode(self, x0: Any, mean: Any) -> Any:
        sigma = self.size(self.dec_var)
        a = np.where(x0 < self.ends[0], -np.inf, (x0 - self.half - mean) / sigma)
        b = np.where(x0 > self.ends[1], np.inf, (x0 + self.half - mean) / sigma)
        return self.score(self.log_mass(a, b), x0, mean, self.dec_var)


class Strict(Discretised):
    """It takes nothing but its levels."""

    def decode(self, x0: Any, mean: Any) -> Any:
        k = (x0 + 1.0) * (self.grid - 1) / 2.0
        if np.max(np.abs(k - np.round(k))) > 1e-9:
            raise ValueError("x0 has to lie on the levels")
        return super().decode(x0, mean)


def with_variance(plain: Any, values: Callable[[Any], Any]) -> Any:
    plain.use_variance(values(plain))
    return plain


def unsaid(plain: Any) -> Any:
    plain.reverse_variance = None
    return plain


def in_float32(plain: Any) -> Any:
    plain.use(plain.beta.astype(np.float32))
    right = plain.elbo_terms
    plain.elbo_terms = lambda predict, x0, noise: tuple(
        np.asarray(part, np.float32)
        for part in right(
            lambda x, t: predict(x, t).astype(np.float32),
            x0.astype(np.float32),
            noise.astype(np.float32),
        )
    )
    return plain


RIGHT: dict[str, Callable[[int], Any]] = {
    "256 levels": lambda seed: Discretised(),
    "few steps": lambda seed: Discretised(T=2 + seed, low=0.001, high=0.3),
    "1000 steps": lambda seed: Discretised(T=1000, low=1e-4, high=0.02),
    "17 levels": lambda seed: Strict(17),
    "any number of levels": lambda seed: Strict(
        (2, 3, 4, 5, 8, 10, 16, 32, 33, 64, 100, 128, 1000)[seed % 13]
    ),
    "many levels": lambda seed: Strict((2048, 4096, 65536)[seed % 3], ends=(-0.9999999, 0.9999999)),
    "difference of two functions": lambda seed: Discretised(log_mass=above(1e-12)),
    "a little is added": lambda seed: Discretised(log_mass=plus(1e-12)),
    "sigma_1^2 = beta[1]": lambda seed: with_variance(Discretised(), lambda p: p.beta),
    "sigma_1^2 = 1": lambda seed: with_variance(Discretised(), lambda p: np.ones(p.T)),
    "sigma_1^2 is not said": lambda seed: unsaid(Strict(17)),
    "sigma_1^2 = beta[1] is not said": lambda seed: unsaid(
        with_variance(Discretised(), lambda p: p.beta)
    ),
    "sigma_1^2 between is not said": lambda seed: unsaid(
        with_variance(
            Discretised(), lambda p: p.beta**0.4 * np.append(p.post_var[1], p.post_var[1:]) ** 0.6
        )
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_discretised_decoder_passes(name):
    for seed in range(3 if name == "1000 steps" else 20):
        report = report_on(RIGHT[name](seed), decoder="discretised", seed=seed)
        assert report.ok, str(report)
        assert report[L_0].verdict == "holds", str(report)
        assert report[SUM].verdict == "holds", str(report)
        assert GAUSSIAN not in [row.identity for row in report.rows]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("levels", [17, 256])
def test_a_discretised_decoder_in_float32_does_not_fail(levels, dtype):
    for seed in range(20):
        plain = in_float32(Discretised(levels, log_mass=above(1e-12)))
        report = report_on(plain, decoder="discretised", dtype=dtype, seed=seed)
        assert report.ok, str(report)
        assert f"{levels} levels" in report[L_0].explanation or report[L_0].verdict != "holds"


def test_the_number_of_levels_may_be_said():
    plain = Discretised(257)
    assert "the half width of a bin is 1/256" in report_on(plain, decoder="discretised")[L_0].explanation
    plain.levels = 257
    report = report_on(plain, decoder="discretised")
    assert report.ok, str(report)
    assert "257 levels" in report[L_0].explanation
    plain.levels = 1
    with pytest.raises(ValueError, match=r"implementation\.levels"):
        report_on(plain, decoder="discretised")


def gaussian(log_p: Any, x0: Any, mean: Any, variance: float) -> Any:
    return -0.5 * np.sum((x0 - mean) ** 2 / variance + np.log(2.0 * np.pi * variance), axis=1)


WRONG: dict[str, tuple[Any, str]] = {
    "tails closed": (Discretised(ends=(-9.0, 9.0)), "the tails are closed"),
    "lower tail closed": (Discretised(ends=(-9.0, 0.999)), "the lower tail is closed"),
    "upper tail closed": (Discretised(ends=(-0.999, 9.0)), "the upper tail is closed"),
    "density": (Discretised(score=gaussian), "a density for a probability"),
    "density times width": (
        Discretised(score=lambda *given: gaussian(*given) + 3.0 * np.log(2.0 / 255.0)),
        "times the width of its bin, not the integral",
    ),
    "1/256": (Discretised(half=1 / 256), "the half width of a bin is 1/256, not 1/255"),
    "2/255": (Discretised(half=2 / 255), "the width of a bin is taken for half of it"),
    "1/510": (Discretised(half=0.5 / 255), "as for data on [0, 1]"),
    "1/512": (Discretised(half=0.5 / 256), "1/(2 * 256), not 1/255"),
    "1/128": (Discretised(half=1 / 128), "2/256, not 1/255"),
    "0.003": (Discretised(half=0.003), "the half width of a bin is 0.003, not 1/255"),
    "tanh": (Discretised(log_mass=by_tanh), "a tanh approximation"),
    "tanh, closed": (
        Discretised(log_mass=by_tanh, ends=(-9.0, 9.0)),
        "a tanh approximation of the normal distribution function: nats off in the tails; and the tails",
    ),
    "mean over d": (
        Discretised(score=lambda log_p, *_: log_p.mean(axis=1)),
        "a mean over dimensions, not their sum",
    ),
    "bits": (
        Discretised(score=lambda log_p, *_: log_p.sum(axis=1) / np.log(2.0)),
        "in bits, not nats",
    ),
    "bits per dimension, negated": (
        Discretised(score=lambda log_p, *_: -log_p.mean(axis=1) / np.log(2.0)),
        "in bits per dimension, not nats, and the sign is wrong",
    ),
    "sign": (Discretised(score=lambda log_p, *_: -log_p.sum(axis=1)), "the sign is wrong"),
    "variance for sigma": (
        Discretised(size=lambda v: v),
        "the variance is taken for the standard deviation",
    ),
    "root of sigma": (
        Discretised(size=lambda v: v**0.25),
        "the standard deviation is taken for the variance",
    ),
    "another variance": (
        Discretised(size=lambda v: np.sqrt(1e-3)),
        "the variance is beta[t] at t = 1, not reverse_variance(t) at t = 1",
    ),
    "no known slip": (
        Discretised(score=lambda log_p, *_: (log_p * (1.0 + 0.1 * log_p)).sum(axis=1)),
        "L_0 sums log(Phi(b) - Phi(a))",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_slip_of_a_discretised_decoder_is_named(name):
    plain, words = WRONG[name]
    report = report_on(plain, decoder="discretised")
    assert report[L_0].verdict == "FAILS"
    assert words in report[L_0].explanation
    assert report[SUM].verdict == "FAILS"


@pytest.mark.parametrize("name", ["tails closed", "tanh", "mean over d", "density"])
def test_a_slip_is_named_where_the_variance_is_not_said(name):
    plain, words = WRONG[name]
    row = report_on(Without(plain, "reverse_variance"), decoder="discretised")[L_0]
    assert row.verdict == "FAILS"
    assert words in row.explanation
    assert "(sigma_1^2 is beta_tilde[2])" in row.explanation


def test_the_width_of_256_levels_is_named_where_there_are_others():
    plain = Discretised(17, half=1 / 255)
    plain.levels = 17
    row = report_on(plain, decoder="discretised")[L_0]
    assert "1/255, that of 256 levels, not 1/16" in row.explanation


def test_a_logarithm_that_underflows_fails_and_one_that_is_limited_is_a_remark():
    report = report_on(Discretised(log_mass=naive), decoder="discretised")
    assert report[L_0].verdict == "holds"
    assert report[FAR].verdict == "FAILS"
    assert "the log of a difference that underflows" in report[FAR].explanation
    for log_mass in (above(1e-12), plus(1e-12)):
        row = report_on(Discretised(log_mass=log_mass), decoder="discretised")[FAR]
        assert row.verdict == "remark"
        assert "probabilities below 1e-12 are raised to that" in row.explanation
    assert report_on(Discretised(), decoder="discretised")[FAR].verdict == "holds"

    def lost(a, b):
        nearer = np.minimum(abs(a), abs(b))
        return log_difference(a, b) + np.where(nearer > 8.0, 20.0 + nearer % 1.0, 0.0)

    report = report_on(Discretised(log_mass=lost), decoder="discretised")
    assert (report[L_0].verdict, report[FAR].verdict) == ("holds", "FAILS")
    assert "digits are lost there" in report[FAR].explanation


def test_a_gaussian_decoder_is_not_a_discretised_one_nor_the_reverse():
    assert "a density for a probability" in report_on(Plain(), decoder="discretised")[L_0].explanation
    report = report_on(Discretised())
    assert report[GAUSSIAN].verdict == "FAILS"
    assert not {L_0, FAR} & {row.identity for row in report.rows}


# --- a decoder of one's own ------------------------------------------------------------------


def laplace(x0: Any, mean: Any, variance: float) -> Any:
    scale = np.sqrt(0.5 * variance)
    return np.sum(-np.abs(x0 - mean) / scale - np.log(2.0 * scale), axis=1)


class Own(Plain):
    """With any decoder."""

    def __init__(self, decoder: Callable[..., Any] = laplace, **options: Any) -> None:
        super().__init__(**options)
        self.decoder = decoder

    def decode(self, x0: Any, mean: Any) -> Any:
        return self.decoder(x0, mean, self.dec_var)


@pytest.mark.parametrize("said", [True, False])
@pytest.mark.parametrize(
    "decoder",
    [
        laplace,
        ddpm.gaussian_decoder,
        ddpm.discretised_gaussian(2),
        ddpm.discretised_gaussian(3),
        ddpm.discretised_gaussian(17),
        ddpm.discretised_gaussian(256),
    ],
)
def test_a_decoder_of_ones_own_passes(decoder, said):
    for seed in range(20):
        plain = Own(decoder, T=10 + seed)
        report = report_on(plain if said else unsaid(plain), decoder=decoder, seed=seed)
        assert report.ok, str(report)
        assert (report[L_0].verdict, report[SUM].verdict) == ("holds", "holds")
        assert not {FAR, GAUSSIAN} & {row.identity for row in report.rows}


@pytest.mark.parametrize(
    ("decoder", "words"),
    [
        (ddpm.gaussian_decoder, "the density of a Gaussian decoder, not the one that is announced"),
        (lambda x0, m, v: -laplace(x0, m, v), "the sign is wrong"),
        (lambda x0, m, v: laplace(x0, m, v) / np.log(2.0), "in bits, not nats"),
        (lambda x0, m, v: laplace(x0, m, np.sqrt(v)), "the standard deviation is taken"),
        (lambda x0, m, v: laplace(x0, m, v) ** 2, "L_0 = decoder(x0, model mean at t = 1, sigma_1^2)"),
    ],
)
def test_a_slip_around_a_decoder_of_ones_own_is_named(decoder, words):
    report = report_on(Own(decoder), decoder=laplace)
    assert report[L_0].verdict == report[SUM].verdict == "FAILS"
    assert words in report[L_0].explanation


def test_a_decoder_that_cannot_be_asked_is_a_finding():
    def broken(x0, mean, variance):
        raise ZeroDivisionError("no")

    row = report_on(Plain(), decoder=broken)[L_0]
    assert (row.verdict, row.explanation) == ("FAILS", "ZeroDivisionError: no")
    row = report_on(Plain(), decoder=lambda x0, mean, variance: x0)[L_0]
    assert "decoder(x0, mean, variance) must return shape" in row.explanation


# --- the chain -------------------------------------------------------------------------------


def test_chains_in_use_pass_without_a_remark():
    chains = {
        "linear": ddpm.linear_schedule(1000).beta[1:],
        "cosine": ddpm.cosine_schedule(1000).beta[1:],
        "cosine, 50 steps": ddpm.cosine_schedule(50).beta[1:],
        "quadratic": ddpm.quadratic_schedule(1000, 0.00085, 0.012).beta[1:],
        "constant": np.full(400, 0.02 / 2),
        "scaled": ddpm.scaled_linear_schedule(100).beta[1:],
        "zero terminal SNR": np.append(ddpm.linear_schedule(1000).beta[1:-1], 1.0),
    }
    sigma = np.linspace(0.002 ** (1 / 7), 80.0 ** (1 / 7), 100) ** 7
    chains["Karras"] = -np.expm1(np.diff(-np.log1p(np.append(0.0, sigma) ** 2)))
    for name, beta in chains.items():
        row = check_identities(Only(beta))[CHAIN]
        assert row.verdict == "holds", (name, row)


class Only:
    """Betas and nothing else."""

    def __init__(self, beta: Any) -> None:
        self.beta, self.T = np.asarray(beta), len(beta)

    def betas(self):
        return self.beta


@pytest.mark.parametrize(
    ("beta", "words"),
    [
        (np.linspace(1e-4, 0.02, 50), "x_T still is 0.78 x_0 + noise: N(0, I), which samples start"),
        (np.linspace(1e-4, 0.02, 50), "off by 0.46 nats per dimension"),
        (
            np.linspace(0.02, 1e-4, 1000),
            "alpha_bar[1] = 0.98: the first step already adds noise of 0.14",
        ),
        (np.linspace(0.02, 1e-4, 1000), "beta falls from 0.02 at t = 2 to"),
        (np.r_[1e-3, 0.1, np.full(50, 0.04)], "from 0.1 at t = 2 to 0.04 at t = 3: are the betas out"),
    ],
)
def test_what_is_unwise_in_a_chain_is_a_remark(beta, words):
    report = check_identities(Only(beta))
    assert report.ok
    assert report[CHAIN].verdict == "remark"
    assert words in report[CHAIN].explanation


# --- the schedule ----------------------------------------------------------------------------


def ramp(T: int, low: float = 1e-4, high: float = 0.02, points: int = 0) -> Any:
    return np.linspace(low, high, points or T)


def cosine_of(
    T: int,
    s: float = 0.008,
    clip: Any = 0.999,
    power: int = 2,
    u: Any = None,
    divided: bool = True,
    dtype: Any = np.float64,
) -> Any:
    u = np.arange(T + 1, dtype=dtype) / dtype(T) if u is None else u
    bar = np.cos((u + dtype(s)) / dtype(1 + s) * dtype(np.pi / 2)) ** power
    bar = bar / bar[0] if divided else np.append(dtype(1.0), bar[1:])
    return np.clip(1.0 - bar[1:] / bar[:-1], 0.0, clip)


SCHEDULES: dict[str, tuple[str, Callable[[int], Any], str]] = {
    "linear": ("linear", ramp, "from 0.0001 to 0.02"),
    "linear of other ends": ("linear", lambda T: ramp(T, 3e-4, 0.05), "from 0.0003 to 0.05"),
    "quadratic": ("quadratic", lambda T: ramp(T, 0.01, 0.02**0.5) ** 2, "from 0.0001 to 0.02"),
    "Stable Diffusion": (
        "quadratic",
        lambda T: ramp(T, 0.00085**0.5, 0.012**0.5) ** 2,
        "from 0.00085 to 0.012",
    ),
    "sigmoid": (
        "sigmoid",
        lambda T: 1e-4 + 0.0199 / (1.0 + np.exp(-ramp(T, -6.0, 6.0))),
        "from 0.0001 to 0.02",
    ),
    "scaled": ("scaled_linear", lambda T: ramp(T) * 1000 / T, ""),
    "cosine": ("cosine", cosine_of, ""),
}


@pytest.mark.parametrize("T", [50, 100, 1000, 4000])
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_is_what_it_claims_to_be(name, T):
    claim, make, note = SCHEDULES[name]
    row = check_identities(Only(make(T)), schedule=claim)[SCHEDULE]
    assert row.verdict == "holds", row
    assert row.explanation.startswith(note)
    is_usual = claim in ("linear", "quadratic", "sigmoid") and note.endswith("0.0001 to 0.02")
    assert ("made for T = 1000" in row.explanation) == (is_usual and T != 1000)


@pytest.mark.parametrize("T", [50, 1000])
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_in_float32_is_imprecise_unless_that_is_said(name, T):
    claim, make, _ = SCHEDULES[name]
    beta = make(T).astype(np.float32)
    row = check_identities(Only(beta), schedule=claim)[SCHEDULE]
    assert row.verdict == "imprecise", row
    assert "float32" in row.explanation
    assert check_identities(Only(beta), schedule=claim, dtype="float32")[SCHEDULE].verdict == "holds"


def test_a_cosine_that_is_computed_in_float32_is_no_other():
    for T in (50, 1000):
        beta = cosine_of(T, dtype=np.float32)
        assert beta.dtype == np.float32
        assert check_identities(Only(beta), schedule="cosine")[SCHEDULE].verdict == "imprecise"
    hidden = np.where(np.arange(1000) == 500, cosine_of(1000), cosine_of(1000, dtype=np.float32))
    row = check_identities(Only(hidden), schedule="cosine")[SCHEDULE]
    assert row.verdict == "FAILS"
    assert 'if it computes in float32, say dtype="float32"' in row.explanation


WRONG_SCHEDULES: dict[str, tuple[str, Callable[[int], Any], str]] = {
    "f(0) dropped": (
        "cosine",
        lambda T: cosine_of(T, divided=False),
        "alpha_bar[0] is dropped: alpha_bar is not divided by f(0)",
    ),
    "not clipped": ("cosine", lambda T: cosine_of(T, clip=1.0), "not clipped at 0.999"),
    "clipped elsewhere": ("cosine", lambda T: cosine_of(T, clip=0.9), "clipped at 0.9, not at 0.999"),
    "clipped below too": (
        "cosine",
        lambda T: np.clip(cosine_of(T, clip=1.0), 0.002, 0.9999),
        "clipped to [0.002, 0.9999], not at 0.999",
    ),
    "f(0) dropped, not clipped": (
        "cosine",
        lambda T: cosine_of(T, clip=1.0, divided=False),
        "which is seen in beta[1]; beta is not clipped",
    ),
    "one late": (
        "cosine",
        lambda T: np.append(cosine_of(T)[1:], 0.999),
        "off by one: it is the value of t + 1",
    ),
    "one early": (
        "cosine",
        lambda T: np.append(1e-9, cosine_of(T)[:-1]),
        "off by one: it is the value of t - 1",
    ),
    "one early, from 0": (
        "cosine",
        lambda T: np.append(0.0, cosine_of(T)[:-1]),
        "off by one: it is the value of t - 1",
    ),
    "T + 1": ("cosine", lambda T: cosine_of(T, u=np.arange(T + 1) / (T + 1)), "t / (T + 1) for t / T"),
    "no s": ("cosine", lambda T: cosine_of(T, s=0.0), "s = 0, not 0.008"),
    "no square": ("cosine", lambda T: cosine_of(T, power=1), "the cosine is not squared"),
    "cosine that is linear": ("cosine", ramp, "linear in t, from 0.0001 to 0.02"),
    "reversed": ("linear", lambda T: ramp(T)[::-1], "in reverse order"),
    "linear without the last": (
        "linear",
        lambda T: ramp(T, points=T + 1)[:-1],
        "T + 1 points from end to end, without the last",
    ),
    "linear without the first": (
        "linear",
        lambda T: ramp(T, points=T + 1)[1:],
        "T + 1 points from end to end, without the first",
    ),
    "linear in the root": (
        "linear",
        lambda T: ramp(T, 0.01, 0.02**0.5) ** 2,
        "scaled_linear in diffusers",
    ),
    "linear that is a cosine": ("linear", cosine_of, "these are the betas of the cosine schedule"),
    "quadratic that is linear": ("quadratic", ramp, "linear in beta"),
    "quadratic in t": (
        "quadratic",
        lambda T: 1e-4 + 0.0199 * ramp(T, 0.0, 1.0) ** 2,
        "its square root is not linear",
    ),
    "not scaled": ("scaled_linear", ramp, "not scaled by 1000 / T"),
    "scaled the wrong way": (
        "scaled_linear",
        lambda T: ramp(T) * T / 1000,
        "scaled by T / 1000, not by 1000 / T",
    ),
    "diffusers' name": (
        "scaled_linear",
        lambda T: ramp(T, 0.00085**0.5, 0.012**0.5) ** 2,
        "scaled_linear in diffusers",
    ),
    "scaled, with T + 1 points": (
        "scaled_linear",
        lambda T: ramp(T, points=T + 1)[:-1] * 1000 / T,
        "T + 1 points from end to end, without the last",
    ),
    "scaled, of other ends": (
        "scaled_linear",
        lambda T: ramp(T, 1e-4, 0.01) * 1000 / T,
        "not from 0.1 / T to 20 / T",
    ),
}


@pytest.mark.parametrize("name", WRONG_SCHEDULES)
def test_a_slip_of_a_schedule_is_named(name):
    claim, make, words = WRONG_SCHEDULES[name]
    for T in (100, 1000):
        if T == 1000 and claim == "scaled_linear" and "scaled" in name and "," not in name:
            continue  # there it is not scaled
        row = check_identities(Only(make(T)), schedule=claim)[SCHEDULE]
        assert row.verdict == "FAILS", (T, row)
        assert words in row.explanation, (T, row)


def test_a_schedule_that_cannot_be_judged_is_a_remark():
    for claim, T in (("linear", 2), ("sigmoid", 1), ("scaled_linear", 20)):
        row = check_identities(Only(np.full(T, 0.1)), schedule=claim)[SCHEDULE]
        assert row.verdict == "remark", row
    assert SCHEDULE not in [row.identity for row in check_identities(Plain()).rows]


def test_a_bad_beta_is_left_to_its_own_row():
    report = check_identities(with_betas(np.array([0.1, 0.2, 1.2])), schedule="linear")
    assert report[CHAIN].verdict == "remark"
    assert report[SCHEDULE].verdict != "holds"
