"""Monte Carlo estimators of the bound, how to draw their times, and the best reverse variances."""

from ddpm_np.estimators.step_errors import StepErrors, elbo_from_errors, step_errors
from ddpm_np.estimators.three import (
    consistency_triple_integrand,
    entropy_constant,
    one_sample_estimate,
    posterior_entropy,
    t_sample_estimate,
    two_sample_conditional_variance,
    two_sample_estimate,
)
from ddpm_np.estimators.times import (
    importance_probabilities,
    importance_weight,
    low_discrepancy_times,
    spread_uniforms,
    times_from_uniforms,
)
from ddpm_np.estimators.variances import (
    analytic_dpm_variance,
    best_variance,
    optimal_variance,
    variance_from_eps_error,
)

__all__ = [
    "StepErrors",
    "analytic_dpm_variance",
    "best_variance",
    "consistency_triple_integrand",
    "elbo_from_errors",
    "entropy_constant",
    "importance_probabilities",
    "importance_weight",
    "low_discrepancy_times",
    "one_sample_estimate",
    "optimal_variance",
    "posterior_entropy",
    "spread_uniforms",
    "step_errors",
    "t_sample_estimate",
    "times_from_uniforms",
    "two_sample_conditional_variance",
    "two_sample_estimate",
    "variance_from_eps_error",
]
