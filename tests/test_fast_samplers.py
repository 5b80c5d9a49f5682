"""DDIM, DPM-Solver++ and Heun's method: as printed, against exact flows, and back again."""

import itertools
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import ndtr

import ddpm_np
from backends import get_backend
from ddpm_np.exact import mixture_1d_exact
from ddpm_np.flow import ddim_invert
from ddpm_np.guidance import clipped, guided, respaced_predictor
from ddpm_np.nn import Adam, MLPDenoiser, Ops, constant_rate
from ddpm_np.reverse import made_for, reverse_variance
from ddpm_np.runs.evaluation import predictor
from ddpm_np.samplers import ancestral_sample, ddim_sample, dpm_solver_sample, heun_sample
from ddpm_np.schedules import (
    cosine_schedule,
    linear_schedule,
    log_snr_schedule,
    log_snr_times,
    respaced_schedule,
    schedule_from_beta,
    uniform_times,
)
from ddpm_np.targets import eps_from_mean, eps_from_v, eps_from_x0, training_target
from ddpm_np.training import Recipe
from tests.strategies import EPS, MILD, TARGETS, assert_within, eps_of, schedules

rng = np.random.default_rng(0)
X_T = rng.standard_normal((3, 2))
NOISE = rng.standard_normal((MILD.T + 1, 3, 2))
TIMES = [1, 3, 4, 8, 10]
LAW = mixture_1d_exact()

SAMPLERS = {
    "ddim": ddim_sample,
    "ddim, eta": lambda *args, **more: ddim_sample(*args, eta=0.7, noise=draw, **more),
    "order 1": lambda *args, **more: dpm_solver_sample(*args, order=1, **more),
    "order 2": dpm_solver_sample,
    "heun": heun_sample,
}


def draw(t):
    return NOISE[t]


def network(x_t, t):
    return np.sin(x_t + t)


# --- the algorithms as their papers print them ---------------------------------------------


def predicted_eps(schedule, x, t, target):
    convert = {"x0": eps_from_x0, "mean": eps_from_mean, "v": eps_from_v}
    prediction = network(x, t)
    return convert[target](schedule, x, t, prediction) if target in convert else prediction


def printed_ddim(s, target, eta=0.0, **_):
    """Song et al. (12), (16), with their alpha for alpha_bar."""
    a, x = s.alpha_bar, X_T
    for before, t in reversed([*itertools.pairwise([0, *TIMES])]):
        eps = predicted_eps(s, x, t, target)
        sigma = eta * math.sqrt((1 - a[before]) / (1 - a[t])) * math.sqrt(1 - a[t] / a[before])
        x = math.sqrt(a[before]) * (x - math.sqrt(1 - a[t]) * eps) / math.sqrt(a[t])
        x = x + math.sqrt(1 - a[before] - sigma**2) * eps + sigma * NOISE[t]
    return x


def printed_dpm_solver(s, target, order):
    """Lu et al., Algorithm 2, with its alpha and sigma, until the last step, which is x_0."""
    alpha, sigma, x, before = np.sqrt(s.alpha_bar), np.sqrt(1 - s.alpha_bar), X_T, None
    for t_i, t in reversed([*itertools.pairwise([0, *TIMES])]):
        x0 = (x - sigma[t] * predicted_eps(s, x, t, target)) / alpha[t]
        if t_i == 0:
            return x0
        h = math.log(alpha[t_i] / sigma[t_i]) - math.log(alpha[t] / sigma[t])
        D = x0
        if order == 2 and before is not None:
            r = before[0] / h
            D = (1 + 1 / (2 * r)) * x0 - 1 / (2 * r) * before[1]
        x = sigma[t_i] / sigma[t] * x - alpha[t_i] * (math.exp(-h) - 1) * D
        before = h, x0
    raise AssertionError


def printed_heun(s, target):
    """Karras et al., Algorithm 1, whose x is x / sqrt(alpha_bar), D's derivative being eps."""
    sigma = np.sqrt((1 - s.alpha_bar) / s.alpha_bar)
    y = X_T / math.sqrt(s.alpha_bar[TIMES[-1]])
    for before, t in reversed([*itertools.pairwise([0, *TIMES])]):
        d = predicted_eps(s, math.sqrt(s.alpha_bar[t]) * y, t, target)
        ahead = y + (sigma[before] - sigma[t]) * d
        if sigma[before] != 0:
            d_ahead = predicted_eps(s, math.sqrt(s.alpha_bar[before]) * ahead, before, target)
            ahead = y + (sigma[before] - sigma[t]) * (d / 2 + d_ahead / 2)
        y = ahead
    return y


