"""What people do today, and rightly: no row may fail for any of these, whatever the seed."""

from typing import Any, ClassVar

import numpy as np
from scipy.special import log_ndtr

from tests.zoo.bounds import DiscretisedBound
from tests.zoo.formulas import cosine
from tests.zoo.plain import Bound, Ddim, Loop, LoopByX0, Training


class Everything(Bound, Loop, Training):
    """All methods in one object, sigma^2 = beta."""


class Thousand(Everything):
    """Ho's schedule."""

    T = 1000

    def make_betas(self, T):
        return np.linspace(1e-4, 0.02, T)


class CosineFifty(Everything):
    T = 50
    options: ClassVar = {"schedule": "cosine"}

    def make_betas(self, T):
        abar = cosine(T)
        return np.minimum(1.0 - abar[1:] / abar[:-1], 0.999)


# --- targets --------------------------------------------------------------------------------


class ByX0(Everything):
    """The network says something else; all goes through the x_0 that it implies."""

    options: ClassVar = {"target": "x0"}

    def x0_of(self, x, i, said):
        return said

    def eps_of(self, x, i, said):
        a = self.abar[i]
        return (x - np.sqrt(a) * self.x0_of(x, i, said)) / np.sqrt(1.0 - a)

    def step(self, x, i, said, z):
        return Loop.step(self, x, i, self.eps_of(x, i, said), z)

    def aim(self, x0, i, noise):
        return x0

    def elbo_terms(self, predict, x0, noise):
        return super().elbo_terms(lambda x, t: self.eps_of(x, t - 1, predict(x, t)), x0, noise)


class ByV(ByX0):
    options: ClassVar = {"target": "v"}

    def x0_of(self, x, i, v):
        return np.sqrt(self.abar[i]) * x - np.sqrt(1.0 - self.abar[i]) * v

    def aim(self, x0, i, noise):
        a = self.abar[i][:, None]
        return np.sqrt(a) * noise - np.sqrt(1.0 - a) * x0


class ByTheMean(ByX0):
    options: ClassVar = {"target": "mean"}

    def x0_of(self, x, i, mean):
        on_x0 = np.sqrt(self.abar_prev[i]) * self.beta[i] / (1.0 - self.abar[i])
        on_x = np.sqrt(self.alpha[i]) * (1.0 - self.abar_prev[i]) / (1.0 - self.abar[i])
        return (mean - on_x * x) / on_x0

    def step(self, x, i, mean, z):
        return mean + (np.sqrt(self.beta[i]) * z if i > 0 else 0.0)

    def aim(self, x0, i, noise):
        a = self.abar[i][:, None]
        x_t = np.sqrt(a) * x0 + np.sqrt(1.0 - a) * noise
        return (x_t - (self.beta[i] / np.sqrt(1.0 - self.abar[i]))[:, None] * noise) / np.sqrt(
            self.alpha[i][:, None]
        )


class ZeroTerminalSnr(ByV):
    """The last beta is 1; only what needs no eps is offered."""

    T = 40
    model_mean = reverse_step = eps_loss_weight = x0_loss_weight = v_loss_weight = None
    mean_loss_weight = q_posterior = None

    def make_betas(self, T):
        root = np.sqrt(np.cumprod(1.0 - np.linspace(0.1, 12.0, T) / T))
        root = (root - root[-1]) * root[0] / (root[0] - root[-1])
        return 1.0 - (root / np.append(1.0, root[:-1])) ** 2

    def posterior(self, x0, x_t, i):
        on_x0 = np.sqrt(self.abar_prev[i]) * self.beta[i] / (1.0 - self.abar[i])
        on_x = np.sqrt(self.alpha[i]) * (1.0 - self.abar_prev[i]) / (1.0 - self.abar[i])
        return on_x0 * x0 + on_x * x_t

    def step(self, x, i, v, z):
        mean = self.posterior(self.x0_of(x, i, v), x, i)
        return mean + (np.sqrt(self.beta[i]) * z if i > 0 else 0.0)

    def elbo_terms(self, predict, x0, noise):
        L = np.zeros((self.T + 1, len(x0)))
        for t in range(1, self.T + 1):
            x_t = self.q_sample(x0, t, noise[t])
            mean = self.posterior(self.x0_of(x_t, t - 1, predict(x_t, t)), x_t, t - 1)
            if t == 1:
                L_0 = self.decoder(x0, mean, self.beta[0])
            else:
                aim, v = self.posterior(x0, x_t, t - 1), self.beta_tilde[t - 1]
                L[t] = self.divergence(aim, v, mean, self.beta[t - 1])
        return np.zeros(len(x0)), L, L_0


# --- variances ------------------------------------------------------------------------------


