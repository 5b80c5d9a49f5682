"""ddpm_np.testing: what is right passes, and whatever an implementation does becomes a row."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ddpm_np as ddpm
from ddpm_np.schedules import SCHEDULES as SCHEDULES_BY_NAME
from ddpm_np.testing import Reference, check_identities
from ddpm_np.testing._truth import Truth
from ddpm_np.testing.protocol import CompleteImplementation
from ddpm_np.testing.strategies import observations, schedules, times
from tests.plain_diffusion import Plain, Without, change, with_betas

CHAIN = "betas: x_0 fades into N(0, I) step by step"


def test_plain_code_passes():
    report = check_identities(Plain())
    assert report.ok
    assert {row.verdict for row in report.rows} == {"holds", "not offered"}
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
    remarks = {row.identity for row in report.rows if row.verdict == "remark"}
    assert {row.verdict for row in report.rows} <= {"holds", "remark"}, str(report)
    if implementation.T > 1:  # else there is no step between its ends
        assert remarks == ({CHAIN} if implementation.T <= 3 else set())


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


# --- legal choices ---------------------------------------------------------------------------


def lower_end(p: Plain) -> Any:
    """beta_tilde, with beta_tilde[2] at t = 1."""
    return np.concatenate([p.post_var[1:2], p.post_var[1:]])


VARIANCES: dict[str, Callable[[Plain], Any]] = {
    "beta_tilde": lower_end,
    "beta": lambda p: p.beta,
    "beta, but beta_tilde[2] at t = 1": lambda p: np.append(p.post_var[1], p.beta[1:]),
    "beta, but 1e-20 at t = 1": lambda p: np.append(1e-20, p.beta[1:]),
    "beta_tilde, but 1e-20 at t = 1": lambda p: np.append(1e-20, p.post_var[1:]),
    "geometric mean": lambda p: np.sqrt(lower_end(p) * p.beta),
    "arithmetic mean": lambda p: 0.3 * lower_end(p) + 0.7 * p.beta,
    "another at every t": lambda p: (
        lower_end(p) ** (u := np.linspace(0.1, 0.8, p.T)) * p.beta ** (1 - u)
    ),
    "1": lambda p: np.ones(p.T),
}


@pytest.mark.parametrize("is_said", [True, False])
@pytest.mark.parametrize("name", VARIANCES)
def test_any_legal_variance_passes_whether_it_is_said_or_not(name, is_said):
    for seed in range(20):
        plain = Plain(10 + seed)
        plain.use_variance(VARIANCES[name](plain))
        if not is_said:
            plain.reverse_variance = plain.sample = None
        report = check_identities(plain, seed=seed)
        assert report.ok, str(report)
    names = {"beta_tilde": "beta_tilde[t] (25)", "beta": "beta[t]", "1": "1"}
    note = f"sigma_t^2 is {names.get(name.split(',')[0], 'between beta_tilde[t] and beta[t]')}"
    said_by = "reverse_variance: beta_tilde, beta, between, or 1" if is_said else WEIGHT
    assert report[said_by].explanation == note
    assert report["elbo_terms: L_{t-1} by quadrature"].verdict == "holds"


WEIGHT = "eps_loss_weight: squared shift / 2 sigma_t^2"


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("T", [1000, 50])
def test_a_variance_between_passes_at_any_precision(T, dtype):
    plain = Plain(T, 0.1 / T, 20.0 / T)
    plain.use_variance(np.sqrt(lower_end(plain) * plain.beta))
    assert check_identities(plain, dtype=dtype).ok
    plain.reverse_variance = plain.sample = None
    assert check_identities(plain, dtype=dtype).ok


@pytest.mark.parametrize("variance", ["posterior", "beta", "unit"])
@pytest.mark.parametrize("T", [1, 2, 3])
def test_a_variance_of_few_steps_need_not_be_said(T, variance):
    for name in ("linear", "cosine", "sigmoid"):
        implementation = Reference(SCHEDULES_BY_NAME[name](T), variance)
        report = check_identities(Without(implementation, "reverse_variance"))
        assert report.ok, str(report)


def test_a_posterior_whose_logarithm_is_clipped_passes():
    plain = Plain()
    plain.post_var = plain.var
    plain.middle = lambda x0, x_t, t, mean: Plain.middle(plain, x0, x_t, t, mean)
    row = check_identities(plain)["q_posterior: at t = 1 it is x0 exactly"]
    assert row.verdict == "holds"
    assert "its logarithm is clipped" in row.explanation


class OtherTarget(Plain):
    """The bound around a network for another target."""

    def __init__(self, target: str, T: int = 40) -> None:
        super().__init__(T)
        self.target = target

    def elbo_terms(self, predict, x0, noise):
        L = np.zeros((self.T + 1, len(x0)))
        for t in range(1, self.T + 1):
            x_t, said = self.q_sample(x0, t, noise[t]), predict(self.q_sample(x0, t, noise[t]), t)
            root, sigma = np.sqrt(self.ab[t - 1]), np.sqrt(1.0 - self.ab[t - 1])
            x0_hat = said if self.target == "x0" else root * x_t - sigma * said  # v
            mean = said if self.target == "mean" else self.q_posterior(x0_hat, x_t, t)[0]
            L[t] = self.decode(x0, mean) if t == 1 else self.middle(x0, x_t, t, mean)
        L_0 = L[1].copy()
        L[1] = 0.0
        return self.prior(x0), L, L_0


@pytest.mark.parametrize("target", ["x0", "v", "mean"])
def test_the_bound_of_another_target_passes(target):
    implementation = OtherTarget(target)
    implementation.sample = None
    assert check_identities(implementation, target=target).ok
    assert not check_identities(implementation).ok
    implementation.use(np.append(implementation.beta[:-1], 1.0))  # zero terminal SNR
    implementation.model_mean = implementation.reverse_step = None
    implementation.eps_loss_weight = None
    report = check_identities(implementation, target=target)
    assert {row.verdict for row in report.rows} == {"holds", "not offered"}, str(report)


def test_zero_terminal_snr_is_no_failure():
    implementation = with_betas(np.append(Plain(50).beta[:-1], 1.0))
    report = check_identities(implementation)
    assert report.ok, str(report)
    assert "zero terminal SNR" in report["betas: T numbers in (0, 1)"].explanation
    remarks = {row.identity for row in report.rows if row.verdict == "remark"}
    others = {name for name in remarks if not name.startswith("sample: ")}
    assert others == {"elbo_terms: sum = log p(x0) - KL(q || p)"}
    assert "eps says nothing at T" in report["sample: predict is asked at each time"].explanation
    shown = report["elbo_terms: L_T by quadrature"]
    assert (shown.verdict, shown.residual) == ("holds", 0.0)


class Clipping(Plain):
    """A step that clips the x_0 that eps implies."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit
        self.sample = None

    def reverse_step(self, x_t, t, eps, z):
        x0 = (x_t - np.sqrt(1.0 - self.ab[t - 1]) * eps) / np.sqrt(self.ab[t - 1])
        mean = self.q_posterior(np.clip(x0, -self.limit, self.limit), x_t, t)[0]
        return mean + np.sqrt(self.var[t - 1]) * z if t > 1 else mean


