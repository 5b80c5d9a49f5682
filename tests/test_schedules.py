"""Schedules against their formulas in 40 digits, published values, and each other."""

import copy
import functools
import itertools
import math
import pickle
import re

import mpmath
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mpmath import mpf

import ddpm_np
from ddpm_np.schedules import (
    Schedule,
    check_visits,
    cosine_schedule,
    linear_schedule,
    log_snr_schedule,
    log_snr_times,
    merge_first_steps,
    quadratic_schedule,
    quadratic_times,
    respaced_schedule,
    scaled_linear_schedule,
    schedule_from_alpha_bar,
    schedule_from_beta,
    sigmoid_schedule,
    trailing_times,
    uniform_times,
)
from tests.strategies import EPS, assert_within, schedules

DIGITS = 40
TABLES = ["beta", "alpha", "alpha_bar", "log_alpha_bar", "one_minus_alpha_bar", "posterior_variance"]
LENGTHS = [1, 2, 3, 10, 1000, 100_000]


def ramp_beta(T, beta_1, beta_T, shape):
    """beta of t = 1..T: ``shape`` maps the ramp from 0 to 1 to beta."""
    return [shape(mpf(t) / max(T - 1, 1), mpf(beta_1), mpf(beta_T)) for t in range(T)]


def linear(u, low, high):
    return low + (high - low) * u


def quadratic(u, low, high):
    return (mpmath.sqrt(low) + (mpmath.sqrt(high) - mpmath.sqrt(low)) * u) ** 2


def sigmoid(u, low, high, width=6.0):
    return low + (high - low) / (1 + mpmath.exp(-mpf(width) * (2 * u - 1)))


def cosine_beta(T, s=0.008, max_beta=0.999):
    def f(t):
        return mpmath.cos((mpf(t) / T + mpf(s)) / (1 + mpf(s)) * mpmath.pi / 2) ** 2

    values = [f(t) for t in range(T + 1)]
    return [min(1 - new / old, mpf(max_beta)) for old, new in itertools.pairwise(values)]


# Name: the schedule, and its beta from the same float64 arguments. A scaled schedule of few
# steps needs small betas.
CASES = {
    "linear": (linear_schedule, lambda T: ramp_beta(T, 1e-4, 0.02, linear)),
    "linear_falling": (
        lambda T: linear_schedule(T, 0.3, 0.01),
        lambda T: ramp_beta(T, 0.3, 0.01, linear),
    ),
    "scaled_linear": (
        lambda T: scaled_linear_schedule(T, 1e-6, 9e-4),
        lambda T: [b * 1000 / T for b in ramp_beta(T, 1e-6, 9e-4, linear)],
    ),
    "quadratic": (quadratic_schedule, lambda T: ramp_beta(T, 1e-4, 0.02, quadratic)),
    "sigmoid": (sigmoid_schedule, lambda T: ramp_beta(T, 1e-4, 0.02, sigmoid)),
    "sigmoid_width": (
        lambda T: sigmoid_schedule(T, 1e-3, 0.5, 9.0),
        lambda T: ramp_beta(T, 1e-3, 0.5, functools.partial(sigmoid, width=9.0)),
    ),
    "cosine": (cosine_schedule, cosine_beta),
    "cosine_s": (
        lambda T: cosine_schedule(T, 0.0, 0.7),
        lambda T: cosine_beta(T, 0.0, 0.7),
    ),
}
# At the greatest length, which takes mpmath seconds each, the two kinds: sums of a ramp, and cosines.
LONGEST = ("linear", "cosine")
MANY = [(n, T) for n in CASES for T in LENGTHS[:-1]]
MANY += [pytest.param(n, LENGTHS[-1], marks=pytest.mark.slow) for n in LONGEST]


