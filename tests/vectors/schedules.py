"""Schedules, shorter chains, and which times they visit."""

import functools
import itertools
from collections.abc import Iterator
from typing import Any

import mpmath
import numpy as np

from tests.vectors.cases import Draft, Function
from tests.vectors.chain import (
    BETA,
    DEEP,
    GROWING,
    HO,
    LINEAR,
    ONE,
    SHARP,
    THREE,
    TINY,
    UNEVEN,
    Chain,
    log,
    root,
)
from tests.vectors.draws import f32, rounded

Tables = dict[str, Any]
NAMES = ("beta", "alpha_bar", "log_alpha_bar", "one_minus_alpha_bar", "posterior_variance")


def tables(beta: Any, at: Any) -> Tables:
    """All tables of a chain, at some times."""
    chain = Chain(beta)
    alpha_bar, after_0 = chain.alpha_bar[at], np.maximum(at, 1)
    return {
        "beta": chain.beta[at],
        "alpha_bar": alpha_bar,
        "log_alpha_bar": log(alpha_bar),
        "one_minus_alpha_bar": 1 - alpha_bar,
        "posterior_variance": np.where(at > 0, chain.posterior_variance(after_0), mpmath.mpf(0)),
    }


# --- beta_1 ... beta_T of each name -------------------------------------------------------


@functools.cache
def ramp(T: int) -> Any:
    """From 0 to 1; for T = 1, just 0."""
    return np.array([mpmath.mpf(i) / max(T - 1, 1) for i in range(T)])


def linear_schedule(T: int, beta_1: Any, beta_T: Any, at: Any) -> Tables:
    """Evenly from beta_1 to beta_T."""
    return {"beta": beta_1 + (beta_T - beta_1) * ramp(T), "at": at}


def scaled_linear_schedule(T: int, beta_1: Any, beta_T: Any, at: Any) -> Tables:
    """The same, times 1000 / T."""
    return {"beta": linear_schedule(T, beta_1, beta_T, at)["beta"] * 1000 / T, "at": at}


def quadratic_schedule(T: int, beta_1: Any, beta_T: Any, at: Any) -> Tables:
    """Evenly in the root of beta."""
    first, last = mpmath.sqrt(beta_1), mpmath.sqrt(beta_T)
    return {"beta": (first + (last - first) * ramp(T)) ** 2, "at": at}


def sigmoid_schedule(T: int, beta_1: Any, beta_T: Any, width: Any, at: Any) -> Tables:
    """Along a sigmoid."""
    u = [width * (2 * share - 1) for share in ramp(T)]
    shares = np.array([1 / (1 + mpmath.exp(-x)) for x in u])
    return {"beta": beta_1 + (beta_T - beta_1) * shares, "at": at}


def cosine_schedule(T: int, s: Any, max_beta: Any, at: Any) -> Tables:
    """From a cosine, up to a limit."""
    f = [mpmath.cos((mpmath.mpf(t) / T + s) / (1 + s) * mpmath.pi / 2) ** 2 for t in range(T + 1)]
    beta = [min(1 - now / before, max_beta) for before, now in itertools.pairwise(f)]
    return {"beta": np.array(beta), "at": at}


def log_snr_schedule(T: int, noise: Any, signal: Any, at: Any) -> Tables:
    """Evenly in the logarithm of signal to noise."""
    first, last = mpmath.log(1 / noise**2 - 1), -mpmath.log(1 / signal**2 - 1)
    alpha_bar = [1 / (1 + mpmath.exp(-(first + (last - first) * share))) for share in ramp(T)]
    return {"alpha_bar": np.array([mpmath.mpf(1), *alpha_bar]), "at": at}


def tables_of_alpha_bar(alpha_bar: Any, at: Any) -> Tables:
    """Tables from the products."""
    alpha_bar = np.array([mpmath.mpf(1), *alpha_bar[1:]])  # the 1 is no measured number
    return tables(1 - alpha_bar[1:] / alpha_bar[:-1], at)


def respaced_schedule(beta: Any, times: Any) -> Tables:
    """Tables of the chain that visits some times."""
    alpha_bar = Chain(beta).alpha_bar[[0, *times]]
    found = tables(1 - alpha_bar[1:] / alpha_bar[:-1], np.arange(len(times) + 1))
    del found["log_alpha_bar"]
    return found


