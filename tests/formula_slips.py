"""Usual slips in formulas of the vectors: (function, flag, the formula with the slip)."""

import math

import numpy as np
from scipy.stats import norm

from ddpm_np.testing.vectors.ours import ours

OURS = vars(ours())


def tables(beta):
    """alpha and alpha_bar from t = 0."""
    alpha = np.concatenate([[1.0], 1.0 - beta])
    return alpha, np.cumprod(alpha)


def column(x):
    return x[:, None]


def q_sample(table, root=np.sqrt, root_noise=np.sqrt):
    def slip(beta, x0, t, noise):
        a = column(table(beta)[t])
        return root(a) * x0 + root_noise(1.0 - a) * noise

    return slip


def total(beta):
    """The product up to T, at every t."""
    return np.full(len(beta) + 1, tables(beta)[1][-1])


def same(x):
    return x


def q_step(beta, x_prev, t, noise):
    return np.sqrt(1.0 - column(beta[t - 1])) * x_prev + column(beta[t - 1]) * noise


def two_steps(beta, x_prev2, t):
    alpha = tables(beta)[0]
    mean = np.sqrt(column(alpha[t] * alpha[t - 1])) * x_prev2
    return mean, 2.0 - alpha[t] - alpha[t - 1]


def eps_weight(denominator, power=2):
    def slip(beta, t, sigma2):
        alpha, a = tables(beta)
        return beta[t - 1] ** power / (2.0 * sigma2[t] * denominator(alpha[t], a[t]) * (1.0 - a[t]))

    return slip


def reverse_step(noise_at_1, root):
    def slip(beta, x_t, t, prediction, target, sigma2, noise):
        mean = OURS["model_mean"](beta=beta, x_t=x_t, t=t, prediction=prediction, target=target)
        return mean + column(root(sigma2[t]) * ((t > 1) | noise_at_1)) * noise

    return slip


def posterior_swapped(beta, x0, x_t, t):
    return OURS["q_posterior"](beta=beta, x0=x_t, x_t=x0, t=t)


def at_other_t(name):
    """A step later; at T, a step earlier."""

    def slip(beta, t, **arrays):
        return OURS[name](beta=beta, t=np.where(t < len(beta), t + 1, t - 1), **arrays)

    return slip


def with_other(name, **changed):
    """Our function with some of its inputs changed."""

    def slip(**inputs):
        return OURS[name](**inputs | {key: change(inputs) for key, change in changed.items()})

    return slip


def float32_product(at, **inputs):
    found = OURS["linear_schedule"](at=np.arange(inputs["T"] + 1), **inputs)
    product = np.cumprod(1.0 - found["beta"].astype("float32"), dtype="float32")
    rest = {"alpha_bar": product, "log_alpha_bar": np.log(product), "one_minus_alpha_bar": 1.0 - product}
    return {name: table[at] for name, table in (found | rest).items()}


def beta_at_visit(beta, times):
    found = OURS["respaced_schedule"](beta=beta, times=times)
    return found | {"beta": np.concatenate([[0.0], beta[times - 1]])}


def posterior_variance_only(beta, kind):
    found = OURS["reverse_variance"](beta=beta, kind=kind)
    found[1] = 0.0
    return found


def mean_of_variances(beta, v, t):
    low = OURS["reverse_variance"](beta=beta, kind="posterior")[t]
    return v * column(beta[t - 1]) + (1.0 - v) * column(low)


def bins(open_ends=True, scale=1.0, far=True):
    """The decoder by two distribution functions."""

    def slip(x0, mean, variance, levels):
        half, s = scale / (levels - 1), math.sqrt(variance)
        low, high = norm.cdf((x0 - half - mean) / s), norm.cdf((x0 + half - mean) / s)
        if open_ends:
            low, high = np.where(x0 <= -1.0, 0.0, low), np.where(x0 >= 1.0, 1.0, high)
        return np.log(np.maximum(high - low, 1e-12)).sum(axis=1)

    return slip


