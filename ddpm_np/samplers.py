"""Sampling from the model: noise into data. One algorithm, one function."""

import math
from collections.abc import Callable

import numpy as np

from ddpm_np._arrays import Array, Predictor, Table, array_namespace, ask, check_arrays, check_finite
from ddpm_np._checks import check_callable, check_choice, check_flag
from ddpm_np.reverse import check_predictor, check_variances, model_mean_unchecked
from ddpm_np.schedules import Schedule, check_schedule
from ddpm_np.targets import TARGETS, Target


def ancestral_sample(
    schedule: Schedule,
    predict: Predictor,
    x_T: Array,
    *,
    noise: Callable[[int], Array],
    sigma2: Table,
    target: Target = "eps",
    trajectory: bool = False,
) -> Array:
    """Draw x_0 from the model by walking the chain backwards, Ho Algorithm 2, J (13).

        for t = T ... 1:
            x_{t-1} = model_mean(x_t, t) + sqrt(sigma2[t]) * z,  z ~ N(0, I), but z = 0 at t = 1

    Parameters
    ----------
    predict : callable (x_t, t) -> array of the shape of x_t
        The network; ``t`` is an int. If it has an attribute T, as those of
        :func:`ddpm_np.runs.evaluation.predictor` have, that must be the schedule's.
    x_T : array, shape (B, ...)
        Standard normal draws, the prior (30).
    noise : callable t -> array of the shape of x_T
        z for the step from t to t - 1; asked for at t = T ... 2 only.
    sigma2 : Table, length T + 1
        Reverse variances, from :func:`ddpm_np.reverse_variance` or elsewhere.
    target : {"eps", "x0", "mean", "v"}
        What the network predicts.
    trajectory : bool
        Return all of x_0 ... x_T, shape (T + 1, B, ...), entry t being x_t.

    Raises
    ------
    TypeError, ValueError
        If an argument, the noise or a prediction is not as above.
    FloatingPointError
        If some x_t is not finite; the message says which is the first.
    """
    T = check_schedule(schedule).T
    check_choice("target", target, TARGETS)
    check_predictor(schedule, predict)
    check_callable("noise", noise)
    check_flag("trajectory", trajectory)
    variances = check_variances(sigma2, T)
    xp = check_arrays(x_T=x_T)
    check_finite("x_T", x_T)
    x = x_T
    path, finite = [x_T], []
    with np.errstate(over="ignore", invalid="ignore"):  # what they leave is looked for below
        for t in range(T, 0, -1):
            x = model_mean_unchecked(schedule, x, t, ask(predict, x, t), target)
            if t > 1:
                z = noise(t)
                check_arrays(x_T=x_T, noise=z)
                x = x + math.sqrt(variances[t]) * z
            finite.append(xp.all(xp.isfinite(x)))
            if trajectory:
                path.append(x)
    _check_steps(finite)
    return xp.stack(path[::-1]) if trajectory else x


def _check_steps(finite: list[Array]) -> None:
    """Raise unless x_{T-1} ... x_0 were finite, as arrays of no axis say. Waits for the device."""
    xp = array_namespace(finite[0])
    known = xp.stack(finite)
    if not bool(xp.all(known)):
        t = len(finite) - int(xp.argmin(xp.astype(known, xp.int32)))
        raise FloatingPointError(
            f"sampling diverged at t = {t}: the prediction or the noise there is not finite, or so "
            f"large that x_{t - 1} is not; a network may need longer training, or a lower learning rate"
        )
