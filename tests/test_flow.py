"""The flow's likelihood against log-densities that are known, and divergences against exact traces."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ddpm_np as ddpm
from backends import get_backend
from ddpm_np.elbo import elbo_decomposition
from ddpm_np.estimators import optimal_variance
from ddpm_np.exact import IsotropicMixture, eight_gaussians_exact, mixture_1d_exact
from ddpm_np.flow import exact_divergence, flow_log_likelihood, hutchinson
from ddpm_np.gaussians import normal_log_density
from ddpm_np.nn import Adam, ConvDenoiser, MLPDenoiser, Ops, UNet, constant_rate
from ddpm_np.reverse import prior_log_density
from ddpm_np.runs.evaluation import predictor
from ddpm_np.schedules import (
    linear_schedule,
    log_snr_schedule,
    schedule_from_beta,
)
from ddpm_np.training import Recipe
from tests.strategies import DTYPES, EPS, MILD, TARGETS, assert_within, eps_of, schedules

RNG = np.random.default_rng(0)
X0 = RNG.standard_normal((3, 2))
LAWS = {
    "Gaussian, 1-D": IsotropicMixture(np.ones(1), np.array([[0.4]]), 0.5),
    "Gaussian, 2-D": IsotropicMixture(np.ones(1), np.array([[0.3, -0.5]]), 0.5),
    "mixture, 1-D": mixture_1d_exact(),
    "mixture, 2-D": eight_gaussians_exact(),
}


def bayes(schedule, law):
    return lambda x_t, t: law.bayes_eps(schedule, x_t, t)


def exact_flow(law, x0, steps, **options):
    """With the exact denoiser and the exact law of x_T, on an even grid of log-SNR."""
    schedule = log_snr_schedule(steps + 1, 1e-4)  # the first step, to x_1, is no part of the grid
    prior = law.diffused(schedule, schedule.T).log_density
    return flow_log_likelihood(schedule, bayes(schedule, law), x0, prior=prior, **options)


# --- what is known of it ------------------------------------------------------------------


@pytest.mark.parametrize("name", LAWS)
def test_exact_to_second_order_and_extrapolated_to_1e_6(name):
    """The error is a h^2 + b h^3 + c h^4 + ...; Richardson's extrapolation takes three terms off."""
    law = LAWS[name]
    x0 = law.sample(24, 0)
    truth = law.log_density(x0)
    steps = [80, 160, 320, 640]
    values = [exact_flow(law, x0, n) for n in steps]
    errors = [np.median(np.abs(value - truth)) for value in values]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    print(f"{name}: median errors {errors} nats at {steps} steps, orders {orders}")
    assert np.all(np.abs(orders - 2.0) < 0.05)
    for order in (2, 3, 4):
        pairs = itertools.pairwise(values)
        values = [fine + (fine - coarse) / (2**order - 1) for coarse, fine in pairs]
    print(f"{name}: extrapolated, off by at most {np.max(np.abs(values[0] - truth)):.1e} nats")
    assert np.max(np.abs(values[0] - truth)) < 1e-6


def test_the_bound_is_below_the_flow_which_is_exact_in_the_mean():
    """ELBO <= ELBO of the best variance <= flow = log p, each by 4 standard errors of the difference."""
    law, schedule, rng = LAWS["mixture, 1-D"], ddpm.scaled_linear_schedule(25), np.random.default_rng(1)
    x0 = law.sample(40_000, rng)
    noise = rng.standard_normal((schedule.T + 1, *x0.shape))
    predict = bayes(schedule, law)
    best = optimal_variance(schedule, predict, x0, noise=noise)
    bounds = [
        elbo_decomposition(schedule, predict, x0, noise=noise, sigma2=sigma2).total
        for sigma2 in (schedule.beta, best)
    ]
    values = [*bounds, law.log_density(x0)]
    some = x0[:400]
    coarse, fine = (exact_flow(law, some, n) for n in (160, 320))
    flow = fine + (fine - coarse) / 3.0  # what is left is of third order
    assert_within(flow, values[-1][:400], 2e-4)
    means = [float(np.mean(value)) for value in values]
    print(f"ELBO, of the best variance, log p: {means}; flow - log p {np.mean(flow - values[-1][:400])}")
    for lower, higher in itertools.pairwise(values):
        difference = higher - lower
        assert np.mean(difference) > 4.0 * np.std(difference) / math.sqrt(len(x0))


