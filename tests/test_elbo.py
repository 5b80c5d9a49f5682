"""The bound, term by term, against quadrature, joint Gaussians, and models solved by hand."""

import functools
import math
import sys
import warnings
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from ddpm_np.elbo import (
    PRIOR_LIMIT,
    Elbo,
    PriorWarning,
    bits_per_dim,
    elbo_decomposition,
    middle_term,
    prior_term,
    warn_of_prior,
)
from ddpm_np.forward import q_sample
from ddpm_np.gaussians import kl_full
from ddpm_np.posterior import q_posterior
from ddpm_np.reverse import model_mean, reverse_variance
from ddpm_np.schedules import linear_schedule, schedule_from_beta
from ddpm_np.targets import training_target
from tests.strategies import (
    EPS,
    KINDS,
    MILD,
    TARGETS,
    assert_within,
    eps_of,
    exact_eps,
    optimal_variance,
    schedules,
    shapes,
    slope,
    values,
)

quiet = pytest.mark.filterwarnings("ignore::ddpm_np.PriorWarning")
ENTROPY = 0.5 * math.log(2.0 * math.pi * math.e * 0.25)


def log_normal(x, mean, variance):
    """Per example, by SciPy."""
    return stats.norm.logpdf(x, mean, np.sqrt(variance)).reshape(len(x), -1).sum(axis=1)


# --- L_T


@given(schedules(), shapes().flatmap(values))
def test_prior_term_is_the_formula(schedule, x0):
    """-KL of 1-D Gaussians, coordinate by coordinate."""
    ab, om = schedule.alpha_bar[-1], schedule.one_minus_alpha_bar[-1]
    each = 0.5 * (om + ab * x0**2 - 1.0 - math.log(om))
    size = (1.0 + x0**2 + abs(math.log(om))).reshape(len(x0), -1).sum(axis=1)
    assert_within(prior_term(schedule, x0), -each.reshape(len(x0), -1).sum(axis=1), 16 * EPS * size)


@pytest.mark.parametrize("x0", [-2.0, 0.0, 0.7])
def test_prior_term_by_quadrature(x0):
    """(36), by quadrature."""
    mean = math.sqrt(MILD.alpha_bar[-1]) * x0
    sigma = math.sqrt(MILD.one_minus_alpha_bar[-1])
    q, p = stats.norm(mean, sigma), stats.norm()
    expected, _ = integrate.quad(
        lambda x: q.pdf(x) * (p.logpdf(x) - q.logpdf(x)), mean - 12 * sigma, mean + 12 * sigma
    )
    assert prior_term(MILD, np.array([x0]))[0] == pytest.approx(expected, abs=1e-10)


def test_prior_term_of_the_linear_schedule():
    """At x0 = (1, 2): (alpha_bar_T (1 + 4) + 2 (-alpha_bar_T - log(1 - alpha_bar_T))) / 2."""
    got = prior_term(linear_schedule(1000), np.array([[1.0, 2.0]]))[0]
    # With alpha_bar_T = a: -(5 a + a^2) / 2 to first orders.
    a = 4.0358298e-5
    assert got == pytest.approx(-(5.0 * a + a**2) / 2.0, rel=2e-8, abs=0.0)


