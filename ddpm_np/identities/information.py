"""The entropy of data as an integral of denoising errors: an equality, where the bound is none."""

import math

import numpy as np

from ddpm_np._checks import check_integer, describe
from ddpm_np.exact import IsotropicMixture, NoisyCurve
from ddpm_np.exact._quadrature import composite_rule
from ddpm_np.gaussians import LOG_2PI
from ddpm_np.schedules import schedule_from_beta

# Gauss-Legendre nodes on panels of this length in the logarithm below: to about 1e-10.
PANEL, NODES_PER_PANEL = 4.0, 16
# The signal-to-noise ratio, for data of variance 1, below which nothing is known of x_0.
LEAST = 1e-7


def entropy_from_mmse(law: IsotropicMixture | NoisyCurve, *, nodes: int = 10) -> float:
    """Differential entropy by the I-MMSE relation, Guo, Shamai & Verdu 2005, Kong et al. 2023; d <= 2.

        H(x_0) = d/2 log(2 pi e) - 1/2 * integral over gamma > 0 of (d / (1 + gamma) - mmse(gamma))
        mmse(gamma) = E||x_0 - E[x_0 | x_t]||^2  where  alpha_bar[t] / (1 - alpha_bar[t]) = gamma
                    = (d - E||E[eps | x_t]||^2) / gamma
                    = (d - (1 - alpha_bar[t]) E||score(x_t)||^2) / gamma  (Tweedie)

    gamma (d / (1 + gamma) - mmse) = E||E[eps | x_t]||^2 - d / (1 + gamma) cancels at neither end. The
    variable is log(gamma / (1 + s2 gamma)), s2 = min(1, std^2), which is finite at gamma = infinity.
    ``nodes``, >= 2, are those of each expectation, as in :meth:`IsotropicMixture.entropy`. In nats.
    """
    if not isinstance(law, IsotropicMixture | NoisyCurve):
        raise TypeError(f"law must be an IsotropicMixture or a NoisyCurve, got {describe(law)}")
    nodes = check_integer("nodes", nodes, 2)
    mixture = law if isinstance(law, IsotropicMixture) else law.mixture()
    d, s2 = mixture.d, min(1.0, mixture.std**2)
    spread = mixture.means - mixture.weights @ mixture.means
    variance = d * mixture.std**2 + float(mixture.weights @ np.sum(spread**2, axis=1))
    least = LEAST / (d + variance)
    low, high = -math.log(1.0 / least + s2), -math.log(s2)
    edges = np.linspace(low, high, 1 + math.ceil((high - low) / PANEL))
    u, weights = (ascending[::-1] for ascending in composite_rule(edges, NODES_PER_PANEL))
    inverse_gamma = s2 * np.expm1(high - u)
    # alpha_bar = 1 / (1 + 1 / gamma), by way of beta, as it may be within rounding of 1.
    schedule = schedule_from_beta(np.diff(inverse_gamma, prepend=0.0) / (1.0 + inverse_gamma))
    total = least * (d - variance)  # up to there mmse is the variance
    for t in range(1, schedule.T + 1):
        signal, noise = float(schedule.alpha_bar[t]), float(schedule.one_minus_alpha_bar[t])
        known = noise * law.diffused(schedule, t).fisher_information(nodes=nodes)
        total += weights[t - 1] * (1.0 + s2 * signal / noise) * (known - d * noise)
    return 0.5 * (d * (1.0 + LOG_2PI) - float(total))
