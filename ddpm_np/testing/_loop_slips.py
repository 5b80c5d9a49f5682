"""What other formulas would make of a step of the sampling loop, by the sentence that says the slip."""

from collections.abc import Mapping

import numpy as np

from ddpm_np.targets import TARGETS
from ddpm_np.testing._chain import Chain, Pair, meaning
from ddpm_np.testing._claims import Claims
from ddpm_np.testing._truth import Truth
from ddpm_np.testing._variances import usual_variances
from ddpm_np.testing.protocol import Values

EVEN_ENDS = "each step goes T // (number of steps) back, which is not the time visited next"


def mean_slips(chain: Chain, truth: Truth, claims: Claims, found_eta: float) -> dict[str, Pair]:
    """Coefficients of x_t and the prediction; the noise that was found is that of ``found_eta``."""
    with np.errstate(all="ignore"):
        found = {
            **_other_samplers(chain, claims.eta, found_eta),
            **_of_eps(chain),
            **_of_x0(chain),
            **_of_alpha_bar_0(chain, truth, claims.eta),
            **({} if claims.eta is None else _of_both(chain, claims.eta)),
            **_misread(chain, truth, claims),
        }
        if len(chain.t) < truth.T:
            long = Chain.of(truth, np.arange(1, truth.T + 1), claims.target, claims.eta).expected
            said = "these are alpha and beta of the long chain, not of the step between visited times"
            found[said] = Pair(long.of_x[chain.t - 1], long.of_p[chain.t - 1])
            slope, of_eps, _ = even_ends(chain, truth, 1.0 if claims.eta is None else claims.eta)
            found[EVEN_ENDS] = chain.from_both(slope, of_eps)
        for shift, sign in ((1, "+"), (-1, "-")):
            said = f"t seems to be off by one: {{}} of t {sign} 1"
            place = np.clip(np.arange(len(chain.t)) + shift, 0, len(chain.t) - 1)
            expected, (of_x, of_x0) = chain.expected, chain.posterior
            found[said.format("these are the coefficients")] = Pair(
                expected.of_x[place], expected.of_p[place]
            )
            found[said.format("these are the coefficients in (26)")] = chain.from_x0(
                of_x[place], of_x0[place]
            )
    return found


