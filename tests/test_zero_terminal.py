"""Zero terminal SNR: at T, where alpha_bar is 0, each function is the limit or refuses.

``ZERO`` ends in alpha_bar = 0 exactly, ``NEAR`` differs from it by beta_T = 1 - 2^-50 alone. What is
finite is of the form a + b sqrt(alpha_bar_T) near there, with a and b of order 1 to 10.
"""

import inspect
import math
import re
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given

import ddpm_np as ddpm
from ddpm_np import (
    elbo,
    estimators,
    exact,
    flow,
    forward,
    guidance,
    hierarchy,
    identities,
    losses,
    paths,
    plotting,
    posterior,
    reverse,
    samplers,
    targets,
)
from ddpm_np.data.distances import sliced_wasserstein
from ddpm_np.nn import Adam, MLPDenoiser, cosine_decay, mlp_loss_and_gradient
from ddpm_np.nn.ops import GENERIC
from ddpm_np.runs import evaluation
from ddpm_np.runs.batches import batches
from ddpm_np.runs.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from ddpm_np.schedules import log_snr_times, merge_first_steps, respaced_schedule, trailing_times
from ddpm_np.testing import check_identities
from ddpm_np.testing.adapters.reference import Reference
from ddpm_np.training import Recipe, init_state, train
from tests.strategies import EPS, MILD, schedules

T = MILD.T
ZERO = ddpm.zero_terminal_snr(MILD)
NEAR = ddpm.schedule_from_beta([*ZERO.beta[1:-1], 1.0 - 2.0**-50])
LIMIT = 100.0 * NEAR.sqrt_alpha_bar[-1]
NOT_EPS = ["x0", "mean", "v"]
AT_T_REFUSED = re.escape(f"eps says nothing of x_0 at t = T = {T}, where alpha_bar[T] = 0 and x_T is ")
REFUSED = re.escape('target must be "x0", "mean" or "v" where alpha_bar[T] = 0, got "eps": x_T is ')

B, D = 3, 2
X0, NOISE, X_T, PREDICTION, X_PREV, STEP = np.random.default_rng(0).standard_normal((6, B, D))
CHAIN_NOISE = np.random.default_rng(1).standard_normal((T + 1, B, D))
SIGMA2 = ddpm.reverse_variance(ZERO, "beta")
LAW = exact.eight_gaussians_exact()
ROLL = exact.swiss_roll_exact()
COVARIANCE = np.array([[1.0, 0.3], [0.3, 0.5]])
GAUSSIAN = exact.GaussianData(np.array([0.2, -0.1]), COVARIANCE)


def noise(t):
    return CHAIN_NOISE[t]


def predict(x_t, t):
    return 0.3 * x_t - 0.1


def path(s):
    return paths.draw_path(s, X0, CHAIN_NOISE)


def triple(s):
    x = path(s)
    return x[T - 2], x[T - 1], x[T]


def gaussian_chain(s):
    return exact.gaussian_data_chain(s, np.array([0.2, -0.1]), COVARIANCE, SIGMA2)


def short(s, length):
    """The last step alone, or the last two, as a chain of its own."""
    return ddpm.schedule_from_beta([*[0.2] * (length - 1), s.beta[-1]])


def errors(s):
    return estimators.step_errors(s, predict, X0, noise=noise, target="x0")


# --- the schedule itself


@given(schedules(min_T=2))
def test_follows_lin_et_al(schedule):
    """Their Algorithm 1, and the first step stays as it is, to the last bit."""
    zero = ddpm.zero_terminal_snr(schedule)
    assert zero.T == schedule.T
    for table, at_T in (
        (zero.beta, 1.0),
        (zero.alpha, 0.0),
        (zero.alpha_bar, 0.0),
        (zero.one_minus_alpha_bar, 1.0),
        (zero.log_alpha_bar, -math.inf),
        (zero.sqrt_alpha_bar, 0.0),
        (zero.noise_to_signal, math.inf),
        (zero.half_log_snr, -math.inf),
        (zero.c_xt, 0.0),
        (zero.c_x0, zero.sqrt_alpha_bar[-2]),
        (zero.posterior_variance, zero.one_minus_alpha_bar[-2]),
    ):
        assert table[-1] == at_T
        assert np.all(np.isfinite(table[1:-1]))
    assert zero.beta[1] == schedule.beta[1]
    assert zero.alpha_bar[1] == pytest.approx(schedule.alpha_bar[1], rel=2 * EPS)
    root = np.exp(0.5 * schedule.log_alpha_bar.astype(np.longdouble))
    scaled = (root - root[-1]) * root[1] / (root[1] - root[-1])
    # Their differences of roots lose digits, and so does 1 - beta where beta is near 1.
    lost = root[1] / (root[1] - root[-1]) + root[1:-1] / (root[1:-1] - root[-1])
    lost += np.cumsum(1.0 / zero.alpha[1:-1])
    error = np.abs(zero.sqrt_alpha_bar[1:-1] / scaled[1:-1] - 1.0)
    assert np.all(error <= 4 * EPS * lost)


