"""The map between two mixtures in one dimension that keeps quantiles; host float64."""

import numpy as np
from numpy.typing import NDArray

from ddpm_np._arrays import Table
from ddpm_np.gaussians import LOG_2PI

EPS = float(np.finfo(np.float64).eps)
# If all of them halved a bracket, it would be 1e60 times as narrow.
MOST_ROUNDS = 200


def keep_quantiles(
    x: Table, weights: Table, source: tuple[Table, float], target: tuple[Table, float]
) -> Table:
    """Map x so that F_target(result) = F_source(x); source and target are means and std."""
    means, std = source
    below, above = (mixture_tail(sign * x, weights, sign * means, std)[0] for sign in (1.0, -1.0))
    result, means, std = np.empty_like(x), *target
    # The smaller tail keeps its digits: the upper one is the lower one seen in a mirror.
    for sign, rows, log_tail in ((1.0, below <= above, below), (-1.0, below > above, above)):
        result[rows] = sign * mixture_quantile(log_tail[rows], weights, sign * means, std)
    return result


def mixture_tail(x: Table, weights: Table, means: Table, std: float) -> tuple[Table, Table]:
    """Log-probability of being below x, and its derivative; all of x and means of one axis.

    log F(x) = log(sum over k of weights[k] * Phi((x - means[k]) / std))
    """
    from scipy.special import log_ndtr  # slow to import

    z, log_weights = (x[:, None] - means) / std, np.log(weights)
    log_tail = np.logaddexp.reduce(log_weights + log_ndtr(z), axis=1)
    log_density = np.logaddexp.reduce(log_weights - 0.5 * z**2, axis=1) - np.log(std) - 0.5 * LOG_2PI
    return log_tail, np.exp(log_density - log_tail)


def mixture_quantile(log_tail: Table, weights: Table, means: Table, std: float) -> Table:
    """Solve log F(x) = log_tail for x, to rounding; log_tail is of one axis and at most log(1/2).

    By Newton's method, which far out converges from anywhere. Where a step would leave the bracket
    or would not halve the step before last, in the gaps between components, the bracket is halved.
    """
    from scipy.special import ndtri_exp  # slow to import

    # The quantile of a mixture lies between those of its components.
    far = std * ndtri_exp(log_tail)  # to 1e-12
    slack = 1e-11 * np.abs(far) + EPS * (np.max(np.abs(means)) + std)
    low, high = np.min(means) + far - slack, np.max(means) + far + slack
    x = 0.5 * (low + high)
    last = before_last = high - low
    todo: NDArray[np.intp] = np.arange(len(x))
    for _ in range(MOST_ROUNDS):
        found, slope = mixture_tail(x[todo], weights, means, std)
        error = found - log_tail[todo]
        low[todo] = np.where(error <= 0.0, x[todo], low[todo])
        high[todo] = np.where(error >= 0.0, x[todo], high[todo])
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # then it is halved
            newton = -error / slope
            new = x[todo] + newton
        safe = (low[todo] <= new) & (new <= high[todo])
        safe &= 2.0 * np.abs(newton) <= np.abs(before_last[todo])
        new = np.where(safe, new, 0.5 * (low[todo] + high[todo]))
        before_last[todo], last[todo] = last[todo], new - x[todo]
        x[todo] = new
        todo = todo[np.abs(last[todo]) > 2.0 * EPS * np.maximum(np.abs(new), std)]
        if not len(todo):
            break
    return x
