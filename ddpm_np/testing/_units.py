"""The same number in other units, and summed or averaged over other axes."""

import numpy as np

from ddpm_np.testing.protocol import Values

LOG_2 = float(np.log(2.0))


def in_other_units(nats: Values, d: int) -> dict[str, Values]:
    """What a sum over dimensions in nats, shape (n, B), is in other units, by their names."""
    units = {
        "in bits, not nats": nats / LOG_2,
        "a mean over dimensions, not their sum": nats / d,
        "in bits per dimension, not nats": nats / (d * LOG_2),
    }
    batch = {
        "a mean over the batch, not one number per example": _over_batch(nats / nats.shape[-1]),
        "a sum over the batch, not one number per example": _over_batch(nats),
    }
    both = {f"{text}, and the sign is wrong": -values for text, values in units.items()}
    return {**units, **both, **(batch if nats.shape[-1] > 1 else {})}


def _over_batch(values: Values) -> Values:
    return values.sum(axis=-1, keepdims=True) * np.ones_like(values)
