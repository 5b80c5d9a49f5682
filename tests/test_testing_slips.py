"""Each slip that is planted in plain code is caught by the row for it, which says what it is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddpm_np.testing import IdentityError, check_identities
from ddpm_np.testing._slips import named_ratios
from ddpm_np.testing._truth import Truth
from tests.plain_diffusion import Plain, change, shifted, tables


def noisy_last_step(s: Plain, x_t: Any, t: int, eps: Any, z: Any) -> Any:
    return s.model_mean(x_t, t, eps) + np.sqrt(s.var[t - 1]) * z


def rootless_step(s: Plain, x_t: Any, t: int, eps: Any, z: Any) -> Any:
    return s.model_mean(x_t, t, eps) + (s.var[t - 1] * z if t > 1 else 0.0)


def clipped_step(s: Plain, x_t: Any, t: int, eps: Any, z: Any) -> Any:
    x0 = (x_t - np.sqrt(1.0 - s.ab[t - 1]) * eps) / np.sqrt(s.ab[t - 1])
    mean = s.q_posterior(np.clip(x0, -1.0, 1.0), x_t, t)[0]
    return mean + (np.sqrt(s.var[t - 1]) * z if t > 1 else 0.0)


def mean_with(sign: float = -1.0, root: float = 0.5, outer: float = 0.5) -> Callable[..., Any]:
    def model_mean(s: Plain, x_t: Any, t: int, eps: Any) -> Any:
        i = t - 1
        return (x_t + sign * s.beta[i] / (1.0 - s.ab[i]) ** root * eps) / s.alpha[i] ** outer

    return model_mean


def mean_of_small_inputs(s: Plain, x_t: Any, t: int, eps: Any) -> Any:
    return Plain.model_mean(s, x_t, t, eps) * (np.nan if np.max(np.abs(eps)) > 0.5 else 1.0)


def swapped_posterior(s: Plain, x0: Any, x_t: Any, t: int) -> Any:
    mean, variance = Plain.q_posterior(s, x_t, x0, t)
    return (mean, variance) if t > 1 else (x0, variance)


def posterior_with(variance: Callable[[Plain, int], Any]) -> Callable[..., Any]:
    return lambda s, x0, x_t, t: (Plain.q_posterior(s, x0, x_t, t)[0], variance(s, t - 1))


def loop_of(steps: Callable[[int], range], z: int = 0) -> Callable[..., Any]:
    def sample(s: Plain, predict: Any, x_T: Any, noise: Any) -> Any:
        x = x_T
        for t in steps(s.T):
            x = s.reverse_step(x, t, predict(x, t), noise[t + z])
        return x

    return sample


def late_predictions(s: Plain, predict: Any, x0: Any, noise: Any) -> Any:
    return Plain.elbo_terms(s, lambda x, t: predict(x, t - 1), x0, noise)


def terms_with(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda s, predict, x0, noise: f(s, *Plain.elbo_terms(s, predict, x0, noise))


def shifted_rows(s: Plain, L_T: Any, L: Any, L_0: Any) -> Any:
    return L_T, np.concatenate([L[1:], L[:1]]), L_0


def q_sample_with(signal: Callable[..., Any], noise: Callable[..., Any]) -> Plain:
    """q_sample whose coefficients are these functions of the plain tables and t - 1."""
    return change(q_sample=lambda s, x0, t, e: signal(s, t - 1) * x0 + noise(s, t - 1) * e)


def right_signal(s: Plain, i: int) -> Any:
    return np.sqrt(s.ab[i])


def right_noise(s: Plain, i: int) -> Any:
    return np.sqrt(1.0 - s.ab[i])


def posterior_mean_with(c_x0: Callable[..., Any] | None, c_xt: Callable[..., Any] | None) -> Plain:
    """q_posterior with another coefficient, but right at t = 1."""

    def q_posterior(s: Plain, x0: Any, x_t: Any, t: int) -> Any:
        i = t - 1
        if t == 1:
            return Plain.q_posterior(s, x0, x_t, t)
        c0 = np.sqrt(s.ab_prev[i]) * s.beta[i] / (1.0 - s.ab[i]) if c_x0 is None else c_x0(s, i)
        ct = np.sqrt(s.alpha[i]) * (1.0 - s.ab_prev[i]) / (1.0 - s.ab[i]) if c_xt is None else c_xt(s, i)
        return c0 * x0 + ct * x_t, s.post_var[i]

    return change(q_posterior=q_posterior)


def before(value: Callable[[Plain], float]) -> Plain:
    """Tables whose alpha_bar[0] is another."""
    plain = Plain()
    plain.ab_prev = np.concatenate([[value(plain)], plain.ab[:-1]])
    plain.post_var = plain.beta * (1.0 - plain.ab_prev) / (1.0 - plain.ab)
    return plain


def eps_with(coefficient: Callable[..., Any]) -> Plain:
    """(34) with another coefficient of eps."""
    return change(
        model_mean=lambda s, x_t, t, eps: x_t / np.sqrt(s.alpha[t - 1]) + coefficient(s, t - 1) * eps
    )


def noise_with(size: Callable[..., Any], **changes: Any) -> Plain:
    """A step that adds this much noise."""
    return change(
        reverse_step=lambda s, x_t, t, eps, z: (
            s.model_mean(x_t, t, eps) + (size(s, t - 1) * z if t > 1 else 0.0)
        ),
        **changes,
    )


def weight_with(f: Callable[..., Any], **changes: Any) -> Plain:
    return change(eps_loss_weight=lambda s, t: f(s, t - 1), **changes)


def bound_with(x_of: Callable[..., Any]) -> Plain:
    """The bound around another x_t, a function of x_0, t and all the noise."""

    def elbo_terms(s: Plain, predict: Any, x0: Any, noise: Any) -> Any:
        for t in range(1, s.T + 1):
            predict(x_of(s, x0, t, noise), t)
        seen = Plain.elbo_terms(s, lambda x, t: 0.0 * x, x0, noise)
        return seen

    return change(elbo_terms=elbo_terms)


def noisy(s: Plain, x0: Any, t: int, z: Any) -> Any:
    return right_signal(s, t - 1) * x0 + right_noise(s, t - 1) * z


def without_the_last_question(s: Plain, predict: Any, x0: Any, noise: Any) -> Any:
    return Plain.elbo_terms(s, lambda x, t: predict(x, t) if t > 1 else 0.0 * x, x0, noise)


def prior_with(f: Callable[..., Any]) -> Plain:
    return change(prior=f)


def middle_with(f: Callable[..., Any], **changes: Any) -> Plain:
    """L_{t-1} as a function of the tables, the two means and t - 1."""

    def middle(s: Plain, x0: Any, x_t: Any, t: int, mean: Any) -> Any:
        return f(s, s.q_posterior(x0, x_t, t)[0], mean, t - 1)

    return change(middle=middle, **changes)


def beta_middle(f: Callable[..., Any]) -> Plain:
    """The same where sigma_t^2 is beta, which no constant vanishes for."""
    plain = middle_with(f)
    plain.var = plain.beta
    plain.dec_var = plain.var[0]
    return plain


def half_square(a: Any, b: Any, variance: Any) -> Any:
    return np.sum((a - b) ** 2, axis=1) / (2.0 * variance)


def right_kl(s: Plain, a: Any, b: Any, i: int) -> Any:
    return s.kl(a, s.post_var[i], b, s.var[i])


def decoder_with(f: Callable[..., Any]) -> Plain:
    """L_0 as a function of the right one, half the squared error over the variance, and d."""
    return change(
        decode=lambda s, x0, m: f(Plain.decode(s, x0, m), half_square(x0, m, s.dec_var), s.dec_var)
    )


UNITS: dict[str, Callable[[Any], Any]] = {
    "in bits, not nats": lambda L: L / np.log(2.0),
    "a mean over dimensions, not their sum": lambda L: L / 3.0,
    "in bits per dimension, not nats": lambda L: L / (3.0 * np.log(2.0)),
    "in bits, not nats, and the sign is wrong": lambda L: -L / np.log(2.0),
    "a mean over dimensions, not their sum, and the sign is wrong": lambda L: -L / 3.0,
    "in bits per dimension, not nats, and the sign is wrong": lambda L: -L / (3.0 * np.log(2.0)),
    "a mean over the batch": lambda L: np.mean(L, axis=-1, keepdims=True) + 0.0 * L,
    "a sum over the batch": lambda L: np.sum(L, axis=-1, keepdims=True) + 0.0 * L,
}


def units_of(term: int) -> dict[str, tuple[Plain, str]]:
    """Each term of the bound in each unit."""

    def planted(unit: Callable[[Any], Any]) -> Plain:
        def terms(s: Plain, *three: Any) -> Any:
            return tuple(unit(value) if i == term else value for i, value in enumerate(three))

        return change(elbo_terms=terms_with(terms))

    return {f"{('L_T', 'L', 'L_0')[term]} {text}": (planted(f), text) for text, f in UNITS.items()}


def all_in(unit: Callable[[Any], Any]) -> Plain:
    return change(elbo_terms=terms_with(lambda s, *three: tuple(unit(value) for value in three)))


def only_at(t_bad: int, method: str, wrong: Callable[..., Any], position: int = 1) -> Plain:
    """One method that is wrong at one time alone."""
    right = getattr(Plain, method)

    def mixed(s: Plain, *arguments: Any) -> Any:
        return (wrong if arguments[position] == t_bad else right)(s, *arguments)

    return change(**{method: mixed})


UNSAID: dict[str, Any] = {"reverse_variance": None, "sample": None}

# By the row that catches it: what is wrong, an implementation with it, and what the row says.
PLANTED: dict[str, dict[str, tuple[Plain, str]]] = {
    "alpha_bars: product of alpha_1..alpha_t": {
        "root of alpha_bar": (change(alpha_bars=lambda s: np.sqrt(s.ab)), "its square root: sqrt"),
        "1 - alpha_bar": (change(alpha_bars=lambda s: 1.0 - s.ab), "1 - alpha_bar[t];"),
        "sigma for alpha_bar": (
            change(alpha_bars=lambda s: np.sqrt(1.0 - s.ab)),
            "sqrt(1 - alpha_bar[t])",
        ),
        "a sum for the product": (
            change(alpha_bars=lambda s: 1.0 - np.cumsum(s.beta)),
            "a sum for the product",
        ),
        "one beta too many": (
            change(alpha_bars=lambda s: np.append(s.ab[1:], s.ab[-1])),
            "one beta too many",
        ),
        "alpha_bar[0] dropped from a cosine": (
            change(alpha_bars=lambda s: 0.9996 * s.ab),
            "0.9996 times what it should be at every t: alpha_bar[0] has to be 1",
        ),
        "alpha_bar runs to T (E5)": (tables(ab=lambda p: np.full(p.T, p.ab[-1])), "E5"),
        "alpha for alpha_bar": (
            tables(ab=lambda p: p.alpha),
            "the product over the earlier steps is missing",
        ),
        "alpha_bar starts one late": (tables(ab=lambda p: p.ab_prev), "one beta too few"),
    },
    "q_sample: coefficient of x0": {
        "signal of one step": (
            q_sample_with(lambda s, i: np.sqrt(s.alpha[i]), right_noise),
            "one step instead of t",
        ),
        "signal of all steps (E5)": (q_sample_with(lambda s, i: np.sqrt(s.ab[-1]), right_noise), "E5"),
        "signal and noise swapped": (
            q_sample_with(right_noise, right_signal),
            "the coefficient of the noise",
        ),
        "variance exploding": (q_sample_with(lambda s, i: 1.0, right_noise), "x0 is not scaled"),
        "not finite at one time": (
            only_at(3, "q_sample", lambda s, x0, t, e: x0 * np.inf),
            "not finite at t = 3 alone",
        ),
        "q_sample counts from 0": (
            shifted(Plain(), "q_sample", 1),
            "off by one: it is the value of t + 1",
        ),
        "signal without the root": (
            change(q_sample=lambda s, x0, t, e: s.ab[t - 1] * x0 + np.sqrt(1.0 - s.ab[t - 1]) * e),
            "without its square root",
        ),
    },
    "q_sample: variance of T steps composed": {
        "1 - root of alpha_bar": (
            q_sample_with(right_signal, lambda s, i: 1.0 - np.sqrt(s.ab[i])),
            "1 - sqrt(alpha_bar[t]) for",
        ),
        "noise of one step": (
            q_sample_with(right_signal, lambda s, i: np.sqrt(s.beta[i])),
            "sqrt(beta[t]): one step",
        ),
        "noise of all steps (E5)": (
            q_sample_with(right_signal, lambda s, i: np.sqrt(1.0 - s.ab[-1])),
            "E5",
        ),
        "root of alpha_bar on the noise": (
            q_sample_with(right_signal, right_signal),
            "sqrt(alpha_bar[t]) multiplies the noise",
        ),
        "no noise": (q_sample_with(right_signal, lambda s, i: 0.0), "no noise is added"),
        "noise subtracted": (
            q_sample_with(right_signal, lambda s, i: -right_noise(s, i)),
            "the sign is wrong",
        ),
        "noise without the root at t = 2 alone": (
            only_at(
                2,
                "q_sample",
                lambda s, x0, t, e: right_signal(s, t - 1) * x0 + (1.0 - s.ab[t - 1]) * e,
            ),
            "right but at t = 2 alone: the noise is multiplied by 1 - alpha_bar[t] without",
        ),
        "q_sample one late": (shifted(Plain(), "q_sample", -1), "off by one: it is the value of t - 1"),
        "noise without the root (E2)": (
            change(q_sample=lambda s, x0, t, e: np.sqrt(s.ab[t - 1]) * x0 + (1.0 - s.ab[t - 1]) * e),
            "E2",
        ),
    },
    "q_posterior: mean by Bayes' rule, x0": {
        "alpha_bar[t] for alpha_bar[t-1] at x0": (
            posterior_mean_with(lambda s, i: np.sqrt(s.ab[i]) * s.beta[i] / (1.0 - s.ab[i]), None),
            "sqrt(alpha_bar[t]) for sqrt(alpha_bar[t-1])",
        ),
        "no root of alpha_bar in (26)": (
            posterior_mean_with(lambda s, i: s.ab_prev[i] * s.beta[i] / (1.0 - s.ab[i]), None),
            "alpha_bar[t-1] without its square root",
        ),
        "posterior coefficients swapped": (change(q_posterior=swapped_posterior), "swapped"),
    },
    "q_posterior: variance by Bayes' rule": {
        "posterior log-variance": (
            change(
                q_posterior=posterior_with(lambda s, i: np.log(s.post_var[i]) if i else s.post_var[i])
            ),
            "the logarithm of the variance",
        ),
        "beta at t = 2 alone": (
            only_at(2, "q_posterior", posterior_with(lambda s, i: s.beta[i]), position=2),
            "right but at t = 2 alone: beta[t] in place",
        ),
        "beta in the posterior": (
            change(q_posterior=posterior_with(lambda s, i: s.beta[i])),
            "beta[t] in place of beta_tilde[t]",
        ),
        "posterior standard deviation": (
            change(q_posterior=posterior_with(lambda s, i: np.sqrt(s.post_var[i]))),
            "standard deviation",
        ),
        "posterior one late": (shifted(Plain(), "q_posterior", -1), "off by one"),
    },
    "q_posterior: at t = 1 it is x0 exactly": {
        "index -1": (before(lambda p: p.ab[-1]), "as index -1 gives in Python"),
        "alpha_bar[1] for alpha_bar[0]": (before(lambda p: p.ab[0]), "alpha_bar[1] stands for"),
        "alpha_bar[0] = 0": (before(lambda p: 0.0), "alpha_bar[0] is 0, not 1"),
        "some variance at t = 1": (
            only_at(
                1,
                "q_posterior",
                lambda s, x0, x_t, t: (x0, 0.3 * s.beta[0]),
                position=2,
            ),
            "so that x_0 is known for certain",
        ),
        "alpha_bar[0] = alpha_1 in the posterior": (
            tables(ab_prev=lambda p: np.concatenate([p.ab[:1], p.ab[:-1]])),
            "alpha_bar[0] has to be 1",
        ),
    },
    "model_mean: coefficient of x_t": {
        "something is added": (
            change(model_mean=lambda s, x, t, e: Plain.model_mean(s, x, t, e) + 0.1),
            "got",
        ),
        "no 1 / sqrt(alpha) in (34)": (change(model_mean=mean_with(outer=0.0)), "sqrt(alpha[t]) times"),
        "1 / alpha in (34)": (change(model_mean=mean_with(outer=1.0)), "1 / sqrt(alpha[t]) times"),
    },
    "model_mean: coefficient of eps": {
        "sigma for beta over sigma": (
            eps_with(lambda s, i: -right_noise(s, i) / np.sqrt(s.alpha[i])),
            "sqrt(1 - alpha_bar[t]) for beta[t] / sqrt(1 - alpha_bar[t])",
        ),
        "root of beta": (
            eps_with(lambda s, i: -np.sqrt(s.beta[i]) / right_noise(s, i) / np.sqrt(s.alpha[i])),
            "sqrt(beta[t]) for beta[t]",
        ),
        "eps ignored": (eps_with(lambda s, i: 0.0), "eps has no effect"),
        "an unknown factor": (
            change(model_mean=lambda s, x, t, e: Plain.model_mean(s, x, t, 1.37 * e)),
            "it is 1.37 times what it should be, at every t",
        ),
        "eps squared": (
            change(model_mean=lambda s, x, t, e: Plain.model_mean(s, x, t, e + 10.0 * e**2)),
            "not linear in its inputs",
        ),
        "sign in (29)": (change(model_mean=mean_with(sign=1.0)), "sign"),
        "no root in (34)": (change(model_mean=mean_with(root=1.0)), "lacks the square root"),
        "not finite but for small inputs": (change(model_mean=mean_of_small_inputs), "right for small"),
    },
    "model_mean at the true eps = q_posterior": {
        "(34) at another t than q_sample": (shifted(Plain(), "model_mean", -1), "take t differently"),
    },
    "reverse_variance: beta_tilde, beta, between, or 1": {
        "root of beta for sigma^2": (
            change(reverse_variance=lambda s, t: np.sqrt(s.beta[t - 1])),
            "sqrt(beta[t]): the standard deviation",
        ),
        "log of beta_tilde": (
            change(reverse_variance=lambda s, t: np.log(s.var[t - 1])),
            "log(beta_tilde[t]): the logarithm",
        ),
        "log of beta": (
            change(reverse_variance=lambda s, t: np.log(s.beta[t - 1])),
            "log(beta[t]): the logarithm",
        ),
        "beta one late": (
            change(reverse_variance=lambda s, t: s.beta[max(t - 2, 0)]),
            "beta of t - 1",
        ),
        "beta one early": (
            change(reverse_variance=lambda s, t: s.beta[min(t, s.T - 1)]),
            "beta of t + 1",
        ),
        "variance of x_t": (
            change(reverse_variance=lambda s, t: 1.0 - s.ab[t - 1]),
            "1 - alpha_bar[t]: the variance of x_t given x_0",
        ),
        "no variance": (change(reverse_variance=lambda s, t: 0.0), "0: no noise"),
        "sigma^2 of the other sign": (
            change(reverse_variance=lambda s, t: -s.beta[t - 1]),
            "sign is wrong",
        ),
        "twice beta": (
            change(reverse_variance=lambda s, t: 2.0 * s.beta[t - 1]),
            "if sigma_t^2 is beta[t], it is 2 times",
        ),
        "sigma^2 of no kind": (
            change(reverse_variance=lambda s, t: s.beta[t - 1] * (1.5 + np.sin(t))),
            "outside of [beta_tilde[t], beta[t]]",
        ),
        "sigma^2 wrong at t = 2 alone": (
            only_at(2, "reverse_variance", lambda s, t: np.sqrt(s.beta[t - 1]), position=0),
            "right but at t = 2 alone: sqrt(beta[t]): the standard deviation",
        ),
        "standard deviation for sigma^2": (tables(var=lambda p: np.sqrt(p.var)), "standard deviation"),
        "sigma^2 one late": (shifted(Plain(), "reverse_variance", -1), "off by one"),
    },
    "reverse_step: coefficient of x_t": {
        "clipped at t = 1 alone": (
            only_at(1, "reverse_step", clipped_step),
            "not for large ones",
        ),
    },
    "reverse_step: coefficient of eps": {
        "clipped sampler": (change(reverse_step=clipped_step), "clip"),
    },
    "reverse_step: variance of the noise": {
        "no noise in the sampler": (noise_with(lambda s, i: 0.0), "no noise is added"),
        "no noise at t = 2 alone": (
            only_at(2, "reverse_step", lambda s, x, t, e, z: s.model_mean(x, t, e)),
            "right but at t = 2 alone: no noise is added",
        ),
        "root of the root in the sampler": (
            noise_with(lambda s, i: s.var[i] ** 0.25),
            "sigma_t is rooted twice",
        ),
        "noise of no kind": (
            noise_with(lambda s, i: np.sqrt(s.var[i] * (1.5 + np.sin(i)))),
            "should be reverse_variance(t)",
        ),
        "root missing, sigma^2 unsaid": (
            noise_with(lambda s, i: s.beta[i], **UNSAID),
            "its square root is missing (sigma_t^2 is beta[t])",
        ),
        "noise of no kind, sigma^2 unsaid": (
            noise_with(lambda s, i: np.sqrt(s.var[i] * (1.5 + np.sin(i))), **UNSAID),
            "no usual sigma_t^2 explains it",
        ),
        "beta_tilde for beta in the sampler": (
            change(reverse_variance=lambda s, t: s.beta[t - 1]),
            "sigma_t^2 is beta_tilde[t]",
        ),
        "missing root in the sampler": (
            change(reverse_step=rootless_step),
            "its square root is missing",
        ),
    },
    "reverse_step: no noise at t = 1": {
        "noise at the last step (E9)": (change(reverse_step=noisy_last_step), "E9"),
    },
    "sample: predict is asked at each time": {
        "loop stops early": (change(sample=loop_of(lambda T: range(T, 1, -1))), "it stops early"),
        "loop counts from 0": (
            change(sample=loop_of(lambda T: range(T - 1, -1, -1))),
            "predict is told t - 1 at every step",
        ),
    },
    "sample: no noise at the last step": {
        "noise at the end of the loop (E9)": (change(reverse_step=noisy_last_step), "E9"),
    },
    "sample: z of each step is noise[t]": {
        "noise of another step": (
            change(sample=loop_of(lambda T: range(T, 0, -1), z=-1)),
            "noise[t - 1]",
        ),
    },
    "eps_loss_weight: squared shift / 2 sigma_t^2": {
        "weight of the mean": (
            weight_with(lambda s, i: 0.5 / s.var[i]),
            "the weight of the mean, not of eps",
        ),
        "deviation in the weight": (
            weight_with(lambda s, i: Plain.eps_loss_weight(s, i + 1) * np.sqrt(s.var[i])),
            "the standard deviation is taken for the variance",
        ),
        "beta in the weight": (
            weight_with(lambda s, i: Plain.eps_loss_weight(s, i + 1) * s.var[i] / s.beta[i]),
            "sigma_t^2 is beta[t] here, elsewhere reverse_variance(t)",
        ),
        "E1, sigma^2 unsaid": (
            weight_with(lambda s, i: Plain.eps_loss_weight(s, i + 1) * s.alpha[i], **UNSAID),
            "(E1) (sigma_t^2 is beta_tilde[t] (25))",
        ),
        "weight squared": (weight_with(lambda s, i: Plain.eps_loss_weight(s, i + 1) ** 2), "the square"),
        "root of the weight": (
            weight_with(lambda s, i: Plain.eps_loss_weight(s, i + 1) ** 0.5),
            "the square root of what",
        ),
        "weight one early": (shifted(Plain(), "eps_loss_weight", 1), "the value of t + 1"),
        "(35) as printed (E1)": (
            change(eps_loss_weight=lambda s, t: Plain.eps_loss_weight(s, t) * s.alpha[t - 1]),
            "E1",
        ),
        "D's weight (E10)": (
            change(
                eps_loss_weight=lambda s, t: 0.5 / (s.var[t - 1] * (1.0 - s.ab[t - 1]) * s.ab[t - 1])
            ),
            "E10",
        ),
        "weight of L_simple": (change(eps_loss_weight=lambda s, t: 1.0), "L_simple"),
        "weight without its 2": (
            change(eps_loss_weight=lambda s, t: 2.0 * Plain.eps_loss_weight(s, t)),
            "it is 2 times",
        ),
    },
    "elbo_terms: predict sees x_t = q_sample": {
        "noise without the root in the bound (E2)": (
            bound_with(lambda s, x0, t, z: right_signal(s, t - 1) * x0 + (1.0 - s.ab[t - 1]) * z[t]),
            "E2",
        ),
        "signal without the root in the bound": (
            bound_with(lambda s, x0, t, z: s.ab[t - 1] * x0 + right_noise(s, t - 1) * z[t]),
            "x0 is multiplied by alpha_bar[t] without",
        ),
        "noise[t - 1] in the bound": (
            bound_with(lambda s, x0, t, z: noisy(s, x0, t, z[t - 1])),
            "noise[t - 1] is used at t",
        ),
        "noise[t + 1] in the bound": (
            bound_with(lambda s, x0, t, z: noisy(s, x0, t, z[(t + 1) % (s.T + 1)])),
            "noise[t + 1] is used at t",
        ),
        "the same noise at every t": (
            bound_with(lambda s, x0, t, z: noisy(s, x0, t, z[1])),
            "noise[1] is used at every t",
        ),
        "no noise in the bound": (bound_with(lambda s, x0, t, z: x0), "x0 itself"),
        "noise subtracted in the bound": (
            bound_with(lambda s, x0, t, z: noisy(s, x0, t, -z[t])),
            "the sign of the noise is wrong",
        ),
        "x_t of another t in the bound": (
            bound_with(lambda s, x0, t, z: noisy(s, x0, max(t - 1, 1), z[max(t - 1, 1)])),
            "the value of t - 1",
        ),
        "network not asked at t = 1": (
            change(elbo_terms=without_the_last_question),
            "was not at t = 1",
        ),
        "network asked at t - 1": (
            change(elbo_terms=late_predictions),
            "does it count from 0?",
        ),
    },
    "elbo_terms: L_T by quadrature": {
        "prior of the last step (E8)": (
            prior_with(lambda s, x0: -s.kl(np.sqrt(s.ab[-1]) * x0, s.beta[-1], 0.0, 1.0)),
            "E8",
        ),
        "deviation in the prior": (
            change(
                prior=lambda s, x0: -s.kl(np.sqrt(s.ab[-1]) * x0, np.sqrt(1 - s.ab[-1]), 0.0, 1.0),
                __init__=lambda s: Plain.__init__(s, 20),
            ),
            "the standard deviation is taken for the variance",
        ),
        "mean alone in the prior": (
            change(
                prior=lambda s, x0: -0.5 * s.ab[-1] * np.sum(x0**2, axis=1),
                __init__=lambda s: Plain.__init__(s, 20),
            ),
            "the mean alone",
        ),
        "prior of no kind": (
            prior_with(lambda s, x0: -1.0 - np.arange(len(x0))),
            "L_T = -KL(q(x_T | x_0)",
        ),
        **units_of(0),
        "prior of the other sign": (
            change(elbo_terms=terms_with(lambda s, a, b, c: (-a, b, c))),
            "sign",
        ),
        "prior left out": (change(prior=lambda s, x0: np.zeros(len(x0))), "left out"),
    },
    "elbo_terms: L_{t-1} by quadrature": {
        "terms of the other sign": (middle_with(right_kl), "the sign is wrong: L_{t-1}"),
        "no constant in (33)": (
            beta_middle(lambda s, a, b, i: -half_square(a, b, s.beta[i])),
            "the constant of (33) is left out",
        ),
        "2 missing in (32)": (
            middle_with(lambda s, a, b, i: -right_kl(s, a, b, i) - half_square(a, b, s.var[i])),
            "the 2 is missing",
        ),
        "divergence the wrong way round": (
            beta_middle(lambda s, a, b, i: -s.kl(b, s.var[i], a, s.post_var[i])),
            "the wrong way round",
        ),
        "deviation in the terms": (
            middle_with(lambda s, a, b, i: -s.kl(a, s.post_var[i], b, np.sqrt(s.var[i]))),
            "the standard deviation is taken for the variance",
        ),
        "terms of no kind": (
            middle_with(lambda s, a, b, i: -right_kl(s, a, b, i) * (2.0 + np.sin(i))),
            "L_{t-1} = -KL(q(x_{t-1}",
        ),
        "sign, sigma^2 unsaid": (
            middle_with(right_kl, **UNSAID),
            "the sign is wrong: L_{t-1} = -KL <= 0 (sigma_t^2 is beta_tilde[t] (25))",
        ),
        "half of the terms, sigma^2 unsaid": (
            middle_with(lambda s, a, b, i: -0.5 * right_kl(s, a, b, i), **UNSAID),
            "if sigma_t^2 is beta_tilde[t] (25), it is 1 / 2 times",
        ),
        **units_of(1),
        "bound with beta, sampler with beta_tilde": (
            change(middle=lambda s, x0, x, t, m: -s.kl(*s.q_posterior(x0, x, t), m, s.beta[t - 1])),
            "sigma_t^2 is beta[t] here, elsewhere reverse_variance(t)",
        ),
        "means over dimensions": (
            change(elbo_terms=terms_with(lambda s, a, b, c: (a, b / 3.0, c))),
            "a mean over dimensions, not their sum",
        ),
    },
    "elbo_terms: L_0 of a Gaussian decoder": {
        "L_0 of the other sign": (decoder_with(lambda L, half, v: -L), "the sign is wrong: L_0"),
        "variance squared in L_0": (tables(dec_var=lambda p: p.var[0] ** 2), "the variance is squared"),
        "squared error alone in L_0": (
            decoder_with(lambda L, half, v: -half),
            "the squared error alone",
        ),
        "log(2 pi sigma^2) once in L_0": (
            decoder_with(lambda L, half, v: L + np.log(2.0 * np.pi * v)),
            "counted once, not per dimension",
        ),
        "2 missing in L_0": (decoder_with(lambda L, half, v: L - half), "the 2 is missing"),
        "L_0 of no kind": (
            decoder_with(lambda L, half, v: L * (1.0 + half)),
            "L_0 = log N(x0; model mean",
        ),
        "sigma_1^2 unsaid, L_0 of the other sign": (
            change(decode=lambda s, x0, m: -Plain.decode(s, x0, m), **UNSAID),
            "the sign is wrong: L_0 is a log-density (it is beta_tilde[2])",
        ),
        **units_of(2),
        "variance of L_0": (tables(dec_var=lambda p: p.beta[0]), "the variance is beta[t] at t = 1"),
        "standard deviation in L_0": (tables(dec_var=lambda p: np.sqrt(p.var[0])), "standard deviation"),
        "log(2 pi) left out of L_0": (
            change(decode=lambda s, x0, m: Plain.decode(s, x0, m) + 1.5 * np.log(2.0 * np.pi)),
            "log(2 pi) is left out",
        ),
    },
    "elbo_terms: L[0] and L[1] are empty": {
        "rows of L one early": (change(elbo_terms=terms_with(shifted_rows)), "L[t] is L_{t-1}"),
    },
    "elbo_terms: sum = log p(x0) - KL(q || p)": {
        "everything in bits per dimension": (
            all_in(UNITS["in bits per dimension, not nats"]),
            "in bits per dimension, not nats",
        ),
        "everything negated, in bits": (
            all_in(UNITS["in bits, not nats, and the sign is wrong"]),
            "in bits, not nats, and the sign is wrong",
        ),
        "divergence reversed": (
            change(middle=lambda s, x0, x, t, m: -s.kl(m, 2.0 * s.var[t - 1], *s.q_posterior(x0, x, t))),
            "do not add up",
        ),
    },
    "alpha_bars: 1 - alpha_bar, composed from steps": {
        "a small part of alpha_bar[1] is lost": (
            change(alpha_bars=lambda s: s.ab - 1e-5 * (np.arange(s.T) == 0)),
            "right but at t = 1 alone",
        ),
    },
    "q_posterior: mean by Bayes' rule, x_t": {
        "coefficient of x_t swapped": (change(q_posterior=swapped_posterior), "swapped"),
        "alpha_bar[t] for alpha_bar[t-1] at x_t": (
            posterior_mean_with(None, lambda s, i: np.sqrt(s.alpha[i])),
            "1 - alpha_bar[t] for 1 - alpha_bar[t-1]",
        ),
        "no root of alpha in (26)": (
            posterior_mean_with(None, lambda s, i: s.alpha[i] * (1 - s.ab_prev[i]) / (1 - s.ab[i])),
            "it is sqrt(alpha[t]) times",
        ),
    },
    "q_posterior after q_sample: mean of x_{t-1}": {
        "q_posterior at another t": (shifted(Plain(), "q_posterior", -1), "do both mean the same t?"),
    },
    "q_posterior after q_sample: variance of x_{t-1}": {
        "q_sample at another t": (shifted(Plain(), "q_sample", -1), "do both mean the same t?"),
    },
}
CASES = [(row, slip) for row, slips in PLANTED.items() for slip in slips]


@pytest.mark.parametrize(("row", "slip"), CASES, ids=[slip for _, slip in CASES])
def test_planted_slip_is_caught_by_its_row(row, slip):
    implementation, words = PLANTED[row][slip]
    report = check_identities(implementation)
    assert report[row].verdict == "FAILS"
    assert words in report[row].explanation
    assert not report.ok
    with pytest.raises(IdentityError, match="FAILS"):
        report.raise_if_failed()


# A row that a wrong sigma_t^2 was only guessed for does not say what it should be.


@pytest.mark.parametrize(
    ("row", "slip"), [(row, slip) for row, slip in CASES if "unsaid" in slip and "root" not in slip]
)
def test_nothing_should_be_what_was_guessed(row, slip):
    text = check_identities(PLANTED[row][slip][0])[row].explanation
    assert "got" in text
    assert "should be" not in text.replace("what it should be", "")


@pytest.mark.parametrize("name", named_ratios(Truth.of(Plain().beta)))
def test_every_factor_has_its_name(name):
    factor = named_ratios(Truth.of(Plain().beta))[name]

    def model_mean(s: Plain, x_t: Any, t: int, eps: Any) -> Any:
        return factor[t] * Plain.model_mean(s, x_t, t, eps)

    row = check_identities(change(model_mean=model_mean))["model_mean: coefficient of x_t"]
    assert f"it is {name} times what it should be" in row.explanation


def test_two_explanations_that_fit_are_both_said():
    """At t = 1 beta is 1 - alpha_bar, so that a root too few is one or the other."""
    text = check_identities(only_at(1, "model_mean", mean_with(root=1.0)))
    both = "lacks the square root, or sqrt(beta[t]) for beta[t]"
    assert both in text["model_mean: coefficient of eps"].explanation


def test_the_document_counts_the_slips():
    porting = (Path(__file__).parent.parent / "docs" / "porting.md").read_text()
    assert f"`tests/test_testing_slips.py` plants {len(CASES)} slips" in porting
