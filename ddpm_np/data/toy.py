"""Toy data: seeded draws from known laws, host float64.

Every set has about unit scale, so that nothing needs to be standardised for the prior N(0, I). The
mean and standard deviation of each coordinate that a function documents are those of the law at its
default parameters, not of one draw. Draws are independent and identically distributed, including
which arm, circle or mode they belong to.
"""

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from ddpm_np._arrays import Samples, Table, as_table
from ddpm_np._checks import check_integer, check_real, describe

Seed: TypeAlias = int | np.random.Generator
"""A seed >= 0, or the generator to draw from."""

LARGEST_NOISE = 1e100
"""Whose square, and that of what it makes, is finite."""

SWISS_ROLL_RANGE = (1.5 * math.pi, 4.5 * math.pi)
SWISS_ROLL_NOISE = 0.05

EIGHT_GAUSSIANS_RADIUS = math.sqrt(2.0)
EIGHT_GAUSSIANS_NOISE = 0.15

MIXTURE_1D_WEIGHTS = (0.3, 0.5, 0.2)
MIXTURE_1D_MEANS = (-1.2, 0.1, 1.55)
MIXTURE_1D_NOISE = 0.25


def as_generator(seed: object) -> np.random.Generator:
    """Return a generator unchanged, or a new one for an int seed >= 0.

    Raises
    ------
    TypeError, ValueError
        If ``seed`` is neither.
    """
    if isinstance(seed, np.random.Generator):
        return seed
    try:
        return np.random.default_rng(check_integer("seed", seed, 0, math.inf))
    except TypeError:
        raise TypeError(
            f"seed must be an integer >= 0 or a numpy.random.Generator, got {describe(seed)}"
        ) from None


def swiss_roll_curve(u: Table) -> Samples:
    """Spiral that the swiss roll is drawn around, (u cos u, u sin u) / 8; (n,) to (n, 2)."""
    u = as_table("u", u)
    return np.stack([u * np.cos(u), u * np.sin(u)], axis=1) / 8.0


def swiss_roll(n: int, seed: Seed, noise: float = SWISS_ROLL_NOISE) -> Samples:
    """Spiral with one and a half turns; the exact law is :func:`ddpm_np.exact.swiss_roll_exact`.

        u ~ Uniform[1.5 pi, 4.5 pi],  x = (u cos u, u sin u) / 8 + noise * N(0, I)

    Mean (0.2500, 0.0265), standard deviation (0.8294, 0.8703).

    Parameters
    ----------
    n : int
        Number of draws, >= 1.
    seed : int or numpy.random.Generator
    noise : float
        Standard deviation of the noise, from 0 to 1e100.

    Returns
    -------
    array, shape (n, 2)

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.
    """
    n, noise, rng = _arguments(n, noise, seed)
    u = rng.uniform(*SWISS_ROLL_RANGE, size=n)
    return _blur(swiss_roll_curve(u), noise, rng)


def two_moons(n: int, seed: Seed, noise: float = 0.1) -> Samples:
    """Two interlocked half circles of radius 1, centred.

        u ~ Uniform[0, pi],  s = +1 or -1 with equal probability
        x = s * (cos u - 1/2, sin u - 1/4) + noise * N(0, I)

    Mean (0, 0), standard deviation (0.8718, 0.5042).

    Parameters, errors as :func:`swiss_roll`.
    """
    n, noise, rng = _arguments(n, noise, seed)
    u = rng.uniform(0.0, math.pi, size=n)
    side = rng.choice([-1.0, 1.0], size=(n, 1))
    return _blur(side * np.stack([np.cos(u) - 0.5, np.sin(u) - 0.25], axis=1), noise, rng)


def circles(n: int, seed: Seed, noise: float = 0.08) -> Samples:
    """Two concentric circles.

        r = 1.5 or 0.75 with equal probability,  u ~ Uniform[0, 2 pi]
        x = r * (cos u, sin u) + noise * N(0, I)

    Mean (0, 0), standard deviation (0.8423, 0.8423).

    Parameters, errors as :func:`swiss_roll`.
    """
    n, noise, rng = _arguments(n, noise, seed)
    radius = rng.choice([1.5, 0.75], size=(n, 1))
    return _blur(radius * _on_unit_circle(rng.uniform(0.0, 2.0 * math.pi, size=n)), noise, rng)


