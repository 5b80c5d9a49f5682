"""Denoising diffusion in PyTorch, from the schedule to training. M2 (27) is in docs/equations.md.

Time is t = 1 ... T. Tables have entries 0 ... T; the first is the data's, alpha_bar[0] = 1. They are
float64, and rounded where they meet x: float32 or float64, of shape (B, ...), on their device. A network
is any predict(x_t, t), t an int or integers of shape (B,); its target is "eps", "x0", "mean" or "v".
"""

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F


class Step(NamedTuple):
    """What the formulas of one time t are made of."""

    t: torch.Tensor
    beta: torch.Tensor  # the variance of the step, M2 (20)
    alpha: torch.Tensor  # 1 - beta
    alpha_bar: torch.Tensor  # alpha_1 ... alpha_t, M2 (22)
    log_alpha_bar: torch.Tensor
    one_minus_alpha_bar: torch.Tensor  # the variance of x_t given x_0
    posterior_variance: torch.Tensor  # beta_tilde, M2 (25)
    c_xt: torch.Tensor  # the coefficients of x_t and of x_0 in the posterior mean, M2 (26)
    c_x0: torch.Tensor

    def q_step_moments(self, x_prev):
        """M2 (20): q(x_t | x_{t-1}) = N(sqrt(alpha) x_{t-1}, beta I)."""
        return self.alpha.sqrt() * x_prev, self.beta

    def q_step(self, x_prev, noise):
        """M2 (20): x_t = sqrt(alpha) x_{t-1} + sqrt(beta) noise."""
        return self.alpha.sqrt() * x_prev + self.beta.sqrt() * noise

    def q_moments(self, x0):
        """M2 (22): q(x_t | x_0) = N(sqrt(alpha_bar) x_0, (1 - alpha_bar) I)."""
        return self.alpha_bar.sqrt() * x0, self.one_minus_alpha_bar

    def q_sample(self, x0, noise):
        """M2 (27): x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) noise."""
        return self.alpha_bar.sqrt() * x0 + self.one_minus_alpha_bar.sqrt() * noise

    def q_posterior(self, x0, x_t):
        """M2 (24): q(x_{t-1} | x_t, x_0) = N(c_xt x_t + c_x0 x_0, beta_tilde I)."""
        return self.c_xt * x_t + self.c_x0 * x0, self.posterior_variance

    def posterior_mean_from_eps(self, x_t, eps):
        """M2 (29): mean = (x_t - beta / sqrt(1 - alpha_bar) eps) / sqrt(alpha)."""
        return (x_t - self.beta / self.one_minus_alpha_bar.sqrt() * eps) / self.alpha.sqrt()

    def x0_from_eps(self, x_t, eps):
        """M2 (28): x_0 = (x_t - sqrt(1 - alpha_bar) eps) / sqrt(alpha_bar)."""
        return (x_t - self.one_minus_alpha_bar.sqrt() * eps) / self.alpha_bar.sqrt()

    def eps_from_x0(self, x_t, x0):
        """M2 (27): eps = (x_t - sqrt(alpha_bar) x_0) / sqrt(1 - alpha_bar)."""
        return (x_t - self.alpha_bar.sqrt() * x0) / self.one_minus_alpha_bar.sqrt()

    def x0_from_mean(self, x_t, mean):
        """M2 (26): x_0 = (mean - c_xt x_t) / c_x0."""
        return (mean - self.c_xt * x_t) / self.c_x0

    def eps_from_mean(self, x_t, mean):
        """M2 (29): eps = (x_t - sqrt(alpha) mean) sqrt(1 - alpha_bar) / beta."""
        return (x_t - self.alpha.sqrt() * mean) * (self.one_minus_alpha_bar.sqrt() / self.beta)

    def v_from_x0_and_eps(self, x0, eps):
        """Salimans & Ho 2022: v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x_0."""
        return self.alpha_bar.sqrt() * eps - self.one_minus_alpha_bar.sqrt() * x0

    def x0_from_v(self, x_t, v):
        """Salimans & Ho 2022: x_0 = sqrt(alpha_bar) x_t - sqrt(1 - alpha_bar) v."""
        return self.alpha_bar.sqrt() * x_t - self.one_minus_alpha_bar.sqrt() * v

    def eps_from_v(self, x_t, v):
        """Salimans & Ho 2022: eps = sqrt(1 - alpha_bar) x_t + sqrt(alpha_bar) v."""
        return self.one_minus_alpha_bar.sqrt() * x_t + self.alpha_bar.sqrt() * v

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
        return torch.where(self.t > 1, mean + sigma2.sqrt() * noise, mean)

    def clipped_x0(self, x_t, prediction, target, low, high):
        """The predicted x_0, limited to the range of the data: a prediction of target x0."""
        return self.predicted_x0(x_t, prediction, target).clamp(low, high)

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
        return snr.clamp(max=k) / own[target]

    def prior_term(self, x0):
        """M2 (36), t = T: L_T = -KL(q(x_T | x_0) || N(0, I))."""
        return -kl_isotropic(*self.q_moments(x0), 0 * x0, torch.ones_like(self.beta))

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
        return (now.alpha * before.alpha).sqrt() * x_prev2, now.beta + now.alpha * before.beta

    def reverse_variance(self, kind):
        """M2 (31): sigma2[t] is beta[t]; or 1; or beta_tilde[t], and beta_tilde[2] at t = 1."""
        first = self.posterior_variance[2:3] if len(self.t) > 2 else self.beta[1:]
        posterior = torch.cat([self.beta[:1], first, self.posterior_variance[2:]])
        return {"beta": self.beta, "unit": self.t.clamp(max=1).double(), "posterior": posterior}[kind]

    def learned_variance(self, v, t):
        """Nichol & Dhariwal 2021 (15): sigma2 = beta[t]^v beta_tilde[t]^(1 - v)."""
        beta, beta_tilde = at(self.beta, t, v), at(self.reverse_variance("posterior"), t, v)
        return beta * (beta_tilde / beta) ** (1 - v)

    def respaced_schedule(self, times):
        """Nichol & Dhariwal 2021: alpha_bar'[i] = alpha_bar[times[i-1]], beta'[i] = 1 - their ratio."""
        visits, logs = [0, *map(int, times)], (-self.beta).log1p()
        logs = torch.stack([logs[s + 1 : t + 1].sum() for s, t in pairwise(visits)])
        return complete(after(0, -logs.expm1()), after(1, logs.exp()), *self.at(visits)[3:6])

    def zero_terminal_snr(self):
        """Lin et al. 2024: r = sqrt(alpha_bar) becomes (r[t] - r[T]) r[1] / (r[1] - r[T]), t = 1..T."""
        r, beta = self.alpha_bar.sqrt(), self.beta
        falls = r[1:-1] * beta[2:] / (1 + self.alpha[2:].sqrt())  # r[t-1] - r[t], t = 2..T
        below, above = after(0, running_sum(falls.flip(0))).flip(0), after(0, running_sum(falls))
        new = after(1, r[1] * below / below[0])
        one_minus_new = after(0, (above + below * beta[1] / (1 + r[1])) / below[0])
        beta = torch.cat([beta[:2], falls * (below[:-1] + below[1:]) / below[:-1] ** 2])
        return complete(beta, 1 - beta, new**2, 2 * new.log(), one_minus_new * (1 + new))

    def elbo(self, predict, x0, noise, sigma2, target, decoder):
        """M2 (19), by one draw noise[t] a step: L_T, L (entry t is L_{t-1}, t >= 2), L_0, their sum."""
        L = [total(0 * x0)] * len(self.t)
        for t in range(len(L) - 1, 0, -1):
            s = self.at(t, x0)
            x_t = s.q_sample(x0, noise[t])
            mean = s.model_mean(x_t, predict(x_t, t), target)
            L[t] = s.middle_term(x0, x_t, mean, at(sigma2, t, x0)) if t > 1 else L[0]
        L_T, L_0 = self.at(-1, x0).prior_term(x0), decoder(x0, mean, at(sigma2, 1, x0))
        return L_T, torch.stack(L), L_0, L_T + sum(L) + L_0

    def ancestral_sample(self, predict, x_T, noise, sigma2, target):
        """Ho Algorithm 2: reverse_step from T to 1."""
        path = [x_T]
        for t in range(len(self.t) - 1, 0, -1):
            s, x, variance = self.at(t, x_T), path[-1], at(sigma2, t, x_T)
            path.append(s.reverse_step(x, predict(x, t), target, variance, noise[t]))
        return torch.stack(path[::-1])

    def ddim_sample(self, predict, x_T, times, target, eta=0.0, noise=None):
        """Song et al. 2021 (12): sqrt(alpha_bar[s]) x_0 + sqrt(1 - alpha_bar[s] - sd^2) eps + sd z."""
        path, short = [x_T], self.respaced_schedule(times)
        for i, t in reversed(list(enumerate(map(int, times), start=1))):
            x, step, s, now = path[-1], self.at(t, x_T), short.at(i - 1, x_T), short.at(i, x_T)
            prediction = predict(x, t)
            x0, eps = step.predicted_x0(x, prediction, target), step.predicted_eps(x, prediction, target)
            share = now.alpha * s.one_minus_alpha_bar / now.one_minus_alpha_bar
            kept = s.one_minus_alpha_bar * (1 - eta**2 + eta**2 * share)  # 1 - alpha_bar[s] - sd^2
            x = s.alpha_bar.sqrt() * x0 + kept.sqrt() * eps
            path.append(x + eta * now.posterior_variance.sqrt() * noise[t] if eta else x)
        return torch.stack(path[::-1])

    def dpm_solver_sample(self, predict, x_T, times, target, order=2):
        """Lu et al. 2022, 2M: sd[s] / sd[t] x_t - sqrt(alpha_bar[s]) (exp(-h) - 1) D, D of x_0."""
        path, sd, signal = [x_T], self.one_minus_alpha_bar.sqrt(), self.alpha_bar.sqrt()
        half_log_snr, x0_before, h_before = self.log_alpha_bar / 2 - sd.log(), None, None
        for s, t in reversed(list(pairwise([0, *map(int, times)]))):
            D = x0 = self.at(t, x_T).predicted_x0(path[-1], predict(path[-1], t), target)
            h = half_log_snr[s] - half_log_snr[t]
            if order == 2 and s > 0 and h_before is not None:
                D = x0 + h / (2 * h_before) * (x0 - x0_before)
            path.append(sd[s] / sd[t] * path[-1] - signal[s] * (-h).expm1() * D)
            x0_before, h_before = x0, h
        return torch.stack(path[::-1])

    def heun_sample(self, predict, x_T, times, target):
        """Karras et al. 2022, Algorithm 1: dy/ds = eps, y = x / sqrt(alpha_bar), s noise over signal."""
        path, signal = [x_T], self.alpha_bar.sqrt()
        flow = self.one_minus_alpha_bar.sqrt() / signal
        for s, t in reversed(list(pairwise([0, *map(int, times)]))):
            x, y, step = path[-1], path[-1] / signal[t], flow[s] - flow[t]
            slope = self.at(t, x).predicted_eps(x, predict(x, t), target)
            if s > 0:
                x = signal[s] * (y + step * slope)
                slope = (slope + self.at(s, x).predicted_eps(x, predict(x, s), target)) / 2
            path.append(signal[s] * (y + step * slope))
        return torch.stack(path[::-1])

    def ddim_invert(self, predict, x_0, times, target):
        """Solve x_t = sqrt(alpha_bar[t]) (y_s + (flow[t] - flow[s]) eps(x_t, t)) by Newton's method."""
        path, signal = [x_0], self.alpha_bar.sqrt()
        flow = self.one_minus_alpha_bar.sqrt() / signal
        for s, t in pairwise([0, *map(int, times)]):

            def gap(x, y=path[-1] / signal[s], step=flow[t] - flow[s], t=t):
                return x - signal[t] * (y + step * self.at(t, x).predicted_eps(x, predict(x, t), target))

            x = signal[t] / signal[s] * path[-1]
            for _ in range(12):
                slope = torch.func.jacrev(lambda x: gap(x).sum(0))(x).movedim(1, 0)
                x = x - torch.linalg.solve(slope, gap(x))
            path.append(x)
        return torch.stack(path)


