"""The samplers that examples offer by name, and the times that they visit."""

from collections.abc import Callable, Sequence
from types import MappingProxyType

import _command_line  # noqa: F401  # before NumPy: it sets BLAS threads

# isort: split
import ddpm_np as ddpm
from ddpm_np import Array, Predictor, Schedule, Table
from ddpm_np.reverse import VarianceKind
from ddpm_np.targets import Target, predicted_x0

Walk = Callable[[Predictor, Array, Callable[[int], Array]], Array]
"""(predict, x_T, noise) -> x_0."""

FLOW = MappingProxyType(
    {"ddim": ddpm.ddim_sample, "dpm-solver": ddpm.dpm_solver_sample, "heun": ddpm.heun_sample}
)
SAMPLERS = ("ancestral", *FLOW)
TIMES = MappingProxyType(
    {
        "log-snr": ddpm.log_snr_times,
        "uniform": lambda schedule, steps: ddpm.uniform_times(schedule.T, steps),
        "quadratic": lambda schedule, steps: ddpm.quadratic_times(schedule.T, steps),
        "trailing": lambda schedule, steps: ddpm.trailing_times(schedule.T, steps),
    }
)
"""(schedule, steps) -> times."""


def make_walk(
    name: str, schedule: Schedule, times: Sequence[int], target: Target, variance: VarianceKind
) -> Walk:
    """A sampler that visits these times; ``variance`` is for ancestral sampling."""
    if name != "ancestral":
        walk = FLOW[name]
        return lambda predict, x_T, noise: walk(schedule, predict, x_T, times=times, target=target)
    if len(times) == schedule.T:
        return ancestral(schedule, ddpm.reverse_variance(schedule, variance), target)
    short = ddpm.respaced_schedule(schedule, times)
    walk_short = ancestral(short, ddpm.reverse_variance(short, variance), "x0")

    def respaced(predict: Predictor, x_T: Array, noise: Callable[[int], Array]) -> Array:
        def x0(x_t: Array, t: int) -> Array:  # a posterior mean would be that of the long chain's step
            return predicted_x0(schedule, x_t, t, predict(x_t, t), target)

        asked = ddpm.respaced_predictor(x0, times)
        return walk_short(asked, x_T, lambda i: noise(times[i - 1]))

    return respaced


def ancestral(schedule: Schedule, sigma2: Table, target: Target) -> Walk:
    """Ancestral sampling."""
    return lambda predict, x_T, noise: ddpm.ancestral_sample(
        schedule, predict, x_T, noise=noise, sigma2=sigma2, target=target
    )
