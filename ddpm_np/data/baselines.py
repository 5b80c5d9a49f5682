"""Likelihoods of simple models of images, which a better model must beat; nats per image.

All are probabilities of integer levels k, so that they compare with the bound of a model with a
discretised decoder: histograms, alone and mixed, and Gaussians, alone and mixed, as
:mod:`ddpm_np.data.normal_mixtures` turns them into probabilities. Every choice is made on validation
images, never on test images.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator
from scipy.special import logsumexp

from ddpm_np._checks import check_integer, check_real
from ddpm_np.data.normal_mixtures import (
    Floats,
    Levels,
    NormalMixture,
    check_levels,
    dequantised_log_prob,
    fit_gaussian,
    fit_normal_mixture,
    refit_rounded,
    rounded_log_prob,
)
from ddpm_np.randomness import METRIC, generator

RIDGES = (1e-4, 3e-4, 1e-3)
"""Candidates for what is added to the variances, in units of levels squared."""
VALIDATION_DRAWS, TEST_DRAWS = 32, 256
LARGEST_TABLE = 2 * 10**8
"""Limit on the entries of the table, images x pixels x levels, that histograms are mixed from."""
LARGEST_IMAGE = 256
"""Pixels times channels up to which covariances are estimated."""


class HistogramMixture(NamedTuple):
    """Mixture of independent histograms, one per component and pixel, as logarithms."""

    log_weights: Floats
    """Shape (K,)."""
    log_p: Floats
    """Shape (K, d, levels)."""


class Baseline(NamedTuple):
    """A fitted model, its chosen settings, and its likelihood of the test images."""

    name: str
    settings: dict[str, float]
    log_p: Floats
    """Shape (n,), nats."""


# --- histograms ---------------------------------------------------------------------------


def fit_histograms(
    images: Levels, levels: int, components: int, smoothing: float, rng: Generator, rounds: int = 60
) -> HistogramMixture:
    """Fit a mixture of histograms by expectation maximisation; one component needs one round.

        log_p[c, j, k] = log((count_c[j, k] + smoothing * prior[j, k]) / (count_c + smoothing))
        prior = 0.9 * histogram of all images + 0.1 / levels

    Parameters
    ----------
    images : Levels
    levels, components : int
    smoothing : float
        How many images the prior counts as; positive, so that no level is impossible.
    rng : Generator
        Draws the components' shares in each image, from which the first round starts.
    """
    images = check_levels(images, levels).astype(np.int64)  # unsigned ones become floats in sums
    n, d = images.shape
    components = check_integer("components", components, 1)
    smoothing = check_real("smoothing", smoothing, 0.0, math.inf)
    check_integer("rounds", rounds, 1)
    counts = np.bincount((images + levels * np.arange(d)).ravel(), minlength=d * levels)
    prior = 0.9 * counts / n + 0.1 / levels
    if components == 1:
        log_p = np.log((counts + smoothing * prior) / (n + smoothing))
        return HistogramMixture(np.zeros(1), log_p.reshape(1, d, levels))
    ones = (images[:, :, None] == np.arange(levels)).reshape(n, -1).astype(np.float64)
    shares = rng.dirichlet(np.full(components, 0.1), n)
    for _ in range(rounds):
        counts = np.sum(shares, axis=0)
        log_p = np.log((shares.T @ ones + smoothing * prior) / (counts + smoothing)[:, None])
        log_weights = np.log((counts + 1e-9) / np.sum(counts + 1e-9))
        joint = log_weights + ones @ log_p.T
        shares = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
    return HistogramMixture(log_weights, log_p.reshape(components, d, levels))


def histogram_log_prob(model: HistogramMixture, images: Levels) -> Floats:
    """Return log P(k) of a mixture of histograms, exact, shape (n,)."""
    _, d, levels = model.log_p.shape
    check_levels(images, levels, d=d)
    pixels = np.arange(d)
    parts = [np.sum(table[pixels, images], axis=1) for table in model.log_p]
    return logsumexp(np.stack(parts) + model.log_weights[:, None], axis=0)


def has_scikit_learn() -> bool:
    """Whether scikit-learn can be imported."""
    try:
        import sklearn.mixture  # noqa: F401
    except ImportError:
        return False
    return True


def fit_baselines(train: Levels, validation: Levels, test: Levels, levels: int) -> Iterator[Baseline]:
    """Fit every baseline to ``train``, choose by ``validation``, and score ``test``.

    Arrays of shape (n, d). Random numbers do not change from call to call. Models that
    cannot handle images this large are left out, as are mixtures of Gaussians without scikit-learn.

    Yields
    ------
    Baseline
        As soon as it is done.
    """
    for name, images in (("train", train), ("validation", validation), ("test", test)):
        check_levels(images, levels, name)
        if images.shape[1] != train.shape[1]:
            raise ValueError(
                f"{name} must have the {train.shape[1]} columns of train, got {images.shape}"
            )

    def choose(
        name: str,
        fit: Callable[..., Any],
        log_prob: Callable[[Any, Levels, int], Floats],
        **grid: Sequence[Any],
    ) -> Baseline:
        candidates = []
        for values in itertools.product(*grid.values()):
            settings = dict(zip(grid, values, strict=True))
            model = fit(**settings)
            score = float(np.mean(log_prob(model, validation, VALIDATION_DRAWS)))
            candidates.append((score, settings, model))
        _, settings, model = max(candidates, key=lambda candidate: candidate[0])
        return Baseline(name, settings, log_prob(model, test, TEST_DRAWS))

    def histograms(components: int, smoothing: float) -> HistogramMixture:
        return fit_histograms(train, levels, components, smoothing, generator(0, METRIC))

    def gaussian(ridge: float) -> NormalMixture:
        return fit_gaussian(train, ridge * levels**2)

    def mixture(components: int, ridge: float) -> NormalMixture:
        return fit_normal_mixture(train, components, ridge * levels**2, generator(0, METRIC))

    def refitted(components: int, ridge: float) -> NormalMixture:
        start, rng = mixture(components, ridge), generator(0, METRIC, 1)
        return refit_rounded(start, train, levels, ridge * levels**2, rng)

    def exact(model: HistogramMixture, images: Levels, draws: int) -> Floats:
        return histogram_log_prob(model, images)

    def dequantised(model: NormalMixture, images: Levels, draws: int) -> Floats:
        return dequantised_log_prob(model, images, draws, generator(0, METRIC, 2))

    def rounded(model: NormalMixture, images: Levels, draws: int) -> Floats:
        return rounded_log_prob(model, images, levels, draws, generator(0, METRIC, 3))

    yield choose(
        "histograms of pixels", histograms, exact, components=[1], smoothing=[1, 3, 10, 30, 100]
    )
    if train.size * levels <= LARGEST_TABLE:
        choice: dict[str, Any] = {"components": [10, 20, 40], "smoothing": [10, 30, 100]}
        yield choose("mixture of histograms", histograms, exact, **choice)
    if train.shape[1] > LARGEST_IMAGE:
        return
    yield choose("Gaussian, dequantised", gaussian, dequantised, ridge=[3e-5, *RIDGES])
    if not has_scikit_learn():
        return
    choice = {"components": [2, 5, 10], "ridge": RIDGES}
    yield choose("mixture of Gaussians, dequantised", mixture, dequantised, **choice)
    choice = {"components": [5, 10], "ridge": [3e-3, 1e-2]}
    yield choose("mixture of Gaussians, rounded", refitted, rounded, **choice)
