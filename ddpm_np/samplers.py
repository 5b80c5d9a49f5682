"""Sampling from the model: noise into data. One algorithm, one function."""

import math
from collections.abc import Callable

from ddpm_np._arrays import Array, Predictor, Table, ask, check_arrays, check_finite, check_table
from ddpm_np._checks import check_callable, check_choice
from ddpm_np.reverse import model_mean_unchecked
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
        The network; ``t`` is an int.
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
    """
    T = check_schedule(schedule).T
    check_choice("target", target, TARGETS)
    check_callable("predict", predict)
    check_callable("noise", noise)
    variances = check_table("sigma2", sigma2, T)
    xp = check_arrays(x_T=x_T)
    check_finite("x_T", x_T)
    x = x_T
    path = [x_T]
    for t in range(T, 0, -1):
        x = model_mean_unchecked(schedule, x, t, ask(predict, x, t), target)
        if t > 1:
            z = noise(t)
            check_arrays(x_T=x_T, noise=z)
            x = x + math.sqrt(variances[t]) * z
        if trajectory:
            path.append(x)
    return xp.stack(path[::-1]) if trajectory else x
