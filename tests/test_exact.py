"""Models with known answers, against quadrature, Monte Carlo, differences and each other."""

import itertools
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from ddpm_np.data import toy as data
from ddpm_np.exact import (
    IsotropicMixture,
    NoisyCurve,
    _weigh,
    eight_gaussians_exact,
    mixture_1d_exact,
    swiss_roll_exact,
)
from ddpm_np.exact._quadrature import cells_around, composite_rule
from ddpm_np.exact.curves import _blur, _mixture
from ddpm_np.forward import q_sample
from ddpm_np.schedules import linear_schedule, schedule_from_beta
from ddpm_np.targets import eps_from_x0

SCHEDULE = linear_schedule(1000)
ROLL = swiss_roll_exact()
LAWS = [mixture_1d_exact(), eight_gaussians_exact(), ROLL]
IDS = ["mixture_1d", "eight_gaussians", "swiss_roll"]
TIMES = [1, 7, 60, 250, 700, 1000]


def make_mixture(seed, K=4, d=2, std=0.3):
    rng = np.random.default_rng(seed)
    return IsotropicMixture(rng.dirichlet(np.full(K, 3.0)), rng.standard_normal((K, d)), std)


def draw(law, t, n, seed):
    """x_0, eps and x_t, on the host."""
    rng = np.random.default_rng(seed)
    x0 = law.sample(n, rng)
    eps = rng.standard_normal(x0.shape)
    return x0, eps, q_sample(SCHEDULE, x0, t, eps)


mixtures = st.builds(
    make_mixture,
    seed=st.integers(0, 2**32),
    K=st.integers(1, 6),
    d=st.integers(1, 3),
    std=st.floats(0.01, 2.0),
)
times = st.integers(1, 1000)


# --- the mixture


