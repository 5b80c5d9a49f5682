"""Distances between samples, against SciPy, closed forms and brute force."""

import math
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import optimize, stats

from ddpm_np.data import distances as metrics
from ddpm_np.data.distances import energy_distance, gaussian_mmd, knn_kl, sliced_wasserstein

ALL = [energy_distance, gaussian_mmd, sliced_wasserstein]
# Small integers: ties are common, and sums of squares are exact.
points = st.integers(1, 3).flatmap(
    lambda d: st.tuples(
        *[arrays(np.int64, st.tuples(st.integers(2, 7), st.just(d)), elements=st.integers(-9, 9))] * 2
    )
)


def normal(shape, seed):
    return np.random.default_rng(seed).standard_normal(shape)


# --- sliced Wasserstein


@given(points)
def test_w2_in_1d_is_optimal_transport(pair):
    """Against the assignment problem, with each point repeated to a common number."""
    x, y = (z[:, :1] for z in pair)
    many = math.lcm(len(x), len(y))
    cost = (np.repeat(x, many // len(x)) - np.repeat(y, many // len(y))[:, None]) ** 2
    best = cost[optimize.linear_sum_assignment(cost)].mean()
    assert sliced_wasserstein(x, y) == pytest.approx(math.sqrt(best), rel=1e-12, abs=1e-12)


def test_w2_in_1d_of_two_normals():
    """W2(N(0, 1), N(3, 4))^2 = (0 - 3)^2 + (1 - 2)^2 on their quantiles."""
    q = stats.norm.ppf((np.arange(100_000) + 0.5) / 100_000)[:, None]
    # Cutting the tails at quantile 1 / 200,000 costs less than 1e-4 of a variance.
    assert sliced_wasserstein(q, 3.0 + 2.0 * q) == pytest.approx(math.sqrt(10.0), abs=1e-4)


@pytest.mark.parametrize("m", [50, 75])
def test_sliced_is_the_mean_of_squares_over_directions(m):
    x, y = normal((50, 3), 0), 1.5 * normal((m, 3), 1)
    v = np.random.default_rng(7).standard_normal((20, 3))
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    squares = [sliced_wasserstein(x @ w[:, None], y @ w[:, None]) ** 2 for w in v]
    expected = math.sqrt(np.mean(squares))
    assert sliced_wasserstein(x, y, projections=20, seed=7) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("d", [2, 5])
def test_sliced_of_a_shift(d):
    """A shift by s gives |s . v| for each direction, whose mean square is |s|^2 / d."""
    x, s, P = normal((50, d), 0), np.arange(1.0, d + 1), 4000
    measured = sliced_wasserstein(x, x + s, projections=P) ** 2 / (s @ s)
    # (s . v)^2 / |s|^2 is Beta(1/2, (d-1)/2) distributed.
    se = stats.beta(0.5, 0.5 * (d - 1)).std() / math.sqrt(P)
    assert abs(measured - 1.0 / d) < 4.5 * se


def test_sliced_chunks_change_nothing(monkeypatch):
    x, y = normal((30, 2), 0), normal((20, 2), 1)
    whole = sliced_wasserstein(x, y)
    monkeypatch.setattr(metrics, "CHUNK", 170)
    assert sliced_wasserstein(x, y) == pytest.approx(whole, rel=1e-13)


# --- energy distance


@given(points)
def test_energy_distance_is_scipys_in_1d(pair):
    x, y = (z[:, :1].astype(float) for z in pair)
    expected = stats.energy_distance(x[:, 0], y[:, 0])
    # Both subtract mean distances of up to 18, then take a root.
    assert energy_distance(x, y) ** 2 == pytest.approx(expected**2, abs=1e-13)


def test_energy_distance_by_brute_force():
    x, y = normal((9, 3), 0), normal((6, 3), 1)

    def mean(a, b):
        return np.mean([[math.dist(p, q) for q in b] for p in a])

    assert energy_distance(x, y) ** 2 == pytest.approx(
        2 * mean(x, y) - mean(x, x) - mean(y, y), rel=1e-12
    )


# --- MMD


def brute_force_mmd(x, y, h, unbiased):
    def k(a, b):
        return np.exp([[-(math.dist(p, q) ** 2) / (2 * h * h) for q in b] for p in a])

    def within(a):
        kernel = k(a, a)
        return kernel[~np.eye(len(a), dtype=bool)].mean() if unbiased else kernel.mean()

    return within(x) + within(y) - 2.0 * k(x, y).mean()


@pytest.mark.parametrize("unbiased", [True, False])
@given(pair=points, h=st.floats(0.1, 50.0))
def test_mmd_by_brute_force(unbiased, pair, h):
    x, y = pair
    expected = brute_force_mmd(x, y, h, unbiased)
    assert gaussian_mmd(x, y, h, unbiased=unbiased) == pytest.approx(expected, abs=1e-13)


def test_mmd_of_two_normals():
    """E k(x, y) = sqrt(h^2 / v) exp(-shift^2 / (2 v)) with v = h^2 + 2, for unit variances."""
    h, shift, n = 0.7, 1.0, 40
    v = h * h + 2.0
    expected = 2.0 * math.sqrt(h * h / v) * (1.0 - math.exp(-shift * shift / (2.0 * v)))
    values = [
        gaussian_mmd(normal((n, 1), i), shift + normal((n + 5, 1), 10**6 + i), h) for i in range(400)
    ]
    assert abs(np.mean(values) - expected) < 4.5 * np.std(values) / 20.0
    biased = [
        gaussian_mmd(normal((n, 1), i), shift + normal((n + 5, 1), 10**6 + i), h, unbiased=False)
        for i in range(400)
    ]
    assert np.mean(biased) - expected > 4.5 * np.std(biased) / 20.0


def test_mmd_bandwidth_defaults_to_the_median_distance(monkeypatch):
    x, y = normal((20, 2), 0), 1.0 + normal((15, 2), 1)
    both = np.concatenate([x, y])
    median = np.median([math.dist(both[i], both[j]) for i in range(35) for j in range(i)])
    assert gaussian_mmd(x, y) == pytest.approx(gaussian_mmd(x, y, median), rel=1e-12)
    monkeypatch.setattr(metrics, "MEDIAN_POINTS", 5)
    some = np.concatenate([x[::4], y[::3]])
    median = np.median([math.dist(some[i], some[j]) for i in range(10) for j in range(i)])
    assert gaussian_mmd(x, y) == pytest.approx(gaussian_mmd(x, y, median), rel=1e-12)


# --- all of them


@given(points)
def test_distances_are_symmetric_and_vanish_on_equal_samples(pair):
    x, y = pair
    for distance in (sliced_wasserstein, energy_distance):
        assert distance(x, y) == pytest.approx(distance(y, x), abs=1e-12)
        assert distance(x, x) == 0.0
        assert distance(x, x[::-1]) == pytest.approx(0.0, abs=1e-6)  # the root of rounding
    assert gaussian_mmd(x, y, 2.0) == pytest.approx(gaussian_mmd(y, x, 2.0), abs=1e-14)
    assert gaussian_mmd(x, x[::-1], 2.0, unbiased=False) == pytest.approx(0.0, abs=1e-14)


@given(points)
def test_repeating_a_sample_changes_no_distance_between_distributions(pair):
    x, y = pair
    twice = np.repeat(x, 2, axis=0)
    assert sliced_wasserstein(twice, y) == pytest.approx(sliced_wasserstein(x, y), abs=1e-12)
    assert energy_distance(twice, y) ** 2 == pytest.approx(energy_distance(x, y) ** 2, abs=1e-12)
    biased = gaussian_mmd(x, y, 2.0, unbiased=False)
    assert gaussian_mmd(twice, y, 2.0, unbiased=False) == pytest.approx(biased, abs=1e-13)


@pytest.mark.parametrize("distance", ALL)
def test_result_is_a_float_and_float32_is_promoted(distance):
    x, y = normal((30, 2), 0).astype(np.float32), normal((20, 2), 1).astype(np.float32)
    result = distance(x, y)
    assert type(result) is float
    assert result == distance(x.astype(np.float64), y.astype(np.float64))


@pytest.mark.parametrize("distance", [energy_distance, gaussian_mmd])
def test_pairs_are_visited_in_chunks(distance, monkeypatch):
    x, y = normal((300, 2), 0), normal((200, 2), 1)
    whole = distance(x, y)
    monkeypatch.setattr(metrics, "CHUNK", 1000)
    assert distance(x, y) == pytest.approx(whole, rel=1e-9)


@pytest.mark.parametrize("distance", ALL)
def test_memory_is_bounded(distance, monkeypatch):
    """4,000 x 4,000 distances would take 128 MB; the chunks set here take 2 MB each."""
    monkeypatch.setattr(metrics, "CHUNK", 2**18)
    x, y = normal((4000, 2), 0), normal((4000, 2), 1)
    tracemalloc.start()
    try:
        distance(x, y)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 45e6  # the median heuristic looks at 2,000 points: 16 MB, sorted in a copy


@pytest.mark.parametrize("distance", ALL)
@pytest.mark.parametrize(
    ("y", "error", "match"),
    [
        ([[0.0]], TypeError, "y must be a NumPy array of shape .n, d., got list"),
        (np.zeros((3, 2), dtype=complex), TypeError, "y must hold real numbers, got dtype complex128"),
        (np.zeros((3, 2), dtype=bool), TypeError, "y must hold real numbers"),
        (np.zeros(3), ValueError, r"y must have shape \(n, d\)"),
        (np.zeros((0, 2)), ValueError, "not be empty"),
        (np.zeros((3, 0)), ValueError, "not be empty"),
        (np.zeros((3, 1)), ValueError, "y must have as many columns as x.*got 1 and 2"),
        (np.array([[0.0, math.nan], [0, 0]]), ValueError, "y must be finite, got 1"),
    ],
)
def test_bad_samples(distance, y, error, match):
    with pytest.raises(error, match=match):
        distance(normal((3, 2), 0), y)


def test_bad_options():
    x = normal((3, 2), 0)
    with pytest.raises(ValueError, match="projections must be >= 1, got 0"):
        sliced_wasserstein(x, x, projections=0)
    with pytest.raises(TypeError, match="seed"):
        sliced_wasserstein(x, x, seed="a")
    with pytest.raises(ValueError, match="bandwidth must lie in"):
        gaussian_mmd(x, x, 0.0)
    with pytest.raises(ValueError, match="bandwidth must be given"):
        gaussian_mmd(x[:1], x[[0, 0]], unbiased=False)
    with pytest.raises(ValueError, match="at least two points for unbiased=True, got 1 and 3"):
        gaussian_mmd(x[:1], x)
    with pytest.raises(TypeError, match="unbiased must be True or False, got int 1"):
        gaussian_mmd(x, x, unbiased=1)
    assert gaussian_mmd(x[:1], x[:1], 1.0, unbiased=False) == 0.0


def test_import_does_not_load_scipy():
    code = (
        "import sys, ddpm_np.data.distances, ddpm_np.exact; "
        "sys.exit(any(m in sys.modules for m in ('scipy.stats', 'scipy.special', 'scipy.spatial')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("distance", [energy_distance, sliced_wasserstein])
@pytest.mark.parametrize("power", [-1000, -520, -300, 300, 520, 1000])
@pytest.mark.parametrize("d", [1, 2])
def test_a_unit_is_only_a_unit(distance, power, d):
    """Also where squares overflow or vanish; to the last bit, as the unit is a power of 2."""
    x, y = normal((20, d), 0), normal((30, d), 1) + 0.5
    scale = 2.0**power if distance is sliced_wasserstein else 2.0 ** (power / 2)
    assert distance(x * 2.0**power, y * 2.0**power) == distance(x, y) * scale


@pytest.mark.parametrize("h", [None, 0.7])
@pytest.mark.parametrize("power", [-1000, -520, 520, 1000])
def test_a_bandwidth_has_the_unit_of_the_samples(power, h):
    x, y, scale = normal((20, 2), 0), normal((30, 2), 1) + 0.5, 2.0**power
    found = gaussian_mmd(x * scale, y * scale, None if h is None else h * scale)
    assert found == gaussian_mmd(x, y, h)


def test_what_no_float_can_hold_is_refused():
    x = np.array([[1.5e308], [1.6e308]])
    with pytest.raises(ValueError, match="x and y must have a distance that float64 can hold"):
        sliced_wasserstein(x, -x)
    assert energy_distance(x, -x) == pytest.approx(math.sqrt(2 * 3.1 - 0.1) * 1e154, rel=1e-12)
    with pytest.raises(ValueError, match=r"bandwidth must not vanish beside x and y, up to 1.6e\+308"):
        gaussian_mmd(x, -x, 0.5)
    assert gaussian_mmd(x, -x, 2.0) == 0.0


# --- Kullback-Leibler by nearest neighbours


@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("d", [1, 3])
def test_knn_kl_is_its_formula(k, d):
    """Against all distances: a point is no neighbour of itself, and has any number in y."""
    x, y = normal((40, d), 0), normal((25, d), 1) + 0.3
    within = np.sort(np.max(np.abs(x[:, None] - x), axis=2), axis=1)[:, k]
    between = np.sort(np.max(np.abs(x[:, None] - y), axis=2), axis=1)[:, k - 1]
    expected = d * np.mean(np.log(between / within)) + math.log(25 / 39)
    assert knn_kl(x, y, k=k) == pytest.approx(expected, rel=1e-12)


def test_knn_kl_of_two_normals():
    """KL(N(0, I) || N(m, s^2 I)) = d (log s + 1 / (2 s^2) - 1/2) + |m|^2 / (2 s^2), over ten draws."""
    shift, s = np.array([0.5, -0.25]), 1.4
    exact = 2.0 * (math.log(s) + 0.5 / s**2 - 0.5) + 0.5 * (shift @ shift) / s**2
    pairs = [(normal((4000, 2), i), normal((4000, 2), 100 + i)) for i in range(10)]
    found = np.array([knn_kl(x, shift + s * z) for x, z in pairs])
    se = np.std(found, ddof=1) / math.sqrt(10)
    assert abs(np.mean(found) - exact) < 4.0 * se + 0.005  # and its bias at this n
    same = np.array([knn_kl(x, z) for x, z in pairs])
    assert abs(np.mean(same)) < 4.0 * np.std(same, ddof=1) / math.sqrt(10) + 0.005


@pytest.mark.parametrize("scale", [1e-200, 3.0, 1e200])
def test_knn_kl_has_no_unit(scale):
    x, y = normal((50, 2), 0), 1.2 * normal((60, 2), 1)
    assert knn_kl(scale * x, scale * y) == pytest.approx(knn_kl(x, y), rel=1e-10)


def test_knn_kl_refuses_what_has_no_density():
    x, y = normal((20, 2), 0), normal((20, 2), 1)
    with pytest.raises(ValueError, match="must not repeat a point k = 1 times"):
        knn_kl(np.concatenate([x, x[:1]]), y, k=1)
    with pytest.raises(ValueError, match="must not repeat a point k = 1 times"):
        knn_kl(x, np.concatenate([y, x[:1]]), k=1)
    with pytest.raises(ValueError, match="k must be between 1 and 10"):
        knn_kl(x, y[:10], k=11)
    with pytest.raises(ValueError, match="k must be between 1 and 19"):
        knn_kl(x, normal((30, 2), 2), k=20)
    with pytest.raises(ValueError, match="at least two points"):
        knn_kl(x[:1], y, k=1)
