"""Slips in sampling loops: each class gets one thing wrong."""

from typing import ClassVar

import numpy as np

from tests.zoo.plain import Ddim, Loop, LoopByX0


class LastStepDropped(Loop):
    named = r"stops early|last step is left out"

    def sample(self, predict, x_T, noise):
        x = x_T
        for i in range(self.T - 1, 0, -1):
            x = self.step(x, i, predict(x, i + 1), noise[i + 1])
        return x


class StartsOneLate(Loop):
    named = r"starts late|first step is left out"

    def sample(self, predict, x_T, noise):
        x = x_T
        for i in range(self.T - 2, -1, -1):
            x = self.step(x, i, predict(x, i + 1), noise[i + 1])
        return x


class SkipsOneInTheMiddle(Loop):
    named = r"(skips|never asked at) (t = )?30\b"

    def sample(self, predict, x_T, noise):
        x = x_T
        for i in reversed(range(self.T)):
            if i != 29:
                x = self.step(x, i, predict(x, i + 1), noise[i + 1])
        return x


class NoiseAtTheLastStep(Loop):
    named = r"z = 0 at t = 1|noise is added at (t = 1|the last step)"

    def step(self, x, i, eps, z):
        return (
            super().step(x, max(i, 1), eps, z)
            if i > 0
            else super().step(x, 0, eps, z) + np.sqrt(self.beta[0]) * z
        )


class NoNoiseAtTheSecondLast(Loop):
    named = r"t = 2.*no (noise|z)\b|no (noise|z)\b.*t = 2"

    def step(self, x, i, eps, z):
        return super().step(x, i, eps, z if i > 1 else 0.0 * z)


class NoNoise(Loop):
    named = r"no noise is added|z is not used"

    def step(self, x, i, eps, z):
        return super().step(x, i, eps, 0.0)


class VarianceForDeviation(Loop):
    named = (
        r"sigma_t\^2 multiplies z|without (its|the) square root|variance.*(for|in place of).*deviation"
    )

    def step(self, x, i, eps, z):
        return super().step(x, i, eps, 0.0) + (self.beta[i] * z if i > 0 else 0.0)


class RootTakenTwice(Loop):
    """sqrt of a table that holds standard deviations already."""

    named = r"root .*twice|root of the standard deviation"

    def step(self, x, i, eps, z):
        std = np.sqrt(self.beta)
        return super().step(x, i, eps, 0.0) + (np.sqrt(std[i]) * z if i > 0 else 0.0)


class NoRootInTheNoiseCoefficient(Loop):
    named = r"1 - alpha_bar\S* (lacks|without)( the| its)? (square )?root"

    def step(self, x, i, eps, z):
        mean = (x - self.beta[i] / (1.0 - self.abar[i]) * eps) / np.sqrt(self.alpha[i])
        return mean + (np.sqrt(self.beta[i]) * z if i > 0 else 0.0)


class SignOfEps(Loop):
    named = r"sign"

    def step(self, x, i, eps, z):
        return super().step(x, i, -eps, z)


class AlphaWithoutRoot(Loop):
    named = (
        r"1 / alpha\[t\] (in place of|for) 1 / sqrt\(alpha\[t\]\)|alpha\[t\] without its (square )?root"
    )

    def step(self, x, i, eps, z):
        mean = (x - self.beta[i] / np.sqrt(1.0 - self.abar[i]) * eps) / self.alpha[i]
        return mean + (np.sqrt(self.beta[i]) * z if i > 0 else 0.0)


class NotDividedByRootAlpha(Loop):
    named = r"1 / sqrt\(alpha\[t\]\) is missing|not divided by"

    def step(self, x, i, eps, z):
        mean = x - self.beta[i] / np.sqrt(1.0 - self.abar[i]) * eps
        return mean + (np.sqrt(self.beta[i]) * z if i > 0 else 0.0)


class RootOfBetaOnEps(Loop):
    named = r"sqrt\(beta\[t\]\) (in place of|for) beta\[t\]"

    def step(self, x, i, eps, z):
        mean = (x - np.sqrt(self.beta[i]) / np.sqrt(1.0 - self.abar[i]) * eps) / np.sqrt(self.alpha[i])
        return mean + (np.sqrt(self.beta[i]) * z if i > 0 else 0.0)


class AlphaBarOfTheStepBefore(Loop):
    named = r"alpha_bar\[t ?- ?1\] (in place of|for) alpha_bar\[t\]"

    def step(self, x, i, eps, z):
        abar = self.abar_prev[i] if i > 0 else self.abar[0]
        mean = (x - self.beta[i] / np.sqrt(1.0 - abar) * eps) / np.sqrt(self.alpha[i])
        return mean + (np.sqrt(self.beta[i]) * z if i > 0 else 0.0)


