"""Gaussian data: its principal axes, and points that stand for all of it."""

import numpy as np
from numpy.typing import NDArray

from ddpm_np._arrays import Samples, Table
from ddpm_np._checks import as_floats, describe


def gaussian_points(mean: Table, covariance: Table) -> Samples:
    """2 d points whose average of any quadratic is its expectation under N(mean, covariance).

        mean + sqrt(d) L e_i and mean - sqrt(d) L e_i,  L L^T = covariance

    Parameters
    ----------
    mean : array, shape (d,)
    covariance : array, shape (d, d)
        Symmetric positive definite.

    Returns
    -------
    array, shape (2 d, d)

    Raises
    ------
    TypeError, ValueError
        If a shape is wrong or the covariance is not positive definite.
    """
    centre, axes, variances = principal_axes(mean, covariance)
    steps = np.sqrt(len(centre) * variances)[:, None] * axes.T
    return np.concatenate([centre + steps, centre - steps])


def principal_axes(mean: Table, covariance: Table) -> tuple[Table, Table, Table]:
    """The mean, and eigenvectors (as columns) and eigenvalues of the covariance."""
    mean, covariance = finite_array("mean", mean), finite_array("covariance", covariance)
    d = mean.size
    if mean.shape != (d,) or covariance.shape != (d, d) or d == 0:
        raise ValueError(
            f"mean must have shape (d,) and covariance (d, d), got {mean.shape} and {covariance.shape}"
        )
    variances, axes = np.linalg.eigh(covariance)
    asymmetry = float(np.max(np.abs(covariance - covariance.T)))
    if asymmetry > 1e-10 * float(np.max(np.abs(covariance))) or not variances[0] > 0.0:
        raise ValueError(
            "covariance must be symmetric positive definite, "
            f"got smallest eigenvalue {variances[0]:g}, asymmetry {asymmetry:g}"
        )
    return mean, axes, variances


def finite_array(name: str, values: object) -> NDArray[np.float64]:
    """Return finite host values as a new float64 array."""
    array = as_floats(name, values)
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} must be finite, got {describe(values)}")
    return array
