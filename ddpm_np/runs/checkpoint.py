"""Checkpoints: the state of a run in one .npz file, written all or nothing.

The file holds, by name, every parameter, its running average and both moments of the
optimizer (``params/0/weight``, ``average/0/weight``, ...), the table of beta, and under
``about`` a JSON text with the step and the configuration. Read one with ``numpy.load``.
"""

import io
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_np._arrays import Array
from ddpm_np._checks import as_path, check_mapping
from ddpm_np.data.files import LONGEST_LINE, Archive, FileError, reading, shown
from ddpm_np.nn.optimizers import AdamState
from ddpm_np.nn.tree import named_leaves
from ddpm_np.runs.batches import STREAM
from ddpm_np.runs.files import atomic_write, parse_json, to_json
from ddpm_np.training import Recipe, TrainState

FORMAT = "ddpm-np checkpoint 1"
TREES = ("params", "average", "adam_m", "adam_v")
MOST_ABOUT = 2**20
"""Bytes that the description may take."""
MOST_BYTES = 2**32
"""Bytes that :func:`read_archive` reads in all."""
MOST_STEPS = 2**63
DAMAGED = "cannot be read, it is damaged or no checkpoint"


class CheckpointError(FileError):
    """A checkpoint cannot be read, or does not fit; the message says why in one sentence."""


def save_checkpoint(
    path: Path,
    recipe: Recipe,
    state: TrainState,
    configuration: Mapping[str, Any],
    to_numpy: Callable[[Array], NDArray[Any]],
) -> None:
    """Write the state of a run to ``path``, atomically.

    ``configuration`` is all that determines the run, as JSON: seed, sizes, learning rate, ...;
    ``to_numpy`` brings an array of the state to the host. Other errors as :func:`write_archive`.

    Raises
    ------
    FloatingPointError
        If a number of the state is not finite: no run could go on from it.
    ValueError
        If the optimizer has done other steps than the state.
    """
    path = as_path("path", path)
    if state.optimizer.step != state.step:
        raise ValueError(
            f"state must be at the step of its optimizer, {state.optimizer.step}, got {state.step}"
        )
    trees = {name: recipe.layout.unravel(to_numpy(flat)) for name, flat in _flat_arrays(state).items()}
    about = {
        "step": state.step,
        "optimizer_step": state.optimizer.step,
        "stream": STREAM,
        "configuration": _as_json(configuration),
    }
    arrays = {**dict(named_leaves(trees)), "loss_sum": to_numpy(state.loss_sum)}
    for name, array in arrays.items():
        if not np.all(np.isfinite(array)):
            raise FloatingPointError(
                f"training diverged by step {state.step}: {name} is no longer finite; "
                "look for NaN in the data, or try a lower learning rate"
            )
    write_archive(path, {**arrays, "beta": recipe.schedule.beta}, about)


def load_checkpoint(
    path: Path, recipe: Recipe, configuration: Mapping[str, Any], asarray: Callable[[Any], Array]
) -> TrainState:
    """Read a state that :func:`save_checkpoint` wrote for this recipe and configuration.

    No more memory is taken than such a state takes, whatever is in the file.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, holds what no run wrote, or is from another configuration,
        schedule, network or dtype, or from a version that drew other batches.
    """
    dtype = np.dtype(str(asarray(np.zeros(1)).dtype).rpartition(".")[2])  # "torch.float32" too
    with reading(path, CheckpointError, DAMAGED) as file:
        archive = Archive(file)
        about = _read_about(archive, path)
        missing = {"step", "optimizer_step", "configuration"} - about.keys()
        missing |= {"beta", "loss_sum"} - {*archive.names}
        if missing:
            raise CheckpointError(
                f"{shown(path)} is no checkpoint of a run: it has no {', '.join(sorted(missing))}"
            )
        _check_same_run(path, about, _as_json(configuration))
        step = _checked_step(path, about)
        _check_same_schedule(path, archive, recipe.schedule.beta)

        places = dict(named_leaves(recipe.layout.tree))
        expected = {f"{tree}/{name}" for tree in TREES for name in places}
        for name in sorted(archive.names - expected - {"about", "beta", "loss_sum"})[:1]:
            raise CheckpointError(
                f"{shown(path)} is from another network: it also has {shown(name)}, which this has not"
            )
        flat = {}
        for tree in TREES:
            whole = np.empty(recipe.layout.size, dtype)
            for name, place in places.items():
                leaf = _read_leaf(path, archive, f"{tree}/{name}", place.shape, dtype)
                whole[place.start : place.stop] = leaf.reshape(-1)
            flat[tree] = asarray(whole)
        loss_sum = asarray(_read_leaf(path, archive, "loss_sum", (), dtype))
    optimizer = AdamState(step, flat["adam_m"], flat["adam_v"])
    return TrainState(step, flat["params"], flat["average"], optimizer, loss_sum)


def _check_same_run(path: Path, about: dict[str, Any], now: dict[str, Any]) -> None:
    saved = about["configuration"]
    if not isinstance(saved, dict):
        raise CheckpointError(f"{shown(path)} is damaged: its configuration is no table of settings")
    different = [
        f"{shown(name, 40)} was {_value(saved, name)} and is now {_value(now, name)}"
        for name in dict.fromkeys([*saved, *now])
        if _as_text(saved.get(name)) != _as_text(now.get(name))
    ]
    if different:
        raise CheckpointError(_listed(f"{shown(path)} is from another configuration: ", different))
    if "stream" not in about:
        raise CheckpointError(
            f"{shown(path)} is of an older version, which may have drawn other batches: start afresh, "
            "without --resume, or go on with that version"
        )
    if about["stream"] != STREAM or isinstance(about["stream"], bool):
        raise CheckpointError(
            f"{shown(path)} is of another version: it was trained on batches of stream "
            f"{_value(about, 'stream')}, this version draws {STREAM!r}"
        )


