"""ddpm_np.testing: what is right passes, and whatever an implementation does becomes a row."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ddpm_np as ddpm
from ddpm_np.testing import Reference, check_identities
from ddpm_np.testing._truth import Truth
from ddpm_np.testing.protocol import CompleteImplementation
from ddpm_np.testing.strategies import observations, schedules, times
from tests.plain_diffusion import Plain, change


def test_plain_code_passes():
    report = check_identities(Plain())
    assert report.ok
    assert {row.verdict for row in report.rows} == {"holds"}
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
