"""Whole loops of every sampler, with a network and noise that are given."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import mpmath
import numpy as np

from tests.vectors.bound import network
from tests.vectors.cases import Draft, Function
from tests.vectors.chain import BETA, DEEP, HO, LINEAR, ONE, SIGMA2, THREE, UNEVEN, Chain, root, sine
from tests.vectors.draws import draw, rounded
from tests.vectors.reverse import TARGETS, variances
from tests.vectors.tolerances import midway, solved


class Model:
    """A chain, and a network of its times: slope[t] x + offset[t] + curve[t] sin(x)."""

    def __init__(self, beta: Any, slope: Any, offset: Any, curve: Any, target: str) -> None:
        self.chain, self.tables, self.target = Chain(beta), (slope, offset, curve), target
        self.a = self.chain.alpha_bar

    def says(self, x: Any, t: int) -> Any:
        """The prediction."""
        slope, offset, curve = (table[t] for table in self.tables)
        return midway(slope * x + offset + curve * sine(x))

    def x0(self, x: Any, t: int) -> Any:
        """What it says of x_0."""
        return midway(self.chain.x0(x, t, self.says(x, t), self.target))

    def eps(self, x: Any, t: int) -> Any:
        """What it says of the noise."""
        return midway(self.chain.eps(x, t, self.says(x, t), self.target))

    def mean(self, x: Any, t: int) -> Any:
        """What it says of the step before."""
        return midway(self.chain.mean(x, t, self.says(x, t), self.target))

    def flow(self, t: int) -> Any:
        """The time of the flow."""
        return midway(mpmath.sqrt((1 - self.a[t]) / self.a[t]))

    def half_log_snr(self, t: int) -> Any:
        """The time of DPM-Solver."""
        return midway(mpmath.log(self.a[t] / (1 - self.a[t])) / 2)


def ancestral_sample(
    beta: Any, slope: Any, offset: Any, curve: Any, target: str, x_T: Any, noise: Any, sigma2: Any
) -> dict[str, Any]:
    """Backwards along the chain."""
    model, path = Model(beta, slope, offset, curve, target), [x_T]
    for t in range(model.chain.T, 0, -1):
        x = model.mean(path[0], t)
        path.insert(0, midway(x + root(sigma2[t]) * noise[t] if t > 1 else x))
    return {"trajectory": np.array(path)}


def ddim_sample(
    beta: Any,
    slope: Any,
    offset: Any,
    curve: Any,
    target: str,
    x_T: Any,
    noise: Any,
    eta: Any,
    times: Any,
) -> dict[str, Any]:
    """As printed."""
    model, path = Model(beta, slope, offset, curve, target), [x_T]
    for t, s in _steps(times):
        x, a, b = path[0], model.a[t], model.a[s]
        says = model.says(x, t)
        x0, eps = (midway(f(x, t, says, target)) for f in (model.chain.x0, model.chain.eps))
        sigma2 = eta**2 * (1 - b) / (1 - a) * (1 - a / b)
        path.insert(0, midway(root(b) * x0 + root(1 - b - sigma2) * eps + root(sigma2) * noise[t]))
    return {"trajectory": np.array(path)}


def dpm_solver_sample(
    beta: Any, slope: Any, offset: Any, curve: Any, target: str, x_T: Any, order: int, times: Any
) -> dict[str, Any]:
    """In the logarithm of signal to noise; the last step, whose h is infinite, gives x_0."""
    model, path, before = Model(beta, slope, offset, curve, target), [x_T], None
    for t, s in _steps(times):
        x, D = path[0], model.x0(path[0], t)
        if s == 0:
            path.insert(0, D)
            continue
        h = model.half_log_snr(s) - model.half_log_snr(t)
        now = (D, h)
        if order == 2 and before is not None:
            half = h / before[1] / 2
            D = midway((1 + half) * D - half * before[0])
        ratio, factor = (
            root((1 - model.a[s]) / (1 - model.a[t])),
            root(model.a[s]) * (mpmath.exp(-h) - 1),
        )
        path.insert(0, midway(ratio * x - factor * D))
        before = now
    return {"trajectory": np.array(path)}


def heun_sample(
    beta: Any, slope: Any, offset: Any, curve: Any, target: str, x_T: Any, times: Any
) -> dict[str, Any]:
    """By trapezoids along the flow; the last step is Euler's."""
    model, path = Model(beta, slope, offset, curve, target), [x_T]
    for t, s in _steps(times):
        y, step = midway(path[0] / root(model.a[t])), model.flow(s) - model.flow(t)
        d = model.eps(path[0], t)
        if s > 0:
            d = midway((d + model.eps(midway(root(model.a[s]) * (y + step * d)), s)) / 2)
        path.insert(0, midway(root(model.a[s]) * (y + step * d)))
    return {"trajectory": np.array(path)}


