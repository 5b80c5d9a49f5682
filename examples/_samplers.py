"""The samplers that examples offer by name, along times even in the log signal-to-noise ratio."""

from collections.abc import Callable
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


def make_walk(name: str, schedule: Schedule, steps: int, target: Target, variance: VarianceKind) -> Walk:
    """A sampler that takes this many steps; ``variance`` is for ancestral sampling."""
    times = ddpm.log_snr_times(schedule, steps)
    if name != "ancestral":
        walk = FLOW[name]
        return lambda predict, x_T, noise: walk(schedule, predict, x_T, times=times, target=target)
    if steps == schedule.T:
        return ancestral(schedule, ddpm.reverse_variance(schedule, variance), target)
    short = ddpm.respaced_schedule(schedule, times)
    walk_short = ancestral(short, ddpm.reverse_variance(short, variance), "x0")

    def respaced(predict: Predictor, x_T: Array, noise: Callable[[int], Array]) -> Array:
        def x0(x_t: Array, t: int) -> Array:  # a posterior mean would be that of the long chain's step
            return predicted_x0(schedule, x_t, t, predict(x_t, t), target)

        asked = ddpm.respaced_predictor(x0, times)
        return walk_short(asked, x_T, lambda i: noise(int(times[i - 1])))

    return respaced


def ancestral(schedule: Schedule, sigma2: Table, target: Target) -> Walk:
    """Ancestral sampling."""
    return lambda predict, x_T, noise: ddpm.ancestral_sample(
        schedule, predict, x_T, noise=noise, sigma2=sigma2, target=target
    )