@pytest.mark.parametrize(("name", "T"), MANY)
def test_tables_to_the_last_digits(name, T):
    make, exact_beta = CASES[name]
    schedule = make(T)
    assert schedule.T == T
    checked = {1, 2, 3, 5, 10, 100, T - 2, T - 1, T, *np.linspace(1, T, 25, dtype=int).tolist()}
    with mpmath.workdps(DIGITS):
        product = mpf(1)
        for t, beta in enumerate(exact_beta(T), start=1):
            before, product = product, product * (1 - beta)
            if t not in checked:
                continue
            expected = {
                "beta": beta,
                "alpha": 1 - beta,
                "alpha_bar": product,
                "log_alpha_bar": mpmath.log(product),
                "one_minus_alpha_bar": 1 - product,
                "posterior_variance": (1 - before) / (1 - product) * beta,
            }
            for table, value in expected.items():
                got = mpf(float(getattr(schedule, table)[t]))
                # 1e-12 is 4500 roundings; below the normal range numbers have fewer digits.
                assert abs(got - value) <= 1e-12 * abs(value) + mpf(2) ** -1074, (table, t)


@given(st.lists(st.floats(1e-7, 1.0 - 1e-12), min_size=1, max_size=20))
@example([1e-6 / 3.0, 0.3])
def test_tables_of_alpha_bar_to_the_last_digits(ratios):
    """alpha_bar is exact here; alpha as small as 1e-7 keeps its digits, and so does 1 - alpha_bar."""
    alpha_bar = np.concatenate([[1.0], np.cumprod(ratios)])
    schedule = schedule_from_alpha_bar(alpha_bar)
    with mpmath.workdps(DIGITS):
        exact = [mpf(float(a)) for a in alpha_bar]
        for t in range(1, len(exact)):
            alpha = exact[t] / exact[t - 1]
            tilde = (1 - exact[t - 1]) / (1 - exact[t]) * (1 - alpha)
            assert schedule.alpha[t] == pytest.approx(float(alpha), rel=2 * EPS, abs=0.0)
            # alpha_bar in (1/2, 1] is subtracted exactly, so beta is as good.
            assert schedule.beta[t] == pytest.approx(float(1 - alpha), rel=2 * EPS, abs=0.0)
            assert schedule.log_alpha_bar[t] == pytest.approx(
                float(mpmath.log(exact[t])), rel=2 * EPS, abs=0.0
            )
            assert schedule.one_minus_alpha_bar[t] == pytest.approx(
                float(1 - exact[t]), rel=2 * EPS, abs=0.0
            )
            assert schedule.posterior_variance[t] == pytest.approx(float(tilde), rel=6 * EPS, abs=0.0)


def test_cosine_keeps_its_digits_at_both_ends():
    """The formula as printed, in float64, cancels at small t, and near T where cos^2 ends."""
    T = 100_000
    t = np.arange(T + 1)
    f = np.cos((t / T + 0.008) / 1.008 * math.pi / 2) ** 2
    naive = 1.0 - f[1:] / f[:-1]
    good = cosine_schedule(T).beta[1:]
    assert np.max(np.abs(naive / good - 1.0)[:100]) > 1e-11
    assert good[-1] == 0.999


def test_published_values_of_the_linear_schedule():
    s = linear_schedule(1000)
    assert s.alpha_bar[1] == pytest.approx(0.9999, rel=1e-15, abs=0.0)
    assert s.alpha_bar[1000] == pytest.approx(4.0358298e-5, rel=1e-8, abs=0.0)
    assert s.posterior_variance[2] == pytest.approx(5.4531877e-5, rel=1e-8, abs=0.0)
    assert s.beta[1] == 1e-4
    assert s.beta[1000] == pytest.approx(0.02, rel=2 * EPS, abs=0.0)


def test_scaled_linear_is_linear_at_1000():
    np.testing.assert_array_equal(scaled_linear_schedule(1000).beta, linear_schedule(1000).beta)


@pytest.mark.peers
def test_scaled_linear_of_diffusers_is_quadratic():
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.DDPMScheduler(50, 1e-4, 0.02, beta_schedule="scaled_linear").betas.numpy()
    np.testing.assert_allclose(quadratic_schedule(50).beta[1:], theirs, rtol=1e-6)
    assert np.max(np.abs(scaled_linear_schedule(50).beta[1:] - theirs)) > 0.1
    assert (
        'diffusers calls "scaled_linear" is :func:`quadratic_schedule`' in scaled_linear_schedule.__doc__
    )
    assert '"scaled_linear"' in quadratic_schedule.__doc__