def test_clipping_passes_where_it_is_announced():
    for seed in range(20):
        limit = (1.0, 0.05, 3.0)[seed % 3]
        assert check_identities(Clipping(limit), clip=limit, seed=seed).ok
    for implementation, clip in ((Clipping(1.0), 2.0), (Plain(), 1.0)):
        failed = check_identities(implementation, clip=clip)["reverse_step: coefficient of eps"]
        assert f"x_0 is not limited to [-{clip:g}, {clip:g}]" in failed.explanation


# --- what code does to arrays ----------------------------------------------------------------


class InPlace(Plain):
    """Right, but for its arguments afterwards."""

    def q_sample(self, x0, t, noise):
        noise *= np.sqrt(1.0 - self.ab[t - 1])
        x0 *= np.sqrt(self.ab[t - 1])
        return x0 + noise

    elbo_terms = None


class OneBuffer(Plain):
    """Writes all results into one array, into what predict returned and into what it was asked."""

    buffer = np.zeros((4, 3))

    def q_sample(self, x0, t, noise):
        if x0.shape != self.buffer.shape:
            return super().q_sample(x0, t, noise)
        np.multiply(x0, np.sqrt(self.ab[t - 1]), out=self.buffer)
        self.buffer += np.sqrt(1.0 - self.ab[t - 1]) * noise
        return self.buffer

    def q_posterior(self, x0, x_t, t):
        mean, variance = super().q_posterior(x0, x_t, t)
        if mean.shape != self.buffer.shape:
            return mean, variance
        self.buffer[...] = mean
        return self.buffer, variance

    def sample(self, predict, x_T, noise):
        x = x_T.copy()
        for t in range(self.T, 0, -1):
            eps = predict(x, t)
            x[...] = self.reverse_step(x, t, eps, noise[t])
            eps *= np.nan
        return x


