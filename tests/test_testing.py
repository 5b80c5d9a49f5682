"""ddpm_np.testing: the reference passes, and each planted error is caught by the row for it."""

import functools
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ddpm_np as ddpm
from ddpm_np.testing import IdentityError, Reference, check_identities
from ddpm_np.testing.__main__ import main
from ddpm_np.testing._truth import Truth
from ddpm_np.testing.protocol import CompleteImplementation
from ddpm_np.testing.strategies import observations, schedules, times

ROOT = Path(__file__).parent.parent


class Plain:
    """The way people write it: arrays that count from 0, so that t here is t - 1 there."""

    def __init__(self, T: int = 100, low: float = 1e-3, high: float = 0.2) -> None:
        self.T = T
        self.beta = np.linspace(low, high, T)
        self.alpha = 1.0 - self.beta
        self.ab = np.cumprod(self.alpha)
        self.ab_prev = np.concatenate([[1.0], self.ab[:-1]])
        self.post_var = self.beta * (1.0 - self.ab_prev) / (1.0 - self.ab)
        self.var = np.concatenate([self.post_var[1:2], self.post_var[1:]])
        self.dec_var = self.var[0]

    def betas(self):
        return self.beta

    def alpha_bars(self):
        return self.ab

    def q_sample(self, x0, t, noise):
        return np.sqrt(self.ab[t - 1]) * x0 + np.sqrt(1.0 - self.ab[t - 1]) * noise

    def q_posterior(self, x0, x_t, t):
        i = t - 1
        c0 = np.sqrt(self.ab_prev[i]) * self.beta[i] / (1.0 - self.ab[i])
        ct = np.sqrt(self.alpha[i]) * (1.0 - self.ab_prev[i]) / (1.0 - self.ab[i])
        return c0 * x0 + ct * x_t, self.post_var[i]

    def model_mean(self, x_t, t, eps):
        i = t - 1
        return (x_t - self.beta[i] / np.sqrt(1.0 - self.ab[i]) * eps) / np.sqrt(self.alpha[i])

    def reverse_variance(self, t):
        return self.var[t - 1]

    def reverse_step(self, x_t, t, eps, z):
        mean = self.model_mean(x_t, t, eps)
        return mean + np.sqrt(self.var[t - 1]) * z if t > 1 else mean

    def sample(self, predict, x_T, noise):
        x = x_T
        for t in range(self.T, 0, -1):
            x = self.reverse_step(x, t, predict(x, t), noise[t])
        return x

    def eps_loss_weight(self, t):
        i = t - 1
        return self.beta[i] ** 2 / (2.0 * self.var[i] * self.alpha[i] * (1.0 - self.ab[i]))

    def kl(self, mean_1, var_1, mean_2, var_2):
        kl = 0.5 * (np.log(var_2 / var_1) + (var_1 + (mean_1 - mean_2) ** 2) / var_2 - 1.0)
        return kl.sum(axis=1)

    def prior(self, x0):
        return -self.kl(np.sqrt(self.ab[-1]) * x0, 1.0 - self.ab[-1], 0.0, 1.0)

    def decode(self, x0, mean):
        log_p = -0.5 * (np.log(2.0 * np.pi * self.dec_var) + (x0 - mean) ** 2 / self.dec_var)
        return log_p.sum(axis=1)

    def middle(self, x0, x_t, t, mean):
        posterior_mean, posterior_var = self.q_posterior(x0, x_t, t)
        return -self.kl(posterior_mean, posterior_var, mean, self.var[t - 1])

    def elbo_terms(self, predict, x0, noise):
        L = np.zeros((self.T + 1, len(x0)))
        for t in range(1, self.T + 1):
            x_t = self.q_sample(x0, t, noise[t])
            mean = self.model_mean(x_t, t, predict(x_t, t))
            if t == 1:
                L_0 = self.decode(x0, mean)
            else:
                L[t] = self.middle(x0, x_t, t, mean)
        return self.prior(x0), L, L_0


def change(**methods: Callable[..., Any]) -> Plain:
    """Plain code with other methods."""
    return type("Changed", (Plain,), methods)()


