"""Layers, networks, optimisers and training: what their files say of them."""

from collections.abc import Callable
from typing import Any

from tests.vectors import denoiser_cases, layer_cases, network_formulas, optimisers
from tests.vectors.cases import Function
from tests.vectors.layer_cases import Found

IMAGES = "shape (B, H, W, n): images with their channels last"
TIMES = "integers from 1 to T, one for each example, shape (B,)"
DY = "the gradient that comes back, in the shape of {}; gradients are those of sum(dy * {})"
MLP_T = "the number of steps, an integer; it scales the time of the embedding"
MLP_WEIGHTS = (
    "weight (d, n), time_weight (size, n), bias (n,), hidden_weight (L, n, n), hidden_bias (L, n), "
    "out_weight (n, d), out_bias (d,)"
)
MLP = (
    "h = silu(x_t @ weight + time_embedding(T, size, t) @ time_weight + bias); h = h + silu(h @ "
    "hidden_weight[l] + hidden_bias[l]) for l = 0 ... L - 1; prediction = h @ out_weight + out_bias; "
    "silu(z) = z / (1 + exp(-z)); the embedding may be taken in float64 and rounded"
)
ATTENTION = (
    "rows = group_norm(x, norm/gain, norm/shift, groups, 1e-5) @ entry/weight + entry/bias, for each "
    "pixel; query, key, value = the first, second and last n columns of rows, each cut in heads of s "
    "= n / heads adjacent columns; in each head of each image looked = softmax(query @ key^T / "
    "sqrt(s)) @ value, the softmax over the keys of all H W pixels; y = (looked of all heads side by "
    "side) @ exit/weight + exit/bias; x is not added to y"
)
UNET = (
    "z = time_embedding(T, embedding_size, t) @ embedding/time/0/weight + embedding/time/0/bias; z = "
    "silu(z) @ embedding/time/2/weight + embedding/time/2/bias; z = z + embedding/classes[labels] if "
    "classes > 0; z = silu(z); h = conv2d(x_t, entry); h = level 0 (h, z), under trunk/; prediction = "
    "conv2d(silu(group_norm(h, exit/0)), exit/2). A level: `blocks` blocks, what is below, `blocks` "
    "blocks; its parts are numbered from 0 in the names. Below, at all levels but the last: h = h + "
    "up(conv2d(next level(pool(h), z), 1 x 1)), where pool is the mean of squares of 2 x 2 pixels and "
    "up repeats each pixel in such a square; its own parts are numbered too: 0 is pool, without "
    "weights, then come the next level's parts, last the 1 x 1 convolution, as .../0/weight and "
    ".../0/bias. Below, at the last level: h = h + attention(h, heads, groups) if heads > 0, else "
    "there is no such part. A block: u = conv2d(silu(group_norm(h, first/0)), first/2); scale, shift "
    "= the first and the second half of the columns of z @ modulation/weight + modulation/bias, for "
    "each image; u = conv2d(silu((1 + scale) * normalised(u) + shift), last/1), where normalised is "
    "group_norm with gain 1 and shift 0; h = skip + u, where skip is conv2d(h, skip/0), 1 x 1, if the "
    "block has such weights, else h. Level l has width * multipliers[l] channels. All group norms "
    "have `groups` groups and epsilon 1e-5. conv2d(h, name) takes name/weight and name/bias, "
    "group_norm(h, name) takes name/gain and name/shift, attention takes its weights under its own "
    "number"
)
CONFIG = (
    "channels of x_t, width, blocks, groups, embedding_size, classes, multipliers (one for each "
    "level), heads; integers"
)
GRADIENT = "for each name in weights, under d and its name, in its shape"


def _function(
    source: str,
    formula: str,
    inputs: dict[str, str],
    outputs: dict[str, str],
    compute: Callable[..., dict[str, Any]],
    cases: Callable[[], Found],
) -> Function:
    name = compute.__name__
    return Function(name, source, formula, inputs, outputs, compute, cases, optional=("labels",))