def test_code_that_works_in_place_is_said_and_the_next_report_is_clean():
    report = check_identities(InPlace())
    assert [row.identity for row in report.failed] == ["arguments are left as they were"]
    assert report.failed[0].explanation == "changed in place: q_sample: noise, q_sample: x0"
    assert {row.verdict for row in check_identities(Plain()).rows} <= {"holds", "not offered"}
    spoilt = Plain()
    spoilt.q_sample = lambda x0, t, noise: InPlace.q_sample(spoilt, x0, t, noise)
    assert "elbo_terms: noise" in check_identities(spoilt).failed[-1].explanation


def test_one_buffer_for_everything_is_no_slip():
    for _ in range(2):
        assert {row.verdict for row in check_identities(OneBuffer()).rows} <= {"holds", "not offered"}


def test_tables_that_do_not_stay_as_they_are_are_said():
    def alpha_bars(s):
        s.beta *= 1.01
        return s.ab

    failed = check_identities(change(alpha_bars=alpha_bars)).failed
    assert failed[-1].explanation == "changed in place: its own betas()"


# --- precision -------------------------------------------------------------------------------


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
    assert row.explanation == "no more than tables in float32 lose; worst at t = 1"
    assert report.ok
    assert "cumsum(log1p(-beta))" in str(report)
    careful = check_identities(Single(careful=True), dtype="float32")
    assert careful["q_sample: variance of T steps composed"].verdict == "holds"
    strict = check_identities(Single(careful=True), dtype="float64")
    row = strict["q_sample: coefficient of x0"]
    assert row.verdict == "imprecise"
    assert 'results in float32; say dtype="float32"' in row.explanation


class SingleTables(Plain):
    """Tables made in float32 and used in float64."""

    def __init__(self, T: int = 1000) -> None:
        super().__init__(T, 0.1 / T, 20.0 / T)
        self.use(self.beta.astype(np.float32))
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray):
                setattr(self, name, value.astype(np.float64))
        self.dec_var = float(self.dec_var)


@pytest.mark.parametrize("silent", ["", "alpha_bars", "q_sample"])
@pytest.mark.parametrize("T", [50, 1000, 4000])
def test_float32_tables_explain_what_they_explain_in_float64(T, silent):
    report = check_identities(Without(SingleTables(T), silent), seed=T)
    assert report.ok, str(report)
    imprecise = [row for row in report.rows if row.verdict == "imprecise"]
    assert len(imprecise) > 9
    for row in imprecise:
        tables_themselves = row.identity.split(":")[0] in ("alpha_bars", "reverse_variance")
        why = 'results in float32; say dtype="float32"' if tables_themselves else "tables in float32"
        assert row.explanation.startswith(f"precision: {why}; worst at t = ")


def test_nothing_is_imprecise_without_evidence():
    """An error in float64 of the size that float32 tables have."""

    def model_mean(s, x_t, t, eps):
        return Plain.model_mean(s, x_t, t, eps * (1.0 + 1e-6 * np.sin(t)))

    implementation = change(model_mean=model_mean)
    row = check_identities(implementation)["model_mean: coefficient of eps"]
    assert row.verdict == "FAILS"
    assert 'if it computes in float32, say dtype="float32"' in row.explanation
    assert check_identities(implementation, dtype="float32").ok
    # Tables that are wrong, even float32 ones, are no evidence.
    wrong = SingleTables(50)
    wrong.alpha_bars = lambda: (wrong.ab**1.1).astype(np.float32)
    wrong.model_mean = implementation.model_mean
    assert (
        check_identities(Without(wrong, "q_sample"))["model_mean: coefficient of eps"].verdict == "FAILS"
    )


def wrong_prior(factor: float) -> Plain:
    right = Plain.prior
    return type("Wrong", (Plain,), {"prior": lambda s, x0: factor * right(s, x0)})(1000, 1e-4, 0.02)


@pytest.mark.parametrize(
    ("factor", "words"),
    [(0.0, "left out"), (-1.0, "sign"), (10.0, "it is 10 times"), (1.5, "1.5 times")],
)
def test_the_prior_is_judged_in_float32(factor, words):
    row = check_identities(wrong_prior(factor), dtype="float32")["elbo_terms: L_T by quadrature"]
    assert row.verdict == "FAILS"
    assert words in row.explanation
    right = check_identities(wrong_prior(1.0), dtype="float32")["elbo_terms: L_T by quadrature"]
    assert (right.verdict, right.tolerance < 1e-3) == ("holds", True)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("T", [4, 50, 1000, 4000])
