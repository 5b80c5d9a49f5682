"""Checks of the bound, with a network that is known exactly."""

import numpy as np

from ddpm_np._arrays import Table
from ddpm_np.testing._affine_model import (
    MEAN,
    VARIANCE,
    gap_and_evidence,
    recording_predictor,
)
from ddpm_np.testing._announced_decoder import HARMLESS, beside, loss_of, rarity, with_between
from ddpm_np.testing._bound_decoder import reconstruction, with_implied
from ddpm_np.testing._bound_steps import Steps, variances_of_bound
from ddpm_np.testing._comparison import Comparison, nothing
from ddpm_np.testing._levels import Placed, on_levels, score_of
from ddpm_np.testing._probes import PROBE
from ddpm_np.testing._quadrature import NODES, WEIGHTS, kl_by_quadrature, log_normal
from ddpm_np.testing._rows import Check, Identity
from ddpm_np.testing._subject import Subject, as_values
from ddpm_np.testing._truth import TimeArray, Truth
from ddpm_np.testing._units import in_other_units
from ddpm_np.testing._variances import (
    BETWEEN,
    closest,
    decoder_variances,
    usual_variances,
)
from ddpm_np.testing.protocol import Values

BLIND = "eps says nothing at T, where beta is 1"
CLEAR = 1e-3  # the tolerance that L_T is worth being asked for again
SMALLEST_SLOPE = 1e-6


