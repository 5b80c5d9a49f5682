"""Slips in training: each class gets one thing wrong."""

from typing import ClassVar

import numpy as np

from tests.zoo.plain import Training


class NeverT(Training):
    named = r"never drawn: t = (T|60)\b"

    def draw_times(self, rng, batch):
        return rng.integers(0, self.T - 1, batch)


class NeverOne(Training):
    named = r"never drawn: t = 1\b"

    def draw_times(self, rng, batch):
        return rng.integers(1, self.T, batch)


class OnlyEvenTimes(Training):
    named = r"never drawn: t = 2, t = 4"

    def draw_times(self, rng, batch):
        return 2 * rng.integers(0, self.T // 2, batch)


class AlwaysTheSameTime(Training):
    """Drawn once, when the object is made."""

    named = r"never drawn: t = 1\.\.17, t = 19\.\.60|always t = 18"

    def draw_times(self, rng, batch):
        return np.full(batch, 17)


class UniformNoise(Training):
    """``rand`` for ``randn``."""

    named = r"uniform on \[0, 1\)"

    def draw_noise(self, rng, shape):
        return rng.random(shape)


class CentredUniformNoise(Training):
    named = r"uniform on \[-1, 1\)"

    def draw_noise(self, rng, shape):
        return 2.0 * rng.random(shape) - 1.0


class NoiseTooSmall(Training):
    named = r"(standard deviation|variance) is 0\.(5|25)\b"

    def draw_noise(self, rng, shape):
        return rng.normal(0.0, 0.5, shape)


class SignsForNoise(Training):
    named = r"not standard normal.*kurtosis 1\b|two values"

    def draw_noise(self, rng, shape):
        return rng.integers(0, 2, shape) * 2.0 - 1.0


class OneNoiseForTheBatch(Training):
    named = r"same noise for all examples"

    def draw_noise(self, rng, shape):
        return np.broadcast_to(rng.standard_normal(shape[1:]), shape)


class OneNoiseForAllDimensions(Training):
    named = r"one number is the noise|same noise for all (entries|dimensions)"

    def draw_noise(self, rng, shape):
        return np.broadcast_to(rng.standard_normal((shape[0], 1)), shape)


class NoiseWithAMean(Training):
    """Not centred: 0.1 of an offset that nobody subtracts."""

    named = r"not standard normal: mean (-?)0\.(09|1)"

    def draw_noise(self, rng, shape):
        return rng.standard_normal(shape) + 0.1


class NoRootOnTheNoise(Training):
    named = r"1 - alpha_bar.*(without|no|its|missing).*root|root.*1 - alpha_bar|E2"

    def noisy(self, x0, i, noise):
        a = self.abar[i][:, None]
        return np.sqrt(a) * x0 + (1.0 - a) * noise


class NoRootOnTheData(Training):
    named = r"alpha_bar.*(without|no|its|missing).*root|root.*alpha_bar"

    def noisy(self, x0, i, noise):
        a = self.abar[i][:, None]
        return a * x0 + np.sqrt(1.0 - a) * noise


class SwappedCoefficients(Training):
    named = r"swap|exchang"

    def noisy(self, x0, i, noise):
        a = self.abar[i][:, None]
        return np.sqrt(1.0 - a) * x0 + np.sqrt(a) * noise


class RootAlphaBarOnBoth(Training):
    named = r"sqrt\(alpha_bar(\[t\]|_t)?\)|root of alpha_bar"

    def noisy(self, x0, i, noise):
        a = self.abar[i][:, None]
        return np.sqrt(a) * x0 + np.sqrt(a) * noise


class AlphaForAlphaBar(Training):
    named = r"sqrt\(alpha\[t\]\): one step|alpha\[t\] (for|in place of) alpha_bar"

    def noisy(self, x0, i, noise):
        return np.sqrt(self.alpha[i][:, None]) * x0 + np.sqrt(self.beta[i][:, None]) * noise


class DataNotScaled(Training):
    named = r"x0 is not scaled"

    def noisy(self, x0, i, noise):
        return x0 + np.sqrt(1.0 - self.abar[i][:, None]) * noise


class BetaForOneMinusAlphaBar(Training):
    named = r"multiplied by sqrt\(beta\[t\]\)"

    def noisy(self, x0, i, noise):
        return np.sqrt(self.abar[i][:, None]) * x0 + np.sqrt(self.beta[i][:, None]) * noise


class NoisyOneEarly(Training):
    """alpha_bar_{t-1}: the network is told t."""

    named = r"x_t is that of t - 1|alpha_bar\[t ?- ?1\]"

    def noisy(self, x0, i, noise):
        a = self.abar_prev[i][:, None]
        return np.sqrt(a) * x0 + np.sqrt(1.0 - a) * noise


class FirstTimeForTheBatch(Training):
    """x_t is made with the first example's t, while each is told its own."""

    named = r"t of its first example"

    def noisy(self, x0, i, noise):
        return super().noisy(x0, np.full_like(i, i[0]), noise)


class TimesDrawnAgainForTheNetwork(Training):
    named = r"is t drawn twice"

    def loss(self, predict, x0, rng):
        i, noise = self.draw_times(rng, len(x0)), self.draw_noise(rng, x0.shape)
        told = self.draw_times(rng, len(x0))
        return np.mean((noise - predict(self.noisy(x0, i, noise), told + 1)) ** 2)


class NetworkSeesTheData(Training):
    named = r"no noise is added|x_?0 itself"

    def noisy(self, x0, i, noise):
        return x0


class X0ForEps(Training):
    named = r"the target is x_?0"

    def aim(self, x0, i, noise):
        return x0


class XtForEps(Training):
    """The noise is overwritten by the noisy example: the network learns to copy."""

    named = r"the target is x_t"

    def aim(self, x0, i, noise):
        return self.noisy(x0, i, noise)


class NoiseDrawnAgain(Training):
    named = r"drawn (anew|again)"

    def loss(self, predict, x0, rng):
        i, noise = self.draw_times(rng, len(x0)), self.draw_noise(rng, x0.shape)
        prediction = predict(self.noisy(x0, i, noise), i + 1)
        return np.mean((self.draw_noise(rng, x0.shape) - prediction) ** 2)


class TargetWithTheWrongSign(Training):
    named = r"sign is wrong"

    def aim(self, x0, i, noise):
        return -noise


class VWithTheWrongSign(Training):
    options: ClassVar = {"target": "v"}
    named = r"sign is wrong"

    def aim(self, x0, i, noise):
        a = self.abar[i][:, None]
        return np.sqrt(1.0 - a) * x0 - np.sqrt(a) * noise


class VSwapped(Training):
    options: ClassVar = {"target": "v"}
    named = r"swap|exchang"

    def aim(self, x0, i, noise):
        a = self.abar[i][:, None]
        return np.sqrt(1.0 - a) * noise - np.sqrt(a) * x0


class VSum(Training):
    """A plus where the minus is."""

    options: ClassVar = {"target": "v"}
    named = r"plus for its minus|sign"

    def aim(self, x0, i, noise):
        a = self.abar[i][:, None]
        return np.sqrt(a) * noise + np.sqrt(1.0 - a) * x0


class EpsThoughVIsAnnounced(Training):
    options: ClassVar = {"target": "v"}
    named = r"the target is eps"


class MinSnrOfX0(Training):
    """min(SNR, 5), which is meant for x_0; for eps it is divided by SNR."""

    named = r"weight of x0, not of eps: min-SNR with gamma = 5"

    def weight(self, i):
        return np.minimum(self.abar[i] / (1.0 - self.abar[i]), 5.0)


class MinSnrOfEpsForV(Training):
    """min(SNR, 5) / SNR, where v wants SNR + 1."""

    options: ClassVar = {"target": "v"}
    named = r"weight of eps, not of v: min-SNR with gamma = 5"

    def aim(self, x0, i, noise):
        a = self.abar[i][:, None]
        return np.sqrt(a) * noise - np.sqrt(1.0 - a) * x0

    def weight(self, i):
        snr = self.abar[i] / (1.0 - self.abar[i])
        return np.minimum(snr, 5.0) / snr


class SquareOfTheMean(Training):
    """Brackets: the mean is squared, not the square averaged."""

    named = r"summed before they are squared|mean is squared"

    def loss(self, predict, x0, rng):
        i, noise = self.draw_times(rng, len(x0)), self.draw_noise(rng, x0.shape)
        return np.mean(noise - predict(self.noisy(x0, i, noise), i + 1)) ** 2


class NotSquared(Training):
    """The mean of the differences, which has no minimum."""

    named = r"not squared"

    def loss(self, predict, x0, rng):
        i, noise = self.draw_times(rng, len(x0)), self.draw_noise(rng, x0.shape)
        return np.mean(noise - predict(self.noisy(x0, i, noise), i + 1))


class WrongSignOfTheLoss(Training):
    named = r"sign of the loss"

    def loss(self, predict, x0, rng):
        return -super().loss(predict, x0, rng)


class DataChangedInPlace(Training):
    named = r"changed in place"

    def loss(self, predict, x0, rng):
        i, noise = self.draw_times(rng, len(x0)), self.draw_noise(rng, x0.shape)
        a = self.abar[i][:, None]
        x0 *= np.sqrt(a)
        x0 += np.sqrt(1.0 - a) * noise
        return np.mean((noise - predict(x0, i + 1)) ** 2)


class OneTimeForTheBatchNeverT(Training):
    """One draw for all: ``randint(1, T)``, whose end is excluded."""

    named = r"never drawn: t = (T|60)\b"

    def draw_times(self, rng, batch):
        return np.full(batch, rng.integers(1, self.T) - 1)
