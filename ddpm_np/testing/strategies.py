"""Hypothesis strategies for property tests of diffusion code: schedules, times, observations.

    @given(schedule=schedules(), data=st.data())
    def test_round_trip(schedule, data):
        t = data.draw(times(schedule))
        x0 = data.draw(observations())
        ...

Needs Hypothesis, which nothing else in ddpm_np does.
"""

import math

import numpy as np
from numpy.typing import NDArray

from ddpm_np._checks import check_choice, check_integer, check_real
from ddpm_np.schedules import Schedule, check_schedule, cosine_schedule, schedule_from_beta

try:
    from hypothesis import strategies as st
    from hypothesis.extra import numpy as hnp
except ImportError as error:
    raise ImportError("ddpm_np.testing.strategies needs Hypothesis: pip install hypothesis") from error


def schedules(
    max_T: int = 50, min_beta: float = 1e-4, max_beta: float = 0.5
) -> st.SearchStrategy[Schedule]:
    """Noise schedules: any betas at all, betas that grow linearly, and cosine.

    Parameters
    ----------
    max_T : int
        The most steps, >= 1.
    min_beta, max_beta : float
        Range of every beta, 0 < min_beta < max_beta < 1.

    Raises
    ------
    TypeError, ValueError
        If a value is out of range.
    """
    max_T = check_integer("max_T", max_T, 1)
    low = check_real("min_beta", min_beta, 0.0, 1.0)
    high = check_real("max_beta", max_beta, low, 1.0)
    one_beta = st.floats(low, high)
    arbitrary = st.lists(one_beta, min_size=1, max_size=max_T).map(schedule_from_beta)
    linear = st.builds(
        lambda T, ends: schedule_from_beta(np.linspace(min(ends), max(ends), T)),
        st.integers(1, max_T),
        st.tuples(one_beta, one_beta),
    )

    def clipped_cosine(T: int) -> Schedule:
        return schedule_from_beta(np.clip(cosine_schedule(T).beta[1:], low, high))

    return st.one_of(linear, arbitrary, st.builds(clipped_cosine, st.integers(1, max_T)))


def times(schedule: Schedule, minimum: int = 1) -> st.SearchStrategy[int]:
    """Times of a schedule, minimum <= t <= T, both ends often.

    Raises
    ------
    TypeError, ValueError
        If schedule is not a Schedule, or minimum is not an integer between 0 and T.
    """
    T = check_schedule(schedule).T
    low = check_integer("minimum", minimum, 0, T)
    return st.one_of(st.sampled_from([low, T]), st.integers(low, T))


def observations(
    max_batch: int = 4, max_dimensions: int = 4, largest: float = 10.0, dtype: str = "float64"
) -> st.SearchStrategy[NDArray[np.floating]]:
    """Finite arrays of shape (B, d), as observations or noise.

    Parameters
    ----------
    max_batch, max_dimensions : int
        Bounds of B and d, >= 1.
    largest : float
        Bound of the absolute value of each entry, > 0.
    dtype : {"float64", "float32"}

    Raises
    ------
    TypeError, ValueError
        If a value is out of range.
    """
    check_choice("dtype", dtype, ("float64", "float32"))
    batch = check_integer("max_batch", max_batch, 1)
    dimensions = check_integer("max_dimensions", max_dimensions, 1)
    bound = float(np.dtype(dtype).type(check_real("largest", largest, 0.0, math.inf)))
    entries = st.floats(-bound, bound, width=64 if dtype == "float64" else 32)
    shapes = st.tuples(st.integers(1, batch), st.integers(1, dimensions))
    return hnp.arrays(np.dtype(dtype), shapes, elements=entries)