def tables(**values: Callable[[Plain], Any]) -> Plain:
    """Plain code with other tables."""
    plain = Plain()
    for name, value in values.items():
        setattr(plain, name, value(plain))
    return plain


def shifted(plain: Plain, method: str, by: int) -> Plain:
    """One method that takes its t for another."""
    original = getattr(plain, method)
    position = {"reverse_variance": 0, "eps_loss_weight": 0, "q_posterior": 2}.get(method, 1)

    def moved(*arguments: Any) -> Any:
        changed = list(arguments)
        changed[position] = min(max(changed[position] + by, 1), plain.T)
        return original(*changed)

    setattr(plain, method, moved)
    return plain


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


# What is wrong, an implementation with it, the row that catches it, and what the row says.
PLANTED: dict[str, tuple[Callable[[], Any], str, str]] = {
    "alpha_bar runs to T (E5)": (
        lambda: tables(ab=lambda p: np.full(p.T, p.ab[-1])),
        "alpha_bars: product of alpha_1..alpha_t",
        "E5",
    ),
    "alpha for alpha_bar": (
        lambda: tables(ab=lambda p: p.alpha),
        "alpha_bars: product of alpha_1..alpha_t",
        "the product over the earlier steps is missing",
    ),
    "alpha_bar starts one late": (
        lambda: tables(ab=lambda p: p.ab_prev),
        "alpha_bars: product of alpha_1..alpha_t",
        "off by one",
    ),
    "q_sample counts from 0": (
        lambda: shifted(Plain(), "q_sample", 1),
        "q_sample: coefficient of x0",
        "off by one: it is the value of t + 1",
    ),
    "q_sample one late": (
        lambda: shifted(Plain(), "q_sample", -1),
        "q_sample: variance of T steps composed",
        "off by one: it is the value of t - 1",
    ),
    "noise without the root (E2)": (
        lambda: change(q_sample=lambda s, x0, t, e: np.sqrt(s.ab[t - 1]) * x0 + (1.0 - s.ab[t - 1]) * e),
        "q_sample: variance of T steps composed",
        "E2",
    ),
    "signal without the root": (
        lambda: change(q_sample=lambda s, x0, t, e: s.ab[t - 1] * x0 + np.sqrt(1.0 - s.ab[t - 1]) * e),
        "q_sample: coefficient of x0",
        "without its square root",
    ),
    "beta in the posterior": (
        lambda: change(q_posterior=posterior_with(lambda s, i: s.beta[i])),
        "q_posterior: variance by Bayes' rule",
        "beta[t] in place of beta_tilde[t]",
    ),
    "posterior standard deviation": (
        lambda: change(q_posterior=posterior_with(lambda s, i: np.sqrt(s.post_var[i]))),
        "q_posterior: variance by Bayes' rule",
        "standard deviation",
    ),
    "posterior coefficients swapped": (
        lambda: change(q_posterior=swapped_posterior),
        "q_posterior: mean by Bayes' rule, x0",
        "swapped",
    ),
    "posterior one late": (
        lambda: shifted(Plain(), "q_posterior", -1),
        "q_posterior: variance by Bayes' rule",
        "off by one",
    ),
    "alpha_bar[0] = alpha_1 in the posterior": (
        lambda: tables(ab_prev=lambda p: np.concatenate([p.ab[:1], p.ab[:-1]])),
        "q_posterior: at t = 1 it is x0 exactly",
        "alpha_bar[0] has to be 1",
    ),
    "sign in (29)": (
        lambda: change(model_mean=mean_with(sign=1.0)),
        "model_mean: coefficient of eps",
        "sign",
    ),
    "no root in (34)": (
        lambda: change(model_mean=mean_with(root=1.0)),
        "model_mean: coefficient of eps",
        "lacks the square root",
    ),
    "no 1 / sqrt(alpha) in (34)": (
        lambda: change(model_mean=mean_with(outer=0.0)),
        "model_mean: coefficient of x_t",
        "sqrt(alpha[t]) times",
    ),
    "1 / alpha in (34)": (
        lambda: change(model_mean=mean_with(outer=1.0)),
        "model_mean: coefficient of x_t",
        "1 / sqrt(alpha[t]) times",
    ),
    "(34) at another t than q_sample": (
        lambda: shifted(Plain(), "model_mean", -1),
        "model_mean at the true eps = q_posterior",
        "take t differently",
    ),
    "standard deviation for sigma^2": (
        lambda: tables(var=lambda p: np.sqrt(p.var)),
        "reverse_variance: beta_tilde, beta, between, or 1",
        "standard deviation",
    ),
    "sigma^2 one late": (
        lambda: shifted(Plain(), "reverse_variance", -1),
        "reverse_variance: beta_tilde, beta, between, or 1",
        "off by one",
    ),
    "beta_tilde for beta in the sampler": (
        lambda: change(reverse_variance=lambda s, t: s.beta[t - 1]),
        "reverse_step: variance of the noise",
        "sigma_t^2 is beta_tilde[t]",
    ),
    "missing root in the sampler": (
        lambda: change(reverse_step=rootless_step),
        "reverse_step: variance of the noise",
        "its square root is missing",
    ),
    "noise at the last step (E9)": (
        lambda: change(reverse_step=noisy_last_step),
        "reverse_step: no noise at t = 1",
        "E9",
    ),
    "noise at the end of the loop (E9)": (
        lambda: change(
            reverse_step=noisy_last_step,
        ),
        "sample: the whole loop",
        "E9",
    ),
    "clipped sampler": (
        lambda: change(reverse_step=clipped_step),
        "reverse_step: coefficient of eps",
        "clip",
    ),
    "loop stops early": (
        lambda: change(sample=loop_of(lambda T: range(T, 1, -1))),
        "sample: the whole loop",
        "skips a step",
    ),
    "loop counts from 0": (
        lambda: change(sample=loop_of(lambda T: range(T - 1, -1, -1))),
        "sample: the whole loop",
        "t that predict is asked for must be between 1 and 100, got 0",
    ),
    "noise of another step": (
        lambda: change(sample=loop_of(lambda T: range(T, 0, -1), z=-1)),
        "sample: the whole loop",
        "noise[t - 1]",
    ),
    "(35) as printed (E1)": (
        lambda: change(
            eps_loss_weight=lambda s, t: Plain.eps_loss_weight(s, t) * s.alpha[t - 1],
        ),
        "eps_loss_weight: squared shift / 2 sigma_t^2",
        "E1",
    ),
    "D's weight (E10)": (
        lambda: change(
            eps_loss_weight=lambda s, t: 0.5 / (s.var[t - 1] * (1.0 - s.ab[t - 1]) * s.ab[t - 1]),
        ),
        "eps_loss_weight: squared shift / 2 sigma_t^2",
        "E10",
    ),
    "weight of L_simple": (
        lambda: change(eps_loss_weight=lambda s, t: 1.0),
        "eps_loss_weight: squared shift / 2 sigma_t^2",
        "L_simple",
    ),
    "weight without its 2": (
        lambda: change(eps_loss_weight=lambda s, t: 2.0 * Plain.eps_loss_weight(s, t)),
        "eps_loss_weight: squared shift / 2 sigma_t^2",
        "it is 2 times",
    ),
    "prior of the other sign": (
        lambda: change(elbo_terms=terms_with(lambda s, a, b, c: (-a, b, c))),
        "elbo_terms: L_T by quadrature",
        "sign",
    ),
    "prior left out": (
        lambda: change(prior=lambda s, x0: np.zeros(len(x0))),
        "elbo_terms: L_T by quadrature",
        "left out",
    ),
    "bound with beta, sampler with beta_tilde": (
        lambda: change(
            middle=lambda s, x0, x, t, m: -s.kl(*s.q_posterior(x0, x, t), m, s.beta[t - 1]),
        ),
        "elbo_terms: L_{t-1} by quadrature",
        "sigma_t^2 is beta[t] here, elsewhere reverse_variance(t)",
    ),
    "means over dimensions": (
        lambda: change(elbo_terms=terms_with(lambda s, a, b, c: (a, b / 3.0, c))),
        "elbo_terms: L_{t-1} by quadrature",
        "1 / (d",
    ),
    "divergence reversed": (
        lambda: change(
            middle=lambda s, x0, x, t, m: -s.kl(m, 2.0 * s.var[t - 1], *s.q_posterior(x0, x, t)),
        ),
        "elbo_terms: sum = log p(x0) - KL(q || p)",
        "do not add up",
    ),
    "rows of L one early": (
        lambda: change(elbo_terms=terms_with(shifted_rows)),
        "elbo_terms: L[0] and L[1] are empty",
        "L[t] is L_{t-1}",
    ),
    "variance of L_0": (
        lambda: tables(dec_var=lambda p: p.beta[0]),
        "elbo_terms: L_0 of a Gaussian decoder",
        "the variance is beta[t] at t = 1",
    ),
    "standard deviation in L_0": (
        lambda: tables(dec_var=lambda p: np.sqrt(p.var[0])),
        "elbo_terms: L_0 of a Gaussian decoder",
        "standard deviation",
    ),
    "log(2 pi) left out of L_0": (
        lambda: change(
            decode=lambda s, x0, m: Plain.decode(s, x0, m) + 1.5 * np.log(2.0 * np.pi),
        ),
        "elbo_terms: L_0 of a Gaussian decoder",
        "log(2 pi) is left out",
    ),
    "network asked at t - 1": (
        lambda: change(elbo_terms=late_predictions),
        "elbo_terms: predict sees x_t = q_sample",
        "must be between 1 and 100, got 0",
    ),
}