@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_nothing_holds_at_a_tolerance_that_says_nothing(name, T, dtype):
    report = check_identities(Reference(SCHEDULES_BY_NAME[name](T)), dtype=dtype)
    assert report.ok, str(report)
    assert all(row.tolerance <= 0.1 for row in report.rows if row.verdict == "holds")


def test_what_cannot_be_judged_is_a_remark():
    plain = Plain()
    plain.use_variance(np.append(1e-20, plain.beta[1:]))
    row = check_identities(plain, dtype="float32")["elbo_terms: L_0 of a Gaussian decoder"]
    assert row.verdict == "remark"
    assert "cannot be judged in this precision" in row.explanation
    plain = Plain(8, 0.1, 0.8)
    plain.use_variance(np.append(plain.beta[:4], 1e-13 * plain.beta[4:]))
    row = check_identities(plain, dtype="float32")["elbo_terms: L_{t-1} by quadrature"]
    assert row.verdict == "holds"
    assert "too imprecise to be judged at 4 of 7 times" in row.explanation


# --- adapters --------------------------------------------------------------------------------


def test_what_is_missing_is_not_offered():
    class Little:
        T = 3

        def betas(self):
            return [0.1, 0.2, 0.3]

        def model_mean(self, x_t, t, eps):
            raise NotImplementedError

    report = check_identities(Little())
    assert report.ok
    middle = ["not offered"] * (len(report.rows) - 3)
    assert [row.verdict for row in report.rows] == ["holds", "remark", *middle, "holds"]
    assert "not offered: alpha_bars, elbo_terms, eps_loss_weight, learned_variance, loss" in str(report)
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
        (lambda s: "no", "real numbers"),
    ],
)
def test_betas_that_are_none(betas, words):
    report = check_identities(change(betas=betas))
    assert len(report.rows) == 1
    assert re.search(words, report.rows[0].explanation)


BAD = {
    "none at all": (lambda b: b - 0.01, "beta[1] = -0.009 is not between 0 and 1", 0),
    "not numbers": (lambda b: b * np.nan, "formulas are judged at no t", 0),
    "one above 1": (lambda b: np.where(np.arange(100) == 49, 1.2, b), "judged up to t = 49", 49),
    "one is 1": (lambda b: np.where(np.arange(100) == 49, 1.0, b), "judged up to t = 49", 49),
    "beta_1 = 0": (
        lambda b: np.append(0.0, b[1:]),
        "beta[1] = 0: this step adds no noise; does alpha_bar[1] hold what belongs to t = 0?",
        100,
    ),
    "one is 0": (lambda b: np.where(np.arange(100) == 49, 0.0, b), "beta[50] = 0: this step", 100),
}


@pytest.mark.parametrize("name", BAD)
def test_one_bad_beta_is_one_failed_row(name):
    spoil, words, until = BAD[name]
    implementation = with_betas(spoil(Plain().beta))
    report = check_identities(implementation)
    assert [row.identity for row in report.failed] == ["betas: T numbers in (0, 1)"], str(report)
    assert words in report.failed[0].explanation
    verdict = "holds" if until else "remark"
    for row in ("alpha_bars: product of alpha_1..alpha_t", "reverse_step: variance of the noise"):
        assert report[row].verdict == verdict
    assert report["sample: coefficient of x_t"].explanation == "cannot be judged while a beta is wrong"
    if until:  # what else is wrong is seen
        implementation.q_sample = lambda x0, t, noise: x0
        assert check_identities(implementation)["q_sample: coefficient of x0"].verdict == "FAILS"


def test_methods_of_other_names_are_said():
    class Misspelt(Plain):
        qsample = Plain.q_sample
        posterior_mean_variance = staticmethod(lambda x0, x_t, t: (x0, 0.0))

        def p_sample_loop(self, n):
            return n

        @property
        def reverse_steps(self):
            raise RuntimeError

    assert check_identities(Misspelt()).remarks == ()  # all that is meant is offered
    implementation = Misspelt()
    implementation.q_sample = implementation.q_posterior = None
    implementation.sample = implementation.elbo_terms = None
    report = check_identities(implementation)
    assert report.remarks == (
        "unknown method 'posterior_mean_variance': did you mean q_posterior?",
        "unknown method 'qsample': did you mean q_sample?",
    )
    assert "unknown method 'qsample'" in str(report)


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
