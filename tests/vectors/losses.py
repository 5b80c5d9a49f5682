"""Weights of the losses in the bound, and what a perfect prediction still costs."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tests.vectors.cases import Draft, Function
from tests.vectors.chain import (
    BETA,
    DEEP,
    HO,
    LINEAR,
    ONE,
    PER_EXAMPLE,
    SHARP,
    SIGMA2,
    THREE,
    TIMES,
    TINY,
    UNEVEN,
    Chain,
    log,
)
from tests.vectors.draws import f32
from tests.vectors.forward import visible
from tests.vectors.reverse import TARGETS, variances


def mean_loss_weight(beta: Any, t: Any, sigma2: Any) -> dict[str, Any]:
    """Of the mean itself."""
    return {"weight": 1 / (2 * sigma2[t])}


def eps_loss_weight(beta: Any, t: Any, sigma2: Any) -> dict[str, Any]:
    """Of the noise: the square of its coefficient in (34)."""
    chain = Chain(beta)
    return {"weight": chain.beta[t] ** 2 / (2 * sigma2[t] * chain.alpha[t] * (1 - chain.alpha_bar[t]))}


def x0_loss_weight(beta: Any, t: Any, sigma2: Any) -> dict[str, Any]:
    """Of x_0: the square of its coefficient in (26)."""
    return {"weight": Chain(beta).c_x0(t) ** 2 / (2 * sigma2[t])}


def v_loss_weight(beta: Any, t: Any, sigma2: Any) -> dict[str, Any]:
    """Of the velocity: x_0 = sqrt(alpha_bar) x_t - sqrt(1 - alpha_bar) v in (26)."""
    chain = Chain(beta)
    return {"weight": chain.c_x0(t) ** 2 * (1 - chain.alpha_bar[t]) / (2 * sigma2[t])}


def loss_constant(beta: Any, t: Any, sigma2: Any, d: int) -> dict[str, Any]:
    """The divergence of two Gaussians of one mean."""
    ratio = Chain(beta).posterior_variance(t) / sigma2[t]
    return {"constant": -d * (ratio - 1 - log(ratio)) / 2}


def min_snr_weight(beta: Any, t: Any, k: Any, target: str) -> dict[str, Any]:
    """A loss on x_0, its weight limited; in the others as they hang together with x_0."""
    chain = Chain(beta)
    snr = chain.alpha_bar[t] / (1 - chain.alpha_bar[t])
    share = {"x0": 1, "eps": snr, "v": snr + 1, "mean": chain.c_x0(t) ** 2}[target]
    return {"weight": np.minimum(snr, k) / share}


# --- cases --------------------------------------------------------------------------------

OWN = f32([0.0, 0.75, 0.03125, 0.5, 0.0078125, 0.25])
"""Variances of no schedule, far from their neighbours."""


def _settings(first: int) -> Iterator[tuple[dict[str, Any], str]]:
    def case(beta: Any, t: list[int], sigma2: Any) -> dict[str, Any]:
        return {"beta": beta, "t": [time for time in t if time >= first], "sigma2": sigma2}

    uneven = [1, 2, 3, 4, 5]
    yield case(UNEVEN, uneven, variances(UNEVEN, "posterior")), "all times, variances beta_tilde"
    yield case(UNEVEN, uneven, variances(UNEVEN, "beta")), "all times, variances beta"
    yield case(UNEVEN, uneven, variances(UNEVEN, "unit")), "all times, unit variances"
    yield case(UNEVEN, [5, 2, 4], OWN), "times that fall, variances of no schedule"
    yield case(LINEAR, [10, 1, 6], variances(LINEAR, "beta")), "t = T and in between"
    yield case(SHARP, [2, 3, 4], variances(SHARP, "beta")), "betas near 1: alpha_t is far from 1"
    yield case(TINY, [1, 2, 4], variances(TINY, "beta")), "betas of 1e-6"
    yield case(DEEP, [6, 1, 5], variances(DEEP, "posterior")), "an alpha_bar of 1e-5"
    yield case(HO, [1, 2, 50], variances(HO, "beta")), "fifty steps"
    yield case(THREE, [3], variances(THREE, "posterior")), "t = T"
    if first == 1:
        yield case(ONE, [1], variances(ONE, "beta")), "T = 1"


def _weights(flags: list[str]) -> Callable[[], Iterator[Draft]]:
    def cases() -> Iterator[Draft]:
        for inputs, note in _settings(first=1):
            yield inputs, visible(flags, inputs["t"], len(inputs["beta"])), note

    return cases


def sums(d: int) -> list[str]:
    """A mean over one dimension is a sum."""
    return ["mean-for-sum"] if d > 1 else []


def _loss_constant() -> Iterator[Draft]:
    for n, (inputs, note) in enumerate(_settings(first=2)):
        d = (1, 2, 3, 784, 2, 1, 2, 3, 1, 2)[n]
        if note.endswith("beta_tilde") or n in (7, 9):
            continue  # 0 but for the rounding of sigma2
        yield {**inputs, "d": d}, ["sign", *sums(d), "inverted-ratio"], f"{note}; d = {d}"
    # where beta_tilde_2 is 1/11
    for variance, flag, note in (
        (0.09375, "cancellation", "near beta_tilde, where r - 1 and log(r) are almost one"),
        (128.0, "inverted-ratio", "a variance a thousand times too large"),
        (0.001953125, "inverted-ratio", "a variance that is far too small"),
    ):
        yield (
            {"beta": f32([0.125, 0.25]), "t": [2], "sigma2": [0.0, variance, variance], "d": 2},
            [flag],
            note,
        )


def _min_snr() -> Iterator[Draft]:
    for target in TARGETS:
        limits = (5.0, 0.5, 1000.0, 5.0)
        settings = ((LINEAR, [1, 3, 6, 10]), (UNEVEN, [1, 2, 3, 4, 5]), (HO, [1, 2, 50]), (ONE, [1]))
        for k, (beta, t) in zip(limits, settings, strict=True):
            inputs = {"beta": beta, "t": t, "k": k, "target": target}
            flags = ["target", "min-for-max"]
            yield (
                inputs,
                flags if target == "eps" else [*flags, "weight-of-eps"],
                f"{target}, limit {k:g}",
            )


WEIGHTED = {"beta": BETA, "t": TIMES, "sigma2": SIGMA2}
WEIGHT = {"weight": PER_EXAMPLE}
FUNCTIONS = [
    Function(
        "eps_loss_weight",
        "M2 (35)",
        "weight = beta[t]^2 / (2 sigma2[t] alpha[t] (1 - alpha_bar[t]));"
        " -L_{t-1} has weight ||eps - prediction||^2",
        WEIGHTED,
        WEIGHT,
        eps_loss_weight,
        _weights(["E1", "E10", "alpha-for-alpha_bar"]),
    ),
    Function(
        "x0_loss_weight",
        "L 6.2",
        "weight = alpha_bar[t-1] beta[t]^2 / (2 sigma2[t] (1 - alpha_bar[t])^2);"
        " -L_{t-1} has weight ||x0 - prediction||^2",
        WEIGHTED,
        WEIGHT,
        x0_loss_weight,
        _weights(["off-by-one", "alpha-for-alpha_bar"]),
    ),
    Function(
        "v_loss_weight",
        "Salimans & Ho 2022",
        "weight = alpha_bar[t] beta[t]^2 / (2 sigma2[t] alpha[t] (1 - alpha_bar[t]));"
        " -L_{t-1} has weight ||v - prediction||^2",
        WEIGHTED,
        WEIGHT,
        v_loss_weight,
        _weights(["E1", "alpha-for-alpha_bar"]),
    ),
    Function(
        "mean_loss_weight",
        "M2 (32), (33)",
        "weight = 1 / (2 sigma2[t]); -L_{t-1} has weight ||posterior mean - prediction||^2",
        WEIGHTED,
        WEIGHT,
        mean_loss_weight,
        _weights(["off-by-one", "missing-half"]),
    ),
    Function(
        "loss_constant",
        "M2 (32), (33)",
        "constant = -(d / 2) (r - 1 - log(r)), r = posterior_variance[t] / sigma2[t]",
        {"beta": BETA, "t": f"{TIMES}, t >= 2", "sigma2": SIGMA2, "d": "dimensions of one example"},
        {"constant": PER_EXAMPLE},
        loss_constant,
        _loss_constant,
    ),
    Function(
        "min_snr_weight",
        "Hang et al. 2023",
        "with snr = alpha_bar[t] / (1 - alpha_bar[t]): min(snr, k) for x0, over snr for eps,"
        " over snr + 1 for v, over the square of (26)'s coefficient of x_0 for mean",
        {"beta": BETA, "t": TIMES, "k": "limit", "target": '"eps", "x0", "mean" or "v"'},
        WEIGHT,
        min_snr_weight,
        _min_snr,
    ),
]
