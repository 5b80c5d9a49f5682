"""Denoising diffusion in JAX, from the schedule to training. M2 (27) is in docs/equations.md.

Time is t = 1 ... T. Tables have entries 0 ... T; the first is the data's, alpha_bar[0] = 1. They are
NumPy's, of float64, and rounded where they meet x, of shape (B, ...). A network is any predict(x_t, t),
t an int or integers of shape (B,); its target is "eps", "x0", "mean" or "v". Everything is pure, and jit
takes all that has arrays for arguments, t among them.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erfc


class Step(NamedTuple):
    """What the formulas of one time t are made of."""

    t: Any
    beta: Any  # the variance of the step, M2 (20)
    alpha: Any  # 1 - beta
    alpha_bar: Any  # alpha_1 ... alpha_t, M2 (22)
    log_alpha_bar: Any
    one_minus_alpha_bar: Any  # the variance of x_t given x_0
    posterior_variance: Any  # beta_tilde, M2 (25)
    c_xt: Any  # the coefficients of x_t and of x_0 in the posterior mean, M2 (26)
    c_x0: Any

    def q_step_moments(self, x_prev):
        """M2 (20): q(x_t | x_{t-1}) = N(sqrt(alpha) x_{t-1}, beta I)."""
        return jnp.sqrt(self.alpha) * x_prev, self.beta

    def q_step(self, x_prev, noise):
        """M2 (20): x_t = sqrt(alpha) x_{t-1} + sqrt(beta) noise."""
        return jnp.sqrt(self.alpha) * x_prev + jnp.sqrt(self.beta) * noise

    def q_moments(self, x0):
        """M2 (22): q(x_t | x_0) = N(sqrt(alpha_bar) x_0, (1 - alpha_bar) I)."""
        return jnp.sqrt(self.alpha_bar) * x0, self.one_minus_alpha_bar

    def q_sample(self, x0, noise):
        """M2 (27): x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) noise."""
        return jnp.sqrt(self.alpha_bar) * x0 + jnp.sqrt(self.one_minus_alpha_bar) * noise

    def q_posterior(self, x0, x_t):
        """M2 (24): q(x_{t-1} | x_t, x_0) = N(c_xt x_t + c_x0 x_0, beta_tilde I)."""
        return self.c_xt * x_t + self.c_x0 * x0, self.posterior_variance

    def posterior_mean_from_eps(self, x_t, eps):
        """M2 (29): mean = (x_t - beta / sqrt(1 - alpha_bar) eps) / sqrt(alpha)."""
        return (x_t - self.beta / jnp.sqrt(self.one_minus_alpha_bar) * eps) / jnp.sqrt(self.alpha)

    def x0_from_eps(self, x_t, eps):
        """M2 (28): x_0 = (x_t - sqrt(1 - alpha_bar) eps) / sqrt(alpha_bar)."""
        return (x_t - jnp.sqrt(self.one_minus_alpha_bar) * eps) / jnp.sqrt(self.alpha_bar)

    def eps_from_x0(self, x_t, x0):
        """M2 (27): eps = (x_t - sqrt(alpha_bar) x_0) / sqrt(1 - alpha_bar)."""
        return (x_t - jnp.sqrt(self.alpha_bar) * x0) / jnp.sqrt(self.one_minus_alpha_bar)

    def x0_from_mean(self, x_t, mean):
        """M2 (26): x_0 = (mean - c_xt x_t) / c_x0."""
        return (mean - self.c_xt * x_t) / self.c_x0

    def eps_from_mean(self, x_t, mean):
        """M2 (29): eps = (x_t - sqrt(alpha) mean) sqrt(1 - alpha_bar) / beta."""
        return (x_t - jnp.sqrt(self.alpha) * mean) * (jnp.sqrt(self.one_minus_alpha_bar) / self.beta)

    def v_from_x0_and_eps(self, x0, eps):
        """Salimans & Ho 2022: v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x_0."""
        return jnp.sqrt(self.alpha_bar) * eps - jnp.sqrt(self.one_minus_alpha_bar) * x0

    def x0_from_v(self, x_t, v):
        """Salimans & Ho 2022: x_0 = sqrt(alpha_bar) x_t - sqrt(1 - alpha_bar) v."""
        return jnp.sqrt(self.alpha_bar) * x_t - jnp.sqrt(self.one_minus_alpha_bar) * v

    def eps_from_v(self, x_t, v):
        """Salimans & Ho 2022: eps = sqrt(1 - alpha_bar) x_t + sqrt(alpha_bar) v."""
        return jnp.sqrt(self.one_minus_alpha_bar) * x_t + jnp.sqrt(self.alpha_bar) * v

    def predicted_x0(self, x_t, prediction, target):
        """Convert a prediction of any target to x_0."""
        convert = {"eps": self.x0_from_eps, "mean": self.x0_from_mean, "v": self.x0_from_v}
        return prediction if target == "x0" else convert[target](x_t, prediction)

    def predicted_eps(self, x_t, prediction, target):
        """Convert a prediction of any target to the noise."""
        convert = {"x0": self.eps_from_x0, "mean": self.eps_from_mean, "v": self.eps_from_v}
        return prediction if target == "eps" else convert[target](x_t, prediction)

    def training_target(self, x0, noise, target):
        """What a perfect network predicts at q_sample(x0, noise)."""
        mean = self.q_posterior(x0, self.q_sample(x0, noise))[0]
        return {"eps": noise, "x0": x0, "mean": mean, "v": self.v_from_x0_and_eps(x0, noise)}[target]

    def model_mean(self, x_t, prediction, target):
        """M2 (34): (29) at the predicted noise; or (26) at the predicted x_0."""
        if target == "mean":
            return prediction
        if target == "eps":
            return self.posterior_mean_from_eps(x_t, prediction)
        return self.q_posterior(self.predicted_x0(x_t, prediction, target), x_t)[0]

    def reverse_step(self, x_t, prediction, target, sigma2, noise):
        """J (13): x_{t-1} = mean + sqrt(sigma2) noise, but no noise at t = 1."""
        mean = self.model_mean(x_t, prediction, target)
        return jnp.where(self.t > 1, mean + jnp.sqrt(sigma2) * noise, mean)

    def clipped_x0(self, x_t, prediction, target, low, high):
        """The predicted x_0, limited to the range of the data: a prediction of target x0."""
        return jnp.clip(self.predicted_x0(x_t, prediction, target), low, high)

    def loss_weight(self, sigma2, target):
        """The weight of |truth - prediction|^2 in -L_{t-1}."""
        own = {
            "mean": 1,  # M2 (32)
            "x0": self.c_x0**2,  # L 6.2
            "v": self.one_minus_alpha_bar * self.c_x0**2,
            "eps": self.beta**2 / (self.alpha * self.one_minus_alpha_bar),  # M2 (35), with its alpha
        }
        return own[target] / (2 * sigma2)

    def loss_constant(self, sigma2, d):
        """M2 (33), t >= 2: -d/2 (r - 1 - log r), r = beta_tilde / sigma2."""
        return -0.5 * d * excess(self.posterior_variance, sigma2)

    def min_snr_weight(self, k, target):
        """Hang et al. 2023: min(snr, k) for x_0, snr = alpha_bar / (1 - alpha_bar)."""
        snr = self.alpha_bar / self.one_minus_alpha_bar
        own = {"x0": 1, "eps": snr, "v": 1 / self.one_minus_alpha_bar, "mean": self.c_x0**2}
        return jnp.minimum(snr, k) / own[target]

    def prior_term(self, x0):
        """M2 (36), t = T: L_T = -KL(q(x_T | x_0) || N(0, I))."""
        return -kl_isotropic(*self.q_moments(x0), 0 * x0, jnp.ones_like(self.beta))

    def middle_term(self, x0, x_t, mean, sigma2):
        """M2 (18), t >= 2: L_{t-1} = -KL(q(x_{t-1} | x_t, x_0) || N(mean, sigma2 I))."""
        return -kl_isotropic(*self.q_posterior(x0, x_t), mean, sigma2)


class Schedule(Step):
    """The tables of all times. Samplers visit times, up to T, and return x at 0 and at each of them."""

    def at(self, t, x=None):
        """Take the entries at t, in the dtype of x, one for each example of it."""
        return Step(*(at(table, t, x) for table in self))

    def q_two_step_moments(self, x_prev2, t):
        """M2 (21): q(x_t | x_{t-2}) = N(sqrt(a) x_{t-2}, (1 - a) I), a = alpha[t] alpha[t-1]."""
        now, before = self.at(t, x_prev2), self.at(t - 1, x_prev2)
        return jnp.sqrt(now.alpha * before.alpha) * x_prev2, now.beta + now.alpha * before.beta

    def reverse_variance(self, kind):
        """M2 (31): sigma2[t] is beta[t]; or 1; or beta_tilde[t], and beta_tilde[2] at t = 1."""
        first = self.posterior_variance[2:3] if len(self.t) > 2 else self.beta[1:]
        posterior = np.concatenate([self.beta[:1], first, self.posterior_variance[2:]])
        return {"beta": self.beta, "unit": np.minimum(self.t, 1.0), "posterior": posterior}[kind]

    def learned_variance(self, v, t):
        """Nichol & Dhariwal 2021 (15): sigma2 = beta[t]^v beta_tilde[t]^(1 - v)."""
        beta, beta_tilde = at(self.beta, t, v), at(self.reverse_variance("posterior"), t, v)
        return beta * (beta_tilde / beta) ** (1 - v)

    @np.errstate(divide="ignore")
    def respaced_schedule(self, times):
        """Nichol & Dhariwal 2021: alpha_bar'[i] = alpha_bar[times[i-1]], beta'[i] = 1 - their ratio."""
        visits = np.concatenate([[0], np.asarray(times)])
        logs = np.add.reduceat(np.log1p(-self.beta[1:]), visits[:-1])
        return complete(after(0, -np.expm1(logs)), after(1, np.exp(logs)), *self.at(visits)[3:6])

    @np.errstate(divide="ignore")
    def zero_terminal_snr(self):
        """Lin et al. 2024: r = sqrt(alpha_bar) becomes (r[t] - r[T]) r[1] / (r[1] - r[T]), t = 1..T."""
        r, beta = np.sqrt(self.alpha_bar), self.beta
        falls = r[1:-1] * beta[2:] / (1 + np.sqrt(self.alpha[2:]))  # r[t-1] - r[t], t = 2..T
        below, above = after(0, running_sum(falls[::-1]))[::-1], after(0, running_sum(falls))
        new = after(1, r[1] * below / below[0])
        one_minus_new = after(0, (above + below * beta[1] / (1 + r[1])) / below[0])
        beta = np.concatenate([beta[:2], falls * (below[:-1] + below[1:]) / below[:-1] ** 2])
        return complete(beta, 1 - beta, new**2, 2 * np.log(new), one_minus_new * (1 + new))

    def elbo(self, predict, x0, noise, sigma2, target, decoder):
        """M2 (19), by one draw noise[t] a step: L_T, L (entry t is L_{t-1}, t >= 2), L_0, their sum."""

        def term(t, score):
            s = self.at(t, x0)
            x_t = s.q_sample(x0, noise[t])
            mean = s.model_mean(x_t, predict(x_t, t), target)
            return score(s, x_t, mean, at(sigma2, t, x0))

        L_T, L_0 = self.at(-1, x0).prior_term(x0), term(1, lambda s, x_1, *step: decoder(x0, *step))
        L = jax.lax.map(lambda t: term(t, lambda s, *step: s.middle_term(x0, *step)), self.t[2:])
        L = jnp.concatenate([jnp.zeros((2, len(x0)), L.dtype), L])
        return L_T, L, L_0, L_T + L.sum(0) + L_0

    def ancestral_sample(self, predict, x_T, noise, sigma2, target):
        """Ho Algorithm 2: reverse_step from T to 1."""

        def step(x, t):
            return self.at(t, x).reverse_step(x, predict(x, t), target, at(sigma2, t, x), noise[t])

        return walk(step, x_T, self.t[:0:-1])

    def ddim_sample(self, predict, x_T, times, target, eta=0.0, noise=None):
        """Song et al. 2021 (12): sqrt(alpha_bar[s]) x_0 + sqrt(1 - alpha_bar[s] - sd^2) eps + sd z."""
        short = self.respaced_schedule(times)

        def step(x, where):
            i, t = where
            at_t, s, now, prediction = self.at(t, x), short.at(i - 1, x), short.at(i, x), predict(x, t)
            x0, eps = at_t.predicted_x0(x, prediction, target), at_t.predicted_eps(x, prediction, target)
            share = now.alpha * s.one_minus_alpha_bar / now.one_minus_alpha_bar
            kept = s.one_minus_alpha_bar * (1 - eta**2 + eta**2 * share)  # 1 - alpha_bar[s] - sd^2
            x = jnp.sqrt(s.alpha_bar) * x0 + jnp.sqrt(kept) * eps
            return x + eta * jnp.sqrt(now.posterior_variance) * noise[t] if eta else x

        return walk(step, x_T, (short.t[:0:-1], np.asarray(times)[::-1]))

    @np.errstate(divide="ignore")
    def dpm_solver_sample(self, predict, x_T, times, target, order=2):
        """Lu et al. 2022, 2M: sd[s] / sd[t] x_t - sqrt(alpha_bar[s]) (exp(-h) - 1) D, D of x_0."""
        visits = np.concatenate([[0], np.asarray(times)])
        sd, signal = np.sqrt(self.one_minus_alpha_bar[visits]), np.sqrt(self.alpha_bar[visits])
        h = -np.diff(self.log_alpha_bar[visits] / 2 - np.log(sd))
        share = np.zeros_like(h)
        share[1:-1] = h[1:-1] / (2 * h[2:]) * (order == 2)
        tables = sd[:-1] / sd[1:], -signal[:-1] * np.expm1(-h), share

        def step(carry, where):
            (x, x0_before), (i, t) = carry, where
            ratio, factor, share = (at(table, i, x) for table in tables)
            x0 = self.at(t, x).predicted_x0(x, predict(x, t), target)
            return ratio * x + factor * (x0 + share * (x0 - x0_before)), x0

        return walk(step, (x_T, x_T), (np.arange(len(h))[::-1], visits[:0:-1]))[0]

    def heun_sample(self, predict, x_T, times, target):
        """Karras et al. 2022, Algorithm 1: dy/ds = eps, y = x / sqrt(alpha_bar), s noise over signal."""
        visits = np.concatenate([[0], np.asarray(times)])
        signal = np.sqrt(self.alpha_bar)
        flow = np.sqrt(self.one_minus_alpha_bar) / signal

        def step(x, where):
            s, t = where
            y, step, signal_s = x / at(signal, t, x), at(flow, s, x) - at(flow, t, x), at(signal, s, x)

            def slope(x, t):
                return self.at(t, x).predicted_eps(x, predict(x, t), target)

            d = slope(x, t)
            better = lambda: (d + slope(signal_s * (y + step * d), s)) / 2  # noqa: E731
            return signal_s * (y + step * jax.lax.cond(s > 0, better, lambda: d))

        return walk(step, x_T, (visits[-2::-1], visits[:0:-1]))

    def ddim_invert(self, predict, x_0, times, target):
        """Solve x_t = sqrt(alpha_bar[t]) (y_s + (flow[t] - flow[s]) eps(x_t, t)) by Newton's method."""
        visits = np.concatenate([[0], np.asarray(times)])
        signal = np.sqrt(self.alpha_bar)
        flow = np.sqrt(self.one_minus_alpha_bar) / signal

        def step(x_s, where):
            s, t = where
            y, step = x_s / at(signal, s, x_s), at(flow, t, x_s) - at(flow, s, x_s)

            def gap(x):
                eps = self.at(t, x).predicted_eps(x, predict(x, t), target)
                return x - at(signal, t, x) * (y + step * eps)

            def newton(_, x):
                slope = jnp.moveaxis(jax.jacrev(lambda x: gap(x).sum(0))(x), 1, 0)
                return x - jnp.linalg.solve(slope, gap(x)[..., None])[..., 0]

            return jax.lax.fori_loop(0, 12, newton, at(signal, t, x_s) * y)

        return walk(step, x_0, (visits[:-1], visits[1:]))[::-1]


