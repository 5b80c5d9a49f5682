"""The misprints of docs/errata.md: each printed formula fails by a margin, the correction holds.

The printed formulas live here and nowhere else.
"""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

import ddpm_np as ddpm
from ddpm_np.gaussians import normal_log_density
from ddpm_np.paths import draw_path, path_log_density

ROOT = Path(__file__).parent.parent
SCHEDULE = ddpm.linear_schedule(1000)
ROUNDING = 1e-10


def log_normal(x: np.ndarray, mean: np.ndarray, variance: float) -> np.ndarray:
    return normal_log_density(x, np.broadcast_to(mean, x.shape).copy(), float(variance))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def eps_loss_error(weight: float, t: int, rng: np.random.Generator) -> float:
    """Relative error of L_{t-1} computed from a weight on the squared noise error."""
    x0, noise, prediction = rng.standard_normal((3, 100, 3))
    sigma2 = ddpm.reverse_variance(SCHEDULE, "beta")
    x_t = ddpm.q_sample(SCHEDULE, x0, t, noise)
    mean = ddpm.model_mean(SCHEDULE, x_t, t, prediction)
    true = ddpm.middle_term(SCHEDULE, x0, x_t, t, mean, sigma2)
    constant = ddpm.loss_constant(SCHEDULE, t, sigma2, 3)
    claimed = -weight * np.sum((noise - prediction) ** 2, axis=1) + constant
    return float(np.max(np.abs(claimed / true - 1.0)))


@pytest.mark.parametrize("t", [2, 500, 1000])
def test_E1_eps_weight_lacks_alpha(t, rng):
    sigma2 = ddpm.reverse_variance(SCHEDULE, "beta")
    alpha, variance = SCHEDULE.alpha[t], SCHEDULE.one_minus_alpha_bar[t]
    printed = (1.0 - alpha) ** 2 / (2.0 * sigma2[t] * variance)
    assert eps_loss_error(ddpm.eps_loss_weight(SCHEDULE, t, sigma2), t, rng) < ROUNDING
    # The printed weight is too small by the factor alpha; the constant dilutes that a little.
    assert eps_loss_error(printed, t, rng) > 0.3 * (1.0 - alpha)


def test_E2_noise_scaled_by_variance_instead_of_its_root():
    t = 500
    variance = 0.0
    for s in range(1, t + 1):  # (20), step by step, for the variance of x_t given x_0
        variance = SCHEDULE.alpha[s] * variance + SCHEDULE.beta[s]
    root = SCHEDULE.one_minus_alpha_bar[t] ** 0.5
    assert abs(root**2 / variance - 1.0) < ROUNDING
    printed = SCHEDULE.one_minus_alpha_bar[t]
    assert abs(printed**2 / variance - 1.0) > 0.05


def test_E3_reversed_product_starts_from_x_T(rng):
    schedule = ddpm.linear_schedule(5, 0.1, 0.4)
    x0 = rng.standard_normal((50, 2))
    path = draw_path(schedule, x0, rng.standard_normal((6, 50, 2)))
    backwards = np.zeros(50)
    for t in range(2, 6):
        mean, variance = ddpm.q_posterior(schedule, x0, path[t], t)
        backwards += log_normal(path[t - 1], mean, float(variance))
    first = log_normal(path[1], *moments(schedule, x0, 1))
    last = log_normal(path[5], *moments(schedule, x0, 5))
    forward = path_log_density(schedule, path)
    assert np.max(np.abs(last + backwards - forward)) < 1e-9
    assert np.mean(np.abs(first + backwards - forward)) > 1.0


def test_E4_telescoping_denominator(rng):
    # Product over t = 2..T of q(x_t|x_0) / q(x_{t-1}|x_0) = q(x_T|x_0) / q(x_1|x_0). Printed, with
    # log-densities f_t: numerator f_1 f_2 ... f_{T-1}, denominator f_2 f_2 f_4 ... f_T.
    schedule = ddpm.linear_schedule(5, 0.1, 0.4)
    x0 = rng.standard_normal((50, 2))
    path = draw_path(schedule, x0, rng.standard_normal((6, 50, 2)))
    f = [np.zeros(50)] + [log_normal(path[t], *moments(schedule, x0, t)) for t in range(1, 6)]
    numerator = f[1] + f[2] + f[3] + f[4]
    true = f[1] - f[5]
    assert np.max(np.abs(numerator - (f[2] + f[3] + f[4] + f[5]) - true)) < ROUNDING
    assert np.mean(np.abs(numerator - (f[2] + f[2] + f[4] + f[5]) - true)) > 0.5


