"""Samples from a network that ddpm_np trained, in the dtype of its weights, as JSON, shape (B, d).

    python examples/swiss_roll.py
    python -m ddpm_np.runs.export runs/swiss_roll/checkpoint.npz --to safetensors
    python examples/ports/jax/sample.py runs/swiss_roll/checkpoint.safetensors 1000

In place of a number, a JSON file gives the noise: "x_T", shape (B, d), and "noise", shape (T + 1, B, d),
whose entry t is for the step from t.
"""

import json
import sys
from pathlib import Path

import ddpm
import jax
import jax.numpy as jnp
import mlp

# At the end: in examples/ports there is a folder called jax.
sys.path.append(str(Path(__file__).parents[1]))
import exported

path, source = (*sys.argv[1:], "1000")[:2]
beta, weights, configuration = exported.read_network(path)
x_T, noise = exported.read_noise(source, len(beta), weights)
jax.config.update("jax_enable_x64", x_T.dtype == "float64")

schedule, T = ddpm.schedule_from_beta(beta), len(beta)
sigma2, target = schedule.reverse_variance("beta"), configuration["target"]


@jax.jit
def sample(params, x_T, noise):
    """From x_T to x_0."""

    def predict(x_t, t):
        return mlp.mlp(params, x_t, t, T)

    return schedule.ancestral_sample(predict, x_T, noise, sigma2, target)[0]


x_0 = sample(*jax.tree.map(jnp.asarray, (weights, x_T, noise)))
print(json.dumps(x_0.tolist()))