def at(table, t, x=None):
    """Take entries of a table at t, in the dtype of x, one for each example of it."""
    return table[t] if x is None else jnp.asarray(table, x.dtype)[t].reshape(-1, *[1] * (x.ndim - 1))


def walk(step, x, where):
    """All that a chain of steps visits, its start in the end."""

    def visit(x, where):
        x = step(x, where)
        return x, x

    _, path = jax.lax.scan(visit, x, where)
    return jax.tree.map(lambda path, x: jnp.concatenate([path[::-1], x[None]]), path, x)


def complete(beta, alpha, alpha_bar, log_alpha_bar, one_minus_alpha_bar):
    """M2 (25): beta_tilde[t] = (1 - alpha_bar[t-1]) / (1 - alpha_bar[t]) beta[t]; and (26)."""
    before, now = one_minus_alpha_bar[:-1], one_minus_alpha_bar[1:]
    c_xt, c_x0 = np.sqrt(alpha[1:]) * before / now, np.sqrt(alpha_bar[:-1]) * beta[1:] / now
    rest = (after(0, entries) for entries in (before / now * beta[1:], c_xt, c_x0))
    t = np.arange(len(beta))
    return Schedule(t, beta, alpha, alpha_bar, log_alpha_bar, one_minus_alpha_bar, *rest)


