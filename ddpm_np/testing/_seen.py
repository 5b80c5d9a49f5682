"""Checks of what a training loss draws, Ho Algorithm 1: its times, and the parts of x_t."""

import numpy as np

from ddpm_np._arrays import Table
from ddpm_np.testing import _laws
from ddpm_np.testing._batches import Draws
from ddpm_np.testing._comparison import Comparison
from ddpm_np.testing._forward import WHOLE_PRODUCT
from ddpm_np.testing._laws import FALSE_ALARM, Deviation
from ddpm_np.testing._rows import Outcome, unmeasured
from ddpm_np.testing._subject import Subject
from ddpm_np.testing._truth import EPS, TimeArray, Truth
from ddpm_np.testing.protocol import Values

NO_TIMES = "no t from 1 to T: this cannot be judged"
NOT_UNIFORM = "t is not uniform"
ELSEWHERE = "x_t is that of t ="
UNRELATED = "x_t is that of another t than the network is told: is t drawn twice, or in another order?"
LEAST_SLOPE = 0.05  # errors of smaller coefficients are relative to this


def times(subject: Subject, drawn: Draws) -> tuple[Outcome, Outcome]:
    """Whether the times are in 1..T and all come, and whether they are uniform, one for each example."""
    T, seen, allowed = subject.truth.T, drawn.times, np.array(subject.claims.times)
    outside, inside = seen[(seen < 1) | (seen > T)], seen[(seen >= 1) & (seen <= T)]
    silent = _laws.never_drawn(inside, allowed)
    if outside.size:
        told = int(outside.min()) if outside.min() < 1 else int(outside.max())
        text = f"predict is told t = {told}, but times go from 1 to T = {T}"
        text += "; does it count from 0?" if seen.min() == 0 and seen.max() < T else ""
        complete = Outcome(outside.size / seen.size, 0.0, "FAILS", text)
    elif silent.size:
        complete = Outcome(silent.size / T, 0.0, "FAILS", f"never drawn: {_ranges(silent, T)}")
    elif drawn.shared and seen.size < _laws.ENOUGH * len(allowed):
        text = f"{seen.size} batches, one t in each: too few to tell whether a t is left out"
        complete = unmeasured("remark", text)
    else:
        complete = Outcome(0.0, 0.0, "holds")
    among = allowed if np.isin(inside, allowed).all() else np.arange(1, T + 1)
    return complete, _uniform(drawn.shared, inside, np.setdiff1d(among, silent), T)


def _uniform(shared: bool, t: TimeArray, among: TimeArray, T: int) -> Outcome:
    if t.size == 0 or among.size == 0:
        return unmeasured("remark", NO_TIMES)
    distance = _laws.uniform_times(t, np.bincount(among, minlength=T + 1)[1:] / len(among))
    remarks = []
    if shared:
        remarks.append("one t for all examples of a batch: right on average, but noisier")
    if distance.excess > 1.0:
        quarters = np.histogram(t, bins=4, range=(0.5, T + 0.5))[0] / t.size
        shares = ", ".join(f"{share:.1%}" for share in quarters.tolist())
        remarks.append(f"{NOT_UNIFORM}: the four quarters of 1..T have {shares} of the draws")
    if remarks:
        return Outcome(distance.value, distance.limit, "remark", "; ".join(remarks))
    return Outcome(distance.value, distance.limit, "holds")


def _ranges(silent: TimeArray, T: int) -> str:
    runs = np.split(silent, np.flatnonzero(np.diff(silent) > 1) + 1)
    texts = [f"t = {run[0]}" + (f"..{run[-1]}" if len(run) > 1 else "") for run in runs[:3]]
    if silent.tolist() == [T]:
        return f"t = T = {T}; is the upper end of a range left out?"
    return ", ".join(texts) + (", ..." if len(runs) > 3 else "")


def made_at(truth: Truth, signal: Values, t: TimeArray) -> tuple[str, TimeArray]:
    """The times whose alpha_bar a batch of x_t was made with, and a sentence if they are not t."""
    t = np.clip(t, 1, truth.T)
    limit = 4e-6 + EPS["float32"] * t * truth.slope[t]  # of a running product in float32

    def fits(s: TimeArray) -> bool:
        return bool(np.all(np.abs(signal - truth.slope[s][:, None]) <= limit[:, None]))

    told = "but the network is told t"
    shifts = {
        "": t,
        f"x_t is that of t - 1, {told}": t - 1,
        f"x_t is that of t + 1, {told}": np.minimum(t + 1, truth.T),
        "all x_t of a batch are made with the t of its first example": np.full_like(t, t[0]),
    }
    for text, s in shifts.items():
        if fits(s):
            return text, s
    middle = 0.5 * (truth.slope[2:] + truth.slope[1:-1])
    nearest = 1 + np.searchsorted(-middle, -np.mean(signal, axis=1))
    if fits(nearest):
        i = int(np.argmax(nearest != t))
        return f"{ELSEWHERE} {nearest[i]} where the network is told t = {t[i]}", nearest
    return "", t