def ddim_invert(
    beta: Any, slope: Any, offset: Any, curve: Any, target: str, x_0: Any, times: Any
) -> dict[str, Any]:
    """The x_t from which DDIM's step leads to x_s, coordinate by coordinate, by Newton's method."""
    model, path = Model(beta, slope, offset, curve, target), [x_0]
    for t, s in reversed(_steps(times)):
        source = np.frompyfunc(functools.partial(_source, model, t, s), 1, 1)
        path.append(solved(source(path[-1])))
    return {"trajectory": np.array(path)}


def _source(model: Model, t: int, s: int, x_s: Any) -> Any:
    a, b = model.a[t], model.a[s]
    slope, offset, curve = (table[t] for table in model.tables)

    def step(x: Any) -> Any:
        says = slope * x + offset + curve * mpmath.sin(x)
        x0, eps = (f(x, t, says, model.target) for f in (model.chain.x0, model.chain.eps))
        return mpmath.sqrt(b) * x0 + mpmath.sqrt(1 - b) * eps

    # the step is affine in x and in what is said there
    at_0, at_x, at_says = (_affine(model, t, s, *point) for point in ((0, 0), (1, 0), (0, 1)))
    x = x_s * mpmath.sqrt(a / b)
    for _ in range(60):
        slope_here = (at_x - at_0) + (at_says - at_0) * (slope + curve * mpmath.cos(x))
        change = (step(x) - x_s) / slope_here
        x -= change
        if abs(change) < mpmath.mpf(10) ** -36 * (1 + abs(x)):
            return x
    raise AssertionError("Newton's method does not settle")


def _affine(model: Model, t: int, s: int, x: int, says: int) -> Any:
    number, said = mpmath.mpf(x), mpmath.mpf(says)
    x0, eps = (f(number, t, said, model.target) for f in (model.chain.x0, model.chain.eps))
    return mpmath.sqrt(model.a[s]) * x0 + mpmath.sqrt(1 - model.a[s]) * eps


def _steps(times: Any) -> list[tuple[int, int]]:
    """From t to s, the last first."""
    visits = [0, *times]
    return list(zip(visits[:0:-1], visits[-2::-1], strict=True))


# --- cases --------------------------------------------------------------------------------

TABLES = ("slope", "offset", "curve")
# The betas, visited times, B, d, and a note.
VISITS: list[tuple[Any, list[int], int, int, str]] = [
    (UNEVEN, [1, 2, 3, 4, 5], 2, 2, "all of five times"),
    (LINEAR, [1, 4, 7, 10], 1, 3, "four of ten times, d = 3"),
    (LINEAR, [2, 3, 10], 2, 1, "uneven visits that do not start at 1, d = 1"),
    (HO, [10, 30, 50], 3, 2, "three of fifty times, B = 3"),
]
ENDS: list[tuple[Any, list[int], int, int, str]] = [
    (UNEVEN, [5], 2, 2, "one step, from T to the data"),
    (ONE, [1], 2, 2, "T = 1"),
    (THREE, [2, 3], 1, 2, "two steps"),
]


def _start(name: str, beta: Any, target: str, B: int, d: int) -> dict[str, Any]:
    """A network that is not far from one that knows its data: errors do not grow on their way."""
    tables = {table: some / 8 for table, some in network(name, len(beta), *TABLES).items()}
    slope, offset = _denoiser(beta, target)
    tables |= {"slope": slope + tables["slope"], "offset": offset + tables["offset"]}
    return {"beta": beta, **tables, "target": target, "x_T": draw(f"{name} x_T", B, d)}


