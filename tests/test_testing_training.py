"""Training seen from its loss alone: right losses pass for any seed, each slip is caught and named."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ddpm_np.testing import check_identities

TIMES = "loss: t from 1 to T, none left out"
UNIFORM = "loss: t uniform, one for each example"
SIGNAL = "loss: coefficient of x0 in x_t"
LAW = "loss: law of the noise in x_t"
NEW = "loss: noise is new for every entry"
TARGET = "loss: target of the network"
WEIGHT = "loss: weight as a function of t"
ROWS = (TIMES, UNIFORM, SIGNAL, LAW, NEW, TARGET, WEIGHT)


class Trainer:
    """Algorithm 1 as people write it, one part after the other; tables with an entry for t = 0."""

    def __init__(self, T: int = 100, kind: Any = np.float64) -> None:
        self.T = T
        scale = 100.0 / T
        betas = np.linspace(1e-3 * scale, min(0.2 * scale, 0.6), T).astype(kind)
        self.beta = np.concatenate([[0.0], betas.astype(np.float64)])
        self.alpha = 1.0 - self.beta
        self.ab = np.cumprod(self.alpha)
        self.snr = self.ab / np.maximum(1.0 - self.ab, 1e-300)
        self.kind = kind

    def betas(self):
        return self.beta[1:]

    def times(self, rng, size):
        return rng.integers(1, self.T + 1, size)

    def noise(self, rng, x0, t):
        return rng.standard_normal(x0.shape)

    def x_t(self, x0, t, noise):
        return np.sqrt(self.ab)[t] * x0 + np.sqrt(1.0 - self.ab)[t] * noise

    def told(self, t):
        return t[:, 0]

    def target(self, x0, t, noise, rng):
        return noise

    def weight(self, t):
        return 1.0

    def reduced(self, weight, error):
        return np.mean(weight * error**2)

    def loss(self, predict, x0, rng):
        t = self.times(rng, len(x0)).reshape(-1, 1)
        x0 = x0.astype(self.kind)
        noise = self.noise(rng, x0, t).astype(self.kind)
        x_t = self.x_t(x0, t, noise).astype(self.kind)
        prediction = predict(x_t, self.told(t)).astype(self.kind)
        error = self.target(x0, t, noise, rng).astype(self.kind) - prediction
        return self.reduced(self.weight(t), error)


def trainer(T: int = 100, kind: Any = np.float64, **methods: Callable[..., Any]) -> Trainer:
    return type("Changed", (Trainer,), methods)(T, kind)


def rows(implementation: Trainer, seed: int = 0, **options: Any) -> dict[str, Any]:
    report = check_identities(implementation, seed=seed, **options)
    return {row.identity: row for row in report.rows if row.identity in ROWS}


def v_target(s, x0, t, noise, rng):
    return np.sqrt(s.ab)[t] * noise - np.sqrt(1.0 - s.ab)[t] * x0


def x0_target(s, x0, t, noise, rng):
    return x0


def mean_target(s, x0, t, noise, rng):
    before, after = s.ab[t - 1], s.ab[t]
    x_t = np.sqrt(after) * x0 + np.sqrt(1.0 - after) * noise
    of_x0 = np.sqrt(before) * s.beta[t] / (1.0 - after)
    return of_x0 * x0 + np.sqrt(s.alpha[t]) * (1.0 - before) / (1.0 - after) * x_t


def bound_weight(s, t, sigma2):
    return s.beta[t] ** 2 / (2.0 * sigma2[t] * s.alpha[t] * (1.0 - s.ab[t]))


def small_variance(s):
    tilde = s.beta * (1.0 - np.concatenate([[1.0], s.ab[:-1]])) / np.maximum(1.0 - s.ab, 1e-300)
    tilde[1] = tilde[2]
    return tilde


def own_sums(s, weight, error):
    return np.sum(weight * error**2, axis=1)


def own_means(s, weight, error):
    return np.mean(weight * error**2, axis=1)


def antithetic(s, rng, size):
    assert size % 2 == 0
    t = rng.integers(1, s.T + 1, size // 2)
    return np.concatenate([t, s.T + 1 - t])


def stratified(s, rng, size):
    return rng.permutation(1 + np.floor(s.T * (np.arange(size) + rng.random(size)) / size).astype(int))


def one_time(s, rng, size):
    return np.full(size, rng.integers(1, s.T + 1))


def growing(s, rng, size):
    return rng.choice(np.arange(1, s.T + 1), size, p=share(s))


def share(s):
    p = np.arange(1.0, s.T + 1.0) + 0.5 * s.T
    return p / p.sum()


# What is right: the trainer, the options, and what is said of its times and of its weight.
PLAIN = "1 at every t; mean over dimensions and examples"
RIGHT: dict[str, tuple[Trainer, dict[str, Any], str, str]] = {
    "eps": (trainer(), {}, "", PLAIN),
    "T = 1000": (trainer(1000), {}, "", PLAIN),
    "T = 3": (trainer(3), {}, "", PLAIN),
    "T = 2": (trainer(2), {}, "", PLAIN),
    "T = 1": (trainer(1), {}, "", PLAIN),
    "float32": (trainer(1000, np.float32), {"dtype": "float32"}, "", PLAIN),
    "float32, one number per example": (
        trainer(1000, np.float32, reduced=own_means),
        {"dtype": "float32"},
        "",
        "1 at every t; mean over dimensions",
    ),
    "one number per example": (trainer(reduced=own_sums), {}, "", "1 at every t; sum over dimensions"),
    "half a sum": (
        trainer(reduced=lambda s, w, e: 0.5 * np.mean(np.sum(w * e**2, axis=1))),
        {},
        "",
        "1/2 times, sum over dimensions, mean over examples",
    ),
    "x0": (trainer(target=x0_target), {"target": "x0"}, "", PLAIN),
    "v": (trainer(target=v_target), {"target": "v"}, "", PLAIN),
    "mean": (trainer(target=mean_target), {"target": "mean"}, "", PLAIN),
    "mean in float32": (
        trainer(1000, np.float32, target=mean_target),
        {"target": "mean", "dtype": "float32"},
        "",
        PLAIN,
    ),
    "bound, beta": (
        trainer(weight=lambda s, t: bound_weight(s, t, s.beta), reduced=own_sums),
        {},
        "",
        "the bound's, sigma_t^2 = beta[t]",
    ),
    "bound, beta_tilde": (
        trainer(weight=lambda s, t: s.T * bound_weight(s, t, small_variance(s))),
        {},
        "",
        "the bound's, sigma_t^2 = beta_tilde[t] (25); T times, mean over dimensions and examples",
    ),
    "bound of the mean": (
        trainer(target=mean_target, weight=lambda s, t: 0.5 / s.beta[t]),
        {"target": "mean"},
        "",
        "the bound's, sigma_t^2 = beta[t]",
    ),
    "eps-weight for x0": (
        trainer(target=x0_target, weight=lambda s, t: s.snr[t]),
        {"target": "x0"},
        "",
        "1 for the error of eps",
    ),
    "min-SNR": (
        trainer(weight=lambda s, t: np.minimum(s.snr[t], 5.0) / s.snr[t]),
        {},
        "",
        "min-SNR with gamma = 5",
    ),
    "min-SNR of v": (
        trainer(target=v_target, weight=lambda s, t: np.minimum(s.snr[t], 2.0) / (s.snr[t] + 1.0)),
        {"target": "v"},
        "",
        "min-SNR with gamma = 2",
    ),
    "truncated SNR": (
        trainer(target=x0_target, weight=lambda s, t: np.maximum(s.snr[t], 1.0)),
        {"target": "x0"},
        "",
        "truncated SNR, max(SNR, 1)",
    ),
    "P2": (
        trainer(weight=lambda s, t: (1.0 + s.snr[t]) ** -0.5),
        {},
        "",
        "P2, (k + SNR)^-gamma with k = 1, gamma = 0.5",
    ),
    "antithetic times": (trainer(times=antithetic), {}, "", PLAIN),
    "stratified times": (trainer(times=stratified), {}, "", PLAIN),
    "one time per batch": (
        trainer(times=one_time),
        {},
        "one t for all examples of a batch",
        "1 at every t; mean over dimensions and examples",
    ),
    "an int for t": (
        trainer(times=one_time, told=lambda s, t: int(t[0, 0])),
        {},
        "one t for all examples of a batch",
        PLAIN,
    ),
    "times of another integer type": (
        trainer(told=lambda s, t: t[:, 0].astype(np.uint16)),
        {},
        "",
        PLAIN,
    ),
    "p(t) that its weight makes up for": (
        trainer(times=growing, weight=lambda s, t: 1.0 / (s.T * share(s)[t - 1]), reduced=own_means),
        {},
        "t is not uniform",
        "1 at every t, over T p(t)",
    ),
    "p(t)": (trainer(times=growing), {}, "t is not uniform", "no 1 / (T p(t)) makes up for it"),
    "an own weight": (trainer(weight=lambda s, t: 1.0 + np.sin(t)), {}, "", "none of the known weights"),
    "another weight at t = 1": (
        trainer(weight=lambda s, t: np.where(t == 1, 3.0, 1.0)),
        {},
        "",
        "1 at every t, but another weight at t = 1",
    ),
    "absolute error": (
        trainer(reduced=lambda s, w, e: np.mean(np.abs(e))),
        {},
        "",
        "no squared error but one that is linear far out",
    ),
    "Huber's error": (
        trainer(reduced=lambda s, w, e: np.mean(np.where(np.abs(e) < 1.0, 0.5 * e**2, np.abs(e) - 0.5))),
        {},
        "",
        "no squared error but one that is linear far out",
    ),
    "root of the mean square": (
        trainer(reduced=lambda s, w, e: np.sqrt(np.mean(e**2))),
        {},
        "",
        "the square root of a squared error",
    ),
    "fourth power": (trainer(reduced=lambda s, w, e: np.mean(e**4)), {}, "", "cannot be judged"),
}


def no_failure(name: str, seeds: range) -> None:
    implementation, options, of_times, of_weight = RIGHT[name]
    for seed in seeds:
        found = rows(implementation, seed, **options)
        assert {row.verdict for row in found.values()} <= {"holds", "remark"}, found
        assert of_times in found[UNIFORM].explanation
        assert of_weight in found[WEIGHT].explanation


@pytest.mark.parametrize("name", RIGHT)
def test_right_losses_do_not_fail(name):
    no_failure(name, range(2))


@pytest.mark.slow
@pytest.mark.parametrize("name", RIGHT)
def test_right_losses_do_not_fail_for_any_seed(name):
    no_failure(name, range(2, 20))


def test_rows_hold_at_small_tolerances_only():
    for name in RIGHT:
        implementation, options, *_ = RIGHT[name]
        for row in rows(implementation, **options).values():
            assert row.verdict != "holds" or row.tolerance <= 0.1, row


def shifted_x_t(by: int) -> Callable[..., Any]:
    return lambda s, x0, t, noise: Trainer.x_t(s, x0, np.clip(t + by, 0, s.T), noise)


def x_t_with(signal: Callable[..., Any], sigma: Callable[..., Any]) -> Callable[..., Any]:
    return lambda s, x0, t, noise: signal(s)[t] * x0 + sigma(s)[t] * noise


def a(s):
    return np.sqrt(s.ab)


def b(s):
    return np.sqrt(1.0 - s.ab)


def mixed(noise):
    return np.sqrt(0.5) * (noise + np.roll(noise, 1, axis=0))


# By the row that catches it: the slip, a trainer with it, the options, and what the row says.
WRONG: dict[str, dict[str, tuple[Trainer, dict[str, Any], str]]] = {
    TIMES: {
        "never T": (
            trainer(times=lambda s, g, n: g.integers(1, s.T, n)),
            {},
            "never drawn: t = T = 100",
        ),
        "never T of 1000": (
            trainer(1000, times=lambda s, g, n: g.integers(1, s.T, n)),
            {},
            "never drawn: t = T = 1000",
        ),
        "never 1": (trainer(times=lambda s, g, n: g.integers(2, s.T + 1, n)), {}, "never drawn: t = 1"),
        "half of them": (
            trainer(times=lambda s, g, n: g.integers(1, s.T // 2 + 1, n)),
            {},
            "never drawn: t = 51..100",
        ),
        "always 7": (
            trainer(times=lambda s, g, n: np.full(n, 7)),
            {},
            "never drawn: t = 1..6, t = 8..100",
        ),
        "even ones": (
            trainer(times=lambda s, g, n: 2 * g.integers(1, s.T // 2 + 1, n)),
            {},
            "never drawn: t = 1, t = 3, t = 5, ...",
        ),
        "t told from 0": (
            trainer(told=lambda s, t: t[:, 0] - 1),
            {},
            "t = 0, but times go from 1 to T = 100; does it count from 0?",
        ),
        "t up to T + 1": (
            trainer(
                times=lambda s, g, n: g.integers(1, s.T + 2, n),
                x_t=lambda s, x0, t, e: Trainer.x_t(s, x0, np.minimum(t, s.T), e),
            ),
            {},
            "t = 101, but times go from 1 to T = 100",
        ),
    },
    SIGNAL: {
        "x_t of t - 1": (trainer(x_t=shifted_x_t(-1)), {}, "x_t is that of t - 1"),
        "x_t of t + 1": (trainer(x_t=shifted_x_t(1)), {}, "x_t is that of t + 1"),
        "x_t of t - 1 of 1000": (trainer(1000, x_t=shifted_x_t(-1)), {}, "x_t is that of t - 1"),
        "t - 1 in float32": (
            trainer(1000, np.float32, x_t=shifted_x_t(-1)),
            {"dtype": "float32"},
            "x_t is that of t - 1",
        ),
        "t of the first example": (
            trainer(x_t=lambda s, x0, t, e: Trainer.x_t(s, x0, np.full_like(t, t[0, 0]), e)),
            {},
            "the t of its first example",
        ),
        "t in another order": (
            trainer(x_t=lambda s, x0, t, e: Trainer.x_t(s, x0, t[::-1], e)),
            {},
            "is t drawn twice, or in another order?",
        ),
        "t backwards": (
            trainer(told=lambda s, t: s.T + 1 - t[:, 0]),
            {},
            "where the network is told t =",
        ),
        "alpha for alpha_bar": (
            trainer(x_t=x_t_with(lambda s: np.sqrt(s.alpha), lambda s: np.sqrt(s.beta))),
            {},
            "one step instead of t",
        ),
        "no root of alpha_bar": (trainer(x_t=x_t_with(lambda s: s.ab, b)), {}, "square root"),
        "coefficients swapped": (trainer(x_t=x_t_with(b, a)), {}, "swapped"),
        "x0 not scaled": (trainer(x_t=x_t_with(lambda s: np.ones(s.T + 1), b)), {}, "x0 is not scaled"),
        "x0 doubled": (trainer(x_t=lambda s, x0, t, e: Trainer.x_t(s, 2.0 * x0, t, e)), {}, "2"),
    },
    LAW: {
        "no root of 1 - alpha_bar": (trainer(x_t=x_t_with(a, lambda s: 1.0 - s.ab)), {}, "(E2)"),
        "root of alpha_bar on noise": (trainer(x_t=x_t_with(a, a)), {}, "sqrt(alpha_bar[t])"),
        "noise not scaled": (trainer(x_t=x_t_with(a, lambda s: np.ones(s.T + 1))), {}, "not scaled"),
        "noise of one step": (trainer(x_t=x_t_with(a, lambda s: np.sqrt(s.beta))), {}, "sqrt(beta[t])"),
        "noise too large": (
            trainer(noise=lambda s, g, x, t: g.normal(0, 1.2, x.shape)),
            {},
            "times what it should be",
        ),
        "no noise": (trainer(noise=lambda s, g, x, t: 0.0 * x), {}, "no noise is added"),
        "uniform noise": (
            trainer(noise=lambda s, g, x, t: g.random(x.shape)),
            {},
            "uniform on [0, 1)",
        ),
        "symmetric uniform noise": (
            trainer(noise=lambda s, g, x, t: 2.0 * g.random(x.shape) - 1.0),
            {},
            "uniform on [-1, 1)",
        ),
        "uniform noise of variance 1": (
            trainer(noise=lambda s, g, x, t: np.sqrt(12.0) * (g.random(x.shape) - 0.5)),
            {},
            "uniform with variance 1",
        ),
        "Laplace noise": (trainer(noise=lambda s, g, x, t: g.laplace(size=x.shape)), {}, "Laplace"),
        "noise cut at 2": (
            trainer(noise=lambda s, g, x, t: np.clip(g.standard_normal(x.shape), -2.0, 2.0)),
            {},
            "",
        ),
        "Student's noise": (
            trainer(noise=lambda s, g, x, t: g.standard_t(5, x.shape) * np.sqrt(0.6)),
            {},
            "kurtosis",
        ),
        "signs for noise": (
            trainer(noise=lambda s, g, x, t: np.sign(g.standard_normal(x.shape))),
            {},
            "kurtosis 1 ",
        ),
    },
    NEW: {
        "one noise per batch": (
            trainer(noise=lambda s, g, x, t: g.standard_normal((1, x.shape[1])) + 0.0 * x),
            {},
            "the same noise for all examples",
        ),
        "one number per example": (
            trainer(noise=lambda s, g, x, t: g.standard_normal((len(x), 1)) + 0.0 * x),
            {},
            "one number is the noise of all entries",
        ),
        "the same noise always": (
            trainer(noise=lambda s, g, x, t: np.random.default_rng(0).standard_normal(x.shape)),
            {},
            "the same noise in every batch",
        ),
        "noise that grows with x0": (
            trainer(noise=lambda s, g, x, t: x**2 * g.standard_normal(x.shape)),
            {},
            "noise depends on x0",
        ),
        "noise of the neighbour": (
            trainer(noise=lambda s, g, x, t: mixed(g.standard_normal(x.shape))),
            {},
            "noise depends on other noise (correlation 0.",
        ),
    },
    TARGET: {
        "x0": (trainer(target=x0_target), {}, "the target is x0, not eps"),
        "x0 in float32": (
            trainer(1000, np.float32, target=x0_target),
            {"dtype": "float32"},
            "the target is x0, not eps",
        ),
        "eps for v": (trainer(), {"target": "v"}, "the target is eps, not v"),
        "sign": (trainer(target=lambda s, x, t, e, g: -e), {}, "the sign is wrong"),
        "sign of v": (trainer(target=lambda *p: -v_target(*p)), {"target": "v"}, "the sign is wrong"),
        "v for mean": (trainer(target=v_target), {"target": "mean"}, "the target is v, not mean"),
        "drawn anew": (
            trainer(target=lambda s, x, t, e, g: g.standard_normal(x.shape)),
            {},
            "drawn anew",
        ),
        "drawn anew, one number per example": (
            trainer(target=lambda s, x, t, e, g: g.standard_normal(x.shape), reduced=own_sums),
            {},
            "drawn anew",
        ),
        "drawn anew in v": (
            trainer(target=lambda s, x, t, e, g: v_target(s, x, t, g.standard_normal(x.shape), g)),
            {"target": "v"},
            "drawn anew",
        ),
        "coefficients of v swapped": (
            trainer(target=lambda s, x, t, e, g: b(s)[t] * e - a(s)[t] * x),
            {"target": "v"},
            "swapped",
        ),
        "plus in v": (
            trainer(target=lambda s, x, t, e, g: a(s)[t] * e + b(s)[t] * x),
            {"target": "v"},
            "a plus for its minus",
        ),
        "no roots in v": (
            trainer(target=lambda s, x, t, e, g: s.ab[t] * e - (1.0 - s.ab[t]) * x),
            {"target": "v"},
            "square roots",
        ),
        "v of t - 1": (
            trainer(target=lambda s, x, t, e, g: v_target(s, x, t - 1, e, g)),
            {"target": "v"},
            "v of t - 1",
        ),
        "x_t": (trainer(target=lambda s, x, t, e, g: s.x_t(x, t, e)), {}, "x_t itself"),
        "x_t - x0": (trainer(target=lambda s, x, t, e, g: s.x_t(x, t, e) - x), {}, "x_t - x0"),
        "scaled noise": (trainer(target=lambda s, x, t, e, g: b(s)[t] * e), {}, "as it is in x_t"),
        "score": (trainer(target=lambda s, x, t, e, g: -e / b(s)[t]), {}, "the score"),
        "flow": (trainer(target=lambda s, x, t, e, g: e - x), {"target": "v"}, "straight line"),
        "flow, reversed": (trainer(target=lambda s, x, t, e, g: x - e), {"target": "v"}, "straight"),
        "x_{t-1} with the same noise": (
            trainer(target=lambda s, x, t, e, g: s.x_t(x, t - 1, e)),
            {"target": "mean"},
            "not the posterior mean",
        ),
        "mean without eps": (
            trainer(target=lambda s, x, t, e, g: s.x_t(x, t, e) / np.sqrt(s.alpha[t])),
            {"target": "mean"},
            "without its eps",
        ),
        "wrong at t = 1 alone": (
            trainer(target=lambda s, x, t, e, g: np.where(t == 1, x, e)),
            {},
            "at t = 1",
        ),
        "absolute error of x0": (
            trainer(target=x0_target, reduced=lambda s, w, e: np.mean(np.abs(e))),
            {},
            "the target is x0",
        ),
        "prediction ignored": (trainer(reduced=lambda s, w, e: np.mean(0.0 * e)), {}, "does not depend"),
    },
    WEIGHT: {
        "x0's min-SNR": (
            trainer(weight=lambda s, t: np.minimum(s.snr[t], 5.0)),
            {},
            "the weight of x0, not of eps: min-SNR with gamma = 5",
        ),
        "SNR for eps": (trainer(weight=lambda s, t: s.snr[t]), {}, "the weight of x0, not of eps"),
        "the mean's bound": (
            trainer(weight=lambda s, t: 0.5 / s.beta[t]),
            {},
            "the weight of the mean, not of eps: the bound's, sigma_t^2 = beta[t]",
        ),
        "eps's bound for x0": (
            trainer(target=x0_target, weight=lambda s, t: bound_weight(s, t, s.beta)),
            {"target": "x0"},
            "the weight of eps, not of x0: the bound's, sigma_t^2 = beta[t]",
        ),
        "sign": (trainer(reduced=lambda s, w, e: -np.mean(e**2)), {}, "sign of the loss"),
        "negative at some t": (
            trainer(weight=lambda s, t: np.cos(t), reduced=own_means),
            {},
            "negative at t =",
        ),
    },
}
CASES = [(row, slip) for row, slips in WRONG.items() for slip in slips]


def caught_and_named(row: str, slip: str, seeds: range) -> None:
    implementation, options, words = WRONG[row][slip]
    for seed in seeds:
        found = rows(implementation, seed, **options)
        assert found[row].verdict == "FAILS", found
        assert words in found[row].explanation, found[row]


@pytest.mark.parametrize(("row", "slip"), CASES, ids=[f"{row}: {slip}" for row, slip in CASES])
def test_slips_are_caught_and_named(row, slip):
    caught_and_named(row, slip, range(2))


def outcomes(implementation: Trainer, **options: Any) -> dict[str, Any]:
    """The rows of training."""
    return {
        row.identity: row
        for row in check_identities(implementation, **options).rows
        if row.identity in ROWS
    }


@pytest.mark.parametrize("kind", ["float64", "float32"])
@pytest.mark.parametrize(
    ("target", "method"), [("eps", Trainer.target), ("x0", x0_target), ("v", v_target)]
)
def test_zero_terminal_snr(target, method, kind):
    implementation = trainer(200, np.dtype(kind).type, target=method)
    implementation.beta[-1] = 1.0
    implementation.alpha = 1.0 - implementation.beta
    implementation.ab = np.cumprod(implementation.alpha)
    found = outcomes(implementation, target=target, dtype=kind)
    assert {outcome.verdict for outcome in found.values()} == {"holds"}, found


@pytest.mark.parametrize(
    ("loss", "verdict", "words"),
    [
        (lambda s, predict, x0, rng: 1.0, "FAILS", "never asks predict"),
        (lambda s, predict, x0, rng: 1 / 0, "FAILS", "ZeroDivisionError"),
        (
            lambda s, predict, x0, rng: Trainer.loss(s, predict, x0, np.random.default_rng()),
            "FAILS",
            "all of them have to come from rng",
        ),
        (
            lambda s, predict, x0, rng: Trainer.loss(s, predict, x0, np.random.default_rng(0)),
            "FAILS",
            "the same times and noise from every generator",
        ),
        (
            lambda s, predict, x0, rng: Trainer.loss(s, lambda x, t: predict(x, t / s.T), x0, rng),
            "FAILS",
            "must be integers",
        ),
        (
            lambda s, predict, x0, rng: Trainer.loss(s, lambda x, t: predict(x, t[:5]), x0, rng),
            "FAILS",
            "must have shape",
        ),
        (
            lambda s, predict, x0, rng: (
                Trainer.loss(s, predict, x0, rng) + Trainer.loss(s, predict, x0, rng)
            ),
            "remark",
            "predict is asked 2 times",
        ),
    ],
)
def test_losses_that_cannot_be_looked_into(loss, verdict, words):
    for row in rows(trainer(loss=loss)).values():
        assert row.verdict == verdict
        assert words in row.explanation


def half_drawn_anew(s, x0, t, noise, rng):
    return 0.6 * noise + 0.8 * rng.standard_normal(x0.shape)


def test_a_name_is_not_given_to_what_it_does_not_explain():
    for reduced in (Trainer.reduced, own_sums):
        row = rows(trainer(target=half_drawn_anew, reduced=reduced))[TARGET]
        assert row.verdict == "FAILS"
        assert row.explanation.startswith("at t = ")


def test_times_that_are_all_wrong():
    found = rows(trainer(told=lambda s, t: 0 * t[:, 0]))
    assert found[TIMES].verdict == "FAILS"
    assert {found[row].verdict for row in (UNIFORM, SIGNAL, TARGET, WEIGHT)} == {"remark"}


def test_times_of_a_respaced_chain_may_be_the_only_ones():
    visited = np.arange(10, 101, 10)
    few = trainer(times=lambda s, g, n: g.choice(visited, n))
    assert rows(few)[TIMES].verdict == "FAILS"
    found = rows(few, times=visited.tolist())
    assert {row.verdict for row in found.values()} == {"holds"}


def test_one_time_per_batch_is_asked_for_often_enough_to_find_what_is_missing():
    assert rows(trainer(times=one_time))[TIMES].verdict == "holds"
    found = rows(trainer(times=lambda s, g, n: np.full(n, g.integers(1, s.T))))
    assert found[TIMES].explanation.startswith("never drawn: t = T =")
    found = rows(trainer(2, times=lambda s, g, n: np.ones(n, dtype=int)))
    assert found[TIMES].explanation == "never drawn: t = T = 2; is the upper end of a range left out?"