def at(table, t, x=None):
    """Take entries of a table at t, in the dtype of x, one for each example of it."""
    return table[t] if x is None else table[t].to(x.dtype).reshape(-1, *[1] * (x.ndim - 1))


def complete(beta, alpha, alpha_bar, log_alpha_bar, one_minus_alpha_bar):
    """M2 (25): beta_tilde[t] = (1 - alpha_bar[t-1]) / (1 - alpha_bar[t]) beta[t]; and (26)."""
    before, now = one_minus_alpha_bar[:-1], one_minus_alpha_bar[1:]
    c_xt, c_x0 = alpha[1:].sqrt() * before / now, alpha_bar[:-1].sqrt() * beta[1:] / now
    rest = (after(0, entries) for entries in (before / now * beta[1:], c_xt, c_x0))
    t = torch.arange(len(beta), device=beta.device)
    return Schedule(t, beta, alpha, alpha_bar, log_alpha_bar, one_minus_alpha_bar, *rest)


def after(first, entries):
    """A table: what stands at t = 0, and the entries from t = 1 on."""
    return torch.cat([entries.new_full((1,), first), entries])


def running_sum(x):
    """Cumulative sums by doubling: their rounding grows with log T."""
    for k in range(len(x).bit_length()):
        x = torch.cat([x[: 2**k], x[2**k :] + x[: -(2**k)]])
    return x


