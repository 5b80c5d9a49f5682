"""diffusers' DDPMScheduler, seen through ddpm_np.testing, and its published numbers from our code."""

import os
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import pytest

import ddpm_np as ddpm
from ddpm_np.testing import check_identities

pytestmark = pytest.mark.peers

os.environ.setdefault("HF_HUB_OFFLINE", "1")
torch = pytest.importorskip("torch")
ddpm_scheduler = pytest.importorskip("diffusers.schedulers.scheduling_ddpm")


class Diffusers:
    """Adapter for DDPMScheduler, which counts t from 0 and draws its own noise."""

    def __init__(self, **options: Any) -> None:
        self.scheduler = ddpm_scheduler.DDPMScheduler(**options)
        self.T = len(self.scheduler.betas)

    def betas(self):
        return self.scheduler.betas

    def alpha_bars(self):
        return self.scheduler.alphas_cumprod

    def q_sample(self, x0, t, noise):
        index = torch.full((len(x0),), t - 1)
        return self.scheduler.add_noise(single(x0), single(noise), index)

    def reverse_variance(self, t):
        return self.scheduler._get_variance(t - 1)

    def reverse_step(self, x_t, t, eps, z):
        with mock.patch.object(ddpm_scheduler, "randn_tensor", return_value=single(z)):
            return self.scheduler.step(single(eps), t - 1, single(x_t)).prev_sample


def single(x: Any) -> Any:
    return torch.as_tensor(x, dtype=torch.float32)


def failures(**options: Any) -> dict[str, str]:
    report = check_identities(Diffusers(**options), dtype="float32")
    return {row.identity: row.explanation for row in report.failed}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"variance_type": "fixed_large"},
        {"beta_schedule": "scaled_linear"},
        {"beta_schedule": "squaredcos_cap_v2"},
        {"num_train_timesteps": 50},
    ],
)
def test_formulas_hold_without_clipping_but_tables_are_imprecise(options):
    report = check_identities(Diffusers(clip_sample=False, **options), dtype="float32")
    assert report.ok, str(report)
    assert report["alpha_bars: 1 - alpha_bar, composed from steps"].verdict == "imprecise"
    assert report["reverse_step: no noise at t = 1"].verdict == "holds"


def test_clipping_is_found():
    failed = failures()
    assert set(failed) == {"reverse_step: coefficient of x_t", "reverse_step: coefficient of eps"}
    assert all("does it clip" in text for text in failed.values())


def test_fixed_small_log_returns_a_standard_deviation():
    failed = failures(clip_sample=False, variance_type="fixed_small_log")
    assert "standard deviation" in failed["reverse_variance: beta_tilde, beta, between, or 1"]


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