def test_scaled_linear_ends_the_same_for_every_length():
    """log alpha_bar_T is -1000 times the mean beta, but for terms of beta^2: 3 % of it at T = 200."""
    ends = [scaled_linear_schedule(T).log_alpha_bar[-1] for T in (200, 1000, 5000)]
    np.testing.assert_allclose(ends, ends[1], rtol=0.06)


@pytest.mark.parametrize("T", [2, 3, 200])
def test_log_snr_takes_even_steps_between_its_ends(T):
    s = log_snr_schedule(T, noise=0.02, signal=0.05)
    assert s.T == T
    assert s.sqrt_one_minus_alpha_bar[1] == pytest.approx(0.02, rel=1e-12)
    assert s.sqrt_alpha_bar[T] == pytest.approx(0.05, rel=1e-12)
    steps = np.diff(np.log(s.alpha_bar[1:] / s.one_minus_alpha_bar[1:]))
    np.testing.assert_allclose(steps, steps[0], rtol=1e-9)


@given(schedules())
def test_conventions(s):
    T = s.T
    for name in TABLES:
        table = getattr(s, name)
        assert table.shape == (T + 1,)
        assert table.dtype == np.float64
        assert not table.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            table[0] = 2.0
    assert [getattr(s, name)[0] for name in TABLES] == [0.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    assert s.posterior_variance[1] == 0.0
    assert s.one_minus_alpha_bar[1] == s.beta[1]
    assert np.all(np.diff(s.alpha_bar) < 0.0)
    assert np.all(np.diff(s.log_alpha_bar) < 0.0)
    assert np.all(np.diff(s.one_minus_alpha_bar) > 0.0)
    assert np.all((s.beta[1:] > 0.0) & (s.beta[1:] < 1.0))
    # beta_tilde_t < beta_t, since 1 - alpha_bar grows; two roundings.
    assert np.all(s.posterior_variance <= s.beta * (1.0 + 2 * EPS))


@given(schedules())
def test_tables_agree_with_each_other(s):
    np.testing.assert_allclose(s.alpha, 1.0 - s.beta, rtol=0, atol=EPS)
    # alpha = 1 - beta is off by EPS / 2, and a running product adds the relative errors up;
    # alpha_bar = exp(log_alpha_bar) by the rounding of the logarithm, 15 at most.
    bound = np.cumsum(EPS / s.alpha) + 32 * EPS
    assert_within(s.alpha_bar, np.cumprod(s.alpha), bound * s.alpha_bar)
    np.testing.assert_allclose(s.one_minus_alpha_bar, 1.0 - s.alpha_bar, rtol=0, atol=2 * EPS)


@given(schedules())
def test_alpha_bar_round_trip_keeps_every_bit(s):
    again = schedule_from_alpha_bar(s.alpha_bar)
    np.testing.assert_array_equal(again.alpha_bar, s.alpha_bar)
    # alpha_bar came out of exp(log_alpha_bar): relative errors of up to 16 EPS, in beta 32 alpha EPS.
    np.testing.assert_allclose(again.beta, s.beta, rtol=0, atol=34 * EPS)


@given(st.lists(st.floats(1e-12, 1.0 - 1e-12), min_size=1, max_size=20))
def test_beta_round_trip_keeps_every_bit(beta):
    np.testing.assert_array_equal(schedule_from_beta(beta).beta, [0.0, *beta])
    np.testing.assert_array_equal(schedule_from_beta(tuple(np.array(beta))).beta[1:], beta)


def test_long_schedules_forget_completely_without_trouble():
    """alpha_bar underflows at T = 100,000; nothing else does, and nothing sticks or turns NaN."""
    s = linear_schedule(100_000)
    assert s.alpha_bar[-1] == 0.0
    assert s.one_minus_alpha_bar[-1] == 1.0
    assert np.all(np.diff(s.log_alpha_bar) < 0.0)
    assert all(np.all(np.isfinite(getattr(s, name))) for name in TABLES)


def test_first_step_keeps_every_bit():
    """1 - alpha_bar_1 is beta_1, not what a logarithm and an exponential make of it."""
    for beta in np.linspace(0.001, 0.999, 999):
        assert schedule_from_beta([beta]).one_minus_alpha_bar[1] == beta


def test_tables_are_copies():
    beta = np.array([0.1, 0.2])
    s = schedule_from_beta(beta)
    beta[0] = 0.9
    assert s.beta[1] == 0.1
    alpha_bar = np.array([1.0, 0.5])
    s = schedule_from_alpha_bar(alpha_bar)
    alpha_bar[1] = 0.9
    assert s.alpha_bar[1] == 0.5


@pytest.mark.parametrize("T", [2, 30, 1000])
def test_a_zero_in_a_table_has_no_sign(T):
    made = [make(T) for name, (make, _) in CASES.items()]
    made += [log_snr_schedule(T, 0.02), merge_first_steps(linear_schedule(T), 0.012)]
    made += [schedule_from_alpha_bar(made[0].alpha_bar), schedule_from_beta(np.full(T, 0.9))]
    roots = ["sqrt_alpha_bar", "sqrt_one_minus_alpha_bar", "c_xt", "c_x0"]
    for s, name in itertools.product(made, [*TABLES, *roots]):
        table = getattr(s, name)
        assert not np.any(np.signbit(table[table == 0.0])), (s, name)


def test_repr_says_what_it_is():
    assert repr(linear_schedule(1000)) == "Schedule(T=1000, beta=0.0001..0.02, alpha_bar_T=4.036e-05)"


def test_roots_are_those_of_the_tables():
    s = cosine_schedule(50)
    np.testing.assert_array_equal(s.sqrt_alpha_bar, np.sqrt(s.alpha_bar))
    np.testing.assert_array_equal(s.sqrt_one_minus_alpha_bar, np.sqrt(s.one_minus_alpha_bar))
    for copied in (s, pickle.loads(pickle.dumps(s)), copy.deepcopy(s)):
        roots = copied.sqrt_alpha_bar, copied.sqrt_one_minus_alpha_bar
        for table in (*roots, copied.c_xt, copied.c_x0):
            assert not table.flags.writeable
            assert table.shape == (51,)


def test_schedule_is_frozen():
    with pytest.raises(AttributeError):
        linear_schedule(3).beta = np.ones(4)


MAKERS = [linear_schedule, quadratic_schedule, cosine_schedule, sigmoid_schedule, scaled_linear_schedule]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(
    ("T", "error", "message"),
    [
        (0, ValueError, "T must be >= 1, got 0"),
        (-3, ValueError, "T must be >= 1, got -3"),
        (10.0, TypeError, "T must be an integer >= 1, got float 10.0"),
        ("10", TypeError, "T must be an integer >= 1, got str '10'"),
        (True, TypeError, "T must be an integer >= 1, got bool True"),
        (None, TypeError, "T must be an integer >= 1, got NoneType None"),
    ],
)
def test_bad_length(make, T, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        make(T)


def bad(function, *args, **kwargs):
    return functools.partial(function, *args, **kwargs)


@pytest.mark.parametrize("make", [m for m in MAKERS if m is not cosine_schedule])
@pytest.mark.parametrize("name", ["beta_1", "beta_T"])
@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, 1.5, math.nan, math.inf])
def test_endpoints_out_of_range(make, name, value):
    with pytest.raises(ValueError, match=rf"^{name} must lie in \(0, 1\), got {value:g}$"):
        make(100, **{name: value})
    with pytest.raises(TypeError, match=rf"^{name} must be a number in \(0, 1\), got str '0.1'$"):
        make(100, **{name: "0.1"})


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (bad(sigmoid_schedule, 5, width=0.0), ValueError, "width must lie in (0, 500), got 0"),
        (bad(sigmoid_schedule, 5, width=500), ValueError, "width must lie in (0, 500), got 500"),
        (bad(cosine_schedule, 5, s=-0.1), ValueError, "s must lie in [0, 1], got -0.1"),
        (bad(cosine_schedule, 5, s=1.1), ValueError, "s must lie in [0, 1], got 1.1"),
        (bad(cosine_schedule, 5, s=None), TypeError, "s must be a number in [0, 1], got NoneType"),
        (bad(cosine_schedule, 5, max_beta=1.0), ValueError, "max_beta must lie in (0, 1), got 1"),
        (bad(cosine_schedule, 5, max_beta=0), ValueError, "max_beta must lie in (0, 1), got 0"),
        (bad(log_snr_schedule, 1, 0.1), ValueError, "T must be >= 2, got 1"),
        (bad(log_snr_schedule, 5, 0.0), ValueError, "noise must lie in (0, 1), got 0"),
        (bad(log_snr_schedule, 5, 0.1, 1.0), ValueError, "signal must lie in (0, 1), got 1"),
        (bad(log_snr_schedule, 5, 0.8, 0.6), ValueError, "noise^2 + signal^2 must be below 1"),
        (bad(scaled_linear_schedule, 20), ValueError, "T must exceed 20 for beta_T = 0.02, got 20"),
        (
            bad(schedule_from_beta, [0.1, 1.0, 0.1]),
            ValueError,
            "beta must lie strictly between 0 and 1, but for the last entry, which may be 1, "
            "got beta[1] = 1",
        ),
        (
            bad(schedule_from_beta, [0.1, 1.0, 1.0]),
            ValueError,
            "but for the last entry, which may be 1, got beta[1] = 1",
        ),
        (bad(schedule_from_beta, [0.1, 1.1]), ValueError, "between 0 and 1, got beta[1] = 1.1"),
        (
            bad(schedule_from_beta, [0.0, 0.1]),
            ValueError,
            "beta must lie strictly between 0 and 1, got beta[0] = 0",
        ),
        (bad(schedule_from_beta, [math.nan]), ValueError, "beta must lie strictly between"),
        (bad(schedule_from_beta, []), TypeError, "beta must be a non-empty sequence of real numbers"),
        (bad(schedule_from_beta, 0.1), TypeError, "beta must be a non-empty sequence of real numbers"),
        (bad(schedule_from_beta, None), TypeError, "got NoneType None"),
        (bad(schedule_from_beta, "0.1"), TypeError, "got str '0.1'"),
        (bad(schedule_from_beta, ["a"]), TypeError, "got list ['a']"),
        (bad(schedule_from_beta, [[0.1], [0.2]]), TypeError, "got list [[0.1], [0.2]]"),
        (bad(schedule_from_beta, [[0.1], [0.2, 0.3]]), TypeError, "beta must be a non-empty"),
        (bad(schedule_from_beta, np.array([0.1 + 0j])), TypeError, "beta must be real"),
        (bad(schedule_from_beta, np.array([True])), TypeError, "shape (1,), dtype bool"),
        (
            bad(schedule_from_alpha_bar, [0.9, 0.5]),
            ValueError,
            "alpha_bar[0] = 1, the data end, got 0.9",
        ),
        (bad(schedule_from_alpha_bar, [1.0]), ValueError, "alpha_bar must have at least two entries"),
        (
            bad(schedule_from_alpha_bar, [1.0, 0.5, 0.5]),
            ValueError,
            "alpha_bar must decrease strictly and stay above 0 up to t = T - 1, "
            "got alpha_bar[1] = 0.5, alpha_bar[2] = 0.5",
        ),
        (bad(schedule_from_alpha_bar, [1.0, math.nan]), ValueError, "alpha_bar must decrease strictly"),
        (bad(schedule_from_alpha_bar, [1.0, math.inf]), ValueError, "alpha_bar must decrease strictly"),
        (
            bad(schedule_from_alpha_bar, [1.0, 0.5, 0.0, 0.0]),
            ValueError,
            "alpha_bar must decrease strictly and stay above 0 up to t = T - 1, "
            "got alpha_bar[1] = 0.5, alpha_bar[2] = 0",
        ),
        (
            bad(schedule_from_alpha_bar, [1.0, 1e-20]),
            ValueError,
            "alpha_bar must keep more than 1e-16 of itself in each step, or beta rounds to 1, "
            "got alpha_bar[0] = 1, alpha_bar[1] = 1e-20",
        ),
        *(  # running products: of 1/2 they reach 0, of 0.9 they stick just above it
            (
                bad(schedule_from_alpha_bar, np.cumprod([1.0, *[factor] * 8000])),
                ValueError,
                "alpha_bar must not underflow: take fewer steps or smaller betas (schedule_from_beta "
                f"takes any), got alpha_bar[{last}, alpha_bar[",
            )
            for factor, last in (
                (0.5, "1074] = 4.94066e-324"),
                (0.9, "7050] = 2.47033e-323"),
                (1e-10, "32] = 9.99989e-321"),
            )
        ),
        (
            bad(log_snr_schedule, 10, 1e-9),
            ValueError,
            "noise = 1e-09 or signal = 0.03 is too small for T = 10 in float64: alpha_bar must",
        ),
        (
            bad(log_snr_schedule, 10, 0.1, 1e-200),
            ValueError,
            "noise = 0.1 or signal = 1e-200 is too small for T = 10 in float64: alpha_bar",
        ),
        (
            bad(log_snr_schedule, 2, 0.1, 1e-200),
            ValueError,
            "noise = 0.1 or signal = 1e-200 is too small for T = 2 in float64: alpha_bar[T] underflows",
        ),
        (bad(schedule_from_alpha_bar, "1"), TypeError, "alpha_bar must be a non-empty sequence"),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


