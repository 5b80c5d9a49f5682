"""The reverse process: its means, its variances, and one step of it."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.vectors.cases import Draft, Function
from tests.vectors.chain import (
    BETA,
    DEEP,
    HO,
    LINEAR,
    ONE,
    ROWS,
    SHARP,
    SIGMA2,
    THREE,
    TIMES,
    TINY,
    UNEVEN,
    Chain,
    column,
    exp,
    log,
    root,
)
from tests.vectors.draws import draw, f32
from tests.vectors.forward import visible

TARGETS = ("eps", "x0", "mean", "v")


def model_mean(beta: Any, x_t: Any, t: Any, prediction: Any, target: str) -> dict[str, Any]:
    """Whatever is predicted."""
    return {"mean": Chain(beta).mean(x_t, column(t), prediction, target)}


def reverse_variance(beta: Any, kind: str) -> dict[str, Any]:
    """One of three tables."""
    return {"sigma2": _variances(Chain(beta), kind)}


def _variances(chain: Chain, kind: str) -> Any:
    if kind == "beta":
        return chain.beta
    if kind == "unit":
        return chain.beta * 0 + np.array([0] + [1] * chain.T)
    tail = chain.posterior_variance(np.arange(2, chain.T + 1))
    first = tail[0] if chain.T > 1 else chain.beta[1]
    return np.array([chain.beta[0], first, *tail])


def learned_variance(beta: Any, v: Any, t: Any) -> dict[str, Any]:
    """Between beta_tilde and beta, or beyond, evenly in the logarithm."""
    chain, t = Chain(beta), column(t)
    low = _variances(chain, "posterior")[t]
    return {"sigma2": exp(v * log(chain.beta[t]) + (1 - v) * log(low))}


def reverse_step(
    beta: Any, x_t: Any, t: Any, prediction: Any, target: str, sigma2: Any, noise: Any
) -> dict[str, Any]:
    """One pass of the loop."""
    t = column(t)
    moved = root(sigma2[t]) * noise * (t > 1)
    return {"x_prev": Chain(beta).mean(x_t, t, prediction, target) + moved}


def guided(conditional: Any, unconditional: Any, guidance: Any) -> dict[str, Any]:
    """Away from what is said without a class."""
    return {"prediction": conditional + guidance * (conditional - unconditional)}


def clipped_x0(
    beta: Any, x_t: Any, t: Any, prediction: Any, target: str, low: Any, high: Any
) -> dict[str, Any]:
    """Kept within the range of the data."""
    x0 = Chain(beta).x0(x_t, column(t), prediction, target)
    return {"x0": np.minimum(np.maximum(x0, low), high)}


# --- cases --------------------------------------------------------------------------------

SIGNS = {
    "eps": ["sign", "root", "alpha-for-alpha_bar"],
    "x0": ["swapped", "alpha-for-alpha_bar"],
    "mean": ["target"],
    "v": ["sign", "swapped"],
}
# The betas, the times that are asked, d, and a note.
STEPS: list[tuple[Any, list[int], int, str]] = [
    (UNEVEN, [1, 2, 5], 2, "each example has its own time, the first and the last among them"),
    (LINEAR, [10, 4, 1], 1, "d = 1; times that fall"),
    (DEEP, [6], 3, "t = T with an alpha_bar of 1e-5, d = 3"),
    (SHARP, [2, 4], 2, "betas near 1"),
    (ONE, [1], 2, "T = 1"),
]


def variances(beta: Any, kind: str) -> Any:
    """A table of variances for inputs; float32 holds it."""
    before = np.cumprod([1.0, *(1.0 - beta)])
    tilde = np.concatenate([[0.0], (1.0 - before[:-1]) / (1.0 - before[1:]) * beta])
    if kind == "posterior":
        tilde[1] = tilde[2] if len(beta) > 1 else beta[0]
        return f32(tilde)
    return f32([0.0, *beta]) if kind == "beta" else np.array([0.0] + [1.0] * len(beta))


def _model_mean() -> Iterator[Draft]:
    for n, (beta, t, d, note) in enumerate(STEPS):
        for target in TARGETS:
            x_t, prediction = (
                draw(f"model_mean {n}", len(t), d),
                draw(f"model_mean {n} {target}", len(t), d),
            )
            inputs = {"beta": beta, "x_t": x_t, "t": t, "prediction": prediction, "target": target}
            yield inputs, visible(["target", *SIGNS[target]], t, len(beta)), f"{target}: {note}"


def _reverse_variance() -> Iterator[Draft]:
    first = ["off-by-one", "zero-variance"]
    for kind in ("posterior", "beta", "unit"):
        yield {"beta": UNEVEN, "kind": kind}, ["kind"], f"{kind}: five uneven betas"
    note = "at t = 1, where beta_tilde is 0, that of t = 2"
    yield {"beta": THREE, "kind": "posterior"}, first, note
    yield {"beta": ONE, "kind": "posterior"}, first, "T = 1: there is no beta_tilde_2, so beta_1"
    yield {"beta": UNEVEN[:2], "kind": "posterior"}, first, "T = 2: both entries are beta_tilde_2"
    yield {"beta": THREE, "kind": "beta"}, ["E11"], "beta_1 at t = 1, not beta_tilde_2"
    yield {"beta": ONE, "kind": "beta"}, [], "T = 1"
    yield {"beta": ONE, "kind": "unit"}, [], "T = 1: 1, but 0 at t = 0"
    yield {"beta": TINY, "kind": "posterior"}, ["cancellation"], "betas of 1e-6"
    yield {"beta": SHARP, "kind": "posterior"}, ["cancellation"], "betas near 1"
    yield {"beta": HO, "kind": "posterior"}, ["off-by-one"], "fifty steps"


def _learned_variance() -> Iterator[Draft]:
    def case(beta: Any, t: list[int], v: Any) -> dict[str, Any]:
        return {"beta": beta, "v": v, "t": t}

    mean = ["arithmetic-mean"]
    yield case(UNEVEN, [2, 5], [[0.0, 1.0]] * 2), ["swapped"], "v = 0 is beta_tilde, v = 1 is beta"
    yield (
        case(UNEVEN, [2, 3, 4], [[0.5, 0.25]] * 3),
        mean,
        "a geometric mean, of each coordinate its own",
    )
    low = "at t = 1 the lower end is beta_tilde_2"
    yield case(UNEVEN, [1, 1], [[0.0], [0.5]]), ["zero-variance"], low
    beyond = "v outside of [0, 1] is not cut off"
    yield case(UNEVEN, [1, 3, 5], [[-0.5, 1.5], [2.0, -1.0], [1.25, -0.25]]), ["clip"], beyond
    yield case(ONE, [1], [[0.75, 0.25]]), ["zero-variance"], "T = 1: both ends are beta_1"
    yield case(LINEAR, [10, 1], draw("learned a", 2, 3)), mean, "d = 3"
    yield case(SHARP, [2, 3, 4], draw("learned b", 3, 2)), mean, "betas near 1"
    yield case(TINY, [1, 4], draw("learned c", 2, 2)), ["cancellation"], "betas of 1e-6"
    yield case(DEEP, [6, 2], draw("learned d", 2, 1)), mean, "d = 1"
    yield (
        case(HO, [1, 2, 50], draw("learned e", 3, 2)),
        ["off-by-one"],
        "beta_tilde far from beta at t = 2",
    )


def _reverse_step() -> Iterator[Draft]:
    flags = ["variance-for-std", "z-at-last-step", "E9"]
    for n, (beta, t, d, note) in enumerate(STEPS):
        for kind, target in (("posterior", TARGETS[n % 4]), ("beta", TARGETS[(n + 1) % 4])):
            name = f"reverse_step {n} {kind}"
            x_t, prediction, noise = (draw(f"{name} {k}", len(t), d) for k in ("x", "p", "z"))
            inputs = {"beta": beta, "x_t": x_t, "t": t, "prediction": prediction, "target": target}
            inputs |= {"sigma2": variances(beta, kind), "noise": noise}
            own = flags if max(t) > 1 else flags[1:]
            yield (
                inputs,
                visible([*own, *SIGNS[target]], t, len(beta)),
                f"{target}, variances {kind}: {note}",
            )
    x_t, prediction, noise = (draw(f"reverse_step u {k}", 2, 2) for k in ("x", "p", "z"))
    inputs = {"beta": UNEVEN, "x_t": x_t, "t": [1, 2], "prediction": prediction, "target": "eps"}
    inputs |= {"sigma2": variances(UNEVEN, "unit"), "noise": noise}
    yield (
        inputs,
        ["z-at-last-step", "E9"],
        "unit variance, in which the noise of t = 1 is not to be missed",
    )
    own = f32([0.0, 0.75, 0.03125, 0.5])
    inputs = {"beta": THREE, "x_t": x_t, "t": [3, 2], "prediction": prediction, "target": "x0"}
    inputs |= {"sigma2": own, "noise": noise}
    yield (
        inputs,
        ["off-by-one", "variance-for-std"],
        "variances of no schedule, far from their neighbours",
    )


def _guided() -> Iterator[Draft]:
    def case(name: str, guidance: float, B: int = 2, d: int = 2) -> dict[str, Any]:
        pair = {k: draw(f"guided {name} {k}", B, d) for k in ("conditional", "unconditional")}
        return {**pair, "guidance": guidance}

    flags = ["guidance-scale", "swapped"]
    yield case("a", 1.0), flags, "2 conditional - unconditional"
    yield case("b", 0.0), flags, "0 is conditional"
    yield case("c", -1.0), flags, "-1 is unconditional"
    yield case("d", 0.5, 1, 3), flags, "d = 3"
    yield case("e", 4.0, 3, 1), flags, "d = 1"
    yield case("f", -0.5), flags, "their mean"
    yield case("g", 7.5), flags, "the 7.5 of this formula is the 8.5 of those without 1 +"


def _clipped_x0() -> Iterator[Draft]:
    for n, (beta, t, d, note) in enumerate(STEPS[:3]):
        for target in TARGETS:
            name = f"clipped {n} {target}"
            x_t, prediction = draw(name, len(t), d), draw(f"{name} p", len(t), d)
            inputs = {"beta": beta, "x_t": x_t, "t": t, "prediction": prediction, "target": target}
            low, high = ((-1.0, 1.0), (-0.25, 0.75), (-2.0, 1.5))[n]
            yield inputs | {"low": low, "high": high}, ["clip", "target"], f"{target}: {note}"


PREDICTION = {
    "prediction": "of what target says, shape (B, d)",
    "target": '"eps" (the noise), "x0", "mean" (that of q_posterior) or "v" (as in v_from_x0_and_eps)',
}
STATE = {"beta": BETA, "x_t": ROWS, "t": TIMES, **PREDICTION}
FUNCTIONS = [
    Function(
        "model_mean",
        "M2 (31), (34)",
        "the mean of q_posterior at the x0 that the prediction implies; with eps, (34)",
        STATE,
        {"mean": ROWS},
        model_mean,
        _model_mean,
    ),
    Function(
        "reverse_variance",
        "M2 (31), (25)",
        "posterior: posterior_variance[t], at t = 1 that of t = 2 (beta[1] if T = 1);"
        " beta: beta[t]; unit: 1",
        {"beta": BETA, "kind": '"posterior", "beta" or "unit"'},
        {"sigma2": "shape (T + 1,), entry 0 is 0"},
        reverse_variance,
        _reverse_variance,
    ),
    Function(
        "learned_variance",
        "Nichol & Dhariwal 2021, (15)",
        "sigma2 = exp(v log(beta[t]) + (1 - v) log(posterior_variance[t])), at t = 1 with that of t = 2"
        " (beta[1] if T = 1)",
        {"beta": BETA, "v": "not confined to [0, 1], shape (B, d)", "t": TIMES},
        {"sigma2": ROWS},
        learned_variance,
        _learned_variance,
    ),
    Function(
        "reverse_step",
        "J (13), Ho et al. 2020, Algorithm 2",
        "x_prev = model_mean + sqrt(sigma2[t]) noise, without noise where t = 1",
        {**STATE, "sigma2": SIGMA2, "noise": "shape (B, d); that of examples with t = 1 is not used"},
        {"x_prev": ROWS},
        reverse_step,
        _reverse_step,
    ),
    Function(
        "guided",
        "Ho & Salimans 2022, (6)",
        "prediction = (1 + guidance) conditional - guidance unconditional",
        {"conditional": ROWS, "unconditional": ROWS, "guidance": "a number, >= -1"},
        {"prediction": ROWS},
        guided,
        _guided,
    ),
    Function(
        "clipped_x0",
        "Ho et al. 2020, section 3.2",
        "x0 = min(max(x0 that the prediction implies, low), high)",
        {**STATE, "low": "a number", "high": "a number"},
        {"x0": ROWS},
        clipped_x0,
        _clipped_x0,
    ),
]
