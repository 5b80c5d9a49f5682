"""The probability flow from data to noise, Song et al. 2021 (arXiv 2011.13456), section 4.3.

    dy/ds = eps(x, t),  y = x / sqrt(alpha_bar[t]),  s = sqrt((1 - alpha_bar[t]) / alpha_bar[t])

Arguments are those of :mod:`ddpm_np.samplers`, which go the other way.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from ddpm_np._arrays import Array, Predictor, array_namespace, ask, coefficient, sum_features
from ddpm_np.samplers import check_sampling, flow_times, walk
from ddpm_np.schedules import Schedule
from ddpm_np.targets import Target, predicted_eps_unchecked


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
