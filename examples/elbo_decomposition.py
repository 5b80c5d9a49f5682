"""The bound against the truth, term by term: Gaussian data exactly, a swiss roll by quadrature.

    python examples/elbo_decomposition.py

Prints, in nats, L_T, the sum of the L_{t-1}, L_0, their sum, the exact log p_theta(x_0), the
gap between the two and its independently computed value, a KL divergence. Then draws -L_{t-1}
for three reverse variances, with the Bayes-optimal and with a trained denoiser.
"""

if __name__ == "__main__":
    import _signals

    _signals.exit_at_once("elbo_decomposition.py")  # until run_command takes over

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# _command_line before NumPy: it sets BLAS threads
from _command_line import OUT_DIR, folder, integer, new_parser, run_command
from _roll_network import add_network_flags, trained_denoiser

# isort: split
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

import ddpm_np as ddpm
from ddpm_np import Predictor
from ddpm_np.exact import (
    LinearGaussianChain,
    gaussian_data_chain,
    optimal_variance,
    optimal_variance_gaussian,
    swiss_roll_exact,
)
from ddpm_np.plotting.points import PALETTE, save
from ddpm_np.randomness import BOUND, DATA, TEST, generator
from ddpm_np.runs.evaluation import standard_error
from ddpm_np.runs.files import write_json
from ddpm_np.runs.folder import hold_folder

VARIANCES = {"posterior": "β̃ (posterior)", "beta": "β", "optimal": "optimal"}
HO = "beta (Ho)"
"""beta_t, but beta_tilde_2 at t = 1, as in the code of Ho et al. for both its variances."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    return run_command("elbo_decomposition.py", parse, run, arguments)


def run(options: argparse.Namespace) -> None:
    """Print the tables, then draw."""
    with hold_folder(options.out_dir, ("summary.json", "terms.png")):
        run_in_folder(options)


def run_in_folder(options: argparse.Namespace) -> None:
    """Write both files."""
    schedule = ddpm.scaled_linear_schedule(options.timesteps)
    gaussians = gaussian_tables(schedule, options.seed)
    rolls = swiss_roll_tables(schedule, options)
    summary = {"timesteps": schedule.T, "gaussian": gaussians, "swiss_roll": rolls["summary"]}
    write_json(options.out_dir / "summary.json", summary)
    path = options.out_dir / "terms.png"
    save(plot_terms(rolls["terms"], schedule.T), path)
    print(f"\nthe picture is {path}")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse and check the command line."""
    parser = new_parser("The variational bound against the exact log-likelihood, term by term.")
    add = parser.add_argument
    add("--timesteps", type=integer(21, 10_000), default=1000, help="T, the number of diffusion steps")
    add("--points", type=integer(2, 10**6), default=4000, help="points of the roll to average over")
    add_network_flags(parser)
    add("--seed", type=integer(0, 2**63), default=0, help="random seed")
    add("--out-dir", type=folder, default=Path("runs/elbo_decomposition"), help=OUT_DIR)
    return parser.parse_args(arguments)


# --- Gaussian data: every number in closed form -------------------------------------------


def gaussian_tables(schedule: ddpm.Schedule, seed: int) -> dict[str, Any]:
    """Decompose the bound for 1-D and 2-D Gaussian data and the exact denoiser."""
    toys = {
        "1-D": (np.zeros(1), np.array([[0.25]])),
        "2-D": (np.array([0.5, -0.3]), np.array([[1.0, 0.6], [0.6, 0.5]])),
    }
    results: dict[str, Any] = {}
    for name, (mean, covariance) in toys.items():
        x0 = generator(seed, DATA).multivariate_normal(mean, covariance, size=5)[:1]
        entropy = 0.5 * np.linalg.slogdet(2.0 * np.pi * np.e * covariance)[1]
        print(f"\n{name} Gaussian data, exact denoiser, T = {schedule.T}; one point, nats:")
        header = ("sigma^2", "L_T", "sum L_{t-1}", "L_0", "ELBO", "log p(x_0)", "gap", "KL", "residual")
        print("  " + "".join(f"{title:>13}" for title in header))
        for kind in (*VARIANCES, HO):
            chain = gaussian_data_chain(
                schedule, mean, covariance, gaussian_variance(schedule, covariance, kind)
            )
            row = decompose(chain, x0)
            print(f"  {kind:>13}" + "".join(f"{value:>13.6f}" for value in row.values()))
            expected = float(chain.expected_elbo(mean, covariance).total)
            results[f"{name}, {kind}"] = {**row, "expected_nll_bound": -expected, "entropy": entropy}
        bounds = ", ".join(
            f"{results[f'{name}, {kind}']['expected_nll_bound']:.4f} ({kind})"
            for kind in (*VARIANCES, HO)
        )
        print(f"  on average over the data, -ELBO: {bounds}; entropy {entropy:.4f}")
    return results


