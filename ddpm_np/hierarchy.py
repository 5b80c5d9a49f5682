"""Variational autoencoders with one, two and T layers of latents; diffusion is a special case.

A layer is a function (z, t) -> (mean, variance). Encoders map z_{t-1} to the moments of
q(z_t | z_{t-1}), decoders z_t to those of p_theta(z_{t-1} | z_t), for t = 1 ... T with z_0 = x_0;
the last latent has the prior p(z_T) = N(0, I). Layers may differ in width; noise is standard normal,
with the shape of the latent it makes. Diffusion fixes the encoders, (20), and keeps the width.

Integrands have shape (B,), in nats; their mean over latents drawn from q is the bound. A mean that
does not match its variable raises TypeError or ValueError.
"""

import math
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from ddpm_np._arrays import (
    Array,
    MeanFunction,
    Table,
    array_namespace,
    as_table,
    check_arrays,
    check_dtype,
)
from ddpm_np._checks import check_callable, check_integer, check_real, describe
from ddpm_np.forward import q_step_moments
from ddpm_np.gaussians import kl_isotropic, normal_log_density
from ddpm_np.reverse import check_variances, made_for, prior_log_density, steps_of
from ddpm_np.schedules import Schedule, check_schedule

Layer: TypeAlias = Callable[[Array, int], tuple[Array, Array | float]]
"""(z, t) to a mean and a variance that broadcasts against it."""


class VaeBound(NamedTuple):
    """The two terms of (7) for each example, shape (B,), and their difference."""

    reconstruction: Array
    """log p_theta(x_0 | x_1) at one draw of x_1."""
    kl: Array
    """KL(q(x_1 | x_0) || p(x_1)), >= 0."""
    total: Array


def vae_bound(x0: Array, encode: Layer, decode: Layer, noise: Array) -> VaeBound:
    """Bound of a variational autoencoder, one latent layer, M2 (7).

        mean, variance = encode(x0, 1);  x_1 = mean + sqrt(variance) * noise
        bound = log p_theta(x_0 | x_1) - KL(N(mean, variance) || N(0, I))

    The KL is in closed form; the reconstruction is an unbiased estimate from one draw of x_1.
    """
    check_arrays(x0=x0)
    mean, variance = _moments("encode", encode, x0, 1)
    x_1 = _reparameterise(mean, variance, noise)
    kl = kl_isotropic(mean, variance, array_namespace(mean).zeros_like(mean), 1.0)
    reconstruction = normal_log_density(x0, *_moments("decode", decode, x_1, 1, x0=x0))
    return VaeBound(reconstruction, kl, reconstruction - kl)


def two_layer_integrand(x0: Array, z_1: Array, z_2: Array, encode: Layer, decode: Layer) -> Array:
    """Integrand of the bound of a two-layer hierarchical VAE, L 2.2.

    log p(z_2) + log p_theta(z_1 | z_2) + log p_theta(x_0 | z_1) - log q(z_1 | x_0) - log q(z_2 | z_1)
    """
    for name, z in (("x0", x0), ("z_1", z_1), ("z_2", z_2)):  # which may differ in width
        check_arrays(**{name: z})
    log_p = prior_log_density(z_2)
    log_p = log_p + normal_log_density(z_1, *_moments("decode", decode, z_2, 2, z_1=z_1))
    log_p = log_p + normal_log_density(x0, *_moments("decode", decode, z_1, 1, x0=x0))
    log_q = normal_log_density(z_1, *_moments("encode", encode, x0, 1, z_1=z_1))
    log_q = log_q + normal_log_density(z_2, *_moments("encode", encode, z_1, 2, z_2=z_2))
    return log_p - log_q


def hierarchical_integrand(chain: Sequence[Array], encode: Layer, decode: Layer) -> Array:
    """Integrand of the bound of a T-layer Markovian hierarchical VAE, L 2.2, D.

        log p(z_T) + sum over t = 1..T of log p_theta(z_{t-1} | z_t) - log q(z_t | z_{t-1})

    chain holds z_0 = x_0, z_1 ... z_T, from :func:`draw_latents` or elsewhere.
    """
    _check_latents("chain", chain)
    if len(chain) < 2:
        raise ValueError(f"chain must hold x_0 and at least one latent, got {len(chain)} arrays")
    for t, z in enumerate(chain):
        check_arrays(**{f"chain[{t}]": z})
    _check_layers("chain", len(chain) - 1, encode=encode, decode=decode)
    total = prior_log_density(chain[-1])
    for t in range(1, len(chain)):
        below, above = {f"chain[{t - 1}]": chain[t - 1]}, {f"chain[{t}]": chain[t]}
        total = total + normal_log_density(
            chain[t - 1], *_moments("decode", decode, chain[t], t, **below)
        )
        total = total - normal_log_density(
            chain[t], *_moments("encode", encode, chain[t - 1], t, **above)
        )
    return total