def test_E5_alpha_bar_is_a_product_up_to_t():
    slope = 1.0
    for t in range(1, SCHEDULE.T + 1):
        slope *= SCHEDULE.alpha[t]
        assert abs(SCHEDULE.alpha_bar[t] / slope - 1.0) < ROUNDING
    printed = SCHEDULE.alpha_bar[SCHEDULE.T]
    assert SCHEDULE.alpha_bar[1] / printed > 1e4


def test_E6_variance_of_a_sum_of_gaussians():
    a, b, mean_1, mean_2, s_1, s_2 = 0.8, -0.5, 1.0, 2.0, 0.7, 1.3
    x, w = np.polynomial.hermite_e.hermegauss(10)
    w = w / w.sum()
    values = a * (mean_1 + s_1 * x)[:, None] + b * (mean_2 + s_2 * x)[None, :]
    weights = w[:, None] * w[None, :]
    mean = np.sum(weights * values)
    variance = np.sum(weights * (values - mean) ** 2)
    assert abs(variance - (a**2 * s_1**2 + b**2 * s_2**2)) < ROUNDING
    assert abs(variance - (a**2 * mean_1**2 + b**2 * mean_2**2)) > 0.5


def test_E7_consistency_form_exactly():
    """1-D, T = 4: everything is Gaussian, so both forms are finite sums; no sampling."""
    schedule = ddpm.schedule_from_beta([0.3, 0.5, 0.7, 0.9])
    x0, sigma2 = 0.7, schedule.beta
    slope, offset = 0.8, 0.1  # the model: mean(x_t) = slope x_t + offset

    def second(mean: float, variance: float) -> float:
        return mean**2 + variance

    def joint(s: int, t: int) -> tuple[float, float, float, float, float]:
        """Means and covariance of (x_s, x_t) given x_0, s < t."""
        ratio = np.sqrt(schedule.alpha_bar[t] / schedule.alpha_bar[s])
        v_s, v_t = schedule.one_minus_alpha_bar[[s, t]]
        return *(np.sqrt(schedule.alpha_bar[[s, t]]) * x0), v_s, v_t, ratio * v_s

    def log_p(t: int) -> float:
        """E[log p(x_t | x_{t+1})] under q."""
        m, n, v, u, c = joint(t, t + 1)
        error = second(m - slope * n - offset, v + slope**2 * u - 2.0 * slope * c)
        return -0.5 * (np.log(2.0 * np.pi * sigma2[t + 1]) + error / sigma2[t + 1])

    def log_q(t: int) -> float:
        """E[log q(x_t | x_{t-1})] under q: an entropy."""
        return -0.5 * (np.log(2.0 * np.pi * schedule.beta[t]) + 1.0)

    x_1 = np.sqrt(schedule.alpha_bar[1]) * x0
    L_0 = -0.5 * (
        np.log(2.0 * np.pi * sigma2[1])
        + second(x0 - slope * x_1 - offset, slope**2 * schedule.beta[1]) / sigma2[1]
    )
    x_T = np.sqrt(schedule.alpha_bar[4]) * x0
    prior = -0.5 * (np.log(2.0 * np.pi) + second(x_T, schedule.one_minus_alpha_bar[4])) - log_q(4)
    triple = L_0 + prior + sum(log_p(t) - log_q(t) for t in (1, 2, 3))

    def printed_kl(t: int) -> float:
        """E over (x_{t-1}, x_{t+1}) of KL(q(x_t | x_{t-1}) || p(x_t | x_{t+1}))."""
        root = np.sqrt(schedule.alpha[t])
        if t == 1:
            m, v, n, u, c = x0, 0.0, *joint(1, 2)[1:2], schedule.one_minus_alpha_bar[2], 0.0
        else:
            m, n, v, u, c = joint(t - 1, t + 1)
        shift = second(
            root * m - slope * n - offset, root**2 * v + slope**2 * u - 2.0 * root * slope * c
        )
        ratio = schedule.beta[t] / sigma2[t + 1]
        return 0.5 * (ratio - 1.0 - np.log(ratio) + shift / sigma2[t + 1])

    printed = L_0 + prior - sum(printed_kl(t) for t in (1, 2, 3))

    # The true bound: the project's own decomposition, its expectation over the noise by quadrature.
    nodes, weights = np.polynomial.hermite_e.hermegauss(20)
    weights = weights / weights.sum()
    terms = ddpm.elbo_decomposition(
        schedule,
        lambda x_t, t: slope * x_t + offset,
        np.full((20, 1), x0),
        noise=lambda t: nodes[:, None],
        sigma2=sigma2,
        target="mean",
    )
    elbo = float(weights @ terms.total)
    assert abs(triple - elbo) < 1e-9
    assert abs(printed - elbo) > 0.3


