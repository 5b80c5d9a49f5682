"""Likelihoods of simple models: closed forms, sums to one, and the sides on which estimates err."""

import importlib.util
import math

import numpy as np
import pytest
from scipy.special import log_ndtr, logsumexp, ndtr
from scipy.stats import multivariate_normal

from ddpm_np.data import baselines
from ddpm_np.data.baselines import HistogramMixture, fit_baselines, fit_histograms, histogram_log_prob
from ddpm_np.data.normal_mixtures import (
    NormalMixture,
    dequantised_log_prob,
    fit_gaussian,
    fit_normal_mixture,
    normal_mixture_log_density,
    refit_rounded,
    rounded_draws,
    rounded_log_prob,
)

COVARIANCE = np.array([[1.5, 0.8, -0.3], [0.8, 1.0, 0.2], [-0.3, 0.2, 0.7]])


def rng(seed=0):
    return np.random.default_rng(seed)


def one(mean, covariance):
    mean = np.atleast_1d(np.asarray(mean, float))
    return NormalMixture(np.ones(1), mean[None], np.reshape(covariance, (1, mean.size, mean.size)))


def every_image(levels, d):
    return np.stack(np.meshgrid(*[np.arange(levels)] * d, indexing="ij"), axis=-1).reshape(-1, d)


def total_is_one(log_p, error=1e-12):
    return logsumexp(log_p) == pytest.approx(0.0, abs=error)


# --- histograms ---------------------------------------------------------------------------


def test_one_histogram_counts_levels():
    images = np.array([[0, 2], [0, 1], [1, 1], [0, 1]])
    model = fit_histograms(images, 3, 1, 2.0, rng())
    share = np.array([[3, 1, 0], [0, 3, 1]])
    prior = 0.9 * share / 4 + 0.1 / 3
    np.testing.assert_allclose(np.exp(model.log_p[0]), (share + 2.0 * prior) / 6.0, rtol=1e-14)
    found = histogram_log_prob(model, np.array([[1, 2]]))
    assert found == pytest.approx(model.log_p[0, 0, 1] + model.log_p[0, 1, 2], rel=1e-14)
    assert total_is_one(histogram_log_prob(model, every_image(3, 2)))


def test_a_mixture_of_histograms_is_their_weighted_sum():
    p = rng().dirichlet(np.ones(3), (2, 2))
    weights = np.array([0.3, 0.7])
    model = HistogramMixture(np.log(weights), np.log(p))
    images = every_image(3, 2)
    expected = sum(
        w * part[0][images[:, 0]] * part[1][images[:, 1]] for w, part in zip(weights, p, strict=True)
    )
    np.testing.assert_allclose(np.exp(histogram_log_prob(model, images)), expected, rtol=1e-13)
    assert total_is_one(histogram_log_prob(model, images))


def test_expectation_maximisation_finds_two_kinds_of_images():
    """Pixels that are equal: independent histograms cannot know, two of them can."""
    images = np.repeat(rng().integers(0, 2, (400, 1)), 6, axis=1)
    fits = [fit_histograms(images, 2, components, 0.01, rng()) for components in (1, 2)]
    alone, mixed = (np.mean(histogram_log_prob(fit, images)) for fit in fits)
    assert alone == pytest.approx(-6 * math.log(2), abs=0.05)
    assert mixed == pytest.approx(-math.log(2), abs=0.01)
    assert total_is_one(histogram_log_prob(fits[1], every_image(2, 6)))


def test_each_round_raises_the_likelihood_and_smoothing_keeps_everything_possible():
    images = rng().integers(0, 4, (60, 5))
    scores = [
        np.mean(histogram_log_prob(fit_histograms(images, 4, 5, 1e-6, rng(1), rounds), images))
        for rounds in (1, 2, 4, 8, 16, 32)
    ]
    assert np.all(np.diff(scores) > 0)
    model = fit_histograms(np.zeros((9, 2), int), 5, 2, 1.0, rng())
    assert np.all(histogram_log_prob(model, every_image(5, 2)) > -20)