def after(first, entries):
    """A table: what stands at t = 0, and the entries from t = 1 on."""
    return np.concatenate([[first], entries]).astype(np.float64)


def running_sum(x):
    """Cumulative sums by doubling: their rounding grows with log T."""
    for k in range(len(x).bit_length()):
        x = np.concatenate([x[: 2**k], x[2**k :] + x[: -(2**k)]])
    return x


@np.errstate(divide="ignore")
def schedule_from_beta(beta):
    """M2 (22): alpha_bar[t] = (1 - beta[1]) ... (1 - beta[t]), by a sum of logarithms."""
    beta = after(0, beta)
    log_alpha_bar = running_sum(np.log1p(-beta))
    return complete(beta, 1 - beta, np.exp(log_alpha_bar), log_alpha_bar, -np.expm1(log_alpha_bar))


def schedule_from_alpha_bar(alpha_bar):
    """Invert M2 (22): beta[t] = 1 - alpha_bar[t] / alpha_bar[t-1]."""
    table = np.asarray(alpha_bar, np.float64)
    beta = after(0, (table[:-1] - table[1:]) / table[:-1])
    return complete(beta, after(1, table[1:] / table[:-1]), table, np.log(table), 1 - table)


def beta_schedule(kind, T, beta_1=1e-4, beta_T=0.02, width=6.0):
    """Betas from beta_1 to beta_T: Ho et al.'s linear ones, and others."""
    u = np.arange(T) / max(T - 1, 1)
    betas = {
        "linear": beta_1 + (beta_T - beta_1) * u,
        "scaled_linear": (beta_1 + (beta_T - beta_1) * u) * (1000 / T),
        "quadratic": (beta_1**0.5 + (beta_T**0.5 - beta_1**0.5) * u) ** 2,
        "sigmoid": beta_1 + (beta_T - beta_1) / (1 + np.exp(-width * (2 * u - 1))),
    }
    return schedule_from_beta(betas[kind])


