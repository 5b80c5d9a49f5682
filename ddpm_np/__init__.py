"""Denoising diffusion from scratch: every equation a function, checked against exact answers.

Time is 1-based, t = 1..T; tables have length T + 1. The bound is in nats. Arrays may come
from any library that follows the array API standard.

Docstrings cite five documents: M2 and M1 are T. Masada's Japanese and English slides on the variational
inference of DDPM, J jojonki's notes, L J. Cao's lecture 23, D the notes "Day 5: DDPM". docs/equations.md
leads from each equation of M2 to its function and its test.
"""

from ddpm_np import _moved, posterior
from ddpm_np._arrays import Array, Noise, Predictor, Table
from ddpm_np.decoders import discretised_gaussian, gaussian_decoder
from ddpm_np.elbo import Elbo, PriorWarning, bits_per_dim, elbo_decomposition, middle_term, prior_term
from ddpm_np.flow import ddim_invert, exact_divergence, flow_log_likelihood, hutchinson
from ddpm_np.forward import q_moments, q_sample, q_step, q_step_moments, q_two_step_moments
from ddpm_np.gaussians import (
    kl_full,
    kl_isotropic,
    kl_normal_1d,
    marginalise,
    normal_log_density,
    wasserstein2_full,
)
from ddpm_np.guidance import respaced_predictor
from ddpm_np.losses import (
    bound_loss,
    bound_weight,
    eps_loss_weight,
    loss_constant,
    mean_loss_weight,
    min_snr_weight,
    simple_loss,
    v_loss_weight,
    x0_loss_weight,
)
from ddpm_np.posterior import posterior_mean_from_eps, q_posterior
from ddpm_np.reverse import learned_variance, model_mean, prior_log_density, reverse_variance
from ddpm_np.samplers import ancestral_sample, ddim_sample, dpm_solver_sample, heun_sample
from ddpm_np.schedules import (
    Schedule,
    cosine_schedule,
    linear_schedule,
    log_snr_times,
    quadratic_schedule,
    quadratic_times,
    respaced_schedule,
    scaled_linear_schedule,
    schedule_from_alpha_bar,
    schedule_from_beta,
    sigmoid_schedule,
    trailing_times,
    uniform_times,
    zero_terminal_snr,
)
from ddpm_np.targets import (
    eps_from_mean,
    eps_from_v,
    eps_from_x0,
    predicted_eps,
    predicted_x0,
    training_target,
    v_from_x0_and_eps,
    x0_from_eps,
    x0_from_mean,
    x0_from_v,
)

_moved.forward(posterior)  # it used to hold the conversions in targets

__version__ = "0.1.0"

__all__ = [
    "Array",
    "Elbo",
    "Noise",
    "Predictor",
    "PriorWarning",
    "Schedule",
    "Table",
    "ancestral_sample",
    "bits_per_dim",
    "bound_loss",
    "bound_weight",
    "cosine_schedule",
    "ddim_invert",
    "ddim_sample",
    "discretised_gaussian",
    "dpm_solver_sample",
    "elbo_decomposition",
    "eps_from_mean",
    "eps_from_v",
    "eps_from_x0",
    "eps_loss_weight",
    "exact_divergence",
    "flow_log_likelihood",
    "gaussian_decoder",
    "heun_sample",
    "hutchinson",
    "kl_full",
    "kl_isotropic",
    "kl_normal_1d",
    "learned_variance",
    "linear_schedule",
    "log_snr_times",
    "loss_constant",
    "marginalise",
    "mean_loss_weight",
    "middle_term",
    "min_snr_weight",
    "model_mean",
    "normal_log_density",
    "posterior_mean_from_eps",
    "predicted_eps",
    "predicted_x0",
    "prior_log_density",
    "prior_term",
    "q_moments",
    "q_posterior",
    "q_sample",
    "q_step",
    "q_step_moments",
    "q_two_step_moments",
    "quadratic_schedule",
    "quadratic_times",
    "respaced_predictor",
    "respaced_schedule",
    "reverse_variance",
    "scaled_linear_schedule",
    "schedule_from_alpha_bar",
    "schedule_from_beta",
    "sigmoid_schedule",
    "simple_loss",
    "trailing_times",
    "training_target",
    "uniform_times",
    "v_from_x0_and_eps",
    "v_loss_weight",
    "wasserstein2_full",
    "x0_from_eps",
    "x0_from_mean",
    "x0_from_v",
    "x0_loss_weight",
    "zero_terminal_snr",
]
