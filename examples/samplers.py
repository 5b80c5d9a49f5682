"""An atlas of samplers: what an evaluation of the network buys, where the truth is known.

    python examples/samplers.py

Each sampler against the number of network evaluations: on Gaussian data, where the law of its samples
is exact; on a mixture in one dimension, where the probability flow keeps quantiles; and on the swiss
roll, with a network that is trained first. Prints tables, and writes samplers.png and summary.json.
"""

if __name__ == "__main__":
    import _signals

    _signals.exit_at_once("samplers.py")  # until run_command takes over

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# _command_line before NumPy: it sets BLAS threads
from _command_line import OUT_DIR, folder, integer, new_parser, require_plotting, run_command
from _roll_network import add_network_flags, trained_denoiser
from _samplers import FLOW, TIMES, Walk, make_walk

# isort: split
import numpy as np

import ddpm_np as ddpm
from ddpm_np import Predictor, Schedule
from ddpm_np.data.distances import sliced_wasserstein
from ddpm_np.data.files import DataError, read_array
from ddpm_np.exact import GaussianData, linear_sampler_law, mixture_1d_exact, swiss_roll_exact
from ddpm_np.randomness import SAMPLE, TEST, generator
from ddpm_np.runs.files import write_json
from ddpm_np.runs.folder import hold_folder
from ddpm_np.schedules import log_snr_schedule

STEPS = (5, 10, 20, 40, 80, 160)
"""How many steps a sampler takes; Heun's method asks the network twice in each but the last."""
T = 1000
EIGENVALUES = 1000
FLOOR_PAIRS = 4

Errors = dict[str, list[float]]
"""For each sampler, its error at each number of steps."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    return run_command("samplers.py", parse, run, arguments)


def run(options: argparse.Namespace) -> None:
    """Measure, print, draw."""
    variances = read_spectrum(options.spectrum)
    require_plotting()
    with hold_folder(options.out_dir, ("summary.json", "samplers.png")):
        run_in_folder(options, variances)
    print(f"everything is in {options.out_dir}")


def run_in_folder(options: argparse.Namespace, variances: np.ndarray) -> None:
    """Write both files."""
    gaussian = gaussian_errors(variances, options.times)
    print_table(f"Gaussian data, {len(variances)} eigenvalues: exact Wasserstein-2 distance", gaussian)
    mixture = mixture_errors(options)
    print_table("Mixture in 1-D: median |x_0 - exact flow of x_T|", mixture)
    roll, floor = roll_errors(options)
    print_table("Swiss roll, trained network: sliced Wasserstein-2 distance", roll)
    print(f"  {'two fresh data sets':<24}{floor:>10.4f}\n")
    results = {"gaussian": gaussian, "mixture": mixture, "swiss_roll": roll}
    write_json(
        options.out_dir / "summary.json",
        {"steps": list(STEPS), "times": options.times, **results, "swiss_roll_floor": floor},
    )
    draw(options.out_dir / "samplers.png", list(results.values()), floor)


# --- the command line ---------------------------------------------------------------------


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse and check the command line; a mistake is one sentence and exit status 2."""
    parser = new_parser("An atlas of samplers: error against evaluations of the network.")
    add = parser.add_argument
    add("--spectrum", type=folder, help=f"file.npy of variances; default: k^-2, k = 1..{EIGENVALUES}")
    add("--times", choices=tuple(TIMES), default="log-snr", help="which times the samplers visit")
    add_network_flags(parser)
    add("--points", type=integer(2, 10**6), default=4000, help="samples of the mixture and of the roll")
    add("--seed", type=integer(0, 2**63), default=0, help="random seed")
    add("--out-dir", type=folder, default=Path("runs/samplers"), help=OUT_DIR)
    return parser.parse_args(arguments)


def read_spectrum(path: Path | None) -> np.ndarray:
    """Variances along the principal axes of Gaussian data."""
    if path is None:
        return np.arange(1.0, EIGENVALUES + 1.0) ** -2.0
    variances = read_array(path, "spectrum")
    if variances.ndim != 1 or not variances.size or variances.dtype.kind not in "fiu":
        raise DataError(f"{path} must hold variances, shape (d,), got shape {variances.shape}")
    variances = variances.astype(np.float64)
    if not (np.all(variances >= 1e-10) and np.all(variances <= 1e12)):  # those of exact_schedule
        raise DataError(f"{path} must hold variances between 1e-10 and 1e12")
    return variances


# --- errors that are known ----------------------------------------------------------------


def gaussian_errors(variances: np.ndarray, choice: str) -> Errors:
    """Distance from the law of the samples to that of the data: no sampling, the law is exact."""
    law = GaussianData(np.zeros(len(variances)), variances)
    schedule = exact_schedule(np.sqrt(variances))
    predict = exact_denoiser(law, schedule)

    def error(walk: Walk) -> float:
        found = linear_sampler_law(law, lambda x_T, noise: walk(predict, x_T, noise))
        return found.wasserstein2(law)

    return errors(schedule, choice, error, walks=("ancestral", "ancestral, beta", *FLOW))


def mixture_errors(options: argparse.Namespace) -> Errors:
    """Distance of points from where the exact flow takes them; the median, as a few converge late."""
    law = mixture_1d_exact()
    schedule = exact_schedule(np.array([law.std]))
    predict = exact_denoiser(law, schedule)
    x_T = generator(options.seed, SAMPLE).standard_normal((options.points, 1))
    exact = law.flow(schedule, x_T)
    return errors(
        schedule,
        options.times,
        lambda walk: float(np.median(np.abs(walk(predict, x_T, no_noise) - exact))),
        walks=tuple(FLOW),
    )


