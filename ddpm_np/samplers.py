"""Sampling from the model: noise into data. One algorithm, one function.

All but the first take fewer steps than the chain has, along ``times``:

    S visited times, increasing, the last T; None: all of them. Step i goes from times[i - 1] to the time
    before it, at last to 0. The network and the noise are asked for at the times of the long chain.

Parameters that they share:

predict : callable (x_t, t) -> array of the shape of x_t
    The network; ``t`` is an int, and x_t is to be left as it is. If it has an attribute T, as those of
    :func:`ddpm_np.runs.evaluation.predictor` have, that must be the schedule's.
x_T : array, shape (B, ...)
    Standard normal draws, the prior (30).
target : {"eps", "x0", "mean", "v"}
    What the network predicts; any but "eps" if alpha_bar[T] = 0.
trajectory : bool
    Return all that was visited, shape (S + 1, B, ...): entry i at times[i - 1], entry 0 the data.

An argument, a draw or a prediction that is not so raises TypeError or ValueError. If some x_t is not
finite FloatingPointError says at which t that began.

In the probability flow (Song et al. 2021, arXiv 2011.13456) y = x / sqrt(alpha_bar) moves with the time
s = sqrt((1 - alpha_bar) / alpha_bar) as dy/ds = eps(x, t); the table ``schedule.noise_to_signal`` has s.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from ddpm_np._arrays import (
    Array,
    Predictor,
    Table,
    array_namespace,
    ask,
    check_arrays,
    check_finite,
    coefficient,
)
from ddpm_np._checks import check_callable, check_flag, check_integer, check_real
from ddpm_np.reverse import check_predictor, check_variances, model_mean_unchecked
from ddpm_np.schedules import Schedule, check_schedule, check_visits, respaced_schedule
from ddpm_np.targets import Target, check_target, predicted_eps_unchecked, predicted_x0_unchecked


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

    Fewer steps: :func:`ddpm_np.respaced_schedule` and :func:`ddpm_np.respaced_predictor`.

    Parameters
    ----------
    noise : callable t -> array of the shape of x_T
        z for the step from t to t - 1; asked for at t = T ... 2 only.
    sigma2 : Table, length T + 1
        Reverse variances, from :func:`ddpm_np.reverse_variance` or elsewhere.
    """
    check_callable("noise", noise)
    times = check_sampling(schedule, predict, x_T, None, target)
    variances = check_variances(sigma2, schedule.T)

    def steps() -> Iterator[Array]:
        x = x_T
        for t in times[:0:-1]:
            x = model_mean_unchecked(schedule, x, t, ask(predict, x, t), target)
            if t > 1:
                x = x + math.sqrt(variances[t]) * _draw(noise, t, x_T)
            yield x

    return walk(steps(), x_T, times[::-1], trajectory)


def ddim_sample(
    schedule: Schedule,
    predict: Predictor,
    x_T: Array,
    *,
    eta: float = 0.0,
    noise: Callable[[int], Array] | None = None,
    times: Sequence[int] | None = None,
    target: Target = "eps",
    trajectory: bool = False,
) -> Array:
    """Sample by DDIM, Song, Meng & Ermon 2021 (arXiv 2010.02502), equations (12) and (16).

        from t to s:  x_s = sqrt(alpha_bar[s]) x0 + sqrt(1 - alpha_bar[s] - sigma^2) eps + sigma z
        sigma = eta sqrt((1 - alpha_bar[s]) / (1 - alpha_bar[t]) (1 - alpha_bar[t] / alpha_bar[s]))

    x0 and eps are what the network says of x_t. With eta = 0 this is Euler's method for the probability
    flow. With eta = 1 it is ancestral sampling of the respaced chain with variances beta_tilde. noise(t)
    gives z for the step from t, at every visited t but the first; with eta = 0 it is not asked.
    """
    eta = check_real("eta", eta, 0.0, 1.0, closed=True)
    if eta > 0.0 or noise is not None:
        check_callable("noise", noise)
    visits = check_sampling(schedule, predict, x_T, times, target)
    short = respaced_schedule(schedule, visits[1:])
    sigma2 = eta**2 * short.posterior_variance[1:]
    before, now = short.one_minus_alpha_bar[:-1], short.one_minus_alpha_bar[1:]
    # before - sigma2, as a sum of what is not negative
    kept = (1.0 - eta**2) * before + eta**2 * short.alpha[1:] * before**2 / now
    c = partial(coefficient, like=x_T)

    def steps() -> Iterator[Array]:
        x = x_T
        for i in range(short.T, 0, -1):
            t = visits[i]
            prediction = ask(predict, x, t)
            x0 = predicted_x0_unchecked(schedule, x, t, prediction, target)
            eps = predicted_eps_unchecked(schedule, x, t, prediction, target)
            x = c(short.sqrt_alpha_bar[i - 1]) * x0 + c(np.sqrt(kept[i - 1])) * eps
            if noise is not None and eta > 0.0 and i > 1:
                x = x + c(np.sqrt(sigma2[i - 1])) * _draw(noise, t, x_T)
            yield x

    return walk(steps(), x_T, visits[::-1], trajectory)


