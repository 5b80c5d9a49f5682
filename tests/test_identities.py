"""Every identity of the bound holds: at any point, in expectation, or within Monte Carlo error."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpm_np.elbo import bits_per_dim
from ddpm_np.exact.chains import LinearGaussianChain
from ddpm_np.identities import forms as identities
from ddpm_np.identities import terms
from ddpm_np.paths import elbo_integrand_expanded, path_log_density
from ddpm_np.reverse import reverse_variance
from ddpm_np.schedules import linear_schedule, schedule_from_beta
from tests.strategies import MILD, eps_of, schedules, values
from tests.test_chains import chains, make_chain, observations
from tests.test_paths import bent, random_path

EXACT = 1e-10  # relative; for what is exact up to rounding
SEEDS = range(200)
LIMIT = 4.5  # standard errors
PATHWISE = [
    identities.expanded_residual,  # (3) = (6)
    identities.bayes_form_residual,  # (6) = (9)
    identities.telescoping_residual,  # (9) = (10)
    identities.consistency_residual,  # L 6.1 = (6)
    identities.hierarchy_residual,  # L 2.2 = (6)
]
FORMS = {
    "mean": identities.mean_form_residual,
    "noise": identities.mean_from_noise_form_residual,
    "eps": identities.eps_form_residual,
    "x0": identities.x0_form_residual,
    "v": identities.v_form_residual,
}
ignore_prior = pytest.mark.filterwarnings("ignore::ddpm_np.PriorWarning")


def largest(*arrays):
    """Entry by entry, the largest magnitude: what a residual is relative to."""
    return np.max(np.abs(np.stack(arrays)), axis=0)


# --- in expectation, in closed form


@settings(max_examples=300)
@given(chains(), st.integers(0, 2**32), st.sampled_from([0.1, 1.0, 5.0]))
def test_gap_and_decomposition(chain, seed, size):
    """(3): log p = ELBO + KL; and (6) = (19)."""
    x0 = size * np.random.default_rng(seed).standard_normal((4, chain.d))
    # The largest of the three in the identity, to within a factor of two.
    scale = largest(chain.log_density(x0), chain.elbo(x0).total)
    assert np.all(np.abs(identities.jensen_gap_residual(chain, x0)) <= EXACT * scale)
    assert np.all(np.abs(identities.decomposition_residual(chain, x0)) <= EXACT * scale)


@given(chains())
def test_marginalisation_in_closed_form(chain):
    x0 = observations(chain)
    residual, exact = terms.marginalisation_residual(chain, x0), chain.elbo(x0)
    assert residual.shape == exact.L.shape
    scale = np.abs(exact.L)
    scale[1] = np.abs(exact.L_0)
    # log-densities of dimension d with variances down to 1e-6 cancel
    assert np.all(np.abs(residual) <= EXACT * (scale + 10.0 * chain.d))


@given(chains(max_T=20))
@ignore_prior
def test_elbo_decomposition_averages_to_the_closed_form(chain):
    """(19), with its expectations taken exactly."""
    x0 = observations(chain, 3)
    exact = chain.elbo(x0)
    for residual, term in zip(terms.elbo_decomposition_residual(chain, x0), exact, strict=True):
        assert residual.shape == term.shape
        assert np.all(np.abs(residual) <= EXACT * largest(exact.L_0, exact.L_T, exact.total, *exact.L))


@given(chains(max_d=4, max_T=12), st.integers(0, 2**32))
def test_bayes_rule_of_the_model(chain, seed):
    path = np.random.default_rng(seed).standard_normal((chain.schedule.T + 1, 4, chain.d))
    scale = np.abs(chain.posterior_log_density(path)) + np.abs(chain.log_density(path[0]))
    assert np.all(np.abs(identities.model_bayes_residual(chain, path)) <= EXACT * scale)


# --- at any point


@st.composite
def points(draw, min_T=1):
    schedule = draw(schedules(min_T, 12))
    shape = draw(st.sampled_from([(3,), (3, 2), (2, 1, 2)]))
    return schedule, draw(values((schedule.T + 1, *shape)))


def log_scale(schedule, path, sigma2):
    """Size of what cancels: the sum of the magnitudes of all squares and logarithms."""
    size = 1.0 + np.max(np.abs(path)) ** 4
    smallest = min(np.min(sigma2[1:]), np.min(schedule.beta[1:]))
    return len(path) * path[0].size * size / smallest


@pytest.mark.parametrize("identity", PATHWISE)
@given(points(), st.sampled_from(["posterior", "beta", "unit"]))
def test_forms_of_the_integrand(identity, case, kind):
    """(3) = (6) = (9) = (10), one identity for each case of PATHWISE."""
    schedule, path = case
    sigma2 = reverse_variance(schedule, kind)
    residual = identity(schedule, path, bent, sigma2)
    assert residual.shape == path.shape[1:2]
    assert np.all(np.abs(residual) <= 1e-14 * log_scale(schedule, path, sigma2))


@pytest.mark.parametrize("identity", PATHWISE)
@pytest.mark.parametrize("T", [1, 2, 3, 10])
def test_forms_of_the_integrand_relatively(identity, T):
    schedule = linear_schedule(T, 0.05, 0.5)
    sigma2, path = reverse_variance(schedule, "beta"), random_path(schedule, (50, 3))
    scale = np.abs(elbo_integrand_expanded(schedule, path, bent, sigma2)) + 1.0
    assert np.all(np.abs(identity(schedule, path, bent, sigma2)) <= EXACT * scale)


@given(points())
def test_reversal(case):
    """(11), (12), (13): both factorisations of q."""
    schedule, path = case
    residual = identities.reversal_residual(schedule, path)
    assert np.all(np.abs(residual) <= 1e-14 * log_scale(schedule, path, schedule.beta))


@pytest.mark.parametrize("T", [1, 2, 3, 50])
def test_reversal_relatively(T):
    schedule = linear_schedule(T, 0.05, 0.5)
    path = random_path(schedule, (50, 3))
    scale = np.abs(path_log_density(schedule, path))
    assert np.all(np.abs(identities.reversal_residual(schedule, path)) <= EXACT * scale)


@given(points(min_T=2), st.data())
def test_bayes_rule_of_q(case, data):
    schedule, path = case
    t = data.draw(st.integers(2, schedule.T))
    residual = identities.bayes_rule_residual(schedule, path[0], path[t - 1], path[t], t)
    # near 1 / (1 - alpha_bar_{t-1}) and 1 / beta_t, whichever is larger
    assert np.all(np.abs(residual) <= 1e-14 * log_scale(schedule, path, schedule.beta))


@given(st.floats(0.01, 0.9), st.floats(0.01, 0.9), st.integers(0, 2**32))
@ignore_prior
def test_one_and_two_layers(first, second, seed):
    sigma2 = np.array([0.0, 0.4, 0.7])
    x0, noise, x_2 = np.random.default_rng(seed).standard_normal((3, 4, 2))
    residual = identities.vae_residual(schedule_from_beta([first]), x0, noise, bent, sigma2[:2])
    assert np.max(np.abs(residual)) < 1e-10
    path = np.stack([x0, noise, x_2])
    schedule = schedule_from_beta([first, second])
    scale = 1.0 + np.abs(elbo_integrand_expanded(schedule, path, bent, sigma2))
    residual = identities.two_layer_residual(schedule, path, bent, sigma2)
    assert np.all(np.abs(residual) <= 1e-12 * scale)


@pytest.mark.parametrize("form", sorted(FORMS))
@given(st.integers(2, 50), st.data(), st.sampled_from(["posterior", "beta", "unit"]))
def test_weighted_forms(form, T, data, kind):
    schedule = linear_schedule(T, *data.draw(st.sampled_from([(1e-4, 0.02), (0.01, 0.5)])))
    sigma2, t = reverse_variance(schedule, kind), data.draw(st.integers(2, T))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    x0, noise, prediction = rng.standard_normal((3, 4, *data.draw(st.sampled_from([(), (2,), (2, 3)]))))
    residual = FORMS[form](schedule, x0, t, noise, prediction, sigma2)
    assert residual.shape == (4,)
    # A random prediction of the mean is off by 1 / sigma: everything is relative to that.
    scale = x0[0].size * (1.0 + 10.0 / min(1.0, sigma2[t])) if form in ("mean", "noise") else 100.0
    assert np.max(np.abs(residual)) <= 1e-12 * scale * max(1.0, schedule.beta[t] / sigma2[t])


# --- by quadrature, in one dimension


@given(chains(max_d=1, max_T=8), st.floats(-3.0, 3.0))
def test_terms_by_quadrature(chain, x0):
    exact = chain.elbo(np.array([[x0]]))
    scale = largest(exact.L_0, exact.L_T, exact.total, *exact.L) + 10.0
    for residual in terms.quadrature_residual(chain, x0):
        assert np.max(np.abs(residual)) <= EXACT * scale


@pytest.mark.parametrize(
    "mean",
    [bent, lambda x, t: np.sin(x), lambda x, t: 0.9 * x - 0.05 * x**3],
    ids=["square", "sine", "cube"],
)
@pytest.mark.parametrize("t", [2, 5, 10])
@pytest.mark.parametrize("kind", ["posterior", "beta", "unit"])
def test_marginalisation_by_quadrature(mean, t, kind):
    """(14) = (15) = (16) = (17) = (18), by quadrature over x_{t-1} and x_t."""
    sigma2 = reverse_variance(MILD, kind)
    for x0 in (-1.3, 0.0, 0.7):
        residual = terms.marginalisation_quadrature_residual(MILD, x0, t, mean, sigma2)
        assert abs(residual) < 1e-10


@given(st.floats(-5, 5), st.floats(0.05, 5), st.floats(-5, 5), st.floats(0.05, 5))
def test_kl_by_quadrature(mean_1, sigma_1, mean_2, sigma_2):
    scale = 1.0 + ((mean_1 - mean_2) ** 2 + sigma_1**2) / sigma_2**2 + abs(mean_1) / sigma_1
    residual = terms.kl_quadrature_residual(mean_1, sigma_1, mean_2, sigma_2)
    assert abs(residual) <= 1e-12 * scale


def test_gauss_hermite_to_its_limit():
    points, weights = terms.gauss_hermite(300)
    assert weights @ points**2 == pytest.approx(1.0, rel=1e-13)
    with pytest.raises(ValueError, match="nodes must be between 1 and 300, got 301"):
        terms.gauss_hermite(301)


def test_gauss_hermite_has_the_moments_of_a_normal():
    points, weights = terms.gauss_hermite(6)
    moments = [weights @ points**k for k in range(12)]
    np.testing.assert_allclose(moments[::2], [1, 1, 3, 15, 105, 945], rtol=1e-12)
    np.testing.assert_allclose(moments[1::2], np.zeros(6), atol=1e-10)


# --- by Monte Carlo


@pytest.mark.parametrize("scores", [terms.path_scores, terms.elbo_decomposition_scores])
@ignore_prior
def test_monte_carlo_never_far_from_the_closed_form(scores):
    """200 seeds, every term: never outside 4.5 standard errors, and of variance 1."""
    chain = make_chain(1, 2, 4, "sigmoid", "unit", 0.8, 0.3)
    x0, results = np.array([0.7, -1.2]), []
    for seed in SEEDS:
        noise = np.random.default_rng(seed).standard_normal((5, 2000, 2))
        L_T, L, L_0, total = scores(chain, x0, noise)
        assert L[0] == L[1] == 0.0
        results.append([L_T, *L[2:], L_0, total])
    z = np.array(results)
    if scores is terms.elbo_decomposition_scores:
        assert np.all(z[:, 0] == 0.0)  # L_T is not sampled there
        z = z[:, 1:]
    assert np.max(np.abs(z)) < LIMIT
    assert np.all(np.abs(np.std(z, axis=0) - 1.0) < 0.2)
    assert np.all(np.abs(np.mean(z, axis=0)) < LIMIT / np.sqrt(len(SEEDS)))


# --- scalars


@given(st.floats(-1e4, 1e4), st.integers(1, 3072))
def test_bits_per_dim(log_density, dimensions):
    # the root p^(1/d) must be a normal number
    log_density = float(np.clip(log_density, -700.0 * dimensions, 700.0 * dimensions))
    residual = terms.bits_per_dim_residual(np.array([log_density]), dimensions)
    assert abs(residual[0]) <= 1e-12 * (abs(log_density) + dimensions)


def test_bits_of_a_uniform_byte():
    """256 levels, each of probability 1/256: 8 bits per dimension by definition."""
    assert bits_per_dim(3072 * np.log(256.0), 3072) == pytest.approx(8.0, rel=1e-15)


# --- libraries, and what a residual must notice


def test_every_library(lib, dtype):
    sigma2 = reverse_variance(MILD, "beta")
    path = lib.array(random_path(MILD, (3, 2)).astype(dtype), dtype)
    x0, x_1, noise = path[0, ...], path[1, ...], path[2, ...]
    residuals = [identity(MILD, path, bent, sigma2) for identity in PATHWISE]
    residuals += [form(MILD, x0, 4, noise, x_1, sigma2) for form in FORMS.values()]
    residuals.append(identities.reversal_residual(MILD, path))
    residuals.append(identities.bayes_rule_residual(MILD, x0, x_1, noise, 2))
    residuals.append(terms.bits_per_dim_residual(path[:, 0, 0], 3))
    short = schedule_from_beta([0.3, 0.9])
    residuals.append(identities.two_layer_residual(short, path[:3, ...], bent, sigma2[:3]))
    one = schedule_from_beta([0.99])
    residuals.append(identities.vae_residual(one, 0.1 * x0, noise, bent, sigma2[:2]))
    for residual in residuals:
        assert str(residual.dtype).endswith(dtype)
        assert np.max(np.abs(lib.host(residual))) <= 3000 * eps_of(dtype)


def test_a_wrong_model_is_noticed():
    """A slope of the chain off by one per cent, in one of the three computations, shows."""
    chain = make_chain(0, 3, 10, "sigmoid", "beta", 0.9, 0.1)
    off = LinearGaussianChain(chain.schedule, 1.01 * chain.slopes, chain.offsets, chain.sigma2)
    x0 = observations(chain)
    log_p, bound, gap = chain.log_density(x0), chain.elbo(x0).total, chain.gap(x0)
    assert np.min(np.abs(off.log_density(x0) - bound - gap)) > 1e-3
    assert np.min(np.abs(log_p - off.elbo(x0).total - gap)) > 1e-3
    assert np.min(np.abs(log_p - bound - off.gap(x0))) > 1e-3


def test_wrong_numbers_of_layers():
    path = random_path(MILD, (3, 2))
    with pytest.raises(ValueError, match=r"schedule.T must be between 2 and 2, got 10"):
        identities.two_layer_residual(MILD, path, bent, MILD.beta)
    with pytest.raises(ValueError, match=r"schedule.T must be between 1 and 1, got 10"):
        identities.vae_residual(MILD, path[0], path[1], bent, MILD.beta)
    with pytest.raises(ValueError, match=r"chain.d must be between 1 and 1, got 2"):
        terms.quadrature_residual(make_chain(0, 2, 3, "linear", "beta", 0.9, 0.1), 0.0)