def draw_layer(z_prev: Array, t: int, encode: Layer, noise: Array) -> Array:
    """Draw z_t from q(z_t | z_{t-1}) by reparameterisation.

    z_t = mean + sqrt(variance) * noise,  mean, variance = encode(z_{t-1}, t)
    """
    check_arrays(z_prev=z_prev)
    return _reparameterise(*_moments("encode", encode, z_prev, check_integer("t", t, 1)), noise)


def draw_latents(x0: Array, encode: Layer, noise: Sequence[Array]) -> list[Array]:
    """Draw z_1 ... z_T from q, one layer after the other; entry 0 of the result is x0.

    noise has T + 1 entries, of which entry 0 is not used.
    """
    check_arrays(x0=x0)
    _check_latents("noise", noise)
    _check_layers("noise", len(noise) - 1, encode=encode)
    chain = [x0]
    for t in range(1, len(noise)):
        chain.append(draw_layer(chain[-1], t, encode, noise[t]))
    return chain


def diffusion_encoder(schedule: Schedule) -> Layer:
    """Encoders of diffusion, M2 (20): fixed, with nothing to learn.

    encode(z, t) = sqrt(alpha[t]) * z, beta[t]
    """
    T = check_schedule(schedule).T

    def encode(z: Array, t: int) -> tuple[Array, Array]:
        check_arrays(z=z)
        return q_step_moments(schedule, z, t)

    return made_for(T, encode)


def diffusion_decoder(mean: MeanFunction, sigma2: Table) -> Layer:
    """Decoders of diffusion, M2 (31); mean is mu_theta(x_t, t), sigma2 a positive table.

    decode(z, t) = mean(z, t), sigma2[t]
    """
    check_callable("mean", mean)
    T = max(1, len(as_table("sigma2", sigma2)) - 1)
    variances = check_variances(sigma2, T)

    def decode(z: Array, t: int) -> tuple[Array, float]:
        check_arrays(z=z)
        variance, found = float(variances[check_integer("t", t, 1, T)]), mean(z, t)
        check_arrays(z=z, mean=found)
        return found, variance

    return made_for(T, decode)


def _check_latents(name: str, arrays: object) -> None:
    of_numpy = isinstance(arrays, np.ndarray) and arrays.ndim > 0
    if not (of_numpy or isinstance(arrays, Sequence)) or isinstance(arrays, str | bytes):
        raise TypeError(f"{name} must be a list of arrays, one for each layer, got {describe(arrays)}")


def _check_layers(name: str, latents: int, **layers: Layer) -> None:
    """Raise ValueError where layers say for how many latents they are, and there are more."""
    for layer_name, layer in layers.items():
        T = steps_of(layer)
        if T is not None and latents > T:
            raise ValueError(f"{name} must hold at most the {T} latents of {layer_name}, got {latents}")


def _moments(name: str, layer: Layer, z: Array, t: int, **of: Array) -> tuple[Array, Array | float]:
    """Ask a layer for its mean, like the one array ``of``, and its variance."""
    check_callable(name, layer)
    moments = layer(z, t)
    if not isinstance(moments, tuple | list) or len(moments) != 2:
        raise TypeError(f"{name} must return a mean and a variance, got {describe(moments)}")
    mean, variance = moments
    check_arrays(**of, **{f"the mean of {name}": mean})
    if not isinstance(variance, int | float | np.generic):
        check_dtype(f"the variance of {name}", variance)
    return mean, variance


def _reparameterise(mean: Array, variance: Array | float, noise: Array) -> Array:
    xp = check_arrays(mean=mean, noise=noise)
    if isinstance(variance, int | float | np.generic):
        most = sys.float_info.max
        return mean + math.sqrt(check_real("variance", variance, 0.0, most, closed=True)) * noise
    check_dtype("variance", variance)
    return mean + xp.sqrt(variance) * noise
