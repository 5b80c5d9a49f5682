"""Decoders: log p(x_0 | x_1)."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from ddpm_np.decoders import gaussian_decoder
from tests.strategies import EPS, assert_within, eps_of, shapes, values


@given(shapes().flatmap(lambda s: st.tuples(values(s), values(s))), st.floats(1e-4, 4.0))
def test_gaussian_is_scipys(pair, variance):
    x0, mean = pair
    each = stats.norm.logpdf(x0, mean, math.sqrt(variance))
    scale = ((x0 - mean) ** 2 / variance + 12.0).reshape(len(x0), -1).sum(axis=1)
    expected = each.reshape(len(x0), -1).sum(axis=1)
    assert_within(gaussian_decoder(x0, mean, variance), expected, 16 * EPS * scale)


def test_gaussian_is_a_density():
    """It integrates to 1 over x0, in two dimensions."""
    grid = np.linspace(-4.0, 4.0, 201)
    x0 = np.stack(np.meshgrid(grid, grid, indexing="ij"), axis=-1).reshape(-1, 2)
    mean = np.broadcast_to(np.array([0.3, -0.2]), x0.shape).copy()
    density = np.exp(gaussian_decoder(x0, mean, 0.09)).reshape(201, 201)
    total = integrate.trapezoid(integrate.trapezoid(density, grid), grid)
    # The grid is 7 times finer than sigma and ends 12 sigma away: exact.
    assert abs(total - 1.0) < 1e-12


def test_gaussian_on_every_library(lib, dtype):
    x0, mean = np.random.default_rng(0).standard_normal((2, 3, 2)).astype(dtype)
    result = gaussian_decoder(lib.array(x0, dtype), lib.array(mean, dtype), 0.5)
    assert str(result.dtype).endswith(dtype)
    expected = gaussian_decoder(x0.astype(np.float64), mean.astype(np.float64), 0.5)
    # Terms of size ten or less.
    assert_within(lib.host(result), expected, 160 * eps_of(dtype))