def even_ends(chain: Chain, truth: Truth, eta: float) -> tuple[Values, Values, Values]:
    """Coefficients of x_0 and eps and the variance of a step that goes T // S back, wherever s is."""
    s = np.maximum(chain.t - truth.T // len(chain.t), 0)
    slope, variance = truth.slope[s], truth.variance[s]
    with np.errstate(all="ignore"):
        beta = 1.0 - truth.alpha_bar[chain.t] / truth.alpha_bar[s]
    sigma2 = eta**2 * variance * beta / truth.variance[chain.t]
    return slope, np.sqrt(np.maximum(variance - sigma2, 0.0)), sigma2


def _other_samplers(chain: Chain, eta: float | None, found_eta: float) -> dict[str, Pair]:
    """What is right, but not what was announced."""
    if eta is None:
        announce = f"the mean of DDIM with eta = {found_eta:.4g}: announce eta="
        return {announce: chain.from_x0(*chain.ddim(found_eta))} if found_eta < 0.9999 else {}
    said = f"(26): ancestral sampling, not DDIM with eta = {eta:g} (it is that with eta = 1)"
    found = {said: chain.from_x0(*chain.posterior)}
    if found_eta < 0.9999 and abs(found_eta - eta) > 1e-4:
        found[f"the mean of DDIM with eta = {found_eta:.4g}"] = chain.from_x0(*chain.ddim(found_eta))
    return found


def _of_eps(chain: Chain) -> dict[str, Pair]:
    """Slips in (34)."""
    root, beta, (sigma, before) = np.sqrt(chain.alpha), chain.beta, chain.sigma
    shift, slope = -beta / sigma, chain.slope[0]
    one = np.ones_like(beta)
    return {
        name: chain.from_eps(of_x, of_eps)
        for name, (of_x, of_eps) in {
            "1 / sqrt(alpha[t]) is missing in (34)": (one, shift),
            "1 / alpha[t] in place of 1 / sqrt(alpha[t]) in (34)": (
                1.0 / chain.alpha,
                shift / chain.alpha,
            ),
            "1 / sqrt(alpha[t]) multiplies x_t alone in (34)": (1.0 / root, shift),
            "1 / sqrt(alpha[t]) multiplies eps alone in (34)": (one, shift / root),
            "sqrt(alpha[t]) multiplies in (34), where it should divide": (root, shift * root),
            "1 / sqrt(alpha_bar[t]) in place of 1 / sqrt(alpha[t]) in (34)": (
                1.0 / slope,
                shift / slope,
            ),
            "beta[t] / (1 - alpha_bar[t]) lacks the square root": (1.0 / root, shift / (sigma * root)),
            "alpha[t] in place of alpha_bar[t] in (34): beta[t] / sqrt(1 - alpha[t])": (
                1.0 / root,
                -np.sqrt(beta) / root,
            ),
            "beta_tilde[t] in place of beta[t] in (34)": (
                1.0 / root,
                -chain.beta_tilde / (sigma * root),
            ),
            "sqrt(beta[t]) in place of beta[t] in (34)": (1.0 / root, shift / (np.sqrt(beta) * root)),
            "alpha_bar[t-1] in place of alpha_bar[t] in (34)": (1.0 / root, -beta / (before * root)),
            "the sign of eps is wrong in (34)": (1.0 / root, -shift / root),
            "alpha[t] in place of beta[t] in (34)": (1.0 / root, -chain.alpha / (sigma * root)),
        }.items()
    }


def _of_x0(chain: Chain) -> dict[str, Pair]:
    """Slips in (26)."""
    (of_x, of_x0), variance = chain.posterior, chain.short.variance[1:]
    slope, before = chain.slope
    zero = 0.0 * of_x
    return {
        name: chain.from_x0(*pair)
        for name, pair in {
            "the coefficients of (26) are swapped": (of_x0, of_x),
            "alpha_bar[t] in place of alpha_bar[t-1] at x_0 in (26)": (
                of_x,
                slope * chain.beta / variance,
            ),
            "alpha_bar[t-1] without its square root in (26)": (of_x, before * of_x0),
            "alpha[t] without its square root in (26)": (np.sqrt(chain.alpha) * of_x, of_x0),
            "both of (26) without their square roots": (np.sqrt(chain.alpha) * of_x, before * of_x0),
            "alpha_bar[t] in place of alpha_bar[t-1] at x_t in (26)": (np.sqrt(chain.alpha), of_x0),
            "x_0 alone is kept: x_t is not used": (zero, of_x0),
            "the predicted x_0 is taken for the next x": (zero, zero + 1.0),
            "x_0 is noised anew with z alone, sqrt(alpha_bar[t-1]) x_0": (zero, before),
        }.items()
    }


def _of_alpha_bar_0(chain: Chain, truth: Truth, eta: float | None) -> dict[str, Pair]:
    """Another number where alpha_bar[0] = 1 is meant, at the end of the last step."""
    last, found = chain.s == 0, {}
    for name, t in {"alpha_bar[1]": 1, "alpha_bar[T]": truth.T, "0": 0}.items():
        slope, variance = (truth.slope[t], truth.variance[t]) if t else (0.0, 1.0)
        if eta is None:
            share = chain.short.variance[1:]
            pair = np.sqrt(chain.alpha) * variance / share, slope * chain.beta / share
        else:
            of_x = np.sqrt(variance) / chain.sigma[0]
            pair = of_x, slope - of_x * chain.slope[0]
        right = chain.expected
        wrong = chain.from_x0(*pair)
        found[f"{name} is taken for alpha_bar[0], which has to be 1"] = Pair(
            np.where(last, wrong.of_x, right.of_x), np.where(last, wrong.of_p, right.of_p)
        )
    return found


def _of_both(chain: Chain, eta: float) -> dict[str, Pair]:
    """Slips in the step of DDIM."""
    (slope, before), (sigma, sigma_s) = chain.slope, chain.sigma
    of_eps, spread = chain.ddim_eps(eta), np.sqrt(chain.ddim_variance(eta))
    alpha_s = np.concatenate([[1.0], np.sqrt(chain.alpha[:-1])])
    return {
        name: chain.from_both(of_x0, of_noise)
        for name, (of_x0, of_noise) in {
            "the sign of eps is wrong in DDIM's step": (before, -of_eps),
            "sqrt(1 - alpha_bar[s]) without - sigma^2": (before, sigma_s),
            "sqrt(1 - alpha_bar[s] + sigma^2): the sign of sigma^2 is wrong": (
                before,
                np.sqrt(sigma_s**2 + spread**2),
            ),
            "sqrt(1 - alpha_bar[s]) - sigma in place of sqrt(1 - alpha_bar[s] - sigma^2)": (
                before,
                sigma_s - spread,
            ),
            "sqrt(1 - alpha_bar[s] - sigma): sigma is not squared": (
                before,
                np.sqrt(np.maximum(sigma_s**2 - spread, 0.0)),
            ),
            "1 - alpha_bar[s] - sigma^2 without its square root": (before, of_eps**2),
            "alpha_bar[s] without its square root at x_0": (before**2, of_eps),
            "alpha in place of alpha_bar at s": (alpha_s, np.sqrt(np.maximum(1.0 - alpha_s**2, 0.0))),
            "alpha_bar[t] in place of alpha_bar[s]": (slope, sigma),
            "alpha_bar[t] in place of alpha_bar[s] at x_0": (slope, of_eps),
            "alpha_bar[t] in place of alpha_bar[s] at eps": (
                before,
                np.sqrt(np.maximum(sigma**2 - spread**2, 0.0)),
            ),
            "eps is left out: sqrt(alpha_bar[s]) x_0 alone": (before, 0.0 * before),
        }.items()
    }


def _misread(chain: Chain, truth: Truth, claims: Claims) -> dict[str, Pair]:
    """The step, if the prediction or x_0 is taken for something else."""
    found = {}
    for name, (x0, eps) in wrong_readings(chain, truth, claims).items():
        if claims.eta is None:
            found[name] = chain.from_x0(*chain.posterior, x0)
        else:
            found[name] = chain.from_both(chain.slope[1], chain.ddim_eps(claims.eta), x0, eps)
    return found


def wrong_readings(chain: Chain, truth: Truth, claims: Claims) -> dict[str, tuple[Pair, Pair]]:
    """Other things that x_t and the prediction may be taken to say of x_0 and eps."""
    (slope, _), (sigma, _) = chain.slope, chain.sigma
    one, x0, eps = np.ones_like(slope), chain.x0, chain.eps
    root = np.sqrt(chain.alpha)
    read: dict[str, tuple[Pair, Pair]] = {
        f"the prediction is taken for {other}": meaning(truth, chain.t, other)
        for other in TARGETS
        if other != claims.target
    }
    if claims.target == "eps":
        read |= {
            "1 - alpha_bar[t] without its square root in x_0 (E2)": (
                Pair(x0.of_x, -(sigma**2) / slope),
                eps,
            ),
            "alpha_bar[t] without its square root in x_0": (
                Pair(one / slope**2, -sigma / slope**2),
                eps,
            ),
            "the division by sqrt(alpha_bar[t]) is missing in x_0": (Pair(one, -sigma), eps),
            "x_0 is multiplied by sqrt(alpha_bar[t]), where it should be divided": (
                Pair(slope, -sigma * slope),
                eps,
            ),
            "the sign of eps is wrong in x_0": (Pair(x0.of_x, -x0.of_p), eps),
            "alpha[t] in place of alpha_bar[t] in x_0": (
                Pair(1.0 / root, -np.sqrt(chain.beta) / root),
                eps,
            ),
        }
    if claims.target == "v":
        read |= {
            "the sign of v is wrong": (Pair(x0.of_x, -x0.of_p), Pair(eps.of_x, -eps.of_p)),
            "sqrt(alpha_bar[t]) and sqrt(1 - alpha_bar[t]) are swapped in v": (
                Pair(sigma, -slope),
                Pair(slope, sigma),
            ),
        }
    if claims.target == "v" and claims.eta is not None:
        read |= {
            "the sign of v is wrong in x_0": (Pair(x0.of_x, -x0.of_p), eps),
            "the sign of v is wrong in eps": (x0, Pair(eps.of_x, -eps.of_p)),
        }
    if claims.target == "x0":
        read["1 - alpha_bar[t] without its square root in eps"] = (
            x0,
            Pair(eps.of_x / sigma, eps.of_p / sigma),
        )
    return read


def variance_slips(
    chain: Chain, truth: Truth, eta: float | None, meant: Mapping[str, Values], found_eta: float
) -> dict[str, Values]:
    """sigma^2 of each step; ``meant`` has, by name, what it may be meant to be."""
    tilde, variance_s = chain.beta_tilde, chain.short.variance[:-1]
    found: dict[str, Values] = {"no noise is added": 0.0 * tilde}
    with np.errstate(all="ignore"):
        for name, sigma2 in meant.items():
            said = f" (sigma_t^2 is {name})" if len(meant) > 1 else ""
            found |= {
                f"sigma_t^2 multiplies z: its square root is missing{said}": sigma2**2,
                f"the square root of sigma_t^2 is taken twice{said}": np.sqrt(sigma2),
                f"z is added before the mean is divided by sqrt(alpha[t]){said}": sigma2 / chain.alpha,
            }
    usual = usual_variances(chain.short)
    for name, sigma2 in {**meant, **{name: table[1:] for name, table in usual.items()}}.items():
        for shift, sign in ((1, "+"), (-1, "-")):
            place = np.clip(np.arange(len(tilde)) + shift, 0, len(tilde) - 1)
            said = f"t seems to be off by one: sigma_t^2 is {name} at t {sign} 1"
            found[said] = sigma2[place]
    found |= {f"sigma_t^2 is {name}": table[1:] for name, table in usual.items() if name not in meant}
    found |= {
        "sigma_t^2 is 1 - alpha_bar[t-1]: x_{t-1} is noised anew": variance_s,
        "z is multiplied by 1 - alpha_bar[t-1], without the root": variance_s**2,
        "sigma_t^2 is 1 - alpha_bar[t]: the variance of x_t given x_0": chain.short.variance[1:],
    }
    if len(chain.t) < truth.T:
        found["sigma_t^2 is beta[t] of the long chain"] = truth.beta[chain.t]
        found["sigma_t^2 is beta_tilde[t] of the long chain"] = truth.posterior_variance[chain.t]
        found[EVEN_ENDS] = even_ends(chain, truth, 1.0 if eta is None else eta)[2]
    if eta is not None:
        found["eta is squared twice"] = eta**4 * tilde
        found["eta is not squared"] = eta * tilde
        found["sigma_t^2 is eta^2 beta, not eta^2 beta_tilde"] = eta**2 * chain.beta
    if abs(found_eta - (eta or 0.0)) > 1e-4 and found_eta < 0.9999:
        found[f"sigma_t^2 is that of DDIM with eta = {found_eta:.4g}"] = found_eta**2 * tilde
    return found