PRINTED = {
    "ddim": printed_ddim,
    "ddim, eta": lambda s, target: printed_ddim(s, target, 0.7),
    "order 1": lambda s, target: printed_dpm_solver(s, target, 1),
    "order 2": lambda s, target: printed_dpm_solver(s, target, 2),
    "heun": printed_heun,
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", SAMPLERS)
def test_the_algorithm_is_the_printed_one(name, target):
    got = SAMPLERS[name](MILD, network, X_T, times=TIMES, target=target)
    # Five steps of a dozen roundings, amplified by 1 / sqrt(alpha_bar_T) = 3.6; 1 - alpha_bar cancels.
    assert_within(got, PRINTED[name](MILD, target), 2000 * EPS)


@pytest.mark.parametrize("target", ["eps", "x0", "v"])
@given(data=st.data(), s=schedules(min_T=2, max_T=30))
def test_ddim_with_all_its_noise_is_ancestral_sampling_of_the_short_chain(target, data, s):
    """Draw by draw, with variances beta_tilde."""
    times = data.draw(st.lists(st.integers(1, s.T), max_size=6).map(lambda t: sorted({*t, s.T})))
    short, z = respaced_schedule(s, times), np.random.default_rng(1).standard_normal((s.T + 1, 3, 2))
    got = ddim_sample(
        s, network, X_T, eta=1.0, noise=lambda t: z[t], times=times, target=target, trajectory=True
    )
    expected = ancestral_sample(
        short,
        respaced_predictor(network, times),
        X_T,
        noise=lambda i: z[times[i - 1]],
        sigma2=reverse_variance(short, "posterior"),
        target=target,
        trajectory=True,
    )
    # One noise passes through sines: what a step rounds, the next may magnify by 1 + 1 / sqrt(alpha).
    growth = np.cumprod(2.0 / np.sqrt(short.alpha[::-1]))[::-1]
    assert_within(got, expected, 64 * EPS * growth[:, None, None] * np.max(np.abs(expected)))


def test_ddim_with_all_its_noise_and_an_exact_denoiser_is_ancestral_to_1e_12():
    s = cosine_schedule(1000)
    times = uniform_times(1000, 50)
    z = rng.standard_normal((1001, 40, 1))

    def predict(x_t, t):
        return LAW.bayes_eps(s, x_t, t)

    short = respaced_schedule(s, times)
    got = ddim_sample(s, predict, z[0], eta=1.0, noise=lambda t: z[t], times=times)
    expected = ancestral_sample(
        short,
        respaced_predictor(predict, times),
        z[0],
        noise=lambda i: z[times[i - 1]],
        sigma2=reverse_variance(short, "posterior"),
    )
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


@given(schedules(max_T=30), st.floats(0.0, 1.0), st.integers(0, 99))
def test_ddim_keeps_the_marginals(s, eta, seed):
    """Given x_0, the noise in x_s has variance 1 - alpha_bar[s] for every eta, Song et al., Lemma 1.

    The network knows the noise in each x_t, from an observation of 0; example 0 is driven by x_T alone,
    example t by the noise of step t, and the squares of what they leave in x_s add up.
    """
    visited = np.random.default_rng(seed).random(s.T) < 0.5
    times = [*(t for t in range(1, s.T) if visited[t]), s.T]
    unit = np.eye(s.T + 1)
    path = ddim_sample(
        s,
        lambda x_t, t: np.zeros_like(x_t),
        unit[0] * s.sqrt_one_minus_alpha_bar[-1],
        eta=eta,
        noise=lambda t: unit[t],
        times=times,
        target="x0",
        trajectory=True,
    )
    found = np.sum(path**2, axis=1)
    np.testing.assert_allclose(found, s.one_minus_alpha_bar[[0, *times]], rtol=64 * EPS * s.T)


@given(schedules(max_T=30), st.sampled_from(["eps", "x0", "v"]))
def test_order_1_is_ddim(s, target):
    first = dpm_solver_sample(s, network, X_T, order=1, target=target, trajectory=True)
    second = ddim_sample(s, network, X_T, target=target, trajectory=True)
    growth = np.cumprod(2.0 / np.sqrt(s.alpha[::-1]))[::-1]
    assert_within(first, second, 64 * EPS * growth[:, None, None] * np.max(np.abs(second)))


# --- against the exact flow ----------------------------------------------------------------


def exact_flow(schedule, x_T):
    """x_1 with as much probability below it as x_T has, by bisection in the smaller tail."""

    def tails(law, x):
        z = (x - law.means[:, 0]) / law.std
        return law.weights @ ndtr(z), law.weights @ ndtr(-z)

    first, last = LAW.diffused(schedule, 1), LAW.diffused(schedule, schedule.T)

    def follow(x):
        below, above = tails(last, x)
        side = int(above < below)
        return brentq(lambda y: tails(first, y)[side] / (below, above)[side] - 1.0, -9, 9, xtol=1e-13)

    return np.array([[follow(x)] for x in x_T[:, 0]])


@pytest.mark.parametrize(("name", "order"), [("ddim", 1), ("order 1", 1), ("order 2", 2), ("heun", 2)])
def test_order_of_convergence_at_t_1(name, order):
    """The median: near a watershed between two components single points converge late."""
    x_T = np.random.default_rng(3).standard_normal((200, 1))
    errors = []
    for T in (160, 320, 640):
        s = log_snr_schedule(T, 0.01)

        def predict(x_t, t, s=s):
            return LAW.bayes_eps(s, x_t, t)

        path = SAMPLERS[name](s, predict, x_T, trajectory=True)
        errors.append(np.median(np.abs(path[1] - exact_flow(s, x_T))))
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    print(f"{name}: errors {errors[0]:.2e}, {errors[1]:.2e}, {errors[2]:.2e}; orders {orders.round(3)}")
    assert np.all(np.abs(orders - order) < 0.1)


@pytest.mark.parametrize("target", ["eps", "x0", "v"])
def test_targets_say_the_same(target):
    """With an exact denoiser, whatever it is asked for, to rounding."""
    s = linear_schedule(100, 1e-3, 0.1)

    def predict(x_t, t):
        eps = LAW.bayes_eps(s, x_t, t)
        return training_target(s, LAW.posterior_x0(s, x_t, t), t, eps, target)

    x_T = rng.standard_normal((20, 1))
    for name, sample in SAMPLERS.items():
        if name == "ddim, eta":
            continue
        got, expected = (sample(s, f, x_T, target=k) for f, k in ((predict, target), (
            lambda x_t, t: LAW.bayes_eps(s, x_t, t), "eps")))  # fmt: skip
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", SAMPLERS)
def test_guided_and_clipped_predictions_end_in_the_range(name):
    """What is done to a prediction is the sampler's x_0, whatever the network predicts."""
    s, x_T = linear_schedule(100, 1e-3, 0.1), rng.standard_normal((30, 1))
    noise = np.random.default_rng(2).standard_normal((101, 30, 1))

    def predict(x_t, t):
        return LAW.bayes_eps(s, x_t, t)

    wrapped = clipped(s, guided(predict, lambda x_t, t: 1.02 * predict(x_t, t), 0.5), "eps", -0.4, 0.4)

    def by_hand(x_t, t):
        x0 = (x_t - s.sqrt_one_minus_alpha_bar[t] * 0.99 * predict(x_t, t)) / s.sqrt_alpha_bar[t]
        return np.clip(x0, -0.4, 0.4)

    def sample(f):
        times = [2, 10, 40, 100]
        if name == "ddim, eta":
            return ddim_sample(s, f, x_T, eta=0.7, noise=lambda t: noise[t], times=times, target="x0")
        return SAMPLERS[name](s, f, x_T, times=times, target="x0")

    found = sample(wrapped)
    np.testing.assert_allclose(found, sample(by_hand), rtol=0, atol=1e-12)
    assert 0.39 < np.max(np.abs(found)) <= 0.4 + 1e-14


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_backends_network_is_sampled_in_float32(name, backend):
    """As with the array-generic operations in float64, to float32's rounding."""
    if backend == "numba":
        pytest.importorskip("numba")
    recipe = Recipe(MILD, MLPDenoiser(2, MILD.T, 16, 2, 8), Adam(constant_rate(1e-3)))
    params = 0.3 * np.random.default_rng(4).standard_normal(recipe.layout.size)
    x_T, z = np.tile(X_T, (100, 1)), np.tile(NOISE, (1, 100, 1))

    def sample(ops, dtype):
        more = {"eta": 0.7, "noise": lambda t: z[t].astype(dtype)} if name == "ddim, eta" else {}
        walk = ddim_sample if more else SAMPLERS[name]
        return walk(MILD, predictor(recipe, params.astype(dtype), ops), x_T.astype(dtype), **more)

    found, expected = sample(get_backend(backend).ops, "float32"), sample(Ops(), "float64")
    assert found.dtype == np.float32
    # Ten steps, each through a network of a few dozen roundings.
    assert_within(found, expected, 2000 * eps_of("float32") * np.max(np.abs(expected)))


# --- what is asked, and what is returned ---------------------------------------------------


@pytest.mark.parametrize("name", SAMPLERS)
def test_network_and_noise_are_asked_at_the_visited_times(name):
    seen, drawn = [], []

    def predict(x_t, t):
        assert type(t) is int
        seen.append(t)
        return network(x_t, t)

    def noise(t):
        drawn.append(t)
        return NOISE[t]

    more = {"eta": 0.3, "noise": noise} if name == "ddim, eta" else {}
    (ddim_sample if more else SAMPLERS[name])(MILD, predict, X_T, times=TIMES, **more)
    asked = {"heun": [10, 8, 8, 4, 4, 3, 3, 1, 1]}
    assert seen == asked.get(name, [10, 8, 4, 3, 1])
    assert drawn == ([10, 8, 4, 3] if more else [])


def test_without_eta_noise_is_not_asked_for():
    def noise(t):
        raise AssertionError

    np.testing.assert_array_equal(
        ddim_sample(MILD, network, X_T, noise=noise), ddim_sample(MILD, network, X_T)
    )


@pytest.mark.parametrize("times", [None, TIMES, [10], np.array(TIMES, np.uint8)])
@pytest.mark.parametrize("name", SAMPLERS)
def test_trajectory_ends_in_the_sample_and_starts_from_x_T(name, times):
    sample = SAMPLERS[name](MILD, network, X_T, times=times)
    path = SAMPLERS[name](MILD, network, X_T, times=times, trajectory=True)
    assert path.shape == ((MILD.T if times is None else len(times)) + 1, *X_T.shape)
    np.testing.assert_array_equal(path[0], sample)
    np.testing.assert_array_equal(path[-1], X_T)


@pytest.mark.parametrize("trajectory", [False, True])
@pytest.mark.parametrize("name", SAMPLERS)
def test_on_every_library(lib, dtype, name, trajectory):
    x_T = X_T.astype(dtype)
    more = {"times": TIMES, "trajectory": trajectory}

    def run(xp, x, convert):
        if name == "ddim, eta":
            more.update(eta=0.7, noise=lambda t: convert(NOISE[t].astype(dtype)))
            return ddim_sample(MILD, lambda x_t, t: xp.tanh(x_t) / t, x, **more)
        return SAMPLERS[name](MILD, lambda x_t, t: xp.tanh(x_t) / t, x, **more)

    result = run(lib.xp, lib.array(x_T, dtype), lambda z: lib.array(z, dtype))
    assert str(result.dtype).endswith(dtype)
    expected = run(np, x_T.astype(np.float64), lambda z: z.astype(np.float64))
    assert_within(lib.host(result), expected, 400 * eps_of(dtype) * np.max(np.abs(expected)))


@pytest.mark.parametrize("first", [1, 4, 10])
@pytest.mark.parametrize("name", SAMPLERS)
def test_the_time_from_which_nothing_is_finite_is_named(name, first):
    def predict(x_t, t):
        return np.full_like(x_t, np.nan if t == first else 0.0)

    # Heun's method asks for the next time before it is there.
    at = min([t for t in TIMES if t > first], default=first) if name == "heun" else first
    with pytest.raises(
        FloatingPointError, match=rf"sampling diverged at t = {at}: .* is not; a network"
    ):
        SAMPLERS[name](MILD, predict, X_T, times=TIMES)


# --- and back again ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "choose", [uniform_times, lambda T, S: log_snr_times(log_snr_schedule(T, 0.01), S)]
)
@pytest.mark.parametrize("S", [5, 20, 160])
def test_inversion_finds_what_ddim_started_from(choose, S):
    s, x_T = log_snr_schedule(160, 0.01), np.linspace(-3, 3, 31)[:, None]
    times = choose(160, S)

    def predict(x_t, t):
        return LAW.bayes_eps(s, x_t, t)

    path = ddim_sample(s, predict, x_T, times=times, trajectory=True)
    back = ddim_invert(s, predict, path[0], times=times, trajectory=True)
    # What x_T moves x_0 by may be little: near a mode, or far out.
    np.testing.assert_allclose(ddim_sample(s, predict, back[-1], times=times), path[0], atol=1e-13)
    np.testing.assert_allclose(back, path, rtol=0, atol=1e-11)


