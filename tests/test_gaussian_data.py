"""Gaussian data, against dense linear algebra, scipy, mixtures of one component and the chain."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ddpm_np.exact import GaussianData, IsotropicMixture, gaussian_data_chain
from ddpm_np.forward import q_sample
from ddpm_np.reverse import model_mean
from ddpm_np.schedules import linear_schedule, schedule_from_beta

SCHEDULE = linear_schedule(1000)
TIMES = [1, 60, 500, 1000]


def make(seed, d=3, diagonal=False):
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((d, d))
    covariance = root @ root.T + 0.01 * np.eye(d)
    return GaussianData(rng.standard_normal(d), np.diag(covariance) if diagonal else covariance)


def dense(law):
    return np.diag(law.covariance) if law.covariance.ndim == 1 else law.covariance


def draw(law, t, n, seed=0):
    rng = np.random.default_rng(seed)
    x0 = law.sample(n, rng)
    return q_sample(SCHEDULE, x0, t, rng.standard_normal(x0.shape)) if np.any(t) else x0


laws = st.builds(make, seed=st.integers(0, 2**32), d=st.integers(1, 5), diagonal=st.booleans())
times = st.integers(1, 1000)


@given(laws)
def test_density_score_and_entropy_are_scipys(law):
    x = draw(law, 0, 10)
    peer = stats.multivariate_normal(law.mean, dense(law))
    np.testing.assert_allclose(law.log_density(x), peer.logpdf(x), rtol=1e-10, atol=1e-10)
    assert law.entropy() == pytest.approx(float(peer.entropy()), abs=1e-10)
    expected = np.linalg.solve(dense(law), (law.mean - x).T).T
    np.testing.assert_allclose(law.score(x), expected, rtol=1e-8, atol=1e-8)


@given(laws, times)
def test_posterior_means_by_conditioning_the_joint(law, t):
    """E[x_0 | x_t] and E[eps | x_t] from Cov(x_0, x_t) and Cov(eps, x_t)."""
    x_t, signal, sigma = (
        draw(law, t, 6),
        SCHEDULE.sqrt_alpha_bar[t],
        SCHEDULE.sqrt_one_minus_alpha_bar[t],
    )
    joint = signal**2 * dense(law) + sigma**2 * np.eye(law.d)
    white = np.linalg.solve(joint, (x_t - signal * law.mean).T).T
    expected = law.mean + signal * white @ dense(law)
    np.testing.assert_allclose(law.posterior_x0(SCHEDULE, x_t, t), expected, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(law.bayes_eps(SCHEDULE, x_t, t), sigma * white, rtol=1e-9, atol=1e-10)
    diffused = law.diffused(SCHEDULE, t)
    np.testing.assert_allclose(dense(diffused), joint, rtol=1e-13)
    np.testing.assert_allclose(diffused.mean, signal * law.mean, rtol=1e-15)
    scores = -sigma * diffused.score(x_t)
    np.testing.assert_allclose(law.bayes_eps(SCHEDULE, x_t, t), scores, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("t", TIMES)
def test_a_mixture_of_one_component_is_the_same_law(t):
    mean = np.array([0.4, -1.3])
    law, mixture = GaussianData(mean, np.full(2, 0.3**2)), IsotropicMixture([1.0], mean[None], 0.3)
    x = draw(law, t, 20)
    for name in ("posterior_x0", "bayes_eps"):
        found, expected = (getattr(of, name)(SCHEDULE, x, t) for of in (law, mixture))
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)
    for name in ("flow", "flow_inverse"):
        found, expected = (getattr(of, name)(SCHEDULE, x) for of in (law, mixture))
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)
    for name in ("score", "log_density"):
        np.testing.assert_allclose(getattr(law, name)(x), getattr(mixture, name)(x), rtol=1e-12)
    assert law.entropy() == pytest.approx(mixture.entropy(), abs=1e-13)


@given(laws, times)
def test_its_denoiser_has_the_means_of_the_chain(law, t):
    schedule = linear_schedule(8, 0.01, 0.3)
    t = 1 + t % 8
    x = draw(law, 0, 5)
    chain = gaussian_data_chain(schedule, law.mean, dense(law), schedule.beta)
    found = model_mean(schedule, x, t, law.bayes_eps(schedule, x, t))
    np.testing.assert_allclose(found, chain.mean(x, t), rtol=1e-9, atol=1e-9)


@given(laws)
def test_flow_is_linear_and_carries_one_law_to_the_other(law):
    """x_0 = A x_T + b with A C_T A^T = C_0, A symmetric and positive: those of the flow."""
    last = law.diffused(SCHEDULE, 1000)
    b = law.flow(SCHEDULE, np.zeros((1, law.d)))
    A = law.flow(SCHEDULE, np.eye(law.d)) - b
    np.testing.assert_allclose(last.mean @ A + b[0], law.mean, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(A.T @ dense(last) @ A, dense(law), rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(A, A.T, rtol=1e-9, atol=1e-11)
    assert np.min(np.linalg.eigvalsh(A)) > 0.0
    x = draw(law, 0, 5)
    back = law.flow_inverse(SCHEDULE, law.flow(SCHEDULE, x))
    np.testing.assert_allclose(back, x, rtol=1e-10, atol=1e-10)


def test_flow_solves_its_differential_equation():
    """dy/ds = E[eps | x] at every t on the way: each part of the flow is that of a shorter chain."""
    law, x_T = make(1), np.random.default_rng(0).standard_normal((4, 3))
    beta = np.full(400, 0.004)
    for t in (100, 399):
        start, end = (schedule_from_beta(beta[: t + i]) for i in (1, -1))
        middle = schedule_from_beta(beta[:t])
        x0 = law.flow(middle, x_T)
        ys = [law.flow_inverse(s, x0) / s.sqrt_alpha_bar[-1] for s in (end, start)]
        noise = [math.sqrt(s.one_minus_alpha_bar[-1] / s.alpha_bar[-1]) for s in (end, start)]
        slope = (ys[1] - ys[0]) / (noise[1] - noise[0])
        # A central difference over two steps: relative error of about (step / s)^2 / 6.
        eps = law.bayes_eps(middle, x_T, t)
        np.testing.assert_allclose(slope, eps, rtol=2e-4, atol=2e-4 * np.max(np.abs(eps)))


@given(laws, st.integers(0, 2**32))
def test_divergences_of_diagonal_and_of_full_covariances(law, seed):
    rng = np.random.default_rng(seed)
    other = GaussianData(rng.standard_normal(law.d), rng.uniform(0.1, 2.0, law.d))
    full, other_full = GaussianData(law.mean, dense(law)), GaussianData(other.mean, dense(other))
    for name in ("kl", "wasserstein2"):
        expected = getattr(full, name)(other_full)
        assert getattr(law, name)(other) == pytest.approx(expected, rel=1e-9, abs=1e-12)
        assert getattr(law, name)(law) == pytest.approx(0.0, abs=1e-12)
    # scipy's entropies and an average over the points that stand for a Gaussian
    root = np.linalg.cholesky(dense(law)) * math.sqrt(law.d)
    points = law.mean + np.concatenate([root.T, -root.T])
    cross = -np.mean(stats.multivariate_normal(other.mean, dense(other)).logpdf(points))
    assert law.kl(other) == pytest.approx(cross - law.entropy(), rel=1e-9, abs=1e-9)


def test_samples_have_the_moments():
    law, n = make(2), 100_000
    x = law.sample(n, 0)
    np.testing.assert_array_equal(x, law.sample(n, 0))
    C = dense(law)
    assert np.all(np.abs(x.mean(0) - law.mean) < 4.0 * np.sqrt(np.diag(C) / n))
    se = np.sqrt((np.outer(np.diag(C), np.diag(C)) + C**2) / n)
    assert np.all(np.abs(np.cov(x.T) - C) < 4.0 * se)


@pytest.mark.parametrize("diagonal", [True, False])
def test_libraries_and_precisions(diagonal, lib, dtype):
    law, t = make(3, diagonal=diagonal), np.array([1, 1000, 60])
    given_x = lib.array(draw(law, 60, 3), dtype)
    x = lib.host(given_x).astype(np.float64)
    tol = 1e-12 if dtype == "float64" else 2e-5
    every = lib.xp.asarray(t, device=lib.device)
    pairs = [
        (method(given_x), method(x))
        for method in (law.log_density, law.score, law.to_axes, law.from_axes)
    ]
    pairs += [
        (method(SCHEDULE, given_x), method(SCHEDULE, x)) for method in (law.flow, law.flow_inverse)
    ]
    pairs += [
        (method(SCHEDULE, given_x, s), method(SCHEDULE, x, t if s is every else s))
        for method in (law.posterior_x0, law.bayes_eps)
        for s in (1, 1000, every)
    ]
    for actual, expected in pairs:
        assert actual.dtype == given_x.dtype
        np.testing.assert_allclose(
            lib.host(actual), expected, rtol=tol, atol=tol * np.max(np.abs(expected))
        )
    single = [law.bayes_eps(SCHEDULE, x[i : i + 1], int(t[i])) for i in range(3)]
    np.testing.assert_allclose(law.bayes_eps(SCHEDULE, x, t), np.concatenate(single), rtol=1e-12)


def test_far_away_the_density_saturates(lib, dtype):
    x = lib.array(np.full((2, 3), 3e38), dtype)
    assert np.all(np.isfinite(lib.host(make(4).log_density(x))))


def test_a_law_is_a_value():
    mean = np.zeros(2)
    law = GaussianData(mean, np.array([0.5, 2.0]))
    mean[0] = 3.0
    assert law.mean[0] == 0.0
    assert law.axes is None
    assert repr(law) == "GaussianData(d=2, variances=0.5..2)"
    with pytest.raises(ValueError, match="read-only"):
        law.covariance[0] = 1.0
    with pytest.raises(AttributeError):
        law.mean = mean


@pytest.mark.parametrize(
    ("mean", "covariance", "match"),
    [
        ([0.0], [1.0, 1.0], r"mean must have the shape of a diagonal covariance, got \(1,\) and \(2,\)"),
        ([], [], "mean must have the shape"),
        ([0.0, 0.0], [1.0, 0.0], "covariance must be positive, got minimum 0"),
        ([0.0, 0.0], [1.0, math.inf], "covariance must be finite"),
        ([0.0, math.nan], [1.0, 1.0], "mean must be finite"),
        ([0.0, 0.0], [[1.0, 2.0], [2.0, 1.0]], "covariance must be symmetric positive definite"),
        ([0.0, 0.0], np.eye(3), r"mean must have shape \(d,\) and covariance \(d, d\)"),
    ],
)
def test_bad_laws(mean, covariance, match):
    with pytest.raises(ValueError, match=match):
        GaussianData(mean, covariance)


def test_bad_arguments():
    law, x = make(5), np.zeros((2, 3))
    for call in (law.log_density, law.score, lambda x: law.bayes_eps(SCHEDULE, x, 1)):
        with pytest.raises(ValueError, match=r"must have shape \(B, 3\), got \(2, 2\)"):
            call(x[:, :2])
    for call in (law.kl, law.wasserstein2):
        with pytest.raises(ValueError, match="other must have d = 3, got 2"):
            call(make(0, d=2))
    with pytest.raises(ValueError, match="float32 cannot hold"):
        GaussianData([0.0], [1e-60]).score(np.ones((1, 1), np.float32))
