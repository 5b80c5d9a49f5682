"""Weights of a squared error as functions of t: the bound's for each target, and others in use.

One loss has another weight in another target, as their errors are multiples of each other:
||eps - prediction||^2 = SNR ||x0 - prediction||^2, and so on.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from ddpm_np._arrays import Table
from ddpm_np.targets import TARGETS, Target
from ddpm_np.testing._truth import LARGEST_IMPRECISION, TimeArray, Truth
from ddpm_np.testing.protocol import Values

CALLED: dict[Target, str] = {"eps": "eps", "x0": "x0", "v": "v", "mean": "the mean"}


class KnownWeight(NamedTuple):
    """A weight by name; ``own`` says that it is one of its target, ``factor`` how often it was found."""

    text: str
    values: Values
    factor: float
    own: bool


def bound_weight(truth: Truth, target: Target, sigma2: Table) -> Table:
    """The weight in -L_{t-1}: the squared shift of the mean over 2 sigma_t^2; entry 0 unused."""
    shift = {
        "eps": truth.mean_eps,
        "x0": truth.c_x0,
        "v": truth.c_x0 * truth.sigma,
        "mean": np.ones(truth.T + 1),
    }
    with np.errstate(all="ignore"):
        return shift[target] ** 2 / (2.0 * sigma2)


def recognise_weight(
    truth: Truth, target: Target, t: TimeArray, weights: Values, variances: Mapping[str, Table]
) -> KnownWeight | None:
    """The first known weight that is proportional to these, those of the target before others'."""
    with np.errstate(all="ignore"):
        for meant in sorted(TARGETS, key=lambda other: other != target):
            for text, values in _known(truth, meant, target, t, weights, variances):
                factor = proportional(truth, t, weights, values)
                if factor is not None:
                    return KnownWeight(text, values, factor, meant == target)
    return None


def proportional(truth: Truth, t: TimeArray, weights: Values, values: Values) -> float | None:
    """The factor between two weights, if there is one; T may be left out, where the SNR can be 0."""
    usable = np.isfinite(values) & (values > 0.0)
    if usable.sum() < max(len(t) - 1, 1):
        return None
    ratio = (weights / values)[usable]
    factor = float(np.median(ratio))
    return factor if np.all(np.abs(ratio / factor - 1.0) <= weight_limit(truth, t)[usable]) else None


def weight_limit(truth: Truth, t: TimeArray) -> Values:
    """Relative error of a weight up to which it is taken for another: what float32 tables explain."""
    limit = np.nan_to_num(4.0 * truth.imprecision(t), nan=1.0)
    return np.clip(limit, 1e-5, 2.0 * LARGEST_IMPRECISION)


def usual_weights(
    truth: Truth, target: Target, t: TimeArray, variances: Mapping[str, Table]
) -> dict[str, Values]:
    """Weights of the error of a target without a constant to be fitted, by name."""
    ratios = _error_ratios(truth)
    with np.errstate(all="ignore"):
        return {
            "1 at every t": np.ones(len(t)),
            **{
                f"1 for the error of {CALLED[other]}": (ratios[other] / ratios[target])[t]
                for other in TARGETS
                if other != target
            },
            **{
                f"the bound's, sigma_t^2 = {name}": bound_weight(truth, target, sigma2)[t]
                for name, sigma2 in variances.items()
            },
        }


def _known(
    truth: Truth,
    meant: Target,
    target: Target,
    t: TimeArray,
    weights: Values,
    variances: Mapping[str, Table],
) -> Iterator[tuple[str, Values]]:
    """Weights of the error of ``meant``, by name, among them the families with a constant that fit."""
    before = "" if meant == target else f"the weight of {CALLED[meant]}, not of {CALLED[target]}: "
    ratios = _error_ratios(truth)
    own, snr = ratios[meant][t], ratios["eps"][t]
    in_x0 = weights * own
    for text, values in usual_weights(truth, meant, t, variances).items():
        yield before + text, values
    for text, values in (*_min_snr(snr, in_x0), *_truncated_snr(snr, in_x0)):
        yield before + text, values / own
    if meant == target:
        yield from ((text, values * snr / own) for text, values in _p2(snr, in_x0 / snr))


def _error_ratios(truth: Truth) -> dict[Target, Table]:
    """The squared error of each target over that of x0, length T + 1; entry 0 unused."""
    with np.errstate(all="ignore"):
        snr = truth.alpha_bar / truth.variance
    return {"eps": snr, "x0": np.ones_like(snr), "v": snr + 1.0, "mean": truth.c_x0**2}


def _min_snr(snr: Values, in_x0: Values) -> Iterator[tuple[str, Values]]:
    """Hang et al. 2023: min(SNR, gamma) ||x0 - prediction||^2, for the gamma that fits best."""
    usable = snr > 0.0
    factor = np.max((in_x0 / snr)[usable], initial=0.0)
    capped = usable & (in_x0 < 0.99 * factor * snr)
    if min(capped.sum(), (usable & ~capped).sum()) >= 2:
        gamma = float(np.median(in_x0[capped])) / factor
        yield f"min-SNR with gamma = {gamma:.4g}", np.minimum(snr, gamma)


def _truncated_snr(snr: Values, in_x0: Values) -> Iterator[tuple[str, Values]]:
    """Salimans & Ho 2022: max(SNR, 1) ||x0 - prediction||^2, for any constant."""
    usable = snr > 0.0
    factor = np.min((in_x0 / snr)[usable], initial=np.inf)
    raised = usable & (in_x0 > 1.01 * factor * snr)
    if min(raised.sum(), (usable & ~raised).sum()) >= 2:
        least = float(np.median(in_x0[raised])) / factor
        yield f"truncated SNR, max(SNR, {least:.4g})", np.maximum(snr, least)


def _p2(snr: Values, in_eps: Values) -> Iterator[tuple[str, Values]]:
    """Choi et al. 2022: (k + SNR)^-gamma ||eps - prediction||^2, for the k and gamma that fit best."""
    usable = (snr > 0.0) & (in_eps > 0.0)
    if usable.sum() < 8:
        return
    logs = np.log(in_eps[usable])
    logs -= np.mean(logs)

    def fit(log_k: float) -> tuple[float, float, float]:
        base = np.log(np.exp(log_k) + snr[usable])
        base -= np.mean(base)
        gamma = -float(base @ logs) / float(base @ base)
        return float(np.sum((logs + gamma * base) ** 2)), log_k, gamma

    centre, width = 0.0, float(np.log(100.0))
    for _ in range(40):
        _, centre, gamma = min(fit(log_k) for log_k in np.linspace(centre - width, centre + width, 21))
        width *= 0.4
    k = float(np.exp(centre))
    if 0.01 <= k <= 100.0 and 0.05 <= gamma <= 5.0:
        yield f"P2, (k + SNR)^-gamma with k = {k:.4g}, gamma = {gamma:.4g}", (k + snr) ** -gamma
