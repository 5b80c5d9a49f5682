"""Slips in formulas, tables and schedules: each class gets one thing wrong."""

from typing import ClassVar

import numpy as np

from tests.zoo.plain import Formulas


class AlphaForAlphaBar(Formulas):
    named = r"alpha\[t\] itself"

    def alpha_bars(self):
        return self.alpha


class OneBetaTooMany(Formulas):
    """alpha_bar_{t+1} at t."""

    named = r"one beta too many"

    def alpha_bars(self):
        return np.append(self.abar[1:], self.abar[-1] * (1.0 - self.beta[-1]))


class OneBetaTooFew(Formulas):
    """alpha_bar_0 = 1 in front, and the last dropped."""

    named = r"one beta too few"

    def alpha_bars(self):
        return self.abar_prev


class RootOfAlphaBar(Formulas):
    named = r"sqrt\(alpha_bar\[t\]\)"

    def alpha_bars(self):
        return np.sqrt(self.abar)


class NoRootInQSample(Formulas):
    named = r"1 - alpha_bar.*(without|no|its|missing).*root|root.*1 - alpha_bar|E2"

    def q_sample(self, x0, t, noise):
        return np.sqrt(self.abar[t - 1]) * x0 + (1.0 - self.abar[t - 1]) * noise


class RootAlphaBarOnTheNoise(Formulas):
    named = r"sqrt\(alpha_bar\[t\]\) multiplies the noise"

    def q_sample(self, x0, t, noise):
        return np.sqrt(self.abar[t - 1]) * (x0 + noise)


class QSampleOneLate(Formulas):
    """Counts from 1 where tables count from 0."""

    named = r"off by one.*t \+ 1"

    def q_sample(self, x0, t, noise):
        a = self.abar[min(t, self.T - 1)]
        return np.sqrt(a) * x0 + np.sqrt(1.0 - a) * noise


class NoRootInQStep(Formulas):
    named = r"beta\[t\] multiplies the noise|beta\[t\] without its"

    def q_step(self, x_prev, t, noise):
        return np.sqrt(self.alpha[t - 1]) * x_prev + self.beta[t - 1] * noise


class QStepTakesAlphaBar(Formulas):
    named = r"sqrt\(alpha_bar\[t\]\)"

    def q_step(self, x_prev, t, noise):
        return self.q_sample(x_prev, t, noise)


class BetaForBetaTilde(Formulas):
    named = r"beta\[t\] (in place of|for) beta_tilde"

    def q_posterior(self, x0, x_t, t):
        return super().q_posterior(x0, x_t, t)[0], self.beta[t - 1]


class PosteriorDeviation(Formulas):
    named = r"standard deviation"

    def q_posterior(self, x0, x_t, t):
        mean, variance = super().q_posterior(x0, x_t, t)
        return mean, np.sqrt(variance)


class PosteriorLogVariance(Formulas):
    """The fourth value that such functions return, taken for the second."""

    named = r"logarithm of the variance"

    def q_posterior(self, x0, x_t, t):
        mean, variance = super().q_posterior(x0, x_t, t)
        return mean, np.log(max(variance, 1e-20))


class PosteriorSwapped(Formulas):
    named = r"swap|exchang"

    def q_posterior(self, x0, x_t, t):
        return super().q_posterior(x_t, x0, t)


class AlphaBarForItsPredecessor(Formulas):
    named = r"sqrt\(alpha_bar\[t\]\) for sqrt\(alpha_bar\[t ?- ?1\]\)"

    def q_posterior(self, x0, x_t, t):
        i = t - 1
        on_x0 = np.sqrt(self.abar[i]) * self.beta[i] / (1.0 - self.abar[i])
        on_x = np.sqrt(self.alpha[i]) * (1.0 - self.abar_prev[i]) / (1.0 - self.abar[i])
        return on_x0 * x0 + on_x * x_t, self.beta_tilde[i]


class PythonsLastEntry(Formulas):
    """abar[t - 2] at t = 1 is abar[-1]."""

    named = r"index -1|\[-1\]"

    def q_posterior(self, x0, x_t, t):
        before, now, beta = self.abar[t - 2], self.abar[t - 1], self.beta[t - 1]
        on_x0 = np.sqrt(before) * beta / (1.0 - now)
        on_x = np.sqrt(1.0 - beta) * (1.0 - before) / (1.0 - now)
        return on_x0 * x0 + on_x * x_t, beta * (1.0 - before) / (1.0 - now)