def test_plain_code_passes():
    report = check_identities(Plain())
    assert report.ok
    assert {row.verdict for row in report.rows} == {"holds"}
    report.raise_if_failed()


@pytest.mark.parametrize("name", PLANTED)
def test_planted_error_is_caught_by_its_row(name):
    make, identity, words = PLANTED[name]
    report = check_identities(make())
    assert report[identity].verdict == "FAILS"
    assert words in report[identity].explanation
    assert not report.ok
    with pytest.raises(IdentityError, match="FAILS"):
        report.raise_if_failed()


SCHEDULES = {
    "linear 1000": lambda: ddpm.linear_schedule(1000),
    "cosine 1000": lambda: ddpm.cosine_schedule(1000),
    "scaled linear 50": lambda: ddpm.scaled_linear_schedule(50),
    "sigmoid 300": lambda: ddpm.sigmoid_schedule(300),
    "T = 1": lambda: ddpm.linear_schedule(1),
    "T = 2": lambda: ddpm.cosine_schedule(2),
    "T = 3": lambda: ddpm.linear_schedule(3, 0.3, 0.9),
}


@pytest.mark.parametrize("variance", ["posterior", "beta", "unit"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_reference_passes(name, variance):
    implementation: CompleteImplementation = Reference(SCHEDULES[name](), variance)
    report = check_identities(implementation)
    assert {row.verdict for row in report.rows} == {"holds"}, str(report)


@settings(max_examples=20)
@given(schedule=schedules(), seed=st.integers(0, 99))
def test_reference_passes_for_any_schedule(schedule, seed):
    assert check_identities(Reference(schedule), seed=seed).ok


def test_times_of_the_strategy_are_times():
    schedule = ddpm.linear_schedule(3)

    @settings(max_examples=30)
    @given(t=times(schedule), first=times(schedule, 0), x=observations(dtype="float32"))
    def check(t, first, x):
        assert 1 <= t <= 3
        assert 0 <= first <= 3
        assert x.dtype == np.float32
        assert np.all(np.abs(x) <= 10.0)

    check()
    with pytest.raises(ValueError, match="max_beta"):
        schedules(min_beta=0.5, max_beta=0.1)
    with pytest.raises(ValueError, match="minimum"):
        times(schedule, 4)
    with pytest.raises(ValueError, match="dtype"):
        observations(dtype="float16")


class Single(Plain):
    """Tables and arithmetic in float32."""

    def __init__(self, careful: bool) -> None:
        super().__init__(1000, 1e-4, 0.02)
        # Betas that float32 holds exactly, as both kinds of tables have to mean the same ones.
        self.beta = self.beta.astype(np.float32)
        kind = np.float64 if careful else np.float32
        self.alpha = 1 - self.beta.astype(kind)
        self.ab = np.cumprod(self.alpha)
        if careful:
            self.ab = np.exp(np.cumsum(np.log1p(-self.beta.astype(np.float64))))

    def q_sample(self, x0, t, noise):
        signal, sigma = np.sqrt(self.ab[t - 1]), np.sqrt(1 - self.ab[t - 1])
        return np.float32(signal) * np.float32(x0) + np.float32(sigma) * np.float32(noise)

    alpha_bars = q_posterior = reverse_step = sample = elbo_terms = eps_loss_weight = None
    model_mean = reverse_variance = None


def test_tables_in_float32_are_imprecise_not_wrong():
    report = check_identities(Single(careful=False), dtype="float32")
    row = report["q_sample: variance of T steps composed"]
    assert row.verdict == "imprecise"
    assert report.ok
    assert "cumsum(log1p(-beta))" in str(report)
    careful = check_identities(Single(careful=True), dtype="float32")
    assert careful["q_sample: variance of T steps composed"].verdict == "holds"
    strict = check_identities(Single(careful=True), dtype="float64")
    assert strict["q_sample: coefficient of x0"].verdict == "imprecise"


def test_what_is_missing_is_not_offered():
    class Little:
        T = 3

        def betas(self):
            return [0.1, 0.2, 0.3]

        def model_mean(self, x_t, t, eps):
            raise NotImplementedError

    report = check_identities(Little())
    assert report.ok
    assert [row.verdict for row in report.rows] == ["holds"] + ["not offered"] * 26
    assert "not offered: alpha_bars, elbo_terms, eps_loss_weight, model_mean" in str(report)
    with pytest.raises(KeyError):
        report["no such row"]


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (lambda s, x0, t, e: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda s, x0, t, e: x0[:1], "q_sample(...) must return shape (4, 3), got (1, 3)"),
        (lambda s, x0, t, e: None, "TypeError: q_sample(...) must return real numbers"),
        (lambda s, x0, t, e: x0 * np.nan, "not finite"),
        (lambda s, x0, t, e: x0 + 1j, "must return real numbers"),
        (lambda s, x0, t, e: x0 + 1.0, "got"),
    ],
)
def test_whatever_the_implementation_does_is_a_row(method, words):
    report = check_identities(change(q_sample=method))
    row = report["q_sample: coefficient of x0"]
    assert row.verdict == "FAILS"
    assert words in row.explanation
    assert report["model_mean: coefficient of eps"].verdict == "holds"
    str(report)