@pytest.mark.parametrize("target", ["eps", "x0", "v"])
def test_inversion_on_every_library(lib, dtype, target):
    def predict(x_t, t):
        return 0.3 * lib.xp.tanh(x_t) + (0.5 * x_t if target == "x0" else 0.0)

    x_0 = lib.array(X_T, dtype)
    x_T = ddim_invert(MILD, predict, x_0, times=TIMES, target=target)
    assert str(x_T.dtype).endswith(dtype)
    found = ddim_sample(MILD, predict, x_T, times=TIMES, target=target)
    assert_within(lib.host(found), X_T.astype(dtype), 400 * eps_of(dtype) * np.max(np.abs(X_T)))


def test_inversion_that_does_not_settle_says_where():
    def jumps(x_t, t):
        return x_t + 50.0 * np.cos(9e5 * x_t) * (t == 8)

    with pytest.raises(FloatingPointError, match=r"does not settle from t = 4 to 8: .*; visit more"):
        ddim_invert(MILD, jumps, X_T, times=TIMES)
    with pytest.raises(FloatingPointError, match="does not settle from t = 0 to 1"):
        ddim_invert(MILD, lambda x_t, t: np.nan * x_t, X_T, times=TIMES)
    # x_0 beyond all that the network predicts: the iterates run away, and little changes any more.
    with pytest.raises(FloatingPointError, match="does not settle from t = 0 to 1"):
        ddim_invert(MILD, lambda x_t, t: 0.3 * np.tanh(x_t), X_T, target="x0")