def schedule_from_beta(beta):
    """M2 (22): alpha_bar[t] = (1 - beta[1]) ... (1 - beta[t]), by a sum of logarithms."""
    beta = after(0, torch.as_tensor(beta).double())
    log_alpha_bar = running_sum((-beta).log1p())
    return complete(beta, 1 - beta, log_alpha_bar.exp(), log_alpha_bar, -log_alpha_bar.expm1())


def schedule_from_alpha_bar(alpha_bar):
    """Invert M2 (22): beta[t] = 1 - alpha_bar[t] / alpha_bar[t-1]."""
    table = torch.as_tensor(alpha_bar).double()
    beta = after(0, (table[:-1] - table[1:]) / table[:-1])
    return complete(beta, after(1, table[1:] / table[:-1]), table, table.log(), 1 - table)


def beta_schedule(kind, T, beta_1=1e-4, beta_T=0.02, width=6.0):
    """Betas from beta_1 to beta_T: Ho et al.'s linear ones, and others."""
    u = torch.arange(T).double() / max(T - 1, 1)
    betas = {
        "linear": beta_1 + (beta_T - beta_1) * u,
        "scaled_linear": (beta_1 + (beta_T - beta_1) * u) * (1000 / T),
        "quadratic": (beta_1**0.5 + (beta_T**0.5 - beta_1**0.5) * u) ** 2,
        "sigmoid": beta_1 + (beta_T - beta_1) * (width * (2 * u - 1)).sigmoid(),
    }
    return schedule_from_beta(betas[kind])