@pytest.mark.parametrize("T", [np.int64(5), np.array(5), np.uint8(5)])
def test_integers_of_numpy_are_lengths(T):
    s = linear_schedule(T)
    assert type(s.T) is int
    assert s.T == 5


def test_schedule_is_exported():
    assert ddpm_np.Schedule is Schedule


# --- respacing ----------------------------------------------------------------------------

CHOICES = [uniform_times, quadratic_times, trailing_times]


@given(st.data(), schedules(min_T=1, max_T=60))
def test_a_respaced_chain_has_the_marginals_of_the_long_one(data, s):
    """alpha_bar to the last bit, and beta' from it with 50 digits."""
    visited = data.draw(st.lists(st.integers(1, s.T), max_size=8).map(lambda t: sorted({*t, s.T})))
    short = respaced_schedule(s, visited)
    assert len(visited) == short.T
    for name in ("alpha_bar", "log_alpha_bar", "one_minus_alpha_bar"):
        np.testing.assert_array_equal(getattr(short, name)[1:], getattr(s, name)[visited])
    for i, (first, last) in enumerate(itertools.pairwise([0, *visited]), 1):
        with mpmath.workdps(50):
            alpha = mpmath.fprod(1 - mpf(float(b)) for b in s.beta[first + 1 : last + 1])
            beta = float(1 - alpha)
        # alpha_bar may be given to 16 digits only, as by schedule_from_alpha_bar.
        assert_within(short.beta[i], beta, 8 * (last - first) * EPS * beta)
    assert short.c_x0[1] == 1.0


