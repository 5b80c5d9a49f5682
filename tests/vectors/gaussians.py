"""Gaussian densities, divergences and decoders."""

from collections.abc import Iterator
from typing import Any

import mpmath
import numpy as np

from tests.vectors.cases import Draft, Function
from tests.vectors.chain import PER_EXAMPLE, ROWS, log
from tests.vectors.draws import draw, f32
from tests.vectors.tolerances import midway


def kl_normal_1d(mean_1: Any, std_1: Any, mean_2: Any, std_2: Any) -> dict[str, Any]:
    """Of scalars."""
    square = (std_1 / std_2) ** 2
    return {"kl": (square - 1 - mpmath.log(square) + ((mean_1 - mean_2) / std_2) ** 2) / 2}


def kl_isotropic(mean_1: Any, var_1: Any, mean_2: Any, var_2: Any) -> dict[str, Any]:
    """Of one variance in all directions."""
    r, square = var_1 / var_2, ((mean_1 - mean_2) ** 2).sum(axis=1)
    return {"kl": (mean_1.shape[1] * (r - 1 - log(r)) + square / var_2) / 2}


def kl_full(mean_1: Any, cov_1: Any, mean_2: Any, cov_2: Any) -> dict[str, Any]:
    """Of any covariance."""
    first, second = mpmath.matrix(cov_1.tolist()), mpmath.matrix(cov_2.tolist())
    shift, inverse = mpmath.matrix((mean_2 - mean_1).tolist()), second**-1
    trace = sum((inverse * first)[i, i] for i in range(len(mean_1)))
    square = (shift.T * inverse * shift)[0]
    return {
        "kl": (mpmath.log(mpmath.det(second) / mpmath.det(first)) - len(mean_1) + trace + square) / 2
    }


def normal_log_density(x: Any, mean: Any, variance: Any) -> dict[str, Any]:
    """Of one variance in all directions."""
    return {"log_density": _log_density(x, mean, variance)}


def _log_density(x: Any, mean: Any, variance: Any) -> Any:
    d, square = x.shape[1], ((x - mean) ** 2).sum(axis=1)
    return -(square / variance + d * log(2 * mpmath.pi * variance)) / 2


def marginalise(a: Any, s2: Any, b: Any, t2: Any) -> dict[str, Any]:
    """A Gaussian whose mean is a Gaussian."""
    return {"slope": a * b, "variance": s2 + t2 * a**2}


def gaussian_decoder(x0: Any, mean: Any, variance: Any) -> dict[str, Any]:
    """The density."""
    return {"log_prob": _log_density(x0, mean, variance)}


def discretised_gaussian(x0: Any, mean: Any, variance: Any, levels: int) -> dict[str, Any]:
    """Its integral over bins."""
    return {"log_prob": log_bins(x0, mean, variance, levels)}


def log_bins(x0: Any, mean: Any, variance: Any, levels: int) -> Any:
    """Of each example; bins at the ends of the grid are open."""
    half, sigma = mpmath.mpf(1) / (levels - 1), mpmath.sqrt(variance)

    def one(x: Any, m: Any) -> Any:
        k = round(float((x + 1) * (levels - 1) / 2))
        low = -mpmath.inf if k == 0 else midway((x - half - m) / sigma)
        high = mpmath.inf if k == levels - 1 else midway((x + half - m) / sigma)
        return mpmath.log(_mass(low, high))

    return np.frompyfunc(one, 2, 1)(x0, mean).sum(axis=1)


def _mass(low: Any, high: Any) -> Any:
    """Of a standard normal; from the tail that is smaller, so that the digits suffice."""
    if low + high < 0:
        low, high = -high, -low
    return (mpmath.erfc(low / mpmath.sqrt(2)) - mpmath.erfc(high / mpmath.sqrt(2))) / 2


# --- cases --------------------------------------------------------------------------------


def _kl_1d() -> Iterator[Draft]:
    def case(*numbers: float) -> dict[str, Any]:
        return dict(zip(("mean_1", "std_1", "mean_2", "std_2"), numbers, strict=True))

    swapped = ["swapped", "variance-for-std"]
    yield case(0.5, 0.75, -0.25, 1.5), swapped, "the divergence is not symmetric"
    yield case(-0.25, 1.5, 0.5, 0.75), swapped, "the other way around"
    yield case(0.0, 2.0, 0.0, 1.0), ["variance-for-std"], "one mean"
    yield case(1.0, 0.5, -1.0, 0.5), ["missing-half"], "one variance: half the square of the shift"
    yield case(0.25, 0.0078125, 0.5, 1.0), swapped, "a narrow first"
    yield case(0.25, 1.0, 0.5, 0.0625), swapped, "a narrow second"
    yield case(3.0, 1.25, 3.5, 16.0), swapped, "a wide second"
    yield case(-2.0, 0.375, 1.0, 0.25), ["sign"], "means on both sides of 0"


