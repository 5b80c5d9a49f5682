"""Toy data: the documented laws, moments and seeds."""

import math
import re

import numpy as np
import pytest
from scipy import stats

from ddpm_np.data import toy as data
from ddpm_np.data.toy import DATASETS

N = 200_000


@pytest.mark.parametrize("name", DATASETS)
def test_shape_dtype_and_determinism(name):
    make = DATASETS[name]
    x = make(17, 3)
    assert x.shape == (17, 1 if name == "mixture_1d" else 2)
    assert x.dtype == np.float64
    np.testing.assert_array_equal(x, make(17, 3))
    np.testing.assert_array_equal(x, make(17, np.random.default_rng(3)))
    assert not np.array_equal(x, make(17, 4))
    assert make(1, 0).shape[0] == 1


def test_a_generator_goes_on_where_it_stopped():
    rng = np.random.default_rng(0)
    assert not np.array_equal(data.swiss_roll(5, rng), data.swiss_roll(5, rng))


@pytest.mark.parametrize("name", DATASETS)
def test_documented_mean_and_standard_deviation_hold(name):
    text = re.search(r"Mean (.*), standard deviation (.*?)[:.]\s", DATASETS[name].__doc__)
    mean, std = (np.array([float(v) for v in group.strip("()").split(", ")]) for group in text.groups())
    x = DATASETS[name](N, 0)
    centred = x - mean
    # The digits that the docstring shows, and the standard errors of both estimates.
    assert np.all(np.abs(centred.mean(0)) < 5e-5 + 4.5 * x.std(0) / math.sqrt(N))
    error_of_std = (centred**2).std(0) / (2.0 * std * math.sqrt(N))
    assert np.all(np.abs(np.sqrt((centred**2).mean(0)) - std) < 5e-5 + 4.5 * error_of_std)
    assert np.all((std > 0.5) & (std < 1.2)), "about unit size"


def test_swiss_roll_is_exactly_the_stated_law():
    x = data.swiss_roll(N, 0, noise=0.0)
    u = 8.0 * np.linalg.norm(x, axis=1)
    np.testing.assert_allclose(
        x, np.stack([u * np.cos(u), u * np.sin(u)], axis=1) / 8.0, rtol=0.0, atol=1e-12
    )
    assert stats.kstest(u, stats.uniform(1.5 * np.pi, 3.0 * np.pi).cdf).pvalue > 1e-3
    residual = (data.swiss_roll(N, 0) - x).ravel()
    assert stats.kstest(residual, stats.norm(0.0, 0.05).cdf).pvalue > 1e-3


def test_two_moons_lie_on_half_circles():
    x = data.two_moons(N, 0, noise=0.0) + np.array([0.5, 0.25])
    upper = np.abs(np.hypot(x[:, 0], x[:, 1]) - 1.0) < 1e-12
    lower = np.abs(np.hypot(x[:, 0] - 1.0, x[:, 1] - 0.5) - 1.0) < 1e-12
    assert np.all(upper | lower)
    assert np.all(x[upper & ~lower, 1] >= -1e-12)
    assert np.all(x[lower & ~upper, 1] <= 0.5 + 1e-12)
    assert abs(upper.mean() - 0.5) < 4.5 * 0.5 / math.sqrt(N)


