"""Measurements of the bound, for the network of :mod:`ddpm_np.testing._sampling`."""

import numpy as np

from ddpm_np.testing._compare import Comparison
from ddpm_np.testing._measure import (
    P,
    Subject,
    Times,
    as_values,
    closest,
    usual_variances,
)
from ddpm_np.testing._sampling import MEAN, VARIANCE, Predict, denoiser, recording_predictor
from ddpm_np.testing._truth import Truth, Values, gap_and_evidence, log_normal

# Gauss-Hermite for the standard normal law: exact for polynomials of degree 5.
NODES, WEIGHTS = np.array([-np.sqrt(3.0), 0.0, np.sqrt(3.0)]), np.array([1.0, 4.0, 1.0]) / 6.0


def elbo_terms(s: Subject) -> list[Comparison]:
    """Every term for random observations and noise."""
    truth, T = s.truth, s.truth.T
    x0 = MEAN + np.sqrt(VARIANCE) * s.rng(3).standard_normal(P.shape)
    noise = s.rng(4).standard_normal((T + 1, *P.shape))
    predict, asked = recording_predictor(truth)
    L_T, L, L_0 = _call(s, predict, x0, noise)
    silent = sorted(set(range(1, T + 1)) - asked.keys())
    if silent:
        raise ValueError(f"predict has to be asked at every t = 1..T, not so at t = {silent[0]}")
    t, later = np.arange(1, T + 1), np.arange(2, T + 1)
    seen = np.array([as_values(asked[time], "x_t", P.shape) for time in t.tolist()])
    signal = truth.slope[:, None, None] * x0
    x = signal + truth.sigma[:, None, None] * noise
    slips = {
        "the noise is multiplied by 1 - alpha_bar[t] without its square root (E2)": (
            signal + truth.variance[:, None, None] * noise
        )[1:],
        "noise[t - 1] is used at t": (signal + truth.sigma[:, None, None] * np.roll(noise, 1, 0))[1:],
    }
    return [
        Comparison(t, seen, x[1:], scale=np.abs(x[1:]) + 1.0, table=x, candidates=slips),
        _prior_row(truth, x0, L_T),
        _middle_row(s, x0, x, later, L),
        _reconstruction_row(s, x0, x[1], L_0),
        Comparison(
            np.array([1]),
            L[:2].reshape(1, -1),
            np.zeros((1, 2 * len(x0))),
            scale=np.ones((1, 2 * len(x0))),
            hint="L[t] is L_{t-1}; the terms for t = 1 and T go to L_0 and L_T",
        ),
    ]