def _kl_isotropic() -> Iterator[Draft]:
    def case(name: str, var_1: list[float], var_2: list[float], d: int = 2) -> dict[str, Any]:
        one, two = (draw(f"kl_isotropic {name} {k}", len(var_1), d) for k in (1, 2))
        return {"mean_1": one, "var_1": f32(var_1), "mean_2": two, "var_2": f32(var_2)}

    flags = ["swapped", "std-for-variance"]
    yield case("a", [0.5, 2.0], [1.5, 0.75]), flags, "the divergence is not symmetric"
    yield case("b", [0.25], [0.25]), ["missing-half"], "one variance"
    yield case("c", [0.5, 0.25, 4.0], [1.0, 1.0, 1.0], 1), flags, "d = 1"
    yield case("d", [0.375], [0.625], 3), ["mean-for-sum"], "d = 3: the variances count three times"
    yield case("e", [2.0**-20], [1.0]), flags, "a narrow first"
    yield case("f", [1.0], [2.0**-10]), flags, "a narrow second"
    still = case("g", [0.5], [0.46875])
    still["mean_2"] = still["mean_1"]
    yield still, ["cancellation"], "one mean, and variances that are nearly one"
    yield case("h", [0.5, 0.5], [0.5, 8.0], 8), ["mean-for-sum"], "d = 8"
    prior = case("i", [0.9375, 0.5], [1.0, 1.0])
    prior["mean_2"] = 0.0 * prior["mean_2"]
    yield prior, flags, "to the prior N(0, I)"


def _kl_full() -> Iterator[Draft]:
    def case(mean_1: Any, cov_1: Any, mean_2: Any, cov_2: Any) -> dict[str, Any]:
        return {"mean_1": mean_1, "cov_1": cov_1, "mean_2": mean_2, "cov_2": cov_2}

    a, b = [[1.0, 0.5], [0.5, 2.0]], [[1.5, -0.25], [-0.25, 0.5]]
    one, two = [0.5, -1.0], [0.25, 0.75]
    yield case(one, a, two, b), ["swapped"], "the divergence is not symmetric"
    yield case(two, b, one, a), ["swapped"], "the other way around"
    yield case(one, a, two, a), ["inverse"], "one covariance: half the square of Mahalanobis' distance"
    yield case(one, a, one, b), ["sign"], "one mean: trace and determinants"
    yield case(one, [[2.0, 0.0], [0.0, 0.5]], two, [[1.0, 0.0], [0.0, 4.0]]), ["inverse"], "diagonal"
    yield case([0.5], [[0.25]], [-1.0], [[2.0]]), ["swapped"], "d = 1"
    c = [[2.0, 0.5, -0.25], [0.5, 1.0, 0.125], [-0.25, 0.125, 0.75]]
    e = [[1.0, -0.25, 0.5], [-0.25, 1.5, 0.0], [0.5, 0.0, 2.0]]
    yield case([1.0, 0.0, -0.5], c, [0.0, 0.25, 1.0], e), ["transposed"], "d = 3"
    near = [[1.0, 0.96875], [0.96875, 1.0]]
    yield case(one, a, two, near), ["inverse"], "a second that is nearly flat"
    yield case(one, near, two, a), ["inverse"], "a first that is nearly flat"


def _log_densities(name: str, single: bool) -> Iterator[Draft]:
    def case(key: str, variance: list[float], d: int = 2, B: int | None = None) -> dict[str, Any]:
        rows = B or len(variance)
        x, mean = draw(f"{name} {key} x", rows, d), draw(f"{name} {key} m", rows, d)
        spread = f32(variance[0]) if single else f32(variance)
        return {"x0" if single else "x": x, "mean": mean, "variance": spread}

    flags = ["std-for-variance", "missing-half"]
    yield case("a", [0.5, 2.0] if not single else [0.5], B=2), flags, "d = 2"
    yield case("b", [1.0], 1), ["missing-log-2pi"], "d = 1, variance 1"
    yield case("c", [0.25], 3), ["mean-for-sum"], "d = 3: log(2 pi variance) counts three times"
    yield case("d", [2.0**-10], 2), flags, "a narrow one, far in its tail"
    yield case("e", [64.0], 2), flags, "a wide one"
    yield case("f", [0.03125] * 3 if not single else [0.03125], 2, 3), flags, "B = 3"
    yield case("g", [0.001], 4), flags, "a density that is positive or far below 0, d = 4"