class AnotherVariance(Everything):
    """All methods take sigma^2 from one table; what is drawn in training does not depend on it."""

    loss = None

    def sigma2(self):
        raise NotImplementedError

    def reverse_variance(self, t):
        return self.sigma2()[t - 1]

    def step(self, x, i, eps, z):
        mean = Loop.step(self, x, i, eps, 0.0)
        return mean + (np.sqrt(self.sigma2()[i]) * z if i > 0 else 0.0)

    def reverse_step(self, x_t, t, eps, z):
        return self.step(x_t, t - 1, eps, z)

    def _scaled(self, weight, t):
        with np.errstate(divide="ignore"):
            return weight * self.beta[t - 1] / self.sigma2()[t - 1]

    def eps_loss_weight(self, t):
        return self._scaled(Bound.eps_loss_weight(self, t), t)

    def x0_loss_weight(self, t):
        return self._scaled(Bound.x0_loss_weight(self, t), t)

    def v_loss_weight(self, t):
        return self._scaled(Bound.v_loss_weight(self, t), t)

    def mean_loss_weight(self, t):
        return self._scaled(Bound.mean_loss_weight(self, t), t)


class BetaTildeClippedAtOne(AnotherVariance):
    """beta_tilde, with that of t = 2 at t = 1, where it would be 0."""

    def sigma2(self):
        return np.append(self.beta_tilde[1], self.beta_tilde[1:])


class BetaTildeWithBetaAtOne(AnotherVariance):
    def sigma2(self):
        return np.append(self.beta[0], self.beta_tilde[1:])


class BetaTildeAsItIs(LoopByX0):
    """0 at t = 1, so that there is no density to take the logarithm of: no bound."""

    options: ClassVar = {"target": "x0"}

    def reverse_variance(self, t):
        return self.beta_tilde[t - 1]

    def reverse_step(self, x_t, t, eps, z):
        return Loop.step(self, x_t, t - 1, eps, 0.0) + np.sqrt(self.beta_tilde[t - 1]) * z


class Between(AnotherVariance):
    """The geometric mean, as a network with a learned variance may say."""

    def sigma2(self):
        return np.sqrt(self.beta * np.append(self.beta_tilde[1], self.beta_tilde[1:]))


class BetweenUnevenly(AnotherVariance):
    """v grows with t."""

    def sigma2(self):
        low = np.append(self.beta_tilde[1], self.beta_tilde[1:])
        v = np.linspace(0.1, 0.9, self.T)
        return self.beta**v * low ** (1.0 - v)


class OneEverywhere(AnotherVariance):
    def sigma2(self):
        return np.ones(self.T)


# --- DDIM, respaced, clipped ----------------------------------------------------------------


class DdimHalf(Ddim):
    eta = 0.5
    options: ClassVar = {"eta": 0.5, "times": Ddim.times}


class DdimOne(Ddim):
    eta = 1.0
    options: ClassVar = {"eta": 1.0, "times": Ddim.times}


class DdimAllTimes(Ddim):
    times = tuple(range(1, 61))
    options: ClassVar = {"eta": 0.0}


class DdimQuadratic(Ddim):
    times = tuple(sorted({int(t) for t in np.linspace(1.0, 60.0**0.5, 14) ** 2 + 0.5}))
    options: ClassVar = {"eta": 0.0, "times": times}


class DdimTrailing(Ddim):
    """From T down in steps of T / 7, rounded."""

    eta = 0.2
    times = tuple(sorted(int(t) for t in np.round(np.arange(60, 0, -60 / 7))))
    options: ClassVar = {"eta": 0.2, "times": times}


class DdimLeading(Ddim):
    """1, 11, 21 ...: T itself is not visited, a choice of many libraries."""

    times = tuple(range(1, 61, 10))
    options: ClassVar = {"eta": 0.0, "times": times}


class DdimOfThousandInSingle(Ddim):
    """Fifty of a thousand times, all in float32."""

    T = 1000
    times = tuple(range(20, 1001, 20))
    options: ClassVar = {"eta": 0.0, "times": times, "dtype": "float32"}

    def __init__(self):
        super().__init__()
        self.abar = self.abar.astype(np.float32)

    def make_betas(self, T):
        return np.linspace(1e-4, 0.02, T)

    def sample(self, predict, x_T, noise):
        single = noise.astype(np.float32)
        return super().sample(
            lambda x, t: predict(x, t).astype(np.float32), x_T.astype(np.float32), single
        )