@given(schedules(min_T=2))
def test_is_unchanged_by_itself(schedule):
    once = ddpm.zero_terminal_snr(schedule)
    twice = ddpm.zero_terminal_snr(once)
    np.testing.assert_allclose(twice.beta, once.beta, rtol=16 * schedule.T * EPS)


def test_both_constructors_take_it():
    by_beta = ddpm.schedule_from_beta(ZERO.beta[1:])
    by_alpha_bar = ddpm.schedule_from_alpha_bar(ZERO.alpha_bar)
    for table in (f.name for f in ZERO.__dataclass_fields__.values()):
        np.testing.assert_array_equal(getattr(by_beta, table), getattr(ZERO, table))
        np.testing.assert_allclose(getattr(by_alpha_bar, table), getattr(ZERO, table), rtol=1e-14)
    only = ddpm.schedule_from_beta([1.0])
    assert (only.c_xt[1], only.c_x0[1], only.posterior_variance[1]) == (0.0, 1.0, 0.0)


def test_is_respaced_and_merged():
    """alpha_bar is 0 at the end of every chain that visits T, and at no other."""
    for times in ([T], [3, T], trailing_times(T, 4), log_snr_times(ZERO, 5)):
        chain = respaced_schedule(ZERO, times)
        np.testing.assert_array_equal(chain.alpha_bar[1:], ZERO.alpha_bar[times])
        assert chain.beta[-1] == 1.0
        assert np.all(chain.beta[1:-1] < 1.0)
    merged = merge_first_steps(ZERO, 0.5)
    assert (merged.beta[-1], merged.alpha_bar[-1]) == (1.0, 0.0)
    assert merged.T < T


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (ddpm.linear_schedule(1), "schedule.T must be >= 2, got 1"),
        (ddpm.schedule_from_beta([0.9] * 1000), "alpha_bar underflows to 0"),
    ],
)
def test_refuses_what_cannot_be_scaled(schedule, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        ddpm.zero_terminal_snr(schedule)


# --- every function at T

AT_T = {
    "q_step_moments": lambda s, t: forward.q_step_moments(s, X_PREV, t),
    "q_step": lambda s, t: forward.q_step(s, X_PREV, t, NOISE),
    "q_two_step_moments": lambda s, t: forward.q_two_step_moments(s, X_PREV, t),
    "q_moments": lambda s, t: forward.q_moments(s, X0, t),
    "q_sample": lambda s, t: forward.q_sample(s, X0, t, NOISE),
    "posterior_mean_coefficients": lambda s, t: posterior.posterior_mean_coefficients(s, t),
    "q_posterior": lambda s, t: posterior.q_posterior(s, X0, X_T, t),
    "eps_from_x0": lambda s, t: targets.eps_from_x0(s, X_T, t, X0),
    "x0_from_mean": lambda s, t: targets.x0_from_mean(s, X_T, t, PREDICTION),
    "eps_from_mean": lambda s, t: targets.eps_from_mean(s, X_T, t, PREDICTION),
    "v_from_x0_and_eps": lambda s, t: targets.v_from_x0_and_eps(s, t, X0, NOISE),
    "x0_from_v": lambda s, t: targets.x0_from_v(s, X_T, t, PREDICTION),
    "eps_from_v": lambda s, t: targets.eps_from_v(s, X_T, t, PREDICTION),
    "predicted_eps of eps": lambda s, t: targets.predicted_eps(s, X_T, t, PREDICTION, "eps"),
    "training_target eps": lambda s, t: targets.training_target(s, X0, t, NOISE, "eps"),
    "mean_loss_weight": lambda s, t: losses.mean_loss_weight(s, t, SIGMA2),
    "x0_loss_weight": lambda s, t: losses.x0_loss_weight(s, t, SIGMA2),
    "v_loss_weight": lambda s, t: losses.v_loss_weight(s, t, SIGMA2),
    "min_snr_weight of eps": lambda s, t: losses.min_snr_weight(s, t, 5.0),
    "learned_variance": lambda s, t: reverse.learned_variance(s, PREDICTION, t),
    "loss_constant": lambda s, t: losses.loss_constant(s, t, SIGMA2, D),
    "two_sample_conditional_variance": lambda s, t: estimators.two_sample_conditional_variance(
        s, predict, X0, t, noise=NOISE, sigma2=SIGMA2, target="v"
    ),
    "mixture.posterior_x0": lambda s, t: LAW.posterior_x0(s, X_T, t),
    "mixture.bayes_eps": lambda s, t: LAW.bayes_eps(s, X_T, t),
    "gaussian.posterior_x0": lambda s, t: GAUSSIAN.posterior_x0(s, X_T, t),
    "gaussian.bayes_eps": lambda s, t: GAUSSIAN.bayes_eps(s, X_T, t),
    "curve.posterior_x0": lambda s, t: ROLL.posterior_x0(s, X_T, t),
    "curve.bayes_eps": lambda s, t: ROLL.bayes_eps(s, X_T, t),
} | {
    f"{name} of {target}": function
    for target in NOT_EPS
    for name, function in {
        "predicted_x0": lambda s, t, target=target: targets.predicted_x0(s, X_T, t, PREDICTION, target),
        "predicted_eps": lambda s, t, target=target: targets.predicted_eps(
            s, X_T, t, PREDICTION, target
        ),
        "training_target": lambda s, t, target=target: targets.training_target(s, X0, t, NOISE, target),
        "model_mean": lambda s, t, target=target: reverse.model_mean(s, X_T, t, PREDICTION, target),
        "bound_weight": lambda s, t, target=target: losses.bound_weight(s, t, SIGMA2, target),
        "min_snr_weight": lambda s, t, target=target: losses.min_snr_weight(s, t, 5.0, target),
        "bound_loss": lambda s, t, target=target: losses.bound_loss(
            s, t, X0, PREDICTION, SIGMA2, target
        ),
        "two_sample_estimate": lambda s, t, target=target: estimators.two_sample_estimate(
            s, predict, X0, t, noise=NOISE, step_noise=STEP, sigma2=SIGMA2, target=target
        ),
        "one_sample_estimate": lambda s, t, target=target: estimators.one_sample_estimate(
            s, predict, X0, t, noise=NOISE, sigma2=SIGMA2, target=target
        ),
    }.items()
}
"""Finite at T, given as an int or for each example: functions of (schedule, t)."""

AT_INT_T = {
    "middle_term": lambda s: elbo.middle_term(s, X0, X_T, T, PREDICTION, SIGMA2),
    "consistency_triple_integrand": lambda s: estimators.consistency_triple_integrand(
        s, predict, *triple(s), T - 1, sigma2=SIGMA2, target="x0"
    ),
    "bayes_rule_residual": lambda s: identities.bayes_rule_residual(s, X0, X_PREV, X_T, T),
    "mean_form_residual": lambda s: identities.mean_form_residual(s, X0, T, NOISE, PREDICTION, SIGMA2),
    "x0_form_residual": lambda s: identities.x0_form_residual(s, X0, T, NOISE, PREDICTION, SIGMA2),
    "v_form_residual": lambda s: identities.v_form_residual(s, X0, T, NOISE, PREDICTION, SIGMA2),
    "marginalisation_quadrature_residual": lambda s: np.array(
        identities.marginalisation_quadrature_residual(s, 0.7, T, predict, SIGMA2)
    ),
    "exact_divergence": lambda s: flow.exact_divergence(s, predict, "v")(X_T, T),
    "hutchinson": lambda s: flow.hutchinson(s, predict, np.sign(NOISE), "v")(X_T, T),
    "gaussian.diffused": lambda s: GAUSSIAN.diffused(s, T).log_density(X_T),
    "mixture.diffused": lambda s: LAW.diffused(s, T).log_density(X_T),
    "curve.diffused": lambda s: ROLL.diffused(s, T).log_density(X_T),
}
"""Finite at t = T, which is part of the call: functions of the schedule."""

WHOLE = {
    "prior_term": lambda s: elbo.prior_term(s, X0),
    "reverse_variance beta": lambda s: reverse.reverse_variance(s, "beta"),
    "reverse_variance posterior": lambda s: reverse.reverse_variance(s, "posterior"),
    "elbo_from_errors": lambda s: estimators.elbo_from_errors(
        s, errors(s), SIGMA2, ddpm.gaussian_decoder
    ),
    "best_variance": lambda s: estimators.best_variance(s, errors(s), ddpm.gaussian_decoder),
    "posterior_entropy": lambda s: estimators.posterior_entropy(s, D),
    "entropy_constant": lambda s: np.array(estimators.entropy_constant(s, D)),
    "draw_path": path,
    "path_log_density": lambda s: paths.path_log_density(s, path(s)),
    "reversed_path_log_density": lambda s: paths.reversed_path_log_density(s, path(s)),
    "elbo_integrand_expanded": lambda s: paths.elbo_integrand_expanded(s, path(s), predict, SIGMA2),
    "elbo_integrand_bayes": lambda s: paths.elbo_integrand_bayes(s, path(s), predict, SIGMA2),
    "elbo_integrand_reversed": lambda s: paths.elbo_integrand_reversed(s, path(s), predict, SIGMA2),
    "elbo_integrand_consistency": lambda s: paths.elbo_integrand_consistency(
        s, path(s), predict, SIGMA2
    ),
    "elbo_path_terms": lambda s: paths.elbo_path_terms(s, path(s), predict, SIGMA2),
    "diffusion_encoder": lambda s: hierarchy.diffusion_encoder(s)(X_PREV, T),
    "reversal_residual": lambda s: identities.reversal_residual(s, path(s)),
    "expanded_residual": lambda s: identities.expanded_residual(s, path(s), predict, SIGMA2),
    "bayes_form_residual": lambda s: identities.bayes_form_residual(s, path(s), predict, SIGMA2),
    "telescoping_residual": lambda s: identities.telescoping_residual(s, path(s), predict, SIGMA2),
    "consistency_residual": lambda s: identities.consistency_residual(s, path(s), predict, SIGMA2),
    "hierarchy_residual": lambda s: identities.hierarchy_residual(s, path(s), predict, SIGMA2),
    "vae_residual": lambda s: identities.vae_residual(short(s, 1), X0, NOISE, predict, SIGMA2[:2]),
    "two_layer_residual": lambda s: identities.two_layer_residual(
        short(s, 2), path(s)[:3], predict, SIGMA2[:3]
    ),
    "optimal_variance_gaussian": lambda s: exact.optimal_variance_gaussian(s, COVARIANCE),
    "gaussian_data_chain": lambda s: [gaussian_chain(s).slopes, gaussian_chain(s).offsets],
    "gaussian.flow": lambda s: GAUSSIAN.flow(s, X_T),
    "gaussian.flow_inverse": lambda s: GAUSSIAN.flow_inverse(s, X0),
    "mixture.flow": lambda s: exact.mixture_1d_exact().flow(s, X_T[:, :1]),
    "mixture.flow_inverse": lambda s: exact.mixture_1d_exact().flow_inverse(s, X0[:, :1]),
    "error_budget": lambda s: [
        part.total
        for part in exact.error_budget(
            s,
            lambda x, t: 0.1 + exact.mixture_1d_exact().posterior_x0(s, x, t),
            exact.mixture_1d_exact(),
            sigma2=SIGMA2,
            target="x0",
        )
    ],
    "linear_sampler_law": lambda s: (
        exact.linear_sampler_law(
            GAUSSIAN,
            lambda x_T, noise: samplers.ddim_sample(
                s, lambda x, t: GAUSSIAN.posterior_x0(s, x, t), x_T, eta=0.5, noise=noise, target="x0"
            ),
        ).covariance
    ),
    "chain.log_density": lambda s: gaussian_chain(s).log_density(X0),
    "chain.elbo": lambda s: gaussian_chain(s).elbo(X0),
    "chain.elbo_expanded": lambda s: gaussian_chain(s).elbo_expanded(X0),
    "chain.expected_step_log_density": lambda s: gaussian_chain(s).expected_step_log_density(X0),
    "chain.posterior": lambda s: gaussian_chain(s).posterior(),
    "chain.posterior_log_density": lambda s: gaussian_chain(s).posterior_log_density(path(s)),
    "chain.gap": lambda s: gaussian_chain(s).gap(X0),
    "jensen_gap_residual": lambda s: identities.jensen_gap_residual(gaussian_chain(s), X0),
    "decomposition_residual": lambda s: identities.decomposition_residual(gaussian_chain(s), X0),
    "model_bayes_residual": lambda s: identities.model_bayes_residual(gaussian_chain(s), path(s)),
    "marginalisation_residual": lambda s: identities.marginalisation_residual(gaussian_chain(s), X0),
    "elbo_decomposition_residual": lambda s: identities.elbo_decomposition_residual(
        gaussian_chain(s), X0
    ),
} | {
    f"{name} of {target}": function
    for target in NOT_EPS
    for name, function in {
        "elbo_decomposition": lambda s, target=target: elbo.elbo_decomposition(
            s, predict, X0, noise=noise, sigma2=SIGMA2, target=target
        ),
        "elbo_in_chunks": lambda s, target=target: evaluation.elbo_in_chunks(
            s, predict, X0, noise=noise, sigma2=SIGMA2, target=target
        ),
        "ancestral_sample": lambda s, target=target: samplers.ancestral_sample(
            s, predict, X_T, noise=noise, sigma2=SIGMA2, target=target, trajectory=True
        ),
        "ddim_sample": lambda s, target=target: samplers.ddim_sample(
            s, predict, X_T, target=target, trajectory=True
        ),
        "ddim_sample, eta = 0.7, of": lambda s, target=target: samplers.ddim_sample(
            s, predict, X_T, eta=0.7, noise=noise, target=target
        ),
        "dpm_solver_sample": lambda s, target=target: samplers.dpm_solver_sample(
            s, predict, X_T, order=1, target=target
        ),
        "step_errors": lambda s, target=target: estimators.step_errors(
            s, predict, X0, noise=noise, target=target
        ),
        "t_sample_estimate": lambda s, target=target: estimators.t_sample_estimate(
            s, predict, X0, noise=noise, sigma2=SIGMA2, target=target
        ),
        "optimal_variance": lambda s, target=target: estimators.optimal_variance(
            s, predict, X0, noise=noise, target=target
        ),
        "clipped": lambda s, target=target: guidance.clipped(s, predict, target)(X_T, T),
    }.items()
}
"""Finite over the whole chain: functions of the schedule."""

EPS_AT_T = {
    "posterior_mean_from_eps": lambda s, t: posterior.posterior_mean_from_eps(s, X_T, t, NOISE),
    "x0_from_eps": lambda s, t: targets.x0_from_eps(s, X_T, t, NOISE),
    "predicted_x0 of eps": lambda s, t: targets.predicted_x0(s, X_T, t, NOISE),
    "model_mean of eps": lambda s, t: reverse.model_mean(s, X_T, t, NOISE),
    "eps_loss_weight": lambda s, t: losses.eps_loss_weight(s, t, SIGMA2),
    "bound_weight of eps": lambda s, t: losses.bound_weight(s, t, SIGMA2),
    "bound_loss of eps": lambda s, t: losses.bound_loss(s, t, X0, NOISE, SIGMA2),
    "mean_from_noise_form_residual": lambda s, t: identities.mean_from_noise_form_residual(
        s, X0, t, NOISE, X0, SIGMA2
    ),
    "eps_form_residual": lambda s, t: identities.eps_form_residual(s, X0, t, NOISE, X0, SIGMA2),
}
"""Refused at T only: functions of (schedule, t)."""

EPS_WHOLE = {
    "elbo_decomposition": lambda s: elbo.elbo_decomposition(s, predict, X0, noise=noise, sigma2=SIGMA2),
    "elbo_in_chunks": lambda s: evaluation.elbo_in_chunks(s, predict, X0, noise=noise, sigma2=SIGMA2),
    "ancestral_sample": lambda s: samplers.ancestral_sample(s, predict, X_T, noise=noise, sigma2=SIGMA2),
    "ddim_sample": lambda s: samplers.ddim_sample(s, predict, X_T),
    "dpm_solver_sample": lambda s: samplers.dpm_solver_sample(s, predict, X_T),
    "clipped": lambda s: guidance.clipped(s, predict, "eps"),
    "step_errors": lambda s: estimators.step_errors(s, predict, X0, noise=noise),
    "t_sample_estimate": lambda s: estimators.t_sample_estimate(
        s, predict, X0, noise=noise, sigma2=SIGMA2
    ),
    "two_sample_estimate": lambda s: estimators.two_sample_estimate(
        s, predict, X0, 1, noise=NOISE, step_noise=STEP, sigma2=SIGMA2
    ),
    "one_sample_estimate": lambda s: estimators.one_sample_estimate(
        s, predict, X0, 1, noise=NOISE, sigma2=SIGMA2
    ),
    "two_sample_conditional_variance": lambda s: estimators.two_sample_conditional_variance(
        s, predict, X0, 1, noise=NOISE, sigma2=SIGMA2
    ),
    "consistency_triple_integrand": lambda s: estimators.consistency_triple_integrand(
        s, predict, *triple(s), 1, sigma2=SIGMA2
    ),
    "optimal_variance": lambda s: estimators.optimal_variance(s, predict, X0, noise=noise),
    "variance_from_eps_error": lambda s: estimators.variance_from_eps_error(s, np.ones(T + 1)),
    "analytic_dpm_variance": lambda s: estimators.analytic_dpm_variance(
        s, predict, X0, noise=noise, target="v"
    ),
    "error_budget": lambda s: exact.error_budget(s, predict, exact.mixture_1d_exact(), sigma2=SIGMA2),
    "linear_gaussian_moments": lambda s: exact.linear_gaussian_moments(s, SIGMA2, X0, SIGMA2),
}
"""Refused for the whole chain, before anything is computed: functions of the schedule."""


def compare(of_zero, of_near):
    """Finite, and as near as the two schedules are."""
    if not isinstance(of_zero, tuple | list):
        of_zero, of_near = [of_zero], [of_near]
    for value, near in zip(of_zero, of_near, strict=True):
        assert np.all(np.isfinite(value))
        np.testing.assert_allclose(value, near, rtol=0.0, atol=LIMIT * (1.0 + np.max(np.abs(near))))


@pytest.mark.parametrize("name", AT_T)
def test_at_T_is_the_limit(name):
    compare(AT_T[name](ZERO, T), AT_T[name](NEAR, T))
    each = np.array([1 if "two_step" not in name and name != "loss_constant" else 2, T, T - 1])
    compare(AT_T[name](ZERO, each), AT_T[name](NEAR, each))


@pytest.mark.parametrize("name", AT_INT_T | WHOLE)
def test_of_a_chain_is_the_limit(name):
    function = (AT_INT_T | WHOLE)[name]
    compare(function(ZERO), function(NEAR))


@pytest.mark.parametrize("name", EPS_AT_T)
def test_eps_is_refused_at_T(name):
    for t in (T, np.array([2, T, 3])) if "residual" not in name else (T,):
        with pytest.raises(ValueError, match=AT_T_REFUSED):
            EPS_AT_T[name](ZERO, t)
    compare(EPS_AT_T[name](ZERO, T - 1), EPS_AT_T[name](NEAR, T - 1))


@pytest.mark.parametrize("name", EPS_WHOLE)
def test_eps_is_refused_for_the_chain(name):
    with pytest.raises(ValueError, match=f"{REFUSED}|{AT_T_REFUSED}"):
        EPS_WHOLE[name](ZERO)
    EPS_WHOLE[name](NEAR)


def test_no_function_is_forgotten():
    tables = (AT_T, AT_INT_T, WHOLE, EPS_AT_T, EPS_WHOLE)
    named = {name.split(" ")[0] for table in tables for name in table}
    named |= {"warn_of_prior", "check_errors", "check_predictor", "check_target"}  # seen within others
    named |= {"hierarchical_integrand"}  # of a list of latents
    named |= {
        "heun_sample",
        "flow_log_likelihood",
        "ddim_invert",
        "check_sampling",
        "flow_times",
    }  # below
    named |= {"quadrature_residual", "path_scores", "elbo_decomposition_scores"}  # below, in 1-D
    for room in (
        elbo,
        flow,
        forward,
        guidance,
        hierarchy,
        losses,
        paths,
        posterior,
        reverse,
        samplers,
        targets,
    ):
        assert public(room) <= named, room.__name__
    for room in (estimators, exact, identities):
        assert public(room, inside=True) <= named, room.__name__


def public(room: ModuleType, *, inside: bool = False) -> set[str]:
    """Functions of a schedule or of a chain, by name."""
    found = set()
    for name, function in vars(room).items():
        home = getattr(function, "__module__", "")
        if inspect.isfunction(function) and (
            home.startswith(room.__name__) if inside else home == room.__name__
        ):
            parameters = inspect.signature(function).parameters
            if {"schedule", "chain"} & {*parameters} and not re.search("^_|_unchecked$", name):
                found.add(name)
    return found


# --- what is known at T by other means


@pytest.mark.parametrize("sigma2", [0.3, 1.0])
def test_formulas_at_T(sigma2):
    """x_T holds nothing: the posterior is q(x_{T-1} | x_0), N(r x0, (1 - r^2) I), r = signal[T-1]."""
    r, table = math.sqrt(ZERO.alpha_bar[T - 1]), np.full(T + 1, sigma2)
    mean, variance = ddpm.q_posterior(ZERO, X0, X_T, T)
    np.testing.assert_allclose(mean, r * X0, rtol=4 * EPS)
    assert variance == pytest.approx(1.0 - r**2, rel=4 * EPS)
    np.testing.assert_array_equal(ddpm.q_sample(ZERO, X0, T, NOISE), NOISE)
    for target, x0 in {"x0": PREDICTION, "v": -PREDICTION, "mean": PREDICTION / r}.items():
        implied = ddpm.predicted_x0(ZERO, X_T, T, PREDICTION, target)
        np.testing.assert_allclose(implied, x0, rtol=4 * EPS)
        np.testing.assert_allclose(
            ddpm.model_mean(ZERO, X_T, T, PREDICTION, target), r * x0, rtol=4 * EPS
        )
        np.testing.assert_array_equal(ddpm.predicted_eps(ZERO, X_T, T, PREDICTION, target), X_T)
        slope = r if target != "mean" else 1.0
        expected = slope**2 / (2.0 * sigma2)
        assert ddpm.bound_weight(ZERO, T, table, target) == pytest.approx(expected, rel=4 * EPS)


def test_laws_at_T():
    """x_T is eps, and says nothing about x_0: E[x_0 | x_T] is the mean of the data."""
    for law in (LAW, ROLL, exact.mixture_1d_exact(), GAUSSIAN):
        x_T = X_T[:, : law.d]
        mixture = law.mixture() if law is ROLL else law
        centre = law.mean if law is GAUSSIAN else mixture.weights @ mixture.means
        mean = np.broadcast_to(centre, x_T.shape)
        np.testing.assert_allclose(law.posterior_x0(ZERO, x_T, T), mean, rtol=0, atol=1e-12)
        np.testing.assert_allclose(law.bayes_eps(ZERO, x_T, T), x_T, rtol=0, atol=16 * EPS)
        normal = ddpm.prior_log_density(x_T)
        np.testing.assert_allclose(law.diffused(ZERO, T).log_density(x_T), normal, rtol=1e-13)


@pytest.mark.parametrize("target", NOT_EPS)
def test_gaussian_data_cost_nothing(target):
    """x_T is exactly N(0, I), so that the best model of Gaussian data is the data's law, M2 (2).

    With one variance of all coordinates its bound is tight too: -ELBO is the entropy, in the mean.
    """
    s2 = 0.25
    marginal = ZERO.alpha_bar * s2 + ZERO.one_minus_alpha_bar
    posterior_x0 = ZERO.sqrt_alpha_bar * s2 / marginal
    x0, noises = np.array([[0.5], [0.5], [-0.5], [-0.5]]), np.array([[1.0], [-1.0], [1.0], [-1.0]])

    def best(x_t, t):
        if target == "x0":
            return posterior_x0[t] * x_t
        if target == "mean":
            return ddpm.model_mean(ZERO, x_t, t, posterior_x0[t] * x_t, "x0")
        eps = ZERO.sqrt_one_minus_alpha_bar[t] / marginal[t] * x_t
        return ddpm.v_from_x0_and_eps(ZERO, t, posterior_x0[t] * x_t, eps)

    # x0 = +-1/2 and noise +-1 have the second moments of N(0, 1/4) and N(0, 1).
    sigma2 = estimators.optimal_variance(ZERO, best, x0, noise=lambda t: noises, target=target)
    np.testing.assert_allclose(
        sigma2, exact.optimal_variance_gaussian(ZERO, np.array([[s2]])), rtol=1e-12
    )
    terms = ddpm.elbo_decomposition(ZERO, best, x0, noise=lambda t: noises, sigma2=sigma2, target=target)
    assert np.all(terms.L_T == 0.0)
    entropy = 0.5 * math.log(2.0 * math.pi * math.e * s2)
    assert -np.mean(terms.total) == pytest.approx(entropy, abs=1e-12)
    chain = exact.gaussian_data_chain(ZERO, np.zeros(1), np.array([[s2]]), sigma2)
    true = ddpm.normal_log_density(x0, np.zeros_like(x0), s2)
    np.testing.assert_allclose(chain.log_density(x0), true, rtol=1e-12)
    assert chain.expected_gap(np.zeros(1), np.array([[s2]])) == pytest.approx(0.0, abs=1e-12)


def test_identities_hold_to_rounding():
    """Those that :func:`test_of_a_chain_is_the_limit` only compares with their neighbours."""
    for name in AT_INT_T | WHOLE:
        if "residual" in name and "quadrature" not in name:
            residual = (AT_INT_T | WHOLE)[name](ZERO)
            for part in residual if isinstance(residual, tuple) else (residual,):
                np.testing.assert_allclose(part, 0.0, atol=1e-11)
    chain = exact.gaussian_data_chain(ZERO, np.zeros(1), np.array([[0.25]]), SIGMA2)
    np.testing.assert_allclose(identities.quadrature_residual(chain, 0.4).total, 0.0, atol=1e-11)
    draws = np.random.default_rng(2).standard_normal((T + 1, 4000, 1))
    for scores in (identities.path_scores, identities.elbo_decomposition_scores):
        found = scores(chain, np.array([0.4]), draws)
        assert abs(float(found.total)) < 4.0
        assert found.L_T == 0.0 or scores is identities.path_scores


@pytest.mark.parametrize("target", NOT_EPS)
@pytest.mark.parametrize("function", [ddpm.heun_sample, ddpm.ddim_invert, ddpm.flow_log_likelihood])
def test_what_follows_the_flow_from_T_is_refused(function, target):
    with pytest.raises(ValueError, match=re.escape("schedule must have alpha_bar[T] above 1e-300")):
        function(ZERO, predict, X_T, target=target)


def test_fast_samplers_follow_the_flow_of_gaussian_data():
    """It maps N(0, 1) to N(0, 1/4) by x_T -> x_T / 2, from noise_to_signal = infinity.

    DDIM is DPM-Solver++ of order 1, whose error halves with the step; 2M is far nearer.
    """

    def error(T, sample, **settings):
        s = ddpm.zero_terminal_snr(ddpm.cosine_schedule(T))
        slope = 0.25 * s.sqrt_alpha_bar / (0.25 * s.alpha_bar + s.one_minus_alpha_bar)
        x_T = np.array([[1.0], [-2.0]])
        x_0 = sample(s, lambda x_t, t: slope[t] * x_t, x_T, target="x0", **settings)
        assert x_0[0] == pytest.approx(-0.5 * x_0[1], rel=1e-12)
        return float(x_0[0, 0]) - 0.5

    ddim, finer = error(100, ddpm.ddim_sample), error(200, ddpm.ddim_sample)
    assert ddim / finer == pytest.approx(2.0, abs=0.1)
    assert error(100, ddpm.dpm_solver_sample, order=1) == pytest.approx(ddim, abs=1e-12)
    assert abs(error(100, ddpm.dpm_solver_sample)) < 0.1 * abs(ddim)


@pytest.mark.parametrize("target", ["x0", "v"])
def test_the_first_step_is_of_order_1(target):
    """From T on h is infinite: the step is sigma_s x_T + signal_s x0, by DDIM and by both orders."""
    times = [2, 5, T]
    x0 = ddpm.predicted_x0(ZERO, X_T, T, predict(X_T, T), target)
    expected = ZERO.sqrt_one_minus_alpha_bar[5] * X_T + ZERO.sqrt_alpha_bar[5] * x0
    for path in (
        ddpm.ddim_sample(ZERO, predict, X_T, times=times, target=target, trajectory=True),
        *(
            ddpm.dpm_solver_sample(
                ZERO, predict, X_T, order=order, times=times, target=target, trajectory=True
            )
            for order in (1, 2)
        ),
    ):
        np.testing.assert_array_equal(path[3], X_T)
        np.testing.assert_allclose(path[2], expected, rtol=1e-14, atol=1e-14)
        assert np.all(np.isfinite(path))


def test_no_warning_of_the_prior():
    """Even of data that no other schedule would hide."""
    x0 = np.full((2, 3), 1e6)
    terms = ddpm.elbo_decomposition(
        ZERO, lambda x, t: x, x0, noise=lambda t: 0.0 * x0, sigma2=SIGMA2, target="x0"
    )
    assert np.all(terms.L_T == 0.0)
    assert not np.signbit(terms.L_T).any()


@pytest.mark.parametrize("target", NOT_EPS)
def test_on_other_libraries_and_devices(lib, dtype, target):
    x0, x_T, draws = (lib.array(x, dtype) for x in (X0, X_T, CHAIN_NOISE))
    settings = {"sigma2": SIGMA2, "target": target}
    terms = ddpm.elbo_decomposition(ZERO, predict, x0, noise=draws, **settings)
    sample = ddpm.ancestral_sample(ZERO, predict, x_T, noise=lambda t: draws[t, ...], **settings)
    assert np.all(lib.host(terms.L_T) == 0.0)
    host = ddpm.elbo_decomposition(ZERO, predict, X0, noise=CHAIN_NOISE, **settings)
    rounding = 1000 * np.finfo(dtype).eps
    np.testing.assert_allclose(lib.host(terms.total), host.total, rtol=rounding)
    expected = ddpm.ancestral_sample(ZERO, predict, X_T, noise=noise, **settings)
    np.testing.assert_allclose(lib.host(sample), expected, rtol=rounding, atol=rounding)


# --- what is made of it

SHORT = ddpm.zero_terminal_snr(ddpm.cosine_schedule(20))


def recipe_of(target):
    network, optimizer = MLPDenoiser(2, SHORT.T, 64, 2), Adam(cosine_decay(1e-2, 500))
    return Recipe(SHORT, network, optimizer, target, loss_and_gradient=mlp_loss_and_gradient)


def test_eps_is_refused_in_training():
    with pytest.raises(ValueError, match=REFUSED):
        recipe_of("eps")


@pytest.mark.parametrize("target", ["v", "x0"])
def test_trains_and_samples_the_roll(target, tmp_path):
    """No warning, no NaN, and samples that are nearer to the roll than the Gaussian of its moments."""
    recipe, path = recipe_of(target), tmp_path / "checkpoint.npz"
    data, fresh = ROLL.sample(4000, 0), ROLL.sample(2000, 1)
    trained = train(
        recipe,
        init_state(recipe, 0, np.asarray),
        batches(data, SHORT.T, 128, 0),
        GENERIC,
        steps=500,
        save=lambda state: save_checkpoint(path, recipe, state, {}, np.asarray),
    )
    state = load_checkpoint(path, recipe, {}, np.asarray)
    np.testing.assert_array_equal(state.average, trained.average)
    with pytest.raises(CheckpointError, match="from another noise schedule"):
        load_checkpoint(path, replace(recipe, schedule=ddpm.cosine_schedule(20)), {}, np.asarray)

    network = evaluation.predictor(recipe, state.average, GENERIC)
    rng = np.random.default_rng(2)
    draws = rng.standard_normal((SHORT.T + 1, *fresh.shape))
    settings = {"sigma2": ddpm.reverse_variance(SHORT, "beta"), "target": target}
    sample = ddpm.ancestral_sample(SHORT, network, draws[0], noise=lambda t: draws[t], **settings)
    gaussian = rng.multivariate_normal(np.mean(data, axis=0), np.cov(data.T), len(fresh))
    near, far = (sliced_wasserstein(x, fresh) for x in (sample, gaussian))
    assert near < 0.75 * far
    terms = ddpm.elbo_decomposition(SHORT, network, fresh, noise=draws, **settings)
    assert np.all(terms.L_T == 0.0)
    assert np.all(np.isfinite(terms.total))


def test_is_drawn(tmp_path):
    plotting.save(plotting.plot_schedule({"zero terminal": ZERO, "mild": MILD}), tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 0


@pytest.mark.parametrize("kind", ["float32", "float64"])
@pytest.mark.parametrize("target", NOT_EPS)
def test_passes_the_checker(target, kind):
    zero = ddpm.zero_terminal_snr(ddpm.cosine_schedule(50))
    report = check_identities(Reference(zero, "beta", target), target=target, dtype=kind)
    assert {row.verdict for row in report.rows} == {"holds"}, str(report)
    assert "zero terminal SNR" in report["betas: T numbers in (0, 1)"].explanation
