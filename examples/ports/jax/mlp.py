"""The network and its training, Ho Algorithm 1. Parameters are a dict of arrays."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


def time_embedding(T, size):
    """Rows of sin(1000 t / T f), then cos(1000 t / T f), f = 10000^(-i / k), i < k = size / 2."""
    angles = np.arange(T + 1)[:, None] * 1000 / T * 10000.0 ** (-np.arange(size // 2) / (size // 2))
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def mlp_init(key, d, width=128, layers=3, size=64):
    """Draw weights from N(0, 1 / inputs)."""
    shapes = {"weight": (d, width), "time_weight": (size, width), "bias": (width,)}
    shapes |= {"hidden_weight": (layers, width, width), "hidden_bias": (layers, width)}
    shapes |= {"out_weight": (width, d), "out_bias": (d,)}
    drawn = {
        name: jax.random.normal(jax.random.fold_in(key, i), shape)
        for i, (name, shape) in enumerate(shapes.items())
    }
    return {name: 0 * w if "bias" in name else w / w.shape[-2] ** 0.5 for name, w in drawn.items()}


def mlp(params, x_t, t, T):
    """Return h W_out + b_out; h = silu(x_t W + e[t] W_t + b), then h + silu(h W_l + b_l), ..."""
    embedding = jnp.asarray(time_embedding(T, len(params["time_weight"])), x_t.dtype)[t]
    h = jax.nn.silu(x_t @ params["weight"] + embedding @ params["time_weight"] + params["bias"])
    for weight, bias in zip(params["hidden_weight"], params["hidden_bias"], strict=True):
        h = h + jax.nn.silu(h @ weight + bias)
    return h @ params["out_weight"] + params["out_bias"]


def squared_error(prediction, truth, weight=1.0):
    """Mean over all entries of weight * (prediction - truth)^2."""
    return (weight * (prediction - truth) ** 2).mean()


class State(NamedTuple):
    """What training changes; step counts from 0."""

    step: int
    params: Any
    average: Any
    m: Any
    v: Any


def start(params):
    """The state before the first step."""
    zeros = jax.tree.map(jnp.zeros_like, params)
    return State(0, params, params, zeros, zeros)


def adam(state, grads, rate, beta_1=0.9, beta_2=0.999, epsilon=1e-8, weight_decay=0.0):
    """Kingma & Ba 2015, with the decoupled weight decay of Loshchilov & Hutter 2019."""
    m = jax.tree.map(lambda m, g: beta_1 * m + (1 - beta_1) * g, state.m, grads)
    v = jax.tree.map(lambda v, g: beta_2 * v + (1 - beta_2) * g**2, state.v, grads)
    n = state.step + 1
    unbias_1, unbias_2 = (-1 / jnp.expm1(n * jnp.log1p(beta - 1)) for beta in (beta_1, beta_2))

    def move(p, m, v):
        return p - rate * (m * unbias_1 / (jnp.sqrt(v * unbias_2) + epsilon) + weight_decay * p)

    return state._replace(step=n, params=jax.tree.map(move, state.params, m, v), m=m, v=v)


def ema(state, step, decay):
    """Move to decay average + (1 - decay) params; at first decay is (1 + step) / (10 + step)."""
    keep = jnp.minimum(decay, (1 + step) / (10 + step))
    average = jax.tree.map(lambda a, p: keep * a + (1 - keep) * p, state.average, state.params)
    return state._replace(average=average)


@partial(jax.jit, static_argnames="target")
def train_step(schedule, state, x0, t, noise, rate, target="eps", decay=0.999):
    """Ho Algorithm 1: down the gradient of |truth - prediction|^2; returns the state and the loss."""
    s = schedule.at(t, x0)
    x_t, truth = s.q_sample(x0, noise), s.training_target(x0, noise, target)

    def loss_of(params):
        return squared_error(mlp(params, x_t, t, len(schedule.t) - 1), truth)

    loss, grads = jax.value_and_grad(loss_of)(state.params)
    return ema(adam(state, grads, rate), state.step, decay), loss