def test_rounds_of_expectation_maximisation_written_out():
    """Weights and histograms from the shares, then shares from these: the last round ends before."""
    images, (levels, components, smoothing) = rng().integers(0, 3, (7, 2)), (3, 2, 0.5)
    shares = rng(1).dirichlet(np.full(components, 0.1), len(images))
    frequency = np.array([[np.mean(images[:, j] == k) for k in range(levels)] for j in range(2)])
    prior = 0.9 * frequency + 0.1 / levels
    for rounds in (1, 2, 3):
        p = np.empty((components, 2, levels))
        for c, j, k in np.ndindex(p.shape):
            count = np.sum(shares[images[:, j] == k, c]) + smoothing * prior[j, k]
            p[c, j, k] = count / (np.sum(shares[:, c]) + smoothing)
        weights = shares.sum(axis=0) + 1e-9  # so that none is 0
        weights /= weights.sum()
        model = fit_histograms(images, levels, components, smoothing, rng(1), rounds)
        np.testing.assert_allclose(np.exp(model.log_p), p, rtol=1e-13)
        np.testing.assert_allclose(np.exp(model.log_weights), weights, rtol=1e-13)
        shares = weights * p[:, 0, images[:, 0]].T * p[:, 1, images[:, 1]].T
        shares /= shares.sum(axis=1, keepdims=True)


def test_rounds_of_a_fit():
    images = rng().integers(0, 4, (60, 5))
    default, sixty, fewer = (
        fit_histograms(images, 4, 3, 1e-6, rng(1), **rounds).log_p
        for rounds in ({}, {"rounds": 60}, {"rounds": 59})
    )
    np.testing.assert_array_equal(default, sixty)
    assert np.any(default != fewer)
    start = one([1.0, 1.0, 1.0, 1.0, 1.0], np.eye(5))
    default, fifteen, fewer = (
        refit_rounded(start, images, 4, 1e-3, rng(1), **rounds).means
        for rounds in ({}, {"rounds": 15}, {"rounds": 14})
    )
    np.testing.assert_array_equal(default, fifteen)
    assert np.any(default != fewer)


# --- Gaussians, dequantised ---------------------------------------------------------------


def test_a_fitted_gaussian_has_the_moments_of_the_dequantised_levels():
    images = rng().integers(0, 9, (500, 3))
    model = fit_gaussian(images, 0.25)
    z = (images + rng().random((2000, 500, 3))).reshape(-1, 3)
    np.testing.assert_allclose(model.means[0], z.mean(axis=0), atol=2e-3)
    np.testing.assert_allclose(model.covariances[0], np.cov(z.T) + 0.25 * np.eye(3), atol=0.01)


def test_the_density_is_scipy_s():
    means, z = rng().standard_normal((2, 3)), rng(1).standard_normal((7, 3))
    model = NormalMixture(np.array([0.2, 0.8]), means, np.stack([COVARIANCE, 2.0 * np.eye(3)]))
    expected = 0.2 * multivariate_normal(means[0], COVARIANCE).pdf(z)
    expected += 0.8 * multivariate_normal(means[1], 2.0 * np.eye(3)).pdf(z)
    np.testing.assert_allclose(np.exp(normal_mixture_log_density(model, z)), expected, rtol=1e-12)


def test_one_dequantising_draw_is_on_average_the_closed_form_bound():
    """E log N(k + u; m, s^2) = -log(2 pi s^2) / 2 - ((k + 1/2 - m)^2 + 1/12) / (2 s^2)."""
    k = np.repeat(np.arange(4), 100_000)[:, None]
    found = dequantised_log_prob(one(1.3, 0.6), k, 1, rng()).reshape(4, -1)
    exact = -0.5 * np.log(2 * np.pi * 0.6) - ((np.arange(4) - 0.8) ** 2 + 1 / 12) / 1.2
    error = found.std(axis=1) / math.sqrt(100_000)
    assert np.all(np.abs(found.mean(axis=1) - exact) < 4 * error)
    mass = np.log(ndtr((np.arange(4) - 0.3) / 0.6**0.5) - ndtr((np.arange(4) - 1.3) / 0.6**0.5))
    assert np.all(exact < mass)  # it errs against the model