FUNCTIONS = [
    _function(
        "Vaswani et al. 2017, with t rescaled",
        "embedding = (sin(t' f_1), ..., sin(t' f_k), cos(t' f_1), ..., cos(t' f_k)), t' = 1000 t / T, "
        "k = size / 2, f_i = 10000^(-(i - 1) / k)",
        {"T": "the number of steps, an integer", "size": "an even integer", "t": TIMES},
        {"embedding": "shape (B, size)"},
        network_formulas.time_embedding,
        layer_cases.time_embedding,
    ),
    _function(
        "Elfwing et al. 2018",
        "y = x / (1 + exp(-x)); slope = dy/dx = g + y (1 - g) with g = 1 / (1 + exp(-x))",
        {"x": "of any shape"},
        {"y": "in the shape of x", "slope": "in the shape of x"},
        network_formulas.silu,
        layer_cases.silu,
    ),
    _function(
        "an affine map",
        "y = x @ weight + bias",
        {
            "x": "shape (B, inputs)",
            "weight": "shape (inputs, outputs)",
            "bias": "shape (outputs,)",
            "dy": DY.format("y", "y"),
        },
        {
            "y": "shape (B, outputs)",
            "dx": "in the shape of x",
            "dweight": "in the shape of weight",
            "dbias": "in the shape of bias",
        },
        network_formulas.linear_backward,
        layer_cases.linear_backward,
    ),
    _function(
        "a convolution",
        "y[b, p, q] = bias + sum over i, j of x[b, p + i - r, q + j - r] @ weight[i, j], r = (k - 1) "
        "/ 2, with zeros around the image",
        {
            "x": IMAGES,
            "weight": "shape (k, k, n, outputs), k odd; the first axis goes down, the second to the "
            "right",
            "bias": "shape (outputs,)",
            "dy": DY.format("y", "y"),
        },
        {
            "y": "shape (B, H, W, outputs)",
            "dx": "in the shape of x",
            "dweight": "in the shape of weight",
            "dbias": "in the shape of bias",
        },
        network_formulas.conv2d,
        layer_cases.conv2d,
    ),
    _function(
        "Wu & He 2018",
        "y = gain * (x - mean) / sqrt(variance + epsilon) + shift; mean and variance (the mean of the "
        "squared deviations) are those of one image and one group of n / groups adjacent channels, "
        "over all pixels",
        {
            "x": "shape (B, ..., n): images with their channels last",
            "gain": "shape (n,)",
            "shift": "shape (n,)",
            "groups": "an integer that divides n",
            "epsilon": "a number",
            "dy": DY.format("y", "y"),
        },
        {
            "y": "in the shape of x",
            "dx": "in the shape of x",
            "dgain": "shape (n,)",
            "dshift": "shape (n,)",
        },
        network_formulas.group_norm,
        layer_cases.group_norm,
    ),
    _function(
        "Vaswani et al. 2017",
        ATTENTION,
        {
            "x": IMAGES,
            "weights": "norm/gain (n,), norm/shift (n,), entry/weight (n, 3n), entry/bias (3n,), "
            "exit/weight (n, n), exit/bias (n,)",
            "heads": "an integer that divides n",
            "groups": "of the group norm, an integer that divides n",
            "dy": DY.format("y", "y"),
        },
        {"y": "in the shape of x", "dx": "in the shape of x", "d<name>": GRADIENT},
        network_formulas.attention,
        layer_cases.attention,
    ),
    _function(
        "a residual perceptron",
        MLP,
        {"T": MLP_T, "weights": MLP_WEIGHTS, "x_t": "shape (B, d)", "t": TIMES},
        {"prediction": "shape (B, d)"},
        network_formulas.mlp_forward,
        denoiser_cases.mlp_forward,
    ),
    _function(
        "M2 (35) with weights given; L_simple where they are 1",
        "loss = mean over all B d entries of loss_weight * (prediction - truth)^2; "
        f"the prediction is that of mlp_forward: {MLP}",
        {
            "T": MLP_T,
            "weights": MLP_WEIGHTS,
            "x_t": "shape (B, d)",
            "t": TIMES,
            "truth": "what should be predicted, shape (B, d)",
            "loss_weight": "one for each example, shape (B,)",
        },
        {"loss": "a number", "d<name>": f"the gradient of the loss {GRADIENT}"},
        network_formulas.mlp_loss_gradient,
        denoiser_cases.mlp_loss_gradient,
    ),
    _function(
        "Ronneberger et al. 2015, Nichol & Dhariwal 2021",
        UNET,
        {
            "T": "the number of steps, an integer",
            "config": CONFIG,
            "weights": "by the names of the formula: group norms gain and shift, (n,); convolutions "
            "weight (k, k, inputs, outputs) and bias; linear maps weight (inputs, outputs) and bias; "
            "embedding/classes (classes + 1, embedding_size); attention as in the function attention",
            "x_t": "shape (B, H, W, channels)",
            "t": TIMES,
            "dy": DY.format("the prediction", "prediction"),
            "labels": "integers from 0 (no class) to classes, shape (B,); only where classes > 0",
        },
        {"prediction": "in the shape of x_t", "dx": "of x_t, in its shape", "d<name>": GRADIENT},
        network_formulas.unet,
        denoiser_cases.unet,
    ),
    _function(
        "Kingma & Ba 2015, Loshchilov & Hutter 2019",
        "for the updates s = 1 ... n, from m = v = 0: g = grads[s - 1]; m = beta_1 m + (1 - beta_1) "
        "g; v = beta_2 v + (1 - beta_2) g^2; m_hat = m / (1 - beta_1^s); v_hat = v / (1 - beta_2^s); "
        "params = (1 - rate weight_decay) params - rate m_hat / (sqrt(v_hat) + epsilon), rate = "
        "rates[s - 1]; what depends on s alone may be taken in float64",
        {
            "rates": "one for each update, shape (n,)",
            "beta_1": "a number",
            "beta_2": "a number",
            "epsilon": "a number",
            "weight_decay": "a number",
            "params": "before the first update, shape (k,)",
            "grads": "shape (n, k)",
        },
        {"params": "after each update, shape (n, k)"},
        optimisers.adam,
        denoiser_cases.adam,
    ),
    _function(
        "an exponential moving average",
        "average = params0; for n = 0, 1, ...: share = min(decay, (1 + n) / (10 + n)), average = "
        "share average + (1 - share) updates[n]",
        {
            "decay": "a number",
            "params0": "where the average starts, shape (k,)",
            "updates": "the parameters after each update, shape (n, k)",
        },
        {"average": "after each update, shape (n, k)"},
        optimisers.ema,
        denoiser_cases.ema,
    ),
    _function(
        "Ho et al. 2020, Algorithm 1; M2 (27)",
        "for n = 0 ... N - 1: x_t = sqrt(alpha_bar[t]) x0 + sqrt(1 - alpha_bar[t]) noise with x0[n], "
        "t[n], noise[n]; losses[n] and the gradient as in mlp_loss_gradient with loss_weight 1 and T "
        "the length of beta; one update as in adam, with rates[n], beta_1 = 0.9, beta_2 = 0.999, "
        "epsilon = 1e-8 and no weight decay; then the average as in ema. The truth is the noise for "
        "target eps, x0 for x0, and sqrt(alpha_bar[t]) noise - sqrt(1 - alpha_bar[t]) x0 for v",
        {
            "beta": "beta_1 ... beta_T, shape (T,)",
            "weights": f"at the start: {MLP_WEIGHTS}",
            "x0": "shape (N, B, d)",
            "t": "integers from 1 to T, shape (N, B)",
            "noise": "shape (N, B, d)",
            "rates": "shape (N,)",
            "target": "what the network predicts: eps, x0 or v",
            "decay": "of the average",
        },
        {
            "losses": "before each update, shape (N,)",
            "params": "all weights at the end in one flat list: weight row by row, time_weight, and "
            "so on in the order of weights",
            "average": "of the weights, which starts at them, in the same order",
        },
        optimisers.training,
        denoiser_cases.training,
    ),
]