def zero_terminal_snr(beta: Any) -> Tables:
    """Roots of alpha_bar, shifted and stretched."""
    signal = root(Chain(beta).alpha_bar[1:])
    stretched = (signal - signal[-1]) * (signal[0] / (signal[0] - signal[-1]))
    alpha_bar = np.array([mpmath.mpf(1), *stretched**2])
    beta = np.array([mpmath.mpf(0), *(1 - alpha_bar[1:] / alpha_bar[:-1])])
    return {"beta": beta, "alpha_bar": alpha_bar, "one_minus_alpha_bar": 1 - alpha_bar}


# --- cases --------------------------------------------------------------------------------

HO_1, HO_T = f32(1e-4), f32(0.02)
LONG = [0, 1, 2, 3, 100, 1000, 5000, 9999, 10000]
THOUSAND = [0, 1, 2, 10, 250, 500, 750, 999, 1000]


def _ends(flags: list[str], smallest: int) -> Iterator[tuple[dict[str, Any], list[str], str]]:
    """T, beta_1, beta_T, at for those schedules that lead from one beta to another."""
    usual, scale = {"beta_1": HO_1, "beta_T": HO_T}, {"beta_1": f32(0.0625), "beta_T": f32(0.5)}
    yield {"T": 1000, **usual, "at": THOUSAND}, flags, "the usual range at T = 1000"
    low = {"beta_1": f32(2e-4), "beta_T": f32(6e-3)}
    yield {"T": 100, **low, "at": [0, 1, 2, 3, 50, 99, 100]}, ["off-by-one"], "beta_1 at t = 1, not at 0"
    for T in (50, 5, 2, 1):
        if smallest > T:
            continue
        at = sorted({0, 1, 2, T // 2, T - 1, T} & {*range(T + 1)})
        note = "T = 1: the schedule is beta_1" if T == 1 else f"T = {T}: beta_T at t = T, the last step"
        yield {"T": T, **usual, "at": at}, ["off-by-one", *(flags if T > 2 else [])], note
    if smallest == 1:
        wide = "betas up to 1/2: beta_tilde is far from beta"
        yield {"T": 10, **scale, "at": [*range(11)]}, ["alpha-for-alpha_bar", "E5"], wide
    down = {"beta_1": f32(4e-3), "beta_T": f32(5e-4)}
    yield {"T": 200, **down, "at": [0, 1, 100, 199, 200]}, ["swapped"], "beta falls from beta_1"
    flat = {"beta_1": f32(2e-3), "beta_T": f32(2e-3)}
    yield {"T": 40, **flat, "at": [0, 1, 20, 40]}, [], "all betas are one"


def _linear() -> Iterator[Draft]:
    yield from _ends(["E5"], smallest=1)
    note = "T = 10000: a product kept in float32 has lost its digits"
    yield {"T": 10000, "beta_1": f32(1e-5), "beta_T": f32(2e-3), "at": LONG}, ["float32-product"], note


def _scaled() -> Iterator[Draft]:
    for inputs, flags, note in _ends(["missing-scale"], smallest=25):
        yield inputs, [] if inputs["T"] == 1000 else flags, note
    last = {"T": 25, "beta_1": HO_1, "beta_T": HO_T, "at": [0, 1, 24, 25]}
    yield last, ["missing-scale"], "beta_T = 0.8 after scaling by 40"


def _quadratic() -> Iterator[Draft]:
    yield from _ends(["scaled-linear-name"], smallest=1)


def _sigmoid() -> Iterator[Draft]:
    for width, (inputs, flags, note) in zip((6, 6, 4, 8, 6, 3, 6, 2, 6, 6), _ends([], 1), strict=False):
        at = inputs.pop("at")
        own = ["width"] if inputs["beta_1"] != inputs["beta_T"] else []
        yield {**inputs, "width": float(width), "at": at}, [*own, *flags], note


def _cosine() -> Iterator[Draft]:
    s, limit = f32(0.008), f32(0.999)
    usual = {"s": s, "max_beta": limit}
    yield {"T": 1000, **usual, "at": THOUSAND}, ["clip"], "the usual one: beta_T is clipped"
    note = "T = 200: 1 - f(t) / f(t - 1) cancels where beta is small"
    yield {"T": 200, **usual, "at": [0, 1, 2, 3, 100, 199, 200]}, ["cancellation"], note
    yield {"T": 100, **usual, "at": [0, 1, 50, 98, 99, 100]}, ["clip", "off-by-one"], "T = 100"
    yield {"T": 4, **usual, "at": [*range(5)]}, ["off-by-one"], "four steps, all of their tables"
    yield {"T": 1, **usual, "at": [0, 1]}, ["clip"], "T = 1: beta is the limit"
    yield {"T": 2, **usual, "at": [0, 1, 2]}, ["off-by-one"], "f(0) is not 1: it divides"
    none = {"s": 0.0, "max_beta": limit}
    yield {"T": 20, **none, "at": [0, 1, 10, 19, 20]}, ["epsilon"], "s = 0: f(0) is 1"
    large = {"s": 0.25, "max_beta": 0.5}
    yield {"T": 10, **large, "at": [*range(11)]}, ["clip"], "the limit 1/2 holds for several steps"
    close = {"s": s, "max_beta": f32(0.99999)}
    yield {"T": 50, **close, "at": [0, 1, 25, 48, 49, 50]}, ["clip"], "a limit that is near 1"


def _log_snr() -> Iterator[Draft]:
    usual = {"noise": f32(0.01), "signal": f32(0.03)}
    yield {"T": 1000, **usual, "at": THOUSAND}, ["off-by-one"], "even from t = 1, not from t = 0"
    note = "log of the ratio of variances, not of their roots"
    yield {"T": 10, **usual, "at": [*range(11)]}, ["half"], note
    yield {"T": 2, **usual, "at": [0, 1, 2]}, ["off-by-one"], "T = 2: both ends and nothing between"
    both = {"noise": 0.5, "signal": 0.25}
    yield {"T": 3, **both, "at": [0, 1, 2, 3]}, ["swapped"], "much noise at t = 1"
    fine = {"noise": 0.03125, "signal": f32(0.1)}
    yield {"T": 50, **fine, "at": [0, 1, 2, 25, 49, 50]}, ["variance-for-std"], "alpha_bar_1 is 1 - 1e-3"
    far = {"noise": 0.25, "signal": f32(1e-3)}
    yield {"T": 20, **far, "at": [0, 1, 10, 19, 20]}, ["variance-for-std"], "alpha_bar_T is 1e-6"
    even = {"noise": 0.125, "signal": 0.0625}
    yield {"T": 100, **even, "at": [0, 1, 2, 3, 50, 98, 99, 100]}, ["off-by-one"], "T = 100"


def _from_beta() -> Iterator[Draft]:
    yield {"beta": UNEVEN, "at": [*range(6)]}, ["E5", "alpha-for-alpha_bar"], "no two betas are alike"
    yield {"beta": THREE, "at": [0, 1, 2, 3]}, ["off-by-one"], "beta_tilde_1 = 0, and alpha_bar_0 = 1"
    yield {"beta": ONE, "at": [0, 1]}, ["off-by-one"], "T = 1"
    yield {"beta": LINEAR, "at": [1, 5, 10]}, ["off-by-one"], "some times of ten"
    yield {"beta": TINY, "at": [*range(5)]}, ["cancellation"], "1 - alpha_bar of 1e-6 keeps its digits"
    least = rounded([2.0**-40, 2.0**-41, 2.0**-40], 60)
    note = "1 - alpha_bar of 1e-12: subtracted from 1 it has four digits left in float64"
    yield {"beta": least, "at": [*range(4)]}, ["cancellation"], note
    yield {"beta": SHARP, "at": [*range(5)]}, ["cancellation"], "betas near 1"
    yield {"beta": DEEP, "at": [*range(7)]}, ["E5"], "alpha_bar down to 1e-5"
    yield {"beta": GROWING, "at": [0, 3, 7, 10]}, ["off-by-one"], "growing betas"
    yield {"beta": HO, "at": [0, 1, 2, 49, 50]}, [], "fifty steps"
    fallen = f32([0.96875] * 60)
    note = "alpha_bar_60 is 1e-90: a log that is summed does not underflow, in float32 either"
    yield {"beta": fallen, "at": [0, 1, 20, 59, 60]}, ["underflow"], note


def _from_alpha_bar() -> Iterator[Draft]:
    yield (
        {"alpha_bar": [1.0, 0.75, 0.5, 0.125], "at": [0, 1, 2, 3]},
        ["ratio"],
        "beta from ratios, not falls",
    )
    yield {"alpha_bar": [1.0, 0.5], "at": [0, 1]}, ["off-by-one"], "T = 1"
    near = [1.0, *(1 - 2.0**-k for k in (20, 19, 18, 16))]
    yield {"alpha_bar": near, "at": [*range(5)]}, ["cancellation"], "alpha_bar near 1"
    yield {"alpha_bar": [1.0, 2.0**-10, 2.0**-20], "at": [0, 1, 2]}, [], "betas near 1"
    slow = [1.0, 0.5, 0.5 - 2.0**-24, 0.5 - 2.0**-21]
    yield {"alpha_bar": slow, "at": [0, 1, 2, 3]}, ["cancellation"], "betas of 1e-7 between neighbours"
    yield (
        {"alpha_bar": [1.0, *(0.875**k for k in range(1, 9))], "at": [0, 1, 4, 8]},
        [],
        "all betas are 1/8",
    )
    last = [1.0, 0.9375, 0.25, 1e-3 + 2.0**-12]
    yield {"alpha_bar": rounded(last, 16), "at": [0, 1, 2, 3]}, ["off-by-one"], "a steep fall"


def _respaced() -> Iterator[Draft]:
    note = "beta' = 1 - alpha_bar'[i] / alpha_bar'[i-1]: not beta at the visited time"
    yield {"beta": LINEAR, "times": [2, 5, 10]}, ["beta-at-visit"], note
    yield {"beta": UNEVEN, "times": [1, 2, 3, 4, 5]}, ["identity"], "all times: the chain itself"
    yield {"beta": UNEVEN, "times": [5]}, ["off-by-one"], "one step, to T: beta' = 1 - alpha_bar_T"
    yield {"beta": UNEVEN, "times": [3, 5]}, ["beta-at-visit"], "the first visit merges three steps"
    yield {"beta": THREE, "times": [1, 3]}, ["off-by-one"], "the first step kept, two merged"
    yield {"beta": ONE, "times": [1]}, [], "T = 1"
    yield {"beta": TINY, "times": [2, 4]}, ["cancellation"], "betas of 1e-6: ratios of alpha_bar cancel"
    yield {"beta": SHARP, "times": [2, 4]}, ["beta-at-visit"], "betas near 1"
    yield {"beta": HO, "times": [1, 13, 25, 38, 50]}, ["beta-at-visit"], "five of fifty"
    yield {"beta": GROWING, "times": [1, 2, 3, 6, 10]}, ["beta-at-visit"], "dense near the data"


def _zero_terminal() -> Iterator[Draft]:
    note = "roots of alpha_bar are shifted and stretched, not alpha_bar; alpha_bar_1 stays"
    yield {"beta": LINEAR}, ["root"], note
    yield {"beta": UNEVEN}, ["off-by-one"], "stretched from t = 1, not from t = 0"
    yield {"beta": THREE}, ["off-by-one"], "beta_T = 1 and alpha_bar_T = 0, exactly"
    yield {"beta": UNEVEN[:2]}, [], "T = 2: only alpha_bar_T changes"
    yield {"beta": HO}, ["root"], "fifty steps that leave much of x_0"
    yield {"beta": GROWING}, ["root"], "growing betas"
    yield {"beta": DEEP}, ["cancellation"], "alpha_bar_T was 1e-5"
    yield {"beta": TINY}, ["cancellation"], "betas of 1e-6: the roots are alike to six digits"


AT = "times, ascending, from 0 to T; tables have T + 1 entries, and these are taken"
ENDS = {"T": "number of steps", "beta_1": "first beta", "beta_T": "last beta", "at": AT}
OUTPUTS = {
    "beta": "at the times; 0 at t = 0",
    "alpha_bar": "prod of 1 - beta up to t; 1 at t = 0",
    "log_alpha_bar": "its logarithm",
    "one_minus_alpha_bar": "1 - alpha_bar, without cancellation",
    "posterior_variance": "(1 - alpha_bar[t-1]) / (1 - alpha_bar[t]) beta[t]; 0 at t = 0 and t = 1",
}
WHOLE = {name: f"{text}; shape (S + 1,)" for name, text in OUTPUTS.items() if name != "log_alpha_bar"}

FUNCTIONS = [
    Function(
        "linear_schedule",
        "Ho et al. 2020, section 4",
        "beta[t] = beta_1 + (beta_T - beta_1) (t - 1) / (T - 1); beta_1 if T = 1",
        ENDS,
        OUTPUTS,
        tables,
        _linear,
        prepare=linear_schedule,
    ),
    Function(
        "scaled_linear_schedule",
        "Ho et al. 2020, section 4",
        "beta[t] = (beta_1 + (beta_T - beta_1) (t - 1) / (T - 1)) 1000 / T",
        ENDS,
        OUTPUTS,
        tables,
        _scaled,
        prepare=scaled_linear_schedule,
    ),
    Function(
        "quadratic_schedule",
        "diffusers' scaled_linear",
        "beta[t] = (sqrt(beta_1) + (sqrt(beta_T) - sqrt(beta_1)) (t - 1) / (T - 1))^2",
        ENDS,
        OUTPUTS,
        tables,
        _quadratic,
        prepare=quadratic_schedule,
    ),
    Function(
        "sigmoid_schedule",
        "Kirschstein 2022",
        "beta[t] = beta_1 + (beta_T - beta_1) / (1 + exp(-u)), u = width (2 (t - 1) / (T - 1) - 1);"
        " u = -width if T = 1",
        {**{k: v for k, v in ENDS.items() if k != "at"}, "width": "u at t = T", "at": AT},
        OUTPUTS,
        tables,
        _sigmoid,
        prepare=sigmoid_schedule,
    ),
    Function(
        "cosine_schedule",
        "Nichol & Dhariwal 2021, (17)",
        "f(t) = cos((t / T + s) / (1 + s) pi / 2)^2, beta[t] = min(1 - f(t) / f(t - 1), max_beta);"
        " alpha_bar is the product of 1 - beta",
        {"T": "number of steps", "s": "offset", "max_beta": "limit of beta", "at": AT},
        OUTPUTS,
        tables,
        _cosine,
        prepare=cosine_schedule,
    ),
    Function(
        "log_snr_schedule",
        "Kingma et al. 2021, section 4.1",
        "log(alpha_bar[t] / (1 - alpha_bar[t])) linear in t = 1 ... T,"
        " sqrt(1 - alpha_bar[1]) = noise, sqrt(alpha_bar[T]) = signal; other tables from alpha_bar",
        {
            "T": "number of steps, T >= 2",
            "noise": "standard deviation of the noise at t = 1",
            "signal": "factor of x_0 at t = T",
            "at": AT,
        },
        OUTPUTS,
        tables_of_alpha_bar,
        _log_snr,
        prepare=log_snr_schedule,
    ),
    Function(
        "schedule_from_beta",
        "M2 (20), (22), (25)",
        "alpha_bar[t] = (1 - beta[1]) ... (1 - beta[t])",
        {"beta": BETA, "at": AT},
        OUTPUTS,
        tables,
        _from_beta,
    ),
    Function(
        "schedule_from_alpha_bar",
        "M2 (22)",
        "beta[t] = 1 - alpha_bar[t] / alpha_bar[t-1]",
        {"alpha_bar": "alpha_bar_0 = 1 ... alpha_bar_T, shape (T + 1,)", "at": AT},
        OUTPUTS,
        tables_of_alpha_bar,
        _from_alpha_bar,
    ),
    Function(
        "respaced_schedule",
        "Nichol & Dhariwal 2021, (19)",
        "alpha_bar'[i] = alpha_bar[times[i-1]], beta'[i] = 1 - alpha_bar'[i] / alpha_bar'[i-1]",
        {"beta": BETA, "times": "visited times, increasing, the last T, shape (S,)"},
        WHOLE,
        respaced_schedule,
        _respaced,
    ),
    Function(
        "zero_terminal_snr",
        "Lin et al. 2024, Algorithm 1",
        "with r = sqrt(alpha_bar): r'[t] = (r[t] - r[T]) r[1] / (r[1] - r[T]) for t >= 1; r'[0] = 1",
        {"beta": f"{BETA}, T >= 2"},
        {
            "beta": "shape (T + 1,), from t = 0; beta_T is 1",
            "alpha_bar": "shape (T + 1,), from t = 0; alpha_bar_T is 0",
            "one_minus_alpha_bar": "shape (T + 1,), from t = 0",
        },
        zero_terminal_snr,
        _zero_terminal,
    ),
]