def test_more_draws_err_less_and_many_reach_the_mass_of_the_cell():
    k = np.array([[1, 2, 1]])
    model = one([0.5, 2.5, 1.0], COVARIANCE)
    cell = multivariate_normal(model.means[0], COVARIANCE)
    exact = math.log(cell.cdf(k[0] + 1.0, lower_limit=k[0].astype(float)))
    scores = [
        np.mean(dequantised_log_prob(model, np.repeat(k, 4000, axis=0), draws, rng()))
        for draws in (1, 4, 16)
    ]
    assert scores[0] < scores[1] < scores[2] < exact + 1e-3
    many = dequantised_log_prob(model, np.repeat(k, 200_000, axis=0), 1, rng())
    assert logsumexp(many) - math.log(200_000) == pytest.approx(exact, abs=0.01)


# --- Gaussians, rounded and clipped -------------------------------------------------------


@pytest.mark.parametrize("mean", [-60.0, -3.0, 0.5, 2.2, 4.0, 90.0])
def test_one_pixel_is_exact_with_tails_at_the_edges(mean):
    """Far from the mean too, where differences of the distribution function are 0."""
    found = rounded_log_prob(one(mean, 0.49), np.arange(5)[:, None], 5, 3, rng())
    edges = (np.arange(1, 5) - mean) / 0.7
    low, high = log_ndtr(edges), log_ndtr(-edges)
    assert found[0] == pytest.approx(low[0], rel=1e-9)
    assert found[4] == pytest.approx(high[3], rel=1e-9)
    with np.errstate(divide="ignore"):
        below = low[1:] + np.log1p(-np.exp(low[:3] - low[1:]))
        above = high[:3] + np.log1p(-np.exp(high[1:] - high[:3]))
    middle = np.where(edges[1:] < 0, below, above)
    np.testing.assert_allclose(found[1:4], middle, rtol=1e-9)
    assert total_is_one(found)


def test_independent_pixels_are_exact():
    images = every_image(3, 2)
    model = one([0.7, 2.0], np.diag([0.5, 1.2]))
    pixels = [
        rounded_log_prob(one(m, s), np.arange(3)[:, None], 3, 1, rng())
        for m, s in ((0.7, 0.5), (2.0, 1.2))
    ]
    expected = pixels[0][images[:, 0]] + pixels[1][images[:, 1]]
    np.testing.assert_allclose(rounded_log_prob(model, images, 3, 4, rng()), expected, rtol=1e-10)


def test_correlated_pixels_are_scipy_s_boxes_and_sum_to_one():
    images = every_image(3, 3)
    means = np.array([[0.5, 2.5, 1.0], [2.0, 0.0, 1.5]])
    model = NormalMixture(np.array([0.4, 0.6]), means, np.stack([COVARIANCE, 0.5 * COVARIANCE]))
    low = np.where(images == 0, -np.inf, images)
    high = np.where(images == 2, np.inf, images + 1.0)
    exact = sum(
        weight
        * np.array(
            [
                multivariate_normal(mean, covariance).cdf(b, lower_limit=a)
                for a, b in zip(low, high, strict=True)
            ]
        )
        for weight, mean, covariance in zip(*model, strict=True)
    )
    found = np.exp(rounded_log_prob(model, images, 3, 20_000, rng()))
    np.testing.assert_allclose(found, exact, rtol=0.05, atol=1e-4)
    assert np.sum(found) == pytest.approx(1.0, abs=0.005)
    few = np.mean([rounded_log_prob(model, images, 3, 1, rng(seed)) for seed in range(300)], axis=0)
    assert np.mean(few - np.log(exact)) < 0.0  # it errs against the model


def test_draws_lie_in_their_bins_and_have_the_moments_of_the_truncated_law():
    images = np.array([[0, 2, 1], [1, 1, 1]])
    factor = np.linalg.cholesky(COVARIANCE)
    z, log_weight = rounded_draws(np.array([0.5, 2.5, 1.0]), factor, images, 3, 40_000, rng())
    assert np.all(np.where(images == 0, -np.inf, images) <= z)
    assert np.all(z <= np.where(images == 2, np.inf, images + 1.0))
    share = np.exp(log_weight - logsumexp(log_weight, axis=0))
    found = np.sum(share[:, :, None] * z, axis=0)
    every = rng(1).multivariate_normal([0.5, 2.5, 1.0], COVARIANCE, 400_000)
    levels = np.clip(np.floor(every), 0, 2)
    expected = [every[np.all(levels == image, axis=1)].mean(axis=0) for image in images]
    np.testing.assert_allclose(found, expected, atol=0.02)


# --- mixtures, fitted ---------------------------------------------------------------------


