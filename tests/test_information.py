"""Entropy as an integral of denoising errors, against quadrature and closed forms."""

import math

import numpy as np
import pytest

from ddpm_np.exact import (
    IsotropicMixture,
    NoisyCurve,
    eight_gaussians_exact,
    mixture_1d_exact,
    swiss_roll_exact,
)
from ddpm_np.forward import q_sample
from ddpm_np.identities import entropy_from_mmse
from ddpm_np.schedules import linear_schedule

FAR = IsotropicMixture([0.3, 0.7], [[1000.0], [1030.0]], 0.05)


@pytest.mark.parametrize(
    ("law", "nodes"),
    [(mixture_1d_exact(), 10), (FAR, 10), (eight_gaussians_exact(), 6), (swiss_roll_exact(), 6)],
    ids=["mixture_1d", "far apart", "eight_gaussians", "swiss_roll"],
)
def test_mmse_gives_the_entropy(law, nodes):
    """To 1e-8 of -E[log p] by quadrature."""
    assert entropy_from_mmse(law, nodes=nodes) == pytest.approx(law.entropy(), abs=1e-8)


@pytest.mark.parametrize("std", [1e-12, 1e-3, 0.25, 1.0, 25.0])
def test_one_gaussian_in_closed_form(std):
    law = IsotropicMixture([1.0], [[3.0 * std]], std)
    expected = 0.5 * math.log(2.0 * math.pi * math.e * std**2)
    assert entropy_from_mmse(law) == pytest.approx(expected, abs=1e-12)


def test_curve_in_one_dimension():
    law = NoisyCurve(lambda u: u[:, None], 0.0, 2.0, 0.1)
    assert entropy_from_mmse(law) == pytest.approx(law.entropy(), abs=1e-8)


@pytest.mark.parametrize("t", [1, 250, 1000])
@pytest.mark.parametrize(
    "law", [mixture_1d_exact(), swiss_roll_exact()], ids=["mixture_1d", "swiss_roll"]
)
def test_mmse_is_d_less_the_fisher_information(law, t):
    """gamma mmse = E||eps - E[eps | x_t]||^2 = d - (1 - alpha_bar) J(x_t), by Monte Carlo."""
    schedule, rng, n = linear_schedule(1000), np.random.default_rng(0), 20_000
    x0 = law.sample(n, rng)
    eps = rng.standard_normal(x0.shape)
    error = np.sum((eps - law.bayes_eps(schedule, q_sample(schedule, x0, t, eps), t)) ** 2, axis=1)
    J = law.diffused(schedule, t).fisher_information()
    exact = law.d - schedule.one_minus_alpha_bar[t] * J
    assert abs(error.mean() - exact) < 4.0 * error.std() / math.sqrt(n)


@pytest.mark.parametrize("d", [1, 2])
def test_fisher_information_of_a_gaussian(d):
    law = IsotropicMixture([1.0], np.full((1, d), 0.37), 1.7)
    assert law.fisher_information() == pytest.approx(d / 1.7**2, rel=1e-12)


def test_fisher_information_is_the_slope_of_the_entropy():
    """De Bruijn: dH / d(std^2) = J / 2, along the noise that is added to the means."""
    means, weights, h = mixture_1d_exact().means, mixture_1d_exact().weights, 1e-4
    low, high = (IsotropicMixture(weights, means, math.sqrt(0.0625 + s)).entropy() for s in (-h, h))
    J = mixture_1d_exact().fisher_information()
    assert (high - low) / (2.0 * h) == pytest.approx(J / 2.0, rel=1e-5)


def test_bad_arguments():
    with pytest.raises(TypeError, match="law must be an IsotropicMixture or a NoisyCurve"):
        entropy_from_mmse(3.0)
    with pytest.raises(ValueError, match="nodes must be >= 2"):
        entropy_from_mmse(mixture_1d_exact(), nodes=1)
    with pytest.raises(
        ValueError, match=r"fisher_information is computed .* d = 1 and d = 2 only, got d = 3"
    ):
        entropy_from_mmse(IsotropicMixture([1.0], np.zeros((1, 3)), 1.0))
