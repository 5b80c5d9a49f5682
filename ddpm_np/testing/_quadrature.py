"""Normal densities, and expectations of them by quadrature; elementwise, in nats."""

import numpy as np

from ddpm_np.testing.protocol import Values

# Gauss-Hermite for the standard normal law: exact for polynomials of degree 5.
NODES, WEIGHTS = np.array([-np.sqrt(3.0), 0.0, np.sqrt(3.0)]), np.array([1.0, 4.0, 1.0]) / 6.0


def log_normal(x: Values, mean: Values | float, variance: Values | float) -> Values:
    """Log-density of a normal law."""
    return -0.5 * ((x - mean) ** 2 / variance + np.log(2.0 * np.pi * variance))


def kl_by_quadrature(mean_1: Values, var_1: float, mean_2: Values, var_2: float) -> Values:
    """KL of two normal laws, as the expectation of log p_1 - log p_2 under the first."""
    total: Values = np.zeros_like(mean_1)
    for node, weight in zip(NODES.tolist(), WEIGHTS.tolist(), strict=True):
        x = mean_1 + np.sqrt(var_1) * node
        total += weight * (log_normal(x, mean_1, var_1) - log_normal(x, mean_2, var_2))
    return total