def clipped_data(n=600):
    kinds = np.array([[0.0, 3.0], [3.0, 0.0]])
    z = kinds[rng().integers(2, size=n)] + rng(1).multivariate_normal(
        [0, 0], [[1.0, 0.6], [0.6, 1.0]], n
    )
    return np.clip(np.floor(z), 0, 4).astype(int)


def test_scikit_learn_s_mixture_is_found_again():
    pytest.importorskip("sklearn")
    model = fit_normal_mixture(clipped_data(), 2, 1e-3, rng())
    assert model.weights.sum() == pytest.approx(1.0, rel=1e-13)
    assert model.covariances.shape == (2, 2, 2)
    assert sorted(model.means[:, 0]) == pytest.approx([0.7, 3.0], abs=0.3)


def test_refitting_to_rounded_levels_recovers_what_was_clipped():
    images = clipped_data()
    # One Gaussian of the right kind for each, started from the levels themselves.
    start = NormalMixture(
        np.array([0.5, 0.5]), np.array([[0.5, 3.5], [3.5, 0.5]]), np.stack([np.eye(2)] * 2)
    )
    before = np.mean(rounded_log_prob(start, images, 5, 200, rng()))
    model = refit_rounded(start, images, 5, 1e-3, rng(), rounds=100)
    after = np.mean(rounded_log_prob(model, images, 5, 200, rng()))
    assert after > before + 0.05
    order = np.argsort(model.means[:, 0])
    np.testing.assert_allclose(model.means[order], [[0.0, 3.0], [3.0, 0.0]], atol=0.2)
    np.testing.assert_allclose(model.weights, 0.5, atol=0.06)


def test_a_round_of_refitting_written_out():
    """Means and covariances of the draws, weighted by how likely each drawn image is."""
    images = np.array([[0, 2], [1, 1], [2, 0], [0, 0]])
    model, ridge = one([0.8, 1.2], [[1.0, 0.3], [0.3, 0.7]]), 0.01
    assert refit_rounded(model, images, 3, ridge, rng(), rounds=0) is model
    z, log_weight = rounded_draws(
        model.means[0], np.linalg.cholesky(model.covariances[0]), images, 3, 2, rng(4)
    )
    share = np.exp(log_weight)
    share /= np.sum(share, axis=0)  # of each image 1: one component
    share /= len(images)
    found = refit_rounded(model, images, 3, ridge, rng(4), rounds=1)
    mean = np.sum(share[..., None] * z, axis=(0, 1))
    centred = (z - mean).reshape(-1, 2)
    covariance = (share.reshape(-1, 1) * centred).T @ centred + ridge * np.eye(2)
    # 1e-9 is added to the count, 4.
    np.testing.assert_allclose(found.means[0], mean, rtol=1e-9)
    np.testing.assert_allclose(found.covariances[0], covariance, rtol=1e-8)


# --- arguments ----------------------------------------------------------------------------

