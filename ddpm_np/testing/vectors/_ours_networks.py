"""ddpm_np's layers, networks and training under the names and arguments of the vectors.

``ops`` are a backend's operations. Weights are dicts, by the names that
:func:`ddpm_np.nn.tree.named_leaves` gives.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_np import nn
from ddpm_np.nn.ops import Ops
from ddpm_np.nn.tree import Layout, Tree, named_leaves, ravel, with_leaves
from ddpm_np.schedules import schedule_from_beta
from ddpm_np.targets import Target
from ddpm_np.training import Recipe, TrainState, train_step

Values = NDArray[Any]
Weights = dict[str, Values]


def time_embedding(ops: Ops, T: int, size: int, t: Values) -> Values:
    """:func:`ddpm_np.nn.time_embedding` at t."""
    return nn.time_embedding(T, size)[t]


def silu(ops: Ops, x: Values) -> dict[str, Values]:
    """SiLU and its derivative."""
    y, slope = ops.silu(x)
    return {"y": y, "slope": slope}


def linear_backward(ops: Ops, x: Values, weight: Values, bias: Values, dy: Values) -> dict[str, Values]:
    """:class:`ddpm_np.nn.Linear`, forward and backward."""
    layer, params = nn.Linear(*weight.shape), nn.LinearParams(weight, bias)
    return _there_and_back(layer, params, x, dy, ops)


def conv2d(ops: Ops, x: Values, weight: Values, bias: Values, dy: Values) -> dict[str, Values]:
    """:class:`ddpm_np.nn.Conv2d`, forward and backward."""
    kernel, _, inputs, outputs = weight.shape
    layer, params = nn.Conv2d(inputs, outputs, kernel), nn.LinearParams(weight, bias)
    return _there_and_back(layer, params, x, dy, ops)


def group_norm(
    ops: Ops, x: Values, gain: Values, shift: Values, groups: int, epsilon: float, dy: Values
) -> dict[str, Values]:
    """Group normalisation, forward and backward, with a gain and a shift that all images share."""
    shape = (len(x), len(gain))
    shared = (np.broadcast_to(gain, shape), np.broadcast_to(shift, shape))
    y, cache = ops.group_norm(x, *shared, groups, epsilon)
    dx, dgain, dshift = ops.group_norm_backward(dy, cache)
    return {"y": y, "dx": dx, "dgain": dgain.sum(axis=0), "dshift": dshift.sum(axis=0)}


def attention(
    ops: Ops, x: Values, weights: Weights, heads: int, groups: int, dy: Values
) -> dict[str, Values]:
    """:class:`ddpm_np.nn.SelfAttention`, forward and backward."""
    layer = nn.SelfAttention(x.shape[-1], heads, groups)
    return _there_and_back(layer, _params(layer, weights), x, dy, ops)


def mlp_forward(ops: Ops, T: int, weights: Weights, x_t: Values, t: Values) -> Values:
    """:class:`ddpm_np.nn.MLPDenoiser`."""
    return _mlp(T, weights).forward(nn.MLPParams(**weights), x_t, t, ops)[0]


def mlp_loss_gradient(
    ops: Ops, T: int, weights: Weights, x_t: Values, t: Values, truth: Values, loss_weight: Values
) -> dict[str, Values]:
    """:func:`ddpm_np.nn.mlp_loss_and_gradient`."""
    denoiser, params = _mlp(T, weights), nn.MLPParams(**weights)
    loss, flat = nn.mlp_loss_and_gradient(
        denoiser, params, x_t, t, None, truth, loss_weight[:, None], ops
    )
    return {"loss": loss, **_gradients(Layout.of(params).unravel(flat))}


def unet(
    ops: Ops,
    T: int,
    config: dict[str, Any],
    weights: Weights,
    x_t: Values,
    t: Values,
    dy: Values,
    labels: Values | None = None,
) -> dict[str, Values]:
    """:class:`ddpm_np.nn.UNet`, forward and backward."""
    multipliers = tuple(int(m) for m in config["multipliers"])
    net = nn.UNet(**{"T": T, **config, "multipliers": multipliers})
    params = _params(net, weights)
    prediction, cache = net.forward(params, x_t, t, ops, labels)
    dx, grads = net.backward(params, cache, dy, ops)
    return {"prediction": prediction, "dx": dx, **_gradients(grads)}


def adam(
    ops: Ops,
    rates: Values,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    weight_decay: float,
    params: Values,
    grads: Values,
) -> Values:
    """:class:`ddpm_np.nn.Adam`: the parameters after each update."""
    optimizer = nn.Adam(lambda step: float(rates[step]), beta_1, beta_2, epsilon, weight_decay)
    state, moved = optimizer.init(params), []
    for grad in grads:
        params, state = optimizer.update(params, grad, state, ops)
        moved.append(params)
    return np.stack(moved)


def ema(ops: Ops, decay: float, params0: Values, updates: Values) -> Values:
    """The running average of :func:`ddpm_np.training.train_step`, after each update."""
    average, averages = params0, []
    for step, params in enumerate(updates):
        average = nn.ema_update(average, params, min(decay, (1 + step) / (10 + step)), ops)
        averages.append(average)
    return np.stack(averages)


def training(
    ops: Ops,
    beta: Values,
    weights: Weights,
    x0: Values,
    t: Values,
    noise: Values,
    rates: Values,
    target: Target,
    decay: float,
) -> dict[str, Values]:
    """Steps of Algorithm 1, :func:`ddpm_np.training.train_step`, on given batches."""
    recipe = Recipe(
        schedule_from_beta(beta),
        _mlp(len(beta), weights),
        nn.Adam(lambda step: float(rates[step])),
        target=target,
        ema_decay=decay,
        loss_and_gradient=nn.mlp_loss_and_gradient,
    )
    flat = ravel(nn.MLPParams(**weights))
    state = TrainState(0, flat, flat, recipe.optimizer.init(flat), np.zeros_like(flat[0]))
    losses = []
    for step in range(len(rates)):
        state = state._replace(loss_sum=np.zeros_like(flat[0]))
        state = train_step(recipe, state, x0[step], t[step], noise[step], ops)
        losses.append(state.loss_sum)
    return {"losses": np.stack(losses), "params": state.params, "average": state.average}


def _mlp(T: int, weights: Weights) -> nn.MLPDenoiser:
    """The network that has such weights."""
    (d, n), layers = weights["weight"].shape, len(weights["hidden_weight"])
    return nn.MLPDenoiser(d, T, n, layers, embedding_size=len(weights["time_weight"]))


def _params(layer: Any, weights: Weights) -> Tree:
    """Named weights as a layer's parameters."""
    tree = layer.init(np.random.default_rng(0))
    return with_leaves(tree, [weights[name] for name, _ in named_leaves(tree)])


def _gradients(grads: Tree) -> dict[str, Values]:
    return {f"d{name}": grad for name, grad in named_leaves(grads)}


def _there_and_back(layer: Any, params: Tree, x: Values, dy: Values, ops: Ops) -> dict[str, Values]:
    y, cache = layer.forward(params, x, ops)
    dx, grads = layer.backward(params, cache, dy, ops)
    return {"y": y, "dx": dx, **_gradients(grads)}


NETWORKS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        time_embedding,
        silu,
        linear_backward,
        conv2d,
        group_norm,
        attention,
        mlp_forward,
        mlp_loss_gradient,
        unet,
        adam,
        ema,
        training,
    )
}
"""By the names of the vectors."""
