"""ddpm_np's bound and samplers under the names and arguments of the vectors.

The network is given by tables: at t it says slope[t] x_t + offset[t], plus curve[t] sin(x_t) where
there is a curve.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_np import samplers
from ddpm_np._arrays import Predictor
from ddpm_np.decoders import discretised_gaussian, gaussian_decoder
from ddpm_np.elbo import PriorWarning, elbo_decomposition
from ddpm_np.exact.chains import LinearGaussianChain
from ddpm_np.flow import ddim_invert as flow_inverted
from ddpm_np.reverse import model_mean
from ddpm_np.schedules import Schedule, schedule_from_beta
from ddpm_np.targets import Target

Values = NDArray[Any]


def network(slope: Values, offset: Values, curve: Values | None = None) -> Predictor:
    """The network of these tables."""

    def predict(x_t: Values, t: int) -> Values:
        y = slope[t] * x_t + offset[t]
        return y if curve is None else y + curve[t] * np.sin(x_t)

    return predict


def elbo_affine(
    beta: Values,
    x0: Values,
    noise: Values,
    sigma2: Values,
    slope: Values,
    offset: Values,
    target: Target,
    decoder: str | dict[str, int],
) -> dict[str, Values]:
    """:func:`ddpm_np.elbo_decomposition` of an affine network."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PriorWarning)  # short chains, on purpose
        terms = elbo_decomposition(
            schedule_from_beta(beta),
            network(slope, offset),
            x0,
            noise=noise,
            sigma2=sigma2,
            decoder=gaussian_decoder if decoder == "gaussian" else discretised_gaussian(**decoder),  # type: ignore[arg-type]
            target=target,
        )
    return terms._asdict()


def affine_log_likelihood(
    beta: Values, x0: Values, sigma2: Values, slope: Values, offset: Values, target: Target
) -> dict[str, Values]:
    """Exact log p(x_0), bound and gap of an affine network: a :class:`LinearGaussianChain`."""
    schedule, d = schedule_from_beta(beta), x0.shape[1]
    slopes, offsets = np.zeros((schedule.T + 1, d, d)), np.zeros((schedule.T + 1, d))
    for t in range(1, schedule.T + 1):
        # The model mean is linear in x_t and the prediction, so that 0 and 1 tell all.
        slopes[t] = _mean(schedule, t, 1.0, slope[t], target) * np.eye(d)
        offsets[t] = _mean(schedule, t, 0.0, offset[t], target)
    chain = LinearGaussianChain(schedule, slopes, offsets, sigma2)
    bound = chain.elbo(x0).total
    return {"log_p": chain.log_density(x0), "expected_elbo": bound, "gap": chain.gap(x0)}


def _mean(schedule: Schedule, t: int, x_t: float, prediction: float, target: Target) -> float:
    numbers = (np.full(1, x_t), t, np.full(1, float(prediction)))
    return float(model_mean(schedule, *numbers, target)[0])


def ancestral_sample(
    beta: Values, x_T: Values, noise: Values, sigma2: Values, target: Target, **tables: Values
) -> Values:
    """:func:`ddpm_np.ancestral_sample`, all that it visits."""
    return samplers.ancestral_sample(
        schedule_from_beta(beta),
        network(**tables),
        x_T,
        noise=lambda t: noise[t],
        sigma2=sigma2,
        target=target,
        trajectory=True,
    )


def ddim_sample(
    beta: Values,
    x_T: Values,
    noise: Values,
    eta: float,
    times: Values,
    target: Target,
    **tables: Values,
) -> Values:
    """:func:`ddpm_np.ddim_sample`, all that it visits."""
    return samplers.ddim_sample(
        schedule_from_beta(beta),
        network(**tables),
        x_T,
        eta=eta,
        noise=lambda t: noise[t],
        times=times,  # type: ignore[arg-type]
        target=target,
        trajectory=True,
    )


def _flow(sample: Callable[..., Values], start: str) -> Callable[..., Values]:
    """A sampler without noise, all that it visits."""

    def call(
        beta: Values,
        slope: Values,
        offset: Values,
        curve: Values,
        times: Values,
        target: Target,
        **rest: Any,
    ) -> Values:
        schedule, predict, x = schedule_from_beta(beta), network(slope, offset, curve), rest.pop(start)
        return sample(schedule, predict, x, times=times, target=target, trajectory=True, **rest)

    return call


CHAINS: dict[str, Callable[..., Any]] = {
    "elbo_affine": elbo_affine,
    "affine_log_likelihood": affine_log_likelihood,
    "ancestral_sample": ancestral_sample,
    "ddim_sample": ddim_sample,
    "dpm_solver_sample": _flow(samplers.dpm_solver_sample, "x_T"),
    "heun_sample": _flow(samplers.heun_sample, "x_T"),
    "ddim_invert": _flow(flow_inverted, "x_0"),
}
"""By the names of the vectors."""