class NoRootOfAlphaInThePosterior(Formulas):
    named = r"sqrt\(alpha\[t\]\) times what|alpha\[t\] without its square root"

    def q_posterior(self, x0, x_t, t):
        i = t - 1
        on_x0 = np.sqrt(self.abar_prev[i]) * self.beta[i] / (1.0 - self.abar[i])
        on_x = self.alpha[i] * (1.0 - self.abar_prev[i]) / (1.0 - self.abar[i])
        return on_x0 * x0 + on_x * x_t, self.beta_tilde[i]


class SignInTheMean(Formulas):
    named = r"sign"

    def model_mean(self, x_t, t, eps):
        return super().model_mean(x_t, t, -eps)


class NoRootInTheMean(Formulas):
    named = r"1 - alpha_bar\S* (lacks|without)( the| its)? (square )?root"

    def model_mean(self, x_t, t, eps):
        i = t - 1
        return (x_t - self.beta[i] / (1.0 - self.abar[i]) * eps) / np.sqrt(self.alpha[i])


class AlphaWithoutRootInTheMean(Formulas):
    named = r"1 / sqrt\(alpha\[t\]\) times what|alpha\[t\] without its square root"

    def model_mean(self, x_t, t, eps):
        i = t - 1
        return (x_t - self.beta[i] / np.sqrt(1.0 - self.abar[i]) * eps) / self.alpha[i]


class ReadingTheFormulaWrong(Formulas):
    """1 / sqrt(alpha_t) on x_t only: the bracket closes too early."""

    named = r"sqrt\(alpha\[t\]\) (times what|multiplies x_t alone)"

    def model_mean(self, x_t, t, eps):
        i = t - 1
        return x_t / np.sqrt(self.alpha[i]) - self.beta[i] / np.sqrt(1.0 - self.abar[i]) * eps


class MeanWrongAtTwo(Formulas):
    named = r"at t = 2 alone"

    def model_mean(self, x_t, t, eps):
        if t > 2:
            return super().model_mean(x_t, t, eps)
        return (x_t - np.sqrt(1.0 - self.abar[t - 1]) * eps) / np.sqrt(self.abar[t - 1])


class X0ForTheMean(Formulas):
    """The x_0 that eps implies, taken for the mean of x_{t-1}."""

    named = r"x_0 that eps implies is taken for the mean"

    def model_mean(self, x_t, t, eps):
        return (x_t - np.sqrt(1.0 - self.abar[t - 1]) * eps) / np.sqrt(self.abar[t - 1])


class DeviationForVariance(Formulas):
    named = r"standard deviation"

    def reverse_variance(self, t):
        return np.sqrt(self.beta[t - 1])


class LogVariance(Formulas):
    named = r"the logarithm"

    def reverse_variance(self, t):
        return np.log(self.beta[t - 1])


class VarianceTimesZ(Formulas):
    named = r"sigma_t\^2 multiplies z"

    def reverse_step(self, x_t, t, eps, z):
        mean = self.model_mean(x_t, t, eps)
        return mean + self.beta[t - 1] * z if t > 1 else mean


class NoiseAtTheEnd(Formulas):
    named = r"z = 0 at t = 1"

    def reverse_step(self, x_t, t, eps, z):
        return self.model_mean(x_t, t, eps) + np.sqrt(self.beta[t - 1]) * z


class StepOfAnotherVariance(Formulas):
    """reverse_variance says beta, the step takes beta_tilde."""

    named = r"beta_tilde\[t\].* here"

    def reverse_step(self, x_t, t, eps, z):
        mean = self.model_mean(x_t, t, eps)
        return mean + np.sqrt(self.beta_tilde[t - 1]) * z


class WeightAsPrinted(Formulas):
    named = r"as it is printed|\(E1\)"

    def eps_loss_weight(self, t):
        return super().eps_loss_weight(t) * self.alpha[t - 1]


class WeightWithoutHalf(Formulas):
    named = r"is 2 times what"

    def eps_loss_weight(self, t):
        return super().eps_loss_weight(t) * 2.0


