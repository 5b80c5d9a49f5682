"""diffusers' DDPM and DDIM schedulers, with their options, seen through ddpm_np.testing.

And its published numbers, from our code.
"""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import ddpm_np as ddpm
from ddpm_np.testing import check_identities
from ddpm_np.testing.__main__ import main

pytestmark = pytest.mark.peers

os.environ.setdefault("HF_HUB_OFFLINE", "1")
torch = pytest.importorskip("torch")
ddpm_scheduler = pytest.importorskip("diffusers.schedulers.scheduling_ddpm")
ddim_scheduler = pytest.importorskip("diffusers.schedulers.scheduling_ddim")

from ddpm_np.testing.adapters.diffusers import DDIM, DDPM  # noqa: E402

ASKED = "sample: predict is asked at each time"
PREDICTION = "sample: coefficient of the prediction"
LIMITS = "sample: x_0 is limited as announced"
LAST = "sample: no noise at the last step"
VARIANCE = "sample: variance of the noise"
ZERO_SNR = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}


def ddpm_report(steps=None, claims=None, **options):
    adapter = DDPM(ddpm_scheduler.DDPMScheduler(**options), steps=steps)
    return check_identities(adapter, **{**adapter.claims, **(claims or {})})


def ddim_report(steps=50, eta=0.0, use_clipped_model_output=False, claims=None, **options):
    adapter = DDIM(ddim_scheduler.DDIMScheduler(**options), steps, eta, use_clipped_model_output)
    return check_identities(adapter, **{**adapter.claims, **(claims or {})})


def said(report, verdict):
    return {row.identity: row.explanation for row in report.rows if row.verdict == verdict}


def assert_right(report, spacing, steps):
    """Nothing fails; leading times alone are remarked upon, since they leave out T."""
    assert report.ok, str(report)
    starts_early = spacing == "leading" and steps is not None
    remarks = said(report, "remark")
    assert set(remarks) == ({ASKED} if starts_early else set()), str(report)
    assert all("the first time is" in text for text in remarks.values())


OPTIONS: list[dict[str, Any]] = [
    {},
    {"clip_sample": False},
    {"clip_sample_range": 2.0, "beta_schedule": "scaled_linear"},
    {"beta_schedule": "squaredcos_cap_v2"},
    {"prediction_type": "sample"},
    {"prediction_type": "v_prediction"},
    {"steps_offset": 1},
    ZERO_SNR,
    {**ZERO_SNR, "clip_sample": False},
]
ANCESTRAL = [
    {"variance_type": "fixed_large"},
    {"variance_type": "fixed_small_log"},
    {"beta_schedule": "sigmoid"},
]
SPACED = [(10, "leading"), (50, "leading"), (10, "trailing"), (50, "linspace"), (None, "leading")]


def words(value: Any) -> str:
    return " ".join(f"{name}={part}" for name, part in value.items()) if isinstance(value, dict) else ""


def refused(options: dict[str, Any], steps: int | None, spacing: str, eta: float | None = None) -> bool:
    """What diffusers does wrong, see below."""
    beyond_the_table = steps is None and "steps_offset" in options
    adds_noise = spacing == "trailing" and options.get("variance_type") == "fixed_large"
    below_zero = spacing == "trailing" and eta == 1.0 and "rescale_betas_zero_snr" in options
    return beyond_the_table or adds_noise or below_zero


@pytest.mark.parametrize(("steps", "spacing"), SPACED)
@pytest.mark.parametrize("options", [*OPTIONS, *ANCESTRAL], ids=words)
def test_ddpm_is_right(options, steps, spacing):
    if not refused(options, steps, spacing):
        assert_right(ddpm_report(steps, timestep_spacing=spacing, **options), spacing, steps)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("steps", "spacing"), [(10, "trailing"), (50, "leading"), (None, "leading")])
@pytest.mark.parametrize("options", OPTIONS, ids=words)
def test_ddim_is_right(options, steps, spacing, eta):
    if refused(options, steps, spacing, eta):
        return
    assert_right(ddim_report(steps, eta, timestep_spacing=spacing, **options), spacing, steps)
    if steps is not None:
        report = ddim_report(
            steps, eta, use_clipped_model_output=True, timestep_spacing=spacing, **options
        )
        assert_right(report, spacing, steps)


def test_zero_snr_with_eta_1_rounds_to_no_number():
    """1 - alpha_bar[s] - sigma^2 is 0 at T, and rounds below it before its root is taken."""
    report = ddim_report(10, 1.0, timestep_spacing="trailing", **ZERO_SNR)
    failed = said(report, "FAILS")
    assert failed["sample: nothing else is added"] == "x_t is not finite after the step from t = 1000"


def test_their_tables_are_imprecise():
    report = ddpm_report(clip_sample=False)
    assert report["alpha_bars: 1 - alpha_bar, composed from steps"].verdict == "imprecise"
    assert report["reverse_step: no noise at t = 1"].verdict == "holds"