def test_warning_of_a_prior_that_is_off():
    """alpha_bar_50 = 0.6 of the unscaled schedule: most of x_0 is still there."""
    x0 = 2.0 * np.random.default_rng(0).standard_normal((64, 2))
    run = functools.partial(elbo_decomposition, predict=lambda x_t, t: x_t, x0=x0, noise=lambda t: x0)
    short, long = linear_schedule(50), linear_schedule(1000)
    nats = -np.mean(prior_term(short, x0))
    assert nats > 1.0
    with pytest.warns(PriorWarning) as record:
        run(short, sigma2=reverse_variance(short, "beta"))
    text = str(record[0].message)
    rms = np.sqrt(np.mean(x0**2))
    for part in [f"{nats:.3g} nats, {nats / 2:.2g} per dimension", "no training can reduce", "T = 50"]:
        assert part in text
    for part in ["0.78 x_0", f"root mean square {rms:.3g}", "scaled_linear"]:
        assert part in text
    assert record[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(long, sigma2=reverse_variance(long, "beta"))


@pytest.mark.parametrize("side", [0.99, 1.01])
def test_the_limit_of_the_warning(side):
    """-L_T of one scalar as a function of x0 is 1/2 (alpha_bar (x0^2 - 1) - log(1 - alpha_bar))."""
    ab, om = MILD.alpha_bar[-1], MILD.one_minus_alpha_bar[-1]
    x0 = np.array([math.sqrt(1.0 + (2.0 * side * PRIOR_LIMIT + math.log(om)) / ab)])
    assert -prior_term(MILD, x0)[0] == pytest.approx(side * PRIOR_LIMIT, rel=1e-12, abs=0.0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        elbo_decomposition(
            MILD, lambda x_t, t: x_t, x0, noise=lambda t: x0, sigma2=reverse_variance(MILD, "unit")
        )
    assert [w.category for w in caught] == ([PriorWarning] if side > 1 else [])


def test_the_limit_is_per_dimension():
    """Ho et al.'s schedule on 64 x 64 x 3 pixels: 0.25 nats in all, 2e-5 per dimension."""
    schedule, x0 = linear_schedule(1000), np.ones((2, 64, 64, 3))
    L_T = prior_term(schedule, x0)
    assert -L_T[0] > 0.2
    warn_of_prior(schedule, L_T, x0)
    dimension = PRIOR_LIMIT * np.ones((3, 5, 2))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_prior(schedule, -np.full(3, 9.99 * PRIOR_LIMIT), dimension)
        assert caught == []
        warn_of_prior(schedule, -np.full(3, 10.01 * PRIOR_LIMIT), dimension)
        assert len(caught) == 1


def test_the_warning_of_the_prior_names_the_data_where_the_schedule_is_right():
    """Pixels of 0..255: no schedule that suits others brings them down to the prior."""
    schedule, x0 = linear_schedule(1000), np.random.default_rng(0).integers(0, 256, (9, 8, 8, 1)) * 1.0
    with pytest.warns(PriorWarning) as record:
        warn_of_prior(schedule, prior_term(schedule, x0), x0)
    text = str(record[0].message)
    assert f"root mean square {np.sqrt(np.mean(x0**2)):.3g}" in text
    assert "scale them to [-1, 1]" in text
    for word in ("betas", "steps", "scaled_linear"):
        assert word not in text


@pytest.mark.parametrize("rms", [0.3, 1.0, 3.0])
def test_the_schedule_is_named_where_data_of_size_1_would_be_off_too(rms):
    schedule, x0 = linear_schedule(50), np.full((2, 3), rms)
    with pytest.warns(PriorWarning, match="take more steps or larger betas"):
        warn_of_prior(schedule, prior_term(schedule, x0), x0)


# --- shapes and sums


@quiet
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", TARGETS)
@given(data=st.data())
def test_terms_and_their_sum(kind, target, data):
    """Every entry is the KL of its two Gaussians, and nothing else enters the total."""
    schedule = data.draw(schedules(max_T=12))
    shape = data.draw(shapes())
    x0 = data.draw(values(shape, 3.0))
    T, B = schedule.T, shape[0]
    rng = np.random.default_rng(0)
    noise, predictions = rng.standard_normal((2, T + 1, *shape))
    noise[0] = np.nan  # not to be used
    sigma2 = reverse_variance(schedule, kind)
    elbo = elbo_decomposition(
        schedule, lambda x_t, t: predictions[t], x0, noise=noise, sigma2=sigma2, target=target
    )
    assert isinstance(elbo, Elbo)
    assert elbo.L.shape == (T + 1, B)
    assert elbo.L_T.shape == elbo.L_0.shape == elbo.total.shape == (B,)
    np.testing.assert_array_equal(elbo.L[:2], 0.0)
    np.testing.assert_array_equal(elbo.L_T, prior_term(schedule, x0))
    total, size = elbo.L_T + elbo.L_0, np.abs(elbo.L_T) + np.abs(elbo.L_0)
    for t in range(1, T + 1):
        x_t = q_sample(schedule, x0, t, noise[t])
        mean = model_mean(schedule, x_t, t, predictions[t], target)
        if t == 1:
            L_0 = log_normal(x0, mean, sigma2[1])
            assert_within(elbo.L_0, L_0, 64 * EPS * (np.abs(L_0) + 32.0))
            continue
        tilde_mean, tilde = q_posterior(schedule, x0, x_t, t)
        r = float(tilde) / sigma2[t]
        square = ((tilde_mean - mean) ** 2).reshape(B, -1).sum(axis=1) / sigma2[t]
        expected = -0.5 * (x0[0].size * (r - 1.0 - math.log(r)) + square)
        bound = 64 * EPS * (x0[0].size * (1.0 + abs(math.log(r))) + square)
        assert_within(elbo.L[t], expected, bound)
        np.testing.assert_array_equal(elbo.L[t], middle_term(schedule, x0, x_t, t, mean, sigma2))
        total, size = total + elbo.L[t], size + np.abs(elbo.L[t])
    assert np.all(elbo.L <= 0.0)
    assert_within(elbo.total, total, EPS * (T + 4) * size)


@quiet
def test_noise_is_a_function_or_an_array():
    x0, seen = np.random.default_rng(1).standard_normal((3, 2)), []
    noise = np.random.default_rng(2).standard_normal((MILD.T + 1, 3, 2))

    def predict(x_t, t):
        assert type(t) is int
        seen.append(t)
        return np.sin(x_t)

    sigma2 = reverse_variance(MILD, "posterior")
    by_array = elbo_decomposition(MILD, predict, x0, noise=noise, sigma2=sigma2)
    by_function = elbo_decomposition(MILD, predict, x0, noise=lambda t: noise[t], sigma2=sigma2)
    for a, b in zip(by_array, by_function, strict=True):
        np.testing.assert_array_equal(a, b)
    assert seen == 2 * list(range(1, MILD.T + 1))


@quiet
def test_decoder_is_called_with_the_last_step():
    x0 = np.random.default_rng(3).standard_normal((3, 2))
    noise = np.random.default_rng(4).standard_normal((MILD.T + 1, 3, 2))
    sigma2 = reverse_variance(MILD, "posterior")
    calls = []

    def decoder(x, mean, variance):
        calls.append((x, mean, variance))
        return np.array([1.0, 2.0, 3.0])

    elbo = elbo_decomposition(
        MILD, lambda x_t, t: x_t / t, x0, noise=noise, sigma2=sigma2, decoder=decoder
    )
    [(x, mean, variance)] = calls
    x_1 = q_sample(MILD, x0, 1, noise[1])
    np.testing.assert_array_equal(x, x0)
    np.testing.assert_array_equal(mean, model_mean(MILD, x_1, 1, x_1))
    assert type(variance) is float
    assert variance == sigma2[1]
    np.testing.assert_array_equal(elbo.L_0, [1.0, 2.0, 3.0])
    expected = elbo.L_T + elbo.L.sum(axis=0) + elbo.L_0
    np.testing.assert_allclose(elbo.total, expected, rtol=16 * EPS)


@quiet
@pytest.mark.parametrize("target", TARGETS)
def test_a_perfect_prediction_costs_only_the_constant(target):
    """With sigma2 = beta_tilde the middle terms vanish."""
    x0 = np.random.default_rng(5).standard_normal((3, 2))
    noise = np.random.default_rng(6).standard_normal((MILD.T + 1, 3, 2))
    elbo = elbo_decomposition(
        MILD,
        lambda x_t, t: training_target(MILD, x0, t, noise[t], target),
        x0,
        noise=noise,
        sigma2=reverse_variance(MILD, "posterior"),
        target=target,
    )
    # A squared rounding over beta_tilde.
    assert_within(elbo.L, np.zeros((MILD.T + 1, 3)), 1e-26)


@quiet
@given(st.floats(0.05, 0.95), shapes().flatmap(lambda s: st.tuples(values(s, 3.0), values(s, 3.0))))
def test_one_step_is_the_vae(beta, pair):
    """M2 (7): E_q[log p(x_0 | x_1)] - KL(q(x_1 | x_0) || p(x_1)), written out."""
    x0, noise = pair
    schedule, sigma2 = schedule_from_beta([beta]), np.array([0.0, 0.3])
    elbo = elbo_decomposition(
        schedule,
        lambda x_1, t: np.tanh(x_1),
        x0,
        noise=np.stack([noise, noise]),
        sigma2=sigma2,
        target="mean",
    )
    code = math.sqrt(1.0 - beta) * x0 + math.sqrt(beta) * noise
    reconstruction = log_normal(x0, np.tanh(code), 0.3)
    divergence = 0.5 * (beta + (1.0 - beta) * x0**2 - 1.0 - math.log(beta))
    divergence = divergence.reshape(len(x0), -1).sum(axis=1)
    bound = 256 * EPS * (np.abs(reconstruction) + divergence + 32.0)
    assert_within(elbo.total, reconstruction - divergence, bound)
    assert elbo.L.shape == (2, len(x0))
    np.testing.assert_array_equal(elbo.L, 0.0)


def test_bits_per_dim():
    """A uniform law on 256 levels costs 8 bits, in any number of dimensions."""
    assert bits_per_dim(12 * math.log(256.0), 12) == pytest.approx(8.0, rel=1e-15, abs=0.0)
    np.testing.assert_allclose(
        bits_per_dim(np.array([1.0, 2.0]) * math.log(2.0), 1), [1.0, 2.0], rtol=1e-15
    )


# --- Gaussian data and linear models: exact answers


def expected_elbo(schedule, predict, s2, sigma2):
    """ELBO in expectation over x0 ~ N(0, s2) and the noise.

    Every term is quadratic in both, so two Gauss-Hermite nodes each, +-1, are exact.
    """
    x0 = math.sqrt(s2) * np.array([[1.0], [1.0], [-1.0], [-1.0]])
    noise = np.broadcast_to(np.array([[1.0], [-1.0], [1.0], [-1.0]]), (schedule.T + 1, 4, 1))
    elbo = elbo_decomposition(schedule, predict, x0, noise=noise, sigma2=sigma2)
    return float(np.mean(elbo.total))


@pytest.mark.parametrize(
    ("kind", "published", "digits"),
    [
        ("beta", 0.7269, 4),
        ("beta, small first", 0.8405, 4),
        ("posterior", 1.296, 3),
        ("optimal", 0.7258, 4),
    ],
)
def test_known_bounds_of_gaussian_data(kind, published, digits):
    """x_0 ~ N(0, 1/4), T = 1000, exact denoiser; the entropy is 0.7258.

    0.8405 is beta with sigma_1^2 = beta_tilde_2 in place of beta_1: that one step costs 0.1137.
    """
    schedule, s2 = linear_schedule(1000), 0.25
    optimal = optimal_variance(schedule, s2)
    if kind == "optimal":
        sigma2 = optimal
    else:
        sigma2 = reverse_variance(schedule, kind.split(",")[0])
        if kind != "beta":
            sigma2[1] = schedule.posterior_variance[2]
    c = exact_eps(schedule, s2)
    got = -expected_elbo(schedule, lambda x_t, t: c[t] * x_t, s2, sigma2)
    assert got == pytest.approx(published, abs=0.5 * 10.0**-digits)
    assert got > ENTROPY
    # In closed form: the model mean is E[x_{t-1} | x_t], so the squared error in the KL averages
    # to Var[x_{t-1} | x_t] - beta_tilde.
    t = np.arange(2, 1001)
    middle = 0.5 * (optimal[t] / sigma2[t] - 1.0 + np.log(sigma2[t] / schedule.posterior_variance[t]))
    last = 0.5 * (optimal[1] / sigma2[1] + math.log(2.0 * math.pi * sigma2[1]))
    ab, om = schedule.alpha_bar[-1], schedule.one_minus_alpha_bar[-1]
    prior = 0.5 * (om + ab * s2 - 1.0 - math.log(om))
    assert got == pytest.approx(prior + middle.sum() + last, rel=1e-10, abs=0.0)


def test_the_optimal_variance_is_the_best():
    schedule, s2 = linear_schedule(100, 1e-3, 0.2), 0.25
    c, best = exact_eps(schedule, s2), optimal_variance(schedule, s2)
    top = expected_elbo(schedule, lambda x_t, t: c[t] * x_t, s2, best)
    for t in (1, 2, 50, 100):
        for factor in (0.8, 1.25):
            other = best.copy()
            other[t] *= factor
            assert expected_elbo(schedule, lambda x_t, t: c[t] * x_t, s2, other) < top - 1e-3


def chain_law(schedule, slopes, sigma2):
    """Covariance of (x_0, ..., x_T) under the linear model x_{t-1} = slope_t x_t + sigma_t z."""
    T = schedule.T
    rows = np.zeros((T + 1, T + 1))
    rows[T, T] = 1.0
    for t in range(T, 0, -1):
        rows[t - 1] = slopes[t] * rows[t]
        rows[t - 1, t - 1] += math.sqrt(sigma2[t])
    return rows @ rows.T


@st.composite
def linear_models(draw):
    T = draw(st.integers(1, 6))
    betas = draw(st.lists(st.floats(0.05, 0.9), min_size=T, max_size=T))
    network = draw(st.lists(st.floats(-1.0, 1.0), min_size=T + 1, max_size=T + 1))
    sigma2 = draw(st.lists(st.floats(0.05, 2.0), min_size=T + 1, max_size=T + 1))
    return schedule_from_beta(betas), network, np.array(sigma2), draw(st.floats(-3.0, 3.0))


@quiet
@pytest.mark.parametrize("target", TARGETS)
@given(model=linear_models())
def test_gap_is_the_divergence_from_the_models_posterior(target, model):
    """log p(x_0) - ELBO = KL(q(x_{1:T} | x_0) || p(x_{1:T} | x_0)) >= 0, M2 p. 25.

    For a linear model all of it is Gaussian: log p(x_0) by composing the affine chain, the
    divergence in T dimensions by kl_full, the expectation over noise by the nodes +-1.
    """
    schedule, network, sigma2, x0 = model
    T = schedule.T
    elbo = elbo_decomposition(
        schedule,
        lambda x_t, t: network[t] * x_t,
        np.array([x0, x0]),
        noise=np.broadcast_to(np.array([1.0, -1.0]), (T + 1, 2)),
        sigma2=sigma2,
        target=target,
    )
    total = float(np.mean(elbo.total))
    slopes = [0.0] + [slope(schedule, t, network[t], target) for t in range(1, T + 1)]
    law = chain_law(schedule, slopes, sigma2)
    evidence = stats.norm.logpdf(x0, 0.0, math.sqrt(law[0, 0]))
    assert total <= evidence + 1e-9 * (1.0 + abs(total))

    gain = law[1:, 0] / law[0, 0]
    ab = schedule.alpha_bar[1:]
    earlier, later = np.minimum.outer(*[np.arange(T)] * 2), np.maximum.outer(*[np.arange(T)] * 2)
    q_covariance = (1.0 - ab[earlier]) * np.sqrt(ab[later] / ab[earlier])
    p_covariance = law[1:, 1:] - np.outer(gain, law[0, 1:])
    gap = kl_full(np.sqrt(ab) * x0, q_covariance, gain * x0, p_covariance)
    # Slopes of up to 7 over 6 steps make laws of condition 1e9 at the worst.
    condition = np.linalg.cond(p_covariance) + np.linalg.cond(law)
    tolerance = 64 * EPS * condition * (1.0 + abs(total) + gap)
    assert evidence - total == pytest.approx(gap, rel=1e-9, abs=tolerance)


def test_bound_is_tight_for_the_true_model():
    """Data N(0, 1) stays N(0, 1): with eps* = sqrt(1 - alpha_bar) x_t the gap is 0 at every x_0."""
    sigma2 = MILD.beta
    x0 = np.array([0.3, 0.3])
    elbo = elbo_decomposition(
        MILD,
        lambda x_t, t: math.sqrt(MILD.one_minus_alpha_bar[t]) * x_t,
        x0,
        noise=np.broadcast_to(np.array([1.0, -1.0]), (MILD.T + 1, 2)),
        sigma2=sigma2,
    )
    assert np.mean(elbo.total) == pytest.approx(stats.norm.logpdf(0.3), rel=1e-13, abs=0.0)


# --- every library


@quiet
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("as_function", [True, False])
def test_on_every_library(lib, dtype, target, kind, as_function):
    rng = np.random.default_rng(7)
    x0, noise = rng.standard_normal((3, 2, 2)), rng.standard_normal((MILD.T + 1, 3, 2, 2))
    x0, noise = x0.astype(dtype), noise.astype(dtype)
    sigma2 = reverse_variance(MILD, kind)

    def run(xp, x0, noise):
        return elbo_decomposition(
            MILD, lambda x_t, t: xp.tanh(x_t) / t, x0, noise=noise, sigma2=sigma2, target=target
        )

    theirs = lib.array(noise, dtype)
    result = run(lib.xp, lib.array(x0, dtype), (lambda t: theirs[t, ...]) if as_function else theirs)
    expected = run(np, x0.astype(np.float64), noise.astype(np.float64))
    assert isinstance(result, Elbo)
    for theirs_term, term in zip(result, expected, strict=True):
        assert str(theirs_term.dtype).endswith(dtype)
        # Means are rounded a dozen times and divided by sigma, 0.2 at the least.
        assert_within(lib.host(theirs_term), term, 200 * eps_of(dtype) * (1.0 + np.max(np.abs(term))))


def test_middle_and_prior_terms_on_every_library(lib, dtype):
    host = np.random.default_rng(8).standard_normal((3, 3, 2)).astype(dtype)
    sigma2 = reverse_variance(MILD, "beta")
    x0, x_t, mean = (lib.array(x, dtype) for x in host)
    expected = middle_term(MILD, *host[:2].astype(np.float64), 4, host[2].astype(np.float64), sigma2)
    term = middle_term(MILD, x0, x_t, 4, mean, sigma2)
    assert str(term.dtype).endswith(dtype)
    assert_within(lib.host(term), expected, 64 * eps_of(dtype) * (1.0 + np.abs(expected)))
    prior = prior_term(MILD, x0)
    assert str(prior.dtype).endswith(dtype)
    assert_within(lib.host(prior), prior_term(MILD, host[0].astype(np.float64)), 64 * eps_of(dtype))


@pytest.mark.parametrize(
    "decoder",
    [lambda x0, mean, variance: x0 - mean, lambda x0, mean, variance: 0.0],
    ids=["map", "number"],
)
def test_a_decoder_of_another_shape_is_refused(decoder):
    x0 = np.ones((4, 3))
    with pytest.raises(ValueError, match=r"decoder must return shape \(B,\) = \(4,\)"):
        elbo_decomposition(
            linear_schedule(3, 0.5, 0.9),
            lambda x_t, t: x_t,
            x0,
            noise=lambda t: x0,
            sigma2=np.ones(4),
            decoder=decoder,
        )


@pytest.mark.parametrize("target", TARGETS)
def test_a_step_is_checked_once(target):
    """Each check runs once for the bound, or once for each time; formulas inside check nothing."""
    T, calls = 50, Counter()

    def count(frame, event, _):
        name = frame.f_code.co_name
        if event == "call" and (name.startswith("check_") or name == "at"):
            calls[name] += 1

    schedule, x0 = linear_schedule(T, 0.01, 0.2), np.ones((3, 2))
    sigma2, noise = reverse_variance(schedule, "beta"), np.zeros((T + 1, 3, 2))
    sys.setprofile(count)
    try:
        elbo_decomposition(schedule, lambda x, t: x, x0, noise=noise, sigma2=sigma2, target=target)
    finally:
        sys.setprofile(None)
    assert calls.pop("check_arrays") in range(T, T + 10)
    assert all(number < 10 for number in calls.values()), calls
