"""How much of a published figure is its schedule: 2-D toys as they are commonly run.

    python examples/toys.py

T = 100 with beta from 1e-4 to 0.02, made for T = 1000, leaves 0.6 of x_0 in x_T, yet sampling starts
from N(0, I). Every column is the same estimate of KL(data || samples), in bits: of fresh data; of
samples by the Bayes-optimal denoiser, on that schedule and on one that reaches the noise; and of a
trained network's. Takes three minutes on an idle core.
"""

if __name__ == "__main__":
    import _signals

    _signals.exit_at_once("toys.py")  # until run_command takes over

import argparse
import math
import sys
from collections.abc import Callable
from typing import NamedTuple

# _command_line before NumPy: it sets BLAS threads
from _command_line import integer, new_parser, run_command

# isort: split
import numpy as np
from scipy.special import ndtr

import ddpm_np as ddpm
from ddpm_np.data import circles, eight_gaussians, swiss_roll, two_moons
from ddpm_np.data.distances import knn_kl
from ddpm_np.exact import IsotropicMixture, eight_gaussians_exact, swiss_roll_exact
from ddpm_np.nn import Adam, MLPDenoiser, Ops, cosine_decay, warmup
from ddpm_np.runs.batches import batches
from ddpm_np.runs.evaluation import predictor
from ddpm_np.training import Recipe, init_state, train

T, NEIGHBOURS = 100, 5


