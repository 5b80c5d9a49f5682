"""The variational bound: its terms, and the whole of it where everything is affine."""

from collections.abc import Iterator
from typing import Any

import mpmath
import numpy as np

from tests.vectors.cases import Draft, Function
from tests.vectors.chain import (
    BETA,
    DEEP,
    HO,
    LINEAR,
    ONE,
    PER_EXAMPLE,
    ROWS,
    SHARP,
    SIGMA2,
    THREE,
    UNEVEN,
    Chain,
    log,
    root,
)
from tests.vectors.draws import draw, f32
from tests.vectors.gaussians import grid, log_bins
from tests.vectors.losses import sums
from tests.vectors.reverse import TARGETS, variances
from tests.vectors.tolerances import midway


def prior_term(beta: Any, x0: Any) -> dict[str, Any]:
    """From q(x_T | x_0) to the prior."""
    return {"L_T": -_divergence(*_moments(Chain(beta), x0), 0 * x0, mpmath.mpf(1))}


def middle_term(beta: Any, x0: Any, x_t: Any, t: int, mean: Any, sigma2: Any) -> dict[str, Any]:
    """From q(x_{t-1} | x_t, x_0) to the model's step."""
    return {"L": _middle(Chain(beta), x0, x_t, t, mean, sigma2)}


def _moments(chain: Chain, x0: Any) -> tuple[Any, Any]:
    last = chain.alpha_bar[-1]
    return midway(root(last) * x0), midway(1 - last)


def _middle(chain: Chain, x0: Any, x_t: Any, t: int, mean: Any, sigma2: Any) -> Any:
    posterior = midway(chain.c_xt(t) * x_t + chain.c_x0(t) * x0)
    return -_divergence(posterior, chain.posterior_variance(t), mean, sigma2[t])


def _divergence(mean_1: Any, var_1: Any, mean_2: Any, var_2: Any) -> Any:
    r, square = var_1 / var_2, ((mean_1 - mean_2) ** 2).sum(axis=1)
    return (mean_1.shape[1] * (r - 1 - log(r)) + square / var_2) / 2


def elbo_affine(
    beta: Any, x0: Any, noise: Any, sigma2: Any, slope: Any, offset: Any, target: str, decoder: Any
) -> dict[str, Any]:
    """Every term with one draw of x_t."""
    chain, L = Chain(beta), [0 * x0[:, 0], 0 * x0[:, 0]]
    for t in range(1, chain.T + 1):
        a = chain.alpha_bar[t]
        x_t = midway(root(a) * x0 + root(1 - a) * noise[t])
        mean = midway(chain.mean(x_t, t, midway(slope[t] * x_t + offset[t]), target))
        if t > 1:
            L.append(_middle(chain, x0, x_t, t, mean, sigma2))
        elif decoder == "gaussian":
            L_0 = _log_normal(x0, mean, sigma2[1]).sum(axis=1)
        else:
            L_0 = log_bins(x0, mean, sigma2[1], decoder["levels"])
    L_T = -_divergence(*_moments(chain, x0), 0 * x0, mpmath.mpf(1))
    return {"L_T": L_T, "L": np.array(L), "L_0": L_0, "total": L_T + sum(L) + L_0}


def _log_normal(x: Any, mean: Any, variance: Any) -> Any:
    return -((x - mean) ** 2 / variance + log(2 * mpmath.pi * variance)) / 2


def affine_log_likelihood(
    beta: Any, x0: Any, sigma2: Any, slope: Any, offset: Any, target: str
) -> dict[str, Any]:
    """The evidence by marginalisation, the bound by its terms, both averaged in closed form."""
    chain = Chain(beta)
    # the model's mean is affine in x_t and the prediction
    numbers = ((mpmath.mpf(1), slope), (mpmath.mpf(0), offset))
    steps = [
        [midway(chain.mean(x_t, t, says[t], target)) for x_t, says in numbers]
        for t in range(1, chain.T + 1)
    ]
    mean, variance = mpmath.mpf(0), mpmath.mpf(1)
    for t in range(chain.T, 0, -1):
        k, c = steps[t - 1]
        mean, variance = midway(k * mean + c), midway(k**2 * variance + sigma2[t])
    log_p = midway(_log_normal(x0, mean, variance).sum(axis=1))
    bound = -_divergence(*_moments(chain, x0), 0 * x0, mpmath.mpf(1))
    for t in range(1, chain.T + 1):
        (k, c), a = steps[t - 1], chain.alpha_bar[t]
        # posterior mean - model mean = left x_t + of_x0 x_0 - c, with x_t from N(sqrt(a) x_0, 1 - a)
        left, of_x0 = chain.c_xt(t) - k, chain.c_x0(t)
        square = ((left * root(a) + of_x0) * x0 - c) ** 2 + left**2 * (1 - a)
        if t == 1:
            terms = _log_normal(root(square), mpmath.mpf(0), sigma2[1])
        else:
            r = chain.posterior_variance(t) / sigma2[t]
            terms = -(r - 1 - log(r) + square / sigma2[t]) / 2
        bound = bound + midway(terms.sum(axis=1))
    return {"log_p": log_p, "expected_elbo": bound, "gap": log_p - bound}