GOOD, NORMAL = np.array([[0, 1], [2, 3], [1, 1]]), one([1.0, 2.0], np.eye(2))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fit_histograms(GOOD, 4, 0, 1.0, rng()), ValueError, "components must be >= 1, got 0"),
        (lambda: fit_histograms(GOOD, 4, 2, 0.0, rng()), ValueError, r"smoothing must lie in \(0, inf"),
        (lambda: fit_histograms(GOOD, 4, 2, 1.0, rng(), 0), ValueError, "rounds must be >= 1, got 0"),
        (lambda: fit_histograms(GOOD, 3, 1, 1.0, rng()), ValueError, "images .* 0 to 2, got 0 to 3"),
        (lambda: fit_histograms(-GOOD, 4, 1, 1.0, rng()), ValueError, "images .* 0 to 3, got -3 to 0"),
        (lambda: fit_gaussian(GOOD, -0.1), ValueError, r"ridge must lie in \[0, .*got -0.1"),
        (lambda: fit_gaussian(GOOD[0], 0.1), ValueError, r"images must have shape \(n, d\)"),
        (lambda: fit_gaussian(1.0 * GOOD, 0.1), TypeError, "images must be .* of integer levels"),
        (lambda: fit_normal_mixture(GOOD, 0, 0.1, rng()), ValueError, "components must be >= 1, got 0"),
        (lambda: fit_normal_mixture(GOOD, 1, -0.1, rng()), ValueError, "ridge must lie in"),
        (lambda: fit_normal_mixture(GOOD, 1, 0.1, rng(), 0), ValueError, "draws must be >= 1, got 0"),
        (lambda: dequantised_log_prob(NORMAL, GOOD, 0, rng()), ValueError, "draws must be >= 1, got 0"),
        (lambda: rounded_log_prob(NORMAL, GOOD, 4, 0, rng()), ValueError, "draws must be >= 1, got 0"),
        (
            lambda: rounded_log_prob(NORMAL, GOOD, 3, 1, rng()),
            ValueError,
            "images .* 0 to 2, got 0 to 3",
        ),
        (lambda: refit_rounded(NORMAL, GOOD, 4, 0.1, rng(), -1), ValueError, "rounds must be >= 0"),
        (lambda: refit_rounded(NORMAL, GOOD, 4, 0.1, rng(), 1, 0), ValueError, "draws must be >= 1"),
        (lambda: next(fit_baselines(GOOD, GOOD[:, :1], GOOD, 4)), ValueError, "validation .* columns"),
        (lambda: next(fit_baselines(GOOD, GOOD, GOOD + 1, 4)), ValueError, "test must hold levels"),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_ridge_of_nothing_is_fine():
    assert np.all(np.isfinite(fit_gaussian(GOOD, 0.0).covariances))


# --- all together -------------------------------------------------------------------------


def test_every_baseline_is_fitted_chosen_and_scored(monkeypatch):
    monkeypatch.setattr(baselines, "VALIDATION_DRAWS", 2)
    monkeypatch.setattr(baselines, "TEST_DRAWS", 2)
    monkeypatch.setattr(baselines, "RIDGES", (1e-3,))
    images = np.concatenate([clipped_data(120), clipped_data(120)], axis=1)
    found = [*fit_baselines(images[:70], images[70:95], images[95:], 5)]
    names = [
        "histograms of pixels",
        "mixture of histograms",
        "Gaussian, dequantised",
        "mixture of Gaussians, dequantised",
        "mixture of Gaussians, rounded",
    ]
    if importlib.util.find_spec("sklearn") is None:
        names = names[:3]
    assert [baseline.name for baseline in found] == names
    for baseline in found:
        assert baseline.log_p.shape == (25,)
        assert np.all(np.isfinite(baseline.log_p))
        assert np.all(baseline.log_p < 0.0)
    again = [*fit_baselines(images[:70], images[70:95], images[95:], 5)]
    for first, second in zip(found, again, strict=True):
        np.testing.assert_array_equal(first.log_p, second.log_p)


def test_the_test_images_choose_nothing():
    images = clipped_data(120)
    one, other = (
        next(fit_baselines(images[:70], images[70:95], test, 5))
        for test in (images[95:], images[95:] * 0)
    )
    assert one.settings == other.settings


def test_images_too_large_for_mixtures_get_histograms(monkeypatch):
    monkeypatch.setattr(baselines, "LARGEST_TABLE", 100)
    monkeypatch.setattr(baselines, "LARGEST_IMAGE", 1)
    images = clipped_data(120)
    (only,) = fit_baselines(images[:70], images[70:95], images[95:], 5)
    assert only.name == "histograms of pixels"


def test_the_limits_of_size_are_the_last_that_fit(monkeypatch):
    monkeypatch.setattr(baselines, "VALIDATION_DRAWS", 1)
    monkeypatch.setattr(baselines, "TEST_DRAWS", 1)
    small = rng().integers(0, 3, (4, 256))
    names = [
        found.name for _, found in zip(range(3), fit_baselines(small, small, small, 3), strict=False)
    ]
    assert names[-1] == "Gaussian, dequantised"
    large = rng().integers(0, 3, (4, 257))
    names = [found.name for found in fit_baselines(large, large, large, 3)]
    assert names == ["histograms of pixels", "mixture of histograms"]
    monkeypatch.setattr(baselines, "LARGEST_TABLE", large.size * 3 - 1)
    (only,) = fit_baselines(large, large, large, 3)
    assert only.name == "histograms of pixels"
    monkeypatch.setattr(baselines, "LARGEST_TABLE", large.size * 3)
    assert len([*fit_baselines(large, large, large, 3)]) == 2
