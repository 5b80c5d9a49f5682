"""Data whose densities, entropies and Bayes-optimal denoisers are known exactly."""

from ddpm_np.exact.curves import NoisyCurve, swiss_roll_exact
from ddpm_np.exact.mixtures import IsotropicMixture, eight_gaussians_exact, mixture_1d_exact

__all__ = [
    "IsotropicMixture",
    "NoisyCurve",
    "eight_gaussians_exact",
    "mixture_1d_exact",
    "swiss_roll_exact",
]
