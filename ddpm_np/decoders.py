"""Decoders p(x_0 | x_1): the last step of the model, scored by L_0."""

from typing import Protocol

from ddpm_np._arrays import Array
from ddpm_np.gaussians import normal_log_density


class Decoder(Protocol):
    """Log-likelihood of x0 when the model's last step has this mean and variance."""

    def __call__(self, x0: Array, mean: Array, variance: float) -> Array:
        """Return log p(x_0 | x_1), shape (B,), in nats."""
        ...


def gaussian_decoder(x0: Array, mean: Array, variance: float) -> Array:
    """Gaussian decoder p(x_0 | x_1) = N(mean, variance I), for continuous data.

    Parameters
    ----------
    x0, mean : array, shape (B, ...)
        Observations, and the model mean mu_theta(x_1, 1).
    variance : float
        sigma_1^2, positive.

    Returns
    -------
    array, shape (B,)
        Log-densities in nats; a density may exceed 1, so they may be positive.
    """
    return normal_log_density(x0, mean, variance)
