"""Distances between two sets of samples, on the host: NumPy arrays of shape (n, d) and (m, d).

All computations are in float64 and go through the samples in chunks, so that 10,000 points a
side take a few megabytes. Squares of very large or very small numbers neither overflow nor vanish.
TypeError or ValueError is raised unless x and y are finite NumPy arrays of shapes (n, d) and (m, d)
with the same d, and for an argument out of range.
"""

import math
import sys

import numpy as np

from ddpm_np._arrays import Samples, Table, check_finite
from ddpm_np._checks import check_integer, check_plain, check_real, describe
from ddpm_np.data.toy import Seed, as_generator

# Entries of the largest temporary array.
CHUNK = 2**20
# Points of each sample from which the median heuristic is computed.
MEDIAN_POINTS = 1000


def sliced_wasserstein(x: Samples, y: Samples, *, projections: int = 128, seed: Seed = 0) -> float:
    """Sliced 2-Wasserstein distance (not squared).

        SW2(x, y)^2 = mean over directions v of W2(x @ v, y @ v)^2
        W2(a, b)^2 = integral over q in [0, 1] of (quantile_a(q) - quantile_b(q))^2

    For each direction the integral is exact, even for samples of unequal size. A shift by s
    gives |s| / sqrt(d) on average over directions.

    Parameters
    ----------
    x : array, shape (n, d)
    y : array, shape (m, d)
    projections : int
        Number of directions, uniform on the unit sphere. With d = 1 there is only one, and the
        result is the exact W2.
    seed : int or numpy.random.Generator
        For the directions. Distances with the same seed can be compared.

    Returns
    -------
    float
        In units of x.
    """
    x, y, unit = _in_units(*_check_pair(x, y))
    count, rng = check_integer("projections", projections, 1), as_generator(seed)
    d = x.shape[1]
    if d == 1:
        return _times(unit, math.sqrt(float(_squared_w2(x.T, y.T)[0])))
    directions = rng.standard_normal((count, d))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    rows = max(1, CHUNK // (len(x) + len(y)))
    chunks = [directions[i : i + rows] for i in range(0, count, rows)]
    squares = np.concatenate([_squared_w2(v @ x.T, v @ y.T) for v in chunks])
    return _times(unit, math.sqrt(float(np.mean(squares))))


def energy_distance(x: Samples, y: Samples) -> float:
    """Energy distance (not squared), as :func:`scipy.stats.energy_distance` in any dimension.

        D(x, y)^2 = 2 E|x - y| - E|x - x'| - E|y - y'|

    Expectations are over all pairs of points, a point with itself included (the V-statistic):
    the distance between the two empirical distributions, in square roots of the unit of x. It is 0
    if they are equal, and positive otherwise.
    """
    x, y, unit = _in_units(*_check_pair(x, y))
    between = _sum_over_pairs(x, y) / (len(x) * len(y))
    within = _sum_over_pairs(x, x) / len(x) ** 2 + _sum_over_pairs(y, y) / len(y) ** 2
    return math.sqrt(max(0.0, 2.0 * between - within)) * math.sqrt(unit)


def gaussian_mmd(
    x: Samples, y: Samples, bandwidth: float | None = None, *, unbiased: bool = True
) -> float:
    """Squared maximum mean discrepancy with a Gaussian kernel.

        MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y)
        k(a, b) = exp(-|a - b|^2 / (2 bandwidth^2))

    Parameters
    ----------
    x : array, shape (n, d)
    y : array, shape (m, d)
    bandwidth : float, optional
        Positive. By default the median distance between points of both samples together, taken
        from at most 1,000 of each, evenly spaced. Give the same number for values that are to be
        compared.
    unbiased : bool
        True leaves out the pairs of a point with itself (the U-statistic): right on average,
        so that it falls below 0 about half the time for equal laws. False keeps them (the
        V-statistic): never negative, but positive by about (1 / n + 1 / m) too much.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        Also if x or y has only one point and ``unbiased`` is True, or most points coincide and no
        bandwidth is given.
    """
    x, y = _check_pair(x, y)
    if not isinstance(unbiased, bool):
        raise TypeError(f"unbiased must be True or False, got {describe(unbiased)}")
    n, m, own = len(x), len(y), int(unbiased)
    if min(n, m) == own:
        raise ValueError(f"x and y must have at least two points for unbiased=True, got {n} and {m}")
    h = _median_distance(x, y) if bandwidth is None else bandwidth
    h = check_real("bandwidth", h, 0.0, sys.float_info.max)
    largest = max(float(np.max(np.abs(z))) for z in (x, y))
    if not largest / h < sys.float_info.max:
        raise ValueError(f"bandwidth must not vanish beside x and y, up to {largest:g}, got {h:g}")
    # The kernel of a point with itself is 1.
    within_x = (_sum_over_pairs(x, x, h) - own * n) / (n * (n - own))
    within_y = (_sum_over_pairs(y, y, h) - own * m) / (m * (m - own))
    squared = within_x + within_y - 2.0 * _sum_over_pairs(x, y, h) / (n * m)
    return squared if unbiased else max(0.0, squared)


def knn_kl(x: Samples, y: Samples, *, k: int = 5) -> float:
    """Estimate KL(p || q) from draws x of p and y of q, by nearest neighbours, in nats.

        KL = d * mean over i of log(nu[i] / rho[i]) + log(m / (n - 1))

    Wang, Kulkarni & Verdu 2009 (IEEE Transactions on Information Theory 55, 2392). rho[i] is
    the distance from x[i] to its kth neighbour among the other x, nu[i] to its kth among y, where
    a distance is the largest difference of a coordinate. The estimate is consistent for any k, but no
    distance: for equal laws it falls below 0 about half the time, and at the edges of a density it is
    biased. Log 2 nats are a bit.

    Parameters
    ----------
    x : array, shape (n, d)
    y : array, shape (m, d)
    k : int
        Below n, and at most m.

    Raises
    ------
    ValueError
        Also if more than k points of x, or k of y and one of x, coincide.
    """
    from scipy.spatial import cKDTree

    x, y, _ = _in_units(*_check_pair(x, y))
    if len(x) < 2:
        raise ValueError(f"x must have at least two points, got {len(x)}")
    k = check_integer("k", k, 1, min(len(x) - 1, len(y)))
    rho = cKDTree(x).query(x, [k + 1], p=math.inf)[0]  # the first is the point itself
    nu = cKDTree(y).query(x, [k], p=math.inf)[0]
    if not (np.all(rho > 0.0) and np.all(nu > 0.0)):
        raise ValueError(f"x and y must not repeat a point k = {k} times: these have no density there")
    ratio = float(np.mean(np.log(nu) - np.log(rho)))
    return x.shape[1] * ratio + math.log(len(y) / (len(x) - 1))


def _squared_w2(x: Samples, y: Samples) -> Table:
    """Squared 2-Wasserstein distance of samples on a line, for each row: (P, n), (P, m) to (P,)."""
    x, y = np.sort(x, axis=1), np.sort(y, axis=1)
    n, m = x.shape[1], y.shape[1]
    if n == m:
        equal: Table = np.mean((x - y) ** 2, axis=1)
        return equal
    # Quantile functions are steps that end at multiples of 1 / n and 1 / m; in units of
    # 1 / (n m) those are integers, so neither rounding nor ties matter.
    ends = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)
    width = np.diff(ends, prepend=0) / (n * m)
    return (x[:, (ends - 1) // m] - y[:, (ends - 1) // n]) ** 2 @ width


def _sum_over_pairs(x: Samples, y: Samples, bandwidth: float | None = None) -> float:
    """Sum |x - y| over all pairs, or the Gaussian kernel if a bandwidth is given."""
    from scipy.spatial.distance import cdist

    rows = max(1, CHUNK // len(y))
    total = 0.0
    for i in range(0, len(x), rows):
        if bandwidth is None:
            total += float(np.sum(cdist(x[i : i + rows], y)))
        else:
            scaled = cdist(x[i : i + rows] / bandwidth, y / bandwidth, "sqeuclidean")
            total += float(np.sum(np.exp(-0.5 * scaled)))
    return total


def _median_distance(x: Samples, y: Samples) -> float:
    from scipy.spatial.distance import pdist

    *some, unit = _in_units(*(z[:: math.ceil(len(z) / MEDIAN_POINTS)] for z in (x, y)))
    median = _times(unit, float(np.median(pdist(np.concatenate(some)))))
    if median == 0.0:
        raise ValueError("bandwidth must be given: the median distance between points is 0")
    return median


def _in_units(x: Samples, y: Samples) -> tuple[Samples, Samples, float]:
    """Return x and y in units whose squares are of about 1, and the unit.

    It is a power of 4, so that nothing is rounded, and 1 for numbers of a usual size.
    """
    _, power = math.frexp(max(float(np.max(np.abs(z))) for z in (x, y)))
    if abs(power) < 300:
        return x, y, 1.0
    power = min(power - power % 2, 1022)
    return np.ldexp(x, -power), np.ldexp(y, -power), math.ldexp(1.0, power)


def _times(unit: float, distance: float) -> float:
    """Return a distance in its unit."""
    if distance > 1.0 and unit > sys.float_info.max / distance:
        raise ValueError("x and y must have a distance that float64 can hold, got overflow")
    return unit * distance


def _check_pair(x: object, y: object) -> tuple[Samples, Samples]:
    checked = _check_samples("x", x), _check_samples("y", y)
    if checked[0].shape[1] != checked[1].shape[1]:
        raise ValueError(
            "y must have as many columns as x, one for each dimension, "
            f"got {checked[1].shape[1]} and {checked[0].shape[1]}"
        )
    return checked


def _check_samples(name: str, x: object) -> Samples:
    check_plain(name, x)
    if not isinstance(x, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array of shape (n, d), got {describe(x)}")
    if x.dtype.kind not in "iuf":
        raise TypeError(f"{name} must hold real numbers, got dtype {x.dtype}")
    if x.dtype.itemsize > 8:
        raise TypeError(f"{name} must be float32 or float64, got dtype {x.dtype}")
    if x.ndim != 2 or x.size == 0:
        raise ValueError(f"{name} must have shape (n, d) and not be empty, got {x.shape}")
    samples = x.astype(np.float64, copy=False)
    check_finite(name, samples)
    return samples
