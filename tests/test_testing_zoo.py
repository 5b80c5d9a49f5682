"""The checker on code that it was not made with: slips are caught and named, right code passes."""

import re

import numpy as np
import pytest

from ddpm_np.testing import check_identities
from tests.zoo import bounds, formulas, loops, training
from tests.zoo.plain import Bound, Loop
from tests.zoo.variants import VARIANTS

SLIPS = {
    f"{module.__name__.rpartition('.')[2]}.{name}": found
    for module in (loops, training, formulas, bounds)
    for name, found in vars(module).items()
    if isinstance(found, type) and found.__module__ == module.__name__ and hasattr(found, "named")
}
# Of the slips above: those of facts seen in public code.
IN_THE_WILD = [
    *["formulas.NoRootInQSample", "training.NoRootOnTheNoise", "loops.NoRootInTheNoiseCoefficient"],
    *["loops.LastStepDropped", "loops.NoNoiseAtTheSecondLast", "loops.DdimSignOfEps"],
    *["loops.VarianceForDeviation", "formulas.OneBetaTooMany", "formulas.RootAlphaBarOnTheNoise"],
    *["training.RootAlphaBarOnBoth", "loops.NoiseAtTheLastStep", "formulas.CosineWithBetaOneZero"],
    *["training.NeverT", "training.NeverOne", "training.OneTimeForTheBatchNeverT"],
    *["training.UniformNoise", "formulas.ArithmeticMean", "loops.ClipWithoutEffect"],
    *["training.FirstTimeForTheBatch", "formulas.CosineWithoutItsStart"],
]
UNNAMED = {
    "loops.DdimEndsAtTheNoisyEnd": "the root of a negative number: all that is seen is NaN, at t = 5",
}


def named(report, slip):
    """Whether a failing row says what was planted."""
    return any(re.search(slip.named, row.explanation, re.I | re.S) for row in report.failed)


@pytest.mark.parametrize("name", SLIPS)
def test_a_slip_is_caught_and_named(name):
    slip = SLIPS[name]
    report = check_identities(slip(), **slip.options)
    found = "caught" if report.failed else "missed"
    found = "named" if named(report, slip) else found
    assert found == ("caught" if name in UNNAMED else "named"), f"\n{report}"


def test_how_many_are_caught_and_named():
    """Held by the test above: all are caught."""
    assert len(SLIPS) >= 160
    assert len(UNNAMED) <= 0.02 * len(SLIPS)


def test_what_was_seen_in_public_code_is_named():
    assert not {*IN_THE_WILD} & {*UNNAMED}
    assert {*IN_THE_WILD} <= SLIPS.keys()


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", VARIANTS)
def test_right_code_does_not_fail(name, seed):
    variant = VARIANTS[name]
    check_identities(variant(), seed=seed, **variant.options).raise_if_failed()


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_right_code_does_not_fail_for_any_seed(name):
    variant = VARIANTS[name]
    for seed in range(2, 20):
        check_identities(variant(), seed=seed, **variant.options).raise_if_failed()


@pytest.mark.parametrize("T", [50, 200, 1000, 4000])
def test_a_dropped_step_does_not_pass_for_rounding(T):
    slip = type("LastStepDropped", (loops.LastStepDropped,), {"T": T})
    report = check_identities(slip())
    assert named(report, slip), f"\n{report}"


@pytest.mark.parametrize("factor", [0.0, -1.0, 10.0])
def test_the_prior_is_judged_in_single_precision(factor):
    """At T = 1000, where ordinary observations leave nothing of themselves in x_T."""

    class Prior(Bound):
        T = 1000

        def make_betas(self, T):
            return np.linspace(1e-4, 0.02, T)

        def prior(self, x0):
            return factor * super().prior(x0)

        def elbo_terms(self, predict, x0, noise):
            return tuple(np.float32(term) for term in super().elbo_terms(predict, x0, noise))

    row = check_identities(Prior(), dtype="float32")["elbo_terms: L_T by quadrature"]
    assert row.verdict == "FAILS"
    assert ("left out" if factor == 0.0 else "sign" if factor < 0.0 else "10 times") in row.explanation


def test_code_that_works_in_place_does_not_spoil_the_next_report():
    report = check_identities(loops.InPlace())
    assert [row.identity for row in report.failed] == ["arguments are left as they were"]
    check_identities(Loop()).raise_if_failed()


def torch_report(diffusion, **options):
    from ddpm_np.testing.adapters.usual_names import UsualNames

    adapter = UsualNames(diffusion)
    return check_identities(adapter, **adapter.claims, **options)


@pytest.mark.peers
@pytest.mark.parametrize("seed", range(3))
def test_right_code_in_pytorch_does_not_fail(seed):
    pytest.importorskip("torch")
    from tests.zoo.torch_code import GaussianDiffusion

    torch_report(GaussianDiffusion(), seed=seed).raise_if_failed()


@pytest.mark.peers
def test_slips_in_pytorch_are_caught_and_named():
    pytest.importorskip("torch")
    from tests.zoo.torch_code import SLIPS

    assert len(SLIPS) >= 9
    for slip in SLIPS:
        report = torch_report(slip())
        assert named(report, slip), f"{slip.__name__}\n{report}"


@pytest.mark.peers
@pytest.mark.parametrize("seed", range(2))
def test_right_code_in_jax_does_not_fail(seed):
    pytest.importorskip("jax")
    from tests.zoo.jax_code import JaxDiffusion

    check_identities(JaxDiffusion(), seed=seed, dtype="float32").raise_if_failed()


@pytest.mark.peers
def test_slips_in_jax_are_caught_and_named():
    pytest.importorskip("jax")
    from tests.zoo.jax_code import SLIPS

    for slip in SLIPS:
        assert named(check_identities(slip(), dtype="float32"), slip), slip.__name__