def recursion(schedule, slopes, x0, times):
    """The method written out for eps = slopes[t] x_t on numbers; (x_T, integral per dimension)."""
    y, integral, before = x0, 0.0, 0
    for t in times:
        s = [math.sqrt((1.0 - schedule.alpha_bar[u]) / schedule.alpha_bar[u]) for u in (before, t)]
        root = [math.sqrt(schedule.alpha_bar[u]) for u in (before, t)]
        h, c = s[1] - s[0], (0.0 if before == 0 else slopes[before], slopes[t])
        k_1 = c[0] * root[0] * y
        k_2 = c[1] * root[1] * (y + h * k_1)
        y = y + h * (k_1 + k_2) / 2.0
        integral += h * (root[0] * c[0] + root[1] * c[1]) / 2.0
        before = t
    return math.sqrt(schedule.alpha_bar[schedule.T]) * y, integral


def as_target(schedule, eps, x_t, t, target):
    """What a network of this target predicts where the noise is eps."""
    x0 = ddpm.x0_from_eps(schedule, x_t, t, eps)
    if target == "mean":
        return ddpm.posterior_mean_from_eps(schedule, x_t, t, eps)
    return {"eps": eps, "x0": x0, "v": ddpm.v_from_x0_and_eps(schedule, t, x0, eps)}[target]


@given(schedule=schedules(min_T=3, max_T=20), some=st.booleans(), seed=st.integers(0, 99))
def test_linear_networks_step_by_step(schedule, some, seed):
    slopes, T = np.random.default_rng(seed).uniform(-0.5, 1.0, schedule.T + 1), schedule.T
    times = [2, T] if some else None
    asked, divided = [], []

    def predict(x_t, t):
        asked.append(t)
        return slopes[t] * x_t

    def divergence(x_t, t):
        divided.append(t)
        return np.full(3, 2 * slopes[t])

    found = flow_log_likelihood(schedule, predict, X0, times=times, divergence=divergence)
    visits = times or [*range(1, T + 1)]
    assert asked == [t for t in visits for _ in range(2)][:-1]
    assert divided == visits
    assert {type(t) for t in asked + divided} == {int}
    x_T, integral = recursion(schedule, slopes, X0, visits)
    shift = math.log(schedule.alpha_bar[T])  # d = 2
    expected = normal_log_density(x_T, np.zeros_like(x_T), 1.0) + shift + 2 * integral
    size = 1.0 + np.sum(x_T**2, axis=1) + abs(shift) + 2 * abs(integral)
    # s is worst where alpha_bar is near 1: here from 1 - alpha_bar >= 1e-5, in float64.
    assert_within(found, expected, 1e-10 * T * size)


@pytest.mark.parametrize("by_vjp", [False, True])
@pytest.mark.parametrize("target", TARGETS)
def test_every_target_says_the_same(target, by_vjp):
    """The divergence of the noise follows from that of the prediction."""

    def eps(x_t, t):
        return np.sin(x_t + t) + 0.3 * x_t[:, ::-1]

    def predict(x_t, t):
        return as_target(MILD, eps(x_t, t), x_t, t, target)

    def vjp(x_t, t):
        """The prediction is a x_t + b eps; eps has a Jacobian of diag(cos) + 0.3 swap."""
        one, zero = np.ones_like(x_t), np.zeros_like(x_t)
        a, b = as_target(MILD, zero, one, t, target), as_target(MILD, one, zero, t, target)
        return predict(x_t, t), lambda v: a * v + b * (v * np.cos(x_t + t) + 0.3 * v[:, ::-1])

    if by_vjp:
        predict.vjp = vjp
    trace = flow_log_likelihood(MILD, eps, X0, divergence=lambda x_t, t: np.sum(np.cos(x_t + t), axis=1))
    # Differences are good to EPS^(2/3), and the conversions lose a factor 1 / beta_1 = 20 at most.
    bound = 20 * MILD.T * (EPS if by_vjp else EPS ** (2 / 3)) * (1.0 + np.abs(trace))
    assert_within(flow_log_likelihood(MILD, predict, X0, target=target), trace, bound)
    signs = np.array([[1.0, -1.0], [1.0, 1.0], [-1.0, -1.0]])
    crossed = hutchinson(MILD, predict, signs, target)(X0, 3)
    expected = np.sum(np.cos(X0 + 3), axis=1) + 0.6 * signs[:, 0] * signs[:, 1]
    assert_within(crossed, expected, bound)


