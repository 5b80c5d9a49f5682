"""Networks with hand-written backpropagation: layers, denoisers, optimizers. No autograd."""

from ddpm_np.nn.attention import SelfAttention, SelfAttentionParams
from ddpm_np.nn.combinators import OnFirst, Residual, ResidualOnFirst, Serial
from ddpm_np.nn.conditioned import (
    AdaptiveGroupNorm,
    ResidualBlock,
    ResidualBlockParams,
    TimeAndClass,
    TimeAndClassParams,
)
from ddpm_np.nn.conv_denoisers import ConvDenoiser, ConvDenoiserParams, UNet
from ddpm_np.nn.convolution import AveragePool, Conv2d, GroupNorm, GroupNormParams, Upsample
from ddpm_np.nn.denoisers import (
    Denoiser,
    Labels,
    LossAndGradient,
    MLPDenoiser,
    loss_and_gradient,
    mlp_loss_and_gradient,
)
from ddpm_np.nn.layers import (
    Layer,
    Linear,
    LinearParams,
    SiLU,
    time_embedding,
)
from ddpm_np.nn.ops import MLPParams, Ops
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
    "AdaptiveGroupNorm",
    "AveragePool",
    "Conv2d",
    "ConvDenoiser",
    "ConvDenoiserParams",
    "Denoiser",
    "GroupNorm",
    "GroupNormParams",
    "Labels",
    "Layer",
    "Linear",
    "LinearParams",
    "LossAndGradient",
    "MLPDenoiser",
    "MLPParams",
    "OnFirst",
    "Ops",
    "Residual",
    "ResidualBlock",
    "ResidualBlockParams",
    "ResidualOnFirst",
    "SelfAttention",
    "SelfAttentionParams",
    "Serial",
    "SiLU",
    "TimeAndClass",
    "TimeAndClassParams",
    "UNet",
    "Upsample",
    "clip_by_global_norm",
    "constant_rate",
    "cosine_decay",
    "ema_update",
    "global_norm",
    "linear_decay",
    "loss_and_gradient",
    "mlp_loss_and_gradient",
    "time_embedding",
    "warmup",
]