@given(mixtures)
def test_log_density_is_scipys(law):
    x = law.sample(20, 0) + np.linspace(-3, 3, 20)[:, None]
    parts = [
        np.log(w) + stats.multivariate_normal(m, law.std**2 * np.eye(law.d)).logpdf(x)
        for w, m in zip(law.weights, law.means, strict=True)
    ]
    expected = np.logaddexp.reduce(np.reshape(parts, (-1, 20)), axis=0)
    np.testing.assert_allclose(law.log_density(x), expected, rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("t", [0, *TIMES])
def test_log_density_of_x_t_integrates_to_one(t):
    p = mixture_1d_exact().diffused(SCHEDULE, t)
    x, w = composite_rule(np.linspace(-12.0, 12.0, 200), 12)
    assert w @ np.exp(p.log_density(x[:, None])) == pytest.approx(1.0, abs=1e-13)


@given(mixtures, times)
def test_score_is_the_gradient_by_complex_step(law, t):
    """The density of the diffused mixture, written out so that it takes complex x."""
    ab, om = SCHEDULE.alpha_bar[t], SCHEDULE.one_minus_alpha_bar[t]
    x = draw(law, t, 5, 1)[2]
    variance = ab * law.std**2 + om
    gradient = np.empty_like(x)
    for i in range(law.d):
        z = x + 1e-30j * np.eye(law.d)[i]
        square = np.sum((z[:, None, :] - math.sqrt(ab) * law.means) ** 2, axis=-1) / (2 * variance)
        shift = square.real.min(axis=1, keepdims=True)
        gradient[:, i] = np.log(np.exp(shift - square) @ law.weights).imag / 1e-30
    p = law.diffused(SCHEDULE, t)
    # Both round x - m, of size 1, before they divide by the variance.
    np.testing.assert_allclose(p.score(x), gradient, rtol=1e-10, atol=3e-14 / variance)


@pytest.mark.parametrize("t", TIMES)
@pytest.mark.parametrize("law", LAWS, ids=IDS)
def test_score_by_finite_differences(law, t):
    p, x = law.diffused(SCHEDULE, t), draw(law, t, 50, 2)[2]
    h = 1e-4 * p.std
    steps = np.eye(p.d) * h
    numeric = np.stack([(p.log_density(x + s) - p.log_density(x - s)) / (2 * h) for s in steps], axis=1)
    # Truncation is of order h^2 / std^3 times third derivatives, rounding 1e-14 / h.
    np.testing.assert_allclose(p.score(x), numeric, atol=2e-7 / p.std, rtol=2e-7)


@given(mixtures, times)
def test_tweedie(law, t):
    x_t = draw(law, t, 8, 3)[2]
    expected = -math.sqrt(SCHEDULE.one_minus_alpha_bar[t]) * law.diffused(SCHEDULE, t).score(x_t)
    np.testing.assert_allclose(law.bayes_eps(SCHEDULE, x_t, t), expected, rtol=1e-10, atol=1e-11)


@given(mixtures, times)
def test_bayes_eps_and_posterior_x0_say_the_same(law, t):
    x_t = draw(law, t, 8, 4)[2]
    x0 = law.posterior_x0(SCHEDULE, x_t, t)
    # eps_from_x0 divides the rounding of x0 by sqrt(1 - alpha_bar), 0.01 at the least.
    np.testing.assert_allclose(
        law.bayes_eps(SCHEDULE, x_t, t), eps_from_x0(SCHEDULE, x_t, t, x0), rtol=1e-10, atol=1e-11
    )


@pytest.mark.parametrize("t", TIMES)
def test_posterior_means_by_scipy_quadrature(t):
    """E[x_0 | x_t] and E[eps | x_t] as ratios of integrals over x_0, by Bayes' rule."""
    law = mixture_1d_exact()
    ab, om = SCHEDULE.alpha_bar[t], SCHEDULE.one_minus_alpha_bar[t]
    signal, sigma = math.sqrt(ab), math.sqrt(om)
    for value in (-2.0, -0.55, 0.03, 0.9, 2.6):
        lo, hi = max(-4.0, (value - 9 * sigma) / signal), min(4.0, (value + 9 * sigma) / signal)

        def joint(x0, value=value):
            prior = sum(
                w * stats.norm.pdf(x0, m, data.MIXTURE_1D_NOISE)
                for w, m in zip(data.MIXTURE_1D_WEIGHTS, data.MIXTURE_1D_MEANS, strict=True)
            )
            return prior * np.exp(-((value - signal * x0) ** 2) / (2 * om))

        x, w = composite_rule(np.linspace(lo, hi, 60), 10)
        assert integrate.quad(joint, lo, hi, limit=200)[0] == pytest.approx(w @ joint(x), rel=1e-7)
        weights = w * joint(x) / (w @ joint(x))
        x_t = np.array([[value]])
        x0_mean = law.posterior_x0(SCHEDULE, x_t, t).item()
        eps_mean = law.bayes_eps(SCHEDULE, x_t, t).item()
        assert x0_mean == pytest.approx(weights @ x, abs=1e-10)
        assert eps_mean == pytest.approx(weights @ ((value - signal * x) / sigma), abs=1e-10)


@pytest.mark.parametrize("t", TIMES)
@pytest.mark.parametrize("law", LAWS, ids=IDS)
def test_bayes_eps_is_the_conditional_mean_of_the_noise(law, t):
    """E[(eps - E[eps|x_t]) f(x_t)] = 0 for any f: the defining property, by Monte Carlo."""
    x0, eps, x_t = draw(law, t, 20_000, 5)
    for truth, estimate in (
        (eps, law.bayes_eps(SCHEDULE, x_t, t)),
        (x0, law.posterior_x0(SCHEDULE, x_t, t)),
    ):
        for f in (1.0, x_t, np.sin(3.0 * x_t), estimate, x_t[:, ::-1]):
            product = (truth - estimate) * f
            se = product.std(0) / math.sqrt(len(product))
            assert np.all(np.abs(product.mean(0)) < 4.5 * se + 1e-12)


@pytest.mark.parametrize("law", [mixture_1d_exact(), eight_gaussians_exact()], ids=IDS[:2])
@pytest.mark.parametrize("t", [1, 250, 1000])
def test_diffused_is_the_law_of_x_t(law, t):
    x_t = draw(law, t, 50_000, 6)[2]
    p = law.diffused(SCHEDULE, t)
    if p.d == 1:
        cdf = stats.norm(p.means[:, 0], p.std).cdf
        assert stats.kstest(x_t[:, 0], lambda x: cdf(x[:, None]) @ p.weights).pvalue > 1e-3
    second = x_t**2
    expected = p.weights @ p.means**2 + p.std**2
    assert np.all(np.abs(second.mean(0) - expected) < 4.5 * second.std(0) / math.sqrt(len(x_t)))


@pytest.mark.parametrize("law", [make_mixture(3), mixture_1d_exact()], ids=["2d", "1d"])
def test_sample_follows_the_density(law):
    x = law.sample(100_000, 0)
    values = law.log_density(x)
    assert abs(-values.mean() - law.entropy()) < 4.5 * values.std() / math.sqrt(len(x))
    assert np.all(np.abs(x.mean(0) - law.weights @ law.means) < 4.5 * x.std(0) / math.sqrt(len(x)))


@pytest.mark.parametrize("d", [1, 2])
def test_entropy_of_one_gaussian(d):
    law = IsotropicMixture([1.0], np.full((1, d), 0.37), 1.7)
    assert law.entropy() == pytest.approx(0.5 * d * math.log(2 * math.pi * math.e * 1.7**2), abs=1e-13)


@pytest.mark.parametrize("gap", [0.5, 3.0, 6.0, 40.0])
def test_entropy_in_1d_by_scipy_quadrature(gap):
    law = IsotropicMixture([0.3, 0.7], [[0.0], [gap]], 1.0)

    def integrand(x):
        p = 0.3 * stats.norm.pdf(x) + 0.7 * stats.norm.pdf(x, gap)
        return -p * math.log(p) if p > 0.0 else 0.0

    edges = np.unique([-12.0, 0.0, gap / 2, gap, gap + 12.0])
    pairs = itertools.pairwise(edges)
    expected = sum(integrate.quad(integrand, a, b, epsabs=1e-11, limit=200)[0] for a, b in pairs)
    assert law.entropy() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("law", [make_mixture(1), make_mixture(2, d=1), eight_gaussians_exact()])
def test_entropy_is_converged(law):
    assert law.entropy() == pytest.approx(law.entropy(nodes=20), abs=2e-11)


def test_entropy_scales_and_is_translation_invariant():
    law = make_mixture(4)
    moved = IsotropicMixture(law.weights, 3.0 * law.means + 5.0, 3.0 * law.std)
    assert moved.entropy() == pytest.approx(law.entropy() + 2 * math.log(3.0), abs=1e-10)


# --- the curve


def line(u):
    return np.stack([3.0 * u, -4.0 * u], axis=1)


def test_line_in_closed_form():
    """A straight segment of length 10 with noise: uniform convolved with a normal, both axes."""
    law = NoisyCurve(line, -1.0, 1.0, 0.2)
    assert law.length == pytest.approx(10.0, rel=1e-12)
    along, across = np.meshgrid([-5.9, -5.0, -4.9, -1.0, 0.0, 3.3, 5.5], [-0.7, 0.0, 0.3])
    along, across = along.ravel(), across.ravel()
    x = along[:, None] * np.array([0.6, -0.8]) + across[:, None] * np.array([0.8, 0.6])
    density = (stats.norm.cdf((along + 5) / 0.2) - stats.norm.cdf((along - 5) / 0.2)) / 10.0
    expected = np.log(density) + stats.norm.logpdf(across, scale=0.2)
    np.testing.assert_allclose(law.log_density(x), expected, rtol=0.0, atol=1e-9)


def test_line_with_uneven_speed_is_another_law():
    """Panels follow the arc, but the law stays uniform in u: here u = the square root."""
    law = NoisyCurve(lambda u: line(u**2), 0.1, 1.0, 0.2)
    assert np.all(law.mixture().weights > 0)
    assert law.mixture().weights.sum() == pytest.approx(1.0, abs=1e-14)
    mean_of_square = (1.0 - 0.1**3) / 3.0 / 0.9
    np.testing.assert_allclose(
        law.mixture().weights @ law.mixture().means, mean_of_square * np.array([3.0, -4.0]), rtol=1e-12
    )


def test_swiss_roll_shares_its_law_with_the_data():
    np.testing.assert_array_equal(ROLL.sample(100, 7), data.swiss_roll(100, 7))
    n = 2000
    values = ROLL.log_density(data.swiss_roll(n, 1))
    assert abs(-values.mean() - ROLL.entropy()) < 4.5 * values.std() / math.sqrt(n)


@pytest.mark.parametrize("name", ["eight_gaussians", "mixture_1d"])
def test_named_mixtures_are_the_laws_of_the_data(name):
    law = {"eight_gaussians": eight_gaussians_exact, "mixture_1d": mixture_1d_exact}[name]()
    values = law.log_density(data.DATASETS[name](100_000, 1))
    assert abs(-values.mean() - law.entropy()) < 4.5 * values.std() / math.sqrt(len(values))
    clean = data.DATASETS[name](1000, 1, noise=0.0)
    assert np.min(np.abs(clean[:, None] - law.means).sum(-1), axis=1).max() == 0.0


def test_swiss_roll_density_by_scipy_quadrature():
    """At points on the roll, on its ends and between its turns; the integral over u by quad."""
    ends = data.swiss_roll_curve(np.array([1.5, 4.5]) * np.pi)
    x = np.concatenate([ends, ends + 0.07, ROLL.sample(3, 0), [[0.0, 0.0], [0.3, 0.9]]])
    lo, hi = data.SWISS_ROLL_RANGE

    def integrand(u, point):
        r = np.array([u * math.cos(u), u * math.sin(u)]) / 8.0 - point
        return math.exp(-(r @ r) / (2 * 0.05**2)) / (2 * math.pi * 0.05**2) / (hi - lo)

    edges = np.linspace(lo, hi, 25)
    for point, log_p in zip(x, ROLL.log_density(x), strict=True):
        density = sum(
            integrate.quad(integrand, a, b, (point,), epsabs=0, epsrel=1e-10)[0]
            for a, b in itertools.pairwise(edges)
        )
        assert log_p == pytest.approx(math.log(density), abs=1e-8)


@pytest.mark.parametrize("t", [1, 2, 5, 20, 50, 100, 150, 250, 400, 600, 800, 1000])
def test_curve_is_converged_at_every_time(t):
    """48 panels, four times as many as at t = 1, change nothing: at all t, and 5 sigma off."""
    fine = _mixture(ROLL, 48)
    x_t = draw(ROLL, t, 300, 8)[2]
    far = x_t + 5.0 * ROLL.diffused(SCHEDULE, t).std * np.array([0.6, 0.8])
    for x, atol in ((x_t, 1e-10), (far, 1e-4)):
        eps = ROLL.bayes_eps(SCHEDULE, x, t)
        np.testing.assert_allclose(eps, fine.bayes_eps(SCHEDULE, x, t), rtol=0.0, atol=atol)
        log_p, exact = (law.diffused(SCHEDULE, t).log_density(x) for law in (ROLL, fine))
        np.testing.assert_allclose(log_p, exact, rtol=0.0, atol=atol)


def test_curve_takes_fewer_nodes_through_noise():
    assert len(ROLL.mixture().weights) > 500
    assert len(ROLL.mixture(0.5).weights) == 96
    assert ROLL.mixture(0.5) is ROLL.mixture(1e300)
    for t in (0, *TIMES):
        ab = SCHEDULE.alpha_bar[t]
        assert _blur(SCHEDULE, t) == pytest.approx(math.sqrt((1.0 - ab) / ab), rel=1e-9)


@given(st.floats(0.02, 10.0), st.floats(0.1, 50.0))
def test_panels_resolve_what_they_promise(std, panel):
    law = NoisyCurve(data.swiss_roll_curve, *data.SWISS_ROLL_RANGE, std=std, panel=panel)
    for blur in (0.0, 0.1, 3.0):
        needed = law.length / (panel * math.hypot(std, blur))
        assert max(needed, 2.0) <= law._panels(blur) <= max(2.0 * needed, 2.0)


def test_entropy_of_the_swiss_roll():
    """Converged, and confirmed by a rule of another kind: u-quadrature x Gauss-Hermite."""
    found = ROLL.entropy()
    assert found == pytest.approx(ROLL.entropy(nodes=20), abs=1e-12)
    fine = NoisyCurve(data.swiss_roll_curve, *data.SWISS_ROLL_RANGE, std=0.05, panel=12.0)
    assert found == pytest.approx(fine.entropy(), abs=1e-12)
    z, w = np.polynomial.hermite_e.hermegauss(16)
    z = np.stack(np.meshgrid(z, z), axis=-1).reshape(-1, 2)
    w = np.outer(w, w).ravel() / (2 * math.pi)
    mixture = ROLL.mixture()
    x = (mixture.means[:, None, :] + 0.05 * z).reshape(-1, 2)
    keep = np.outer(mixture.weights, w).ravel() > 1e-17
    entropy = -np.outer(mixture.weights, w).ravel()[keep] @ ROLL.log_density(x[keep])
    assert found == pytest.approx(entropy, abs=1e-8)


def test_curve_in_one_dimension_is_a_smoothed_uniform():
    law = NoisyCurve(lambda u: u[:, None], 0.0, 2.0, 0.1)
    x = np.linspace(-0.4, 2.4, 29)
    expected = (stats.norm.cdf(x / 0.1) - stats.norm.cdf((x - 2.0) / 0.1)) / 2.0
    np.testing.assert_allclose(np.exp(law.log_density(x[:, None])), expected, rtol=0.0, atol=1e-13)
    assert law.d == 1
    assert law.entropy() > math.log(2.0)


# --- every library, device and precision


@pytest.mark.parametrize("law", LAWS, ids=IDS)
def test_libraries_and_precisions(law, lib, dtype):
    """Against float64 NumPy. float32 rounds x and means of size 2 by 1e-7, which the smallest
    standard deviation, 0.05, turns into 3e-6 in units of noise, and 5 of those in an exponent."""
    t = np.array([1, 1000, 60, 7, 250, 1])
    x = draw(law, 60, 6, 9)[2]
    given_x = lib.array(x, dtype)
    x = lib.host(given_x).astype(np.float64)  # as rounded
    tol = 1e-12 if dtype == "float64" else 5e-5
    times = lib.xp.asarray(t, device=lib.device)
    pairs = [
        (law.log_density(given_x), law.log_density(x)),
        (law.score(given_x) * 0.05, law.score(x) * 0.05),
        *[
            (method(SCHEDULE, given_x, s), method(SCHEDULE, x, t if s is times else s))
            for method in (law.posterior_x0, law.bayes_eps)
            for s in (1, 250, times)
        ],
    ]
    for actual, expected in pairs:
        assert actual.dtype == given_x.dtype
        assert actual.shape == expected.shape
        np.testing.assert_allclose(lib.host(actual), expected, rtol=tol, atol=tol)


@pytest.mark.parametrize("law", LAWS, ids=IDS)
def test_times_per_example_are_each_example_on_its_own(law):
    t = np.random.default_rng(0).integers(1, 1001, 40)
    x = draw(law, t, 40, 10)[2]
    for method in (law.posterior_x0, law.bayes_eps):
        single = [method(SCHEDULE, x[i : i + 1], int(t[i])) for i in range(40)]
        np.testing.assert_allclose(
            method(SCHEDULE, x, t), np.concatenate(single), rtol=1e-11, atol=1e-12
        )


@pytest.mark.parametrize("t", [1, 500, np.array([1, 500] * 50)], ids=["1", "500", "array"])
def test_chunks_change_nothing(t, monkeypatch):
    x = draw(ROLL, 30, 100, 11)[2]
    whole = ROLL.bayes_eps(SCHEDULE, x, t)
    monkeypatch.setattr(_weigh, "CHUNK", 3000)
    np.testing.assert_allclose(ROLL.bayes_eps(SCHEDULE, x, t), whole, rtol=1e-12, atol=1e-13)


def test_memory_is_bounded():
    """50,000 points x 576 nodes would be 230 MB for each temporary."""
    x = ROLL.sample(50_000, 0)
    tracemalloc.start()
    try:
        ROLL.log_density(x)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10e6


# --- extremes


@pytest.mark.parametrize("law", LAWS, ids=IDS)
@pytest.mark.parametrize("size", [1e3, 1e6, 1e15, 3e38])
def test_far_away_everything_is_finite(law, size, lib, dtype):
    x = lib.array(size * np.array([[1.0] * law.mixture().d if law is ROLL else [1.0] * law.d]), dtype)
    assert np.all(np.isfinite(lib.host(law.log_density(x))))
    for t in (1, 500, 1000):
        assert np.all(np.isfinite(lib.host(law.posterior_x0(SCHEDULE, x, t))))
    if size < 1e37:  # beyond, the score itself is out of float32's range
        assert np.all(np.isfinite(lib.host(law.score(x))))
        assert np.all(np.isfinite(lib.host(law.bayes_eps(SCHEDULE, x, 1))))


def test_far_away_the_nearest_component_decides():
    law = make_mixture(5)
    x = 1e5 * np.array([[0.6, 0.8], [-0.8, 0.6]])
    nearest = law.means[np.argmax(x @ law.means.T, axis=1)]
    np.testing.assert_allclose(law.score(x), (nearest - x) / law.std**2, rtol=1e-12)


def test_nearly_discrete_data(dtype, lib):
    """std = 1e-9: the denoiser returns the component, and nothing divides by zero."""
    law = IsotropicMixture([0.25, 0.75], [[-1.0, 0.5], [1.0, 0.0]], 1e-9)
    x = lib.array([[-0.99, 0.51], [1.02, 0.0]], dtype)
    x0 = lib.host(law.posterior_x0(SCHEDULE, x, 1))
    np.testing.assert_allclose(x0, law.means, atol=1e-6)
    assert np.all(np.isfinite(lib.host(law.log_density(x))))


def test_schedule_whose_alpha_bar_underflows():
    schedule = schedule_from_beta(np.full(200, 0.9999))
    assert schedule.alpha_bar[-1] == 0.0
    x = np.random.default_rng(0).standard_normal((5, 2))
    for law in (ROLL, make_mixture(6)):
        np.testing.assert_allclose(law.bayes_eps(schedule, x, 200), x, rtol=1e-15)
        mixture = law.mixture() if law is ROLL else law
        mean = np.tile(mixture.weights @ mixture.means, (5, 1))
        np.testing.assert_allclose(law.posterior_x0(schedule, x, 200), mean, rtol=1e-12)
        np.testing.assert_allclose(
            law.diffused(schedule, 200).log_density(x), stats.norm.logpdf(x).sum(1), rtol=1e-13
        )


def test_nan_stays_visible():
    x = np.array([[math.nan, 0.0], [0.1, 0.2]])
    eps = ROLL.bayes_eps(SCHEDULE, x, 10)
    assert np.isnan(eps[0]).any()
    assert np.isfinite(eps[1]).all()


# --- quadrature


@given(st.integers(1, 6), st.integers(1, 8))
def test_composite_rule_is_exact_for_polynomials(panels, nodes):
    edges = np.cumsum(np.random.default_rng(panels).uniform(0.1, 1.0, panels + 1))
    x, w = composite_rule(edges, nodes)
    assert x.shape == w.shape == (panels * nodes,)
    for degree in range(2 * nodes):
        expected = (edges[-1] ** (degree + 1) - edges[0] ** (degree + 1)) / (degree + 1)
        assert w @ x**degree == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("d", [1, 2])
def test_cells_cover_the_reach_once(d):
    centres = np.random.default_rng(0).uniform(-30, 30, (12, d))
    x, w = (np.concatenate(parts) for parts in zip(*cells_around(centres, 3, 2), strict=True))
    cells, counts = np.unique(np.floor(x), axis=0, return_counts=True)
    assert np.all(counts == 2**d), "no cell twice"
    assert w.sum() == pytest.approx(len(cells), rel=1e-13)
    wanted = np.random.default_rng(1).uniform(-35, 35, (20_000, d))
    wanted = wanted[np.min(np.linalg.norm(wanted[:, None] - centres, axis=-1), axis=1) < 3]
    assert {tuple(c) for c in np.floor(wanted)} <= {tuple(c) for c in cells}


# --- errors


@pytest.mark.parametrize(
    ("weights", "means", "std", "error", "match"),
    [
        ([0.5, 0.6], [[0.0], [1.0]], 1.0, ValueError, "weights must be positive and sum to 1.*1.1"),
        ([1.5, -0.5], [[0.0], [1.0]], 1.0, ValueError, "weights must be positive"),
        ([1.0], [[0.0], [1.0]], 1.0, ValueError, "got 1 weights and 2 means"),
        ([1.0], [0.0], 1.0, ValueError, r"means must have shape \(K, d\)"),
        ([[1.0]], [[0.0]], 1.0, ValueError, r"weights must have shape \(K,\)"),
        ([], [[0.0]], 1.0, ValueError, "not be empty"),
        (["a"], [[0.0]], 1.0, TypeError, "weights must hold real numbers"),
        ([1.0], [[math.nan]], 1.0, ValueError, "means must be finite"),
        ([1.0], [[0.0]], 0.0, ValueError, "std must lie in"),
        ([1.0], [[0.0]], math.inf, ValueError, "std must lie in"),
        ([1.0], [[0.0]], "a", TypeError, "std must be a number"),
    ],
)
def test_bad_mixtures(weights, means, std, error, match):
    with pytest.raises(error, match=match):
        IsotropicMixture(weights, means, std)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"curve": 3}, TypeError, "curve must be a function"),
        ({"curve": lambda u: u}, ValueError, r"curve must map shape \(4097,\) to shape \(4097, d\)"),
        ({"curve": lambda u: 0.0 * line(u)}, ValueError, "curve must be finite and move"),
        ({"curve": lambda u: math.nan * line(u)}, ValueError, "curve must be finite and move"),
        ({"low": 1.0}, ValueError, "low must be less than high"),
        ({"high": math.inf}, ValueError, "high must lie in"),
        ({"std": 0.0}, ValueError, "std must lie in"),
        ({"std": 1e-6}, ValueError, "std must be at least"),
        ({"panel": 0}, ValueError, "panel must lie in"),
    ],
)
def test_bad_curves(change, error, match):
    with pytest.raises(error, match=match):
        NoisyCurve(**{"curve": line, "low": -1.0, "high": 1.0, "std": 0.1} | change)


