"""The setup of examples/digits.py: its command line, and the images and recipe that follow from it."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _command_line import integer, new_parser, real  # before NumPy: it sets BLAS threads
from _training import LARGEST, Run, add_run_flags, peak_rate

# isort: split
import numpy as np

from ddpm_np.data.files import DataError
from ddpm_np.data.images import DIGITS_LEVELS, ImageData, Split, digits, load_images
from ddpm_np.nn import AdamW, UNet
from ddpm_np.reverse import VARIANCES
from ddpm_np.schedules import SCHEDULES, Schedule, log_snr_schedule, merge_first_steps
from ddpm_np.training import Recipe

EMA_DECAY = 0.995
WEIGHT_DECAY = 0.1
GROUPS = 8
LEAST_WHITE = 128
"""Images of 256 levels have one of at least this: otherwise 7 bits would do."""


@dataclass(frozen=True)
class Task(Run):
    """A run on images."""

    data: ImageData
    parts: Split
    x: np.ndarray
    """All images on [-1, 1], shape (n, H, W, C)."""


# --- the command line ---------------------------------------------------------------------


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse and check the command line; a mistake is one sentence and exit status 2."""
    what = "Train a diffusion model on images, sample from it, measure its bits per dimension."
    parser = new_parser(what)
    add_run_flags(
        parser,
        ("log_snr", *SCHEDULES),
        steps=3000,
        batch_size=128,
        timesteps=200,
        schedule="log_snr",
        target="v",
        learning_rate=4e-3,
        out_dir="runs/digits",
        checkpoint_every=500,
    )
    add_image_flags(parser)
    options = parser.parse_args(arguments)
    check(parser, options)
    options.levels_given = options.levels is not None
    options.levels = options.levels or (DIGITS_LEVELS if options.data is None else 256)
    options.guidance = 1.0 if options.guidance is None else options.guidance
    try:
        make_schedule(options)
    except (MemoryError, ValueError) as error:
        parser.error(f"--timesteps {options.timesteps} --schedule {options.schedule}: {error}")
    return options


def add_image_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags about the network, the images and the samples."""
    add = parser.add_argument
    add(
        "--first-noise",
        type=real(0.0),
        default=0.36,
        help="noise of x_1, in units of the distance between levels: earlier steps are merged into one",
    )
    add(
        "--channels",
        type=integer(1, LARGEST),
        default=32,
        help="of the U-Net at full resolution",
    )
    add("--blocks", type=integer(1, 1000), default=1, help="residual blocks per resolution, down and up")
    add("--depth", type=integer(1, 10), default=2, help="number of resolutions of the U-Net")
    choices = (*VARIANCES, "optimal")
    add(
        "--variance",
        choices=choices,
        default="optimal",
        help="variance of the sampling steps",
    )
    add(
        "--samples",
        type=integer(1, LARGEST),
        help="number to draw (default: 100, or 50 of each class)",
    )
    add("--conditional", action="store_true", help="train with the classes, and sample each")
    add("--guidance", type=real(0.0), help="its strength, with --conditional (default: 1)")
    add(
        "--data",
        type=Path,
        help="an .npz or .npy file of images (n, H, W) or (n, H, W, C), channels last "
        "((n, a, b, c) with a <= 4 < c and a != b is refused as channels first)",
    )
    add("--key", help="name of the images in an .npz file (default: images)")
    add("--labels-key", help="name of the labels in the file, for --conditional")
    add(
        "--levels",
        type=integer(2, 2**16),
        help="pixels in --data are 0..levels-1 "
        f"(default: 256, refused where the highest pixel is below {LEAST_WHITE})",
    )
    add("--no-baselines", action="store_true", help="do not compare with simpler models")


def check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse flags that do not go together."""
    if options.data is None:
        for name in ("key", "labels_key", "levels"):
            if getattr(options, name) is not None:
                parser.error(f"--{name.replace('_', '-')} needs --data: the digits have none to choose")
    elif options.conditional and options.labels_key is None:
        parser.error("--conditional needs --labels-key, where the classes of the images are")
    if options.guidance is not None and not options.conditional:
        parser.error("--guidance needs --conditional")
    if options.channels % GROUPS:
        parser.error(f"--channels must be divisible by {GROUPS}, got {options.channels}")


# --- what follows from it -----------------------------------------------------------------


def configuration(task: Task) -> dict[str, Any]:
    """Everything that the trained weights depend on: a checkpoint must agree with it."""
    network, noise = ("channels", "blocks", "depth"), ("timesteps", "schedule", "first_noise")
    rest = ("target", "learning_rate", "seed", "dtype", "conditional", "levels")
    names = ("backend", "steps", "batch_size", *network, *noise, *rest)
    values = {name: getattr(task.options, name) for name in names}
    return {**values, "data": task.data.fingerprint()}


def load(options: argparse.Namespace) -> ImageData:
    """Return the images that the options ask for."""
    if options.data is None:
        return digits()
    data = load_images(
        options.data,
        levels=options.levels,
        key=options.key or "images",
        labels_key=options.labels_key,
        multiple=2 ** (options.depth - 1),
    )
    low, high = int(data.images.min()), int(data.images.max())
    if not options.levels_given and high < LEAST_WHITE:
        raise DataError(
            f"{options.data}: images lie in {low}..{high}, too low for the 256 levels that are assumed "
            f"without --levels: add --levels {max(high + 1, 2)}, or --levels 256 if that is right"
        )
    return data


def make_schedule(options: argparse.Namespace) -> Schedule:
    """Return the noise schedule, which starts where noise begins to hide levels."""
    noise = options.first_noise * 2.0 / (options.levels - 1)
    if options.schedule == "log_snr":
        return log_snr_schedule(options.timesteps, noise)
    return merge_first_steps(SCHEDULES[options.schedule](options.timesteps), noise)


def make_recipe(options: argparse.Namespace, data: ImageData) -> Recipe:
    """Put schedule, network and optimizer together."""
    schedule = make_schedule(options)
    denoiser = UNet(
        channels=data.images.shape[3],
        T=schedule.T,
        width=options.channels,
        blocks=options.blocks,
        groups=GROUPS,
        classes=len(data.classes) if options.conditional else 0,
        multipliers=(1, *[2] * (options.depth - 1)),
    )
    rate = peak_rate(options.learning_rate, options.steps)
    optimizer = AdamW(rate, beta_2=0.99, weight_decay=WEIGHT_DECAY)
    return Recipe(schedule, denoiser, optimizer, options.target, ema_decay=EMA_DECAY)
