"""What the tests of the mathematics share: Hypothesis strategies, tolerances, linear models."""

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ddpm_np.forward import q_sample
from ddpm_np.schedules import (
    SCHEDULES,
    Schedule,
    linear_schedule,
    schedule_from_alpha_bar,
    schedule_from_beta,
)

EPS = float(np.finfo(np.float64).eps)
TINY = 1e-290  # products of numbers like this are subnormal, and have few digits
DTYPES = ["float32", "float64"]
TARGETS = ["eps", "x0", "mean", "v"]
KINDS = ["posterior", "beta", "unit"]

# A schedule on which no formula is badly conditioned: alpha_bar falls from 0.95 to 0.08.
MILD = linear_schedule(10, 0.05, 0.4)


def eps_of(dtype: str) -> float:
    """The spacing of floating-point numbers at 1."""
    return float(np.finfo(dtype).eps)


def _named(T: int, name: str) -> Schedule:
    return SCHEDULES[name](max(T, 21) if name == "scaled_linear" else T)


def _from_total_decay(increments: list[float], nats: float) -> Schedule:
    log_alpha_bar = -nats * np.cumsum(increments) / np.sum(increments)
    return schedule_from_alpha_bar(np.exp(np.concatenate([[0.0], log_alpha_bar])))


def schedules(min_T: int = 1, max_T: int = 200) -> st.SearchStrategy[Schedule]:
    """Named schedules, random tables of beta and of alpha_bar; mostly short.

    alpha_bar_T stays above 1e-8 (the cosine schedule is the lowest), so that 1 / sqrt(alpha_bar),
    which amplifies errors in some conversions, stays below 1e4.
    """
    lengths = st.integers(min_T, max(min_T, 8)) | st.integers(min_T, max_T)
    short = {"min_size": min_T, "max_size": max(min_T, 12)}
    tables = [
        st.builds(_named, lengths, st.sampled_from(sorted(SCHEDULES))),
        st.builds(schedule_from_beta, st.lists(st.floats(1e-5, 0.75), **short)),
        st.builds(
            _from_total_decay, st.lists(st.floats(0.01, 1.0), **short), nats=st.floats(1e-3, 15.0)
        ),
    ]
    return st.one_of(tables)


def times(T: int, minimum: int = 1) -> st.SearchStrategy[int]:
    """One time; the ends, where off-by-one errors live, come up often."""
    return st.sampled_from([minimum, T]) | st.integers(minimum, T)


def batch_times(T: int, B: int, minimum: int = 1) -> st.SearchStrategy[Any]:
    """One time per example."""
    return st.lists(times(T, minimum), min_size=B, max_size=B).map(np.array)


def shapes(max_batch: int = 4) -> st.SearchStrategy[tuple[int, ...]]:
    """Shapes of a batch: of scalars, vectors, images, images with channels."""
    small = st.integers(1, 3)
    return st.integers(1, max_batch).flatmap(
        lambda B: (
            st.just((B,))
            | st.tuples(st.just(B), small)
            | st.tuples(st.just(B), small, small)
            | st.tuples(st.just(B), small, small, small)
        )
    )


def values(shape: tuple[int, ...], size: float = 8.0) -> st.SearchStrategy[Any]:
    """float64 arrays of moderate size."""
    return arrays(np.float64, shape, elements=st.floats(-size, size, allow_subnormal=False))


@st.composite
def cases(
    draw: st.DrawFn, count: int = 2, minimum: int = 1, *, max_T: int = 200, min_T: int | None = None
) -> tuple[Any, ...]:
    """(schedule, t, array, ..., array): times for the batch or per example, arrays of one shape."""
    schedule = draw(schedules(max(minimum, 1) if min_T is None else min_T, max_T))
    shape = draw(shapes())
    t = draw(times(schedule.T, minimum) | batch_times(schedule.T, shape[0], minimum))
    return (schedule, t, *(draw(values(shape)) for _ in range(count)))


def spread(values: Any, x: Any) -> Any:
    """Host numbers, one or one per example, shaped to multiply ``x``."""
    return np.reshape(values, np.shape(values) + (1,) * (np.ndim(x) - 1)) if np.ndim(values) else values