@pytest.mark.parametrize("law", [eight_gaussians_exact(), ROLL], ids=IDS[1:])
def test_bad_arguments(law):
    x = np.zeros((3, 2))
    for call in (lambda x: law.bayes_eps(SCHEDULE, x, 1), lambda x: law.posterior_x0(SCHEDULE, x, 1)):
        with pytest.raises(ValueError, match=r"x_t must have shape \(B, 2\), got \(3, 1\)"):
            call(x[:, :1])
        with pytest.raises(TypeError, match="x_t must be an array"):
            call([[0.0, 0.0]])
    for call in (law.log_density, law.score):
        with pytest.raises(ValueError, match=r"x must have shape \(B, 2\), got \(3,\)"):
            call(x[:, 0])
    for t, error in (
        (0, ValueError),
        (1001, ValueError),
        (1.0, TypeError),
        (np.array([1, 2]), ValueError),
    ):
        with pytest.raises(error, match="t must"):
            law.bayes_eps(SCHEDULE, x, t)
    with pytest.raises(TypeError, match="schedule must be"):
        law.bayes_eps(None, x, 1)
    with pytest.raises(ValueError, match="t must be between 0 and 1000"):
        law.diffused(SCHEDULE, 1001)
    with pytest.raises(ValueError, match="n must be >= 1"):
        law.sample(0, 0)
    with pytest.raises(TypeError, match="seed must be"):
        law.sample(1, None)
    with pytest.raises(ValueError, match="nodes must be >= 2"):
        law.entropy(nodes=1)


def test_entropy_needs_one_or_two_dimensions():
    with pytest.raises(ValueError, match="d = 1 and d = 2 only, got d = 3"):
        make_mixture(0, d=3).entropy()


def test_laws_are_values():
    law = make_mixture(0)
    weights = np.array([0.5, 0.5])
    kept = IsotropicMixture(weights, [[0.0], [1.0]], 1)
    weights[0] = 3.0
    assert kept.weights[0] == 0.5
    assert repr(kept) == "IsotropicMixture(K=2, d=1, std=1)"
    with pytest.raises(ValueError, match="read-only"):
        law.means[0] = 0.0
    with pytest.raises(AttributeError):
        law.std = 2.0