def cosine_schedule(T, s=0.008, max_beta=0.999):
    """Nichol & Dhariwal 2021: alpha_bar[t] ~ cos(a_t)^2, a_t = (t / T + s) / (1 + s) pi / 2."""
    quarter, t = math.pi / 2 / (1 + s), np.arange(T + 1)
    a, left = (t / T + s) * quarter, (T - t) / T * quarter  # left = pi / 2 - a
    # cos(a)^2 - cos(b)^2 = sin(b - a) sin(a + b), which has most digits on the side of its zero
    both = np.minimum(a[1:] + a[:-1], left[1:] + left[:-1])
    beta = math.sin(quarter / T) * np.sin(both) / np.sin(left[:-1]) ** 2
    return schedule_from_beta(np.minimum(beta, max_beta))


def log_snr_schedule(T, noise, signal=0.03):
    """Kingma et al. 2021: log(alpha_bar / (1 - alpha_bar)) is linear; noise of x_1, signal of x_T."""
    first = math.log1p(-(noise**2)) - 2 * math.log(noise)
    step = (2 * math.log(signal) - math.log1p(-(signal**2)) - first) / (T - 1)
    log_snr = first + step * np.arange(T)
    log_alpha_bar = after(0, -np.logaddexp(0, -log_snr))
    one_minus_alpha_bar = after(0, np.exp(-np.logaddexp(0, log_snr)))
    beta = one_minus_alpha_bar * ([0, 1] + [-math.expm1(step)] * (T - 1))
    alpha = after(1, np.exp(np.diff(log_alpha_bar)))
    return complete(beta, alpha, np.exp(log_alpha_bar), log_alpha_bar, one_minus_alpha_bar)


