"""Adam, the average of the parameters and a short training run, in 40 digits and as printed."""

from typing import Any

import mpmath
import numpy as np

from tests.vectors.network_formulas import Outputs, mlp_loss_gradient
from tests.vectors.tolerances import midway

_sqrt = np.frompyfunc(mpmath.sqrt, 1, 1)
NONE = (0, 0, 0, 0)
"""Sums over no gradients, and of their weights."""


def adam(
    rates: Any, beta_1: Any, beta_2: Any, epsilon: Any, weight_decay: Any, params: Any, grads: Any
) -> Outputs:
    """The parameters after each update."""
    sums, moved = NONE, []
    for rate, grad in zip(rates, grads, strict=True):
        sums, update = _adam_update(sums, grad, beta_1, beta_2, epsilon)
        params = params - (update + params * weight_decay) * rate
        moved.append(params)
    return {"params": np.array(moved)}


def ema(decay: Any, params0: Any, updates: Any) -> Outputs:
    """The average after each update."""
    averages, average = [], params0
    for n, params in enumerate(updates):
        share = _share(decay, n)
        average = average * share + params * (1 - share)
        averages.append(average)
    return {"average": np.array(averages)}


def training(
    beta: Any, weights: Any, x0: Any, t: Any, noise: Any, rates: Any, target: str, decay: Any
) -> Outputs:
    """Steps of Algorithm 1 on given batches, by Adam with its usual settings."""
    alpha_bar = np.cumprod(np.array([mpmath.mpf(1), *(1 - b for b in beta)], dtype=object))
    names, shapes = list(weights), [w.shape for w in weights.values()]
    flat = np.concatenate([w.ravel() for w in weights.values()])
    average, losses, sums = flat, [], NONE
    # the float64s that are nearest the decimals
    settings = [mpmath.mpf(x) for x in (0.9, 0.999, 1e-8)]
    for n, rate in enumerate(rates):
        a, s = _sqrt(alpha_bar[t[n]])[:, None], _sqrt(1 - alpha_bar[t[n]])[:, None]
        truth = {"eps": noise[n], "x0": x0[n], "v": a * noise[n] - s * x0[n]}[target]
        x_t, ones = midway(a * x0[n] + s * noise[n]), np.ones(len(a), dtype=object)
        cut = np.split(flat, np.cumsum([np.prod(shape, dtype=int) for shape in shapes])[:-1])
        named = {name: w.reshape(s) for name, w, s in zip(names, cut, shapes, strict=True)}
        found = mlp_loss_gradient(len(beta), named, x_t, t[n], truth, ones)
        losses.append(found["loss"])
        grad = np.concatenate([found[f"d{name}"].ravel() for name in names])
        sums, update = _adam_update(sums, grad, *settings)
        flat = flat - update * rate
        share = _share(decay, n)
        average = average * share + flat * (1 - share)
    return {"losses": np.array(losses), "params": flat, "average": average}


def _adam_update(
    sums: tuple[Any, ...], grad: Any, beta_1: Any, beta_2: Any, epsilon: Any
) -> tuple[tuple[Any, ...], Any]:
    """The update before its rate: both moments as what they are, weighted means of all gradients."""
    a, a_weights, b, b_weights = sums
    a, a_weights = a * beta_1 + grad, a_weights * beta_1 + 1
    b, b_weights = b * beta_2 + grad * grad, b_weights * beta_2 + 1
    return (a, a_weights, b, b_weights), a / a_weights / (_sqrt(b / b_weights) + epsilon)


def _share(decay: Any, n: int) -> Any:
    """What the average keeps at update number n, from 0."""
    return min(decay, mpmath.mpf(1 + n) / (10 + n))