def eta_of_variance(eta, **inputs):
    return OURS["ddim_sample"](eta=math.sqrt(eta), **inputs)


def leading(T, S):
    return 1 + np.arange(S) * (T // S)


def guided(conditional, unconditional, guidance):
    return guidance * conditional + (1.0 - guidance) * unconditional


def kl_swapped(mean_1, std_1, mean_2, std_2):
    return OURS["kl_normal_1d"](mean_2, std_2, mean_1, std_1)


def other_target(inputs):
    return "x0" if inputs["target"] == "eps" else "eps"


def squared(inputs):
    return inputs["sigma2"] ** 2


def likelihood(beta, x0, sigma2, slope, offset, target):
    """The variance of a sum from its means, as L 4.3 prints it (E6)."""
    found = OURS["affine_log_likelihood"](beta, x0, sigma2, slope, offset, target)
    mean, variance, x = 0.0, 1.0, np.array([[1.0], [0.0]])
    for t in range(len(beta), 0, -1):
        says = np.array([[slope[t]], [offset[t]]])
        k, c = OURS["model_mean"](beta=beta, x_t=x, t=np.array([t, t]), prediction=says, target=target)[
            :, 0
        ]
        mean, variance = k * mean + c, (k * mean) ** 2 + sigma2[t]
    return found | {"log_p": norm.logpdf(x0, mean, math.sqrt(variance)).sum(axis=1)}


SLIPS = [
    ("q_sample", "E2", q_sample(lambda beta: tables(beta)[1], root_noise=same)),
    ("q_sample", "root", q_sample(lambda beta: tables(beta)[1], root=same)),
    ("q_sample", "E5", q_sample(total)),
    ("q_sample", "alpha-for-alpha_bar", q_sample(lambda beta: tables(beta)[0])),
    ("q_sample", "off-by-one", q_sample(lambda beta: np.append(tables(beta)[1][1:], 0.5))),
    ("q_step", "variance-for-std", q_step),
    ("q_two_step_moments", "scale", two_steps),
    ("q_posterior", "swapped", posterior_swapped),
    ("q_posterior", "off-by-one", at_other_t("q_posterior")),
    ("eps_loss_weight", "E1", eps_weight(lambda alpha, a: 1.0)),
    ("eps_loss_weight", "E10", eps_weight(lambda alpha, a: a, power=0)),
    ("reverse_step", "z-at-last-step", reverse_step(True, np.sqrt)),
    ("reverse_step", "variance-for-std", reverse_step(False, same)),
    ("model_mean", "target", with_other("model_mean", target=other_target)),
    ("linear_schedule", "float32-product", float32_product),
    ("respaced_schedule", "beta-at-visit", beta_at_visit),
    ("uniform_times", "leading-for-linspace", leading),
    ("reverse_variance", "zero-variance", posterior_variance_only),
    ("learned_variance", "arithmetic-mean", mean_of_variances),
    ("loss_constant", "mean-for-sum", with_other("loss_constant", d=lambda i: 1)),
    ("marginalise", "scale", lambda a, s2, b, t2: (a * b, s2 + t2)),
    ("kl_normal_1d", "swapped", kl_swapped),
    ("discretised_gaussian", "open-ends", bins(open_ends=False)),
    ("discretised_gaussian", "bin-width", bins(scale=2.0)),
    ("discretised_gaussian", "far-tail", bins()),
    ("affine_log_likelihood", "E6", likelihood),
    ("guided", "guidance-scale", guided),
    ("ddim_sample", "ddim-eta", eta_of_variance),
    ("dpm_solver_sample", "order", with_other("dpm_solver_sample", order=lambda i: 3 - i["order"])),
    ("ancestral_sample", "variance-for-std", with_other("ancestral_sample", sigma2=squared)),
    ("heun_sample", "order", lambda **inputs: OURS["dpm_solver_sample"](order=1, **inputs)),
]  # fmt: skip
