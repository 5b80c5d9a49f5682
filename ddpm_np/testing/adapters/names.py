"""The names that most diffusion code shares: of tables, methods, parameters and constructors."""

import inspect
from typing import Any

import numpy as np

from ddpm_np.testing.protocol import Values

TABLES = {
    "betas": ("betas", "beta"),
    "alpha_bars": (
        "alphas_cumprod",
        "alpha_bars",
        "alphas_bar",
        "alpha_bar",
        "alpha_hat",
        "alpha_cumprod",
    ),
    "reverse_variance": ("posterior_variance",),
}
METHODS = {
    "q_sample": ("q_sample", "add_noise", "noise_images", "forward_diffusion", "perturb_input"),
    "q_posterior": ("q_posterior", "q_posterior_mean_variance"),
    "reverse_step": ("p_sample", "step", "denoise_step", "sample_step", "remove_noise"),
    "sample": ("p_sample_loop", "sample_loop", "sample", "generate"),
    "loss": (
        "training_loss",
        "compute_loss",
        "get_loss",
        "loss",
        "forward",
        "training_losses",
        "p_losses",
    ),
}
NETWORKS = (
    *("model", "denoise_fn", "denoise_model", "denoiser", "net", "network", "unet", "model_fn"),
    *("nn_model", "eps_model"),
)
# What a parameter of this name is meant to be.
ROLES = {
    "x0": ("x_start", "x0", "x_0", "original_samples", "x", "img", "image", "images", "data", "batch"),
    "x_t": ("x_t", "xt", "x", "sample", "img", "image"),
    "t": ("t", "timestep", "timesteps", "time", "times", "ts", "i"),
    "noise": ("noise", "x_noise", "eps", "epsilon", "e", "z"),
    "output": ("model_output", "pred_noise", "noise_pred", "predicted_noise", "eps", "epsilon", "noise"),
    "model": NETWORKS,
    "shape": ("shape", "size"),
    "count": ("batch_size", "n", "n_samples", "num_samples", "n_sample", "n_images"),
}
PIXEL = {"image_size": 1, "img_size": 1}
RESULTS = ("sample", "prev_sample", "x_prev", "loss", "mean")


class UnusualError(TypeError):
    """The class lacks, or names otherwise, what is looked for; one sentence that says what."""


def first(owner: Any, names: tuple[str, ...], *, callable_: bool) -> Any:
    """The first attribute of one of these names; ``forward`` only if the class has its own."""
    for name in names:
        found = getattr(owner, name, None)
        unimplemented = getattr(found, "__name__", "") == "_forward_unimplemented"
        if found is not None and callable(found) == callable_ and not unimplemented:
            return found
    return None


def table(values: Any) -> Values:
    """A table on the host."""
    host = values.detach().cpu() if hasattr(values, "detach") else values
    return np.asarray(host, dtype=np.float64).reshape(-1)


def usual_arguments(make: Any, network: Any) -> dict[str, Any]:
    """What a class of diffusion code needs to be made: a network, betas, sizes; by parameters' names.

    Raises
    ------
    UnusualError
        If it wants something else.
    """
    values = {
        **dict.fromkeys(NETWORKS, network),
        "betas": np.linspace(1e-4, 0.02, 1000),
        **dict.fromkeys(("timesteps", "num_timesteps", "num_train_timesteps", "n_steps"), 1000),
        **dict.fromkeys(("noise_steps", "T", "n_T", "steps"), 1000),
        **dict.fromkeys(("beta_start", "beta_1", "beta_min"), 1e-4),
        **dict.fromkeys(("beta_end", "beta_T", "beta_max"), 0.02),
        **dict.fromkeys(("image_size", "img_size"), 1),
        "channels": 3,
    }
    found = {}
    for name, parameter in inspect.signature(make).parameters.items():
        required = parameter.default is parameter.empty
        if name == "device":
            found[name] = "cpu"
        elif required and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            if name not in values:
                raise UnusualError(
                    f"{make.__name__} wants {name!r}, a name that says nothing here: "
                    "name a function that makes one"
                )
            found[name] = values[name]
    return found