def _marginalise() -> Iterator[Draft]:
    def case(a: float, s2: float, b: float, t2: float) -> dict[str, Any]:
        return {"a": a, "s2": s2, "b": b, "t2": t2}

    flags = ["scale", "root", "swapped"]
    yield case(0.5, 0.75, 0.25, 2.0), flags, "the inner variance is multiplied by the square of a"
    yield case(-2.0, 0.5, 0.75, 0.25), ["sign"], "a negative slope"
    yield case(0.875, 0.125, 0.5, 0.375), flags, "two steps of a chain"
    yield case(1.0, 0.25, 1.0, 0.5), ["swapped"], "slopes of 1: variances add up"
    yield case(0.0625, 1.0, 3.0, 4.0), flags, "a small outer slope"
    yield case(4.0, 0.03125, -0.5, 0.0625), flags, "a large outer slope"


def grid(levels: int, *rows: list[int]) -> Any:
    """Levels as values from -1 to 1."""
    return (2.0 * np.array(rows) - (levels - 1)) / (levels - 1)


def _discretised() -> Iterator[Draft]:
    def case(levels: int, rows: list[list[int]], mean: Any, variance: float) -> dict[str, Any]:
        return {
            "x0": grid(levels, *rows),
            "mean": f32(mean),
            "variance": f32(variance),
            "levels": levels,
        }

    ends, tail, width = ["open-ends"], ["far-tail"], ["bin-width"]
    near = [[-0.2421875, 0.5078125]]
    yield case(256, [[96, 192]], near, 2.0**-12), width, "bins of 2/255, means within a few of them"
    yield case(256, [[128]], [[0.0078125]], 2.0**-14), width, "d = 1, a variance as large as a bin"
    yield case(256, [[0, 255]], [[-0.9375, 0.96875]], 2.0**-10), ends, "both ends: bins that are open"
    yield case(256, [[0, 255]], [[-1.5, 1.25]], 2.0**-10), ends, "means beyond the ends: almost certain"
    yield case(256, [[0, 255]], [[1.0, -1.0]], 2.0**-8), [*ends, *tail], "ends from far away"
    yield case(256, [[1, 254]], [[-1.0, 1.0]], 2.0**-12), width, "the last bins that are closed"
    yield case(256, [[10, 200]], [[0.75, -0.5]], 2.0**-12), tail, "a hundred standard deviations away"
    yield case(256, [[10, 200]], [[3.0, -4.0]], 2.0**-14), tail, "five hundred away: the bin underflows"
    yield case(256, [[64, 128]], [[-0.5, 0.0]], 2.0**-24), ["saturated"], "almost certain: a log of 1"
    yield case(256, [[100, 101], [20, 30], [7, 250]], draw("bins a", 3, 2), 0.25), width, "wide, B = 3"
    yield case(256, [[3, 99, 180]], draw("bins b", 1, 3), 4.0), width, "wider than the grid, d = 3"
    yield case(256, [[255, 0]], draw("bins c", 1, 2), 16.0), ends, "ends that hold half of all"
    yield case(2, [[0, 1]], [[0.25, 0.5]], 0.25), [*width, *ends], "two levels: both bins are open"
    yield case(2, [[0, 1]], [[8.0, -8.0]], 0.0625), tail, "two levels, both in the tail"
    yield case(3, [[0, 1, 2]], [[-0.5, 0.25, 0.125]], 0.0625), width, "three levels: bins of 1"
    yield case(17, [[0, 5, 16], [8, 8, 9]], draw("bins d", 2, 3), 0.03125), width, "seventeen levels"
    yield case(17, [[3, 12]], [[-0.609375, 0.515625]], 0.00390625), width, "means near the levels"
    yield case(129, [[0, 64, 128]], [[-1.0, 0.0, 1.0]], 0.0009765625), ends, "means on the ends"
    yield case(65536, [[0, 1, 40000, 65535]], [[-1.0, -1.0, 0.25, 0.99]], 2.0**-20), width, "16 bits"
    edge = "a mean on the edge between two bins: half of the mass on each side"
    yield case(17, [[4, 5]], [[-0.4375, -0.4375]], 2.0**-12), ["bin-width"], edge
    both = "the same level from below and from above"
    yield case(17, [[8, 8]], [[-1.25, 1.25]], 2.0**-8), ["sign", *tail], both
    yield case(256, [[30]], [[0.5]], 2.0**-20), tail, "a thousand standard deviations away, d = 1"
    yield case(5, [[1, 2, 3]], [[0.125, -0.25, 5.0]], 1.0), width, "variance 1"
    yield (
        case(256, [[0, 0], [255, 255]], [[3.0, -3.0]] * 2, 2.0**-6),
        [*ends, *tail],
        "ends from both sides",
    )


