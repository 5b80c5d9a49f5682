"""What sample.py of the PyTorch and the JAX port share: reading an exported network, and noise."""

import json
from pathlib import Path

import numpy as np


def read_network(path):
    """Read beta_1 ... beta_T, the weights by name, and the configuration; from safetensors or JSON."""
    content = Path(path).read_bytes()
    if Path(path).suffix == ".json":
        whole = json.loads(content)
        about, beta, dtype = whole["about"], np.array(whole["beta"]), whole["about"]["dtype"]
        weights = {
            name: np.array(values, dtype).reshape(whole["shapes"][name])
            for name, values in whole["weights"].items()
        }
    else:  # 8 bytes with the size of a JSON header; it says where in the rest each array lies
        start = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:start])
        about = json.loads(header.pop("__metadata__")["about"])
        weights = {name: array_at(content[start:], **place) for name, place in header.items()}
        beta = weights.pop("beta")
    return beta[1:], weights, about["configuration"]  # entry 0 of the table is t = 0


def array_at(content, dtype, shape, data_offsets):
    """Read an array of safetensors."""
    first, last = data_offsets
    kind = {"F32": "<f4", "F64": "<f8"}[dtype]
    return np.frombuffer(content[first:last], kind).reshape(shape).copy()


def read_noise(source, T, weights):
    """Read x_T, shape (B, d), and noise, (T + 1, B, d), from JSON; or draw so many."""
    dtype = weights["weight"].dtype
    if source.isdigit():
        shape = (T + 2, int(source), len(weights["weight"]))
        drawn = np.random.default_rng().standard_normal(shape).astype(dtype)
        return drawn[0], drawn[1:]
    given = json.loads(Path(source).read_text())
    return np.array(given["x_T"], dtype), np.array(given["noise"], dtype)