@given(schedules())
def test_visiting_every_time_changes_nothing(s):
    every = respaced_schedule(s, range(1, s.T + 1))
    for name in TABLES:
        assert_within(getattr(every, name), getattr(s, name), 2 * EPS * np.abs(getattr(s, name)))


def test_a_respaced_chain_may_underflow():
    """A ratio of alpha_bar would be 0 / 0."""
    short = respaced_schedule(schedule_from_beta([0.5] * 4000), [10, 2000, 4000])
    np.testing.assert_allclose(short.beta[1:], [1 - 2.0**-10, 1.0, 1.0], rtol=2 * EPS)


@pytest.mark.parametrize("choose", CHOICES)
@given(data=st.data(), T=st.integers(1, 1000))
def test_times_increase_to_the_last(choose, data, T):
    S = data.draw(st.integers(1, T))
    times = choose(T, S)
    assert times.shape == (S,)
    np.testing.assert_array_equal(check_visits(times, T), times)


@given(data=st.data(), s=schedules())
def test_times_even_in_log_snr_increase_to_the_last(data, s):
    S = data.draw(st.integers(1, s.T))
    times = log_snr_times(s, S)
    assert times.shape == (S,)
    np.testing.assert_array_equal(check_visits(times, s.T), times)


def test_times_may_be_an_array_of_any_library_on_the_host():
    strict = pytest.importorskip("array_api_strict")
    np.testing.assert_array_equal(check_visits(strict.asarray([2, 3, 7]), 7), [2, 3, 7])
    elsewhere = strict.asarray([2, 3, 7], device=strict.Device("device1"))
    with pytest.raises(
        TypeError, match=r"times must hold .*, which NumPy cannot read: copy it to the host"
    ):
        check_visits(elsewhere, 7)