def _denoiser(beta: Any, target: str) -> tuple[Any, Any]:
    """The best affine network for data from N(1/4, 1/4)."""
    a = np.cumprod([1.0, *(1.0 - np.asarray(beta))])
    now, before = a[1:], a[:-1]
    gain = np.sqrt(1.0 - now) / (1.0 - 0.75 * now)
    eps = np.array([gain, -gain * np.sqrt(now) / 4])
    x_t = np.array([[1.0], [0.0]])  # slope and offset of x_t itself
    x0 = (x_t - np.sqrt(1.0 - now) * eps) / np.sqrt(now)
    mean = np.sqrt(now / before) * (1.0 - before) * x_t + np.sqrt(before) * (1.0 - now / before) * x0
    v = np.sqrt(now) * eps - np.sqrt(1.0 - now) * x0
    says = {"eps": eps, "x0": x0, "mean": mean / (1.0 - now), "v": v}[target]
    slope, offset = rounded(np.concatenate([[[0.0], [0.0]], says], axis=1), 10)
    return slope, offset


def _noise(name: str, beta: Any, B: int, d: int) -> Any:
    noise = draw(f"{name} noise", len(beta) + 1, B, d)
    noise[0] = 0.0
    return noise


def _ancestral() -> Iterator[Draft]:
    flags = ["z-at-last-step", "E9", "variance-for-std", "skips-last-step", "off-by-one"]
    settings = [
        (UNEVEN, 2, 2, "five uneven betas"),
        (LINEAR, 1, 3, "ten steps, d = 3"),
        (THREE, 3, 1, "three steps, d = 1, B = 3"),
    ]
    for n, (beta, B, d, note) in enumerate(settings):
        for target in TARGETS:
            kind, name = ("posterior", "beta", "unit")[n], f"ancestral {n} {target}"
            inputs = _start(name, beta, target, B, d) | {"noise": _noise(name, beta, B, d)}
            own = flags if kind != "unit" else [flag for flag in flags if flag != "variance-for-std"]
            yield (
                inputs | {"sigma2": variances(beta, kind)},
                ["target", *own],
                f"{target}, {kind}: {note}",
            )
    inputs = _start("ancestral one", ONE, "eps", 2, 2) | {"noise": _noise("ancestral one", ONE, 2, 2)}
    yield (
        inputs | {"sigma2": variances(ONE, "beta")},
        ["z-at-last-step"],
        "eps: T = 1, a step without noise",
    )


def _ddim() -> Iterator[Draft]:
    def flags(times: list[int], beta: Any) -> list[str]:
        return ["off-by-one", *(["beta-at-visit"] if len(times) < len(beta) else [])]

    for n, (beta, times, B, d, note) in enumerate(VISITS):
        for target in TARGETS:
            if target == "mean" and n == 3:
                continue  # x_0 from the mean of so small a step is mostly rounding
            eta, name = (0.0, 1.0, 0.5, 0.25)[(n + TARGETS.index(target)) % 4], f"ddim {n} {target}"
            inputs = _start(name, beta, target, B, d) | {"noise": _noise(name, beta, B, d)}
            inputs |= {"eta": eta, "times": times}
            own = ["ddim-eta", "variance-for-std"] if 0.0 < eta < 1.0 else []
            yield inputs, ["target", *own, *flags(times, beta)], f"{target}, eta = {eta:g}: {note}"
    for n, (beta, times, B, d, note) in enumerate(
        [*ENDS, (DEEP, [1, 3, 6], 2, 2, "alpha_bar_T of 1e-5")]
    ):
        name = f"ddim end {n}"
        target = "v" if n == 3 else "eps"
        inputs = _start(name, beta, target, B, d) | {"noise": _noise(name, beta, B, d)}
        note = f"{target}, eta = 1: {note}; no noise in the step to the data"
        yield inputs | {"eta": 1.0, "times": times}, flags(times, beta), note


def _flow(
    name: str, flags: list[str], orders: tuple[int, ...], start: str
) -> Callable[[], Iterator[Draft]]:
    def cases() -> Iterator[Draft]:
        for order in orders:
            for n, (beta, times, B, d, note) in enumerate([*VISITS, *ENDS]):
                for target in TARGETS if n == 0 else (TARGETS[n % 2], "v")[: 2 if n < 4 else 1]:
                    key = f"{name} {n} {target}"
                    inputs = _start(key, beta, target, B, d)
                    inputs[start] = inputs.pop("x_T")
                    if orders != (0,):
                        inputs["order"] = order
                    inputs["times"] = times
                    # a step of order 2 is not the first, nor the last; for Heun's it may be the first
                    shows = len(times) > (1 if orders == (0,) else 2)
                    own = [flag for flag in flags if shows or flag not in ("order", "inverted-ratio")]
                    prefix = target if orders == (0,) else f"{target}, order {order}"
                    yield inputs, ["target", *own], f"{prefix}: {note}"

    return cases


