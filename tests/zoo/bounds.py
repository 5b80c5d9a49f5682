"""Slips in the bound: each class gets one thing wrong."""

from typing import ClassVar

import numpy as np
from scipy.special import ndtr

from tests.zoo.plain import Bound

DISCRETISED: dict = {"decoder": "discretised"}


class PriorLeftOut(Bound):
    named = r"prior term is left out"

    def prior(self, x0):
        return np.zeros(len(x0))


class PriorWithTheWrongSign(Bound):
    named = r"sign|negat"

    def prior(self, x0):
        return -super().prior(x0)


class PriorWithoutItsLogarithm(Bound):
    named = r"logarithm.*left out"

    def prior(self, x0):
        a = self.abar[-1]
        return -0.5 * np.sum(a * x0**2 - a, axis=1)


class PriorWithoutX0(Bound):
    named = r"mean is left out|x_?0 is left out"

    def prior(self, x0):
        return super().prior(0.0 * x0)


class PriorWithVarianceSquared(Bound):
    """1 - alpha_bar_T taken for a standard deviation."""

    named = r"variance is squared|standard deviation"

    def prior(self, x0):
        a = self.abar[-1]
        return -0.5 * np.sum(a * x0**2 + (1.0 - a) ** 2 - 1.0 - 2.0 * np.log1p(-a), axis=1)


class MeanOverDimensions(Bound):
    named = r"mean over dimensions"

    def elbo_terms(self, predict, x0, noise):
        return tuple(term / x0.shape[1] for term in super().elbo_terms(predict, x0, noise))


class Bits(Bound):
    named = r"in bits, not nats"

    def elbo_terms(self, predict, x0, noise):
        return tuple(term / np.log(2.0) for term in super().elbo_terms(predict, x0, noise))


class BitsPerDimension(Bound):
    named = r"bits per dimension|bits.*dimension"

    def elbo_terms(self, predict, x0, noise):
        unit = np.log(2.0) * x0.shape[1]
        return tuple(term / unit for term in super().elbo_terms(predict, x0, noise))


class TermsToMinimise(Bound):
    named = r"sign is wrong"

    def elbo_terms(self, predict, x0, noise):
        return tuple(-term for term in super().elbo_terms(predict, x0, noise))


class BetaTildeInTheBound(Bound):
    """The sampler has beta."""

    named = r"beta_tilde\[t\].* here"

    def divergence(self, m, v, mean, s2):
        return super().divergence(m, v, mean, v)


class SquaredErrorOnly(Bound):
    """No logarithm and no trace: right only where sigma^2 = beta_tilde."""

    named = r"constant of \(33\) is left out"

    def divergence(self, m, v, mean, s2):
        return -np.sum((m - mean) ** 2, axis=1) / (2.0 * s2)


class DivergenceTheOtherWay(Bound):
    named = r"wrong way round"

    def divergence(self, m, v, mean, s2):
        return super().divergence(mean, s2, m, v)


class DivergenceWithoutHalf(Bound):
    named = r"is 2 times what"

    def divergence(self, m, v, mean, s2):
        return 2.0 * super().divergence(m, v, mean, s2)


class WithoutMinusOne(Bound):
    """The -1 of each dimension forgotten."""

    named = r"-1 is left out"

    def divergence(self, m, v, mean, s2):
        return super().divergence(m, v, mean, s2) - m.shape[1] / 2.0


class RatioUpsideDown(Bound):
    """log(v / s2) for log(s2 / v)."""

    named = r"logarithm is upside down|sign of the logarithm"

    def divergence(self, m, v, mean, s2):
        return -np.sum((v / s2 - 1.0 + np.log(v / s2) + (m - mean) ** 2 / s2) / 2.0, axis=1)


class AverageOverTheBatch(Bound):
    named = r"mean over the batch"

    def divergence(self, m, v, mean, s2):
        terms = super().divergence(m, v, mean, s2)
        return np.full_like(terms, terms.mean())


class NoiseOfTheStepBefore(Bound):
    named = r"noise\[t - 1\] is used at t"

    def term(self, predict, x0, t, noise):
        return super().term(predict, x0, t, np.roll(noise, 1, axis=0))


class OneNoiseForAllSteps(Bound):
    named = r"noise\[(T|30)\] is used at every t"

    def elbo_terms(self, predict, x0, noise):
        return super().elbo_terms(predict, x0, np.broadcast_to(noise[self.T], noise.shape))


class ToldOneLess(Bound):
    named = r"count from 0"

    def elbo_terms(self, predict, x0, noise):
        return super().elbo_terms(lambda x, t: predict(x, t - 1), x0, noise)