def evidence(s: Subject) -> list[Comparison]:
    """E over the noise, by quadrature, of the sum of the terms is log p(x_0) less the gap."""
    truth, T = s.truth, s.truth.T
    features = np.array([-0.7, 0.1, 1.2])
    x0 = np.tile(features, (3, 1))
    signs = (-1.0) ** np.arange(T + 1)
    noise = signs[:, None, None] * (NODES[:, None] * np.ones((3, 3)))
    L_T, L, L_0 = _call(s, recording_predictor(truth)[0], x0, noise)
    measured = np.array([[float(WEIGHTS @ (L_T + L.sum(axis=0) + L_0))]])
    gain, offset = denoiser(truth)
    root = 1.0 / np.sqrt(truth.alpha)
    slopes, offsets = root + truth.mean_eps * gain, truth.mean_eps * offset
    results = {}
    for name, sigma2 in _decodable(s).items():
        gap, log_p = gap_and_evidence(truth, features, slopes, offsets, sigma2)
        scale = 1.0 + gap.sum() + np.abs(log_p).sum() + 1.5 * abs(np.log(sigma2[1]))
        results[name] = np.array([[log_p.sum() - gap.sum()]]), np.array([[scale]]), sigma2
    name = closest({key: value[0] for key, value in results.items()}, measured)
    expected, scale, sigma2 = results[name]
    return [
        Comparison(
            np.array([(T + 1) // 2]),
            measured,
            expected,
            scale=scale,
            loss=4.0 + 4.0 / float(np.sqrt(sigma2[1:].min())),
            hint="the terms do not add up to the bound; the rows above say which one is wrong",
            note=f"sigma_t^2 is {name}",
        )
    ]


def _call(s: Subject, predict: Predict, x0: Values, noise: Values) -> tuple[Values, Values, Values]:
    result = s.implementation.elbo_terms(predict, x0, noise)
    L_T, L, L_0 = result
    batch = len(x0)
    return (
        as_values(L_T, "L_T of elbo_terms(...)", (batch,)),
        as_values(L, "L of elbo_terms(...)", (s.truth.T + 1, batch)),
        as_values(L_0, "L_0 of elbo_terms(...)", (batch,)),
    )


def _decodable(s: Subject) -> dict[str, Values]:
    """Variances with sigma_1^2 > 0: where a sampler's is 0, any usual one may stand in for it."""
    result = {}
    for name, table in s.variance_choices().items():
        if table[1] > 1e-9 * s.truth.beta[1]:
            result[name] = table
            continue
        for other, usual in usual_variances(s.truth).items():
            result[f"{name}, but at t = 1 {other}"] = np.concatenate([[0.0], usual[1:2], table[2:]])
    return result


def _prior_row(truth: Truth, x0: Values, L_T: Values) -> Comparison:
    mean, variance = truth.slope[-1] * x0, float(truth.variance[-1])
    expected = -_kl_by_quadrature(mean, variance, 0.0 * mean, 1.0).sum(axis=1)[None]
    scale = x0.shape[1] * (1.0 + np.log(1.0 / variance)) + np.sum(mean**2, axis=1)[None]
    per_step = -_kl_by_quadrature(mean, float(truth.beta[-1]), 0.0 * mean, 1.0).sum(axis=1)[None]
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


def _middle_row(s: Subject, x0: Values, x: Values, t: Times, L: Values) -> Comparison:
    truth = s.truth
    gain, offset = denoiser(truth)
    column = (slice(None), None, None)
    posterior = truth.c_xt[column] * x + truth.c_x0[column] * x0
    eps = gain[column] * x + offset[column]
    mean = x / np.sqrt(truth.alpha)[column] + truth.mean_eps[column] * eps
    tilde = truth.posterior_variance

    def terms(sigma2: Values) -> Values:
        result = np.zeros(L.shape)
        for time in t.tolist():
            kl = _kl_by_quadrature(posterior[time], float(tilde[time]), mean[time], float(sigma2[time]))
            result[time] = -kl.sum(axis=1)
        return result

    choices = s.variance_choices()
    tables = {name: terms(table) for name, table in choices.items()}
    name = closest({key: table[t] for key, table in tables.items()}, L[t])
    sigma2 = choices[name][:, None, None]
    square = np.sum((posterior - mean)[t] ** 2 / (2.0 * sigma2[t]), axis=2)
    slips = {
        f"sigma_t^2 is {key} here, elsewhere {name}": terms(table)[t]
        for key, table in usual_variances(truth).items()
    }
    slips["the sign is wrong: L_{t-1} = -KL <= 0"] = -tables[name][t]
    slips["the constant of (33) is left out"] = -square
    return Comparison(
        t,
        L[t],
        tables[name][t],
        scale=2.0 * square + x0.shape[1] * np.ones_like(square),
        loss=1.0 + np.max(np.abs(mean), axis=(1, 2))[t] / np.sqrt(choices[name][t]),
        table=tables[name],
        candidates=slips,
        hint="L_{t-1} = -KL(q(x_{t-1} | x_t, x_0) || N(model mean, sigma_t^2 I)), summed over d",
        note=f"sigma_t^2 is {name}",
    )


def _reconstruction_row(s: Subject, x0: Values, x_1: Values, L_0: Values) -> Comparison:
    truth = s.truth
    gain, offset = denoiser(truth)
    mean = truth.model_mean(x_1, 1, gain[1] * x_1 + offset[1])

    def score(variance: float) -> Values:
        result: Values = log_normal(x0, mean, variance).sum(axis=1)[None]
        return result

    choices = {key: float(table[1]) for key, table in _decodable(s).items()}
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


def _kl_by_quadrature(mean_1: Values, var_1: float, mean_2: Values, var_2: float) -> Values:
    """KL of two normal laws as the expectation of log p_1 - log p_2; elementwise, nats."""
    total: Values = np.zeros_like(mean_1)
    for node, weight in zip(NODES.tolist(), WEIGHTS.tolist(), strict=True):
        x = mean_1 + np.sqrt(var_1) * node
        total += weight * (log_normal(x, mean_1, var_1) - log_normal(x, mean_2, var_2))
    return total