def visits(kind, T, S):
    """S times up to T, rounded: uniform, quadratic (Song et al. 2021) or trailing (Lin et al. 2024)."""
    i, steps = np.arange(S), max(S - 1, 1)
    times = {
        "uniform": 1 + (T - 1) * i / steps,
        "quadratic": 1 + (T - 1) * i**2 / steps**2,
        "trailing": T * (i + 1) / S,
    }[kind].round()
    times[-1] = T
    return (np.maximum.accumulate(times - i).clip(1, T + 1 - S) + i).astype(int)  # moved apart


def total(x):
    """Sum over all axes but the first."""
    return x.reshape(len(x), -1).sum(1)


def excess(var_1, var_2):
    """Without cancellation, r - 1 - log r of r = var_1 / var_2."""
    r, more = var_1 / var_2, (var_1 - var_2) / var_2
    # XLA's log1p has an error of 1e-14 below -0.29, log has none there
    return more - jnp.where(r < 0.75, jnp.log(r), jnp.log1p(jnp.maximum(more, -0.25)))


def normal_log_density(x, mean, variance):
    """N(x; mean, variance I), its logarithm; and the decoder p(x_0 | x_1) of continuous data."""
    return -0.5 * total((x - mean) ** 2 / variance + jnp.log(2 * math.pi * variance))