def _listed(text: str, parts: list[str]) -> str:
    """Return a message with as many parts as fit, and how many more there are."""
    whole = text + "; ".join(parts)
    if len(whole) <= LONGEST_LINE:
        return whole
    told = [parts[0]]
    while len(text + "; ".join([*told, parts[len(told)]])) < LONGEST_LINE - len("; and 12345 more"):
        told.append(parts[len(told)])
    return f"{text}{'; '.join(told)}; and {len(parts) - len(told)} more"


def _as_text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)  # unlike the values, 1, 1.0 and True differ


def _value(table: dict[str, Any], name: str) -> str:
    return shown(repr(table.get(name)), 60)


def _checked_step(path: Path, about: dict[str, Any]) -> int:
    step = about["step"]
    if type(step) is not int or not 0 <= step < MOST_STEPS:
        raise CheckpointError(f"{shown(path)} is damaged: its step is {_value(about, 'step')}")
    if type(about["optimizer_step"]) is not int or about["optimizer_step"] != step:
        raise CheckpointError(
            f"{shown(path)} is damaged: the optimizer is at step {_value(about, 'optimizer_step')}, "
            f"the run at {step}"
        )
    return step


def _check_same_schedule(path: Path, archive: Archive, beta: NDArray[Any]) -> None:
    shape, dtype = archive.header("beta")
    if dtype != beta.dtype or len(shape) != 1 or shape[0] < 2:
        raise CheckpointError(f"{shown(path)} is damaged: its beta is no table of a schedule")
    saved = archive.read("beta", max(beta.nbytes, MOST_ABOUT))
    if not np.array_equal(saved, beta):
        raise CheckpointError(
            f"{shown(path)} is from another noise schedule: {_describe_beta(saved)}, "
            f"and now {_describe_beta(beta)}"
        )


def _read_leaf(
    path: Path, archive: Archive, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Read an array that must be what a run of this network has written."""
    declared = archive.header(name) if name in archive.names else None
    if declared is None or declared[0] != shape:
        found = "is missing" if declared is None else f"has shape {str(declared[0])[:60]}"
        raise CheckpointError(f"{shown(path)} is from another network: {name} {found}, wanted {shape}")
    if declared[1] != dtype:
        raise CheckpointError(
            f"{shown(path)} is of another dtype: {name} is {shown(declared[1], 40)}, wanted {dtype}"
        )
    array = archive.read(name, math.prod(shape) * dtype.itemsize)
    if not np.all(np.isfinite(array)):
        raise CheckpointError(f"{shown(path)} is damaged: {name} holds NaN or infinity")
    if name.startswith("adam_v/") and np.any(array < 0):
        raise CheckpointError(f"{shown(path)} is damaged: {name}, of squares, is negative")
    return array


def write_archive(path: Path, arrays: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> None:
    """Write named arrays and a description, as JSON, to ``path``, atomically.

    Raises
    ------
    TypeError, ValueError
        If an argument is not such.
    OSError
        If the folder cannot be written or the disk is full; the previous file is intact.
    """
    path = as_path("path", path)
    check_mapping("arrays", arrays)
    check_mapping("about", about)
    text = to_json("about", {"format": FORMAT, **about})
    content = io.BytesIO()
    try:
        np.savez(content, allow_pickle=False, about=np.array(text), **arrays)
    except ValueError as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # zipfile covers it by an error of its own
            raise error.__context__ from None
        raise
    with atomic_write(path) as file:
        file.write(content.getbuffer())


def read_archive(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read what :func:`write_archive` wrote. Nothing in the file is executed.

    Returns
    -------
    arrays : dict of name to array
    about : dict

    Raises
    ------
    CheckpointError
        If the file is missing, unreadable, truncated, damaged, larger than ``MOST_BYTES``, or not a
        checkpoint.
    """
    arrays, left = {}, MOST_BYTES
    with reading(path, CheckpointError, DAMAGED) as file:
        archive = Archive(file)
        about = _read_about(archive, path)
        for name in archive.names - {"about"}:
            arrays[name] = archive.read(name, left)
            left -= arrays[name].nbytes
    return arrays, about


def _read_about(archive: Archive, path: Path) -> dict[str, Any]:
    if "about" not in archive.names:
        raise ValueError("it has no description")
    text = archive.read("about", MOST_ABOUT)
    if text.shape != () or text.dtype.kind != "U":
        raise ValueError("its description is no text")
    about = parse_json(str(text[()]))
    if not isinstance(about, dict) or "format" not in about:
        raise ValueError("its description has no format")
    found = about.pop("format")
    if found != FORMAT:
        raise CheckpointError(
            f"{shown(path)} has format {shown(repr(found), 60)}, this version reads {FORMAT!r}"
        )
    return about


def _as_json(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration as it comes back from a file: tuples as lists, and so on."""
    check_mapping("configuration", configuration)
    return json.loads(to_json("configuration", dict(configuration)))


def _describe_beta(beta: NDArray[Any]) -> str:
    return f"T = {len(beta) - 1} with beta from {beta[1]:.6g} to {beta[-1]:.6g}"


def _flat_arrays(state: TrainState) -> dict[str, Array]:
    return {
        "params": state.params,
        "average": state.average,
        "adam_m": state.optimizer.m,
        "adam_v": state.optimizer.v,
    }
