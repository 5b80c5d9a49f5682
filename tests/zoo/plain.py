"""Diffusion as people write it: tables that count from 0, a loop, a loss, formulas, a bound.

All of it is right. A slip is a subclass that gets one thing wrong, with ``named``, what a report has
to say of it, and ``options``, what its author would tell the checker.
"""

from itertools import pairwise
from typing import Any, ClassVar

import numpy as np


class Tables:
    """Entry i is for t = i + 1."""

    T = 60
    options: ClassVar[dict[str, Any]] = {}

    def __init__(self):
        self.beta = self.make_betas(self.T)
        self.alpha = 1.0 - self.beta
        self.abar = np.cumprod(self.alpha)
        self.abar_prev = np.append(1.0, self.abar[:-1])
        self.beta_tilde = self.beta * (1.0 - self.abar_prev) / (1.0 - self.abar)

    def make_betas(self, T):
        return np.linspace(0.1, 18.0, T) / T

    def betas(self):
        return self.beta


class Loop(Tables):
    """Ancestral sampling, sigma^2 = beta."""

    def step(self, x, i, eps, z):
        mean = (x - self.beta[i] / np.sqrt(1.0 - self.abar[i]) * eps) / np.sqrt(self.alpha[i])
        return mean + np.sqrt(self.beta[i]) * z if i > 0 else mean

    def sample(self, predict, x_T, noise):
        x = x_T
        for i in reversed(range(self.T)):
            x = self.step(x, i, predict(x, i + 1), noise[i + 1])
        return x


class LoopByX0(Loop):
    """The network says x_0, or v; the step goes through the posterior, sigma^2 = beta_tilde."""

    options: ClassVar = {"target": "x0"}

    def x0_of(self, x, i, said):
        return said

    def step(self, x, i, said, z):
        x0 = self.x0_of(x, i, said)
        on_x0 = np.sqrt(self.abar_prev[i]) * self.beta[i] / (1.0 - self.abar[i])
        on_x = np.sqrt(self.alpha[i]) * (1.0 - self.abar_prev[i]) / (1.0 - self.abar[i])
        return on_x0 * x0 + on_x * x + np.sqrt(self.beta_tilde[i]) * z


class Ddim(Tables):
    """DDIM over every fifth time."""

    eta = 0.0
    times = tuple(range(5, 61, 5))
    options: ClassVar = {"eta": 0.0, "times": times}

    def abar_at(self, t):
        return self.abar[t - 1] if t > 0 else 1.0

    def step(self, x, t, s, eps, z):
        a_t, a_s = self.abar_at(t), self.abar_at(s)
        sigma = self.eta * np.sqrt((1.0 - a_s) / (1.0 - a_t) * (1.0 - a_t / a_s))
        x0 = (x - np.sqrt(1.0 - a_t) * eps) / np.sqrt(a_t)
        return np.sqrt(a_s) * x0 + np.sqrt(1.0 - a_s - sigma**2) * eps + sigma * z

    def sample(self, predict, x_T, noise):
        x, visited = x_T, (0, *self.times)
        for s, t in reversed(list(pairwise(visited))):
            x = self.step(x, t, s, predict(x, t), noise[t])
        return x


class Training(Tables):
    """The loss of one batch, a time for each example."""

    def draw_times(self, rng, batch):
        return rng.integers(0, self.T, batch)

    def draw_noise(self, rng, shape):
        return rng.standard_normal(shape)

    def noisy(self, x0, i, noise):
        a = self.abar[i][:, None]
        return np.sqrt(a) * x0 + np.sqrt(1.0 - a) * noise

    def aim(self, x0, i, noise):
        return noise

    def weight(self, i):
        return np.ones(len(i))

    def loss(self, predict, x0, rng):
        i = self.draw_times(rng, len(x0))
        noise = self.draw_noise(rng, x0.shape)
        error = self.aim(x0, i, noise) - predict(self.noisy(x0, i, noise), i + 1)
        return np.mean(self.weight(i)[:, None] * error**2)


class Formulas(Tables):
    """One method for each formula, sigma^2 = beta; no loop and no bound."""

    def alpha_bars(self):
        return self.abar

    def q_step(self, x_prev, t, noise):
        return np.sqrt(self.alpha[t - 1]) * x_prev + np.sqrt(self.beta[t - 1]) * noise

    def q_sample(self, x0, t, noise):
        a = self.abar[t - 1]
        return np.sqrt(a) * x0 + np.sqrt(1.0 - a) * noise

    def q_posterior(self, x0, x_t, t):
        i = t - 1
        on_x0 = np.sqrt(self.abar_prev[i]) * self.beta[i] / (1.0 - self.abar[i])
        on_x = np.sqrt(self.alpha[i]) * (1.0 - self.abar_prev[i]) / (1.0 - self.abar[i])
        return on_x0 * x0 + on_x * x_t, self.beta_tilde[i]

    def model_mean(self, x_t, t, eps):
        i = t - 1
        return (x_t - self.beta[i] / np.sqrt(1.0 - self.abar[i]) * eps) / np.sqrt(self.alpha[i])

    def reverse_variance(self, t):
        return self.beta[t - 1]

    def reverse_step(self, x_t, t, eps, z):
        mean = Formulas.model_mean(self, x_t, t, eps)
        return mean + np.sqrt(self.beta[t - 1]) * z if t > 1 else mean

    def eps_loss_weight(self, t):
        i = t - 1
        return self.beta[i] / (2.0 * self.alpha[i] * (1.0 - self.abar[i]))

    def x0_loss_weight(self, t):
        i = t - 1
        return self.abar_prev[i] * self.beta[i] / (2.0 * (1.0 - self.abar[i]) ** 2)

    def v_loss_weight(self, t):
        return Formulas.x0_loss_weight(self, t) * (1.0 - self.abar[t - 1])

    def mean_loss_weight(self, t):
        return 1.0 / (2.0 * self.beta[t - 1])

    def learned_variance(self, v, t):
        low = self.beta_tilde[max(t - 1, 1)]  # beta_tilde_1 is 0
        return np.exp(v * np.log(self.beta[t - 1]) + (1.0 - v) * np.log(low))


class Bound(Formulas):
    """The bound, term by term."""

    T = 30

    def prior(self, x0):
        a = self.abar[-1]
        return -0.5 * np.sum(a * x0**2 - a - np.log1p(-a), axis=1)

    def divergence(self, m, v, mean, s2):
        """-KL(N(m, v) || N(mean, s2))."""
        return -np.sum((v / s2 - 1.0 + np.log(s2 / v) + (m - mean) ** 2 / s2) / 2.0, axis=1)

    def decoder(self, x0, mean, s2):
        return -np.sum(np.log(2.0 * np.pi * s2) + (x0 - mean) ** 2 / s2, axis=1) / 2.0

    def term(self, predict, x0, t, noise):
        x_t = self.q_sample(x0, t, noise[t])
        m, v = self.q_posterior(x0, x_t, t)
        mean = self.model_mean(x_t, t, predict(x_t, t))
        return self.divergence(m, v, mean, self.reverse_variance(t))

    def elbo_terms(self, predict, x0, noise):
        L = np.zeros((self.T + 1, len(x0)))
        for t in range(2, self.T + 1):
            L[t] = self.term(predict, x0, t, noise)
        x_1 = self.q_sample(x0, 1, noise[1])
        mean = self.model_mean(x_1, 1, predict(x_1, 1))
        return self.prior(x0), L, self.decoder(x0, mean, self.reverse_variance(1))
