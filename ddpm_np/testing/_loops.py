"""Checks of a whole sampling loop, from ``sample`` alone: what each of its steps is.

Where a row fails, the others are judged with what was found, so that one slip is one finding.
"""

import numpy as np

from ddpm_np.testing._chain import Chain
from ddpm_np.testing._comparison import Comparison
from ddpm_np.testing._loop import RESCALED, Loop, explain
from ddpm_np.testing._loop_coefficients import (
    last_noise,
    mean_coefficients,
    meant_variances,
    noise_variance,
    usual_steps,
)
from ddpm_np.testing._rows import Check, Identity, Outcome, in_one_line, unmeasured
from ddpm_np.testing._steps import Run, record_runs
from ddpm_np.testing._subject import Subject
from ddpm_np.testing._suspects import Finding, Steps
from ddpm_np.testing._truth import EPS
from ddpm_np.testing._visits import Visits, visits
from ddpm_np.testing.report import Verdict

UNCLEAR = unmeasured("remark", "cannot be judged: which steps these are is not clear")
NONLINEAR = "does it threshold, rescale or broadcast?"
UNEXPLAINED = "cannot be judged: something else is done in each step"
OWN_NOISE = "cannot be judged: it adds noise of its own"
HOLDS = Outcome(0.0, 0.0, "holds")


def sample(subject: Subject) -> list[Comparison | Outcome]:
    """One run of the loop, or two, seen from inside."""
    if subject.claims.target == "eps" and subject.truth.slope[subject.claims.times[-1]] == 0.0:
        return _at_first("remark", "cannot be judged: eps says nothing at T, where beta is 1")
    try:
        runs = record_runs(subject)
    except NotImplementedError:
        raise
    except Exception as error:  # whatever a stranger's code raises is a finding, but one
        return _at_first("FAILS", in_one_line(error))
    with np.errstate(all="ignore"):
        seen = visits(runs[0].told, subject.claims.times, subject.truth.T)
        times = _times(subject, runs, seen)
        if not seen.readings or not all(np.array_equal(run.told, runs[0].told) for run in runs):
            return [times, *[UNCLEAR] * (len(IDENTITIES) - 1)]
        target, eta = subject.claims.target, subject.claims.eta
        readings = [
            Loop.of(subject, runs, Chain.of(subject.truth, chain, target, eta), index)
            for chain, index in seen.readings
        ]
        loop, findings = explain(min(readings, key=lambda reading: reading.distance()))
        return [times, *_rows(loop, findings)]


def _at_first(verdict: Verdict, explanation: str) -> list[Comparison | Outcome]:
    """Something that stands in the way of all rows, said in the first."""
    others = unmeasured("remark", "cannot be judged: see the first row of sample")
    return [unmeasured(verdict, explanation), *[others] * (len(IDENTITIES) - 1)]


def _rows(loop: Loop, findings: list[Finding]) -> list[Comparison | Outcome]:
    rescaled = any(finding.text == RESCALED for finding in findings)
    ends, last = (HOLDS, True) if rescaled else _ends(loop)
    judged, finite = loop.explained, loop.finite
    judged[-1] &= last
    finite[-1] &= last
    own = _own_noise(loop, finite)
    unknown = UNEXPLAINED if own is None else OWN_NOISE
    nothing_else = _nothing_else(loop, finite) if own is None else unmeasured("remark", unknown)
    unjudged = unmeasured("remark", unknown)
    of_x, of_p = mean_coefficients(loop, judged) if judged.any() else (unjudged, unjudged)
    inside = finite & (loop.chain.s[loop.index] > 0)
    return [
        ends,
        of_x,
        _failed(findings, "x_0") or of_p,
        unjudged if inside.any() and not np.any(inside & judged) else noise_variance(loop, judged),
        last_noise(loop, judged),
        _failed(findings, "noise") or own or HOLDS,
        _failed(findings, "else")
        or (unmeasured("remark", f"cannot be judged: {RESCALED}") if rescaled else nothing_else),
        _failed(findings, "limits") or _limits(loop),
    ]


def _failed(findings: list[Finding], row: str) -> Outcome | None:
    texts = [finding.text for finding in findings if finding.row == row]
    return unmeasured("FAILS", "; ".join(texts)) if texts else None


def _times(subject: Subject, runs: list[Run], seen: Visits) -> Outcome:
    """The times that predict was asked at."""
    last, T = subject.claims.times[-1], subject.truth.T
    if not all(np.array_equal(run.told, runs[0].told) for run in runs):
        return unmeasured("FAILS", "the times differ from run to run")
    if seen.slip:
        return unmeasured("FAILS", seen.slip)
    if last < T:
        kept = subject.truth.slope[last]
        said = (
            f"the first time is {last}, not T = {T}: x_t there keeps {kept:.3g} x_0, but x_T holds none"
        )
        return unmeasured("remark", said)
    return HOLDS