class TablesOneEarly(Loop):
    """Entry i - 1 for t = i + 1; the last entry, Python's [-1], at t = 1."""

    named = r"off by one.*(t - 1|early)"

    def step(self, x, i, eps, z):
        mean = super().step(x, i - 1, eps, 0.0)
        return mean + (np.sqrt(self.beta[i - 1]) * z if i > 0 else 0.0)


class SigmaOneEarly(Loop):
    named = r"off by one: sigma_t\^2.*t - 1"

    def step(self, x, i, eps, z):
        return super().step(x, i, eps, 0.0) + (np.sqrt(self.beta[i - 1]) * z if i > 0 else 0.0)


class PosteriorVarianceUpsideDown(Loop):
    named = r"upside down|1 / \(\(1 - alpha_bar\[t-1\]\) / \(1 - alpha_bar\[t\]\)\) times"

    def step(self, x, i, eps, z):
        if i == 0:
            return super().step(x, i, eps, 0.0)
        variance = self.beta[i] * (1.0 - self.abar[i]) / (1.0 - self.abar_prev[i])
        return super().step(x, i, eps, 0.0) + np.sqrt(variance) * z


class NoiseBeforeTheDivision(Loop):
    named = r"(noise|z|sigma).*(divided|sqrt\(alpha|root of alpha)|before (the|it is) di"

    def step(self, x, i, eps, z):
        inner = x - self.beta[i] / np.sqrt(1.0 - self.abar[i]) * eps
        return (inner + (np.sqrt(self.beta[i]) * z if i > 0 else 0.0)) / np.sqrt(self.alpha[i])


class HalfTheNoise(Loop):
    named = r"(multiplied by|times|factor) (0\.5|1/2)|half"

    def step(self, x, i, eps, z):
        return super().step(x, i, eps, 0.5 * z)


class SameNoiseAtEachStep(Loop):
    named = r"same (z|noise)|(z|noise).*(the same|again|one z)|noise\[T\]|noise\[60\]"

    def sample(self, predict, x_T, noise):
        x, z = x_T, noise[self.T]
        for i in reversed(range(self.T)):
            x = self.step(x, i, predict(x, i + 1), z)
        return x


class NoiseOneEarly(Loop):
    named = r"noise\[t - 1\]|(z|noise) of (the )?(another|next|t - 1)|noise.*one (early|late|off)"

    def sample(self, predict, x_T, noise):
        x = x_T
        for i in reversed(range(self.T)):
            x = self.step(x, i, predict(x, i + 1), noise[i])
        return x


class OneNoiseForTheBatch(Loop):
    named = r"(z|noise) of the first example|(same|one) (z|noise) for (the whole|all)"

    def sample(self, predict, x_T, noise):
        x = x_T
        for i in reversed(range(self.T)):
            x = self.step(x, i, predict(x, i + 1), noise[i + 1][:1])
        return x


class NoiseOfItsOwn(Loop):
    named = r"noise of its own"

    def sample(self, predict, x_T, noise):
        x, rng = x_T, np.random.default_rng()
        for i in reversed(range(self.T)):
            x = self.step(x, i, predict(x, i + 1), rng.standard_normal(x.shape))
        return x


class ToldOneLess(Loop):
    """The network hears i, which counts from 0."""

    named = r"t - 1|t = 0|from 0|one (less|early|too)"

    def sample(self, predict, x_T, noise):
        x = x_T
        for i in reversed(range(self.T)):
            x = self.step(x, i, predict(x, i), noise[i + 1])
        return x


class ToldBackwards(Loop):
    named = r"wrong way|backwards"

    def sample(self, predict, x_T, noise):
        x = x_T
        for i in reversed(range(self.T)):
            x = self.step(x, i, predict(x, self.T - i), noise[i + 1])
        return x


class NetworkSeesX_T(Loop):
    """It is asked about x_T each time, not about what the loop has made of it."""

    named = r"sees x_T|always x_T|same x"

    def sample(self, predict, x_T, noise):
        x = x_T
        for i in reversed(range(self.T)):
            x = self.step(x, i, predict(x_T, i + 1), noise[i + 1])
        return x


class StartsFromNoiseOfItsOwn(Loop):
    named = r"does not start from x_T"

    def sample(self, predict, x_T, noise):
        return super().sample(predict, noise[self.T], noise)


class ToUnitRange(Loop):
    """From [-1, 1] to [0, 1] on the way out, which the network never saw."""

    named = r"the result is 0\.5 x_0 ?\+ ?0\.5"

    def sample(self, predict, x_T, noise):
        return (super().sample(predict, x_T, noise) + 1.0) / 2.0


class ClipsEachState(Loop):
    named = r"clip|limit|threshold|clamp"

    def sample(self, predict, x_T, noise):
        x = x_T
        for i in reversed(range(self.T)):
            x = np.clip(self.step(x, i, predict(x, i + 1), noise[i + 1]), -1.0, 1.0)
        return x