def origin(truth: Truth, drawn: Draws) -> tuple[str, TimeArray]:
    """As :func:`made_at`, for all batches."""
    found = [made_at(truth, *batch) for batch in zip(drawn.signal, drawn.t, strict=True)]
    text, times = next((text for text, _ in found if text), ""), np.array([times for _, times in found])
    if text.startswith(ELSEWHERE):
        pairs = np.unique(np.stack([drawn.t.ravel(), times.ravel()]), axis=1)
        text = UNRELATED if pairs.shape[1] > 2 * np.unique(pairs[0]).size else text
    return text, times


def signal(subject: Subject, drawn: Draws, text: str, times: TimeArray) -> Comparison:
    """The coefficient of x0 in x_t, which was made at these times."""
    truth = subject.truth
    inside = (drawn.t >= 1) & (drawn.t <= truth.T)
    t, found, x0 = drawn.t[inside], drawn.signal[inside], drawn.x0[inside]
    expected = np.repeat(truth.slope[t][:, None], found.shape[1], axis=1)
    candidates: dict[str, Values | float] = {}
    if text:
        candidates[text] = truth.slope[times[inside]][:, None]
    for slip, table in {
        "alpha_bar[t] without its square root": truth.alpha_bar,
        "sqrt(alpha[t]): one step instead of t": np.sqrt(truth.alpha),
        "sqrt(1 - alpha_bar[t]): the coefficients of x0 and the noise are swapped": truth.sigma,
        "1: x0 is not scaled": np.ones(truth.T + 1),
    }.items():
        candidates[slip] = table[t][:, None]
    candidates[WHOLE_PRODUCT] = float(truth.slope[-1])
    scale = np.maximum(expected, LEAST_SLOPE)
    x_t = np.abs(found * x0) + np.abs(drawn.noise[inside])
    return Comparison(
        t,
        found,
        expected,
        scale=scale,
        cancellation=1.0 + np.max(x_t / (scale * np.abs(x0)), axis=1),
        candidates=candidates,
    )


def noise(truth: Truth, drawn: Draws, times: TimeArray) -> tuple[Outcome, Outcome, Table]:
    """Whether the noise is sigma N(0, 1), and independent, and the coefficient that it has."""
    if not np.all(np.isfinite(drawn.noise)):
        failed = unmeasured("FAILS", "the result is not finite")
        return failed, failed, truth.sigma
    if np.max(np.abs(drawn.noise)) <= 1e-6:
        missing = unmeasured("FAILS", "no noise is added")
        return missing, unmeasured("remark", "there is none"), truth.sigma
    independent = _independence(drawn, _scaled(drawn.noise, truth.sigma[times]))
    if independent.verdict == "FAILS":
        return unmeasured("remark", "cannot be judged: see below"), independent, truth.sigma
    order = np.argsort(drawn.t, axis=None, kind="stable")
    law, table = _law(truth, drawn.noise.reshape(len(order), -1)[order], times.ravel()[order])
    return law, independent, table


def _scaled(noise: Values, coefficient: Values) -> Values:
    """Noise over its coefficient, NaN where there is none."""
    usable = np.where(coefficient > 0.0, coefficient, np.nan)
    return noise / usable[..., None]


def _independence(drawn: Draws, scaled: Values) -> Outcome:
    """Of the noise of examples, entries and batches from each other, and from x0."""
    z = _standardised(drawn.noise, drawn.t)
    found = [_laws.correlation("noise depends on other noise", *pair) for pair in _pairs(z).values()]
    found.append(_laws.correlation("noise depends on x0", np.abs(z), np.abs(drawn.x0)))
    worst = _laws.worst(found)
    if worst.excess <= 1.0:
        return Outcome(worst.value, worst.limit, "holds")
    same = [
        text
        for text, (a, b) in _pairs(scaled).items()
        if np.allclose(a, b, rtol=1e-4, atol=1e-4, equal_nan=True)
    ]
    return Outcome(worst.value, worst.limit, "FAILS", "; ".join(same) or worst.what)


