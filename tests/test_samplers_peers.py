"""Fast samplers against diffusers' schedulers, in float64 but for the float32 tables of theirs.

Where the two differ, and why:

* DDIMScheduler steps from t to t - T // S whatever the next time is: with "linspace" spacing it asks the
  network at other times than it has stepped to.
* HeunDiscreteScheduler visits times between the integers with "linspace" spacing.
* "leading" spacing does not start at T.
"""

import warnings

import numpy as np
import pytest

from ddpm_np.samplers import ddim_sample, dpm_solver_sample, heun_sample
from ddpm_np.schedules import (
    check_visits,
    linear_schedule,
    schedule_from_alpha_bar,
    trailing_times,
    uniform_times,
    zero_terminal_snr,
)

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore"),  # of their dependencies
]

T = 1000
COMMON = {"num_train_timesteps": T, "trained_betas": linear_schedule(T).beta[1:]}
X_T = np.random.default_rng(0).standard_normal((4, 3))
NOISE = np.random.default_rng(1).standard_normal((T + 1, 4, 3))
NAMES = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}


def network(x_t, t):
    return np.sin(x_t + 0.01 * t)


def walk(scheduler, S, x, **more):
    """x_0 by their loop."""
    scheduler.set_timesteps(S)
    x = torch.asarray(x)
    for t in scheduler.timesteps:
        asked = scheduler.scale_model_input(x, t).numpy()
        prediction = torch.asarray(network(asked, round(float(t)) + 1))
        noise = {"variance_noise": torch.asarray(NOISE[int(t) + 1])} if more else {}
        x = scheduler.step(prediction, t, x, **more, **noise).prev_sample
    return x.numpy()


def tables(scheduler):
    """Our schedule with their alpha_bar."""
    return schedule_from_alpha_bar([1.0, *scheduler.alphas_cumprod.double().tolist()])


def assert_close(theirs, ours, S):
    """Each of S steps rounds a few coefficients to float32."""
    bound = 4 * S * np.finfo(np.float32).eps * np.max(np.abs(ours))
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=bound)


@pytest.mark.parametrize("S", [10, 50])
@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("target", NAMES)
def test_ddim(S, eta, target):
    theirs = diffusers.DDIMScheduler(
        **COMMON, clip_sample=False, prediction_type=NAMES[target], timestep_spacing="trailing"
    )
    schedule, times = tables(theirs), trailing_times(T, S)
    found = walk(theirs, S, X_T, eta=eta)
    np.testing.assert_array_equal(theirs.timesteps.numpy()[::-1] + 1, times)
    ours = ddim_sample(
        schedule, network, X_T, eta=eta, noise=lambda t: NOISE[t], times=times, target=target
    )
    assert_close(found, ours, S)


@pytest.mark.parametrize("S", [10, 50])
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("spacing", ["trailing", "linspace"])
@pytest.mark.parametrize("target", NAMES)
def test_dpm_solver(S, order, spacing, target):
    theirs = diffusers.DPMSolverMultistepScheduler(
        **COMMON,
        prediction_type=NAMES[target],
        timestep_spacing=spacing,
        solver_order=order,
        final_sigmas_type="zero",
    )
    schedule, found = tables(theirs), walk(theirs, S, X_T)
    times = theirs.timesteps.numpy()[::-1] + 1
    ours = dpm_solver_sample(schedule, network, X_T, order=order, times=times, target=target)
    assert_close(found, ours, S)


@pytest.mark.parametrize("S", [10, 50])
@pytest.mark.parametrize("target", ["eps", "v"])  # theirs has no x_0
def test_heun(S, target):
    theirs = diffusers.HeunDiscreteScheduler(
        **COMMON, prediction_type=NAMES[target], timestep_spacing="trailing"
    )
    schedule, times = tables(theirs), trailing_times(T, S)
    found = walk(theirs, S, X_T / schedule.sqrt_alpha_bar[-1])  # it moves x / sqrt(alpha_bar)
    ours = heun_sample(schedule, network, X_T, times=times, target=target)
    assert_close(found, ours, S)


def test_their_ddim_does_not_step_to_the_time_it_asks_at_next():
    theirs = diffusers.DDIMScheduler(**COMMON, clip_sample=False, timestep_spacing="linspace")
    theirs.set_timesteps(10)
    t, next_t = theirs.timesteps[:2].numpy()
    first = theirs.step(torch.asarray(network(X_T, t + 1)), t, torch.asarray(X_T)).prev_sample.numpy()
    assert (t + 1, next_t + 1) == tuple(uniform_times(T, 10)[:-3:-1])

    def ours(to):
        path = ddim_sample(tables(theirs), network, X_T, times=[to, T], trajectory=True)
        return path[1]

    assert_close(first, ours(T - T // 10), 1)
    assert np.min(np.abs(first - ours(next_t + 1))) > 1e-2


def test_their_heun_visits_times_between_ours():
    theirs = diffusers.HeunDiscreteScheduler(**COMMON, timestep_spacing="linspace")
    theirs.set_timesteps(50)
    times = theirs.timesteps.numpy()
    assert np.max(np.abs(times - np.round(times))) > 0.4


def test_zero_terminal_snr():
    """Their betas from differences of float64 products, good to a few 1e-14."""
    theirs = diffusers.schedulers.scheduling_ddim.rescale_zero_terminal_snr
    betas = theirs(torch.asarray(linear_schedule(T).beta[1:])).numpy()
    ours = zero_terminal_snr(linear_schedule(T)).beta[1:]
    np.testing.assert_allclose(ours, betas, rtol=0.0, atol=1e-13)


@pytest.mark.parametrize("target", ["x0", "v"])
def test_ddim_from_zero_terminal_snr(target):
    settings = {"clip_sample": False, "prediction_type": NAMES[target], "rescale_betas_zero_snr": True}
    theirs = diffusers.DDIMScheduler(**COMMON, **settings, timestep_spacing="trailing")
    schedule, times = tables(theirs), trailing_times(T, 20)
    assert schedule.alpha_bar[-1] == 0.0
    assert_close(
        walk(theirs, 20, X_T), ddim_sample(schedule, network, X_T, times=times, target=target), 20
    )


def test_times_may_be_theirs():
    """A tensor on the host, without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(check_visits(torch.asarray([3, 700, T]), T), [3, 700, T])
