"""What a sampling loop multiplies x_t, its predictions and its noise by, beside what it should."""

from collections.abc import Callable, Mapping

import numpy as np

from ddpm_np.testing._chain import Chain, Pair
from ddpm_np.testing._comparison import Comparison
from ddpm_np.testing._loop import Loop, Reading
from ddpm_np.testing._loop_slips import mean_slips, variance_slips
from ddpm_np.testing._rows import Outcome, unmeasured
from ddpm_np.testing._suspects import Steps
from ddpm_np.testing._truth import LARGEST_IMPRECISION, TimeArray
from ddpm_np.testing._variances import BETWEEN, OWN, usual_variances
from ddpm_np.testing.protocol import Values

LEAST_STEPS = 4  # with which a constant that is fitted says something
E9 = "the last step must return its mean: z = 0 at t = 1 (at t = 0 if you count from 0; E9)"


def _comparison(
    loop: Loop,
    judged: Steps,
    read: Reading,
    expected: Values,
    size: Values,
    candidates: Mapping[str, Values],
    defect: Values | float = 0.0,
    guesses: Mapping[str, Values] | None = None,
    hint: str = "",
    note: str = "",
) -> Comparison:
    """Compare a coefficient with what it should be; ``size`` is that of the terms it is made of."""
    scale = np.where(expected == 0.0, np.where(size == 0.0, 1.0, size), np.abs(expected))
    loss = np.maximum(size / scale, 1.0)
    t = loop.t[judged]
    # A step is as ill-conditioned as the worse of its ends.
    loss = loss * np.maximum(loop.tolerance[judged] / loop.subject.truth.tolerance(t, _dtype(loop)), 1.0)
    order = slice(None, None, -1)
    return Comparison(
        t[order],
        read.value[order],
        expected[order],
        scale=scale[order],
        defect=np.broadcast_to(defect, expected.shape)[order],
        loss=loss[order],
        cancellation=np.maximum(read.error / (scale * loss), 1.0)[order],
        candidates={name: values[order] for name, values in candidates.items()},
        guesses={name: values[order] for name, values in (guesses or {}).items()},
        hint=hint,
        note=note,
    )


def _dtype(loop: Loop) -> str:
    return "float32" if loop.single else loop.subject.claims.dtype


def mean_coefficients(loop: Loop, judged: Steps) -> list[Comparison]:
    """Coefficients of x_t and of the prediction, or of the limited x_0."""
    index = loop.index[judged]
    limited = loop.model.limits is not None
    terms, expected = loop.seen.largest_terms(), loop.expected
    slips = mean_slips(loop.seen, loop.subject.truth, loop.subject.claims, _found_eta(loop))
    at = {name: Pair(pair.of_x[index], pair.of_p[index]) for name, pair in slips.items()}
    of_x, of_p = loop.read(0, judged), loop.read(3 if limited else 1, judged)
    wanted, raw = Pair(expected.of_x[judged], expected.of_p[judged]), 0.0 * of_x.value
    if limited and loop.subject.claims.eta is not None:
        wanted, raw = _limited_ddim(loop, judged, Pair(of_x.value, of_p.value))
    tolerance = loop.tolerance[judged]

    def near(pair: Pair) -> Steps:
        near_x = np.abs(of_x.value - pair.of_x) <= tolerance * (of_x.error + terms.of_x[index])
        return near_x & (np.abs(of_p.value - pair.of_p) <= tolerance * (of_p.error + terms.of_p[index]))

    named = _both_named(at, wanted, near) or at
    note = "of the limited x_0" if limited else ""
    return [
        _comparison(
            loop, judged, of_x, wanted.of_x, terms.of_x[index], {n: p.of_x for n, p in named.items()}
        ),
        _comparison(
            loop,
            judged,
            of_p,
            wanted.of_p,
            terms.of_p[index],
            {n: p.of_p for n, p in named.items()},
            defect=_beside(loop, judged, raw) if limited else 0.0 * raw,
            note=note,
        ),
    ]


def _both_named(
    slips: Mapping[str, Pair], wanted: Pair, near: Callable[[Pair], Steps]
) -> dict[str, Pair]:
    """The slips that explain both coefficients at most steps, if the others are right."""
    right, found = near(wanted), {}
    for name, pair in slips.items():
        wrong = near(pair)
        if np.all(wrong | right) and np.mean(wrong) > 0.5 and not np.all(right):
            found[name] = Pair(
                np.where(right, wanted.of_x, pair.of_x), np.where(right, wanted.of_p, pair.of_p)
            )
    return found


def _found_eta(loop: Loop) -> float:
    """The eta of DDIM that has the noise found."""
    steps = loop.explained & (loop.chain.s[loop.index] > 0)
    if not steps.any():
        return loop.subject.claims.eta or 1.0
    ratio = loop.read(2, steps).value ** 2 / loop.chain.beta_tilde[loop.index[steps]]
    return round(float(np.sqrt(np.median(ratio))), 6)