class Respaced(Ddim):
    """Ancestral steps of the short chain, with betas of its own."""

    options: ClassVar = {"times": Ddim.times}

    def variance(self, a_t, a_s):
        return 1.0 - a_t / a_s

    def x0_of(self, x, a_t, eps):
        return (x - np.sqrt(1.0 - a_t) * eps) / np.sqrt(a_t)

    def step(self, x, t, s, eps, z):
        a_t, a_s = self.abar_at(t), self.abar_at(s)
        alpha = a_t / a_s
        x0 = self.x0_of(x, a_t, eps)
        mean = np.sqrt(a_s) * (1.0 - alpha) / (1.0 - a_t) * x0
        mean = mean + np.sqrt(alpha) * (1.0 - a_s) / (1.0 - a_t) * x
        return mean + (np.sqrt(self.variance(a_t, a_s)) * z if s > 0 else 0.0)


class RespacedWithBetaTilde(Respaced):
    def variance(self, a_t, a_s):
        return (1.0 - a_t / a_s) * (1.0 - a_s) / (1.0 - a_t)


class RespacedAndClipped(Respaced):
    options: ClassVar = {"times": Ddim.times, "clip": 1.0}

    def x0_of(self, x, a_t, eps):
        return np.clip(super().x0_of(x, a_t, eps), -1.0, 1.0)


class Clipped(LoopByX0):
    options: ClassVar = {"target": "x0", "clip": 1.5}

    def x0_of(self, x, i, x0):
        return np.clip(x0, -1.5, 1.5)

    def reverse_step(self, x_t, t, eps, z):
        i = t - 1
        x0 = (x_t - np.sqrt(1.0 - self.abar[i]) * eps) / np.sqrt(self.abar[i])
        return self.step(x_t, i, x0, z)


class ClippedFromV(LoopByX0):
    options: ClassVar = {"target": "v", "clip": 1.0}

    def x0_of(self, x, i, v):
        x0 = np.sqrt(self.abar[i]) * x - np.sqrt(1.0 - self.abar[i]) * v
        return np.clip(x0, -1.0, 1.0)


class DdimClipped(DdimHalf):
    """eps is that of the limited x_0."""

    options: ClassVar = {"eta": 0.5, "times": Ddim.times, "clip": 1.0}

    def step(self, x, t, s, eps, z):
        a_t = self.abar_at(t)
        x0 = np.clip((x - np.sqrt(1.0 - a_t) * eps) / np.sqrt(a_t), -1.0, 1.0)
        return super().step(x, t, s, (x - np.sqrt(a_t) * x0) / np.sqrt(1.0 - a_t), z)


class DdimClippedKeepsEps(DdimHalf):
    """eps is the network's as it was."""

    options: ClassVar = {"eta": 0.5, "times": Ddim.times, "clip": 1.0}

    def step(self, x, t, s, eps, z):
        a_t, a_s = self.abar_at(t), self.abar_at(s)
        sigma = self.eta * np.sqrt((1.0 - a_s) / (1.0 - a_t) * (1.0 - a_t / a_s))
        x0 = np.clip((x - np.sqrt(1.0 - a_t) * eps) / np.sqrt(a_t), -1.0, 1.0)
        return np.sqrt(a_s) * x0 + np.sqrt(1.0 - a_s - sigma**2) * eps + sigma * z


# --- decoders -------------------------------------------------------------------------------


class Discretised(DiscretisedBound):
    """256 levels; small bins through logarithms, so that none is lost in a tail."""

    def decoder(self, x0, mean, s2):
        std = np.sqrt(s2)
        sign = np.where(x0 > mean, -1.0, 1.0)  # of the side on which log_ndtr is exact
        low = sign * (x0 - mean - sign / 255.0) / std
        high = sign * (x0 - mean + sign / 255.0) / std
        inside = log_ndtr(high) + np.log1p(-np.exp(np.minimum(log_ndtr(low) - log_ndtr(high), -1e-300)))
        inside = np.where(x0 > 0.999, log_ndtr(-(x0 - mean - 1.0 / 255.0) / std), inside)
        inside = np.where(x0 < -0.999, log_ndtr((x0 - mean + 1.0 / 255.0) / std), inside)
        return np.sum(inside, axis=1)


def laplace(x0, mean, variance):
    """A density of the user's own, with this variance."""
    scale = np.sqrt(variance / 2.0)
    return np.sum(-np.log(2.0 * scale) - np.abs(x0 - mean) / scale, axis=1)


class LaplaceDecoder(Bound):
    options: ClassVar = {"decoder": laplace}

    def decoder(self, x0, mean, s2):
        return laplace(x0, mean, s2)


# --- training -------------------------------------------------------------------------------


class OneTimeForTheBatch(Training):
    def draw_times(self, rng, batch):
        return np.full(batch, rng.integers(0, self.T))


