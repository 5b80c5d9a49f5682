"""What examples/digits.py says about a run: tables of bits, what the samples are like, pictures."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import _command_line  # noqa: F401  # before NumPy: it sets BLAS threads
from _training import loss_curve, mean

# isort: split
import numpy as np

import ddpm_np as ddpm
from ddpm_np.data.baselines import Baseline, has_scikit_learn
from ddpm_np.data.images import to_levels
from ddpm_np.elbo import Elbo
from ddpm_np.randomness import BOUND, generator
from ddpm_np.runs.evaluation import standard_error
from ddpm_np.runs.log import MetricsLog

CLASSIFIED = 5000
"""Training images that the classifier sees, at most."""
SHOWN_CLASSES, SHOWN_STRIPS = 20, 3


# --- bits ---------------------------------------------------------------------------------


def bits_table(
    bounds: Mapping[str, Elbo], baselines: Sequence[Baseline], variance: str, dimensions: int, draws: int
) -> dict[str, Any]:
    """Return the terms of each bound and every baseline, in bits per dimension, with errors.

    The entries of a bound for one image lie together, ``draws`` of them, and are averaged first.
    """
    unit = -dimensions * math.log(2.0)

    def bits(nats: np.ndarray) -> np.ndarray:
        return nats.reshape(-1, draws).mean(axis=1) / unit

    table = {}
    for kind, bound in bounds.items():
        terms = {
            "L_T": bound.L_T,
            "L_mid": np.sum(bound.L, axis=0),
            "L_0": bound.L_0,
            "total": bound.total,
        }
        table[kind] = {name: mean(bits(values)) for name, values in terms.items()} | {
            f"{name}_se": standard_error(bits(values)) for name, values in terms.items()
        }
    model, rows = bits(bounds[variance].total), {}
    for baseline in baselines:
        values = baseline.log_p / unit
        rows[baseline.name] = {
            "total": mean(values),
            "total_se": standard_error(values),
            "difference": mean(model - values),
            "difference_se": standard_error(model - values),
            "settings": baseline.settings,
        }
    return {"bits_per_dim": table, "baselines": rows}


def print_tables(summary: Mapping[str, Any]) -> None:
    """Print the bound beside the baselines, and what the samples are like."""
    images = summary["images"]
    shape = " x ".join(map(str, images["shape"]))
    print(f"\nBits per dimension of {images['test']} test images, {shape}, {images['levels']} levels:")
    print(f"  {'diffusion, -ELBO, by reverse variance':<38}{'L_T':<18}{'L_mid':<18}{'L_0':<18}total")
    for kind, row in summary["bits_per_dim"].items():
        cells = [
            f"{row[name]:.4f} +- {row[f'{name}_se']:.4f}" for name in ("L_T", "L_mid", "L_0", "total")
        ]
        print(f"    {kind:<36}" + "".join(f"{cell:<18}" for cell in cells).rstrip())
    if summary["baselines"]:
        print(f"  {'baseline':<38}{'total':<18}diffusion ({summary['variance']}) - baseline")
    for name, row in summary["baselines"].items():
        total = f"{row['total']:.4f} +- {row['total_se']:.4f}"
        print(f"    {name:<36}{total:<18}{row['difference']:+.4f} +- {row['difference_se']:.4f}")
    samples = summary["samples"]
    print("Distance to the nearest training image, in levels per pixel (root mean square):")
    print(f"    {'samples':<36}{samples['nearest']:.4f}")
    print(f"    {'test images':<36}{samples['nearest_test']:.4f}")
    if "agreement" in samples:
        total = f"{samples['agreement']:.4f} +- {samples['agreement_se']:.4f}"
        print(f"Agreement of a classifier with the classes asked for, guidance {samples['guidance']:g}:")
        print(f"    {'samples':<36}{total}")
        print(f"    {'test images':<36}{samples['classifier_accuracy']:.4f}")
    print()


# --- samples ------------------------------------------------------------------------------


def sample_report(task: Any, x0: np.ndarray, intended: np.ndarray) -> dict[str, Any]:
    """Return how near samples are to training images, and whether they show what was asked for."""
    options, data, parts = task.options, task.data, task.parts
    flat = data.images.reshape(len(data.images), -1)
    levels = to_levels(x0, options.levels).reshape(len(x0), -1)
    report: dict[str, Any] = {
        "count": len(x0),
        "nearest": mean(nearest(levels, flat[parts.train])),
        "nearest_test": mean(nearest(flat[parts.test], flat[parts.train])),
    }
    if not (options.conditional and has_scikit_learn()):
        return report
    from sklearn.svm import SVC

    train = parts.train[:CLASSIFIED]
    classifier = SVC(C=10.0).fit(flat[train], data.labels[train])
    right = classifier.predict(levels) == intended
    report |= {
        "guidance": options.guidance,
        "agreement": mean(right),
        "agreement_se": standard_error(right),
        "classifier_accuracy": mean(classifier.predict(flat[parts.test]) == data.labels[parts.test]),
    }
    return report


def nearest(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Root mean square difference of each image to the nearest of the others."""
    a, b = images.astype(np.float64), others.astype(np.float64)
    squares = np.sum(b**2, axis=1)
    found = [
        np.min(np.sum(part**2, axis=1)[:, None] - 2.0 * part @ b.T + squares, axis=1)
        for part in np.array_split(a, -(-len(a) // 256))
    ]
    return np.sqrt(np.maximum(np.concatenate(found), 0.0) / a.shape[1])


# --- pictures -----------------------------------------------------------------------------


def draw(
    task: Any,
    log: MetricsLog,
    bounds: Mapping[str, Elbo],
    frames: Mapping[int, np.ndarray],
    intended: np.ndarray,
) -> None:
    """Write every picture."""
    from ddpm_np.plotting import images as image_plots
    from ddpm_np.plotting import points as plotting

    options, schedule, folder = task.options, task.recipe.schedule, task.options.out_dir
    frames = {t: frame[..., : channels_shown(frame)] for t, frame in frames.items()}
    test = task.x[task.parts.test]
    test = test[..., : channels_shown(test)]

    data = image_plots.plot_image_grid(test[:100], title="test images")
    plotting.save(data, folder / "data.png")
    if options.conditional:
        names = [str(name) for name in task.data.classes[:SHOWN_CLASSES]]
        each = min(10, np.count_nonzero(intended == 1))
        rows = [frames[0][intended == label][:each] for label in range(1, len(names) + 1)]
        samples = image_plots.plot_image_grid(
            np.concatenate(rows), columns=each, rows=names, ylabel="class asked for",
            title=f"samples, guidance {options.guidance:g}",
        )  # fmt: skip
        chosen = [int(np.flatnonzero(intended == label)[0]) for label in range(1, SHOWN_STRIPS + 1)
                  if np.any(intended == label)]  # fmt: skip
    else:
        samples = image_plots.plot_image_grid(frames[0][:100], title="samples")
        chosen = [*range(min(SHOWN_STRIPS, len(frames[0])))]
    plotting.save(samples, folder / "samples.png")

    times = sorted(frames)
    start = test[:SHOWN_STRIPS]
    noise = generator(options.seed, BOUND, schedule.T + 1).standard_normal(start.shape)
    forward = [ddpm.q_sample(schedule, start, t, noise.astype(start.dtype)) for t in times]
    reverse = [frames[t][chosen] for t in reversed(times)]
    strips = image_plots.plot_image_strips(forward, reverse, times)
    plotting.save(strips, folder / "strips.png")

    terms = {kind: np.mean(bound.L, axis=1) for kind, bound in bounds.items()}
    plotting.save(image_plots.plot_terms(terms, task.x[0].size), folder / "terms.png")
    plotting.save(plotting.plot_loss(*loss_curve(log)), folder / "loss.png")
    plotting.save(plotting.plot_schedule({options.schedule: schedule}), folder / "schedule.png")


def channels_shown(images: np.ndarray) -> int:
    """One channel, or the three of colours."""
    return 3 if images.shape[3] == 3 else 1
