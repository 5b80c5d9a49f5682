"""Sampling loops are judged from ``sample`` alone: what is right passes, and each slip is named."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ddpm_np.testing import Report, check_identities


class Sampler:
    """Sampling as people write it, without ddpm_np; entry t of a table belongs to t, entry 0 to x_0.

    Each method is one decision, so that a slip or a variant is one of them replaced.
    """

    def __init__(self, T: int = 100, claims: dict[str, Any] | None = None, **changes: Any) -> None:
        self.T = T
        self.beta = (
            np.append(0.0, np.linspace(1e-4, 0.02, T) * 1000 / T) if T > 4 else np.r_[0, [0.3] * T]
        )
        self.claims = claims or {}
        self.target, self.clip = self.claims.get("target", "eps"), self.claims.get("clip")
        self.eta, self.visited = self.claims.get("eta"), list(self.claims.get("times", range(1, T + 1)))
        for name, change in changes.items():
            setattr(self, name, change.__get__(self) if callable(change) else change)
        self.table()

    def table(self) -> None:
        self.ab = np.cumprod(1.0 - self.beta)

    def betas(self):
        return self.beta[1:]

    def steps(self):
        return list(zip(self.visited, [0, *self.visited], strict=False))[::-1]

    def told(self, t):
        return t

    def guess(self, x, p, t):
        """x_0 and eps."""
        a, b = np.sqrt(self.ab[t]), np.sqrt(1.0 - self.ab[t])
        if self.target == "eps":
            return (x - b * p) / a, p
        if self.target == "v":
            return a * x - b * p, b * x + a * p
        if self.target == "mean":
            c0, ct = self.coefficients(t, t - 1)
            p = (p - ct * x) / c0
        return p, (x - a * p) / b

    def limit(self, x0):
        return np.clip(x0, -self.clip, self.clip) if self.clip else x0

    def coefficients(self, t, s):
        """Of x_0 and x_t in the posterior mean."""
        alpha = self.ab[t] / self.ab[s]
        c0 = np.sqrt(self.ab[s]) * (1.0 - alpha) / (1.0 - self.ab[t])
        return c0, np.sqrt(alpha) * (1.0 - self.ab[s]) / (1.0 - self.ab[t])

    def variance(self, t, s):
        tilde = (1.0 - self.ab[s]) / (1.0 - self.ab[t]) * (1.0 - self.ab[t] / self.ab[s])
        return tilde if self.eta is None else self.eta**2 * tilde

    def of_eps(self, t, s):
        return np.sqrt(np.maximum(1.0 - self.ab[s] - self.variance(t, s), 0.0))

    def mean(self, x, p, t, s):
        x0, eps = self.guess(x, p, t)
        if self.clip:
            x0 = self.limit(x0)
            eps = (x - np.sqrt(self.ab[t]) * x0) / np.sqrt(1.0 - self.ab[t])
        if self.eta is not None:
            return np.sqrt(self.ab[s]) * x0 + self.of_eps(t, s) * eps
        c0, ct = self.coefficients(t, s)
        return c0 * x0 + ct * x

    def noise(self, noise, t, s):
        return np.sqrt(self.variance(t, s)) * noise[t] if s > 0 else 0.0

    def step(self, x, p, t, s, noise):
        return self.mean(x, p, t, s) + self.noise(noise, t, s)

    def finish(self, x):
        return x

    def sample(self, predict, x_T, noise):
        x = x_T
        for t, s in self.steps():
            x = self.step(x, predict(x, self.told(t)), t, s, noise)
        return self.finish(x)


def report_of(sampler: Any, seed: int = 0, **claims: Any) -> Report:
    return check_identities(sampler, seed=seed, **{**sampler.claims, **claims})


ASKED, ENDS = "sample: predict is asked at each time", "sample: starts from x_T, ends with a step"
OF_X, OF_P = "sample: coefficient of x_t", "sample: coefficient of the prediction"
VARIANCE, LAST = "sample: variance of the noise", "sample: no noise at the last step"
OWN_Z, ELSE = "sample: z of each step is noise[t]", "sample: nothing else is added"
LIMITED = "sample: x_0 is limited as announced"

RESPACED = [7, 19, 20, 45, 77, 100]
LEADING = [1, 21, 41, 61, 81]


def in_eps(self, x, p, t, s):
    alpha = self.ab[t] / self.ab[s]
    eps = self.guess(x, p, t)[1]
    return (x - (1.0 - alpha) / np.sqrt(1.0 - self.ab[t]) * eps) / np.sqrt(alpha)


def not_revised(self, x, p, t, s):
    x0, eps = self.guess(x, p, t)
    return np.sqrt(self.ab[s]) * self.limit(x0) + self.of_eps(t, s) * eps


def beta(self, t, s):
    return 1.0 - self.ab[t] / self.ab[s]


def between(self, t, s):
    tilde = Sampler.variance(self, t, s)
    return np.exp(0.3 * np.log(beta(self, t, s)) + 0.7 * np.log(tilde)) if s > 0 else 0.0


def single_step(self, x, p, t, s, noise):
    x, p = np.float32(x), np.float32(p)
    z = np.float32(np.sqrt(self.variance(t, s))) * np.float32(noise[t]) if s > 0 else np.float32(0)
    a, b = np.float32(np.sqrt(self.ab[t])), np.float32(np.sqrt(1.0 - self.ab[t]))
    c0, ct = map(np.float32, self.coefficients(t, s))
    return c0 * ((x - b * p) / a) + ct * x + z


def single_ddim(self, x, p, t, s, noise):
    x, p, f = np.float32(x), np.float32(p), np.float32
    x0 = (x - f(np.sqrt(1.0 - self.ab[t])) * p) / f(np.sqrt(self.ab[t]))
    z = f(np.sqrt(self.variance(t, s))) * f(noise[t])
    return f(np.sqrt(self.ab[s])) * x0 + f(self.of_eps(t, s)) * p + z


def per_example(self, predict, x_T, noise):
    x, table = x_T, self.ab
    for t, s in self.steps():
        times = np.full(len(x), t)
        a, b = np.sqrt(table[times])[:, None], np.sqrt(1.0 - table[times])[:, None]
        x0 = (x - b * predict(x, int(times[0]))) / a
        c0, ct = self.coefficients(t, s)
        x = c0 * x0 + ct * x + self.noise(noise, t, s)
    return x


def guided(self, predict, x_T, noise):
    """Two questions about the same x_t, as guidance asks them."""
    x = x_T
    for t, s in self.steps():
        with_label, without = predict(x, t), predict(x, t)
        x = self.step(x, without + 3.0 * (with_label - without), t, s, noise)
    return x


def zero_terminal(self):
    self.beta = self.beta.copy()
    self.beta[-1] = 1.0
    self.ab = np.cumprod(1.0 - self.beta)


CORRECT: dict[str, Callable[[], Sampler]] = {
    "ancestral": Sampler,
    "ancestral in eps": lambda: Sampler(mean=in_eps),
    "beta": lambda: Sampler(variance=beta),
    "sigma^2 between beta_tilde and beta": lambda: Sampler(variance=between),
    "T = 1": lambda: Sampler(1),
    "T = 2": lambda: Sampler(2),
    "x0 target": lambda: Sampler(claims={"target": "x0"}),
    "v target": lambda: Sampler(claims={"target": "v"}),
    "mean target": lambda: Sampler(claims={"target": "mean"}),
    "x0 target through eps": lambda: Sampler(claims={"target": "x0"}, mean=in_eps),
    "DDIM": lambda: Sampler(claims={"eta": 0.0}),
    "DDIM, eta = 0.3": lambda: Sampler(claims={"eta": 0.3}),
    "DDIM, eta = 1": lambda: Sampler(claims={"eta": 1.0}),
    "ancestral is DDIM with eta = 1": lambda: Sampler(claims={"eta": 1.0}, mean=in_eps),
    "DDIM with v": lambda: Sampler(claims={"eta": 0.5, "target": "v"}),
    "DDIM with the mean": lambda: Sampler(claims={"eta": 0.5, "target": "mean"}),
    "respaced": lambda: Sampler(claims={"times": RESPACED}),
    "respaced beta": lambda: Sampler(claims={"times": RESPACED}, variance=beta),
    "respaced DDIM": lambda: Sampler(claims={"times": RESPACED, "eta": 0.7}),
    "respaced DDIM with x0": lambda: Sampler(claims={"times": RESPACED, "eta": 0.0, "target": "x0"}),
    "leading times": lambda: Sampler(claims={"times": LEADING, "eta": 0.0}),
    "clipped": lambda: Sampler(claims={"clip": 1.0}),
    "clipped at 3": lambda: Sampler(claims={"clip": 3.0}),
    "clipped v": lambda: Sampler(claims={"clip": 1.0, "target": "v"}),
    "clipped beta, x0 target": lambda: Sampler(claims={"clip": 1.0, "target": "x0"}, variance=beta),
    "clipped DDIM, eps derived anew": lambda: Sampler(claims={"clip": 1.0, "eta": 0.4}),
    "clipped DDIM, eps as it was": lambda: Sampler(claims={"clip": 1.0, "eta": 0.4}, mean=not_revised),
    "clipped DDIM of x0, eps as it was": lambda: Sampler(
        claims={"clip": 1.0, "eta": 0.4, "target": "x0"}, mean=not_revised
    ),
    "clipped, respaced DDIM with v": lambda: Sampler(
        claims={"clip": 1.0, "eta": 0.0, "times": RESPACED, "target": "v"}
    ),
    "float32": lambda: Sampler(claims={"dtype": "float32"}, step=single_step),
    "float32, T = 1000": lambda: Sampler(1000, claims={"dtype": "float32"}, step=single_step),
    "float32 DDIM, T = 1000": lambda: Sampler(
        1000, claims={"dtype": "float32", "eta": 0.2}, step=single_ddim
    ),
    "t of each example": lambda: Sampler(sample=per_example),
    "asked twice for guidance": lambda: Sampler(sample=guided),
    "zero terminal SNR with v": lambda: Sampler(claims={"target": "v"}, table=zero_terminal),
}


@pytest.mark.parametrize("name", CORRECT)
def test_correct_loops_do_not_fail(name):
    for seed in range(20):
        report = report_of(CORRECT[name](), seed)
        assert {row.verdict for row in report.rows} <= {"holds", "not offered", "remark"}, str(report)
        remarks = [
            row.identity
            for row in report.rows
            if row.verdict == "remark" and not row.identity.startswith("betas")  # of short chains
        ]
        # A single step has no noise before the last; a chain that starts late is not the whole one.
        expected = {"T = 1": [VARIANCE], "leading times": [ASKED]}
        assert remarks == expected.get(name, [])


# Rows, and slips in them: what is wrong, an implementation with it, and what the row says.
DDIM = {"eta": 0.5}
SHORT = {"times": RESPACED}


def told(shift: int) -> Callable[..., int]:
    return lambda self, t: t + shift


def steps(chosen: Callable[[list[Any]], list[Any]]) -> Callable[..., Any]:
    return lambda self: chosen(Sampler.steps(self))


def noise_of(which: Callable[[Any, int, int], Any], last: bool = False) -> Callable[..., Any]:
    def noise(self, noise, t, s):
        return np.sqrt(self.variance(t, s)) * noise[which(self, t, s)] if s > 0 or last else 0.0

    return noise


def scaled_noise(factor: Callable[[Any, int, int], Any]) -> Callable[..., Any]:
    return lambda self, noise, t, s: factor(self, t, s) * noise[t] if s > 0 else 0.0


def eps_mean(of_x: Callable[..., Any], of_eps: Callable[..., Any]) -> Callable[..., Any]:
    def mean(self, x, p, t, s):
        a, b, bar = 1.0 - self.beta[t], self.beta[t], self.ab[t]
        return of_x(a, b, bar) * x - of_eps(a, b, bar) * p

    return mean


def guessed(x0: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, x, p, t: (x0(x, p, self.ab[t], 1.0 - self.beta[t]), p)


def ddim_mean(of_x0: Callable[..., Any], of_eps: Callable[..., Any]) -> Callable[..., Any]:
    def mean(self, x, p, t, s):
        x0, eps = self.guess(x, p, t)
        now, before, sigma2 = self.ab[t], self.ab[s], self.variance(t, s)
        return of_x0(now, before, sigma2) * x0 + of_eps(now, before, sigma2) * eps

    return mean


def heun(self, predict, x_T, noise):
    x = x_T
    for t, s in self.steps():
        p = predict(x, t)
        y = self.step(x, p, t, s, noise)
        if s > 0:
            y = self.step(x, 0.5 * (p + predict(y, s)), t, s, noise)
        x = y
    return x


def multistep(self, predict, x_T, noise):
    x, before = x_T, 0.0
    for t, s in self.steps():
        p = predict(x, t)
        x = self.mean(x, 1.5 * p - 0.5 * before if t < self.T else p, t, s)
        before = p
    return x


def stops_inside(self, predict, x_T, noise):
    x = x_T
    for t, s in self.steps():
        p = predict(x, t)
        if s > 0:
            x = self.step(x, p, t, s, noise)
    return x


def own_noise(self, noise, t, s):
    z = np.random.default_rng().standard_normal(noise[0].shape)
    return np.sqrt(self.variance(t, s)) * z if s > 0 else 0.0


def threshold(self, x0):
    size = np.maximum(np.quantile(np.abs(x0), 0.9, axis=1, keepdims=True), 1.0)
    return np.clip(x0, -size, size) / size


def thresholded(self, x, p, t, s):
    c0, ct = self.coefficients(t, s)
    return c0 * threshold(self, self.guess(x, p, t)[0]) + ct * x


def before(first: Callable[..., Any]) -> Callable[..., Any]:
    """Coefficients of the posterior mean with another number for alpha_bar[0]."""

    def coefficients(self, t, s):
        bar, alpha = self.ab[s] if s > 0 else first(self), 1.0 - self.beta[t]
        rest = 1.0 - self.ab[t]
        return np.sqrt(bar) * self.beta[t] / rest, np.sqrt(alpha) * (1.0 - bar) / rest

    return coefficients


def long_mean(self, x, p, t, s):
    return in_eps(self, x, p, t, t - 1)


def limited(low: float, high: float) -> Callable[..., Any]:
    def mean(self, x, p, t, s):
        c0, ct = self.coefficients(t, s)
        return c0 * np.clip(self.guess(x, p, t)[0], low, high) + ct * x

    return mean


def limited_step(self, x, p, t, s, noise):
    return np.clip(Sampler.step(self, x, p, t, s, noise), -1.0, 1.0)


def wrong_at_2(piece: str, wrong: Callable[..., Any]) -> Callable[..., Any]:
    right = getattr(Sampler, piece)
    place = -3 if piece == "step" else -2

    def method(self, *arguments):
        return (wrong if arguments[place] == 2 else right)(self, *arguments)

    return method


def S(claims: dict[str, Any] | None = None, **changes: Any) -> Callable[..., Sampler]:
    return lambda T=100: Sampler(T, claims, **changes)


root = np.sqrt
SLIPS: dict[str, tuple[str, Callable[[], Sampler], str]] = {
    # times
    "last step dropped": (
        ASKED,
        S(steps=steps(lambda s: s[:-1])),
        "stops early: predict is last asked at t = 2",
    ),
    "range(T - 1, 0, -1)": (
        ASKED,
        S(steps=steps(lambda s: s[1:])),
        "starts late: predict is first asked at t = 99",
    ),
    "t - 1 told to the network": (ASKED, S(told=told(-1)), "t - 1 at every step"),
    "t + 1 told to the network": (ASKED, S(told=told(1)), "t + 1 at every step"),
    "one t for all": (ASKED, S(told=lambda self, t: 50), "told t = 50 at every step"),
    "the other way": (ASKED, S(steps=steps(lambda s: s[::-1])), "the wrong way"),
    "a step skipped": (ASKED, S(steps=steps(lambda s: s[:50] + s[51:])), "never asked at t = 50"),
    "respaced, not announced": (ASKED, S(visited=RESPACED), "announce times="),
    "told the place in the short chain": (
        ASKED,
        S(SHORT, told=lambda self, t: 1 + RESPACED.index(t)),
        "the place of a time among the visited ones, not",
    ),
    "Heun": (ASKED, S({"eta": 0.0}, sample=heun), "more than once at each time"),
    "last step of the respaced chain dropped": (
        ASKED,
        S(SHORT, steps=steps(lambda s: s[:-1])),
        "stops early",
    ),
    "each step goes back by T // S": (
        OF_P,
        S({**SHORT, "eta": 0.0}, steps=steps(lambda s: [(t, max(t - 100 // len(s), 0)) for t, _ in s])),
        "goes T // (number of steps) back",
    ),
    "each step goes back by T // S, its noise too": (
        VARIANCE,
        S({**SHORT, "eta": 0.5}, steps=steps(lambda s: [(t, max(t - 100 // len(s), 0)) for t, _ in s])),
        "goes T // (number of steps) back",
    ),
    # ends
    "last step not taken": (ENDS, S(sample=stops_inside), "the last step is left out"),
    "x_T scaled": (
        ENDS,
        S(
            steps=Sampler.steps,
            sample=lambda self, predict, x, z: Sampler.sample(self, predict, 2 * x, z),
        ),
        "from 2 x_T",
    ),
    "x_T of its own": (
        ENDS,
        S(sample=lambda self, predict, x, z: Sampler.sample(self, predict, x[::-1], z)),
        "does not start from x_T",
    ),
    "result limited": (ENDS, S(finish=lambda self, x: np.clip(x, -1.0, 1.0)), "limited to [-1, 1]"),
    "result in [0, 1]": (
        ENDS,
        S(finish=lambda self, x: np.clip((x + 1) / 2, 0.0, 1.0)),
        "limited to [0, 1]",
    ),
    "result as (x + 1) / 2": (ENDS, S(finish=lambda self, x: (x + 1.0) / 2.0), "0.5 x_0 +0.5"),
    # coefficients
    "1 / sqrt(alpha) missing": (
        OF_X,
        S(mean=eps_mean(lambda a, b, bar: 1.0, lambda a, b, bar: b / root(1 - bar))),
        "is missing in (34)",
    ),
    "1 / alpha": (
        OF_X,
        S(mean=eps_mean(lambda a, b, bar: 1 / a, lambda a, b, bar: b / root(1 - bar) / a)),
        "1 / alpha[t] in place",
    ),
    "x alone divided": (
        OF_P,
        S(mean=eps_mean(lambda a, b, bar: 1 / root(a), lambda a, b, bar: b / root(1 - bar))),
        "multiplies x_t alone",
    ),
    "root of 1 - alpha_bar forgotten": (
        OF_P,
        S(mean=eps_mean(lambda a, b, bar: 1 / root(a), lambda a, b, bar: b / (1 - bar) / root(a))),
        "lacks the square root",
    ),
    "alpha for alpha_bar": (
        OF_P,
        S(mean=eps_mean(lambda a, b, bar: 1 / root(a), lambda a, b, bar: root(b) / root(a))),
        "alpha[t] in place of alpha_bar[t] in (34)",
    ),
    "sign of eps": (
        OF_P,
        S(mean=eps_mean(lambda a, b, bar: 1 / root(a), lambda a, b, bar: -b / root(1 - bar) / root(a))),
        "the sign of eps is wrong in (34)",
    ),
    "alpha for beta": (
        OF_P,
        S(mean=eps_mean(lambda a, b, bar: 1 / root(a), lambda a, b, bar: a / root(1 - bar) / root(a))),
        "alpha[t] in place of beta[t]",
    ),
    "coefficients swapped": (
        OF_X,
        S(coefficients=lambda self, t, s: Sampler.coefficients(self, t, s)[::-1] if s else (1.0, 0.0)),
        "swapped",
    ),
    "x_0 returned": (
        OF_X,
        S(mean=lambda self, x, p, t, s: self.guess(x, p, t)[0]),
        "the predicted x_0 is taken for the next x",
    ),
    "1 - alpha_bar without root in x_0": (
        OF_P,
        S(guess=guessed(lambda x, p, bar, a: (x - (1 - bar) * p) / root(bar))),
        "(E2)",
    ),
    "alpha_bar without root in x_0": (
        OF_X,
        S(guess=guessed(lambda x, p, bar, a: (x - root(1 - bar) * p) / bar)),
        "alpha_bar[t] without its square root in x_0",
    ),
    "x_0 not divided": (
        OF_X,
        S(guess=guessed(lambda x, p, bar, a: x - root(1 - bar) * p)),
        "the division by sqrt(alpha_bar[t]) is missing",
    ),
    "alpha in x_0": (
        OF_P,
        S(DDIM, guess=guessed(lambda x, p, bar, a: (x - root(1 - a) * p) / root(a))),
        "alpha[t] in place of alpha_bar[t] in x_0",
    ),
    "eps taken for x_0": (OF_X, S({"target": "x0"}, target="eps"), "the prediction is taken for eps"),
    "x_0 taken for eps": (OF_X, S(target="x0"), "the prediction is taken for x0"),
    "v taken for eps in DDIM": (
        OF_P,
        S({"target": "v", "eta": 0.0}, target="eps"),
        "the prediction is taken for eps",
    ),
    "sign of v": (
        OF_P,
        S({"target": "v"}, guess=lambda self, x, p, t: Sampler.guess(self, x, -p, t)),
        "the sign of v is wrong",
    ),
    "sign of eps in DDIM": (
        OF_P,
        S(DDIM, mean=ddim_mean(lambda now, s, v: root(s), lambda now, s, v: -root(1 - s - v))),
        "the sign of eps is wrong in DDIM",
    ),
    "no - sigma^2 in DDIM": (
        OF_P,
        S(DDIM, mean=ddim_mean(lambda now, s, v: root(s), lambda now, s, v: root(1 - s))),
        "without - sigma^2",
    ),
    "root of alpha_bar forgotten in DDIM": (
        OF_X,
        S(DDIM, mean=ddim_mean(lambda now, s, v: s, lambda now, s, v: root(np.maximum(1 - s - v, 0)))),
        "alpha_bar[s] without its square root at x_0",
    ),
    "root at eps forgotten in DDIM": (
        OF_P,
        S(DDIM, mean=ddim_mean(lambda now, s, v: root(s), lambda now, s, v: np.maximum(1 - s - v, 0))),
        "without its square root",
    ),
    "alpha_bar[t] for alpha_bar[s] in DDIM": (
        OF_X,
        S(
            DDIM,
            mean=ddim_mean(
                lambda now, s, v: root(now), lambda now, s, v: root(np.maximum(1 - s - v, 0))
            ),
        ),
        "alpha_bar[t] in place of alpha_bar[s] at x_0",
    ),
    "DDIM, not announced": (OF_P, S(eta=0.0), "DDIM with eta = 0"),
    "ancestral, DDIM announced": (OF_P, S(DDIM, eta=None), "ancestral sampling, not DDIM"),
    "beta at the visited time": (OF_P, S(SHORT, mean=long_mean), "of the long chain"),
    "wrong at t = 2 alone": (
        OF_P,
        S(mean=wrong_at_2("mean", lambda self, x, p, t, s: in_eps(self, x, -p, t, s))),
        "at t = 2",
    ),
    "coefficients of t + 1": (
        OF_X,
        S(
            coefficients=lambda self, t, s: Sampler.coefficients(
                self, min(t + 1, self.T), min(s + 1, self.T - 1)
            )
        ),
        "off by one",
    ),
    "alpha_bar[1] for alpha_bar[0]": (
        OF_X,
        S(coefficients=before(lambda self: self.ab[1])),
        "alpha_bar[1] is taken for alpha_bar[0]",
    ),
    "np.roll for alpha_bar[t - 1]": (
        OF_X,
        S(coefficients=before(lambda self: self.ab[-1])),
        "alpha_bar[T] is taken for alpha_bar[0]",
    ),
    "beta_tilde for beta": (
        OF_P,
        S(
            mean=lambda self, x, p, t, s: (
                (x - self.variance(t, s) / root(1 - self.ab[t]) * p) / root(1 - self.beta[t])
            )
        ),
        "beta_tilde[t] in place of beta[t] in (34)",
    ),
    "DDIM of the long chain": (
        OF_P,
        S(
            {"eta": 0.0, "times": RESPACED},
            mean=lambda self, x, p, t, s: Sampler.mean(self, x, p, t, t - 1),
        ),
        "of the long chain",
    ),
    "no root in the limited x_0": (
        OF_P,
        S({"clip": 1.0}, guess=guessed(lambda x, p, bar, a: (x - (1 - bar) * p) / root(bar))),
        "(E2)",
    ),
    "limited x_0, coefficients swapped": (
        OF_P,
        S(
            {"clip": 1.0},
            coefficients=lambda self, t, s: Sampler.coefficients(self, t, s)[:: -1 if s else 1],
        ),
        "swapped",
    ),
    "limited x_0, no - sigma^2 in DDIM": (
        OF_P,
        S({"clip": 1.0, "eta": 0.5}, of_eps=lambda self, t, s: root(1 - self.ab[s])),
        "without - sigma^2",
    ),
    # noise
    "standard deviation: sigma^2 z": (
        VARIANCE,
        S(noise=scaled_noise(lambda self, t, s: self.variance(t, s))),
        "its square root is missing",
    ),
    "no noise at all": (VARIANCE, S(noise=scaled_noise(lambda self, t, s: 0.0)), "no noise is added"),
    "no z at t = 2": (
        VARIANCE,
        S(noise=scaled_noise(lambda self, t, s: root(self.variance(t, s)) * (t > 2))),
        "no noise is added",
    ),
    "z before the mean is scaled": (
        VARIANCE,
        S(noise=scaled_noise(lambda self, t, s: root(self.variance(t, s) * self.ab[s] / self.ab[t]))),
        "before the mean is divided",
    ),
    "eta squared twice": (
        VARIANCE,
        S(DDIM, noise=scaled_noise(lambda self, t, s: 0.5 * root(self.variance(t, s)))),
        "eta is squared twice",
    ),
    "eta not squared": (
        VARIANCE,
        S(DDIM, noise=scaled_noise(lambda self, t, s: root(2.0 * self.variance(t, s)))),
        "eta is not squared",
    ),
    "another eta": (VARIANCE, S(DDIM, eta=0.8), "eta = 0.8"),
    "beta of the long chain": (
        VARIANCE,
        S(SHORT, noise=scaled_noise(lambda self, t, s: root(self.beta[t]))),
        "beta[t] of the long chain",
    ),
    "too much noise": (
        VARIANCE,
        S(noise=scaled_noise(lambda self, t, s: 1.5 * root(self.beta[t]))),
        "z is multiplied by 1.5 (sigma_t^2 is beta[t])",
    ),
    "1 - alpha_bar[s] as variance": (
        VARIANCE,
        S(noise=scaled_noise(lambda self, t, s: root(1 - self.ab[s]))),
        "noised anew",
    ),
    "beta_tilde of t - 1": (
        VARIANCE,
        S(variance=lambda self, t, s: Sampler.variance(self, max(t - 1, 2), max(s - 1, 1))),
        "off by one: sigma_t^2 is beta_tilde[t] (25) at t - 1",
    ),
    "beta of t + 1": (
        VARIANCE,
        S(noise=scaled_noise(lambda self, t, s: root(self.beta[min(t + 1, self.T)]))),
        "off by one: sigma_t^2 is beta[t] at t + 1",
    ),
    "1 - alpha_bar[t] as variance": (
        VARIANCE,
        S(noise=scaled_noise(lambda self, t, s: root(1 - self.ab[t]))),
        "the variance of x_t given x_0",
    ),
    "noise at the last step (E9)": (
        LAST,
        S(variance=beta, noise=noise_of(lambda self, t, s: t, last=True)),
        "E9",
    ),
    "noise at the last step of a short chain": (
        LAST,
        S(SHORT, variance=beta, noise=noise_of(lambda self, t, s: t, last=True)),
        "E9",
    ),
    "noise of t - 1": (OWN_Z, S(noise=noise_of(lambda self, t, s: t - 1)), "noise[t - 1]"),
    "noise of T - t": (OWN_Z, S(noise=noise_of(lambda self, t, s: self.T - t)), "noise[100 - t]"),
    "the same z at every step": (OWN_Z, S(noise=noise_of(lambda self, t, s: self.T)), "the same z"),
    "z in pairs": (OWN_Z, S(noise=noise_of(lambda self, t, s: t - t % 2)), "noise[t - 1]"),
    "noise of its own": (OWN_Z, S(noise=own_noise), "noise of its own is added, of variance beta_tilde"),
    # anything else
    "x_0 limited": (LIMITED, S(mean=limited(-1.0, 1.0)), "x_0 is limited to [-1, 1]"),
    "x_0 limited to [-0.1, 0.1]": (LIMITED, S(mean=limited(-0.1, 0.1)), "x_0 is limited to [-0.1, 0.1]"),
    "x_0 limited to [0, 1]": (LIMITED, S(mean=limited(0.0, 1.0)), "x_0 is limited to [0, 1]"),
    "x_0 limited elsewhere": (LIMITED, S({"clip": 1.0}, clip=2.0), "x_0 is limited to [-2, 2]"),
    "announced, but not limited": (
        LIMITED,
        S({"clip": 1.0}, clip=None),
        "announced, but x_0 is not limited",
    ),
    "x_{t-1} limited": (LIMITED, S(step=limited_step), "x_{t-1} is limited to [-1, 1]"),
    "thresholded": (LIMITED, S(mean=thresholded), "rescaled for each example"),
    "a constant": (
        ELSE,
        S(finish=Sampler.finish, step=lambda self, *a: Sampler.step(self, *a) + 0.01),
        "a constant is added",
    ),
    "multistep": (ELSE, S({"eta": 0.0}, sample=multistep), "the prediction of the step before"),
}


@pytest.mark.parametrize("name", SLIPS)
def test_slip_is_caught_and_named(name):
    row, make, words = SLIPS[name]
    report = report_of(make())
    assert report[row].verdict == "FAILS", str(report)
    assert words in report[row].explanation, str(report)


def test_each_slip_of_a_step_is_one_finding():
    """It shows in one row, in both coefficients of a mean, in one and its noise, or in all of a step."""
    together = {OF_X, OF_P}, {OF_P, VARIANCE}, {OF_P, ELSE}, {OF_X, OF_P, VARIANCE}
    for _, make, _ in SLIPS.values():
        failed = {row.identity for row in report_of(make()).failed}
        assert len(failed) == 1 or failed in together


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("T", [50, 200, 1000, 4000])
def test_a_loop_without_its_last_step_fails_at_any_length(T, dtype):
    sampler = Sampler(T, steps=steps(lambda s: s[:-1]))
    assert "stops early" in report_of(sampler, dtype=dtype)[ASKED].explanation
    inside = Sampler(T, sample=stops_inside)
    assert "the last step is left out" in report_of(inside, dtype=dtype)[ENDS].explanation


def in_single_precision(sampler: Sampler) -> Sampler:
    """The same loop, with float32 arrays throughout."""
    exact = sampler.sample

    def sample(predict, x_T, noise):
        def ask(x, t):
            return np.float32(predict(np.float32(x), t))

        return np.float32(exact(ask, np.float32(x_T), np.float32(noise)))

    sampler.sample = sample
    return sampler


@pytest.mark.parametrize("name", SLIPS)
def test_slip_is_named_in_float32(name):
    row, make, words = SLIPS[name]
    report = report_of(in_single_precision(make()), dtype="float32")
    assert report[row].verdict == "FAILS", str(report)
    assert words in report[row].explanation, str(report)


def test_float32_that_is_not_said_is_imprecise():
    report = report_of(Sampler(step=single_step))
    assert report.ok
    imprecise = [row for row in report.rows if row.verdict == "imprecise"]
    assert {row.identity for row in imprecise} == {OF_X, OF_P, VARIANCE, LAST, ELSE}
    assert all('say dtype="float32"' in row.explanation for row in imprecise)


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        (lambda self, predict, x_T, noise: x_T, "never asks predict"),
        (lambda self, predict, x_T, noise: predict(x_T[:2], self.T), "must return shape (64, 3)"),
        (lambda self, predict, x_T, noise: predict(x_T, 0.5), "must be an integer"),
        (lambda self, predict, x_T, noise: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_a_loop_that_cannot_be_seen_is_one_finding(sample, words):
    report = report_of(Sampler(sample=sample))
    assert [row.identity for row in report.failed] == [ASKED]
    assert words in report.failed[0].explanation
    assert report[OF_X].explanation.startswith("cannot be judged")


def test_what_becomes_infinite_is_said():
    def grows(self, x, p, t, s):
        return Sampler.mean(self, x, p, t, s) * (1.0 if t != 50 else np.inf)

    report = report_of(Sampler(mean=grows))
    assert report[ELSE].explanation == "x_t is not finite after the step from t = 50"
    assert report[ENDS].explanation == "the result is not finite"


class WithStep(Sampler):
    """A loop and its step, offered both."""

    def reverse_step(self, x_t, t, eps, z):
        return self.step(x_t, eps, t, t - 1, {t: z})


BOTH = {
    OF_X: "reverse_step: coefficient of x_t",
    OF_P: "reverse_step: coefficient of eps",
    VARIANCE: "reverse_step: variance of the noise",
    LAST: "reverse_step: no noise at t = 1",
}


def test_rows_of_the_step_and_the_loop_that_say_the_same_are_one():
    report = report_of(WithStep())
    assert report.ok
    for loop, step in BOTH.items():
        assert report[loop] is report[step]
        assert report[loop].identity == step.replace(":", ", sample:")
    assert report[VARIANCE].explanation == "sigma_t^2 is beta_tilde[t] (25)"


def test_a_slip_of_the_step_and_the_loop_is_one_row():
    wrong = eps_mean(lambda a, b, bar: 1 / root(a), lambda a, b, bar: b / (1 - bar) / root(a))
    report = report_of(WithStep(mean=wrong))
    assert [row.identity for row in report.failed] == ["reverse_step, sample: coefficient of eps"]
    assert "lacks the square root" in report.failed[0].explanation


def test_what_only_the_loop_gets_wrong_is_a_row_of_the_loop():
    report = report_of(
        WithStep(sample=lambda self, predict, x, z: Sampler.sample(self, predict, x, 2 * z))
    )
    assert [row.identity for row in report.failed] == [VARIANCE]
    assert report["reverse_step: variance of the noise"].verdict == "holds"


def test_other_claims_are_not_merged():
    report = report_of(WithStep(claims={"target": "v"}, reverse_step=None))
    assert report[OF_P].also == ()


def test_the_loop_may_work_in_place():
    """What the checker keeps of its questions and answers is its own."""

    def sample(self, predict, x_T, noise):
        x = x_T
        for t, s in self.steps():
            p = predict(x, t)
            x[...] = self.step(x, p, t, s, noise)
            p *= np.nan
        return x

    report = report_of(Sampler(sample=sample))
    assert [row.explanation for row in report.failed] == ["changed in place: sample: x_T"]


def test_ends_of_stable_diffusion_are_named():
    """Its last step goes to alpha_bar[1]."""

    def mean(self, x, p, t, s):
        x0, eps = self.guess(x, p, t)
        s = max(s, 1)
        return np.sqrt(self.ab[s]) * x0 + np.sqrt(1.0 - self.ab[s]) * eps

    report = report_of(Sampler(claims={"eta": 0.0, "times": RESPACED}, mean=mean))
    assert "alpha_bar[1] is taken for alpha_bar[0], which has to be 1" in report[OF_P].explanation
