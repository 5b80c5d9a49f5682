"""What ddpm_np answers to the vectors of networks and of their training, on any backend."""

from collections.abc import Callable
from typing import Any

import numpy as np

from backends import Backend
from ddpm_np.nn import (
    Adam,
    Conv2d,
    Linear,
    LinearParams,
    MLPDenoiser,
    MLPParams,
    Ops,
    SelfAttention,
    UNet,
    mlp_loss_and_gradient,
    time_embedding,
)
from ddpm_np.nn.tree import Layout, Tree, named_leaves, ravel, with_leaves
from ddpm_np.schedules import schedule_from_beta
from ddpm_np.training import Recipe, TrainState, train_step

Inputs = dict[str, Any]
MLP = MLPParams._fields


def answer(function: str, inputs: Inputs, backend: Backend, dtype: str) -> dict[str, Any]:
    """The outputs of one case, as arrays of the host."""

    def array(values: Any) -> Any:
        return backend.asarray(np.asarray(values, dtype=dtype), dtype)

    outputs = ANSWERS[function](inputs, array, backend.ops)
    return {name: np.asarray(value) for name, value in outputs.items()}


def _time_embedding(v: Inputs, array: Any, ops: Ops) -> Inputs:
    return {"embedding": array(time_embedding(v["T"], v["size"])[v["t"]])}


def _silu(v: Inputs, array: Any, ops: Ops) -> Inputs:
    y, slope = ops.silu(array(v["x"]))
    return {"y": y, "slope": slope}


def _linear_backward(v: Inputs, array: Any, ops: Ops) -> Inputs:
    params = LinearParams(array(v["weight"]), array(v["bias"]))
    return _layer(Linear(*params.weight.shape), params, v, array, ops)


def _conv2d(v: Inputs, array: Any, ops: Ops) -> Inputs:
    params = LinearParams(array(v["weight"]), array(v["bias"]))
    kernel, _, inputs, outputs = params.weight.shape
    return _layer(Conv2d(inputs, outputs, kernel), params, v, array, ops)


def _group_norm(v: Inputs, array: Any, ops: Ops) -> Inputs:
    # By the operation: the layer knows one epsilon only.
    x, batch = array(v["x"]), len(v["x"])
    gain, shift = (array([v[name]] * batch) for name in ("gain", "shift"))
    y, cache = ops.group_norm(x, gain, shift, v["groups"], v["epsilon"])
    dx, dgain, dshift = ops.group_norm_backward(array(v["dy"]), cache)
    return {"y": y, "dx": dx, "dgain": dgain.sum(axis=0), "dshift": dshift.sum(axis=0)}


def _attention(v: Inputs, array: Any, ops: Ops) -> Inputs:
    layer = SelfAttention(np.shape(v["x"])[-1], v["heads"], v["groups"])
    return _layer(layer, _params(layer, v["weights"], array), v, array, ops)


def _unet(v: Inputs, array: Any, ops: Ops) -> Inputs:
    net = UNet(T=v["T"], **v["config"] | {"multipliers": tuple(v["config"]["multipliers"])})
    params = _params(net, v["weights"], array)
    labels = np.array(v["labels"]) if "labels" in v else None
    y, cache = net.forward(params, array(v["x_t"]), np.array(v["t"]), ops, labels)
    dx, grads = net.backward(params, cache, array(v["dy"]), ops)
    return {"prediction": y, "dx": dx, **_named(grads)}


def _mlp_forward(v: Inputs, array: Any, ops: Ops) -> Inputs:
    net, params = _mlp(v["T"], v["weights"], array)
    return {"prediction": net.forward(params, array(v["x_t"]), np.array(v["t"]), ops)[0]}


def _mlp_loss_gradient(v: Inputs, array: Any, ops: Ops) -> Inputs:
    net, params = _mlp(v["T"], v["weights"], array)
    weight = array(v["loss_weight"])[:, None]
    x_t, truth, t = array(v["x_t"]), array(v["truth"]), np.array(v["t"])
    loss, flat = mlp_loss_and_gradient(net, params, x_t, t, None, truth, weight, ops)
    return {"loss": loss, **_named(Layout.of(params).unravel(flat))}


def _adam(v: Inputs, array: Any, ops: Ops) -> Inputs:
    settings = {name: v[name] for name in ("beta_1", "beta_2", "epsilon", "weight_decay")}
    optimizer, params = Adam(lambda step: v["rates"][step], **settings), array(v["params"])
    state, seen = optimizer.init(params), []
    for grads in v["grads"]:
        params, state = optimizer.update(params, array(grads), state, ops)
        seen.append(np.array(params))
    return {"params": seen}


def _ema(v: Inputs, array: Any, ops: Ops) -> Inputs:
    average, seen = array(v["params0"]), []
    for step, params in enumerate(v["updates"]):
        average = ops.ema(average, array(params), min(v["decay"], (1 + step) / (10 + step)))
        seen.append(np.array(average))
    return {"average": seen}


def _training(v: Inputs, array: Any, ops: Ops) -> Inputs:
    net, params = _mlp(len(v["beta"]), v["weights"], array)
    recipe = Recipe(
        schedule_from_beta(v["beta"]),
        net,
        Adam(lambda step: v["rates"][step]),
        target=v["target"],
        ema_decay=v["decay"],
        loss_and_gradient=mlp_loss_and_gradient,
    )
    flat = ravel(params)
    state, losses = TrainState(0, flat, flat, recipe.optimizer.init(flat), flat[0] * 0), []
    for x0, t, noise in zip(v["x0"], v["t"], v["noise"], strict=True):
        state = train_step(recipe, state, array(x0), np.array(t), array(noise), ops)
        losses.append(float(state.loss_sum))
        state = state._replace(loss_sum=flat[0] * 0)
    return {"losses": losses, "params": state.params, "average": state.average}


ANSWERS: dict[str, Callable[[Inputs, Any, Ops], Inputs]] = {
    "time_embedding": _time_embedding,
    "silu": _silu,
    "linear_backward": _linear_backward,
    "conv2d": _conv2d,
    "group_norm": _group_norm,
    "attention": _attention,
    "unet": _unet,
    "mlp_forward": _mlp_forward,
    "mlp_loss_gradient": _mlp_loss_gradient,
    "adam": _adam,
    "ema": _ema,
    "training": _training,
}


def _layer(layer: Any, params: Tree, v: Inputs, array: Any, ops: Ops) -> Inputs:
    y, cache = layer.forward(params, array(v["x"]), ops)
    dx, grads = layer.backward(params, cache, array(v["dy"]), ops)
    return {"y": y, "dx": dx, **_named(grads)}


def _mlp(T: int, weights: Inputs, array: Any) -> tuple[MLPDenoiser, MLPParams]:
    layers, size = len(weights["hidden_weight"]), len(weights["time_weight"])
    d, n = np.shape(weights["weight"])
    shape = {"hidden_weight": (layers, n, n), "hidden_bias": (layers, n)}
    params = MLPParams(
        **{k: array(np.reshape(weights[k], shape.get(k, np.shape(weights[k])))) for k in MLP}
    )
    return MLPDenoiser(d, T, hidden_size=n, hidden_layers=layers, embedding_size=size), params


def _params(layer: Any, weights: Inputs, array: Any) -> Tree:
    """Named weights put in their places."""
    tree = layer.init(np.random.default_rng(0))
    return with_leaves(tree, [array(weights[name]) for name, _ in named_leaves(tree)])


def _named(grads: Tree) -> Inputs:
    return {f"d{name}": grad for name, grad in named_leaves(grads)}