def test_times_are_where_their_formulas_say():
    assert uniform_times(1000, 5).tolist() == [1, 251, 500, 750, 1000]
    assert quadratic_times(1000, 5).tolist() == [1, 63, 251, 563, 1000]
    assert trailing_times(1000, 5).tolist() == [200, 400, 600, 800, 1000]
    assert quadratic_times(10, 8).tolist() == [1, 2, 3, 4, 5, 6, 8, 10]  # 1.2, 1.7, ... moved apart
    for choose in CHOICES:
        assert choose(1000, 1).tolist() == [1000]
        assert choose(7, 7).tolist() == [1, 2, 3, 4, 5, 6, 7]


def test_times_even_in_log_snr_are_the_nearest_ones():
    s = linear_schedule(1000)
    times = log_snr_times(s, 12)
    even = np.linspace(s.half_log_snr[1], s.half_log_snr[1000], 12)
    spacing = np.abs(np.diff(s.half_log_snr[1:])).max()
    assert np.all(np.abs(s.half_log_snr[times] - even) <= spacing / 2)
    assert times[0] == 1


def test_the_flows_own_times():
    """Signal over noise, also where alpha_bar is nearly 1 or underflows."""
    s = schedule_from_beta([1e-12, 0.5, *[0.9] * 400])
    exact = [(1 - b) / b for b in s.beta[1:2]]
    np.testing.assert_allclose(s.noise_to_signal[1] ** -2, exact[0], rtol=8 * EPS)
    np.testing.assert_allclose(s.half_log_snr[1], 0.5 * math.log(exact[0]), rtol=8 * EPS)
    assert s.noise_to_signal[0] == 0.0
    assert s.half_log_snr[0] == math.inf
    assert s.alpha_bar[-1] == 0.0
    assert s.half_log_snr[-1] == pytest.approx(0.5 * (400 * math.log(0.1) + math.log(0.5)), rel=1e-12)
    np.testing.assert_allclose(np.exp(-s.half_log_snr[1:300]), s.noise_to_signal[1:300], rtol=1e-12)