@pytest.mark.parametrize(
    ("betas", "words"),
    [
        (lambda s: np.append(0.0, Plain().beta), "without one for t = 0"),
        (lambda s: Plain().beta[:5], r"must have shape \(100,\)"),
        (lambda s: Plain().beta - 0.01, "strictly between 0 and 1"),
        (lambda s: Plain().beta * np.nan, "strictly between 0 and 1"),
        (lambda s: "no", "real numbers"),
    ],
)
def test_betas_that_are_none(betas, words):
    report = check_identities(change(betas=betas))
    assert len(report.rows) == 1
    assert re.search(words, report.rows[0].explanation)


def test_arguments_are_checked():
    with pytest.raises(TypeError, match=r"implementation\.T must be an integer"):
        check_identities(object())
    with pytest.raises(TypeError, match=r"must have a method betas\(\)"):
        check_identities(type("NoBetas", (), {"T": 3})())
    with pytest.raises(ValueError, match="dtype"):
        check_identities(Plain(), dtype="float16")
    with pytest.raises(ValueError, match="seed"):
        check_identities(Plain(), seed=-1)


def test_foreign_arrays():
    xp = pytest.importorskip("array_api_strict")

    def q_sample(s, x0, t, noise):
        return xp.asarray(Plain.q_sample(s, x0, t, noise), device=xp.Device("device1"))

    report = check_identities(change(q_sample=q_sample, elbo_terms=None))
    assert report.ok
    assert report["q_sample: coefficient of x0"].verdict == "holds"


