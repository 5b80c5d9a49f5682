"""The best model of Gaussian data, as a chain, and its best reverse variances."""

import numpy as np

from ddpm_np._arrays import Table, from_1
from ddpm_np.exact._gaussian import principal_axes
from ddpm_np.exact.chains import LinearGaussianChain
from ddpm_np.schedules import Schedule, check_schedule


def gaussian_data_chain(
    schedule: Schedule, mean: Table, covariance: Table, sigma2: Table
) -> LinearGaussianChain:
    """Bayes-optimal model of data x_0 ~ N(mean, covariance): its means are E[x_{t-1} | x_t].

        C_t = alpha_bar[t] covariance + (1 - alpha_bar[t]) I, the covariance of x_t
        slopes[t] = sqrt(alpha[t]) C_{t-1} C_t^-1
        offsets[t] = sqrt(alpha_bar[t-1]) beta[t] C_t^-1 mean

    ``mean``, ``covariance`` and errors as for :func:`ddpm_np.exact.gaussian_points`; the best
    reverse variances, sigma2, are those of :func:`optimal_variance_gaussian`.
    """
    T, (centre, axes, _) = check_schedule(schedule).T, principal_axes(mean, covariance)
    variances = _diffused_variances(schedule, covariance)
    ratios = from_1(np.sqrt(schedule.alpha[1:, None]) * variances[:-1] / variances[1:])
    shifts = from_1(schedule.sqrt_alpha_bar[:T, None] * schedule.beta[1:, None] / variances[1:])
    slopes, offsets = (axes * ratios[:, None]) @ axes.T, (shifts * (centre @ axes)) @ axes.T
    return LinearGaussianChain(schedule, slopes, offsets, sigma2)


def optimal_variance_gaussian(schedule: Schedule, covariance: Table) -> Table:
    """Best reverse variances for Gaussian data and the Bayes-optimal means.

        sigma2[t] = tr Cov[x_{t-1} | x_t] / d = beta[t] tr(C_{t-1} C_t^-1) / d,  t = 1 ... T

    with C_t as in :func:`gaussian_data_chain`; for t >= 2 they maximise the expected L_{t-1},
    at t = 1 the expected L_0.

    Length T + 1, entry 0 is 0; errors as for :func:`ddpm_np.exact.gaussian_points`.
    """
    variances = _diffused_variances(check_schedule(schedule), covariance)
    ratios = np.mean(variances[:-1] / variances[1:], axis=1)
    return from_1(schedule.beta[1:] * ratios)


def _diffused_variances(schedule: Schedule, covariance: Table) -> Table:
    """Eigenvalues of C_t, shape (T + 1, d)."""
    _, _, variances = principal_axes(np.zeros(len(np.atleast_1d(covariance))), covariance)
    return schedule.alpha_bar[:, None] * variances + schedule.one_minus_alpha_bar[:, None]