def checkerboard(n: int, seed: Seed) -> Samples:
    """Uniform on the eight dark squares of a 4 x 4 board on [-2, 2]^2.

        x_1 ~ Uniform[-2, 2],  x_2 uniform where floor(x_1) + floor(x_2) is even

    Mean (0, 0), standard deviation (1.1547, 1.1547).

    Parameters, errors as :func:`swiss_roll`; there is no noise.
    """
    n, _, rng = _arguments(n, 0.0, seed)
    column = rng.integers(-2, 2, size=n)
    row = 2 * rng.integers(-1, 1, size=n) + np.mod(column, 2)
    return np.stack([column, row], axis=1) + rng.uniform(size=(n, 2))


def eight_gaussians(n: int, seed: Seed, noise: float = EIGHT_GAUSSIANS_NOISE) -> Samples:
    """Eight Gaussians on a circle; the exact law is :func:`ddpm_np.exact.eight_gaussians_exact`.

        k ~ Uniform{0..7},  x = sqrt(2) * (cos(k pi / 4), sin(k pi / 4)) + noise * N(0, I)

    Mean (0, 0), standard deviation (1.0112, 1.0112): the variance is 1 + noise^2.

    Parameters, errors as :func:`swiss_roll`.
    """
    n, noise, rng = _arguments(n, noise, seed)
    return _blur(eight_gaussians_means()[rng.integers(8, size=n)], noise, rng)


def eight_gaussians_means() -> Samples:
    """Centres of :func:`eight_gaussians`, shape (8, 2)."""
    return EIGHT_GAUSSIANS_RADIUS * _on_unit_circle(np.arange(8, dtype=np.float64) * (math.pi / 4))


def pinwheel(n: int, seed: Seed, arms: int = 5, noise: float = 0.1) -> Samples:
    """Arms that leave the centre and bend with the radius.

        k ~ Uniform{0..arms-1},  r = 1 + 0.3 * N(0, 1),  s = noise * N(0, 1)
        x = scale * (r, s) rotated by 2 pi k / arms + exp(r) / 4
        scale = sqrt(2 / (1 + 0.3^2 + noise^2)), which makes the variance 1

    Mean (0, 0), standard deviation (1, 1).

    Parameters, errors as :func:`swiss_roll`; ``noise`` is the width of an arm before scaling,
    and ``arms`` must be an integer >= 3.
    """
    n, noise, rng = _arguments(n, noise, seed)
    arms = check_integer("arms", arms, 3)
    angle = rng.integers(arms, size=n) * (2.0 * math.pi / arms)
    r = 1.0 + 0.3 * rng.standard_normal(n)
    s = noise * rng.standard_normal(n)
    direction = _on_unit_circle(angle + np.exp(r) / 4.0)
    across = np.stack([-direction[:, 1], direction[:, 0]], axis=1)
    return math.sqrt(2.0 / (1.0 + 0.3**2 + noise**2)) * (r[:, None] * direction + s[:, None] * across)


def mixture_1d(n: int, seed: Seed, noise: float = MIXTURE_1D_NOISE) -> Samples:
    """Three Gaussians on a line, asymmetric; the exact law is :func:`ddpm_np.exact.mixture_1d_exact`.

        x = m + noise * N(0, 1),  m = -1.2, 0.1, 1.55 with probability 0.3, 0.5, 0.2

    Mean 0, standard deviation 0.9899.

    Parameters, errors as :func:`swiss_roll`.

    Returns
    -------
    array, shape (n, 1)
    """
    n, noise, rng = _arguments(n, noise, seed)
    return _blur(rng.choice(MIXTURE_1D_MEANS, size=(n, 1), p=MIXTURE_1D_WEIGHTS), noise, rng)


DATASETS: dict[str, Callable[[int, Seed], Samples]] = {
    "swiss_roll": swiss_roll,
    "two_moons": two_moons,
    "circles": circles,
    "checkerboard": checkerboard,
    "eight_gaussians": eight_gaussians,
    "pinwheel": pinwheel,
    "mixture_1d": mixture_1d,
}
"""The named data sets, as functions of n and seed."""


def _arguments(n: object, noise: object, seed: object) -> tuple[int, float, np.random.Generator]:
    return (
        check_integer("n", n, 1),
        check_real("noise", noise, 0.0, LARGEST_NOISE, closed=True),
        as_generator(seed),
    )


def _on_unit_circle(angle: Table) -> Samples:
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _blur(x: Samples, noise: float, rng: np.random.Generator) -> Samples:
    return x + noise * rng.standard_normal(x.shape)