def _ends(loop: Loop) -> tuple[Outcome, bool]:
    """Whether it starts from x_T, and whether the result is what its last step makes."""
    run = loop.runs[-1]
    tolerance = 256.0 * EPS["float32" if loop.single else loop.subject.claims.dtype]
    ratio = float(run.x[0] @ run.x_T / (run.x_T @ run.x_T))
    error = float(np.max(np.abs(run.x[0] - run.x_T)) / np.max(np.abs(run.x_T)))
    if not error <= tolerance:
        scaled = np.max(np.abs(run.x[0] - ratio * run.x_T)) <= tolerance * np.max(np.abs(run.x[0]))
        said = f"it starts from {ratio:.6g} x_T, not x_T" if scaled else "it does not start from x_T"
        return Outcome(error, tolerance, "FAILS", said), True
    if len(run.told) > 1 and np.array_equal(run.x[:-1], np.broadcast_to(run.x_T, run.x[:-1].shape)):
        return unmeasured("FAILS", "predict sees x_T at every step, not x_t"), True
    slip = _end(loop)
    return (unmeasured("FAILS", slip), False) if slip else (Outcome(error, tolerance, "holds"), True)


def _end(loop: Loop) -> str:
    """What is done to the result, in words; empty if nothing."""
    run, y = loop.runs[-1], loop.runs[-1].x[-1]
    if not np.all(np.isfinite(y)):
        return "the result is not finite"
    if np.array_equal(y, run.x[-2]):
        return "the last step is left out: the result is the x_t of the last question"
    if not loop.open[-1]:
        return ""
    low, high = float(np.min(y)), float(np.max(y))
    if np.sum(y == low) >= 3 and np.sum(y == high) >= 3:
        return f"the result is limited to [{low:.4g}, {high:.4g}]"
    shifted = loop.with_model(loop.model._replace(extra=lambda run: np.ones_like(run.prediction)))
    if not shifted.open[-1]:
        scale = shifted.of_p()[-1][-1] / shifted.expected.of_p[-1]
        return f"the result is {scale:.4g} x_0 {shifted.fits[-1].of[-1, -1]:+.4g}"
    if np.sum(loop.open) == 1:
        return "the result is not what a last step makes of x_t and its prediction alone"
    return ""


def _own_noise(loop: Loop, judged: Steps) -> Outcome | None:
    """Whether the steps hold normal noise that is none of what was handed over."""
    judged = judged & loop.open & (loop.chain.s[loop.index] > 0)
    if 2 * np.sum(judged) <= np.sum(loop.chain.s[loop.index] > 0):
        return None
    fit, place = loop.fits[-1], loop.index[judged]
    ratios = {
        name: fit.size_left[judged] ** 2 / table[place]
        for name, table in {**meant_variances(loop), **usual_steps(loop.chain)}.items()
    }
    n = fit.left.shape[1]
    for name, ratio in ratios.items():
        if np.all(np.abs(ratio - 1.0) <= 8.0 * np.sqrt(2.0 / n)):
            said = f"noise of its own is added, of variance {name}: noise[t] is not what it uses"
            return unmeasured("FAILS", said)
    return None


def _nothing_else(loop: Loop, judged: Steps) -> Outcome:
    """What x_t, the prediction and z leave over, relative to the size of x_s."""
    lost = ~np.all(np.isfinite(loop.runs[-1].x[1:]), axis=1)
    if lost.any():
        return unmeasured(
            "FAILS", f"x_t is not finite after the step from t = {loop.t[np.argmax(lost)]}"
        )
    if not judged.any():
        return unmeasured("remark", "cannot be judged: no step is seen")
    excess = np.where(judged, loop.excess[-1], 0.0)
    worst = int(np.argmax(excess))
    numbers = float(excess[worst] * loop.tolerance[worst]), float(loop.tolerance[worst])
    if excess[worst] <= 1.0:
        if loop.single and numbers[0] > 256.0 * EPS[loop.subject.claims.dtype]:
            return Outcome(*numbers, "imprecise", 'precision: results in float32; say dtype="float32"')
        return Outcome(*numbers, "holds")
    where = loop.t[judged & loop.open]
    at = "every t" if len(where) > 3 else f"t = {' and '.join(map(str, where[::-1].tolist()))} alone"
    said = f"x_t, the prediction and z do not explain x_{{t-1}} at {at}: {NONLINEAR}"
    return Outcome(*numbers, "FAILS", said)


def _limits(loop: Loop) -> Outcome:
    """Nothing was found that limits x_0 but for what is announced."""
    return HOLDS._replace(explanation="" if loop.model.limits is None else "x_0 is limited as announced")


IDENTITIES = (
    Identity("sample: predict is asked at each time", "Algorithm 2"),
    Identity("sample: starts from x_T, ends with a step", "Algorithm 2"),
    Identity("sample: coefficient of x_t", "Algorithm 2"),
    Identity("sample: coefficient of the prediction", "Algorithm 2"),
    Identity("sample: variance of the noise", "Algorithm 2"),
    Identity("sample: no noise at the last step", "Algorithm 2"),
    Identity("sample: z of each step is noise[t]", "Algorithm 2"),
    Identity("sample: nothing else is added", "Algorithm 2"),
    Identity("sample: x_0 is limited as announced", "Algorithm 2"),
)
CHECKS = (Check(("sample",), sample, IDENTITIES, whole=True),)