# --- bad input -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sample", "more", "error", "message"),
    [
        (ddim_sample, {"eta": 1.5, "noise": draw}, ValueError, "eta must lie in [0, 1], got 1.5"),
        (ddim_sample, {"eta": -0.1, "noise": draw}, ValueError, "eta must lie in [0, 1], got -0.1"),
        (ddim_sample, {"eta": "1"}, TypeError, "eta must be a number in [0, 1], got str '1'"),
        (ddim_sample, {"eta": 0.5}, TypeError, "noise must be callable, got NoneType"),
        (ddim_sample, {"noise": NOISE}, TypeError, "noise must be callable, got numpy array"),
        (
            ddim_sample,
            {"eta": 0.5, "noise": lambda t: NOISE[t, :2]},
            ValueError,
            "noise must have the shape of x_T",
        ),
        (dpm_solver_sample, {"order": 3}, ValueError, "order must be between 1 and 2, got 3"),
        (dpm_solver_sample, {"order": 0}, ValueError, "order must be between 1 and 2, got 0"),
    ],
)
def test_bad_arguments(sample, more, error, message):
    with pytest.raises(error, match=re.escape(message)):
        sample(MILD, network, X_T, **more)


def test_the_flow_starts_where_alpha_bar_is_not_0():
    s = schedule_from_beta([0.9] * 400)
    for walk in (heun_sample, ddim_invert):
        with pytest.raises(ValueError, match=r"schedule must have alpha_bar\[T\] above 1e-300"):
            walk(s, network, X_T)
    with pytest.raises(ValueError, match="x_0 must be finite"):
        ddim_invert(MILD, network, X_T * np.nan)