# --- cases --------------------------------------------------------------------------------


def _prior() -> Iterator[Draft]:
    flags = ["sign", "root"]
    for n, (beta, B, d, note) in enumerate(
        [
            (UNEVEN, 2, 2, "much of x_0 is left: -L_T is large"),
            (LINEAR, 1, 1, "d = 1"),
            (THREE, 3, 2, "three steps"),
            (ONE, 2, 3, "T = 1"),
            (DEEP, 2, 2, "an alpha_bar_T of 1e-5: log(1 - alpha_bar_T) is small"),
            (SHARP, 1, 3, "betas near 1"),
            (HO, 2, 2, "fifty small betas: nearly all of x_0 is left"),
        ]
    ):
        yield {"beta": beta, "x0": draw(f"prior {n}", B, d)}, [*flags, *sums(d)], note
    yield (
        {"beta": DEEP, "x0": np.zeros((1, 2))},
        ["cancellation"],
        "x_0 = 0: only the variance, 1 - 1e-5, is not the prior's",
    )


def _middle_cases() -> Iterator[Draft]:
    flags = ["sign", "swapped"]
    for n, (beta, t, kind, B, d, note) in enumerate(
        [
            (UNEVEN, 2, "posterior", 2, 2, "t = 2: L_1"),
            (UNEVEN, 5, "beta", 2, 2, "t = T: L_{T-1}"),
            (UNEVEN, 3, "unit", 2, 3, "unit variance, d = 3"),
            (LINEAR, 10, "beta", 1, 1, "d = 1"),
            (LINEAR, 2, "beta", 3, 2, "t = 2, where beta and beta_tilde differ most"),
            (THREE, 3, "posterior", 2, 2, "variance beta_tilde: the constant is 0"),
            (SHARP, 3, "beta", 2, 2, "betas near 1"),
            (DEEP, 6, "posterior", 2, 2, "x_t is nearly pure noise"),
            (HO, 50, "beta", 2, 1, "fifty steps"),
            (HO, 2, "beta", 1, 2, "small variances: a large divergence"),
        ]
    ):
        arrays = {key: draw(f"middle {n} {key}", B, d) for key in ("x0", "x_t", "mean")}
        inputs = {"beta": beta, "x0": arrays["x0"], "x_t": arrays["x_t"], "t": t, "mean": arrays["mean"]}
        yield inputs | {"sigma2": variances(beta, kind)}, [*flags, *sums(d)], note


def network(name: str, T: int, *tables: str) -> dict[str, Any]:
    """Tables of a network; entries for t = 0, which nobody asks for, are 0."""
    found = {table: draw(f"{name} {table}", T + 1) / 2 for table in tables}
    for table in found.values():
        table[0] = 0.0
    return found


CHAINS: list[tuple[Any, str, int, int, str]] = [
    (UNEVEN, "beta", 2, 2, "five uneven betas"),
    (THREE, "posterior", 3, 1, "d = 1, variances beta_tilde"),
    (LINEAR, "beta", 1, 3, "ten steps, d = 3"),
    (ONE, "beta", 2, 2, "T = 1: there is no middle term"),
]


def _elbo() -> Iterator[Draft]:
    for n, (beta, kind, B, d, note) in enumerate(CHAINS):
        for target in TARGETS:
            bits = target in ("eps", "x0")
            name = f"elbo {n} {target}"
            for decoder in ("gaussian", {"levels": 256} if bits else {"levels": 9}):
                if n in (1, 2) and (decoder == "gaussian") != (target in ("eps", "mean")):
                    continue
                levels = 0 if decoder == "gaussian" else decoder["levels"]
                x0, T = draw(name, B, d), len(beta)
                if levels:
                    x0 = grid(levels, *np.round((x0 / 1.5 + 1) / 2 * (levels - 1)).astype(int).tolist())
                noise = draw(f"{name} noise", T + 1, B, d)
                noise[0] = 0.0
                inputs = {"beta": beta, "x0": x0, "noise": noise, "sigma2": variances(beta, kind)}
                inputs |= {**network(name, T, "slope", "offset"), "target": target, "decoder": decoder}
                flags = ["target", "off-by-one", "E2", "decoder"]
                yield inputs, flags, f"{target}, {f'{levels} levels' if levels else 'Gaussian'}: {note}"