def roll_errors(options: argparse.Namespace) -> tuple[Errors, float]:
    """Sliced distance of samples of a trained network from fresh data, and that of fresh data."""
    schedule, law = ddpm.scaled_linear_schedule(T), swiss_roll_exact()
    predict = trained_denoiser(schedule, options) if options.steps else exact_denoiser(law, schedule)
    fresh = [
        law.sample(options.points, generator(options.seed, TEST, k)) for k in range(2 * FLOOR_PAIRS)
    ]

    def distance(x: np.ndarray, others: list[np.ndarray]) -> float:
        return float(np.mean([sliced_wasserstein(x, other, seed=options.seed) for other in others]))

    def noise(t: int) -> np.ndarray:
        return generator(options.seed, SAMPLE, t).standard_normal((options.points, 2))

    floor = np.mean([distance(fresh[k], [fresh[k + FLOOR_PAIRS]]) for k in range(FLOOR_PAIRS)])
    x_T = noise(T + 1)
    found = errors(
        schedule,
        options.times,
        lambda walk: distance(walk(predict, x_T, noise), fresh[:FLOOR_PAIRS]),
        walks=("ancestral", "ancestral, beta", *FLOW),
    )
    return found, float(floor)


def errors(
    schedule: Schedule, choice: str, error: Callable[[Walk], float], walks: tuple[str, ...]
) -> Errors:
    """The error of each sampler at each number of steps."""

    def measured(name: str, steps: int) -> float:
        kind, _, beta = name.partition(", ")
        times = TIMES[choice](schedule, steps).tolist()
        return error(make_walk(kind, schedule, times, "eps", "beta" if beta else "posterior"))

    return {name: [measured(name, steps) for steps in STEPS] for name in walks}


def exact_schedule(scales: np.ndarray) -> Schedule:
    """A chain from far below the smallest scale of the data to far above the largest."""
    noise = min(0.5, 0.01 * float(scales.min()))
    signal = min(0.5, 0.01 / float(scales.max()))
    return log_snr_schedule(T, noise, signal)


def exact_denoiser(law: Any, schedule: Schedule) -> Predictor:
    """E[noise | x_t]."""
    return lambda x_t, t: law.bayes_eps(schedule, x_t, t)


def no_noise(t: int) -> np.ndarray:
    """What the flow's samplers do not ask for."""
    raise AssertionError(t)


# --- what people see ----------------------------------------------------------------------


def evaluations(name: str) -> np.ndarray:
    """How often a sampler asks the network."""
    steps = np.array(STEPS)
    return 2 * steps - 1 if name == "heun" else steps


def slopes(values: list[float]) -> np.ndarray:
    """Orders: how fast the error falls from one number of steps to twice it."""
    return np.log2(np.array(values[:-1]) / np.array(values[1:]))


def print_table(title: str, found: Errors) -> None:
    """Print the error of each sampler, and the order of convergence where it is steepest."""
    print(f"\n{title}\n  {'steps':<24}" + "".join(f"{steps:>10}" for steps in STEPS) + "     order")
    for name, values in found.items():
        cells = "".join(f"{value:>10.2g}" for value in values)
        print(f"  {name:<24}{cells}{slopes(values)[-1]:>10.2f}")


def draw(path: Path, panels: list[Errors], floor: float) -> None:
    """Draw error against evaluations, with lines of slope 1 and 2."""
    from matplotlib.figure import Figure

    from ddpm_np.plotting.points import PALETTE, save

    figure = Figure(figsize=(13.0, 4.4), layout="constrained")
    titles = (
        "Gaussian data, exact law\nWasserstein-2 distance",
        "mixture in 1-D, exact denoiser\nmedian error against the exact flow",
        "swiss roll, trained network\nsliced Wasserstein-2 distance",
    )
    names = list(panels[0])
    for axes, title, found in zip(figure.subplots(1, 3), titles, panels, strict=True):
        for name, values in found.items():
            k = names.index(name)
            style = {"color": PALETTE[k], "marker": "osD^v"[k], "ms": 5, "lw": 1.6}
            axes.plot(evaluations(name), values, label=name, **style)
        axes.set(xscale="log", yscale="log", xlabel="evaluations of the network", title=title)
        if found is not panels[2]:
            draw_slopes(axes, found)
        axes.set_xticks(STEPS, [str(steps) for steps in STEPS])
        axes.minorticks_off()
        axes.grid(alpha=0.25, lw=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        if found is panels[2]:
            axes.axhline(floor, color="0.4", lw=1, ls=":", label="two fresh data sets")
        axes.legend(frameon=False, fontsize="small")
    save(figure, path)


def draw_slopes(axes: Any, found: Errors) -> None:
    """Draw how errors of order 1 and 2 fall, below the others."""
    x, end = np.array([STEPS[-3], STEPS[-1]]), min(values[-1] for values in found.values())
    for order, style in ((1, "--"), (2, ":")):
        y = 0.5 * end * (x[-1] / x) ** order
        axes.plot(
            x, y, style, color="0.4", lw=1.2, label=f"slope {-order}".replace("-", "\N{MINUS SIGN}")
        )


if __name__ == "__main__":
    sys.exit(main())
