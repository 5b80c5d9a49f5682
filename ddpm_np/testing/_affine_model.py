"""A model whose every step is affine, so that all that follows from it is known.

Its network is the exact denoiser of x_0 ~ N(MEAN, VARIANCE I). Whole loops and bounds of an
implementation are measured with this network.
"""

import math

import numpy as np

from ddpm_np._arrays import Table
from ddpm_np._checks import check_integer
from ddpm_np.targets import Target
from ddpm_np.testing._quadrature import log_normal
from ddpm_np.testing._subject import as_values
from ddpm_np.testing._truth import Truth
from ddpm_np.testing.protocol import Predict, Values

MEAN, VARIANCE = 0.3, 0.25


def denoiser(truth: Truth) -> tuple[Table, Table]:
    """E[eps | x_t] = gain[t] x_t + offset[t]."""
    gain = truth.sigma / (truth.alpha_bar * VARIANCE + truth.variance)
    return gain, -gain * truth.slope * MEAN


def model_steps(truth: Truth) -> tuple[Table, Table]:
    """Slopes and offsets of the model's mean of x_{t-1} in x_t: E[x_0 | x_t] put into (26)."""
    slope, offset = _x0(truth)
    return truth.c_xt + truth.c_x0 * slope, truth.c_x0 * offset


def recording_predictor(truth: Truth, target: Target = "eps") -> tuple[Predict, dict[int, Values]]:
    """Return the denoiser as a network, and a record of the x_t that it was last asked at each t."""
    tables = _network(truth, target)
    asked: dict[int, Values] = {}

    def predict(x_t: Values, t: int) -> Values:
        if np.ndim(t) == 0 and t == 0:
            raise ValueError("predict is told t = 0, but times go from 1 to T; does it count from 0?")
        t = check_integer("the t that predict is asked for", t, 1, truth.T)
        x = as_values(x_t, "the x_t that predict is asked for")
        asked[t] = x
        return tables[0][t] * x + tables[1][t]

    return predict, asked


def _network(truth: Truth, target: Target) -> tuple[Table, Table]:
    """Gains and offsets in x_t of what the network predicts."""
    (gain, offset), (slope_0, offset_0) = denoiser(truth), _x0(truth)
    if target == "eps":
        return gain, offset
    if target == "x0":
        return slope_0, offset_0
    if target == "mean":
        return model_steps(truth)
    v_gain = truth.slope * gain - truth.sigma * slope_0
    return v_gain, truth.slope * offset - truth.sigma * offset_0


def _x0(truth: Truth) -> tuple[Table, Table]:
    """E[x_0 | x_t] = slope[t] x_t + offset[t]."""
    slope = truth.slope * VARIANCE / (truth.alpha_bar * VARIANCE + truth.variance)
    return slope, MEAN * (1.0 - slope * truth.slope)


def gap_and_evidence(truth: Truth, x0: Values, sigma2: Table) -> tuple[Values, Values]:
    """KL(q(x_{1:T} | x_0) || p(x_{1:T} | x_0)) and log p(x_0), elementwise in x0, in nats.

        x_{t-1} = slopes[t] x_t + offsets[t] + sqrt(sigma2[t]) z,  x_T = z

    The model is composed from T to 0, each step is inverted by Gaussian conditioning, and the
    divergence is summed forwards along the chain; nothing is telescoped.
    """
    T, (slopes, offsets) = truth.T, model_steps(truth)
    mean, var = np.zeros(T + 1), np.ones(T + 1)  # of x_t under the model
    for t in range(T, 0, -1):
        mean[t - 1] = slopes[t] * mean[t] + offsets[t]
        var[t - 1] = slopes[t] ** 2 * var[t] + sigma2[t]
    gap = np.zeros_like(x0)
    for t in range(1, T + 1):
        gain = slopes[t] * var[t] / var[t - 1]
        left = var[t] * sigma2[t] / var[t - 1]
        extra = math.sqrt(truth.alpha[t]) - gain
        shift = extra * truth.slope[t - 1] * x0 - (mean[t] - gain * mean[t - 1])
        ratio = truth.beta[t] / left
        square = extra**2 * truth.variance[t - 1] + shift**2
        gap += 0.5 * (ratio - 1.0 - math.log(ratio) + square / left)
    return gap, log_normal(x0, mean[0], var[0])
