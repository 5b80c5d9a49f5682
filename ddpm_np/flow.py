"""The probability flow from data to noise, Song et al. 2021 (arXiv 2011.13456), section 4.3.

    dy/ds = eps(x, t),  y = x / sqrt(alpha_bar[t]),  s = sqrt((1 - alpha_bar[t]) / alpha_bar[t])

Arguments are those of :mod:`ddpm_np.samplers`, which go the other way. Likelihoods are in nats, of shape
(B,); d is the size of one example.

A divergence is a callable (x_t, t) -> array of shape (B,): the trace of the derivative by x_t of the
predicted noise, whatever the target. The two here take products v' J with the Jacobian of the
prediction, which a predictor may offer by an attribute vjp, as those of
:func:`ddpm_np.runs.evaluation.predictor` do: vjp(x_t, t) -> (prediction, pullback), where pullback(v) is
v' J, of the shape of v. For any other predictor they take differences of two predictions.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from ddpm_np._arrays import (
    Array,
    Predictor,
    array_namespace,
    ask,
    check_arrays,
    coefficient,
    device,
    sum_features,
)
from ddpm_np._checks import check_callable, check_choice, check_integer, describe
from ddpm_np.reverse import check_predictor, prior_log_density
from ddpm_np.samplers import check_sampling, first_failure, flow_times, walk
from ddpm_np.schedules import Schedule
from ddpm_np.targets import TARGETS, Target, predicted_eps_unchecked

Divergence: TypeAlias = Callable[[Array, int], Array]
"""(x_t, t) to the divergence of the predicted noise by x_t, shape (B,)."""


def ddim_invert(
    schedule: Schedule,
    predict: Predictor,
    x_0: Array,
    *,
    times: Sequence[int] | None = None,
    target: Target = "eps",
    trajectory: bool = False,
) -> Array:
    """The x_T that DDIM with eta = 0 maps to x_0, to rounding: each of its steps is solved for x_t.

        x_t = sqrt(alpha_bar[t]) (y_s + (t - s) eps(x_t, t)),  in the flow's variables

    by iteration, each example extrapolated along its last change (Anderson's method of depth 1). If one
    does not settle in 200 rounds, as may happen where steps are long, that is a FloatingPointError. (To
    ask for eps(x_s, s) instead, as is often done, leads to another x_T.) Waits for the device.
    """
    visits = check_sampling(schedule, predict, x_0, times, target, "x_0")
    flow, signal = flow_times(schedule), schedule.sqrt_alpha_bar
    c = partial(coefficient, like=x_0)

    def steps() -> Iterator[Array]:
        x = x_0
        for s, t in itertools.pairwise(visits):
            start, step = c(signal[t] / signal[s]) * x, c(signal[t] * (flow[t] - flow[s]))

            def move(x: Array, t: int = t, start: Array = start, step: float = step) -> Array:
                eps = predicted_eps_unchecked(schedule, x, t, ask(predict, x, t), target)
                return start + step * eps

            x = _fixed_point(move, start, abs(step), f"from t = {s} to {t}")
            yield x

    return walk(steps(), x_0, visits, trajectory)


def flow_log_likelihood(
    schedule: Schedule,
    predict: Predictor,
    x0: Array,
    *,
    times: Sequence[int] | None = None,
    target: Target = "eps",
    prior: Callable[[Array], Array] | None = None,
    divergence: Divergence | None = None,
) -> Array:
    """Log-density of x0 under the flow that samples from the prior; there, appendix D.2.

        log p(x_0) = log p(x_T) + d / 2 log(alpha_bar[T])
                   + integral from 0 to s[T] of sqrt(alpha_bar[t]) divergence(x_t, t) ds

    x_t comes from x_0 by Heun's method in (y, s), the integral from the trapezoid rule on it: the
    error is of second order in the steps. At s = 0 the noise and its divergence are 0. The network is
    asked twice at each time but the last, the divergence once. For images, which have levels, see
    :func:`ddpm_np.data.images.dequantise`.

    Parameters
    ----------
    prior : callable x_T -> array of shape (B,)
        Log-density of x_T; None for N(0, I), M2 (30).
    divergence : callable (x_t, t) -> array of shape (B,)
        None for :func:`exact_divergence`.

    Raises
    ------
    FloatingPointError
        If something on the way is not finite; the message says from which t on.
    """
    visits = check_sampling(schedule, predict, x0, times, target, "x0")
    flow, signal = flow_times(schedule), schedule.sqrt_alpha_bar
    prior = prior_log_density if prior is None else prior
    check_callable("prior", prior)
    if divergence is None:
        divergence = exact_divergence(schedule, predict, target)
    check_callable("divergence", divergence)
    c, xp = partial(coefficient, like=x0), array_namespace(x0)

    def slope(x: Array, t: int) -> Array:
        return predicted_eps_unchecked(schedule, x, t, ask(predict, x, t), target)

    x = y = x0
    integral = rate = sum_features(xp.zeros_like(x0))
    finite = []
    with np.errstate(over="ignore", invalid="ignore"):  # what they leave is looked for below
        for s, t in itertools.pairwise(visits):
            step = c(flow[t] - flow[s])
            d = slope(x, s) if s > 0 else xp.zeros_like(x0)
            y = y + 0.5 * step * (d + slope(c(signal[t]) * (y + step * d), t))
            x = c(signal[t]) * y
            rate_before, rate = rate, c(signal[t]) * _checked("divergence", divergence(x, t), x0)
            integral = integral + 0.5 * step * (rate_before + rate)
            finite.append(xp.all(xp.isfinite(x)) & xp.all(xp.isfinite(integral)))
        log_p = _checked("prior", prior(x), x0)
    finite.append(xp.all(xp.isfinite(log_p)))
    failed = first_failure(finite)
    if failed is not None:
        raise FloatingPointError(
            f"the flow's likelihood is not finite from t = {[*visits, schedule.T][failed + 1]} on: the "
            "prediction, its divergence or the prior there is not finite, or too large; a network may "
            "need longer training"
        )
    volume = 0.5 * math.prod(x0.shape[1:]) * float(schedule.log_alpha_bar[-1])
    return log_p + volume + integral


def exact_divergence(schedule: Schedule, predict: Predictor, target: Target = "eps") -> Divergence:
    """Divergence of the predicted noise by d products with unit vectors: sum over j of e_j' J e_j."""
    form = _quadratic_form(schedule, predict, target)

    def divergence(x_t: Array, t: int) -> Array:
        product = form(x_t, t)
        xp, shape, d = array_namespace(x_t), x_t.shape[1:], math.prod(x_t.shape[1:])
        total, numbers = 0.0, xp.arange(d, device=device(x_t))
        for j in range(d):
            unit = xp.reshape(xp.astype(numbers == j, x_t.dtype), (1, *shape))
            total = total + product(xp.zeros_like(x_t) + unit)
        return total

    return divergence


def hutchinson(
    schedule: Schedule, predict: Predictor, signs: Array, target: Target = "eps"
) -> Divergence:
    """Hutchinson's estimate of the divergence of the predicted noise, by one product: signs' J signs.

    Unbiased if the signs are -1 or 1, each with probability 1/2, independently: ``2.0 *
    rng.integers(0, 2, x0.shape) - 1.0``. They have the shape of x0 and stay the same at all t. So the
    estimate of log p(x_0) is unbiased too, and a mean over examples has a standard error that covers
    both; for that of one example, let x0 hold it several times.
    """
    xp = check_arrays(signs=signs)
    if not bool(xp.all(xp.abs(signs) == 1.0)):
        raise ValueError("signs must all be -1 or 1")
    form = _quadratic_form(schedule, predict, target)

    def divergence(x_t: Array, t: int) -> Array:
        product = form(x_t, t)
        check_arrays(x_t=x_t, signs=signs)
        return product(signs)

    return divergence


def _quadratic_form(
    schedule: Schedule, predict: Predictor, target: Target
) -> Callable[[Array, int], Callable[[Array], Array]]:
    """(x_t, t) to a function of v: v' J v, shape (B,), with J the Jacobian of the predicted noise."""
    check_choice("target", target, TARGETS)
    check_predictor(schedule, predict)
    vjp = getattr(predict, "vjp", None)

    def form(x_t: Array, t: int) -> Callable[[Array], Array]:
        check_arrays(x_t=x_t)
        t = check_integer("t", t, 1, schedule.T)
        product = _by_differences(schedule, predict, x_t, t) if vjp is None else _by_vjp(vjp, x_t, t)
        # The noise is affine in x_t and the prediction, so v' J v is the same function of theirs.
        return lambda v: predicted_eps_unchecked(schedule, sum_features(v * v), t, product(v), target)

    return form


def _by_vjp(vjp: Callable[..., Any], x_t: Array, t: int) -> Callable[[Array], Array]:
    _, pullback = vjp(x_t, t)
    return lambda v: sum_features(pullback(v) * v)


def _by_differences(
    schedule: Schedule, predict: Predictor, x_t: Array, t: int
) -> Callable[[Array], Array]:
    """Central differences. The noise varies with x_t over the width of q(x_t | x_0), M2 (22).

    With the third root of the rounding, times that, both errors are of its power 2/3.
    """
    eps = float(array_namespace(x_t).finfo(x_t.dtype).eps)
    step = eps ** (1.0 / 3.0) * float(schedule.sqrt_one_minus_alpha_bar[t])

    def product(v: Array) -> Array:
        above, below = x_t + step * v, x_t - step * v
        change = ask(predict, above, t) - ask(predict, below, t)
        # Divided by the step as it is after rounding.
        return sum_features(v * change) / (sum_features(v * (above - below)) / sum_features(v * v))

    return product


# --- parts and checks ------------------------------------------------------------------------


def _fixed_point(move: Callable[[Array], Array], start: Array, step: float, where: str) -> Array:
    """Solve x = move(x) for each example, to the rounding of start + step * noise."""
    xp, d = array_namespace(start), math.prod(start.shape[1:])
    eps2 = float(xp.finfo(start.dtype).eps) ** 2
    enough = 4096.0 * eps2 * (sum_features(start**2) + step**2 * d)
    moved = move(start)
    change, x = moved - start, moved
    for _ in range(200):
        moved_before, change_before = moved, change
        moved = move(x)
        change = moved - x
        # Far out, where iterates run away, rounding hides that they still move.
        if bool(xp.all(sum_features(change**2 + eps2 * moved**2) <= enough)):
            return moved
        turn = change - change_before
        along, size = sum_features(change * turn), sum_features(turn**2)
        share = along / xp.where(size > 0.0, size, xp.ones_like(size))
        x = moved - xp.reshape(share, (-1,) + (1,) * (len(x.shape) - 1)) * (moved - moved_before)
    raise FloatingPointError(
        f"inversion does not settle {where}: the step is too long, no x_t leads there, or the "
        "prediction is not finite; visit more times"
    )


def _checked(name: str, values: Array, x: Array) -> Array:
    """Return what a callable said, if it is one number per example, of the dtype of x."""
    if getattr(values, "shape", None) != x.shape[:1] or values.dtype != x.dtype:
        raise ValueError(
            f"{name} must return shape (B,) = ({x.shape[0]},), one number per example, of dtype "
            f"{x.dtype}, got {describe(values)}"
        )
    return values
