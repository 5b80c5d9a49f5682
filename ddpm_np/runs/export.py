"""``python -m ddpm_np.runs.export checkpoint.npz --to safetensors``: a network for other frameworks.

The file holds the averaged weights of a run (with ``--raw``, the weights as trained), under the names
of :func:`ddpm_np.nn.tree.named_leaves`, and what else a port needs to sample: beta (float64, shape
(T + 1,), entry 0 is 0), the step and the run's configuration. docs/vectors.md lists names and shapes.

    safetensors  ``beta`` and the weights as arrays, the rest as JSON in the metadata under "about"
    json         one object: "about", "beta", and "shapes" and "weights" by name, as nested lists

Arrays are C-contiguous and little-endian. What was written is read back and compared.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddpm_np._checks import as_path, check_choice, check_flag
from ddpm_np.data.files import LONGEST_LINE, FileError, shown
from ddpm_np.runs.checkpoint import CheckpointError, read_archive
from ddpm_np.runs.files import atomic_write, parse_json

PROGRAM = "python -m ddpm_np.runs.export"
FORMAT = "ddpm-np export 1"
BETA = "beta"


class ExportError(FileError):
    """A network cannot be exported; the message says why in one sentence."""


class Network(NamedTuple):
    """What a port needs of a run."""

    about: dict[str, Any]
    """Format, which weights, their dtype, the step and the configuration."""
    beta: NDArray[np.float64]
    weights: dict[str, NDArray[Any]]


def export(
    checkpoint: str | os.PathLike[str], kind: str, out: str | os.PathLike[str], *, raw: bool = False
) -> Network:
    """Write the network of a checkpoint to ``out``, atomically, as "safetensors" or "json".

    Raises
    ------
    CheckpointError
        If the checkpoint cannot be read, or is not of a run.
    ExportError
        If ``out`` is the checkpoint, safetensors is not installed, or what was written reads otherwise.
    OSError
        If the file cannot be written.
    """
    pack, unpack = KINDS[check_choice("kind", kind, tuple(KINDS))]
    out = as_path("out", out)
    network = read_network(checkpoint, raw=raw)
    if os.path.realpath(out) == os.path.realpath(checkpoint):
        raise ExportError(f"--out must not be the checkpoint itself, {shown(out)}")
    content = pack(network)
    if not _same(network, unpack(content)):
        raise ExportError(f"{shown(out)} was not written: as {kind} it would read otherwise")
    with atomic_write(out) as file:
        file.write(content)
    if out.read_bytes() != content:
        raise ExportError(f"{shown(out)} reads otherwise than it was written: do not use it")
    return network


def read_network(checkpoint: str | os.PathLike[str], *, raw: bool = False) -> Network:
    """Read the weights of a checkpoint, averaged or raw, in plain layout."""
    check_flag("raw", raw)
    arrays, about = read_archive(as_path("checkpoint", checkpoint))
    tree = "params/" if raw else "average/"
    weights = {
        name.removeprefix(tree): _plain(array)
        for name, array in sorted(arrays.items())
        if name.startswith(tree)
    }
    missing = {"step", "configuration"} - about.keys() or {BETA} - arrays.keys()
    if missing or BETA in weights or len({array.dtype for array in weights.values()}) != 1:
        raise CheckpointError(f"{shown(checkpoint)} is no checkpoint of a run")
    for name, array in {**weights, BETA: arrays[BETA]}.items():
        if array.dtype.kind != "f" or not np.all(np.isfinite(array)):
            raise CheckpointError(f"{shown(checkpoint)} is damaged: {shown(name, 60)} is not finite")
    described = {
        "format": FORMAT,
        "weights": "raw" if raw else "average",
        "dtype": str(next(iter(weights.values())).dtype.newbyteorder("=")),
        "step": about["step"],
        "configuration": about["configuration"],
    }
    return Network(described, _plain(arrays[BETA]), weights)


# --- the two formats ----------------------------------------------------------------------


def to_json(network: Network) -> bytes:
    """One JSON object; numbers are written so that they read back the same, in float64 too."""
    whole = {
        "about": network.about,
        "beta": network.beta.tolist(),
        "shapes": {name: list(array.shape) for name, array in network.weights.items()},
        "weights": {name: array.tolist() for name, array in network.weights.items()},
    }
    return (json.dumps(whole, allow_nan=False) + "\n").encode()


def from_json(content: bytes) -> Network:
    """Undo :func:`to_json`."""
    whole = parse_json(content)
    dtype = whole["about"]["dtype"]
    weights = {
        name: np.array(values, dtype).reshape(whole["shapes"][name])
        for name, values in whole["weights"].items()
    }
    return Network(whole["about"], np.array(whole["beta"]), weights)


def to_safetensors(network: Network) -> bytes:
    """The format of https://github.com/huggingface/safetensors, by its own package."""
    return _safetensors().save(
        {BETA: network.beta, **network.weights},
        metadata={"about": json.dumps(network.about, allow_nan=False)},
    )


def from_safetensors(content: bytes) -> Network:
    """Undo :func:`to_safetensors`; the metadata by the format's definition, as a port reads them."""
    header = parse_json(content[8 : 8 + int.from_bytes(content[:8], "little")])
    weights = _safetensors().load(content)
    return Network(parse_json(header["__metadata__"]["about"]), weights.pop(BETA), weights)


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ExportError(
            f'safetensors cannot be imported ({error}): pip install "ddpm-np[export]", or take --to json'
        ) from None
    return safetensors.numpy


KINDS: dict[str, tuple[Callable[[Network], bytes], Callable[[bytes], Network]]] = {
    "safetensors": (to_safetensors, from_safetensors),
    "json": (to_json, from_json),
}
"""How to write and read each format."""


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """C-contiguous and little-endian: safetensors 0.8 writes the bytes of others in their own order."""
    return np.array(array, array.dtype.newbyteorder("<"), order="C")


def _same(one: Network, other: Network) -> bool:
    """Whether they agree to the last bit."""
    return (
        one.about == other.about
        and one.weights.keys() == other.weights.keys()
        and _alike(one.beta, other.beta)
        and all(_alike(array, other.weights[name]) for name, array in one.weights.items())
    )


def _alike(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


# --- the command line ---------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; what goes wrong is one sentence and exit status 2."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description="Write the network of a run for other frameworks to read."
    )
    add = parser.add_argument
    add("checkpoint", type=Path, help="of a run, checkpoint.npz in its folder")
    add("--to", choices=tuple(KINDS), required=True, help="the format")
    add("--out", type=Path, help="the file to write (default: beside the checkpoint)")
    add("--raw", action="store_true", help="the weights as trained, not their running average")
    options = parser.parse_args(arguments)
    out = options.out or options.checkpoint.with_suffix(f".{options.to}")
    try:
        network = export(options.checkpoint, options.to, out, raw=options.raw)
        print(_summary(out, network), flush=True)
    except (FileError, MemoryError, OSError, ValueError) as error:
        message = shown(" ".join(str(error).split()) or type(error).__name__, LONGEST_LINE)
        print(f"{PROGRAM}: error: {message}", file=sys.stderr)
        return 2
    return 0


def _summary(out: Path, network: Network) -> str:
    about, size = network.about, sum(array.size for array in network.weights.values())
    rows = [f"{out}: {about['weights']} weights of step {about['step']}, {size} of {about['dtype']}"]
    rows += [f"  {name} {array.shape}" for name, array in network.weights.items()]
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