def dpm_solver_sample(
    schedule: Schedule,
    predict: Predictor,
    x_T: Array,
    *,
    order: int = 2,
    times: Sequence[int] | None = None,
    target: Target = "eps",
    trajectory: bool = False,
) -> Array:
    """Sample by DPM-Solver++, Lu et al. 2022 (arXiv 2211.01095), order 1 or 2 (2M, Algorithm 2).

        l = log(alpha_bar / (1 - alpha_bar)) / 2,  h = l[s] - l[t],  r = h of the step before / h
        x_s = sqrt((1 - alpha_bar[s]) / (1 - alpha_bar[t])) x_t - sqrt(alpha_bar[s]) (exp(-h) - 1) D
        order 1:  D = x0(x_t);  order 2:  D = (1 + 1 / (2 r)) x0(x_t) - 1 / (2 r) x0 of the step before

    The first step and the one to t = 0, where h is infinite, are of order 1. Order 1 is DDIM.
    """
    order = check_integer("order", order, 1, 2)
    visits = check_sampling(schedule, predict, x_T, times, target)
    c, S = partial(coefficient, like=x_T), len(visits) - 1
    sigma, h = schedule.sqrt_one_minus_alpha_bar[visits], -np.diff(schedule.half_log_snr[visits])
    ratio, factor = sigma[:-1] / sigma[1:], schedule.sqrt_alpha_bar[visits[:-1]] * -np.expm1(-h)
    half = np.zeros(S)  # 1 / (2 r), in the steps of order 2
    half[1:-1] = (order - 1) * 0.5 * h[1:-1] / h[2:]

    def steps() -> Iterator[Array]:
        x, x0_before = x_T, x_T
        for i in range(S, 0, -1):
            t = visits[i]
            D = x0 = predicted_x0_unchecked(schedule, x, t, ask(predict, x, t), target)
            if half[i - 1]:
                D = c(1.0 + half[i - 1]) * x0 - c(half[i - 1]) * x0_before
            x, x0_before = c(ratio[i - 1]) * x + c(factor[i - 1]) * D, x0
            yield x

    return walk(steps(), x_T, visits[::-1], trajectory)


def heun_sample(
    schedule: Schedule,
    predict: Predictor,
    x_T: Array,
    *,
    times: Sequence[int] | None = None,
    target: Target = "eps",
    trajectory: bool = False,
) -> Array:
    """Sample by Heun's method for the probability flow, Karras et al. 2022 (arXiv 2206.00364), Alg. 1.

        y_s = y_t + (s - t) (eps(x_t, t) + eps(x_s', s)) / 2,  x_s' after Euler's step y_t + (s - t) eps

    in the flow's variables, s and t being its times; the step to 0 is Euler's. The network is asked
    twice a step, 2 S - 1 times in all.
    """
    visits = check_sampling(schedule, predict, x_T, times, target)
    flow, signal = flow_times(schedule), schedule.sqrt_alpha_bar
    c = partial(coefficient, like=x_T)

    def slope(x: Array, t: int) -> Array:
        return predicted_eps_unchecked(schedule, x, t, ask(predict, x, t), target)

    def steps() -> Iterator[Array]:
        x, y = x_T, c(1.0 / signal[-1]) * x_T
        for t, s in itertools.pairwise(visits[::-1]):
            step = c(flow[s] - flow[t])
            d = slope(x, t)
            if s > 0:
                d = 0.5 * (d + slope(c(signal[s]) * (y + step * d), s))
            y = y + step * d
            x = c(signal[s]) * y
            yield x

    return walk(steps(), x_T, visits[::-1], trajectory)


# --- what the samplers share --------------------------------------------------------------


def check_sampling(
    schedule: Schedule, predict: Predictor, x: Array, times: object, target: Target, name: str = "x_T"
) -> list[int]:
    """Check a sampler's arguments once; return 0 and the visited times."""
    T = check_schedule(schedule).T
    check_target(schedule, target)
    check_predictor(schedule, predict)
    check_arrays(**{name: x})
    check_finite(name, x)
    return [0, *(range(1, T + 1) if times is None else check_visits(times, T).tolist())]


def flow_times(schedule: Schedule) -> Table:
    """Times of the probability flow, ``noise_to_signal``, finite."""
    if schedule.alpha_bar[-1] < 1e-300:
        raise ValueError(
            "schedule must have alpha_bar[T] above 1e-300: the probability flow starts at "
            "sqrt((1 - alpha_bar) / alpha_bar), infinitely far here; ancestral_sample, ddim_sample "
            "and dpm_solver_sample need no such start"
        )
    return schedule.noise_to_signal


def _draw(noise: Callable[[int], Array], t: int, x_T: Array) -> Array:
    z = noise(t)
    check_arrays(x_T=x_T, noise=z)
    return z


def walk(steps: Iterator[Array], start: Array, times: list[int], trajectory: bool) -> Array:
    """Take all steps, along times; see in the end, waiting once, whether all were finite."""
    check_flag("trajectory", trajectory)
    xp = array_namespace(start)
    x, path, finite = start, [start], []
    with np.errstate(over="ignore", invalid="ignore"):  # what they leave is looked for below
        for x in steps:
            finite.append(xp.all(xp.isfinite(x)))
            if trajectory:
                path.append(x)
    step = first_failure(finite)
    if step is not None:
        t, to = max(times[step : step + 2]), times[step + 1]
        raise FloatingPointError(
            f"sampling diverged at t = {t}: the prediction or the noise there is not finite, or so "
            f"large that x_{to} is not; a network may need longer training, or a lower learning rate"
        )
    return xp.stack(path if times[0] == 0 else path[::-1]) if trajectory else x


def first_failure(holds: list[Array]) -> int | None:
    """Index of the first array of no axis that is false, or None. Waits for the device."""
    xp = array_namespace(holds[0])
    known = xp.stack(holds)
    return None if bool(xp.all(known)) else int(xp.argmin(xp.astype(known, xp.int32)))