def cosine_schedule(T, s=0.008, max_beta=0.999):
    """Nichol & Dhariwal 2021: alpha_bar[t] ~ cos(a_t)^2, a_t = (t / T + s) / (1 + s) pi / 2."""
    quarter, t = math.pi / 2 / (1 + s), torch.arange(T + 1).double()
    a, left = (t / T + s) * quarter, (T - t) / T * quarter  # left = pi / 2 - a
    # cos(a)^2 - cos(b)^2 = sin(b - a) sin(a + b), which has most digits on the side of its zero
    both = torch.minimum(a[1:] + a[:-1], left[1:] + left[:-1])
    beta = math.sin(quarter / T) * both.sin() / left[:-1].sin() ** 2
    return schedule_from_beta(beta.clamp(max=max_beta))


def log_snr_schedule(T, noise, signal=0.03):
    """Kingma et al. 2021: log(alpha_bar / (1 - alpha_bar)) is linear; noise of x_1, signal of x_T."""
    first = math.log1p(-(noise**2)) - 2 * math.log(noise)
    step = (2 * math.log(signal) - math.log1p(-(signal**2)) - first) / (T - 1)
    log_snr = first + step * torch.arange(T).double()
    log_alpha_bar, one_minus = after(0, F.logsigmoid(log_snr)), after(0, (-log_snr).sigmoid())
    beta = one_minus * torch.tensor([0, 1] + [-math.expm1(step)] * (T - 1), dtype=torch.float64)
    alpha = after(1, log_alpha_bar.diff().exp())
    return complete(beta, alpha, log_alpha_bar.exp(), log_alpha_bar, one_minus)