PAIR = {"mean_1": ROWS, "var_1": PER_EXAMPLE, "mean_2": ROWS, "var_2": PER_EXAMPLE}
FUNCTIONS = [
    Function(
        "kl_normal_1d",
        "L 1.3",
        "kl = log(std_2 / std_1) + (std_1^2 + (mean_1 - mean_2)^2) / (2 std_2^2) - 1/2",
        {
            "mean_1": "a number",
            "std_1": "a standard deviation",
            "mean_2": "a number",
            "std_2": "another",
        },
        {"kl": "a number, in nats"},
        kl_normal_1d,
        _kl_1d,
    ),
    Function(
        "kl_isotropic",
        "M2 (32)",
        "kl = (d (r - 1 - log(r)) + ||mean_1 - mean_2||^2 / var_2) / 2, r = var_1 / var_2",
        PAIR,
        {"kl": f"in nats, {PER_EXAMPLE}"},
        kl_isotropic,
        _kl_isotropic,
    ),
    Function(
        "kl_full",
        "L 6.2",
        "kl = (log(det cov_2 / det cov_1) - d + tr(cov_2^-1 cov_1) + (mean_2 - mean_1)^T cov_2^-1"
        " (mean_2 - mean_1)) / 2",
        {
            "mean_1": "shape (d,)",
            "cov_1": "shape (d, d)",
            "mean_2": "shape (d,)",
            "cov_2": "shape (d, d)",
        },
        {"kl": "a number, in nats"},
        kl_full,
        _kl_full,
    ),
    Function(
        "normal_log_density",
        "M2 (30)",
        "log_density = -(||x - mean||^2 / variance + d log(2 pi variance)) / 2",
        {"x": ROWS, "mean": ROWS, "variance": PER_EXAMPLE},
        {"log_density": f"in nats, {PER_EXAMPLE}"},
        normal_log_density,
        lambda: _log_densities("normal_log_density", single=False),
    ),
    Function(
        "marginalise",
        "M2 (37)",
        "integral of N(x; a y, s2) N(y; b z, t2) dy = N(x; slope z, variance)",
        {"a": "a number", "s2": "a variance", "b": "a number", "t2": "a variance"},
        {"slope": "a b", "variance": "s2 + t2 a^2"},
        marginalise,
        _marginalise,
    ),
    Function(
        "gaussian_decoder",
        "M2 (19), L_0",
        "log_prob = -(||x0 - mean||^2 / variance + d log(2 pi variance)) / 2",
        {"x0": ROWS, "mean": ROWS, "variance": "a number"},
        {"log_prob": f"in nats, {PER_EXAMPLE}"},
        gaussian_decoder,
        lambda: _log_densities("gaussian_decoder", single=True),
    ),
    Function(
        "discretised_gaussian",
        "Ho et al. 2020, section 3.3",
        "log_prob = sum of log(Phi((x0 + w - mean) / s) - Phi((x0 - w - mean) / s)),"
        " w = 1 / (levels - 1), s = sqrt(variance); the lowest bin starts at -infinity, the highest"
        " ends at +infinity",
        {
            "x0": "even levels from -1 to 1, as float64 has them (float32 rounds them), shape (B, d)",
            "mean": ROWS,
            "variance": "a number",
            "levels": "how many",
        },
        {"log_prob": f"in nats, {PER_EXAMPLE}"},
        discretised_gaussian,
        _discretised,
        off_float32=("x0",),
    ),
]
