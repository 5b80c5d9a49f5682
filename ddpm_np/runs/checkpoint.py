"""Checkpoints: the state of a run in one .npz file, written all or nothing.

The file holds, by name, every parameter, its running average and both moments of the
optimizer (``params/0/weight``, ``average/0/weight``, ...), the table of beta, and under
``about`` a JSON text with the step and the configuration. Read one with ``numpy.load``.
"""

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_np._arrays import Array
from ddpm_np.nn.optimizers import AdamState
from ddpm_np.nn.tree import named_leaves
from ddpm_np.runs.files import atomic_write
from ddpm_np.training import Recipe, TrainState

FORMAT = "ddpm-np checkpoint 1"


class CheckpointError(RuntimeError):
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
    ``to_numpy`` brings an array of the state to the host. Errors as :func:`write_archive`.
    """
    trees = {name: recipe.layout.unravel(to_numpy(flat)) for name, flat in _flat_arrays(state).items()}
    about = {
        "step": state.step,
        "optimizer_step": state.optimizer.step,
        "configuration": _as_json(configuration),
    }
    arrays = {
        **dict(named_leaves(trees)),
        "loss_sum": to_numpy(state.loss_sum),
        "beta": recipe.schedule.beta,
    }
    write_archive(path, arrays, about)


def load_checkpoint(
    path: Path, recipe: Recipe, configuration: Mapping[str, Any], asarray: Callable[[Any], Array]
) -> TrainState:
    """Read a state that :func:`save_checkpoint` wrote for this recipe and configuration.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, or from another configuration, schedule or network.
    """
    arrays, about = read_archive(path)
    missing = {"beta", "loss_sum", "step", "optimizer_step", "configuration"} - {*arrays, *about}
    if missing:
        raise CheckpointError(
            f"{path} is no checkpoint of a run: it has no {', '.join(sorted(missing))}"
        )
    saved, configuration = about["configuration"], _as_json(configuration)
    different = [
        f"{name} was {saved.get(name)!r} and is now {configuration.get(name)!r}"
        for name in dict.fromkeys([*saved, *configuration])
        if saved.get(name) != configuration.get(name)
    ]
    if different:
        raise CheckpointError(f"{path} is from another configuration: {'; '.join(different)}")
    if not np.array_equal(arrays["beta"], recipe.schedule.beta):
        raise CheckpointError(
            f"{path} is from another noise schedule: {_describe_beta(arrays['beta'])}, "
            f"and now {_describe_beta(recipe.schedule.beta)}"
        )

    places = dict(named_leaves(recipe.layout.tree))
    flat = {}
    for tree in ("params", "average", "adam_m", "adam_v"):
        leaves = []
        for name, place in places.items():
            leaf = arrays.get(f"{tree}/{name}")
            if leaf is None or leaf.shape != place.shape:
                found = "is missing" if leaf is None else f"has shape {leaf.shape}"
                raise CheckpointError(
                    f"{path} is from another network: {tree}/{name} {found}, wanted {place.shape}"
                )
            leaves.append(leaf.reshape(-1))
        flat[tree] = asarray(np.concatenate(leaves))
    return TrainState(
        about["step"],
        flat["params"],
        flat["average"],
        AdamState(about["optimizer_step"], flat["adam_m"], flat["adam_v"]),
        asarray(arrays["loss_sum"]),
    )


def write_archive(path: Path, arrays: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> None:
    """Write named arrays and a description, as JSON, to ``path``, atomically.

    Raises
    ------
    OSError
        If the folder cannot be written or the disk is full; the previous file is intact.
    """
    text = json.dumps({"format": FORMAT, **about}, allow_nan=False)
    with atomic_write(path) as file:
        np.savez(file, allow_pickle=False, about=np.array(text), **arrays)


def read_archive(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read what :func:`write_archive` wrote. Nothing in the file is executed.

    Returns
    -------
    arrays : dict of name to array
    about : dict

    Raises
    ------
    CheckpointError
        If the file is missing, unreadable, truncated, damaged, or not a checkpoint.
    """
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                # Reading a whole member checks its CRC before any of it is used.
                member = io.BytesIO(archive.read(name))
                array = np.lib.format.read_array(member, allow_pickle=False)
                arrays[name.removesuffix(".npy")] = array
        about: dict[str, Any] = json.loads(str(arrays.pop("about")[()]))
        found = about.pop("format")
    except FileNotFoundError:
        raise CheckpointError(f"there is no {path}") from None
    except Exception as error:  # a damaged zip file can raise nearly anything
        raise CheckpointError(
            f"{path} cannot be read, it is damaged or no checkpoint "
            f"({type(error).__name__}: {' '.join(str(error).split())})"
        ) from None
    if found != FORMAT:
        raise CheckpointError(f"{path} has format {found!r}, this version reads {FORMAT!r}")
    return arrays, about


def _as_json(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration as it comes back from a file: tuples as lists, and so on."""
    return json.loads(json.dumps(dict(configuration), allow_nan=False))


def _describe_beta(beta: NDArray[Any]) -> str:
    return f"T = {len(beta) - 1} with beta from {beta[1]:.6g} to {beta[-1]:.6g}"


def _flat_arrays(state: TrainState) -> dict[str, Array]:
    return {
        "params": state.params,
        "average": state.average,
        "adam_m": state.optimizer.m,
        "adam_v": state.optimizer.v,
    }