def test_the_prior_is_asked_once_for_x_T():
    seen = []

    def prior(x_T):
        seen.append(x_T)
        return prior_log_density(x_T)

    def flow(**options):
        return flow_log_likelihood(MILD, lambda x_t, t: 0.5 * x_t, X0, **options)

    np.testing.assert_array_equal(flow(prior=prior), flow())
    (x_T,) = seen
    shifted = flow(prior=lambda x: prior_log_density(x) + 1.5)
    np.testing.assert_allclose(shifted, flow() + 1.5, rtol=1e-14)
    expected, _ = recursion(MILD, np.full(MILD.T + 1, 0.5), X0, range(1, MILD.T + 1))
    np.testing.assert_allclose(x_T, expected, rtol=1e-13)


# --- divergences --------------------------------------------------------------------------

T = 12
CHAIN = linear_schedule(T, 0.05, 0.3)
NETWORKS = {
    "MLP": (MLPDenoiser(3, T, 16, 2, 8), (3,)),
    "ConvDenoiser": (ConvDenoiser(1, T, 8, 1, 4, 8, classes=2), (2, 3, 1)),
    "UNet": (UNet(2, T, 8, 1, 2, 8, multipliers=(1, 2), heads=2), (2, 2, 2)),
}


def network(name, dtype="float64", ops=None, batch=4, scale=0.3):
    """With random parameters, as trained ones are: some start at 0. And an x_t."""
    denoiser, shape = NETWORKS[name]
    recipe = Recipe(CHAIN, denoiser, Adam(constant_rate(1e-3)))
    rng = np.random.default_rng(2)
    params = (scale * rng.standard_normal(recipe.layout.size)).astype(dtype)
    labels = np.arange(batch) % 3 if name == "ConvDenoiser" else None
    predict = predictor(recipe, params, ops or Ops(), labels)
    return predict, rng.standard_normal((batch, *shape)).astype(dtype)


def jacobians(predict, x_t, t):
    """By complex steps, shape (B, d, d): entry [b, i, j] is d prediction_i / d x_j."""
    B, d = len(x_t), x_t[0].size
    columns = []
    for j in range(d):
        moved = x_t.astype(np.complex128)
        moved.reshape(B, d)[:, j] += 1e-30j
        columns.append(predict(moved, t).imag.reshape(B, d) / 1e-30)
    return np.stack(columns, axis=2)


@pytest.mark.parametrize("name", NETWORKS)
def test_divergence_of_a_network_is_the_trace_of_its_jacobian(name):
    predict, x_t = network(name)
    jacobian = jacobians(predict, x_t, 5)
    trace, size = np.trace(jacobian, axis1=1, axis2=2), np.sum(np.abs(jacobian), axis=(1, 2))
    found = exact_divergence(CHAIN, predict)(x_t, 5)
    assert_within(found, trace, 100 * EPS * size)
    differences = exact_divergence(CHAIN, lambda x, t: predict(x, t))(x_t, 5)
    assert np.any(differences != found)
    # Both errors of central differences are of order EPS^(2/3), about 4e-11, times derivatives.
    assert_within(differences, trace, 100 * EPS ** (2 / 3) * (1.0 + size))


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("name", NETWORKS)
def test_backends_in_float32_agree_in_parts_of_the_batch(name, backend):
    if backend == "numba":
        pytest.importorskip("numba")
    predict, x_t = network(name, "float32", get_backend(backend).ops, batch=300)
    generic, _ = network(name, batch=300)
    x_64 = x_t.astype(np.float64)
    found, truth = (exact_divergence(CHAIN, p)(x, 5) for p, x in ((predict, x_t), (generic, x_64)))
    assert found.dtype == np.float32
    assert_within(found, truth, 1000 * eps_of("float32") * (1.0 + np.max(np.abs(truth))))
    prediction, _ = predict.vjp(x_t, 5)
    np.testing.assert_array_equal(prediction, predict(x_t, 5))