def test_clipping_has_to_be_announced():
    failed = said(ddpm_report(claims={"clip": None}), "FAILS")
    assert set(failed) == {
        "reverse_step: coefficient of x_t",
        "reverse_step: coefficient of eps",
        LIMITS,
    }
    assert failed[LIMITS] == "x_0 is limited to [-1, 1]"
    failed = said(ddpm_report(clip_sample=False, claims={"clip": 1.0}), "FAILS")
    assert failed[LIMITS] == "clip is announced, but x_0 is not limited"


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("options", [{}, {"prediction_type": "sample"}, {"steps_offset": 1}], ids=words)
def test_set_alpha_to_one_false(options, eta):
    """The last step ends at alpha_bar[1]: at x_1, not at the data."""
    report = ddim_report(eta=eta, set_alpha_to_one=False, clip_sample=False, **options)
    failed = said(report, "FAILS")
    assert PREDICTION in failed
    if eta == 0.0:
        assert "alpha_bar[1] is taken for alpha_bar[0]" in failed[PREDICTION]


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize(("steps", "spacing"), [(10, "linspace"), (50, "linspace"), (30, "trailing")])
def test_ddim_goes_back_by_the_same_number(steps, spacing, eta):
    """DDIMScheduler takes T // S from t, wherever the next time is."""
    failed = said(ddim_report(steps, eta, timestep_spacing=spacing, clip_sample=False), "FAILS")
    assert set(failed) >= {PREDICTION}
    assert all("goes T // (number of steps) back" in text for text in failed.values())


def test_trailing_times_with_beta_add_noise_at_the_last_step():
    """DDPMScheduler adds none at its t = 0, which trailing times never visit."""
    report = ddpm_report(10, timestep_spacing="trailing", variance_type="fixed_large")
    assert set(said(report, "FAILS")) == {LAST}


def test_an_offset_of_the_whole_chain_leaves_the_table():
    assert "IndexError" in said(ddpm_report(steps_offset=1), "FAILS")[ASKED]


def test_the_logarithm_of_beta_is_taken_for_a_variance():
    failed = said(ddpm_report(variance_type="fixed_large_log"), "FAILS")
    assert "the result is not finite" in failed["reverse_step: variance of the noise"]


def test_eps_says_nothing_where_the_snr_is_zero():
    report = ddpm_report(10, timestep_spacing="trailing", rescale_betas_zero_snr=True)
    assert report.ok
    assert "eps says nothing at T" in said(report, "remark")[ASKED]


def test_a_learned_range_is_checked_alone():
    report = ddpm_report(variance_type="learned_range")
    assert report.ok, str(report)
    rows = {row.identity: row.verdict for row in report.rows if row.verdict != "not offered"}
    assert not any(name.startswith(("sample", "reverse")) for name in rows)
    remark = said(report, "remark")["learned_variance: beta_tilde[2] at t = 1, v = 0"]
    assert "1e-20 at t = 1" in remark


def test_dynamic_thresholding_is_refused():
    with pytest.raises(ValueError, match="dynamic thresholding is no known formula"):
        _ = DDPM(ddpm_scheduler.DDPMScheduler(thresholding=True)).claims


def test_the_command_line_takes_a_scheduler(capsys):
    for name in ("DDPMScheduler", "DDIMScheduler"):
        assert main([f"diffusers:{name}", "--like", "diffusers"]) == 0
        assert f"{name}, T = 1000, float32" in capsys.readouterr().out
    assert main(["diffusers:EulerDiscreteScheduler", "--like", "diffusers"]) == 2
    assert "a DDPMScheduler or a DDIMScheduler is wanted" in capsys.readouterr().err


# The published test of diffusers: a fixed input, and a "network" that returns x t / (t + 1).


def published_input() -> np.ndarray:
    return np.transpose(np.arange(768.0).reshape(3, 8, 8, 4) / 768.0, (3, 0, 1, 2)).copy()


def published_schedule() -> ddpm.Schedule:
    return ddpm.schedule_from_beta(torch.linspace(1e-4, 0.02, 1000, dtype=torch.float32).numpy())


def torch_noise(shape: tuple[int, ...]) -> Callable[[int], np.ndarray]:
    """z for t = T..2, drawn in that order, as Algorithm 2 and diffusers do."""
    generator = torch.Generator("cpu").manual_seed(0)
    return lambda t: torch.randn(shape, generator=generator).numpy().astype(np.float64)


@pytest.mark.parametrize(
    ("target", "total", "mean"), [("eps", 258.9606, 0.3372), ("v", 202.0296, 0.2631)]
)
def test_published_loop(target, total, mean):
    schedule, x_T = published_schedule(), published_input()

    def predict(x_t: np.ndarray, t: int) -> np.ndarray:
        output = x_t * (t - 1) / t
        # clip_sample, on by default there, clips the x0 that the output implies.
        return np.clip(ddpm.predicted_x0(schedule, x_t, t, output, target), -1.0, 1.0)

    x_0 = ddpm.ancestral_sample(
        schedule,
        predict,
        x_T,
        noise=torch_noise(x_T.shape),
        sigma2=ddpm.reverse_variance(schedule, "posterior"),
        target="x0",
    )
    assert abs(np.sum(np.abs(x_0)) - total) < 1e-2
    assert abs(np.mean(np.abs(x_0)) - mean) < 1e-3


def test_published_variances():
    schedule = published_schedule()
    variance = ddpm.reverse_variance(schedule, "posterior")
    # At t = 1 they give 0 (clamped to 1e-20, never used), we give Ho's beta_tilde[2].
    assert schedule.posterior_variance[1] == 0.0
    assert abs(variance[488] - 0.00979) < 1e-5
    assert abs(variance[1000] - 0.02) < 1e-5
    scheduler = ddpm_scheduler.DDPMScheduler()
    theirs = np.array([float(scheduler._get_variance(t)) for t in range(1, 1000)])
    assert np.max(np.abs(theirs / variance[2:] - 1.0)) < 1e-3