def _likelihood() -> Iterator[Draft]:
    settings = [*CHAINS, (DEEP, "posterior", 2, 2, "an alpha_bar_T of 1e-5")]
    for n, (beta, kind, B, d, note) in enumerate(settings):
        for target in TARGETS[:: 1 if n in (0, 2) else 2]:
            name = f"likelihood {n} {target}"
            inputs = {"beta": beta, "x0": draw(name, B, d), "sigma2": variances(beta, kind)}
            inputs |= {**network(name, len(beta), "slope", "offset"), "target": target}
            yield inputs, ["target", "E6", "off-by-one"], f"{target}: {note}"
    # a network that knows data from N(1/4, 1/4): gap and bound are those of a good model
    chain = np.cumprod(1.0 - LINEAR)
    gain = np.sqrt(1.0 - chain) / (1.0 - 0.75 * chain)
    tables = {"slope": f32([0.0, *gain]), "offset": f32([0.0, *(-gain * np.sqrt(chain) / 4)])}
    inputs = {"beta": LINEAR, "x0": draw("likelihood good", 2, 2), "sigma2": variances(LINEAR, "beta")}
    yield inputs | tables | {"target": "eps"}, ["E6"], "eps: the best network for data from N(1/4, 1/4)"


AFFINE = {
    "slope": "of the network, which says slope[t] x_t + offset[t]; shape (T + 1,)",
    "offset": "shape (T + 1,)",
    "target": 'what it says: "eps", "x0", "mean" or "v"',
}
FUNCTIONS = [
    Function(
        "prior_term",
        "M2 (36)",
        "L_T = -KL(N(sqrt(alpha_bar[T]) x0, (1 - alpha_bar[T]) I) || N(0, I))",
        {"beta": BETA, "x0": ROWS},
        {"L_T": PER_EXAMPLE},
        prior_term,
        _prior,
    ),
    Function(
        "middle_term",
        "M2 (14) ... (18)",
        "L = -KL(q(x_{t-1} | x_t, x_0) || N(mean, sigma2[t] I)), the term L_{t-1}",
        {"beta": BETA, "x0": ROWS, "x_t": ROWS, "t": "one time, t >= 2", "mean": ROWS, "sigma2": SIGMA2},
        {"L": PER_EXAMPLE},
        middle_term,
        _middle_cases,
    ),
    Function(
        "elbo_affine",
        "M2 (19)",
        "total = L_T + sum of L + L_0, each with x_t = q_sample(x0, t, noise[t]);"
        " L_0 = log p(x_0 | x_1) by the decoder, with variance sigma2[1]",
        {
            "beta": BETA,
            "x0": "shape (B, d); on the levels of such a decoder, as float64 has them",
            "noise": "shape (T + 1, B, d); entry 0 is not used",
            "sigma2": SIGMA2,
            **AFFINE,
            "decoder": '"gaussian", or {"levels": n}: discretised_gaussian',
        },
        {
            "L_T": PER_EXAMPLE,
            "L": "shape (T + 1, B); entry t is L_{t-1} for t >= 2, entries 0 and 1 are 0",
            "L_0": PER_EXAMPLE,
            "total": PER_EXAMPLE,
        },
        elbo_affine,
        _elbo,
        off_float32=("x0",),
    ),
    Function(
        "affine_log_likelihood",
        "M2 (2), (3), (19)",
        "log_p = log of the integral of p(x_T) prod of p(x_{t-1} | x_t) over x_1 ... x_T;"
        " expected_elbo = E[total] of elbo_affine over the noise, with the Gaussian decoder;"
        " gap = log_p - expected_elbo",
        {"beta": BETA, "x0": ROWS, "sigma2": SIGMA2, **AFFINE},
        {"log_p": PER_EXAMPLE, "expected_elbo": PER_EXAMPLE, "gap": PER_EXAMPLE},
        affine_log_likelihood,
        _likelihood,
    ),
]