def kl_normal_1d(mean_1, std_1, mean_2, std_2):
    """L 1.3: log(std_2 / std_1) + (std_1^2 + (mean_1 - mean_2)^2) / (2 std_2^2) - 1/2."""
    return jnp.log(std_2 / std_1) + (std_1**2 + (mean_1 - mean_2) ** 2) / (2 * std_2**2) - 0.5


def kl_isotropic(mean_1, var_1, mean_2, var_2):
    """KL(N(mean_1, var_1 I) || N(mean_2, var_2 I))."""
    return 0.5 * total(excess(var_1, var_2) + (mean_1 - mean_2) ** 2 / var_2)


def kl_full(mean_1, cov_1, mean_2, cov_2):
    """L 6.2: (log(det cov_2 / det cov_1) - d + tr(cov_2^-1 cov_1) + m^T cov_2^-1 m) / 2, m the shift."""
    root_1, root_2 = jnp.linalg.cholesky(cov_1), jnp.linalg.cholesky(cov_2)
    both = jnp.column_stack([root_1, mean_2 - mean_1])
    white = jax.scipy.linalg.solve_triangular(root_2, both, lower=True)
    log_det = jnp.log(jnp.diag(root_2) / jnp.diag(root_1)).sum()
    return log_det + 0.5 * ((white**2).sum() - len(mean_1))


def marginalise(a, s2, b, t2):
    """M2 (37): integral of N(x; a y, s2) N(y; b z, t2) dy = N(x; a b z, s2 + t2 a^2)."""
    return a * b, s2 + t2 * a**2


def discretised_gaussian(x0, mean, variance, levels):
    """Ho et al. 2020, 3.3: log(Phi(b) - Phi(a)) of x_0's bin on [-1, 1], open at both ends."""
    k = jnp.round((x0.astype(float) + 1) * (levels - 1) / 2)
    a, b = (((2 * k + 1 - levels + side) / (levels - 1) - mean) / variance**0.5 for side in (-1, 1))
    a, b = jnp.where(k == 0, -jnp.inf, a), jnp.where(k == levels - 1, jnp.inf, b)
    near, far = jnp.maximum(a, -b), jnp.maximum(-a, b)  # edges; near < 0 if the mean is inside
    # Gauss-Legendre from the near edge on, as far as the density counts: nothing cancels, even far out
    nodes, weights = np.polynomial.legendre.leggauss(32)
    length = jnp.minimum(far - near, 80 / (near + jnp.sqrt(near**2 + 80)))
    s = length[..., None] * (nodes + 1) / 2
    mass = length / 2 * (weights * jnp.exp(-s * (near[..., None] + s / 2))).sum(-1)
    log_p = jnp.log(mass) - near**2 / 2 - 0.5 * math.log(2 * math.pi)
    outside = (erfc(far / 2**0.5) + erfc(-near / 2**0.5)) / 2
    return total(jnp.where(near < -1.1, jnp.log1p(-outside), log_p)).astype(x0.dtype)


def guided(conditional, unconditional, guidance):
    """Ho & Salimans 2022 (6): (1 + w) conditional - w unconditional."""
    return (1 + guidance) * conditional - guidance * unconditional