def test_circles_have_two_radii_and_uniform_angles():
    x = data.circles(N, 0, noise=0.0)
    r = np.linalg.norm(x, axis=1)
    outer = np.abs(r - 1.5) < 1e-12
    assert np.all(outer | (np.abs(r - 0.75) < 1e-12))
    assert abs(outer.mean() - 0.5) < 4.5 * 0.5 / math.sqrt(N)
    angle = np.arctan2(x[:, 1], x[:, 0])
    assert stats.kstest(angle, stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 1e-3


def test_checkerboard_is_uniform_on_dark_squares():
    x = data.checkerboard(N, 0)
    square = np.floor(x).astype(int)
    assert square.min() == -2
    assert square.max() == 1
    assert np.all(square.sum(1) % 2 == 0)
    _, counts = np.unique(square, axis=0, return_counts=True)
    assert len(counts) == 8
    assert stats.chisquare(counts).pvalue > 1e-3
    assert stats.kstest((x - square).ravel(), stats.uniform.cdf).pvalue > 1e-3


def test_pinwheel_straightens_into_its_arms():
    x = data.pinwheel(N, 0, arms=7, noise=0.0)
    r = np.linalg.norm(x, axis=1) / math.sqrt(2.0 / 1.09)
    arm = (np.arctan2(x[:, 1], x[:, 0]) - np.exp(r) / 4.0) / (2 * np.pi / 7)
    # A negative radius, at -3.3 standard deviations, leaves on the other side.
    assert np.mean(np.abs(arm - np.round(arm)) > 1e-9) < 1e-3
    assert abs(np.mean(r) - 1.0) < 1e-3 + 4.5 * 0.3 / math.sqrt(N)


@pytest.mark.parametrize("arms", [3, 5, 8])
@pytest.mark.parametrize("noise", [0.0, 0.4])
def test_pinwheel_is_standardised_for_any_arms_and_noise(arms, noise):
    x = data.pinwheel(N, 0, arms=arms, noise=noise)
    assert np.all(np.abs(x.mean(0)) < 4.5 / math.sqrt(N))
    assert np.all(np.abs((x**2).mean(0) - 1.0) < 4.5 * (x**2).std(0) / math.sqrt(N))


def test_pinwheel_noise_is_across_the_arms():
    scale = math.sqrt(2.0 / 1.1)
    clean, noisy = data.pinwheel(N, 0, noise=0.0) * math.sqrt(1.09 / 2.0), data.pinwheel(N, 0) / scale
    along = clean / np.linalg.norm(clean, axis=1, keepdims=True)
    np.testing.assert_allclose(np.sum((noisy - clean) * along, axis=1), 0.0, atol=1e-12)
    across = along[:, 0] * noisy[:, 1] - along[:, 1] * noisy[:, 0]
    assert stats.kstest(across, stats.norm(0.0, 0.1).cdf).pvalue > 1e-3


# The checkerboard has no noise, and the pinwheel's scale depends on it.
@pytest.mark.parametrize("name", [n for n in DATASETS if n not in ("checkerboard", "pinwheel")])
def test_noise_scales_the_residual(name):
    make = DATASETS[name]
    clean, once, twice = (make(1000, 0, noise=s) for s in (0.0, 0.1, 0.2))
    np.testing.assert_allclose(twice - clean, 2.0 * (once - clean), rtol=0.0, atol=1e-13)


@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.parametrize(
    ("n", "seed", "error", "match"),
    [
        (0, 0, ValueError, "n must be >= 1, got 0"),
        (2.0, 0, TypeError, "n must be an integer"),
        (True, 0, TypeError, "n must be an integer"),
        (5, None, TypeError, "seed must be an integer >= 0 or a numpy.random.Generator, got NoneType"),
        (5, 0.5, TypeError, "seed"),
        (5, -1, ValueError, "seed must be >= 0, got -1"),
    ],
)
def test_bad_arguments(name, n, seed, error, match):
    with pytest.raises(error, match=match):
        DATASETS[name](n, seed)


@pytest.mark.parametrize("noise", [-0.1, math.inf, math.nan])
def test_bad_noise(noise):
    with pytest.raises(ValueError, match="noise must lie in"):
        data.swiss_roll(5, 0, noise=noise)
    with pytest.raises(TypeError, match="noise must be a number"):
        data.circles(5, 0, noise="loud")


def test_bad_arms():
    with pytest.raises(ValueError, match="arms must be >= 3, got 2"):
        data.pinwheel(5, 0, arms=2)
