"""The forward process, its posterior, and the conversions between what networks predict."""

from collections.abc import Callable, Iterator
from typing import Any

from tests.vectors.cases import Draft, Function
from tests.vectors.chain import (
    BETA,
    DEEP,
    GROWING,
    HO,
    LINEAR,
    ONE,
    PER_EXAMPLE,
    ROWS,
    SHARP,
    THREE,
    TIMES,
    TINY,
    UNEVEN,
    Chain,
    column,
    root,
)
from tests.vectors.draws import draw

Arrays = tuple[str, ...]
Formula = Callable[..., dict[str, Any]]


def q_step_moments(beta: Any, x_prev: Any, t: Any) -> dict[str, Any]:
    """One step."""
    chain = Chain(beta)
    return {"mean": root(chain.alpha[column(t)]) * x_prev, "variance": chain.beta[t]}


def q_step(beta: Any, x_prev: Any, t: Any, noise: Any) -> dict[str, Any]:
    """A draw of one step."""
    chain, t = Chain(beta), column(t)
    return {"x_t": root(chain.alpha[t]) * x_prev + root(chain.beta[t]) * noise}


def q_two_step_moments(beta: Any, x_prev2: Any, t: Any) -> dict[str, Any]:
    """Two steps at once."""
    alpha = Chain(beta).alpha
    both = alpha[t] * alpha[t - 1]
    return {"mean": root(column(both)) * x_prev2, "variance": 1 - both}


def q_moments(beta: Any, x0: Any, t: Any) -> dict[str, Any]:
    """All steps to t at once."""
    a = Chain(beta).alpha_bar[t]
    return {"mean": root(column(a)) * x0, "variance": 1 - a}


def q_sample(beta: Any, x0: Any, t: Any, noise: Any) -> dict[str, Any]:
    """A draw of them."""
    a = Chain(beta).alpha_bar[column(t)]
    return {"x_t": root(a) * x0 + root(1 - a) * noise}


def q_posterior(beta: Any, x0: Any, x_t: Any, t: Any) -> dict[str, Any]:
    """One step back, with x_0 known."""
    chain, rows = Chain(beta), column(t)
    mean = chain.c_xt(rows) * x_t + chain.c_x0(rows) * x0
    return {"mean": mean, "variance": chain.posterior_variance(t)}


def posterior_mean_from_eps(beta: Any, x_t: Any, t: Any, eps: Any) -> dict[str, Any]:
    """Its mean, from the noise."""
    return {"mean": Chain(beta).mean(x_t, column(t), eps, "eps")}


def x0_from_eps(beta: Any, x_t: Any, t: Any, eps: Any) -> dict[str, Any]:
    """(27) solved for x_0."""
    return {"x0": Chain(beta).x0(x_t, column(t), eps, "eps")}


def eps_from_x0(beta: Any, x_t: Any, t: Any, x0: Any) -> dict[str, Any]:
    """(27) solved for the noise."""
    return {"eps": Chain(beta).eps(x_t, column(t), x0, "x0")}


def x0_from_mean(beta: Any, x_t: Any, t: Any, mean: Any) -> dict[str, Any]:
    """(26) solved for x_0."""
    return {"x0": Chain(beta).x0(x_t, column(t), mean, "mean")}


def eps_from_mean(beta: Any, x_t: Any, t: Any, mean: Any) -> dict[str, Any]:
    """(26) and (27) solved for the noise."""
    return {"eps": Chain(beta).eps(x_t, column(t), mean, "mean")}


def v_from_x0_and_eps(beta: Any, t: Any, x0: Any, eps: Any) -> dict[str, Any]:
    """The velocity."""
    a = Chain(beta).alpha_bar[column(t)]
    return {"v": root(a) * eps - root(1 - a) * x0}


def x0_from_v(beta: Any, x_t: Any, t: Any, v: Any) -> dict[str, Any]:
    """It and (27) solved for x_0."""
    return {"x0": Chain(beta).x0(x_t, column(t), v, "v")}


def eps_from_v(beta: Any, x_t: Any, t: Any, v: Any) -> dict[str, Any]:
    """It and (27) solved for the noise."""
    return {"eps": Chain(beta).eps(x_t, column(t), v, "v")}


