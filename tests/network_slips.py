"""Usual slips of networks and of their training, each planted in what ddpm_np answers to the vectors.

A slip is (function, flag, port): the vectors of that function must refuse the port, and a case that
does so must bear the flag.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np

from ddpm_np.nn.ops import GENERIC
from ddpm_np.testing.vectors.ours import ours

Answer = Callable[..., Any]
OURS = vars(ours())


def asked(function: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Answer:
    """ddpm_np asked for something else: ``change`` returns the inputs that it changes."""
    return lambda **inputs: OURS[function](**inputs | change(inputs))


def answered(function: str, change: Callable[[dict[str, Any], dict[str, Any]], Any]) -> Answer:
    """ddpm_np's answer changed: ``change`` takes inputs and outputs, and returns those it changes."""

    def answer(**inputs: Any) -> Any:
        outputs = OURS[function](**inputs)
        changed = change(inputs, outputs)
        return outputs | changed if isinstance(outputs, dict) else changed

    return answer


def with_ops(function: str, **entries: Any) -> Answer:
    """ddpm_np over other operations."""
    return vars(ours(replace(GENERIC, **entries)))[function]


def times_off(function: str) -> Answer:
    """Times counted from 0, and so the last time for the first."""
    return asked(function, lambda v: {"t": np.where(v["t"] == 1, v["T"], v["t"] - 1)})


# --- operations with a slip each ----------------------------------------------------------