def visits(kind, T, S):
    """S times up to T, rounded: uniform, quadratic (Song et al. 2021) or trailing (Lin et al. 2024)."""
    i, steps = torch.arange(S).double(), max(S - 1, 1)
    times = {
        "uniform": 1 + (T - 1) * i / steps,
        "quadratic": 1 + (T - 1) * i**2 / steps**2,
        "trailing": T * (i + 1) / S,
    }[kind].round()
    times[-1] = T
    return ((times - i).cummax(0).values.clamp(1, T + 1 - S) + i).long()  # apart where they coincide


def total(x):
    """Sum over all axes but the first."""
    return x.reshape(len(x), -1).sum(1)


def excess(var_1, var_2):
    """Without cancellation, r - 1 - log r of r = var_1 / var_2."""
    r, more = var_1 / var_2, (var_1 - var_2) / var_2
    return more - torch.where(r < 0.5, r.log(), more.clamp(min=-0.5).log1p())


def normal_log_density(x, mean, variance):
    """N(x; mean, variance I), its logarithm; and the decoder p(x_0 | x_1) of continuous data."""
    return -0.5 * total((x - mean) ** 2 / variance + (2 * math.pi * variance).log())


def kl_normal_1d(mean_1, std_1, mean_2, std_2):
    """L 1.3: log(std_2 / std_1) + (std_1^2 + (mean_1 - mean_2)^2) / (2 std_2^2) - 1/2."""
    return (std_2 / std_1).log() + (std_1**2 + (mean_1 - mean_2) ** 2) / (2 * std_2**2) - 0.5


def kl_isotropic(mean_1, var_1, mean_2, var_2):
    """KL(N(mean_1, var_1 I) || N(mean_2, var_2 I))."""
    return 0.5 * total(excess(var_1, var_2) + (mean_1 - mean_2) ** 2 / var_2)


def kl_full(mean_1, cov_1, mean_2, cov_2):
    """L 6.2: (log(det cov_2 / det cov_1) - d + tr(cov_2^-1 cov_1) + m^T cov_2^-1 m) / 2, m the shift."""
    root_1, root_2 = torch.linalg.cholesky(cov_1), torch.linalg.cholesky(cov_2)
    both = torch.column_stack([root_1, mean_2 - mean_1])
    white = torch.linalg.solve_triangular(root_2, both, upper=False)
    return (root_2 / root_1).diagonal().log().sum() + 0.5 * ((white**2).sum() - len(mean_1))


def marginalise(a, s2, b, t2):
    """M2 (37): integral of N(x; a y, s2) N(y; b z, t2) dy = N(x; a b z, s2 + t2 a^2)."""
    return a * b, s2 + t2 * a**2