class Antithetic(Training):
    """t and T + 1 - t in pairs."""

    def draw_times(self, rng, batch):
        half = rng.integers(0, self.T, (batch + 1) // 2)
        return np.concatenate([half, self.T - 1 - half])[:batch]


class Stratified(Training):
    """One time from each of B strata, in random order."""

    def draw_times(self, rng, batch):
        u = (rng.permutation(batch) + rng.random(batch)) / batch
        return np.minimum((u * self.T).astype(int), self.T - 1)


class OneOffsetForAll(Training):
    """Kingma et al. 2021: one uniform number, evenly spread over the batch."""

    def draw_times(self, rng, batch):
        u = (rng.random() + np.arange(batch) / batch) % 1.0
        return np.minimum((u * self.T).astype(int), self.T - 1)


class FloatsRoundedDown(Training):
    def draw_times(self, rng, batch):
        return np.floor(rng.uniform(0.0, 1.0, batch) * self.T).astype(int)


class SumForEachExample(Training):
    def loss(self, predict, x0, rng):
        i, noise = self.draw_times(rng, len(x0)), self.draw_noise(rng, x0.shape)
        return np.sum((noise - predict(self.noisy(x0, i, noise), i + 1)) ** 2, axis=1)


class HalfTheSum(Training):
    def loss(self, predict, x0, rng):
        i, noise = self.draw_times(rng, len(x0)), self.draw_noise(rng, x0.shape)
        return 0.5 * np.sum((noise - predict(self.noisy(x0, i, noise), i + 1)) ** 2)


class HalfTheMean(Training):
    def loss(self, predict, x0, rng):
        return 0.5 * super().loss(predict, x0, rng)


class MinSnr(Training):
    def weight(self, i):
        snr = self.abar[i] / (1.0 - self.abar[i])
        return np.minimum(snr, 5.0) / snr


class MinSnrOfX0(Training):
    options: ClassVar = {"target": "x0"}

    def aim(self, x0, i, noise):
        return x0

    def weight(self, i):
        return np.minimum(self.abar[i] / (1.0 - self.abar[i]), 3.0)


class MinSnrOfV(Training):
    options: ClassVar = {"target": "v"}

    def aim(self, x0, i, noise):
        a = self.abar[i][:, None]
        return np.sqrt(a) * noise - np.sqrt(1.0 - a) * x0

    def weight(self, i):
        snr = self.abar[i] / (1.0 - self.abar[i])
        return np.minimum(snr, 5.0) / (snr + 1.0)


class SnrOfX0(Training):
    """The weight of x_0 that makes its loss the simple one of eps."""

    options: ClassVar = {"target": "x0"}

    def aim(self, x0, i, noise):
        return x0

    def weight(self, i):
        return self.abar[i] / (1.0 - self.abar[i])


class P2(Training):
    def weight(self, i):
        return 1.0 / (1.0 + self.abar[i] / (1.0 - self.abar[i]))


class WeightOfTheBound(Training):
    def weight(self, i):
        return self.T * self.beta[i] / (2.0 * self.alpha[i] * (1.0 - self.abar[i]))


class WeightOfItsOwn(Training):
    def weight(self, i):
        return np.exp(-3.0 * i / self.T) + 0.1


class Huber(Training):
    """Not a squared error far from the target."""

    def loss(self, predict, x0, rng):
        i, noise = self.draw_times(rng, len(x0)), self.draw_noise(rng, x0.shape)
        error = np.abs(noise - predict(self.noisy(x0, i, noise), i + 1))
        return np.mean(np.where(error < 1.0, 0.5 * error**2, error - 0.5))


class ImportanceSampled(Training):
    """t drawn with p(t), weighted by 1 / (T p(t))."""

    def chances(self):
        p = np.linspace(2.0, 0.5, self.T)
        return p / p.sum()

    def draw_times(self, rng, batch):
        return rng.choice(self.T, batch, p=self.chances())

    def weight(self, i):
        return 1.0 / (self.T * self.chances()[i])


class TrainingInSingle(Training):
    options: ClassVar = {"dtype": "float32"}

    def noisy(self, x0, i, noise):
        return super().noisy(x0, i, noise).astype(np.float32)


# --- float32, code that draws for itself ----------------------------------------------------


class Single(Everything):
    """Tables in float32, and the arithmetic that follows from them."""

    T = 200
    options: ClassVar = {"dtype": "float32"}

    def __init__(self):
        super().__init__()
        for name in ("beta", "alpha", "abar", "abar_prev", "beta_tilde"):
            setattr(self, name, getattr(self, name).astype(np.float32))

    def sample(self, predict, x_T, noise):
        x, noise = x_T.astype(np.float32), noise.astype(np.float32)
        return super().sample(lambda x, t: predict(x, t).astype(np.float32), x, noise)


VARIANTS: dict[str, Any] = {
    name: found
    for name, found in list(vars().items())
    if isinstance(found, type) and found.__module__ == __name__ and name not in ("AnotherVariance",)
}
