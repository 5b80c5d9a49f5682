"""Checks of the bound, with a network that is known exactly."""

import numpy as np

from ddpm_np._arrays import Table
from ddpm_np.testing._affine_model import (
    MEAN,
    VARIANCE,
    denoiser,
    gap_and_evidence,
    recording_predictor,
)
from ddpm_np.testing._comparison import Comparison
from ddpm_np.testing._probes import PROBE
from ddpm_np.testing._quadrature import NODES, WEIGHTS, kl_by_quadrature, log_normal
from ddpm_np.testing._rows import Check, Identity
from ddpm_np.testing._subject import Subject, as_values
from ddpm_np.testing._truth import Truth
from ddpm_np.testing._variances import (
    closest,
    decoder_variance_choices,
    usual_variances,
    variance_choices,
)
from ddpm_np.testing.protocol import Values


def elbo_terms(subject: Subject) -> list[Comparison]:
    """Every term for random observations and noise."""
    truth = subject.truth
    x0 = MEAN + np.sqrt(VARIANCE) * subject.rng(3).standard_normal(PROBE.shape)
    noise = subject.rng(4).standard_normal((truth.T + 1, *PROBE.shape))
    predict, asked = recording_predictor(truth)
    L_T, L, L_0 = subject.elbo_terms(predict, x0, noise)
    x = truth.slope[:, None, None] * x0 + truth.sigma[:, None, None] * noise
    return [
        _noisy_inputs(truth, asked, x0, noise, x),
        _prior(truth, x0, L_T),
        _middle(subject, x0, x, L),
        _reconstruction(subject, x0, x[1], L_0),
        Comparison(
            np.array([1]),
            L[:2].reshape(1, -1),
            np.zeros((1, 2 * len(x0))),
            scale=np.ones((1, 2 * len(x0))),
            hint="L[t] is L_{t-1}; the terms for t = 1 and T go to L_0 and L_T",
        ),
    ]


def _noisy_inputs(
    truth: Truth, asked: dict[int, Values], x0: Values, noise: Values, x: Values
) -> Comparison:
    """What the network was asked, against q_sample with noise[t]."""
    t = np.arange(1, truth.T + 1)
    silent = sorted(set(t.tolist()) - asked.keys())
    if silent:
        raise ValueError(f"predict has to be asked at every t = 1..T, but was not at t = {silent[0]}")
    seen = np.array([as_values(asked[time], "x_t", x0.shape) for time in t.tolist()])
    signal = truth.slope[:, None, None] * x0
    rootless = signal + truth.variance[:, None, None] * noise
    late = signal + truth.sigma[:, None, None] * np.roll(noise, 1, 0)
    slips = {
        "the noise is multiplied by 1 - alpha_bar[t] without its square root (E2)": rootless[1:],
        "noise[t - 1] is used at t": late[1:],
    }
    return Comparison(t, seen, x[1:], scale=np.abs(x[1:]) + 1.0, table=x, candidates=slips)


def _prior(truth: Truth, x0: Values, L_T: Values) -> Comparison:
    mean, variance = truth.slope[-1] * x0, float(truth.variance[-1])
    expected = -kl_by_quadrature(mean, variance, 0.0 * mean, 1.0).sum(axis=1)[None]
    scale = x0.shape[1] * (1.0 + np.log(1.0 / variance)) + np.sum(mean**2, axis=1)[None]
    per_step = -kl_by_quadrature(mean, float(truth.beta[-1]), 0.0 * mean, 1.0).sum(axis=1)[None]
    slips = {
        "the sign is wrong: L_T = -KL <= 0": -expected,
        "the law of the last step, not of x_T given x0 (E8)": per_step,
        "0: the prior term is left out": 0.0 * expected,
    }
    return Comparison(
        np.array([truth.T]),
        L_T[None],
        expected,
        cancellation=float(np.max(scale / np.maximum(-expected, 1e-300))),
        candidates=slips,
        hint="L_T = -KL(q(x_T | x_0) || N(0, I)), summed over dimensions",
    )


def _middle(subject: Subject, x0: Values, x: Values, L: Values) -> Comparison:
    """L_{t-1} for t = 2..T."""
    truth = subject.truth
    t = np.arange(2, truth.T + 1)
    posterior, mean = _two_means(truth, x0, x)
    choices = variance_choices(subject)
    tables = {key: _kl_terms(truth, posterior, mean, sigma2) for key, sigma2 in choices.items()}
    name = closest({key: table[t] for key, table in tables.items()}, L[t])
    sigma2, expected = choices[name][t], tables[name][t]
    square = np.sum((posterior - mean)[t] ** 2 / (2.0 * sigma2[:, None, None]), axis=2)
    slips = {
        f"sigma_t^2 is {key} here, elsewhere {name}": _kl_terms(truth, posterior, mean, table)[t]
        for key, table in usual_variances(truth).items()
    }
    slips["the sign is wrong: L_{t-1} = -KL <= 0"] = -expected
    slips["the constant of (33) is left out"] = -square
    return Comparison(
        t,
        L[t],
        expected,
        scale=2.0 * square + x0.shape[1] * np.ones_like(square),
        loss=1.0 + np.max(np.abs(mean), axis=(1, 2))[t] / np.sqrt(sigma2),
        table=tables[name],
        candidates=slips,
        hint="L_{t-1} = -KL(q(x_{t-1} | x_t, x_0) || N(model mean, sigma_t^2 I)), summed over d",
        note=f"sigma_t^2 is {name}",
    )


