"""DDPM as people write it, without ddpm_np, and ways of changing it: what the checker is tried on."""

from collections.abc import Callable
from typing import Any

import numpy as np


class Plain:
    """The way people write it: arrays that count from 0, so that t here is t - 1 there."""

    def __init__(self, T: int = 100, low: float = 1e-3, high: float = 0.2) -> None:
        self.T = T
        self.use(np.linspace(low, high, T))

    def use(self, beta: Any) -> None:
        """Make the tables of these betas, in their dtype."""
        one = np.ones(1, beta.dtype)
        self.beta, self.alpha = beta, one - beta
        self.ab = np.cumprod(self.alpha)
        self.ab_prev = np.concatenate([one, self.ab[:-1]])
        with np.errstate(all="ignore"):  # betas may be wrong
            self.post_var = self.beta * (one - self.ab_prev) / (one - self.ab)
        self.use_variance(np.concatenate([self.post_var[1:2], self.post_var[1:]]))

    def use_variance(self, variance: Any) -> None:
        """Take another sigma_t^2, in the decoder too."""
        self.var, self.dec_var = variance, variance[0]

    def betas(self):
        return self.beta

    def alpha_bars(self):
        return self.ab

    def q_sample(self, x0, t, noise):
        return np.sqrt(self.ab[t - 1]) * x0 + np.sqrt(1.0 - self.ab[t - 1]) * noise

    def q_posterior(self, x0, x_t, t):
        i = t - 1
        c0 = np.sqrt(self.ab_prev[i]) * self.beta[i] / (1.0 - self.ab[i])
        ct = np.sqrt(self.alpha[i]) * (1.0 - self.ab_prev[i]) / (1.0 - self.ab[i])
        return c0 * x0 + ct * x_t, self.post_var[i]

    def model_mean(self, x_t, t, eps):
        i = t - 1
        return (x_t - self.beta[i] / np.sqrt(1.0 - self.ab[i]) * eps) / np.sqrt(self.alpha[i])

    def reverse_variance(self, t):
        return self.var[t - 1]

    def reverse_step(self, x_t, t, eps, z):
        mean = self.model_mean(x_t, t, eps)
        return mean + np.sqrt(self.var[t - 1]) * z if t > 1 else mean

    def sample(self, predict, x_T, noise):
        x = x_T
        for t in range(self.T, 0, -1):
            x = self.reverse_step(x, t, predict(x, t), noise[t])
        return x

    def eps_loss_weight(self, t):
        i = t - 1
        return self.beta[i] ** 2 / (2.0 * self.var[i] * self.alpha[i] * (1.0 - self.ab[i]))

    def kl(self, mean_1, var_1, mean_2, var_2):
        kl = 0.5 * (np.log(var_2 / var_1) + (var_1 + (mean_1 - mean_2) ** 2) / var_2 - 1.0)
        return kl.sum(axis=1)

    def prior(self, x0):
        return -self.kl(np.sqrt(self.ab[-1]) * x0, 1.0 - self.ab[-1], 0.0, 1.0)

    def decode(self, x0, mean):
        log_p = -0.5 * (np.log(2.0 * np.pi * self.dec_var) + (x0 - mean) ** 2 / self.dec_var)
        return log_p.sum(axis=1)

    def middle(self, x0, x_t, t, mean):
        posterior_mean, posterior_var = self.q_posterior(x0, x_t, t)
        return -self.kl(posterior_mean, posterior_var, mean, self.var[t - 1])

    def elbo_terms(self, predict, x0, noise):
        L = np.zeros((self.T + 1, len(x0)))
        for t in range(1, self.T + 1):
            x_t = self.q_sample(x0, t, noise[t])
            mean = self.model_mean(x_t, t, predict(x_t, t))
            if t == 1:
                L_0 = self.decode(x0, mean)
            else:
                L[t] = self.middle(x0, x_t, t, mean)
        return self.prior(x0), L, L_0


def change(**methods: Callable[..., Any]) -> Plain:
    """Plain code with other methods."""
    return type("Changed", (Plain,), methods)()


def tables(**values: Callable[[Plain], Any]) -> Plain:
    """Plain code with other tables."""
    plain = Plain()
    for name, value in values.items():
        setattr(plain, name, value(plain))
    return plain


def shifted(plain: Plain, method: str, by: int) -> Plain:
    """One method that takes its t for another."""
    original = getattr(plain, method)
    position = {"reverse_variance": 0, "eps_loss_weight": 0, "q_posterior": 2}.get(method, 1)

    def moved(*arguments: Any) -> Any:
        changed = list(arguments)
        changed[position] = min(max(changed[position] + by, 1), plain.T)
        return original(*changed)

    setattr(plain, method, moved)
    return plain


def with_betas(beta: Any, kind: type[Plain] = Plain) -> Plain:
    """Plain code with other betas."""
    plain = kind(len(beta))
    plain.use(np.asarray(beta))
    return plain


class Without:
    """An implementation that does not show some of its methods, but has them."""

    def __init__(self, implementation: Any, *hidden: str) -> None:
        self.implementation, self.hidden = implementation, hidden

    def __getattr__(self, name: str) -> Any:
        if name in self.hidden:
            raise AttributeError(name)
        return getattr(self.implementation, name)