@pytest.mark.parametrize(
    ("times", "error", "message"),
    [
        ([], ValueError, "times must be a sequence of the times to visit, got list []"),
        (10, ValueError, "times must be a sequence of the times to visit, got int 10"),
        ("all", TypeError, "times must hold real numbers, got str 'all'"),
        ([1, 2.5, 10], TypeError, "times must be integers, got list [1, 2.5, 10]"),
        ([1, math.nan, 10], TypeError, "times must be integers, got list [1, nan, 10]"),
        ([0, 5, 10], ValueError, "times must be 1 or more, got 0"),
        ([1, 5, 5, 10], ValueError, "times must increase, got 5 before 5"),
        ([10, 5, 1], ValueError, "times must increase, got 10 before 5"),
        ([1, 5, 9], ValueError, "the last of times must be T = 10, got 9"),
        ([1, 5, 11], ValueError, "the last of times must be T = 10, got 11"),
    ],
)
def test_bad_times(times, error, message):
    with pytest.raises(error, match=re.escape(message)):
        respaced_schedule(linear_schedule(10), times)


@pytest.mark.parametrize("choose", [*CHOICES, lambda T, S: log_snr_times(linear_schedule(10), S)])
def test_bad_numbers_of_times(choose):
    with pytest.raises(ValueError, match="S must be between 1 and 10, got 11"):
        choose(10, 11)
    with pytest.raises(TypeError, match=r"S must be an integer between 1 and 10, got float 2\.0"):
        choose(10, 2.0)
