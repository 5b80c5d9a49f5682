"""What examples/digits.py says about a run: tables of bits, measures of the samples, pictures."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import _command_line  # noqa: F401  # before NumPy: it sets BLAS threads
from _digits_setup import Task
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
    bounds: Mapping[str, Elbo],
    flow: np.ndarray,
    baselines: Sequence[Baseline],
    variance: str,
    dimensions: int,
    draws: int,
) -> dict[str, Any]:
    """Return the terms of each bound, the flow and every baseline, in bits per dimension, with errors.

    The entries of a bound for one image lie together, ``draws`` of them, and are averaged first. The
    flow's log-probabilities are of the first images.
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
    model = bits(bounds[variance].total)

    def beside_model(values: np.ndarray) -> dict[str, float]:
        difference = model[: len(values)] - values
        return {
            "total": mean(values),
            "total_se": standard_error(values),
            "difference": mean(difference),
            "difference_se": standard_error(difference),
        }

    return {
        "bits_per_dim": table,
        "flow_bits_per_dim": {"images": len(flow), **beside_model(flow / unit)},
        "baselines": {
            baseline.name: {**beside_model(baseline.log_p / unit), "settings": baseline.settings}
            for baseline in baselines
        },
    }


def print_tables(summary: Mapping[str, Any]) -> None:
    """Print the bound beside the baselines, and measures of the samples."""
    images = summary["images"]
    shape = " x ".join(map(str, images["shape"]))
    print(f"\nBits per dimension of {images['test']} test images, {shape}, {images['levels']} levels:")
    print(f"  {'diffusion, -ELBO, by reverse variance':<38}{'L_T':<18}{'L_mid':<18}{'L_0':<18}total")
    for kind, row in summary["bits_per_dim"].items():
        cells = [
            f"{row[name]:.4f} +- {row[f'{name}_se']:.4f}" for name in ("L_T", "L_mid", "L_0", "total")
        ]
        print(f"    {kind:<36}" + "".join(f"{cell:<18}" for cell in cells).rstrip())
    flow, against = summary["flow_bits_per_dim"], f"diffusion ({summary['variance']}) - "
    print(f"  {'diffusion, by its flow, dequantised':<38}{'total':<18}{against}flow")
    rows = {f"first {flow['images']} images": flow, **summary["baselines"]}
    for i, (name, row) in enumerate(rows.items()):
        if i == 1:
            print(f"  {'baseline':<38}{'total':<18}{against}baseline")
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


def sample_report(task: Task, x0: np.ndarray, intended: np.ndarray) -> dict[str, Any]:
    """Return how close samples are to training images, and whether they show the requested class."""
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
        "agreement_se": standard_error(right.astype(float)),
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
    task: Task,
    log: MetricsLog,
    bounds: Mapping[str, Elbo],
    frames: Mapping[int, np.ndarray],
    intended: np.ndarray,
) -> None:
    """Draw every picture; ``frames`` are the samples' x_t by t."""
    from ddpm_np.plotting.images import plot_image_grid, plot_terms
    from ddpm_np.plotting.points import plot_loss, plot_schedule, save

    schedule, folder = task.recipe.schedule, task.options.out_dir
    test = task.x[task.parts.test]
    test = test[..., : channels_shown(test)]
    frames = {t: frame[..., : channels_shown(frame)] for t, frame in frames.items()}
    terms = {kind: np.mean(bound.L, axis=1) for kind, bound in bounds.items()}
    save(plot_image_grid(test[:100], title="test images"), folder / "data.png")
    save(samples_grid(task, frames[0], intended), folder / "samples.png")
    save(strips(task, test[:SHOWN_STRIPS], frames, intended), folder / "strips.png")
    save(plot_terms(terms, task.x[0].size), folder / "terms.png")
    save(plot_loss(*loss_curve(log)), folder / "loss.png")
    save(plot_schedule({task.options.schedule: schedule}), folder / "schedule.png")


def samples_grid(task: Task, samples: np.ndarray, intended: np.ndarray) -> Any:
    """Draw samples, a row for each requested class."""
    from ddpm_np.plotting.images import plot_image_grid

    if not task.options.conditional:
        return plot_image_grid(samples[:100], title="samples")
    names = [str(name) for name in task.data.classes[:SHOWN_CLASSES]]
    each = min(10, np.count_nonzero(intended == 1))
    rows = [samples[intended == label][:each] for label in range(1, len(names) + 1)]
    return plot_image_grid(
        np.concatenate(rows),
        columns=each,
        rows=names,
        ylabel="class asked for",
        title=f"samples, guidance {task.options.guidance:g}",
    )


def strips(task: Task, start: np.ndarray, frames: Mapping[int, np.ndarray], intended: np.ndarray) -> Any:
    """Draw some images turning into noise, and noise into some samples, of different classes."""
    from ddpm_np.plotting.images import plot_image_strips

    schedule, times = task.recipe.schedule, sorted(frames)
    noise = generator(task.options.seed, BOUND, schedule.T + 1).standard_normal(start.shape)
    forward = [ddpm.q_sample(schedule, start, t, noise.astype(start.dtype)) for t in times]
    if task.options.conditional:
        shown = [label for label in range(1, SHOWN_STRIPS + 1) if label in intended]
        chosen = [np.argmax(intended == label) for label in shown]
    else:
        chosen = list(range(min(SHOWN_STRIPS, len(intended))))
    reverse = [frames[t][chosen] for t in reversed(times)]
    return plot_image_strips(forward, reverse, times)


def channels_shown(images: np.ndarray) -> int:
    """One channel, or three for colour."""
    return 3 if images.shape[3] == 3 else 1