def epsilon_outside(x: Any, gain: Any, shift: Any, groups: int, epsilon: float) -> Any:
    """Divided by sqrt(variance) + epsilon."""
    grouped = x.reshape(len(x), -1, groups, x.shape[-1] // groups)
    centred = grouped - grouped.mean(axis=(1, 3), keepdims=True)
    spread = np.sqrt((centred * centred).mean(axis=(1, 3), keepdims=True)) + epsilon
    _, cache = GENERIC.group_norm(x, gain, shift, groups, epsilon)
    middle = (len(x), *[1] * (x.ndim - 2), x.shape[-1])
    y = (centred / spread).reshape(x.shape) * gain.reshape(middle) + shift.reshape(middle)
    return y, cache


def unbiased(x: Any, gain: Any, shift: Any, groups: int, epsilon: float) -> Any:
    """The variance divided by n - 1."""
    y, cache = GENERIC.group_norm(x, gain, shift, groups, epsilon)
    count = x[0].size // groups
    middle = (len(x), *[1] * (x.ndim - 2), x.shape[-1])
    return (y - shift.reshape(middle)) * np.sqrt(1 - 1 / count) + shift.reshape(middle), cache


def strided_groups(x: Any, gain: Any, shift: Any, groups: int, epsilon: float) -> Any:
    """Every ``groups``-th channel in one group."""
    order = np.arange(x.shape[-1]).reshape(-1, groups).T.ravel()
    back = np.argsort(order)
    y, cache = GENERIC.group_norm(x[..., order], gain[:, order], shift[:, order], groups, epsilon)
    return y[..., back], cache


def adam(
    correct: bool = True, inside: bool = False, early: bool = False, coupled: bool = False
) -> Answer:
    """Adam with a slip."""

    def move(
        param: Any,
        grad: Any,
        m: Any,
        v: Any,
        rate: float,
        beta_1: float,
        beta_2: float,
        epsilon: float,
        decay: float,
        step: int,
    ) -> Any:
        if coupled:
            grad, decay = grad + decay * param, 0.0
        m, v = beta_1 * m + (1 - beta_1) * grad, beta_2 * v + (1 - beta_2) * grad**2
        young, old = (1 - beta_1**step, 1 - beta_2**step) if correct else (1.0, 1.0)
        size = np.sqrt(v / old + epsilon) if inside else np.sqrt(v / old) + epsilon
        if early:
            size = (np.sqrt(v) + epsilon) / np.sqrt(old)
        return (1 - rate * decay) * param - rate * (m / young) / size, m, v

    return with_ops("adam", adam=move)


def average(share: Callable[[float, int], float]) -> Answer:
    """The average of parameters with another share of what was."""

    def ema(decay: float, params0: Any, updates: Any) -> Any:
        now, seen = params0, []
        for n, params in enumerate(updates):
            now = share(decay, n) * now + (1 - share(decay, n)) * params
            seen.append(now)
        return np.stack(seen)

    return ema


def halved(v: dict[str, Any], y: dict[str, Any]) -> dict[str, Any]:
    """Gradients without their 2."""
    return {name: d / 2 for name, d in y.items() if name != "loss"}


def not_divided(v: dict[str, Any], y: dict[str, Any]) -> dict[str, Any]:
    """Gradients of the sum over d, divided by B alone."""
    return {name: d * v["x_t"].shape[1] for name, d in y.items() if name != "loss"}


def rolled(v: dict[str, Any], y: Any) -> Any:
    """Cosines before sines."""
    return np.roll(y, v["size"] // 2, axis=1)


def interleaved(v: dict[str, Any], y: Any) -> Any:
    """Sines and cosines in turn."""
    return y.reshape(len(y), 2, -1).transpose(0, 2, 1).reshape(y.shape)


def modulated(change: Callable[[Any], Any]) -> Answer:
    """The weights that modulate a U-Net's blocks changed, all at once."""

    def changed(v: dict[str, Any]) -> dict[str, Any]:
        weights = {k: change(w) if "modulation" in k else w for k, w in v["weights"].items()}
        return {"weights": weights}

    return asked("unet", changed)


def square_transposed(w: Any) -> Any:
    """Transposed where nobody would notice by the shape."""
    return w.swapaxes(-1, -2) if w.ndim > 1 and w.shape[-1] == w.shape[-2] else w


def all_transposed(v: dict[str, Any]) -> dict[str, Any]:
    """All square weights of a network."""
    return {"weights": {name: square_transposed(w) for name, w in v["weights"].items()}}


def unscaled(v: dict[str, Any]) -> dict[str, Any]:
    """Queries that are not divided by the root of the head's channels."""
    n = v["x"].shape[-1]
    more = np.ones(3 * n, dtype=v["x"].dtype)
    more[:n] = np.sqrt(n / v["heads"])
    entry = {f"entry/{name}": v["weights"][f"entry/{name}"] * more for name in ("weight", "bias")}
    return {"weights": v["weights"] | entry}


def without_root(**inputs: Any) -> Any:
    """x_t with noise times 1 - alpha_bar, without the root, as M1 (19) is printed."""

    def q_sample(schedule: Any, x0: Any, t: Any, noise: Any) -> Any:
        a = schedule.alpha_bar[t][:, None].astype(x0.dtype)
        return np.sqrt(a) * x0 + (1 - a) * noise

    with mock.patch("ddpm_np.training.q_sample_unchecked", q_sample):
        return OURS["training"](**inputs)


def flipped(x: Any, weight: Any, bias: Any, stride: int) -> Any:
    """A convolution with its kernel turned over."""
    return GENERIC.conv2d(x, weight[::-1, ::-1], bias, stride)


def square_weight(v: dict[str, Any]) -> dict[str, Any]:
    """The weight alone."""
    return {"weight": square_transposed(v["weight"])}


def mean_bias(v: dict[str, Any], y: dict[str, Any]) -> dict[str, Any]:
    """A mean over rows, or pixels, for a sum."""
    return {"dbias": v["dy"].mean(axis=tuple(range(v["dy"].ndim - 1)))}


def mean_gain(v: dict[str, Any], y: dict[str, Any]) -> dict[str, Any]:
    """A mean over images for a sum."""
    return {"dgain": y["dgain"] / len(v["x"])}


def no_dbias(v: dict[str, Any], y: dict[str, Any]) -> dict[str, Any]:
    """A bias that does not learn."""
    return {"dbias": 0 * y["dbias"]}


def divided_by_weights(v: dict[str, Any]) -> dict[str, Any]:
    """A weighted mean, by the sum of the weights."""
    return {"loss_weight": v["loss_weight"] / v["loss_weight"].sum()}


def next_label(v: dict[str, Any]) -> dict[str, Any]:
    """The table's row of another class."""
    classes = v["config"]["classes"]
    return {"labels": (v["labels"] + 1) % (classes + 1)} if classes else {}


SLIPS: list[tuple[str, str, Answer]] = [
    ("time_embedding", "embedding-order", answered("time_embedding", rolled)),
    ("time_embedding", "embedding-order", answered("time_embedding", interleaved)),
    ("time_embedding", "embedding-scale", asked("time_embedding", lambda v: {"T": 1000})),
    ("time_embedding", "off-by-one", times_off("time_embedding")),
    ("silu", "slope", answered("silu", lambda v, y: {"slope": 1 / (1 + np.exp(-v["x"]))})),
    ("silu", "sign", answered("silu", lambda v, y: {"y": y["y"] - v["x"]})),
    ("linear_backward", "transposed", asked("linear_backward", square_weight)),
    ("linear_backward", "mean-for-sum", answered("linear_backward", mean_bias)),
    ("linear_backward", "missing-bias", asked("linear_backward", lambda v: {"bias": 0 * v["bias"]})),
    ("linear_backward", "missing-bias", answered("linear_backward", no_dbias)),
    ("conv2d", "flipped", with_ops("conv2d", conv2d=flipped)),
    ("conv2d", "transposed", asked("conv2d", square_weight)),
    ("conv2d", "mean-for-sum", answered("conv2d", mean_bias)),
    ("conv2d", "missing-bias", answered("conv2d", no_dbias)),
    ("group_norm", "epsilon", with_ops("group_norm", group_norm=epsilon_outside)),
    ("group_norm", "unbiased-variance", with_ops("group_norm", group_norm=unbiased)),
    ("group_norm", "group-order", with_ops("group_norm", group_norm=strided_groups)),
    ("group_norm", "mean-for-sum", answered("group_norm", mean_gain)),
    ("attention", "scale", asked("attention", unscaled)),
    ("attention", "residual", answered("attention", lambda v, y: {"y": y["y"] + v["x"]})),
    ("mlp_forward", "off-by-one", times_off("mlp_forward")),
    ("mlp_forward", "embedding-scale", asked("mlp_forward", lambda v: {"T": 1000})),
    ("mlp_forward", "transposed", asked("mlp_forward", all_transposed)),
    ("mlp_loss_gradient", "factor-2", answered("mlp_loss_gradient", halved)),
    ("mlp_loss_gradient", "mean-for-sum", answered("mlp_loss_gradient", not_divided)),
    ("mlp_loss_gradient", "loss-weight", asked("mlp_loss_gradient", divided_by_weights)),
    ("unet", "modulation", modulated(lambda w: np.roll(w, w.shape[-1] // 2, axis=-1))),
    ("unet", "off-by-one", asked("unet", next_label)),
    ("adam", "bias-correction", adam(correct=False)),
    ("adam", "epsilon", adam(inside=True)),
    ("adam", "epsilon", adam(early=True)),
    ("adam", "decoupled-decay", adam(coupled=True)),
    ("ema", "warm-up", average(lambda decay, n: decay)),
    ("ema", "off-by-one", average(lambda decay, n: min(decay, (2 + n) / (11 + n)))),
    ("ema", "swapped", average(lambda decay, n: 1 - min(decay, (1 + n) / (10 + n)))),
    ("training", "E2", without_root),
    ("training", "target", asked("training", lambda v: {"target": "eps"})),
    ("training", "order", asked("training", lambda v: {"rates": v["rates"][::-1]})),
]  # fmt: skip
