"""Data whose densities, entropies and Bayes-optimal denoisers are known exactly."""

from ddpm_np.estimators.variances import analytic_dpm_variance, optimal_variance, variance_from_eps_error
from ddpm_np.exact._gaussian import gaussian_points
from ddpm_np.exact.budget import Budget, Nats, NatsPerStep, error_budget
from ddpm_np.exact.chains import LinearGaussianChain
from ddpm_np.exact.curves import NoisyCurve, swiss_roll_exact
from ddpm_np.exact.estimator_moments import EstimatorMoments, Moments, linear_gaussian_moments
from ddpm_np.exact.gaussian_data import GaussianData, gaussian_data_chain, optimal_variance_gaussian
from ddpm_np.exact.linear_samplers import linear_sampler_law
from ddpm_np.exact.mixtures import IsotropicMixture, eight_gaussians_exact, mixture_1d_exact

__all__ = [
    "Budget",
    "EstimatorMoments",
    "GaussianData",
    "IsotropicMixture",
    "LinearGaussianChain",
    "Moments",
    "Nats",
    "NatsPerStep",
    "NoisyCurve",
    "analytic_dpm_variance",
    "eight_gaussians_exact",
    "error_budget",
    "gaussian_data_chain",
    "gaussian_points",
    "linear_gaussian_moments",
    "linear_sampler_law",
    "mixture_1d_exact",
    "optimal_variance",
    "optimal_variance_gaussian",
    "swiss_roll_exact",
    "variance_from_eps_error",
]