def test_E8_prior_matching_is_not_zero():
    T = SCHEDULE.T
    x_prev = np.sqrt(SCHEDULE.one_minus_alpha_bar[T - 1])  # a typical |x_{T-1}| in each dimension
    mean, variance = ddpm.q_step_moments(SCHEDULE, np.full((1, 1), x_prev), T)
    printed = ddpm.kl_isotropic(mean, float(variance), np.zeros((1, 1)), 1.0)
    assert printed[0] > 1.9
    small = -ddpm.prior_term(SCHEDULE, np.ones((1, 1)))
    assert 0.0 < small[0] < 1e-3
    for steps in (100_000, 1_000_000):  # 0 for no T where beta_T < 1, however large
        tail = ddpm.schedule_from_alpha_bar([1.0, 0.5, 1.0 / steps])
        assert -ddpm.prior_term(tail, np.ones((1, 1)))[0] > 0.4 / steps
    zero = ddpm.zero_terminal_snr(SCHEDULE)
    mean, variance = ddpm.q_step_moments(zero, np.full((1, 1), x_prev), T)
    assert ddpm.kl_isotropic(mean, float(variance), np.zeros((1, 1)), 1.0)[0] == 0.0
    assert ddpm.prior_term(zero, np.full((1, 1), 1e3))[0] == 0.0


def test_E9_noise_is_left_out_at_t_1_not_0():
    asked = []

    def noise(t: int) -> np.ndarray:
        asked.append(t)
        return np.ones((1, 1))

    schedule, sigma2 = ddpm.linear_schedule(3, 0.1, 0.2), np.array([0.0, 0.3, 0.3, 0.3])
    x_T = np.ones((1, 1))
    path = ddpm.ancestral_sample(
        schedule, lambda x, t: x, x_T, noise=noise, sigma2=sigma2, target="mean", trajectory=True
    )
    assert asked == [3, 2]
    # "if t = 0" never holds in a loop over T..1, so that x_0 gets noise that no decoder expects.
    printed = path[1] + np.sqrt(sigma2[1])
    assert path[0] == path[1]
    assert abs(printed - path[0]) > 0.5


@pytest.mark.parametrize("t", [2, 500, 1000])
def test_E10_eps_weight_of_the_lecture_notes(t, rng):
    sigma2 = ddpm.reverse_variance(SCHEDULE, "beta")
    alpha_bar, variance = SCHEDULE.alpha_bar[t], SCHEDULE.one_minus_alpha_bar[t]
    printed = 1.0 / (2.0 * sigma2[t] * variance * alpha_bar)
    assert eps_loss_error(ddpm.eps_loss_weight(SCHEDULE, t, sigma2), t, rng) < ROUNDING
    assert eps_loss_error(printed, t, rng) > 100.0
    assert printed / ddpm.eps_loss_weight(SCHEDULE, t, sigma2) > 68_000


def test_E11_first_step_is_needed():
    x0 = np.ones((1, 1))
    step, marginal = ddpm.q_step_moments(SCHEDULE, x0, 1), ddpm.q_moments(SCHEDULE, x0, 1)
    assert step == marginal
    _, two = ddpm.q_moments(SCHEDULE, x0, 2)
    variance_without_first = SCHEDULE.beta[2]
    assert float(two) / variance_without_first > 1.5


def test_E12_limit_is_isotropic():
    covariance = np.diag([4.0, 0.01])
    limit = SCHEDULE.alpha_bar[-1] * covariance + SCHEDULE.one_minus_alpha_bar[-1] * np.eye(2)
    assert np.linalg.cond(covariance) == pytest.approx(400.0, rel=1e-13)
    assert np.linalg.cond(limit) < 1.001


def moments(schedule: ddpm.Schedule, x0: np.ndarray, t: int) -> tuple[np.ndarray, float]:
    mean, variance = ddpm.q_moments(schedule, x0, t)
    return mean, float(variance)


def test_every_row_of_the_document_has_its_test():
    rows = re.findall(r"^\| (E\d+) \|", (ROOT / "docs" / "errata.md").read_text(), re.MULTILINE)
    tests = {name.split("_")[1] for name in globals() if name.startswith("test_E")}
    assert rows == [f"E{n}" for n in range(1, 13)]
    assert set(rows) == tests


def test_printed_weights_stand_nowhere_in_the_package():
    # E1 and E10 as code: a weight with 1 - alpha_bar in the denominator must name alpha too.
    sources = itertools.chain((ROOT / "ddpm_np").rglob("*.py"), (ROOT / "backends").rglob("*.py"))
    for path in sources:
        for line in path.read_text().splitlines():
            if re.search(r"beta\[t\] \*\* 2 / ", line):
                assert "alpha[t]" in line, f"{path}: {line}"