class InPlace(Loop):
    named = r"changed in place"

    def sample(self, predict, x_T, noise):
        x = x_T
        for i in reversed(range(self.T)):
            eps = predict(x, i + 1)
            x -= self.beta[i] / np.sqrt(1.0 - self.abar[i]) * eps
            x /= np.sqrt(self.alpha[i])
            if i > 0:
                x += np.sqrt(self.beta[i]) * noise[i + 1]
        return x


class CoefficientWrongAtTwo(Loop):
    """A special case for the end that reaches one step too far."""

    named = r"t = 2"

    def step(self, x, i, eps, z):
        if i > 1:
            return super().step(x, i, eps, z)
        x = (x - np.sqrt(1.0 - self.abar[i]) * eps) / np.sqrt(self.abar[i])
        return x + (np.sqrt(self.beta[i]) * z if i > 0 else 0.0)


# --- x_0, v, clipped ------------------------------------------------------------------------


class PosteriorSwapped(LoopByX0):
    named = r"swap|exchang|(coefficient|weight)s? of x_?0 and x_?t"

    def step(self, x, i, x0, z):
        on_x0 = np.sqrt(self.abar_prev[i]) * self.beta[i] / (1.0 - self.abar[i])
        on_x = np.sqrt(self.alpha[i]) * (1.0 - self.abar_prev[i]) / (1.0 - self.abar[i])
        return on_x * x0 + on_x0 * x + np.sqrt(self.beta_tilde[i]) * z


class AlphaBarForItsPredecessor(LoopByX0):
    """sqrt(alpha_bar_t) on x_0, where it is alpha_bar_{t-1}."""

    named = r"alpha_bar(\[t\]|_t) (for|in place of|instead of|where)|alpha_bar\[t\].*alpha_bar\[t - 1\]"

    def step(self, x, i, x0, z):
        on_x0 = np.sqrt(self.abar[i]) * self.beta[i] / (1.0 - self.abar[i])
        on_x = np.sqrt(self.alpha[i]) * (1.0 - self.abar_prev[i]) / (1.0 - self.abar[i])
        return on_x0 * x0 + on_x * x + np.sqrt(self.beta_tilde[i]) * z


class X0TakenForEps(Loop):
    """The network says x_0; the loop takes it for eps."""

    options: ClassVar = {"target": "x0"}
    named = r"taken for eps"


class VWithTheWrongSign(LoopByX0):
    options: ClassVar = {"target": "v"}
    named = r"sign"

    def x0_of(self, x, i, v):
        return np.sqrt(self.abar[i]) * x + np.sqrt(1.0 - self.abar[i]) * v


class VSwapped(LoopByX0):
    options: ClassVar = {"target": "v"}
    named = r"swap|exchang"

    def x0_of(self, x, i, v):
        return np.sqrt(1.0 - self.abar[i]) * x - np.sqrt(self.abar[i]) * v


class ClipWithoutEffect(LoopByX0):
    """np.clip returns, and nobody takes what it returns."""

    options: ClassVar = {"target": "x0", "clip": 1.0}
    named = r"clip is announced, but|no effect|does not clip"

    def x0_of(self, x, i, x0):
        np.clip(x0, -1.0, 1.0)
        return x0


class ClipsEpsForX0(Loop):
    options: ClassVar = {"clip": 1.0}
    named = r"(eps|the prediction) is (limited|clipped)"

    def step(self, x, i, eps, z):
        return super().step(x, i, np.clip(eps, -1.0, 1.0), z)


class ClipsTheStateForX0(Loop):
    options: ClassVar = {"clip": 1.0}
    named = r"x_\{t-1\} is (limited|clipped)"

    def step(self, x, i, eps, z):
        return np.clip(super().step(x, i, eps, z), -1.0, 1.0)


class ClipsAtAnotherLevel(LoopByX0):
    options: ClassVar = {"target": "x0", "clip": 1.0}
    named = r"(clip|limit)\w*.*\b2\b"

    def x0_of(self, x, i, x0):
        return np.clip(x0, -2.0, 2.0)


# --- DDIM and respaced chains ---------------------------------------------------------------


class DdimSignOfEps(Ddim):
    named = r"sign of eps"

    def step(self, x, t, s, eps, z):
        a_t, a_s = self.abar_at(t), self.abar_at(s)
        x0 = (x - np.sqrt(1.0 - a_t) * eps) / np.sqrt(a_t)
        return np.sqrt(a_s) * x0 - np.sqrt(1.0 - a_s) * eps


