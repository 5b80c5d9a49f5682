"""What can be done to a prediction before the sampler uses it: guidance, clipping of x_0, respacing.

All turn predictors (x_t, t) -> prediction into predictors, so they work with every sampler and with
the bound. An argument out of range, or predictions that do not agree, raise TypeError or ValueError.
"""

import sys
from collections.abc import Sequence

from ddpm_np._arrays import Array, BatchPredictor, Predictor, Times, check_arrays, check_times, clamp
from ddpm_np._checks import check_callable, check_real
from ddpm_np.reverse import check_predictor, made_for, steps_of
from ddpm_np.schedules import Schedule, check_schedule, check_visits
from ddpm_np.targets import Target, check_target, predicted_x0


def guided(conditional: Predictor, unconditional: Predictor, guidance: float) -> Predictor:
    """Classifier-free guidance, Ho & Salimans 2022 (arXiv 2207.12598), equation (6).

        prediction = (1 + guidance) conditional(x_t, t) - guidance unconditional(x_t, t)

    At fixed x_t and t the noise, x_0, the mean and the velocity are affine functions of each other,
    and the factors sum to 1: guiding one of them guides all, whatever the network predicts. guidance,
    the paper's w, is >= -1: -1 is unconditional, 0 is conditional (the other is then not called), and
    larger values exaggerate what sets the class apart.
    """
    check_callable("conditional", conditional)
    check_callable("unconditional", unconditional)
    w = check_real("guidance", guidance, -1.0, sys.float_info.max, closed=True)
    known = [T for T in map(steps_of, (conditional, unconditional)) if T is not None]
    if len(set(known)) == 2:
        raise ValueError(
            f"conditional and unconditional must be made for one T, got {known[0]} and {known[1]}"
        )
    if w == 0.0:
        return conditional

    def predict(x_t: Array, t: int) -> Array:
        given, free = conditional(x_t, t), unconditional(x_t, t)
        check_arrays(conditional=given, unconditional=free)
        return (1.0 + w) * given - w * free

    return made_for(known[0] if known else None, predict)


def clipped(
    schedule: Schedule, predict: Predictor, target: Target, low: float = -1.0, high: float = 1.0
) -> Predictor:
    """Predict x_0 within the range of the data, whatever the network predicts.

        x0_theta = min(max(predicted_x0(x_t, t), low), high)

    The result is a predictor of target "x0". Where all data lie in the range, clipping brings every
    prediction nearer to x_0, and so can only raise the bound, which is then that of the clipped model.
    """
    T = check_schedule(schedule).T
    check_predictor(schedule, predict)
    check_target(schedule, target)
    largest = sys.float_info.max
    bottom, top = check_real("low", low, -largest, largest), check_real("high", high, -largest, largest)
    if not bottom < top:
        raise ValueError(f"low must be less than high, got low = {bottom:g}, high = {top:g}")

    def predict_x0(x_t: Array, t: int) -> Array:
        return clamp(predicted_x0(schedule, x_t, t, predict(x_t, t), target), bottom, top)

    return made_for(T, predict_x0)


def respaced_predictor(predict: BatchPredictor, times: Sequence[int]) -> BatchPredictor:
    """The network of a long chain, for :func:`ddpm_np.respaced_schedule`: asked at times[i - 1] for i.

    For targets "eps", "x0" and "v": a posterior mean is that of one step of the long chain.
    """
    check_callable("predict", predict)
    visits = check_visits(times, steps_of(predict))
    S = len(visits)

    def ask_at(x_t: Array, i: Times) -> Array:
        t = visits[check_times(i, S, x_t.shape[0]) - 1]
        return predict(x_t, int(t) if t.ndim == 0 else t)

    return made_for(S, ask_at)