class WeightWithoutSigma(Formulas):
    named = r"sigma_t\^2 is 1 here|sigma_t\^2 is left out"

    def eps_loss_weight(self, t):
        return super().eps_loss_weight(t) * self.beta[t - 1]


class WeightOfHo(Formulas):
    """1, the simple loss, given for the bound's."""

    named = r"weight of L_simple"

    def eps_loss_weight(self, t):
        return 1.0


class X0WeightOneLate(Formulas):
    named = r"alpha_bar\[t\] in place of alpha_bar\[t-1\]"

    def x0_loss_weight(self, t):
        i = t - 1
        return self.abar[i] * self.beta[i] / (2.0 * (1.0 - self.abar[i]) ** 2)


class X0WeightWithoutSquare(Formulas):
    named = r"weight of v, not of x0|without its square"

    def x0_loss_weight(self, t):
        i = t - 1
        return self.abar_prev[i] * self.beta[i] / (2.0 * (1.0 - self.abar[i]))


class VWeightOfEps(Formulas):
    named = r"weight of eps, not of v"

    def v_loss_weight(self, t):
        return self.eps_loss_weight(t)


class MeanWeightWithDeviation(Formulas):
    named = r"standard deviation is taken"

    def mean_loss_weight(self, t):
        return 1.0 / (2.0 * np.sqrt(self.beta[t - 1]))


class ArithmeticMean(Formulas):
    named = r"arithmetic mean"

    def learned_variance(self, v, t):
        return v * self.beta[t - 1] + (1.0 - v) * self.beta_tilde[max(t - 1, 1)]


class EndsSwapped(Formulas):
    named = r"swapped ends"

    def learned_variance(self, v, t):
        return super().learned_variance(1.0 - v, t)


class RangeOfMinusOneToOne(Formulas):
    """(v + 1) / 2, for a network whose v is in [-1, 1]."""

    named = r"\[-1, 1\]"

    def learned_variance(self, v, t):
        return super().learned_variance((v + 1.0) / 2.0, t)


class OtherOrderOfArguments(Formulas):
    """t and x_t change places where the posterior is asked: an exception."""

    named = r"IndexError"

    def q_posterior(self, x0, x_t, t):
        return super().q_posterior(x0, t, x_t)


class ProbeChangedInPlace(Formulas):
    named = r"changed in place"

    def q_sample(self, x0, t, noise):
        x0 *= np.sqrt(self.abar[t - 1])
        x0 += np.sqrt(1.0 - self.abar[t - 1]) * noise
        return x0


# --- schedules ------------------------------------------------------------------------------


def cosine(T, first=0):
    """alpha_bar of Nichol and Dhariwal's cosine, from t = ``first`` to T."""
    f = np.cos((np.arange(first, T + 1) / T + 0.008) / 1.008 * np.pi / 2.0) ** 2
    return f / np.cos(0.008 / 1.008 * np.pi / 2.0) ** 2


class CosineWithoutItsStart(Formulas):
    """alpha_bar_0 dropped from the quotients: beta_t is that of t + 1, and there is one too few."""

    options: ClassVar = {"schedule": "cosine"}
    named = r"t \+ 1|one (too )?(early|late|few|off)|shift|alpha_bar_0|dropped"

    def make_betas(self, T):
        abar = cosine(T + 1, first=1)
        return np.minimum(1.0 - abar[1:] / abar[:-1], 0.999)


class CosineWithBetaOneZero(Formulas):
    """alpha_bar_1 divided by itself."""

    options: ClassVar = {"schedule": "cosine"}
    named = r"beta\[1\] = 0"

    def __init__(self):
        with np.errstate(invalid="ignore"):  # 0 / 0 in beta_tilde
            super().__init__()

    def make_betas(self, T):
        abar = cosine(T)[1:]
        return np.minimum(1.0 - abar / np.append(abar[0], abar[:-1]), 0.999)


class LinearCalledCosine(Formulas):
    options: ClassVar = {"schedule": "cosine"}
    named = r"linear"

    def make_betas(self, T):
        return np.linspace(1e-4, 0.02, T)


class BetaAboveOne(Formulas):
    """0.02 * 1000 / T at T = 15."""

    T = 15
    named = r"beta\[12\].*not between 0 and 1"

    def make_betas(self, T):
        return np.linspace(0.1, 20.0, T) / T