def test_bayes_on_a_grid_is_the_closed_form():
    truth = Truth.of(np.linspace(1e-4, 0.02, 1000))
    for t in (2, 3, 500, 1000):
        mean, variance = truth.bayes(t, 0.01, -0.02)
        assert abs(mean - (0.01 * truth.c_x0[t] - 0.02 * truth.c_xt[t])) < 1e-14
        assert abs(variance / truth.posterior_variance[t] - 1.0) < 1e-12


def test_command_line(capsys, tmp_path, monkeypatch):
    (tmp_path / "some_adapters.py").write_text(
        "from ddpm_np import linear_schedule\n"
        "from ddpm_np.testing import Reference\n"
        "good = Reference(linear_schedule(5))\n"
        "class Bad(Reference):\n"
        "    def eps_loss_weight(self, t): return 1.0\n"
        "class Needs:\n"
        "    def __init__(self, x): pass\n"
        "empty = object()\n"
        "def make(): return good\n"
    )
    (tmp_path / "broken_adapters.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["some_adapters:good"]) == 0
    assert "27 identities: 27 hold" in capsys.readouterr().out
    assert main(["some_adapters:make", "--seed", "3"]) == 0
    assert main(["some_adapters:Bad"]) == 1
    assert "L_simple" in capsys.readouterr().out
    for target, words in {
        "nowhere_at_all:x": "cannot import nowhere_at_all: ModuleNotFoundError",
        "broken_adapters:x": "cannot import broken_adapters: ZeroDivisionError",
        "some_adapters:x": "some_adapters has no x",
        "some_adapters:Needs": "does not make an implementation: TypeError",
        "some_adapters:empty": "implementation.T must be an integer",
        "some_adapters": "the target must be module:object",
    }.items():
        assert main([target]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert len(error.splitlines()) == 1
    assert main(["some_adapters:good", "--dtype", "int8"]) == 2


def run(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, check=False)


def test_module_runs():
    result = run("-W", "error", "-m", "ddpm_np.testing", "ddpm_np.testing:Reference")
    assert result.returncode == 0, result.stderr
    assert "27 hold" in result.stdout
    assert run("-m", "ddpm_np.testing").returncode == 2


def test_importing_ddpm_np_leaves_testing_alone():
    code = (
        "import sys, ddpm_np; assert 'ddpm_np.testing' not in sys.modules; import ddpm_np.testing; "
        "assert 'hypothesis' not in sys.modules"
    )
    assert run("-c", code).returncode == 0
    code = "import sys; sys.modules['hypothesis'] = None; import ddpm_np.testing.strategies"
    result = run("-c", code)
    assert result.stderr.splitlines()[-1] == (
        "ImportError: ddpm_np.testing.strategies needs Hypothesis: pip install hypothesis"
    )


@functools.cache
def porting() -> str:
    return (ROOT / "docs" / "porting.md").read_text()


def test_the_example_of_the_document_runs(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", porting(), re.DOTALL)
    (tmp_path / "my_adapter.py").write_text(blocks[0])
    result = run("-m", "ddpm_np.testing", "my_adapter:Mine", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    (tmp_path / "test_mine.py").write_text(blocks[1])
    assert run("-m", "pytest", "-q", "test_mine.py", cwd=tmp_path).returncode == 0


def test_the_document_names_rows_that_exist():
    rows = {row.identity for row in check_identities(Plain(5)).rows}
    table = porting().split("## Usual mistakes")[1].split("\n## ")[0]
    named = [name.replace("\\|", "|") for name in re.findall(r"\| `([^`]*)` \|$", table, re.MULTILINE)]
    assert len(named) >= 15
    assert set(named) <= rows


def test_a_report_that_cannot_be_written_is_no_verdict():
    command = [sys.executable, "-m", "ddpm_np.testing", "ddpm_np.testing:Reference"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