class Toy(NamedTuple):
    """Draws of a law, and its Bayes-optimal prediction of the noise."""

    sample: Callable[[int, int], np.ndarray]
    bayes_eps: Callable[[ddpm.Schedule, np.ndarray, int], np.ndarray]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    return run_command("toys.py", parse, run, arguments)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse and check the command line; a mistake is one sentence and exit status 2."""
    parser = new_parser("2-D toys as they are commonly run.")
    add = parser.add_argument
    add("toys", nargs="*", help=f"some of {', '.join(TOYS)}; default: all")
    add("--data", type=integer(NEIGHBOURS + 1), default=100_000, help="points of the data")
    add("--samples", type=integer(NEIGHBOURS), default=10_000, help="points drawn from each model")
    add("--steps", type=integer(1), default=10_000, help="gradient steps")
    options = parser.parse_args(arguments)
    if unknown := {*options.toys} - {*TOYS}:
        parser.error(f"there is no toy {', '.join(sorted(unknown))}, only {', '.join(TOYS)}")
    return options


def run(options: argparse.Namespace) -> None:
    """Print a row for each toy."""
    print("| toy | fresh data | Bayes, T = 100 as common | network, same | Bayes, beta for T = 100 |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name in options.toys or TOYS:
        bits = measure(TOYS[name], options.data, options.samples, options.steps)
        print("|", " | ".join([name, *(f"{value:.3f}" for value in bits)]), "|", flush=True)


def measure(toy: Toy, n: int, m: int, steps: int) -> list[float]:
    """Estimate KL(data || samples) of all columns, in bits."""
    data, common, scaled = toy.sample(n, 0), ddpm.linear_schedule(T), ddpm.scaled_linear_schedule(T)
    compared = [
        toy.sample(m, 1),
        draw(common, lambda x_t, t: toy.bayes_eps(common, x_t, t), m),
        draw(common, trained(common, data, steps), m),
        draw(scaled, lambda x_t, t: toy.bayes_eps(scaled, x_t, t), m),
    ]
    return [knn_kl(data, points, k=NEIGHBOURS) / math.log(2.0) for points in compared]


def draw(schedule: ddpm.Schedule, predict: ddpm.Predictor, m: int) -> np.ndarray:
    """Ancestral sampling with the variance beta_tilde."""
    rng, sigma2 = np.random.default_rng(2), ddpm.reverse_variance(schedule, "posterior")
    x_T = rng.standard_normal((m, 2))
    noise = rng.standard_normal((T + 1, m, 2))
    return ddpm.ancestral_sample(schedule, predict, x_T, noise=lambda t: noise[t], sigma2=sigma2)


def trained(schedule: ddpm.Schedule, data: np.ndarray, steps: int) -> ddpm.Predictor:
    """Algorithm 1 on the data."""
    rate = warmup(cosine_decay(3e-3, steps), min(200, steps))
    recipe = Recipe(schedule, MLPDenoiser(2, T), Adam(rate), ema_decay=0.995)
    state = init_state(recipe, 0, np.float32)
    state = train(recipe, state, batches(data.astype(np.float32), T, 256, 0), Ops(), steps=steps)
    return predictor(recipe, state.average.astype(np.float64), Ops())


# --- the toys -----------------------------------------------------------------------------


def line() -> Toy:
    """The "line" of tiny-diffusion, a rectangle: uniform on [-2, 2] x [-4, 4]."""
    half = np.array([2.0, 4.0])

    def bayes_eps(schedule: ddpm.Schedule, x_t: np.ndarray, t: int) -> np.ndarray:
        # E[x_0 | x_t] is the mean of a truncated normal, on the side where no tails cancel.
        signal, noise = schedule.sqrt_alpha_bar[t], schedule.sqrt_one_minus_alpha_bar[t]
        y, blur = np.abs(x_t) / signal, noise / signal
        low, high = (-half - y) / blur, (half - y) / blur
        density = np.exp(-0.5 * low**2) - np.exp(-0.5 * high**2)
        mean = y + blur * density / math.sqrt(2.0 * math.pi) / (ndtr(high) - ndtr(low))
        return (x_t - signal * np.sign(x_t) * mean) / noise

    return Toy(lambda n, seed: np.random.default_rng(seed).uniform(-half, half, (n, 2)), bayes_eps)


def wide_moons() -> Toy:
    """The "moons" of tiny-diffusion: half circles with noise 0.03, then stretched by 2 and 3."""
    u, third = midpoints(0.0, math.pi, 150), np.polynomial.hermite_e.hermegauss(5)
    arcs = np.concatenate(
        [np.stack([np.cos(u), np.sin(u)], 1), np.stack([1.0 - np.cos(u), 0.5 - np.sin(u)], 1)]
    )
    # Noise 0.06 across and 0.09 along the second axis: what it has more is five points each.
    shifts = np.stack([0.0 * third[0], third[0] * math.sqrt(0.09**2 - 0.06**2)], 1)
    means = (arcs * [2.0, 3.0] + [-0.4, -0.1])[:, None] + shifts
    weights = np.tile(third[1] / np.sum(third[1]) / len(arcs), len(arcs))
    law = IsotropicMixture(weights, means.reshape(-1, 2), 0.06)
    return Toy(law.sample, law.bayes_eps)


def even_mixture(parts: list[np.ndarray], std: float) -> IsotropicMixture:
    """Each part weighs the same, and so does each of its points."""
    weights = np.concatenate([np.full(len(part), 1.0 / len(part)) for part in parts]) / len(parts)
    return IsotropicMixture(weights, np.concatenate(parts), std)


def midpoints(low: float, high: float, count: int) -> np.ndarray:
    """Those of as many equal parts of an interval."""
    return low + (high - low) * (np.arange(count) + 0.5) / count


def toys() -> dict[str, Toy]:
    """Two of tiny-diffusion's, and those of :mod:`ddpm_np.data` whose law is a mixture or a curve."""
    u, v = midpoints(0.0, math.pi, 150), midpoints(0.0, 2.0 * math.pi, 200)
    arc, ring = np.stack([np.cos(u) - 0.5, np.sin(u) - 0.25], 1), np.stack([np.cos(v), np.sin(v)], 1)
    moons, rings = even_mixture([arc, -arc], 0.1), even_mixture([1.5 * ring, 0.75 * ring], 0.08)
    return {
        "line": line(),
        "moons": wide_moons(),
        "two_moons": Toy(two_moons, moons.bayes_eps),
        "circles": Toy(circles, rings.bayes_eps),
        "swiss_roll": Toy(swiss_roll, swiss_roll_exact().bayes_eps),
        "eight_gaussians": Toy(eight_gaussians, eight_gaussians_exact().bayes_eps),
    }


TOYS = toys()

if __name__ == "__main__":
    sys.exit(main())
