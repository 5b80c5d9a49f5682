"""The JAX port behind the vectors' protocol.

python -m ddpm_np.testing.vectors --run "python examples/ports/jax/runner.py"
"""

import sys
from pathlib import Path

import ddpm
import jax
import jax.numpy as jnp
import mlp

# At the end: in examples/ports there is a folder called jax.
sys.path.append(str(Path(__file__).parents[1]))
import serving

jax.config.update("jax_enable_x64", True)


def make(dtype):
    """The functions of the vectors, and what makes an array."""

    def array(value, integers=False):
        return jnp.asarray(value, "int64" if integers else dtype)

    return {**serving.functions(ddpm, array, jnp.sin), **NETWORKS}, array


def time_embedding(T, size, t):
    """The embedding of these times."""
    return {"embedding": mlp.time_embedding(T, size)[t]}


def silu(x):
    """SiLU and its derivative."""
    y, pull = jax.vjp(jax.nn.silu, x)
    return {"y": y, "slope": pull(jnp.ones_like(x))[0]}


def linear_backward(x, weight, bias, dy):
    """A linear map, forward and backward."""
    y, pull = jax.vjp(lambda x, weight, bias: x @ weight + bias, x, weight, bias)
    return {"y": y, **dict(zip(("dx", "dweight", "dbias"), pull(dy), strict=True))}


def shaped(weights):
    """Restore the shapes of weights of no layer, which nested lists do not have."""
    layers, width = len(weights["hidden_weight"]), len(weights["bias"])
    hidden = {"hidden_weight": (layers, width, width), "hidden_bias": (layers, width)}
    return weights | {name: weights[name].reshape(shape) for name, shape in hidden.items()}


def mlp_forward(T, weights, x_t, t):
    """The prediction."""
    return {"prediction": mlp.mlp(shaped(weights), x_t, t, T)}


def mlp_loss_gradient(T, weights, x_t, t, truth, loss_weight):
    """The loss of a batch, and its gradient by jax.grad."""

    def loss_of(params):
        return mlp.squared_error(mlp.mlp(params, x_t, t, T), truth, loss_weight[:, None])

    loss, grads = jax.value_and_grad(loss_of)(shaped(weights))
    return {"loss": loss, **{f"d{name}": grad for name, grad in grads.items()}}


def adam(rates, params, grads, **settings):
    """The parameters after each update."""
    state, moved = mlp.start(params), []
    for rate, grad in zip(rates.tolist(), grads, strict=True):
        state = mlp.adam(state, grad, rate, **settings)
        moved.append(state.params)
    return {"params": jnp.stack(moved)}


def ema(decay, params0, updates):
    """The average after each update."""
    state, averages = mlp.start(params0), []
    for step, params in enumerate(updates):
        state = mlp.ema(state._replace(params=params), step, decay)
        averages.append(state.average)
    return {"average": jnp.stack(averages)}


def training(beta, weights, x0, t, noise, rates, target, decay):
    """Steps of Algorithm 1 on given batches."""
    schedule, state, losses = ddpm.schedule_from_beta(beta), mlp.start(shaped(weights)), []
    for batch in zip(x0, t, noise, rates, strict=True):
        state, loss = mlp.train_step(schedule, state, *batch, target=target, decay=decay)
        losses.append(loss)
    flat = (jnp.concatenate([tree[name].ravel() for name in weights]) for tree in state[1:3])
    return {"losses": jnp.stack(losses), **dict(zip(("params", "average"), flat, strict=True))}


NETWORKS = {
    f.__name__: f
    for f in (time_embedding, silu, linear_backward, mlp_forward, mlp_loss_gradient, adam, ema, training)
}

if __name__ == "__main__":
    serving.serve("jax", make)