def elbo_terms(subject: Subject) -> list[Comparison | None]:
    """Every term for random observations and noise."""
    truth = subject.truth
    x0 = MEAN + np.sqrt(VARIANCE) * subject.rng(3).standard_normal(PROBE.shape)
    x0 = on_levels(x0, subject.claims.levels)
    noise = subject.rng(4).standard_normal((truth.T + 1, *PROBE.shape))
    predict, asked = recording_predictor(truth, subject.claims.target)
    L_T, L, L_0 = subject.elbo_terms(predict, x0, noise)
    x = truth.slope[:, None, None] * x0 + truth.sigma[:, None, None] * noise
    return [
        _noisy_inputs(truth, asked.copy(), x0, noise, x),
        _prior(subject, x0, L_T, noise),
        _middle(subject, Steps.of(truth, x0, x), L),
        reconstruction(subject, x0, x[1], L_0),
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
    early = signal + truth.sigma[:, None, None] * np.roll(noise, 1, 0)
    late = signal + truth.sigma[:, None, None] * np.roll(noise, -1, 0)
    slips = {
        "the noise is multiplied by 1 - alpha_bar[t] without its square root (E2)": rootless[1:],
        "x0 is multiplied by alpha_bar[t] without its square root": x[1:]
        + (truth.alpha_bar - truth.slope)[1:, None, None] * x0,
        "noise[t - 1] is used at t": early[1:],
        "noise[t + 1] is used at t": late[1:],
        **{
            f"noise[{name}] is used at every t": (signal + truth.sigma[:, None, None] * one)[1:]
            for name, one in {"1": noise[1], "T": noise[-1], "0": noise[0]}.items()
        },
        "x0 itself: no noise is added": np.broadcast_to(x0, x[1:].shape),
        "the sign of the noise is wrong": 2.0 * signal[1:] - x[1:],
    }
    return Comparison(t, seen, x[1:], scale=np.abs(x[1:]) + 1.0, table=x, candidates=slips)


def _prior(subject: Subject, x0: Values, L_T: Values, noise: Values) -> Comparison:
    """L_T, asked for again with an x0 that is seen in x_T where rounding would hide it.

    Observations on levels are not that large.
    """
    truth = subject.truth
    first, slope = _prior_of(truth, x0, L_T), float(truth.slope[-1])
    single = subject.precision(("elbo_terms",)).results
    dtype = "float32" if single else subject.claims.dtype
    unclear = truth.tolerance(first.times, dtype) * first.cancellation > CLEAR
    if not unclear.any() or slope < SMALLEST_SLOPE or subject.claims.levels is not None:
        return first
    visible = 2.0 * PROBE / slope
    predict, _ = recording_predictor(truth, subject.claims.target)
    return _prior_of(truth, visible, subject.elbo_terms(predict, visible, noise)[0])


def _prior_of(truth: Truth, x0: Values, L_T: Values) -> Comparison:
    mean, variance = truth.slope[-1] * x0, float(truth.variance[-1])
    expected = -kl_by_quadrature(mean, variance, 0.0 * mean, 1.0).sum(axis=1)[None]
    hint = "L_T = -KL(q(x_T | x_0) || N(0, I)), summed over dimensions"
    if truth.slope[-1] < SMALLEST_SLOPE:  # it is 0, to rounding
        return Comparison(
            np.array([truth.T]), L_T[None], expected, scale=x0.shape[1] + 0.0 * expected, hint=hint
        )
    scale = x0.shape[1] * (1.0 + np.log(1.0 / variance)) + np.sum(mean**2, axis=1)[None]
    per_step = -kl_by_quadrature(mean, float(truth.beta[-1]), 0.0 * mean, 1.0).sum(axis=1)[None]
    deviation = -kl_by_quadrature(mean, np.sqrt(variance), 0.0 * mean, 1.0).sum(axis=1)[None]
    slips = {
        "the sign is wrong: L_T = -KL <= 0": -expected,
        "the law of the last step, not of x_T given x0 (E8)": per_step,
        "the standard deviation is taken for the variance": deviation,
        "0: the prior term is left out": 0.0 * expected,
        "the mean alone: -||mean||^2 / 2, without the variance": -0.5 * np.sum(mean**2, axis=1)[None],
        "the mean is left out, though x_T holds sqrt(alpha_bar[T]) x0": expected
        + 0.5 * np.sum(mean**2, axis=1)[None],
        "the logarithm of the variance is left out": expected - 0.5 * x0.shape[1] * np.log(variance),
        "the variance is squared: 1 - alpha_bar[T] is no standard deviation": -kl_by_quadrature(
            mean, variance**2, 0.0 * mean, 1.0
        ).sum(axis=1)[None],
        **in_other_units(expected, x0.shape[1]),
    }
    return Comparison(
        np.array([truth.T]),
        L_T[None],
        expected,
        scale=np.abs(expected),  # of a slip too, which may be far closer to 0
        cancellation=float(np.max(scale / np.maximum(-expected, 1e-300))),
        candidates=slips,
        hint=hint,
    )


def _middle(subject: Subject, steps: Steps, L: Values) -> Comparison:
    """L_{t-1} for t = 2..T."""
    truth, t = subject.truth, _times_with_terms(subject)
    if len(t) == 0:
        return nothing("")
    name, table, guesses = variances_of_bound(subject, steps, t, L)
    sigma2, d = table[t], PROBE.shape[1]
    terms, squares = steps.terms(table), steps.squares[t]
    expected = terms[t]
    square = squares / (2.0 * sigma2[:, None])
    slips: dict[str, Values] = {}
    for key, variances in (usual_variances(truth) if guesses else {name: table}).items():
        given = f" (sigma_t^2 is {key})" if guesses else ""
        full, half = steps.terms(variances)[t], squares / (2.0 * variances[t, None])
        own_slips = {
            "the sign is wrong: L_{t-1} = -KL <= 0": -full,
            "the constant of (33) is left out": -half,
            "||difference of the means||^2 / sigma_t^2: the 2 is missing": full - half,
            "the -1 is left out: d / 2 too much": full - 0.5 * d,
            "the logarithm is upside down: log(beta_tilde[t] / sigma_t^2)": full
            + d * np.log(variances[t] / truth.posterior_variance[t])[:, None],
            "the logarithm is left out": full
            + 0.5 * d * np.log(variances[t] / truth.posterior_variance[t])[:, None],
            "KL(p || q): the divergence is the wrong way round": steps.terms(variances, reversed=True)[
                t
            ],
            "the standard deviation is taken for the variance": steps.terms(np.sqrt(variances))[t],
            **in_other_units(full, d),
        }
        slips |= {f"{text}{given}": values for text, values in own_slips.items()}
    if not guesses:
        for key, variances in usual_variances(truth).items():
            slips[f"sigma_t^2 is {key} here, elsewhere {name}"] = steps.terms(variances)[t]
    # sigma_t^2 was read off differences of L; it matters as much as there is room for it.
    room = 1.0 - truth.posterior_variance[t] / truth.beta[t]
    sharpness = d * room / np.maximum(np.ptp(square, axis=1), 1e-12) if name == BETWEEN else 0.0
    return Comparison(
        t,
        L[t],
        expected,
        scale=2.0 * square + d,
        loss=1.0 + sharpness + np.max(np.abs(steps.mean), axis=(1, 2))[t] / np.sqrt(sigma2),
        table=None if guesses else terms,
        candidates=slips,
        guesses=guesses,
        hint="L_{t-1} = -KL(q(x_{t-1} | x_t, x_0) || N(model mean, sigma_t^2 I)), summed over d",
        note=f"sigma_t^2 is {name}",
    )


def _times_with_terms(subject: Subject) -> TimeArray:
    """From 2 to T, but without T if eps is predicted and says nothing there."""
    t = np.arange(2, subject.truth.T + 1)
    return subject.truth.with_signal(t) if subject.claims.target == "eps" else t


def evidence(subject: Subject) -> list[Comparison]:
    """E over the noise, by quadrature, of the sum of the terms is log p(x_0) less the gap.

    Both are known for a Gaussian decoder; where another is announced, its L_0 stands for the Gaussian.
    """
    truth, T, claims = subject.truth, subject.truth.T, subject.claims
    if claims.target == "eps" and truth.alpha[T] == 0.0:
        return [nothing(BLIND)]
    features = np.array([-0.7, 0.1, 1.2])
    if claims.levels is not None:
        features = on_levels(np.array([-1.0, 0.1, 1.0]), claims.levels)
    signs = (-1.0) ** np.arange(T + 1)
    noise = signs[:, None, None] * (NODES[:, None] * np.ones((3, 3)))
    x0 = np.tile(features, (3, 1))
    score, gaussian, near = score_of(claims), Placed.by(truth, x0, noise[1]), beside(subject, x0)
    if score is not None:
        noise[1] = near.noise
    predict, _ = recording_predictor(truth, claims.target)
    L_T, L, L_0 = subject.elbo_terms(predict, x0, noise)
    measured = np.array([[float(WEIGHTS @ (L_T + L.sum(axis=0) + L_0))]])
    x = truth.slope[:, None, None] * x0 + truth.sigma[:, None, None] * noise
    steps, t = Steps.of(truth, x0, x), np.arange(2, T + 1)
    name, table, guesses = variances_of_bound(subject, steps, t, L) if T > 1 else _only_step(subject)
    squares = np.sum((x0 - gaussian.mean) ** 2, axis=1)
    options = decoder_variances(subject)
    if score is None:
        options = with_implied(truth, options, squares, L_0)
    else:
        options = with_between(truth, options, score, near, L_0)
    expected, scales = {}, {}
    for key, at_1 in options.items():
        sigma2 = np.concatenate([[0.0, at_1], table[2:]])
        gap, log_p = gap_and_evidence(truth, features, sigma2)
        expected[key] = np.array([[log_p.sum() - gap.sum()]])
        scales[key] = 1.0 + gap.sum() + np.abs(log_p).sum() + 1.5 * abs(np.log(at_1))
        if score is not None:
            old, new = log_normal(x0, gaussian.mean, at_1).sum(axis=1), score(x0, near.mean, at_1)
            expected[key] += WEIGHTS @ (new - old)
            scales[key] += WEIGHTS @ (np.abs(new) + np.abs(old))
    best = closest(expected, measured)
    smallest = min([options[best], *table[2:].tolist()])
    loss = 4.0 + 4.0 / float(np.sqrt(smallest))
    if score is not None:
        loss += float(loss_of(subject, near, options[best], scales[best])[0])
        added = HARMLESS * float(WEIGHTS @ rarity(subject, near, options[best]))
        expected[best] = np.clip(measured, expected[best], expected[best] + added)
    return [
        Comparison(
            np.array([(T + 1) // 2]),
            measured,
            expected[best],
            scale=np.array([[scales[best]]]),
            loss=loss,
            candidates=in_other_units(expected[best], x0.shape[1]),
            guesses=expected if guesses or len(expected) > 1 else {},
            hint="the terms do not add up to the bound; the rows above say which one is wrong",
            note=f"sigma_t^2 is {name}",
        )
    ]


def _only_step(subject: Subject) -> tuple[str, Table, dict[str, Values]]:
    """As the variances of the bound, if there is no term between its ends."""
    return next(iter(decoder_variances(subject))), np.zeros(2), {}


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
        whole=True,
    ),
    Check(
        ("elbo_terms",),
        evidence,
        (Identity("elbo_terms: sum = log p(x0) - KL(q || p)", "M2 (3), p. 25"),),
        whole=True,
    ),
)