# --- cases --------------------------------------------------------------------------------

# The betas, the times that are asked, d, and a note.
SETTINGS: list[tuple[Any, list[int], int, str]] = [
    (UNEVEN, [1, 3, 5], 2, "each example has its own time, the first and the last among them"),
    (
        UNEVEN,
        [4, 2],
        3,
        "times that fall; neighbours in beta are far apart, so that t - 1 or t + 1 shows",
    ),
    (THREE, [3], 2, "t = T: the last entry of the tables, which have T + 1"),
    (ONE, [1, 1], 2, "T = 1: alpha_bar_0 is 1, alpha_bar_1 is alpha_1"),
    (LINEAR, [1], 1, "t = 1, d = 1"),
    (LINEAR, [5, 6, 10], 1, "alpha_bar is the product of all alpha up to t, alpha_t itself included"),
    (TINY, [1, 2, 4], 2, "betas of 1e-6: 1 - alpha_bar and its root are far apart"),
    (SHARP, [2, 3, 4], 2, "betas near 1: beta_t and its root, alpha_t and alpha_bar_t are far apart"),
    (DEEP, [6, 5], 2, "alpha_bar_T is 1e-5: almost nothing of x_0 is left"),
    (HO, [50, 25, 1], 3, "fifty betas from 1e-4 to 0.02: T is not 1000"),
    (GROWING, [9, 10, 2, 9], 2, "four examples, two of them at one time"),
]


def visible(flags: list[str], t: list[int], T: int) -> list[str]:
    """Those that show at these times."""
    hidden = set()
    if max(t) == 1:
        hidden |= {"alpha-for-alpha_bar", "alpha_bar-for-alpha"}
    if min(t) == T:
        hidden.add("E5")
    if 1 not in t:
        hidden |= {"E11", "E9", "z-at-last-step"}
    if T == 1:
        hidden.add("off-by-one")
    return [flag for flag in dict.fromkeys(flags) if flag not in hidden]


def _cases(name: str, arrays: Arrays, flags: list[str], first: int) -> Callable[[], Iterator[Draft]]:
    """Every setting whose times are from first on."""

    def cases() -> Iterator[Draft]:
        for n, (beta, t, d, note) in enumerate(SETTINGS):
            times = [max(time, first) for time in t]
            if max(times) > len(beta):
                continue
            filled = {
                key: times if key == "t" else draw(f"{name} {n} {key}", len(t), d) for key in arrays
            }
            yield {"beta": beta, **filled}, visible([*flags, "off-by-one"], times, len(beta)), note
        if first == 0:
            beta, t = UNEVEN, [0, 2]
            filled = {key: t if key == "t" else draw(f"{name} 0 {key}", 2, 2) for key in arrays}
            yield {"beta": beta, **filled}, ["off-by-one"], "t = 0 is the data: nothing is added to it"

    return cases


def _function(
    formula: Formula,
    equation: str,
    text: str,
    arrays: Arrays,
    outputs: dict[str, str],
    flags: list[str],
    first: int = 1,
) -> Function:
    name = formula.__name__
    inputs = {"beta": BETA, **{key: TIMES if key == "t" else ROWS for key in arrays}}
    return Function(name, equation, text, inputs, outputs, formula, _cases(name, arrays, flags, first))


