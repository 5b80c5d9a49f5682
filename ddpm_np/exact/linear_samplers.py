"""The exact law of what a sampler returns, where everything that it does is linear."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from ddpm_np._arrays import Array, Samples, check_arrays
from ddpm_np._checks import check_callable, describe
from ddpm_np.exact.gaussian_data import GaussianData

Sampler: TypeAlias = Callable[[Samples, Callable[[int], Samples]], Array]
"""(x_T, noise) to x_0, as a sampler of ddpm_np with all else held fixed."""

# In standard deviations: how far out the sampler must be linear.
REACH = 8.0


def linear_sampler_law(law: GaussianData, sample: Sampler) -> GaussianData:
    """Exact law of what a sampler makes of x_T ~ N(0, I) on Gaussian data; nothing is drawn.

    Where the denoiser is linear in each principal coordinate of the data, as ``law.bayes_eps`` is, so is
    the sampler. Along each axis, its answers to x_T and to the noise of each step make up the law:

        x_0 = b + a x_T + sum over t of c_t z_t,  hence N(b, a^2 + sum over t of c_t^2)

    The sampler itself is run, twice, on one batch of unit inputs, for all axes at once. To see the error
    of a solver apart from that of its start, compare its law with that of the exact flow, whose
    ``sample`` is ``lambda x_T, noise: law.flow(schedule, x_T)``.

    Parameters
    ----------
    law : GaussianData
        Its principal axes are those of the result.
    sample : callable (x_T, noise) -> x_0
        A pure function, such as ``lambda x_T, noise: ddim_sample(schedule, predict, x_T, noise=noise)``.
        x_T is host float64, shape (B, d), and noise a callable t -> array of its shape.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above, or if ``sample`` is not linear, as with clipped predictions; a
        point 4 to 8 standard deviations out along each axis tells.
    """
    if not isinstance(law, GaussianData):
        raise TypeError(f"law must be a GaussianData, got {describe(law)}")
    check_callable("sample", sample)
    unit = law.from_axes(np.ones((1, law.d)))
    times: list[int] = []

    def silence(t: int) -> Samples:
        times.append(t)
        return np.zeros((2, law.d))

    without, end = _run(sample, np.concatenate([np.zeros_like(unit), unit]), silence)
    # Of another size along each axis, or a mixture of axes would not show.
    rng, shape = np.random.default_rng(0), (len(times) + 1, law.d)
    far = rng.choice([-REACH, REACH], shape) * rng.uniform(0.5, 1.0, shape)

    def one_at_a_time(t: int) -> Samples:
        z = np.zeros(shape)
        z[times.index(t)] = unit
        z[-1] = law.from_axes(far[times.index(t)])
        return z

    x_T = np.zeros(shape)
    x_T[-1] = law.from_axes(far[-1])
    ends = _run(sample, x_T, one_at_a_time)
    answers = law.to_axes(np.concatenate([ends[:-1], end[None]]) - without)
    error = np.max(np.abs(ends[-1] - without - law.from_axes(np.sum(far * answers, axis=0))))
    size = np.max(np.abs(without)) + REACH * np.max(np.sum(np.abs(answers), axis=0))
    if not error <= 1e-9 * size:
        raise ValueError(
            "sample must be linear along each principal axis of law in x_T and in the noise, "
            f"but misses by {error:.3g} within {REACH:g} standard deviations"
        )
    variances = np.sum(answers**2, axis=0)
    if law.axes is None:
        return GaussianData(without, variances)
    return GaussianData(without, (law.axes * variances) @ law.axes.T)


def _run(sample: Sampler, x_T: Samples, noise: Callable[[int], Samples]) -> Samples:
    x0: Samples = sample(x_T, noise)
    check_arrays(x_T=x_T, sample=x0)
    return x0