def _limited_ddim(loop: Loop, judged: Steps, found: Pair) -> tuple[Pair, Values]:
    """The step of DDIM with a limited x_0, and the coefficient of the prediction beside it.

    eps may be that of the limited x_0, or the network's as it was.
    """
    index = loop.index[judged]
    revised = Pair(loop.expected.of_x[judged], loop.expected.of_p[judged])
    of_eps = loop.chain.ddim_eps(loop.subject.claims.eta or 0.0)[index]
    as_it_was = Pair(of_eps * loop.chain.eps.of_x[index], loop.chain.slope[1][index])
    if _apart(found, as_it_was) < _apart(found, revised):
        return as_it_was, of_eps * loop.chain.eps.of_p[index]
    return revised, 0.0 * of_eps


def _apart(one: Pair, other: Pair) -> float:
    """How far two pairs of coefficients are from each other at most steps."""
    return float(np.median(np.abs(one.of_x - other.of_x) + np.abs(one.of_p - other.of_p)))


def _beside(loop: Loop, judged: Steps, expected: Values) -> Values:
    """By how much the prediction itself counts beside the limited x_0, beyond rounding."""
    read, size = loop.read(1, judged), loop.chain.largest_terms().of_p[loop.index[judged]]
    return np.maximum(np.abs(read.value - expected) - loop.tolerance[judged] * (read.error + size), 0.0)


def noise_variance(loop: Loop, judged: Steps) -> Comparison:
    """The squared coefficient of z, at all steps but the last."""
    chain, truth, claims = loop.chain, loop.subject.truth, loop.subject.claims
    judged = judged & (chain.s[loop.index] > 0)
    index, read = loop.index[judged], loop.read(2, judged)
    measured = read.value**2
    meant = {name: table[index] for name, table in meant_variances(loop).items()}
    name = _nearest(meant, measured)
    expected = meant[name]
    apart = np.abs(measured - expected) > LARGEST_IMPRECISION * expected
    if claims.eta is None and OWN not in meant and apart.any():
        inside = np.clip(measured, chain.beta_tilde[index], chain.beta[index])
        if np.mean(np.abs(measured - inside) <= LARGEST_IMPRECISION * inside) > 0.5:
            name, expected = BETWEEN, inside
    slips = variance_slips(chain, truth, claims.eta, meant_variances(loop), _found_eta(loop))
    if claims.eta is None and len(index) >= LEAST_STEPS:
        slips |= _multiplied(meant_variances(loop), index, measured)
    beta = chain.beta[index]
    error = read.error * (2.0 * np.abs(read.value) + loop.tolerance[judged] * read.error)
    return _comparison(
        loop,
        judged,
        Reading(measured, error),
        expected,
        np.where(expected == 0.0, beta, expected),
        {text: values[index] for text, values in slips.items()},
        guesses=meant if len(meant) > 1 else {},
        note=f"sigma_t^2 is {name}" if len(index) else "",
        hint=f"should be {name}" if len(meant) == 1 else "no usual sigma_t^2 explains it",
    )


def _multiplied(meant: Mapping[str, Values], index: TimeArray, measured: Values) -> dict[str, Values]:
    """Each variance that may be meant, if z was multiplied by a constant."""
    found = {}
    for name, table in meant.items():
        ratio = float(np.median(measured / table[index]))
        if 0.0 < ratio < np.inf and abs(ratio - 1.0) > LARGEST_IMPRECISION:
            said = f"z is multiplied by {np.sqrt(ratio):.4g} (sigma_t^2 is {name})"
            found[said] = ratio * table
    return found


def _nearest(meant: Mapping[str, Values], measured: Values) -> str:
    """The name of what most steps come closest to."""
    if measured.size == 0:
        return next(iter(meant))
    return min(meant, key=lambda name: float(np.median(np.abs(measured / meant[name] - 1.0))))


def meant_variances(loop: Loop) -> dict[str, Values]:
    """What sigma^2 may be meant to be, by name, at each step of the chain."""
    eta = loop.subject.claims.eta
    if eta is not None:
        return {f"that of DDIM with eta = {eta:g}": loop.chain.ddim_variance(eta)}
    own = loop.subject.own_variances
    if own is not None and len(loop.chain.t) == loop.subject.truth.T:
        return {OWN: own[1:]}
    return {name: table[1:] for name, table in usual_variances(loop.chain.short).items()}


def last_noise(loop: Loop, judged: Steps) -> Comparison | Outcome:
    """The coefficient of z in the step that ends at x_0."""
    judged = judged & (loop.chain.s[loop.index] == 0)
    if not judged.any():
        return unmeasured("remark", "cannot be judged: no step seen ends at x_0")
    read = loop.read(2, judged)
    size = np.sqrt(loop.chain.beta[loop.index[judged]])
    return _comparison(loop, judged, read, np.zeros(len(size)), size, {}, hint=E9)


def usual_steps(chain: Chain) -> dict[str, Values]:
    """The usual choices at each step."""
    return {name: table[1:] for name, table in usual_variances(chain.short).items()}