def at(table: Any, t: Any, x: Any) -> Any:
    """``table[t]``, shaped to multiply ``x``."""
    return spread(table[t], x)


def assert_within(actual: Any, expected: Any, bound: Any) -> None:
    """Absolute error at most ``bound``, elementwise, or of the size where digits run out."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    error = np.abs(actual - expected)
    assert np.all(error <= bound + TINY), f"error {error} exceeds {bound}: {actual} against {expected}"


def check_library(lib: Any, dtype: str, function: Any, count: int, *, minimum: int = 1) -> None:
    """``function(t, *arrays)`` on one library, against itself in float64 NumPy.

    Arrays are rounded to ``dtype`` first, so that the results differ by the rounding of some tens
    of operations only; :data:`MILD` amplifies them by less than ten. dtype and device must be
    kept, and a time per example must do what a time for all does to that example.
    """
    B, T, dims = 3, MILD.T, (2, 2)
    rng = np.random.default_rng(0)
    host = [rng.standard_normal((B, *dims)).astype(dtype) for _ in range(count)]
    theirs = [lib.array(x, dtype) for x in host]
    ours = [x.astype(np.float64) for x in host]
    each = np.array([minimum, 4, T])

    def compare(ts: Any, t: Any) -> list[Any]:
        results = function(ts, *theirs)
        expected = function(t, *ours)
        if not isinstance(expected, tuple):
            results, expected = (results,), (expected,)
        assert len(results) == len(expected)
        for result, truth in zip(results, expected, strict=True):
            assert str(result.dtype).endswith(dtype)
            bound = 64 * eps_of(dtype) * np.max(np.abs(truth))
            assert_within(lib.host(result), truth, bound)
        return list(expected)

    per_example = compare(each, each)
    compare(lib.array(each, "int64"), each)
    for i, t in enumerate(each):
        single = compare(int(t), int(t))
        for many, one in zip(per_example, single, strict=True):
            if np.ndim(many):
                np.testing.assert_array_equal(many[i], one if np.ndim(one) == 0 else one[i])


# --- linear models of Gaussian data, of which everything is known


def slope(schedule: Schedule, t: int, c: float, target: str) -> float:
    """The model mean is slope * x_t where the network predicts c * x_t; from the equations."""
    alpha, beta = schedule.alpha[t], schedule.beta[t]
    ab, om = schedule.alpha_bar[t], schedule.one_minus_alpha_bar[t]
    before, om_before = schedule.alpha_bar[t - 1], schedule.one_minus_alpha_bar[t - 1]
    if target == "mean":
        return c
    if target == "x0":
        return math.sqrt(alpha) * om_before / om + math.sqrt(before) * beta / om * c
    if target == "v":
        c = math.sqrt(om) + math.sqrt(ab) * c
    return (1.0 - beta / math.sqrt(om) * c) / math.sqrt(alpha)


def exact_eps(schedule: Schedule, s2: float) -> Any:
    """E[eps | x_t] / x_t for data N(0, s2)."""
    om = schedule.one_minus_alpha_bar
    return np.sqrt(om) / (schedule.alpha_bar * s2 + om)


def optimal_variance(schedule: Schedule, s2: float) -> Any:
    """Var[x_{t-1} | x_t] of the joint Gaussian for data N(0, s2): the best sigma_t^2."""
    marginal = schedule.alpha_bar * s2 + schedule.one_minus_alpha_bar
    table = np.zeros(schedule.T + 1)
    covariance = np.sqrt(schedule.alpha[1:]) * marginal[:-1]
    table[1:] = marginal[:-1] - covariance**2 / marginal[1:]
    return table


def case_with_x_t(count: int = 2, **kwargs: Any) -> st.SearchStrategy[Any]:
    """(schedule, t, x0, eps, x_t)."""
    return cases(count, **kwargs).map(lambda c: (*c, q_sample(c[0], c[2], c[1], c[3])))


def terms(schedule: Schedule, t: Any, x0: Any, eps: Any) -> tuple[Any, Any]:
    """Sizes that bound every intermediate: of x_t, and of what 1 / sqrt(alpha_bar) makes of it."""
    size = np.abs(x0) + np.abs(eps)
    return size, size / np.sqrt(at(schedule.alpha_bar, t, x0))