def gaussian_variance(schedule: ddpm.Schedule, covariance: np.ndarray, kind: str) -> np.ndarray:
    """Return the table of reverse variances of a kind, the optimal one included."""
    if kind == "optimal":
        return optimal_variance_gaussian(schedule, covariance)
    if kind == HO:
        table = ddpm.reverse_variance(schedule, "beta")
        table[1] = schedule.posterior_variance[2]
        return table
    return ddpm.reverse_variance(schedule, kind)


def decompose(chain: LinearGaussianChain, x0: np.ndarray) -> dict[str, float]:
    """Every term for one point, the exact likelihood, and the gap by two routes."""
    terms = chain.elbo(x0)
    log_p, kl = float(chain.log_density(x0)[0]), float(chain.gap(x0)[0])
    elbo = float(terms.total[0])
    return {
        "L_T": float(terms.L_T[0]),
        "L_mid": float(np.sum(terms.L)),
        "L_0": float(terms.L_0[0]),
        "elbo": elbo,
        "log_p": log_p,
        "gap": log_p - elbo,
        "kl": kl,
        "residual": log_p - elbo - kl,
    }


# --- the swiss roll: the best denoiser by quadrature, and a trained one -------------------


def swiss_roll_tables(schedule: ddpm.Schedule, options: argparse.Namespace) -> dict[str, Any]:
    """Measure the bound of both denoisers for each variance, on the same draws."""
    law = swiss_roll_exact()
    test = law.sample(options.points, generator(options.seed, TEST))
    fresh = law.sample(options.points, generator(options.seed, TEST, 1))
    denoisers: dict[str, Predictor] = {"Bayes-optimal": lambda x_t, t: law.bayes_eps(schedule, x_t, t)}
    if options.steps:
        denoisers["trained"] = trained_denoiser(schedule, options)
    entropy = law.entropy()
    print(f"\nSwiss roll, T = {schedule.T}, {options.points} points; entropy {entropy:.4f} nats:")
    print(f"  {'denoiser':<15}{'sigma^2':>13}{'-ELBO':>10}{'gap':>10}{'+-':>8}")
    terms: dict[tuple[str, str], np.ndarray] = {}
    summary: dict[str, Any] = {"entropy": entropy}
    log_q, noise = law.log_density(test), host_noise(options.seed, 0, test.shape)
    other_noise = host_noise(options.seed, schedule.T + 1, fresh.shape)
    for name, predict in denoisers.items():
        variances = {kind: ddpm.reverse_variance(schedule, kind) for kind in ("posterior", "beta")}
        variances["optimal"] = optimal_variance(schedule, predict, fresh, noise=other_noise)
        remembered = remember(predict)
        for kind, sigma2 in variances.items():
            bound = ddpm.elbo_decomposition(schedule, remembered, test, noise=noise, sigma2=sigma2)
            # E[log q(x_0)] = -entropy: comparing point by point removes their sampling noise.
            gap = log_q - bound.total
            mean, error = float(np.mean(gap)), standard_error(gap)
            print(f"  {name:<15}{kind:>13}{mean + entropy:>10.4f}{mean:>10.4f}{error:>8.4f}")
            summary[f"{name}, {kind}"] = {"gap": mean, "gap_se": error}
            terms[name, kind] = np.mean(bound.L, axis=1)
    return {"summary": summary, "terms": terms}


def remember(predict: Predictor) -> Predictor:
    """Ask the denoiser once for each t: the variances are compared on the same x_t."""
    known: dict[int, np.ndarray] = {}

    def recall(x_t: np.ndarray, t: int) -> np.ndarray:
        if t not in known:
            known[t] = predict(x_t, t)
        return known[t]

    return recall


def host_noise(seed: int, offset: int, shape: tuple[int, ...]) -> Callable[[int], np.ndarray]:
    """Noise for each t, the same for every denoiser and variance; offsets do not overlap."""
    return lambda t: generator(seed, BOUND, offset + t).standard_normal(shape)


def plot_terms(terms: dict[tuple[str, str], np.ndarray], T: int) -> Figure:
    """Draw -L_{t-1} against t, and its excess over the best possible."""
    figure = Figure(figsize=(10.5, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    styles = {"Bayes-optimal": "-", "trained": (0, (2, 1.5))}
    best = terms["Bayes-optimal", "optimal"]
    t = np.arange(2, T + 1)
    for (name, kind), L in terms.items():
        color = PALETTE[list(VARIANCES).index(kind)]
        style = {"linestyle": styles[name], "color": color, "linewidth": 1.4}
        left.plot(t, -L[2:], label=f"{VARIANCES[kind]}, {name}", **style)
        if L is not best:
            right.plot(t, np.cumsum((best - L)[2:]), **style)
    left.set(xscale="log", yscale="log", xlabel="$t$", ylabel="$-L_{t-1}$ (nats)")
    right.set(xscale="log", xlabel="$t$", ylabel="nats")
    left.set_title("denoising terms of the bound on a swiss roll", fontsize="medium")
    right.set_title("excess over the best, summed up to $t$", fontsize="medium")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.set_minor_formatter(NullFormatter())  # their labels would overlap at small T
    left.legend(frameon=False, title="$\\sigma_t^2$, denoiser")
    return figure


if __name__ == "__main__":
    sys.exit(main())