class DdimKeepsAllOfTheDirection(Ddim):
    """sqrt(1 - alpha_bar_s), though noise is added besides."""

    eta = 0.5
    options: ClassVar = {"eta": 0.5, "times": Ddim.times}
    named = r"without - sigma\^2|sigma\^2 is (missing|left out|not subtracted)"

    def step(self, x, t, s, eps, z):
        a_t, a_s = self.abar_at(t), self.abar_at(s)
        sigma = self.eta * np.sqrt((1.0 - a_s) / (1.0 - a_t) * (1.0 - a_t / a_s))
        x0 = (x - np.sqrt(1.0 - a_t) * eps) / np.sqrt(a_t)
        return np.sqrt(a_s) * x0 + np.sqrt(1.0 - a_s) * eps + sigma * z


class DdimVarianceForDeviation(Ddim):
    eta = 1.0
    options: ClassVar = {"eta": 1.0, "times": Ddim.times}
    named = r"sigma_t\^2 multiplies z|without (its|the) square root"

    def step(self, x, t, s, eps, z):
        a_t, a_s = self.abar_at(t), self.abar_at(s)
        variance = (1.0 - a_s) / (1.0 - a_t) * (1.0 - a_t / a_s)
        x0 = (x - np.sqrt(1.0 - a_t) * eps) / np.sqrt(a_t)
        return np.sqrt(a_s) * x0 + np.sqrt(1.0 - a_s - variance) * eps + variance * z


class DdimOfAnotherEta(Ddim):
    """eta is announced as 0.5, and the argument is never passed on."""

    eta = 1.0
    options: ClassVar = {"eta": 0.5, "times": Ddim.times}
    named = r"eta = 1\b"


class DdimNoRootOfAlphaBar(Ddim):
    named = r"alpha_bar(\[t\]|_t)?.*(without|no|its|missing).*root|root.*alpha_bar"

    def step(self, x, t, s, eps, z):
        a_t, a_s = self.abar_at(t), self.abar_at(s)
        x0 = (x - np.sqrt(1.0 - a_t) * eps) / a_t
        return np.sqrt(a_s) * x0 + np.sqrt(1.0 - a_s) * eps


class DdimNoRootOnEps(Ddim):
    named = r"1 - alpha_bar.*(without|no|its|missing).*root|root.*1 - alpha_bar"

    def step(self, x, t, s, eps, z):
        a_t, a_s = self.abar_at(t), self.abar_at(s)
        x0 = (x - (1.0 - a_t) * eps) / np.sqrt(a_t)
        return np.sqrt(a_s) * x0 + np.sqrt(1.0 - a_s) * eps


class DdimEndsAtTheNoisyEnd(Ddim):
    """alpha_bar_0 looked up as abar[-1], which is alpha_bar_T."""

    named = r"alpha_bar\[T\] is taken for alpha_bar\[0\]|\[-1\]"

    def abar_at(self, t):
        return self.abar[t - 1]


class DdimStepsToTMinusOne(Ddim):
    """alpha_bar of t - 1, though the next time visited is t - 5."""

    named = r"not of the step between visited times|alpha_bar\[t ?- ?1\]"

    def step(self, x, t, s, eps, z):
        return super().step(x, t, t - 1, eps, z)


class RespacedWithItsOldBetas(Ddim):
    """Ancestral steps over every fifth time, with the betas of the long chain."""

    options: ClassVar = {"times": Ddim.times}
    named = r"of the long chain"

    def step(self, x, t, s, eps, z):
        i = t - 1
        mean = (x - self.beta[i] / np.sqrt(1.0 - self.abar[i]) * eps) / np.sqrt(self.alpha[i])
        return mean + (np.sqrt(self.beta[i]) * z if s > 0 else 0.0)


class RespacedButToldTheIndex(Ddim):
    named = r"told the (place|index|number)"

    def sample(self, predict, x_T, noise):
        x, visited = x_T, (0, *self.times)
        for k in reversed(range(len(self.times))):
            s, t = visited[k], visited[k + 1]
            x = self.step(x, t, s, predict(x, k + 1), noise[t])
        return x


class RespacedStopsEarly(Ddim):
    named = r"stops early"

    def sample(self, predict, x_T, noise):
        x = x_T
        for k in range(len(self.times) - 1, 0, -1):
            s, t = self.times[k - 1], self.times[k]
            x = self.step(x, t, s, predict(x, t), noise[t])
        return x


class DdimWithoutNoiseEndsAtTheNoisyEnd(DdimEndsAtTheNoisyEnd):
    """The same in code for eta = 0 alone, where nothing becomes NaN."""

    def step(self, x, t, s, eps, z):
        a_t, a_s = self.abar_at(t), self.abar_at(s)
        x0 = (x - np.sqrt(1.0 - a_t) * eps) / np.sqrt(a_t)
        return np.sqrt(a_s) * x0 + np.sqrt(1.0 - a_s) * eps