class NetworkSeesX0(Bound):
    named = r"x0 itself"

    def term(self, predict, x0, t, noise):
        x_t = self.q_sample(x0, t, noise[t])
        m, v = self.q_posterior(x0, x_t, t)
        mean = self.model_mean(x_t, t, predict(x0, t))
        return self.divergence(m, v, mean, self.reverse_variance(t))


class RowsOneEarly(Bound):
    named = r"off by one.*t \+ 1|one row (too )?early"

    def elbo_terms(self, predict, x0, noise):
        L_T, L, L_0 = super().elbo_terms(predict, x0, noise)
        return L_T, np.roll(L, -1, axis=0), L_0


class DecoderCountedTwice(Bound):
    """L[1] holds L_0, which is returned besides."""

    named = r"terms for t = 1 .* go to L_0|L_0 twice"

    def elbo_terms(self, predict, x0, noise):
        L_T, L, L_0 = super().elbo_terms(predict, x0, noise)
        L[1] = L_0
        return L_T, L, L_0


class LastTermLeftOut(Bound):
    """range(2, T) ends before T."""

    named = r"not at t = 30"

    def elbo_terms(self, predict, x0, noise):
        L = np.zeros((self.T + 1, len(x0)))
        for t in range(2, self.T):
            L[t] = self.term(predict, x0, t, noise)
        x_1 = self.q_sample(x0, 1, noise[1])
        mean = self.model_mean(x_1, 1, predict(x_1, 1))
        return self.prior(x0), L, self.decoder(x0, mean, self.reverse_variance(1))


class DecoderDeviation(Bound):
    named = r"standard deviation is taken"

    def decoder(self, x0, mean, s2):
        return super().decoder(x0, mean, np.sqrt(s2))


class DecoderWithoutTwoPi(Bound):
    named = r"log\(2 pi\) is left out"

    def decoder(self, x0, mean, s2):
        return super().decoder(x0, mean, s2) + x0.shape[1] / 2.0 * np.log(2.0 * np.pi)


class DecoderSquaredErrorOnly(Bound):
    named = r"squared error alone"

    def decoder(self, x0, mean, s2):
        return -np.sum((x0 - mean) ** 2, axis=1) / (2.0 * s2)


class DecoderNormalisedOnce(Bound):
    """The constant once, not once for each dimension."""

    named = r"counted once"

    def decoder(self, x0, mean, s2):
        return -(np.log(2.0 * np.pi * s2) + np.sum((x0 - mean) ** 2, axis=1) / s2) / 2.0


class DecoderWithUnitVariance(Bound):
    named = r"variance is 1\b"

    def decoder(self, x0, mean, s2):
        return super().decoder(x0, mean, 1.0)


class DecoderAtT(Bound):
    """The last sigma^2 of the loop's variable, in place of the first."""

    named = r"reverse_variance\(T\)|beta\[T\]"

    def decoder(self, x0, mean, s2):
        return super().decoder(x0, mean, self.beta[-1])


class DiscretisedBound(Bound):
    """Bins of width 2/255; the two at the ends reach to infinity."""

    options: ClassVar = DISCRETISED

    def cdf(self, z):
        return ndtr(z)

    def decoder(self, x0, mean, s2):
        std = np.sqrt(s2)
        above = self.cdf((x0 - mean + 1.0 / 255.0) / std)
        below = self.cdf((x0 - mean - 1.0 / 255.0) / std)
        above = np.where(x0 > 0.999, 1.0, above)
        below = np.where(x0 < -0.999, 0.0, below)
        return np.sum(np.log(np.maximum(above - below, 1e-300)), axis=1)


class DiscretisedWithoutTails(DiscretisedBound):
    named = r"tail|end bin|ends?\b|infinity|edge|outer"

    def decoder(self, x0, mean, s2):
        std = np.sqrt(s2)
        above = self.cdf((x0 - mean + 1.0 / 255.0) / std)
        below = self.cdf((x0 - mean - 1.0 / 255.0) / std)
        return np.sum(np.log(np.maximum(above - below, 1e-300)), axis=1)


class DiscretisedByTanh(DiscretisedBound):
    named = r"tanh|approximat"

    def cdf(self, z):
        return 0.5 * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (z + 0.044715 * z**3)))


class DiscretisedBinsTwiceAsWide(DiscretisedBound):
    named = r"width|wide|half|bins?|twice|1/127|2/255"

    def decoder(self, x0, mean, s2):
        std = np.sqrt(s2)
        above = self.cdf((x0 - mean + 2.0 / 255.0) / std)
        below = self.cdf((x0 - mean - 2.0 / 255.0) / std)
        above = np.where(x0 > 0.999, 1.0, above)
        below = np.where(x0 < -0.999, 0.0, below)
        return np.sum(np.log(np.maximum(above - below, 1e-300)), axis=1)


class GaussianCalledDiscretised(Bound):
    options: ClassVar = DISCRETISED
    named = r"gaussian|density"