def discretised_gaussian(x0, mean, variance, levels):
    """Ho et al. 2020, 3.3: log(Phi(b) - Phi(a)) of x_0's bin on [-1, 1], open at both ends."""
    k = ((x0.double() + 1) * (levels - 1) / 2).round()
    a, b = (((2 * k + 1 - levels + side) / (levels - 1) - mean) / variance**0.5 for side in (-1, 1))
    a, b = a.masked_fill(k == 0, -math.inf), b.masked_fill(k == levels - 1, math.inf)
    near, far = torch.maximum(a, -b), torch.maximum(-a, b)  # edges; near < 0 if the mean is inside
    # Gauss-Legendre from the near edge on, as far as the density counts: nothing cancels, even far out
    nodes, weights = map(torch.from_numpy, np.polynomial.legendre.leggauss(32))
    length = torch.minimum(far - near, 80 / (near + (near**2 + 80).sqrt()))
    s = length[..., None] * (nodes + 1) / 2
    mass = length / 2 * (weights * (-s * (near[..., None] + s / 2)).exp()).sum(-1)
    log_p = mass.log() - near**2 / 2 - 0.5 * math.log(2 * math.pi)
    outside = (torch.special.erfc(far / 2**0.5) + torch.special.erfc(-near / 2**0.5)) / 2
    return total(torch.where(near < -1, (-outside).log1p(), log_p)).to(x0.dtype)


def guided(conditional, unconditional, guidance):
    """Ho & Salimans 2022 (6): (1 + w) conditional - w unconditional."""
    return (1 + guidance) * conditional - guidance * unconditional


def time_embedding(T, size):
    """Rows of sin(1000 t / T f), then cos(1000 t / T f), f = 10000^(-i / k), i < k = size / 2."""
    frequency = 10000 ** (-torch.arange(size // 2).double() / (size // 2))
    angles = torch.arange(T + 1).double()[:, None] * 1000 / T * frequency
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class MLP(torch.nn.Module):
    """A residual network of x_t and the embedding of t, for x_t of shape (B, d)."""

    def __init__(self, T, d, width=128, layers=3, size=64):
        super().__init__()
        self.register_buffer("embedding", time_embedding(T, size), persistent=False)
        shapes = {"weight": (d, width), "time_weight": (size, width), "bias": (width,)}
        shapes |= {"hidden_weight": (layers, width, width), "hidden_bias": (layers, width)}
        for name, shape in (shapes | {"out_weight": (width, d), "out_bias": (d,)}).items():
            start = torch.zeros(shape) if "bias" in name else torch.randn(shape) / shape[-2] ** 0.5
            self.register_parameter(name, torch.nn.Parameter(start))

    def forward(self, x_t, t):
        """Return h W_out + b_out; h = silu(x_t W + e[t] W_t + b), then h + silu(h W_l + b_l), ..."""
        h = F.silu(x_t @ self.weight + self.embedding[t].to(x_t.dtype) @ self.time_weight + self.bias)
        for weight, bias in zip(self.hidden_weight, self.hidden_bias, strict=True):
            h = h + F.silu(h @ weight + bias)
        return h @ self.out_weight + self.out_bias


def squared_error(prediction, truth, weight=1.0):
    """Mean over all entries of weight * (prediction - truth)^2."""
    return (weight * (prediction - truth) ** 2).mean()


def ema_update(average, parameters, step, decay):
    """Move to decay average + (1 - decay) parameters; at first decay is (1 + step) / (10 + step)."""
    with torch.no_grad():
        for old, new in zip(average, parameters, strict=True):
            old.lerp_(new, 1 - min(decay, (1 + step) / (10 + step)))


def train_step(schedule, model, average, optimizer, step, x0, t, noise, target="eps", decay=0.999):
    """Ho Algorithm 1: down the gradient of |truth - prediction|^2; average is a copy of the model."""
    s = schedule.at(t, x0)
    loss = squared_error(model(s.q_sample(x0, noise), t), s.training_target(x0, noise, target))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    ema_update(average.parameters(), model.parameters(), step, decay)
    return loss.detach()