def _two_means(truth: Truth, x0: Values, x: Values) -> tuple[Values, Values]:
    """The posterior mean and the model's at every t, shape (T + 1, B, d); entry 0 unused."""
    gain, offset = denoiser(truth)
    column = (slice(None), None, None)
    posterior = truth.c_xt[column] * x + truth.c_x0[column] * x0
    eps = gain[column] * x + offset[column]
    return posterior, x / np.sqrt(truth.alpha)[column] + truth.mean_eps[column] * eps


def _kl_terms(truth: Truth, posterior: Values, mean: Values, sigma2: Table) -> Values:
    """-KL of q(x_{t-1} | x_t, x_0) and the model's step, shape (T + 1, B); 0 for t < 2."""
    result = np.zeros(mean.shape[:2])
    for t in range(2, truth.T + 1):
        tilde = float(truth.posterior_variance[t])
        kl = kl_by_quadrature(posterior[t], tilde, mean[t], float(sigma2[t]))
        result[t] = -kl.sum(axis=1)
    return result


def _reconstruction(subject: Subject, x0: Values, x_1: Values, L_0: Values) -> Comparison:
    truth = subject.truth
    gain, offset = denoiser(truth)
    mean = truth.model_mean(x_1, 1, gain[1] * x_1 + offset[1])

    def score(variance: float) -> Values:
        return log_normal(x0, mean, variance).sum(axis=1)[None]

    choices = {key: float(table[1]) for key, table in decoder_variance_choices(subject).items()}
    name = closest({key: score(value) for key, value in choices.items()}, L_0[None])
    variance = choices[name]
    usual = {key: float(table[1]) for key, table in usual_variances(truth).items()}
    square = np.sum((x0 - mean) ** 2, axis=1)[None] / (2.0 * variance)
    slips = {
        "the sign is wrong: L_0 is a log-density": -score(variance),
        "the standard deviation is taken for the variance": score(float(np.sqrt(variance))),
        "the variance is squared": score(variance**2),
        "the squared error alone: log(2 pi sigma_1^2) is left out": -square,
        "log(2 pi) is left out": score(variance) + 0.5 * x0.shape[1] * np.log(2.0 * np.pi),
        **{f"the variance is {key} at t = 1, not {name}": score(value) for key, value in usual.items()},
    }
    return Comparison(
        np.array([1]),
        L_0[None],
        score(variance),
        scale=2.0 * square + x0.shape[1] * (1.0 + abs(np.log(variance))),
        loss=1.0 + float(np.max(np.abs(mean))) / np.sqrt(variance) * np.ones(1),
        candidates=slips,
        hint="L_0 = log N(x0; model mean at t = 1, sigma_1^2 I), summed over dimensions",
        note=f"the variance is that of {name} at t = 1",
    )


def evidence(subject: Subject) -> list[Comparison]:
    """E over the noise, by quadrature, of the sum of the terms is log p(x_0) less the gap."""
    truth, T = subject.truth, subject.truth.T
    features = np.array([-0.7, 0.1, 1.2])
    signs = (-1.0) ** np.arange(T + 1)
    noise = signs[:, None, None] * (NODES[:, None] * np.ones((3, 3)))
    predict, _ = recording_predictor(truth)
    L_T, L, L_0 = subject.elbo_terms(predict, np.tile(features, (3, 1)), noise)
    measured = np.array([[float(WEIGHTS @ (L_T + L.sum(axis=0) + L_0))]])
    choices, expected, scales = decoder_variance_choices(subject), {}, {}
    for key, sigma2 in choices.items():
        gap, log_p = gap_and_evidence(truth, features, sigma2)
        expected[key] = np.array([[log_p.sum() - gap.sum()]])
        scales[key] = 1.0 + gap.sum() + np.abs(log_p).sum() + 1.5 * abs(np.log(sigma2[1]))
    name = closest(expected, measured)
    return [
        Comparison(
            np.array([(T + 1) // 2]),
            measured,
            expected[name],
            scale=np.array([[scales[name]]]),
            loss=4.0 + 4.0 / float(np.sqrt(choices[name][1:].min())),
            hint="the terms do not add up to the bound; the rows above say which one is wrong",
            note=f"sigma_t^2 is {name}",
        )
    ]


CHECKS = (
    Check(
        ("elbo_terms",),
        elbo_terms,
        (
            Identity("elbo_terms: predict sees x_t = q_sample", "M2 (35)"),
            Identity("elbo_terms: L_T by quadrature", "M2 (36)"),
            Identity("elbo_terms: L_{t-1} by quadrature", "M2 (14)-(18)"),
            Identity("elbo_terms: L_0 of a Gaussian decoder", "M2 (19)"),
            Identity("elbo_terms: L[0] and L[1] are empty", "M2 (19)"),
        ),
    ),
    Check(
        ("elbo_terms",),
        evidence,
        (Identity("elbo_terms: sum = log p(x0) - KL(q || p)", "M2 (3), p. 25"),),
    ),
)