@pytest.mark.parametrize("sample", [*SAMPLERS.values(), ddim_invert])
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"times": [1, 4, 3, 10]}, ValueError, "times must increase, got 4 before 3"),
        ({"times": [1, 4, 9]}, ValueError, "the last of times must be T = 10, got 9"),
        ({"times": "all"}, TypeError, "times must hold real numbers, got str 'all'"),
        ({"target": "noise"}, ValueError, "target must be one of 'eps', 'x0', 'mean', 'v', got 'noise'"),
        ({"predict": 3}, TypeError, "predict must be callable, got int 3"),
        ({"predict": lambda x_t, t: x_t[:1]}, ValueError, "prediction must have the shape of x_t"),
        (
            {"predict": made_for(5, lambda x_t, t: x_t)},
            ValueError,
            "a network needs the schedule it was trained with, or respaced_predictor(predict, times)",
        ),
        ({"x": X_T.astype(int)}, TypeError, "must have a real floating dtype, got int64"),
        ({"x": [1.0]}, TypeError, "must be an array, got list [1.0]"),
        ({"schedule": [0.1]}, TypeError, "schedule must be a ddpm_np.Schedule"),
    ],
)
def test_bad_arguments_of_all(sample, change, error, message):
    given_ = {"schedule": MILD, "predict": network, "x": X_T, **change}
    rest = {name: value for name, value in given_.items() if name in ("times", "target")}
    with pytest.raises(error, match=re.escape(message)):
        sample(given_["schedule"], given_["predict"], given_["x"], **rest)