def _invert() -> Iterator[Draft]:
    flags = ["inverse-asked-at-s", "target", "off-by-one"]
    near = (UNEVEN, [3, 5], 2, 2, "two steps, the first over three times")
    for n, (beta, times, B, d, note) in enumerate([*VISITS, near, *ENDS[1:]]):
        for target in ("eps", "x0", "v") if n < 3 else ("eps",):
            inputs = _start(f"invert {n} {target}", beta, target, B, d)
            inputs["x_0"] = inputs.pop("x_T")
            yield inputs | {"times": times}, flags, f"{target}: {note}"


NETWORK = {
    "beta": BETA,
    "slope": "of the network, which says slope[t] x + offset[t] + curve[t] sin(x); shape (T + 1,)",
    "offset": "shape (T + 1,)",
    "curve": "shape (T + 1,)",
    "target": 'what it says: "eps", "x0", "mean" or "v"',
}
X_T = {"x_T": "where it starts, shape (B, d)"}
NOISE = (
    "draws for the step from t, shape (T + 1, B, d); entries 0 and those of the last step are not used"
)
TIMES = "visited times, increasing, the last T, shape (S,); the network is asked at these"
PATH = {"trajectory": "shape (S + 1, B, d): entry i at times[i - 1], entry 0 the data"}
FUNCTIONS = [
    Function(
        "ancestral_sample",
        "J (13), Ho et al. 2020, Algorithm 2",
        "for t = T ... 1: x_{t-1} = model_mean(x_t, t) + sqrt(sigma2[t]) noise[t], but without noise"
        " at t = 1",
        {**NETWORK, **X_T, "noise": NOISE, "sigma2": SIGMA2},
        {"trajectory": "shape (T + 1, B, d): entry t is x_t"},
        ancestral_sample,
        _ancestral,
    ),
    Function(
        "ddim_sample",
        "Song, Meng & Ermon 2021, (12), (16)",
        "from t to s: x_s = sqrt(alpha_bar[s]) x0 + sqrt(1 - alpha_bar[s] - sigma^2) eps + sigma"
        " noise[t], sigma^2 = eta^2 (1 - alpha_bar[s]) / (1 - alpha_bar[t])"
        " (1 - alpha_bar[t] / alpha_bar[s])",
        {**NETWORK, **X_T, "noise": NOISE, "eta": "a number from 0 to 1", "times": TIMES},
        PATH,
        ddim_sample,
        _ddim,
    ),
    Function(
        "dpm_solver_sample",
        "Lu et al. 2022 (DPM-Solver++), Algorithm 2",
        "with l = log(alpha_bar / (1 - alpha_bar)) / 2 and h = l[s] - l[t], from t to s:"
        " x_s = sqrt((1 - alpha_bar[s]) / (1 - alpha_bar[t])) x_t - sqrt(alpha_bar[s]) (exp(-h) - 1) D;"
        " order 1: D = x0; order 2: D = (1 + 1 / (2 r)) x0 - 1 / (2 r) x0 of the step before,"
        " r = h of the step before / h; the first step and the one to 0 (h infinite) are of order 1",
        {**NETWORK, **X_T, "order": "1 or 2", "times": TIMES},
        PATH,
        dpm_solver_sample,
        _flow("dpm", ["order", "sign", "off-by-one", "inverted-ratio"], (1, 2), "x_T"),
    ),
    Function(
        "heun_sample",
        "Karras et al. 2022, Algorithm 1",
        "with y = x / sqrt(alpha_bar) and u = sqrt((1 - alpha_bar) / alpha_bar), from t to s:"
        " y_s = y_t + (u_s - u_t) (eps(x_t, t) + eps(x_s', s)) / 2,"
        " x_s' from y_t + (u_s - u_t) eps(x_t, t); the step to 0 is y_t - u_t eps(x_t, t)",
        {**NETWORK, **X_T, "times": TIMES},
        PATH,
        heun_sample,
        _flow("heun", ["order", "sign", "skips-last-step", "off-by-one"], (0,), "x_T"),
    ),
    Function(
        "ddim_invert",
        "Song et al. 2021 (SDE), section 4.3",
        "x_t such that ddim_sample's step with eta = 0 leads from it to x_s; the network is asked at"
        " x_t and t, not at x_s and s; tolerances let iterations stop at changes of 128 roundings",
        {**NETWORK, "x_0": "where it starts, shape (B, d)", "times": TIMES},
        PATH,
        ddim_invert,
        _invert,
    ),
]