def test_hutchinson_over_all_signs():
    """Of 2^d probes the mean is the trace, and the variance that of the theory, exactly.

    variance = 2 * sum over i != j of S_ij^2,  S = (J + J') / 2
    """
    predict, x_t = network("MLP")
    probes = np.array([*itertools.product([-1.0, 1.0], repeat=3)])
    found = np.stack(
        [
            hutchinson(CHAIN, predict, np.broadcast_to(probe, x_t.shape).copy())(x_t, 5)
            for probe in probes
        ]
    )
    jacobian = jacobians(predict, x_t, 5)
    symmetric = (jacobian + np.swapaxes(jacobian, 1, 2)) / 2.0
    off = symmetric * (1.0 - np.eye(3))
    np.testing.assert_allclose(found.mean(axis=0), np.trace(jacobian, axis1=1, axis2=2), rtol=1e-12)
    np.testing.assert_allclose(found.var(axis=0), 2.0 * np.sum(off**2, axis=(1, 2)), rtol=1e-12)
    assert np.min(found.std(axis=0)) > 0.01


def test_hutchinsons_likelihood_is_unbiased_over_200_seeds_and_its_standard_error_right():
    predict, x = network("MLP", batch=1, scale=0.2)
    seeds, probes = 200, 8
    x0 = np.repeat(x, seeds * probes, axis=0)
    draws = [np.random.default_rng(seed).integers(0, 2, (probes, 3)) for seed in range(seeds)]
    signs = 2.0 * np.concatenate(draws) - 1.0
    found = flow_log_likelihood(CHAIN, predict, x0, divergence=hutchinson(CHAIN, predict, signs))
    found = found.reshape(seeds, probes)
    means, errors = found.mean(axis=1), found.std(axis=1, ddof=1) / math.sqrt(probes)
    (truth,) = flow_log_likelihood(CHAIN, predict, x)
    spread = means.std(ddof=1)
    print(f"bias {means.mean() - truth:+.1e} +- {spread / math.sqrt(seeds):.1e}, spread {spread:.2e}")
    assert abs(means.mean() - truth) < 4.0 * spread / math.sqrt(seeds)
    # A variance of 200 draws has a relative standard error of sqrt(2 / 199).
    assert np.mean(errors**2) == pytest.approx(spread**2, rel=4.0 * math.sqrt(2.0 / (seeds - 1)))


# --- libraries, and what is refused -------------------------------------------------------


