"""Gaussian densities and divergences, and the lemma on which q(x_t | x_0) rests.

Densities and divergences are in nats, of shape (B,): summed over all axes but the first. Means
share one shape, (B, ...). A variance is positive: a number, or an array that broadcasts along the
axes of the means, such as (B, 1, ...). Anything else raises TypeError or ValueError, but the values
of an array are not checked, as that would wait for its device.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_np._arrays import Array, array_namespace, check_arrays, check_dtype, device, sum_features
from ddpm_np._checks import as_floats, check_real, describe

LOG_2PI = math.log(2.0 * math.pi)


def normal_log_density(x: Array, mean: Array, variance: Array | float) -> Array:
    """Log-density of N(x; mean, variance I).

    log N = -1/2 * sum((x - mean)^2 / variance + log(variance) + log(2 pi))
    """
    xp = check_arrays(x=x, mean=mean)
    variance = _variance("variance", variance, x)
    return -0.5 * sum_features((x - mean) ** 2 / variance + (xp.log(variance) + LOG_2PI))


def kl_normal_1d(mean_1: Array, sigma_1: Array, mean_2: Array, sigma_2: Array) -> Array:
    """KL(N(mean_1, sigma_1^2) || N(mean_2, sigma_2^2)) of scalars, elementwise, L 1.3.

        KL = log(sigma_2 / sigma_1) + (sigma_1^2 + (mean_1 - mean_2)^2) / (2 sigma_2^2) - 1/2

    Arrays of one shape; the sigmas are standard deviations.
    """
    xp = check_arrays(mean_1=mean_1, sigma_1=sigma_1, mean_2=mean_2, sigma_2=sigma_2)
    return xp.log(sigma_2 / sigma_1) + (sigma_1**2 + (mean_1 - mean_2) ** 2) / (2.0 * sigma_2**2) - 0.5


def kl_isotropic(mean_1: Array, var_1: Array | float, mean_2: Array, var_2: Array | float) -> Array:
    """KL(N(mean_1, var_1 I) || N(mean_2, var_2 I)).

    KL = 1/2 * sum(r - 1 - log(r) + (mean_1 - mean_2)^2 / var_2),  r = var_1 / var_2
    """
    check_arrays(mean_1=mean_1, mean_2=mean_2)
    var_1, var_2 = _variance("var_1", var_1, mean_1), _variance("var_2", var_2, mean_1)
    return kl_isotropic_unchecked(mean_1, var_1, mean_2, var_2)


def kl_isotropic_unchecked(mean_1: Array, var_1: Array, mean_2: Array, var_2: Array) -> Array:
    """Compute :func:`kl_isotropic` for checked arrays, variances included."""
    xp = array_namespace(mean_1)
    ratio, excess = var_1 / var_2, (var_1 - var_2) / var_2
    # log1p(r - 1) keeps the digits of nearly equal variances, log(r) those of a small r.
    near_equal = xp.log1p(xp.maximum(excess, xp.full_like(excess, -0.5)))
    log_ratio = xp.where(ratio < 0.5, xp.log(ratio), near_equal)
    return 0.5 * sum_features((excess - log_ratio) + (mean_1 - mean_2) ** 2 / var_2)


def kl_full(
    mean_1: NDArray[np.float64],
    cov_1: NDArray[np.float64],
    mean_2: NDArray[np.float64],
    cov_2: NDArray[np.float64],
) -> float:
    """KL of two Gaussians with full covariance, L 6.2; host NumPy arrays, one divergence.

        KL = 1/2 * (log(det cov_2 / det cov_1) - d + tr(cov_2^-1 cov_1)
                    + (mean_2 - mean_1)^T cov_2^-1 (mean_2 - mean_1))

    Means of shape (d,), covariances of shape (d, d), symmetric and positive definite.
    """
    shift, factor_1, factor_2 = _shift_and_factors(mean_1, cov_1, mean_2, cov_2)
    # With M = L_2^-1 L_1, tr(cov_2^-1 cov_1) = |M|^2 and log det M = half the log-ratio.
    ratio = np.linalg.solve(factor_2, factor_1)
    white = np.linalg.solve(factor_2, shift)
    log_det = float(np.sum(np.log(np.diag(factor_2)) - np.log(np.diag(factor_1))))
    return log_det + 0.5 * (float(np.sum(ratio**2)) + float(white @ white) - len(shift))


def wasserstein2_full(
    mean_1: NDArray[np.float64],
    cov_1: NDArray[np.float64],
    mean_2: NDArray[np.float64],
    cov_2: NDArray[np.float64],
) -> float:
    """Wasserstein-2 distance (not squared) of two Gaussians; arguments as for :func:`kl_full`.

    W2^2 = ||mean_1 - mean_2||^2 + tr(cov_1 + cov_2 - 2 (cov_1^{1/2} cov_2 cov_1^{1/2})^{1/2})
    """
    shift, factor_1, factor_2 = _shift_and_factors(mean_1, cov_1, mean_2, cov_2)
    # The trace is the least ||L_1 - L_2 U||^2 over all rotations U, and so does not cancel.
    left, _, right = np.linalg.svd(factor_2.T @ factor_1)
    return float(np.hypot(np.linalg.norm(shift), np.linalg.norm(factor_1 - factor_2 @ left @ right)))


def marginalise(a: float, s2: float, b: float, t2: float) -> tuple[float, float]:
    """Slope and variance of x given z, with y marginalised out, M2 (37).

        integral of N(x; a y, s2) N(y; b z, t2) dy = N(x; a b z, s2 + t2 a^2)

    Arrays work elementwise.
    """
    for name, value in (("a", a), ("s2", s2), ("b", b), ("t2", t2)):
        if isinstance(value, int | float | np.generic):
            check_real(name, value, -1e150, 1e150)  # whose squares are finite
        else:
            check_dtype(name, value)
    return a * b, s2 + t2 * a**2


def _shift_and_factors(
    mean_1: object, cov_1: object, mean_2: object, cov_2: object
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return mean_2 - mean_1, and the Cholesky factors of both covariances."""
    mean_1, mean_2 = as_floats("mean_1", mean_1), as_floats("mean_2", mean_2)
    cov_1, cov_2 = as_floats("cov_1", cov_1), as_floats("cov_2", cov_2)
    d = mean_1.shape[0] if mean_1.ndim == 1 else 0
    for name, value, shape in (
        ("mean_1", mean_1, (d,)),
        ("mean_2", mean_2, (d,)),
        ("cov_1", cov_1, (d, d)),
        ("cov_2", cov_2, (d, d)),
    ):
        if d == 0 or value.shape != shape:
            raise ValueError(
                "mean_1, mean_2 must have shape (d,) and cov_1, cov_2 shape (d, d), "
                f"got {name} of shape {value.shape}"
            )
        if not np.all(np.isfinite(value)):
            raise ValueError(f"{name} must be finite, got NaN or infinity")
    symmetric = all(np.abs(c - np.transpose(c)).max() <= 1e-9 * np.abs(c).max() for c in (cov_1, cov_2))
    try:
        if not symmetric:
            raise np.linalg.LinAlgError
        factor_1, factor_2 = np.linalg.cholesky(cov_1), np.linalg.cholesky(cov_2)
    except np.linalg.LinAlgError:
        raise ValueError("cov_1 and cov_2 must be symmetric positive definite") from None
    return mean_2 - mean_1, factor_1, factor_2


def _variance(name: str, variance: Array | float, like: Array) -> Array:
    """Return a variance as an array; a number as one of shape ()."""
    xp = array_namespace(like)
    if isinstance(variance, int | float | np.generic):
        value = check_real(name, variance, 0.0, math.inf)
        return xp.asarray(value, dtype=like.dtype, device=device(like))
    shape = tuple(getattr(variance, "shape", (None,)))
    fits = all(a in (1, b) for a, b in zip(shape, like.shape, strict=False))
    if shape and not (fits and len(shape) == len(like.shape)):
        raise ValueError(
            f"{name} must be a number or have shape () or one that broadcasts along the axes of "
            f"{like.shape}, such as (B, 1, ...), got {describe(variance)}"
        )
    if not (type(variance) is type(like) and variance.dtype == like.dtype):
        check_dtype(name, variance)
        if array_namespace(variance) is not xp:
            raise TypeError(
                f"{name} must come from the same array library as the means, got {describe(variance)}"
            )
    return variance
