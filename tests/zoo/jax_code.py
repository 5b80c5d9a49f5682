"""The same in JAX, with keys, and slips in it. Imports JAX."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ddpm_np.testing.adapters.draws import from_generator, loop_draws
from ddpm_np.testing.adapters.jax import jax_draws


class JaxDiffusion:
    """Ancestral sampling and training, in float32; it is right."""

    T = 50
    first, last = 0, 50
    options: ClassVar = {"dtype": "float32"}

    def __init__(self):
        self.beta = jnp.asarray(np.linspace(0.1, 15.0, self.T) / self.T, dtype=jnp.float32)
        self.abar = jnp.cumprod(1.0 - self.beta)

    def betas(self):
        return np.asarray(self.beta)

    def step(self, x, i, eps, z):
        mean = (x - self.beta[i] / jnp.sqrt(1.0 - self.abar[i]) * eps) / jnp.sqrt(1.0 - self.beta[i])
        return mean + jnp.where(i > 0, jnp.sqrt(self.beta[i]), 0.0) * z

    def sample(self, predict, x_T, noise):
        with jax_draws(loop_draws(x_T, noise)):
            key = jax.random.PRNGKey(0)
            x = jax.random.normal(key, x_T.shape)
            for i in reversed(range(self.T)):
                key, sub = jax.random.split(key)
                eps = jnp.asarray(predict(np.asarray(x, dtype=np.float64), i + 1), dtype=jnp.float32)
                x = self.step(x, i, eps, jax.random.normal(sub, x.shape))
        return np.asarray(x, dtype=np.float64)

    def loss(self, predict, x0, rng):
        with jax_draws(from_generator(rng)):
            key = jax.random.PRNGKey(0)
            i = jax.random.randint(key, (len(x0),), self.first, self.last)
            noise = jax.random.normal(key, x0.shape)
            a = self.abar[i][:, None]
            x_t = jnp.sqrt(a) * jnp.asarray(x0, dtype=jnp.float32) + jnp.sqrt(1.0 - a) * noise
            said = predict(np.asarray(x_t, dtype=np.float64), np.asarray(i) + 1)
            return float(jnp.mean((noise - jnp.asarray(said, dtype=jnp.float32)) ** 2))


class NeverT(JaxDiffusion):
    named = r"t = (T|50)\b"
    last = 49


class VarianceForDeviation(JaxDiffusion):
    named = r"root.*missing|without.*root"

    def step(self, x, i, eps, z):
        mean = super().step(x, i, eps, 0.0)
        return mean + jnp.where(i > 0, self.beta[i], 0.0) * z


SLIPS = (NeverT, VarianceForDeviation)