@pytest.mark.parametrize("way", ["differences", "vjp", "signs"])
def test_on_every_library(lib, dtype, way):
    x0 = np.stack([X0, -X0, X0**2]).astype(dtype)  # shape (3, 3, 2): d = 6
    signs = np.sign(x0)

    def run(xp, x, signs):
        def predict(x_t, t):
            return xp.tanh(x_t) / t

        def vjp(x_t, t):
            return predict(x_t, t), lambda v: v * (1.0 - xp.tanh(x_t) ** 2) / t

        if way == "vjp":
            predict.vjp = vjp
        divergence = hutchinson(MILD, predict, signs) if way == "signs" else None
        return flow_log_likelihood(MILD, predict, x, divergence=divergence)

    result = run(lib.xp, lib.array(x0, dtype), lib.array(signs, dtype))
    assert str(result.dtype).endswith(dtype)
    assert result.shape == (3,)
    expected = run(np, x0.astype(np.float64), signs.astype(np.float64))
    # Ten steps of a dozen roundings; differences are good to two thirds of the digits.
    eps = eps_of(dtype)
    bound = 400 * eps if way == "vjp" else 10 * eps ** (2 / 3)
    assert_within(lib.host(result), expected, bound * (6.0 + np.abs(expected)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_are_examples_too(dtype):
    """Shape (B,) is d = 1: the same as (B, 1)."""
    x0 = X0[:, 0].astype(dtype)
    flat = flow_log_likelihood(MILD, lambda x_t, t: np.sin(x_t), x0)
    np.testing.assert_array_equal(
        flat, flow_log_likelihood(MILD, lambda x_t, t: np.sin(x_t), x0[:, None])
    )


@pytest.mark.parametrize("place", ["predict", "divergence"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("first", [1, 4, MILD.T])
def test_the_time_from_which_nothing_is_finite_is_named(lib, dtype, first, value, place):
    def bad(name, t, shape):
        values = np.zeros(shape)
        values[1] = value if (name, t) == (place, first) else 0.0
        return lib.array(values, dtype)

    with pytest.raises(FloatingPointError, match=rf"not finite from t = {first} on"):
        flow_log_likelihood(
            MILD,
            lambda x_t, t: bad("predict", t, X0.shape),
            lib.array(X0, dtype),
            divergence=lambda x_t, t: bad("divergence", t, 3),
        )


def test_a_prior_that_is_not_finite_is_named_too():
    with pytest.raises(FloatingPointError, match=f"not finite from t = {MILD.T} on"):
        flow_log_likelihood(MILD, lambda x_t, t: x_t, X0, prior=lambda x_T: np.full(3, -np.inf))


def likelihood(schedule=MILD, predict=lambda x_t, t: x_t, x0=X0, **options):
    return flow_log_likelihood(schedule, predict, x0, **options)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: likelihood(times=[3, 2, MILD.T]), ValueError, "times must increase"),
        (lambda: likelihood(times=[1, 2]), ValueError, "last of times must be T = 10"),
        (lambda: likelihood(times=[0, MILD.T]), ValueError, "times must be 1 or more"),
        (lambda: likelihood(target="score"), ValueError, "target must be one of"),
        (lambda: likelihood(prior=1.0), TypeError, "prior must be callable"),
        (lambda: likelihood(divergence=1.0), TypeError, "divergence must be callable"),
        (lambda: likelihood(x0=X0 + np.inf), ValueError, "x0 must be finite"),
        (
            lambda: likelihood(divergence=lambda x_t, t: x_t),
            ValueError,
            r"divergence must return shape \(B,\) = \(3,\), one number per example, of dtype float64",
        ),
        (
            lambda: likelihood(prior=lambda x: 0.0),
            ValueError,
            r"prior must return shape \(B,\) = \(3,\)",
        ),
        (
            lambda: likelihood(prior=lambda x: np.zeros(3, np.float32)),
            ValueError,
            "prior must return .* of dtype float64, got numpy array of shape .*float32",
        ),
        (lambda: likelihood(predict=network("MLP")[0]), ValueError, "predict was made for T = 12"),
        (
            lambda: likelihood(schedule_from_beta([0.5, *[1.0 - 1e-15] * 30])),
            ValueError,
            r"schedule must have alpha_bar\[T\] above 1e-300: .* infinitely far",
        ),
        (
            lambda: likelihood(schedule_from_beta([1.0 - 1e-15] * 6), x0=X0.astype("float32")),
            ValueError,
            "a coefficient at t is 1e.45, which float32 cannot hold",
        ),
        (lambda: hutchinson(MILD, lambda x_t, t: x_t, X0), ValueError, "signs must all be -1 or 1"),
        (
            lambda: hutchinson(MILD, lambda x_t, t: x_t, np.ones((2, 2)))(X0, 1),
            ValueError,
            "signs must have the shape of x_t",
        ),
    ],
)
def test_bad_arguments_are_one_sentence(call, error, message):
    with pytest.raises(error, match=message):
        call()