# --- respaced predictors -------------------------------------------------------------------


def test_a_respaced_predictor_asks_at_the_long_chains_times():
    seen = []

    def predict(x_t, t):
        seen.append(t)
        return x_t

    short = respaced_predictor(predict, TIMES)
    short(X_T, 2)
    assert seen == [3]
    assert type(seen[0]) is int
    short(X_T, np.array([1, 5, 4]))
    np.testing.assert_array_equal(seen[1], [1, 10, 8])
    with pytest.raises(ValueError, match="t must be between 1 and 5, got 6"):
        short(X_T, 6)
    with pytest.raises(ValueError, match="t must be between 1 and 5, got 0"):
        short(X_T, 0)


def test_a_respaced_predictor_knows_its_chains():
    made = made_for(10, network)
    assert respaced_predictor(made, TIMES).T == 5
    with pytest.raises(ValueError, match="the last of times must be T = 10, got 8"):
        respaced_predictor(made, [1, 8])
    with pytest.raises(ValueError, match="predict was made for T = 5, and the schedule has T = 10"):
        ddim_sample(MILD, respaced_predictor(made, TIMES), X_T)
    with pytest.raises(TypeError, match="predict must be callable"):
        respaced_predictor(None, TIMES)


def test_the_bound_of_a_respaced_chain_is_an_ordinary_bound():
    """Visiting all times gives the same bound, fewer a lower one, with the exact denoiser."""
    s, x0 = linear_schedule(100, 1e-3, 0.1), LAW.sample(4000, 0)
    z = np.random.default_rng(1).standard_normal((101, 4000, 1))

    def bound(times):
        short = respaced_schedule(s, times)
        predict = respaced_predictor(lambda x_t, t: LAW.bayes_eps(s, x_t, t), times)
        sigma2 = reverse_variance(short, "beta")
        found = ddpm_np.elbo_decomposition(
            short, predict, x0, noise=lambda i: z[times[i - 1]], sigma2=sigma2
        )
        return found.total.mean()

    every = [*range(1, 101)]
    whole = ddpm_np.elbo_decomposition(
        s,
        lambda x_t, t: LAW.bayes_eps(s, x_t, t),
        x0,
        noise=lambda t: z[t],
        sigma2=reverse_variance(s, "beta"),
    )
    assert bound(every) == pytest.approx(whole.total.mean(), rel=1e-12)
    assert bound(uniform_times(100, 10)) < bound(uniform_times(100, 30)) < bound(every)


def test_samplers_are_exported():
    for name in ("ddim_sample", "dpm_solver_sample", "heun_sample", "ddim_invert", "respaced_predictor"):
        assert name in ddpm_np.__all__
        assert callable(getattr(ddpm_np, name))
