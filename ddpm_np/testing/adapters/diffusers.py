"""diffusers' DDPMScheduler and DDIMScheduler, with all of their options.

    adapter = DDPM(DDPMScheduler(prediction_type="v_prediction"), steps=50)
    print(check_identities(adapter, **adapter.claims))

Its arithmetic is float32.
"""

import copy
from functools import cached_property
from typing import Any

from ddpm_np._checks import check_integer
from ddpm_np.testing.adapters.draws import from_arrays, loop_draws
from ddpm_np.testing.adapters.pytorch import as_network, as_times, to_tensor, torch_draws
from ddpm_np.testing.protocol import Predict, Values

TARGETS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}


class _Scheduler:
    """What both have: a loop over its timesteps, which count from 0."""

    def __init__(self, scheduler: Any, steps: int | None) -> None:
        self.scheduler, self.name = scheduler, type(scheduler).__name__
        self.T = int(scheduler.config.num_train_timesteps)
        self.steps = self.T if steps is None else check_integer("steps", steps, 1, self.T)
        self._loop = copy.deepcopy(scheduler)
        self._loop.set_timesteps(self.steps)

    @cached_property
    def times(self) -> tuple[int, ...]:
        """The times that the loop visits, from 1, increasing."""
        return tuple(sorted(int(t) + 1 for t in self._loop.timesteps))

    @property
    def claims(self) -> dict[str, Any]:
        """What the options mean, as arguments of ``check_identities``."""
        config = self.scheduler.config
        if config.thresholding:
            raise ValueError("dynamic thresholding is no known formula of x_t: set thresholding=False")
        return {
            "dtype": "float32",
            "target": TARGETS[config.prediction_type],
            "clip": config.clip_sample_range if config.clip_sample else None,
            "times": None if len(self.times) == self.T else self.times,
        }

    def betas(self) -> Any:
        """beta_1 ... beta_T."""
        return self.scheduler.betas

    def alpha_bars(self) -> Any:
        """alpha_bar_1 ... alpha_bar_T."""
        return self.scheduler.alphas_cumprod

    def q_sample(self, x0: Values, t: int, noise: Values) -> Any:
        """``add_noise``."""
        return self.scheduler.add_noise(to_tensor(x0), to_tensor(noise), as_times(t, len(x0)))

    def sample(self, predict: Predict, x_T: Values, noise: Values) -> Any:
        """The loop over ``step``."""
        network, x = as_network(predict), to_tensor(x_T)
        with torch_draws(loop_draws(None, noise, self.times)):
            for t in self._loop.timesteps:
                x = self._loop.step(network(x, t), t, x, **self._options()).prev_sample
        return x

    def _options(self) -> dict[str, Any]:
        return {}


class DDPM(_Scheduler):
    """``DDPMScheduler``; ``steps`` visits fewer times, spaced as its ``timestep_spacing`` says."""

    def __init__(self, scheduler: Any, steps: int | None = None) -> None:
        super().__init__(scheduler, steps)
        config = scheduler.config
        learned = config.variance_type in ("learned", "learned_range")
        hidden = {
            "reverse_variance": learned,
            "sample": learned,  # its network says more than a mean
            "reverse_step": learned or config.prediction_type != "epsilon",
            "learned_variance": config.variance_type != "learned_range",
        }
        for method in (name for name, is_hidden in hidden.items() if is_hidden):
            setattr(self, method, None)  # not offered

    def reverse_variance(self, t: int) -> Any:
        """sigma_t^2 of one step of the whole chain, of which it may keep the root or the logarithm."""
        value = self.scheduler._get_variance(t - 1)
        kept = self.scheduler.config.variance_type
        if kept == "fixed_large_log":
            return value.exp()
        return value**2 if kept == "fixed_small_log" else value

    def learned_variance(self, v: float, t: int) -> Any:
        """sigma_t^2 of "learned_range", whose network says 2 v - 1."""
        return self.scheduler._get_variance(t - 1, to_tensor([2.0 * v - 1.0])).exp()

    def reverse_step(self, x_t: Values, t: int, eps: Values, z: Values) -> Any:
        """``step`` of the whole chain, for a network that predicts eps."""
        with torch_draws(from_arrays([z])):
            return self.scheduler.step(to_tensor(eps), t - 1, to_tensor(x_t)).prev_sample


class DDIM(_Scheduler):
    """``DDIMScheduler`` with these arguments of ``step``; ``steps`` as for :class:`DDPM`."""

    def __init__(
        self,
        scheduler: Any,
        steps: int | None = 50,
        eta: float = 0.0,
        use_clipped_model_output: bool = False,
    ) -> None:
        super().__init__(scheduler, steps)
        self.eta, self.use_clipped_model_output = eta, use_clipped_model_output

    @property
    def claims(self) -> dict[str, Any]:
        """What the options mean, as arguments of ``check_identities``."""
        return {**super().claims, "eta": self.eta}

    def _options(self) -> dict[str, Any]:
        return {"eta": self.eta, "use_clipped_model_output": self.use_clipped_model_output}


def adapt(scheduler: Any) -> DDPM | DDIM:
    """The adapter for a scheduler, whichever of the two it is, with its defaults."""
    kind = type(scheduler).__name__
    if kind == "DDPMScheduler":
        return DDPM(scheduler)
    if kind == "DDIMScheduler":
        return DDIM(scheduler)
    raise TypeError(f"a DDPMScheduler or a DDIMScheduler is wanted, got a {kind}")


__all__ = ["DDIM", "DDPM", "adapt"]
