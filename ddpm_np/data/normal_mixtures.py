"""Gaussians and their mixtures as models of integer levels.

A density p of real z gives probabilities of levels k, shape (d,), in two ways:

    dequantised  P(k) = integral over u in [0, 1]^d of p(k + u)
    rounded      P(k) = P(clip(floor(z), 0, levels - 1) = k)

They differ at the lowest and the highest level, which take the tails of p where z is clipped, as
the edge bins of :func:`ddpm_np.discretised_gaussian` do. With many blank pixels that matters a lot.
"""

import math
import sys
import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.special import log_ndtr, logsumexp, ndtri_exp

from ddpm_np._checks import as_floats, check_integer, check_plain, check_real, describe

Levels: TypeAlias = NDArray[np.integer[Any]]
"""Integer levels 0..levels-1, shape (n, d)."""

Floats: TypeAlias = NDArray[np.float64]


class NormalMixture(NamedTuple):
    """Mixture of Gaussians with full covariances; level k stands for [k, k + 1)."""

    weights: Floats
    """Shape (K,)."""
    means: Floats
    """Shape (K, d)."""
    covariances: Floats
    """Shape (K, d, d)."""


def fit_gaussian(images: Levels, ridge: float) -> NormalMixture:
    """Fit one Gaussian to uniformly dequantised levels, in closed form.

    mean = mean of k + 1/2,  covariance = covariance of k + (1/12 + ridge) I
    """
    extra = check_real("ridge", ridge, 0.0, sys.float_info.max, closed=True)
    d = check_levels(images).shape[1]
    covariance = np.cov(images.T, bias=True).reshape(d, d) + (1.0 / 12.0 + extra) * np.eye(d)
    return NormalMixture(np.ones(1), np.mean(images, axis=0)[None, :] + 0.5, covariance[None, :, :])


