"""Networks with hand-written backpropagation: layers, denoisers, optimizers. No autograd."""

from ddpm_np.nn.combinators import Residual, Serial
from ddpm_np.nn.denoisers import Denoiser, MLPDenoiser
from ddpm_np.nn.layers import Layer, Linear, LinearParams, SiLU, time_embedding
from ddpm_np.nn.ops import Ops
from ddpm_np.nn.optimizers import (
    Adam,
    AdamState,
    AdamW,
    clip_by_global_norm,
    constant_rate,
    cosine_decay,
    ema_update,
    global_norm,
    linear_decay,
    warmup,
)

__all__ = [
    "Adam",
    "AdamState",
    "AdamW",
    "Denoiser",
    "Layer",
    "Linear",
    "LinearParams",
    "MLPDenoiser",
    "Ops",
    "Residual",
    "Serial",
    "SiLU",
    "clip_by_global_norm",
    "constant_rate",
    "cosine_decay",
    "ema_update",
    "global_norm",
    "linear_decay",
    "time_embedding",
    "warmup",
]