def _pairs(z: Values) -> dict[str, tuple[Values, Values]]:
    """Disjoint pairs of draws, by what it means if they are equal."""
    batches, examples = len(z) // 2 * 2, z.shape[1] // 2 * 2
    return {
        "the same noise for all examples of a batch": (z[:, 0:examples:2], z[:, 1:examples:2]),
        "one number is the noise of all entries of an example": (z[..., 0], z[..., 1]),
        "the same noise in every batch": (z[0:batches:2], z[1:batches:2]),
    }


def _standardised(noise: Values, t: TimeArray) -> Values:
    """Noise with mean 0 and variance 1 among the examples of each time, whatever it is multiplied by."""
    _, group = np.unique(t.ravel(), return_inverse=True)
    flat, count = noise.reshape(len(group), -1), np.bincount(group)
    flat = flat - (np.bincount(group, np.mean(flat, axis=1)) / count)[group][:, None]
    spread = np.sqrt(np.bincount(group, np.mean(flat**2, axis=1)) / count)[group][:, None]
    return (flat / np.maximum(spread, 1e-300)).reshape(noise.shape)


def _law(truth: Truth, noise: Values, t: TimeArray) -> tuple[Outcome, Table]:
    """The law of noise (n, d), in order of the times; t are those that it was made with."""

    def deviation(table: Table) -> Deviation:
        z = _scaled(noise, table[t])
        return _laws.worst(_laws.normal(z[np.isfinite(z)]))

    right = deviation(truth.sigma)
    if right.excess <= 1.0:
        return Outcome(right.value, right.limit, "holds", FALSE_ALARM), truth.sigma
    z = _scaled(noise, truth.sigma[t])
    z = z[np.isfinite(z)]
    for text, table in _noise_slips(truth, float(np.sqrt(np.mean(z * z)))).items():
        if deviation(table).excess <= 1.0:
            return Outcome(right.value, right.limit, "FAILS", text), table
    for text, law in _laws.LAWS.items():
        if _laws.distribution(z, law).excess <= 1.0:
            text = f"the noise is {text} where it should be standard normal"
            return Outcome(right.value, right.limit, "FAILS", text), truth.sigma
    return Outcome(right.value, right.limit, "FAILS", f"not standard normal: {_moments(z)}"), truth.sigma


def _noise_slips(truth: Truth, size: float) -> dict[str, Table]:
    before = np.concatenate([[0.0], truth.sigma[:-1]])
    after = np.concatenate([truth.sigma[1:], truth.sigma[-1:]])
    multiplied = "the noise is multiplied by"
    return {
        f"{multiplied} 1 - alpha_bar[t] without its square root (E2)": truth.variance,
        f"{multiplied} sqrt(alpha_bar[t]), not sqrt(1 - alpha_bar[t])": truth.slope,
        f"{multiplied} alpha_bar[t], not sqrt(1 - alpha_bar[t])": truth.alpha_bar,
        f"{multiplied} 1 - sqrt(alpha_bar[t]), not sqrt(1 - alpha_bar[t])": 1.0 - truth.slope,
        f"{multiplied} sqrt(beta[t]): one step instead of t": np.sqrt(truth.beta),
        f"{multiplied} beta[t], not sqrt(1 - alpha_bar[t])": truth.beta,
        f"{multiplied} sqrt(alpha[t]), not sqrt(1 - alpha_bar[t])": np.sqrt(truth.alpha),
        f"{multiplied} 1: it is not scaled": np.ones(truth.T + 1),
        f"{multiplied} sqrt(1 - alpha_bar[t - 1]): t seems to be off by one": before,
        f"{multiplied} sqrt(1 - alpha_bar[t + 1]): t seems to be off by one": after,
        WHOLE_PRODUCT: np.full(truth.T + 1, truth.sigma[-1]),
        f"its standard deviation is {size:.3g} times what it should be": size * truth.sigma,
    }


def _moments(z: Values) -> str:
    mean, deviation = float(np.mean(z)), float(np.std(z))
    standard = (z - mean) / max(deviation, 1e-300)
    skewness, kurtosis = float(np.mean(standard**3)), float(np.mean(standard**4))
    return (
        f"mean {mean:.3g}, variance {deviation**2:.4g}, skewness {skewness:.3g}, kurtosis {kurtosis:.4g}"
        " (should be 0, 1, 0, 3)"
    )