MOMENTS = {"mean": ROWS, "variance": PER_EXAMPLE}
FUNCTIONS = [
    _function(
        q_step_moments,
        "M2 (20)",
        "N(sqrt(alpha[t]) x_prev, beta[t] I), from x_{t-1} to x_t, t = 1 included",
        ("x_prev", "t"),
        MOMENTS,
        ["root", "alpha_bar-for-alpha", "E11"],
    ),
    _function(
        q_step,
        "M2 (20)",
        "x_t = sqrt(alpha[t]) x_prev + sqrt(beta[t]) noise",
        ("x_prev", "t", "noise"),
        {"x_t": ROWS},
        ["root", "variance-for-std", "alpha_bar-for-alpha", "E11"],
    ),
    _function(
        q_two_step_moments,
        "M2 (21)",
        "N(sqrt(alpha[t] alpha[t-1]) x_prev2, (1 - alpha[t] alpha[t-1]) I), from x_{t-2} to x_t, t >= 2",
        ("x_prev2", "t"),
        MOMENTS,
        ["root", "scale"],
        first=2,
    ),
    _function(
        q_moments,
        "M2 (22)",
        "N(sqrt(alpha_bar[t]) x0, (1 - alpha_bar[t]) I)",
        ("x0", "t"),
        MOMENTS,
        ["root", "alpha-for-alpha_bar", "E5"],
        first=0,
    ),
    _function(
        q_sample,
        "M2 (22), (27)",
        "x_t = sqrt(alpha_bar[t]) x0 + sqrt(1 - alpha_bar[t]) noise",
        ("x0", "t", "noise"),
        {"x_t": ROWS},
        ["E2", "root", "alpha-for-alpha_bar", "E5"],
        first=0,
    ),
    _function(
        q_posterior,
        "M2 (24), (25), (26)",
        "mean = sqrt(alpha[t]) (1 - alpha_bar[t-1]) / (1 - alpha_bar[t]) x_t"
        " + sqrt(alpha_bar[t-1]) beta[t] / (1 - alpha_bar[t]) x0;"
        " variance = (1 - alpha_bar[t-1]) / (1 - alpha_bar[t]) beta[t]",
        ("x0", "x_t", "t"),
        MOMENTS,
        ["swapped", "root", "alpha-for-alpha_bar"],
    ),
    _function(
        posterior_mean_from_eps,
        "M2 (29)",
        "mean = (x_t - beta[t] / sqrt(1 - alpha_bar[t]) eps) / sqrt(alpha[t])",
        ("x_t", "t", "eps"),
        {"mean": ROWS},
        ["root", "sign", "alpha-for-alpha_bar"],
    ),
    _function(
        x0_from_eps,
        "M2 (28)",
        "x0 = (x_t - sqrt(1 - alpha_bar[t]) eps) / sqrt(alpha_bar[t])",
        ("x_t", "t", "eps"),
        {"x0": ROWS},
        ["E2", "root", "sign"],
    ),
    _function(
        eps_from_x0,
        "M2 (27)",
        "eps = (x_t - sqrt(alpha_bar[t]) x0) / sqrt(1 - alpha_bar[t])",
        ("x_t", "t", "x0"),
        {"eps": ROWS},
        ["E2", "root", "sign"],
    ),
    _function(
        x0_from_mean,
        "M2 (26)",
        "x0 = (mean - c_xt[t] x_t) / c_x0[t], c_xt and c_x0 the coefficients of q_posterior's mean",
        ("x_t", "t", "mean"),
        {"x0": ROWS},
        ["swapped", "root", "sign"],
    ),
    _function(
        eps_from_mean,
        "M2 (29)",
        "eps = (x_t - sqrt(alpha[t]) mean) sqrt(1 - alpha_bar[t]) / beta[t]",
        ("x_t", "t", "mean"),
        {"eps": ROWS},
        ["root", "sign", "alpha-for-alpha_bar"],
    ),
    _function(
        v_from_x0_and_eps,
        "Salimans & Ho 2022",
        "v = sqrt(alpha_bar[t]) eps - sqrt(1 - alpha_bar[t]) x0",
        ("t", "x0", "eps"),
        {"v": ROWS},
        ["sign", "swapped", "root"],
    ),
    _function(
        x0_from_v,
        "Salimans & Ho 2022",
        "x0 = sqrt(alpha_bar[t]) x_t - sqrt(1 - alpha_bar[t]) v",
        ("x_t", "t", "v"),
        {"x0": ROWS},
        ["sign", "swapped", "root"],
    ),
    _function(
        eps_from_v,
        "Salimans & Ho 2022",
        "eps = sqrt(1 - alpha_bar[t]) x_t + sqrt(alpha_bar[t]) v",
        ("x_t", "t", "v"),
        {"eps": ROWS},
        ["sign", "swapped", "root"],
    ),
]