def fit_normal_mixture(
    images: Levels, components: int, ridge: float, rng: Generator, draws: int = 4
) -> NormalMixture:
    """Fit scikit-learn's GaussianMixture to ``draws`` uniform dequantisations of the images.

    ``ridge`` is added to the diagonals of the covariances. Raises ImportError without
    scikit-learn.
    """
    check_levels(images)
    components = check_integer("components", components, 1)
    ridge = check_real("ridge", ridge, 0.0, sys.float_info.max, closed=True)
    draws = check_integer("draws", draws, 1)
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    z = np.concatenate([images + rng.random(images.shape) for _ in range(draws)])
    seed = int(rng.integers(2**31))
    fit = GaussianMixture(components, reg_covar=ridge, init_params="k-means++", random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # more rounds do not help on held-out data
        fit.fit(z)
    return NormalMixture(fit.weights_, fit.means_, fit.covariances_)


def normal_mixture_log_density(model: NormalMixture, z: Floats) -> Floats:
    """Return log p(z), shape (n, d) to (n,)."""
    values, d = as_floats("z", z), model.means.shape[1]
    if values.ndim != 2 or values.shape[1] != d or not len(values):
        raise ValueError(f"z must have shape (n, {d}) with n >= 1, got {values.shape}")
    parts = []
    for weight, mean, factor in _components(model):
        e = np.linalg.solve(factor, (values - mean).T)
        log_scale = np.sum(np.log(np.diag(factor))) + 0.5 * len(mean) * math.log(2.0 * math.pi)
        parts.append(math.log(weight) - log_scale - 0.5 * np.sum(e**2, axis=0))
    return logsumexp(np.stack(parts), axis=0)


def dequantised_log_prob(model: NormalMixture, images: Levels, draws: int, rng: Generator) -> Floats:
    """Estimate log P(k) of a mixture that is dequantised uniformly, shape (n,).

        log P(k) >= E log(mean over m = 1..draws of p(k + u_m)),  u_m ~ Uniform[0, 1]^d

    Biased low, less so with more draws; ``draws = 1`` is the usual dequantisation bound.
    """
    check_levels(images, d=model.means.shape[1])
    draws = check_integer("draws", draws, 1)
    logs = [normal_mixture_log_density(model, images + rng.random(images.shape)) for _ in range(draws)]
    return logsumexp(np.stack(logs), axis=0) - math.log(draws)


def rounded_log_prob(
    model: NormalMixture, images: Levels, levels: int, draws: int, rng: Generator
) -> Floats:
    """Estimate log P(k) of a mixture that is rounded down and clipped, shape (n,).

    The log of an unbiased estimate of P(k), by :func:`rounded_draws`: exact for diagonal
    covariances, otherwise biased low, very slightly.
    """
    parts = [
        math.log(weight) + rounded_draws(mean, factor, images, levels, draws, rng)[1]
        for weight, mean, factor in _components(model)
    ]
    return logsumexp(np.stack(parts), axis=(0, 1)) - math.log(draws)


def rounded_draws(
    mean: Floats, factor: Floats, images: Levels, levels: int, draws: int, rng: Generator
) -> tuple[Floats, Floats]:
    """Draw z from about N(mean, factor factor^T) given its levels k, pixel by pixel.

        z = mean + factor e
        e_j ~ N(0, 1) given e_1 ... e_{j-1} and that z_j lies in the bin of k_j
        log_weight = sum over j of log P(z_j in its bin | e_1 ... e_{j-1})

    exp(log_weight) is an unbiased estimate of P(k), and weights the draws to those given k:
    Geweke, Hajivassiliou & Keane's simulator (Train 2009, section 5.6.3). ``factor`` is lower
    triangular.

    Returns
    -------
    z : array, shape (draws, n, d)
    log_weight : array, shape (draws, n)
    """
    check_levels(images, levels, d=len(mean))
    low = np.where(images == 0, -np.inf, images)
    high = np.where(images == levels - 1, np.inf, images + 1.0)
    e = np.zeros((check_integer("draws", draws, 1), *images.shape))
    log_weight = np.zeros(e.shape[:2])
    for j in range(images.shape[1]):
        centre = mean[j] + e[:, :, :j] @ factor[j, :j]
        a, b = (low[:, j] - centre) / factor[j, j], (high[:, j] - centre) / factor[j, j]
        above = a > 0.0  # the upper tail is the accurate one there: mirror the interval
        a, b = np.where(above, -b, a), np.where(above, -a, b)
        log_a, log_b = log_ndtr(a), log_ndtr(b)
        log_mass = log_b + np.log1p(-np.exp(np.minimum(log_a - log_b, -1e-15)))
        log_weight += log_mass
        inside = ndtri_exp(np.logaddexp(log_a, log_mass + np.log(1.0 - rng.random(a.shape))))
        e[:, :, j] = np.where(above, -inside, inside)
    return mean + e @ factor.T, log_weight


def refit_rounded(
    model: NormalMixture,
    images: Levels,
    levels: int,
    ridge: float,
    rng: Generator,
    rounds: int = 15,
    draws: int = 2,
) -> NormalMixture:
    """Fit a mixture to levels that are rounded and clipped, by Monte Carlo expectation maximisation.

    Each round draws z given k from the current model (:func:`rounded_draws`), then sets weights,
    means and covariances, plus ``ridge`` I, to those of the draws: at level 0, z spreads below 0.
    """
    check_levels(images, levels, d=model.means.shape[1])
    ridge = check_real("ridge", ridge, 0.0, sys.float_info.max, closed=True)
    for _ in range(check_integer("rounds", rounds, 0)):
        drawn = [
            (weight, *rounded_draws(mean, factor, images, levels, draws, rng))
            for weight, mean, factor in _components(model)
        ]
        joint = np.stack([math.log(weight) + log_weight for weight, _, log_weight in drawn])
        shares = np.exp(joint - logsumexp(joint, axis=(0, 1)))
        counts = np.sum(shares, axis=(1, 2)) + 1e-9
        means, covariances = [], []
        for (_, z, _), share, count in zip(drawn, shares, counts, strict=True):
            flat, weight = z.reshape(-1, z.shape[2]), share.reshape(-1, 1) / count
            means.append(np.sum(weight * flat, axis=0))
            centred = flat - means[-1]
            covariances.append((weight * centred).T @ centred + ridge * np.eye(flat.shape[1]))
        model = NormalMixture(counts / np.sum(counts), np.stack(means), np.stack(covariances))
    return model


def check_levels(
    images: object, levels: object = 2**16, name: str = "images", d: int | None = None
) -> Levels:
    """Return images if they are integer levels 0..levels-1 of shape (n, d), else raise."""
    check_plain(name, images)
    highest = check_integer("levels", levels, 2, 2**16) - 1
    if not isinstance(images, np.ndarray) or images.dtype.kind not in "iu":
        raise TypeError(f"{name} must be a NumPy array of integer levels, got {describe(images)}")
    if images.ndim != 2 or images.size == 0 or d not in (None, images.shape[1]):
        wanted = "(n, d)" if d is None else f"(n, {d})"
        raise ValueError(f"{name} must have shape {wanted} and not be empty, got {images.shape}")
    if images.min() < 0 or images.max() > highest:
        raise ValueError(
            f"{name} must hold levels from 0 to {highest}, got {images.min()} to {images.max()}"
        )
    return images


def _components(model: NormalMixture) -> Iterable[tuple[float, Floats, Floats]]:
    """Weights, means and Cholesky factors."""
    return zip(model.weights.tolist(), model.means, np.linalg.cholesky(model.covariances), strict=True)
