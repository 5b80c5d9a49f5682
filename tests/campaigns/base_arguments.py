"""Valid arguments for every public function, by the names of its parameters.

Functions are found by looking into the modules, so a new one is noticed: if a parameter has no value
here, or the call with valid arguments fails, the campaign says so.
"""

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import ddpm_np
from ddpm_np import linear_schedule
from ddpm_np.data.baselines import fit_histograms
from ddpm_np.data.normal_mixtures import fit_gaussian
from ddpm_np.decoders import gaussian_decoder
from ddpm_np.estimators import StepErrors
from ddpm_np.exact import GaussianData, IsotropicMixture, NoisyCurve, gaussian_data_chain
from ddpm_np.hierarchy import diffusion_decoder, diffusion_encoder
from ddpm_np.nn import (
    Adam,
    AveragePool,
    Conv2d,
    ConvDenoiser,
    GroupNorm,
    Linear,
    MLPDenoiser,
    Ops,
    SelfAttention,
    SiLU,
    UNet,
    Upsample,
    constant_rate,
    mlp_loss_and_gradient,
)
from ddpm_np.plotting import plot_schedule
from ddpm_np.runs.checkpoint import save_checkpoint, write_archive
from ddpm_np.runs.log import MetricsLog
from ddpm_np.testing import Reference
from ddpm_np.training import Recipe, init_state

OUTSIDE = {
    "_checks and _arrays": "private, as every name that begins with an underscore",
    "nn.ops": "kernels: layers have checked",
    "nn.image_ops": "kernels: layers have checked",
    "nn.tree": "walks over parameters, for layers and optimizers",
    "nn.combinators": "they hand on to their layers",
    "nn.conditioned": "parts of the denoisers for images",
    "plotting.panels": "parts of pictures",
    "testing.vectors.serving": "a loop over what another process sends",
    "testing.adapters": "for the code of others, which they call",
    "testing.report": "records",
    "testing.strategies": "what Hypothesis draws",
    "data.baselines.has_scikit_learn": "no arguments",
    "data.files.Archive": "inside of what reads files, see mutated_files and hostile_files",
    "data.files.reading": "the same",
    "data.files.shown": "text for messages",
    "data.images.require_scikit_learn": "raises for its caller",
    "data.normal_mixtures.fit_normal_mixture": "scikit-learn's, and slow; part of fit_baselines",
    "data.normal_mixtures.refit_rounded": "a round of fit_baselines",
    "data.normal_mixtures.rounded_draws": "a round of fit_baselines",
    "decoders.decode": "what asks a decoder, for functions that have checked it",
    "nn.layers.embed": "part of denoisers",
    "nn.layers.time_embedding": "cached: what it is given must be hashable",
    "nn.optimizers.Adam.init": "of a tree",
    "nn.optimizers.Adam.update": "of trees",
    "nn.optimizers.ema_update": "of trees",
    "nn.optimizers.global_norm": "of a tree",
    "nn.denoisers.MLPDenoiser.embed": "part of its forward",
    "reverse.made_for": "writes on a predictor",
    "runs.export.main": "a command line",
    "runs.export.to_json": "inside of export, which reads back what it has written",
    "runs.export.from_json": "the same",
    "runs.export.to_safetensors": "the same",
    "runs.export.from_safetensors": "the same",
    "runs.files.parse_json": "inside of what reads files",
    "runs.files.sync_folder": "after a write",
    "runs.files.to_json": "inside of what writes files",
    "runs.folder.hold_folder": "of a run, see two_writers and full_disk",
    "runs.log.Progress": "a bar on a terminal",
    "samplers.first_failure": "inside of samplers",
    "samplers.flow_times": "inside of samplers, which have checked the schedule",
    "samplers.walk": "inside of samplers",
    "schedules.tables.Schedule": "tables that the functions beside it make",
    "schedules.tables.at": "part of every formula",
    "schedules.tables.from_tables": "the end of what makes schedules",
    "training.batch_gradient": "part of a step",
    "training.Recipe.loss_and_gradient": "a field",
}
"""What is not tried, and why: a module, a class with its methods, a function or a method."""

CHECKS = {"check_data", "check_identities"}
"""Whose names begin as those of the inner checks do."""

PLUMBING = {"ops", "params", "state", "flat_params", "asarray", "to_numpy", "grads", "model"}
"""Arguments that come from the project itself, and stay."""


OWN_TYPES = {
    *{"recipe", "chain", "errors", "model", "denoiser", "optimizer", "implementation", "rng"},
}
"""Arguments of a type of the project's own, generators, figures: where something else is given,
Python's error for the attribute, key or item that it lacks says enough."""


class Entry(NamedTuple):
    """A function, and arguments with which it works."""

    name: str
    call: Callable[..., Any]
    arguments: dict[str, Any]
    missing: list[str]
    """Parameters without a value."""


# --- values -------------------------------------------------------------------------------

T, B = 6, 3
SCHEDULE = linear_schedule(T, 0.05, 0.6)
ONE, TWO = linear_schedule(1, 0.05, 0.6), linear_schedule(2, 0.05, 0.6)
RNG = np.random.default_rng(0)
X, Y, Z = RNG.standard_normal((3, B, 2))
NOISE = RNG.standard_normal((T + 1, B, 2))
SIGMA2 = np.concatenate([[1.0], SCHEDULE.beta[1:]])
IMAGES = RNG.integers(0, 5, (90, 4, 4))
LEVELS = IMAGES.reshape(90, 16)[:, :4]
PICTURES = RNG.random((12, 4, 4, 1))
FEATURES = RNG.standard_normal((2, 4, 4, 4))
OPS = Ops()
COVARIANCE = np.array([[1.0, 0.3], [0.3, 0.5]])
CHAIN = gaussian_data_chain(SCHEDULE, np.array([0.1, -0.2]), COVARIANCE, SIGMA2)
SCALAR_CHAIN = gaussian_data_chain(SCHEDULE, np.array([0.1]), np.array([[0.7]]), SIGMA2)
LAW, OTHER_LAW = GaussianData(X[0], COVARIANCE), GaussianData(Y[0], np.array([0.5, 2.0]))
LINE_MIXTURE = IsotropicMixture(np.array([0.4, 0.6]), np.array([[0.0], [1.0]]), 0.3)
MIXTURE = IsotropicMixture(np.array([0.4, 0.6]), np.array([[0.0, 1.0], [1.0, 0.0]]), 0.3)
CONFIGURATION = {"seed": 0, "steps": 3}


def predict(x_t: Any, t: Any) -> Any:
    """A predictor of noise that is no network."""
    return 0.1 * x_t


def model_mean(x_t: Any, t: int) -> Any:
    """A mean of the model."""
    return 0.9 * x_t


def draw_noise(t: int) -> Any:
    """Noise, as a function of t."""
    return NOISE[t % len(NOISE)]  # for schedules of another T too


def curve(u: Any) -> Any:
    """A quarter of a circle."""
    return np.stack([np.cos(u), np.sin(u)], axis=1)


def ancestral(x_T: Any, noise: Any) -> Any:
    """A sampler, linear as its denoiser is."""
    return ddpm_np.ancestral_sample(SCHEDULE, predict, x_T, noise=noise, sigma2=SIGMA2)


RECIPE = Recipe(SCHEDULE, MLPDenoiser(2, T, 4, 1, embedding_size=4), Adam(constant_rate(1e-3)))
STATE = init_state(RECIPE, 0, lambda values: np.asarray(values, dtype=np.float64))
ERRORS = StepErrors(X, 0.1 + RNG.random((T + 1, B)), Y)


def draw(step: int) -> Any:
    """A batch."""
    return X, np.array([1, 3, T]), Y


def nothing(*values: Any) -> None:
    """What a run may report to, or save with."""


BY_NAME: dict[str, Any] = {
    **{"schedule": SCHEDULE, "T": T, "t": 3, "target": "eps", "sigma2": SIGMA2, "kind": "beta"},
    **{"x0": X, "x_t": Y, "x_prev": Y, "x_prev2": X, "x_next": Z, "x_T": Z, "x": X, "y": Y, "z": Z},
    **{"x_0": X, "law": LAW, "other": OTHER_LAW, "k": 5.0},
    **{"eps": Z, "v": Z, "noise": Z, "step_noise": X, "mean": Y, "prediction": Z, "truth": X},
    **{"predict": predict, "decoder": gaussian_decoder, "trajectory": False, "dimensions": 2},
    **{"mean_1": X, "var_1": 0.5, "mean_2": Y, "var_2": 1.5, "variance": 0.7, "nll": X[:, 0]},
    **{"beta_1": 1e-3, "beta_T": 0.3, "s": 0.008, "max_beta": 0.999, "width": 6.0, "signal": 0.03},
    **{"beta": SCHEDULE.beta, "alpha_bar": SCHEDULE.alpha_bar, "L_T": X[:, 0]},
    **{"path": np.stack([X, Y, Z, X, Y, Z, X]), "chain": CHAIN, "covariance": COVARIANCE},
    **{"levels": 5, "low": -1.0, "high": 1.0, "guidance": 1.5, "nodes": 8, "seed": 1, "n": 90},
    **{"conditional": predict, "unconditional": model_mean, "errors": ERRORS, "error": SIGMA2},
    **{"encode": diffusion_encoder(SCHEDULE), "decode": diffusion_decoder(model_mean, SIGMA2)},
    **{"z_prev": X, "z_1": Y, "z_2": Z, "slope": SIGMA2, "u": 0.3, "batch": 4},
    **{"second_moments": SIGMA2, "uniform": 1e-3, "uniforms": np.array([0.1, 0.5, 0.9])},
    **{"log_density": X[:, 0], "slopes": CHAIN.slopes, "offsets": CHAIN.offsets, "blur": 0.5},
    **{"weights": MIXTURE.weights, "means": MIXTURE.means, "std": 0.3, "panel": 20.0, "curve": curve},
    **{
        "images": IMAGES,
        "labels": np.arange(90) % 3,
        "multiple": 1,
        "name": "images",
        "dtype": "float64",
    },
    **{"key": "images", "labels_key": None, "projections": 8, "bandwidth": 1.0, "unbiased": False},
    **{"components": 2, "smoothing": 1.0, "ridge": 0.1, "rounds": 2, "draws": 2, "arms": 5},
    **{"rng": np.random.default_rng(0), "data": X, "batch_size": 4, "unlabelled": 0.1, "step": 2},
    **{"recipe": RECIPE, "state": STATE, "flat_params": STATE.params, "ops": OPS, "steps": 2},
    **{"asarray": np.asarray, "to_numpy": np.asarray, "configuration": CONFIGURATION, "draw": draw},
    **{"report": nothing, "save": nothing, "report_every": 1, "save_every": 1, "values": X[:, 0]},
    **{"denoiser": RECIPE.denoiser, "optimizer": RECIPE.optimizer, "weight": None, "ema_decay": 0.9},
    **{"max_grad_norm": 1.0, "loss_and_gradient": mlp_loss_and_gradient, "max_norm": 1.0, "grads": [X]},
    **{"rate": 1e-3, "beta_2": 0.99, "epsilon": 1e-8, "weight_decay": 0.01, "stream": 1, "part": 0},
    **{"channels": 4, "groups": 2, "heads": 2, "inputs": 2, "outputs": 3, "kernel": 3, "stride": 1},
    **{"gain": 1.0, "hidden_size": 4, "hidden_layers": 1, "embedding_size": 4, "blocks": 1},
    **{"classes": 0, "multipliers": (1, 2), "implementation": Reference(SCHEDULE)},
    **{"columns": 4, "rows": ("a", "b", "c"), "title": "t", "ylabel": "y", "times": [0, 3, 6]},
    **{"forward": [X, Y, Z], "reverse": [X, Y, Z], "terms": {"a": SIGMA2}, "L": SIGMA2, "L_0": 0.1},
    **{"oracle": SIGMA2, "loss": [1.0, 0.5, 0.4], "smooth": None, "samples": Y, "titles": ("a", "b")},
    **{"schedules": {"a": SCHEDULE}, "fps": 20.0, "dpi": 40.0, "figure": None, "obj": {"a": 1}},
    **{"names": ("a",), "arrays": {"a": X}, "about": {"a": 1}, "record": {"step": 1, "loss": 0.5}},
}

VARIANCES = {"mean_1": 0.1, "sigma_1": 0.5, "mean_2": -0.3, "sigma_2": 1.5}
PATHS = {"path": Path("a.npz")}
STATISTICS = {"mean": np.array([0.1, -0.2])}
FULL = {"mean_1": STATISTICS["mean"], "cov_1": COVARIANCE}
FULL |= {"mean_2": -STATISTICS["mean"], "cov_2": np.eye(2)}
OF_LEVELS = {"images": LEVELS, "train": LEVELS[:50], "validation": LEVELS[50:70], "test": LEVELS[70:]}
STRIPS = {"forward": [PICTURES] * 3, "reverse": [PICTURES] * 3}
SPREAD = {"noise": 0.1}

# What a name means in one module, or in one function.
BY_PLACE: dict[str, dict[str, Any]] = {
    "data.baselines": OF_LEVELS,
    "data.baselines.histogram_log_prob": {"model": fit_histograms(LEVELS, 5, 1, 1.0, RNG)},
    "data.distances": {"x": RNG.standard_normal((20, 2)), "y": RNG.standard_normal((30, 2)), "k": 3},
    "data.files": PATHS,
    "data.images": PATHS,
    "data.images.scale": {"images": IMAGES},
    "data.images.dequantise": {"images": IMAGES, "uniforms": RNG.random(IMAGES.shape)},
    "data.normal_mixtures": {**OF_LEVELS, "model": fit_gaussian(LEVELS, 0.1), "z": LEVELS + 0.5},
    "data.toy": {**SPREAD, "u": np.array([5.0, 6.0])},
    "elbo.elbo_decomposition": {"noise": draw_noise},
    "estimators.step_errors": {"noise": draw_noise},
    "estimators.three.t_sample_estimate": {"noise": draw_noise},
    "estimators.times": {"probabilities": np.array([0.0, *[1 / T] * T])},
    "estimators.variances": {"noise": draw_noise},
    "exact.budget": {"law": NoisyCurve(curve, 0.0, 1.5, 0.3), "n": 20},
    "exact.chains.LinearGaussianChain": STATISTICS,
    "exact.gaussian_data": STATISTICS,
    "exact.linear_samplers": {"sample": ancestral},
    "exact.mixtures.IsotropicMixture.flow": {"x_T": X[:, :1]},
    "exact.mixtures.IsotropicMixture.flow_inverse": {"x0": X[:, :1]},
    # Ten times the nodes, which are tried too, are a hundred times the work in two dimensions.
    "exact.curves.NoisyCurve": {"low": 0.0, "high": 1.5, "nodes": 2},
    "exact.mixtures.IsotropicMixture": {"nodes": 2},
    "guidance.respaced_predictor": {"times": np.array([1, 3, T])},
    "flow": {"signs": np.sign(X), "times": np.array([1, 3, T]), "prior": None, "divergence": None},
    "gaussians.kl_full": FULL,
    "gaussians.wasserstein2_full": FULL,
    "gaussians.kl_normal_1d": {name: np.full(3, value) for name, value in VARIANCES.items()},
    "gaussians.marginalise": {"a": 0.5, "s2": 1.0, "b": -0.5, "t2": 0.3},
    "hierarchy.draw_latents": {"noise": NOISE},
    "hierarchy.hierarchical_integrand": {"chain": [X, Y, Z, X, Y, Z, X]},
    "hierarchy.diffusion_decoder": {"mean": model_mean},
    "identities.forms": {"mean": model_mean},
    "identities.information": {"law": LINE_MIXTURE},
    "identities.forms.two_layer_residual": {"schedule": TWO, "sigma2": SIGMA2[:3], "path": NOISE[:3]},
    "identities.forms.vae_residual": {"schedule": ONE, "sigma2": SIGMA2[:2]},
    "identities.forms.mean_form_residual": {"mean": Y},
    "identities.forms.mean_from_noise_form_residual": {"mean": Y},
    "identities.forms.model_bayes_residual": {"path": np.stack([X, Y, Z, X, Y, Z, X])},
    "identities.terms": {**VARIANCES, "mean": model_mean, "noise": NOISE},
    "identities.terms.elbo_decomposition_scores": {
        "x0": X[0],
        "noise": RNG.standard_normal((T + 1, 40, 2)),
    },
    "identities.terms.path_scores": {"x0": X[0], "noise": RNG.standard_normal((T + 1, 40, 2))},
    "identities.terms.quadrature_residual": {"chain": SCALAR_CHAIN, "x0": 0.3},
    "identities.terms.marginalisation_quadrature_residual": {"x0": 0.3},
    "nn.attention.SelfAttention": {"channels": 4},
    "nn.conv_denoisers": {"width": 4, "channels": 1},
    "nn.denoisers": {
        **{"dimensions": 2, "labels": None, "weight": 1.0},
        "params": RECIPE.denoiser.init(np.random.default_rng(0)),
    },
    "nn.optimizers.Adam": {"rate": constant_rate(1e-3), "beta_1": 0.9},
    "nn.optimizers.AdamW": {"rate": constant_rate(1e-3), "beta_1": 0.9},
    "nn.optimizers.warmup": {"rate": constant_rate(1e-3)},
    "paths": {"mean": model_mean},
    "paths.draw_path": {"noise": draw_noise},
    "plotting.budgets": {"parts": {"a": SIGMA2}, "start": 0.1, "gap": (0.3, 0.1)},
    "plotting.images": {**STRIPS, "images": PICTURES},
    "plotting.points": {
        "path": Path("a.gif"),
        "trajectory": [X, Y, Z],
        "times": [6, 3, 0],
        "steps": [1, 2, 3],
    },
    "plotting.points.plot_trajectory": {"times": [0, 3, 6]},
    "plotting.points.plot_elbo": {"L_T": 0.2},
    "plotting.points.save": {"path": Path("a.png"), "figure": plot_schedule({"a": SCHEDULE})},
    "runs.batches": {"labels": np.array([1, 2, 1])},
    "runs.checkpoint": PATHS,
    "runs.checkpoint.load_checkpoint": {"path": Path("checkpoint.npz")},
    "runs.checkpoint.read_archive": {"path": Path("archive.npz")},
    "runs.evaluation": {"noise": draw_noise, "labels": None},
    "runs.export": {"checkpoint": Path("checkpoint.npz"), "out": Path("a.out"), "raw": False},
    "runs.export.export": {"kind": "json"},
    "runs.files": {"path": Path("a.json")},
    "runs.folder": {"path": Path("run")},
    "runs.log": {"path": Path("run")},
    "runs.log.read_metrics": {"path": Path("a.jsonl")},
    "runs.log.MetricsLog": {"path": Path("a.jsonl"), "expected": ()},
    "samplers": {"noise": draw_noise, "times": np.array([1, 3, T]), "eta": 0.5, "order": 2},
    "schedules.named.log_snr_schedule": {"noise": 0.1},
    "schedules.named.scaled_linear_schedule": {"T": 100, "beta_1": 1e-4, "beta_T": 0.02},
    "schedules.respacing": {"S": 3, "times": np.array([1, 3, T])},
    "schedules.respacing.merge_first_steps": {"noise": 0.5},
    "schedules.tables.schedule_from_beta": {"beta": SCHEDULE.beta[1:]},
    "targets": {"mean": Y},
    "testing.identities.check_identities": {**dict.fromkeys(("clip", "eta", "times", "schedule"))},
    "training": {"labels": None},
    "training.train_step": {"t": np.array([1, 3, T])},
}

# Of what a method is called, with values of its own.
INSTANCES: dict[str, tuple[Any, Any]] = {
    "exact.chains.LinearGaussianChain": (CHAIN, None),
    "exact.curves.NoisyCurve": (NoisyCurve(curve, 0.0, 1.5, 0.3), None),
    "exact.gaussian_data.GaussianData": (LAW, None),
    "exact.mixtures.IsotropicMixture": (MIXTURE, None),
    "exact.mixtures.IsotropicMixture.flow": (LINE_MIXTURE, None),
    "exact.mixtures.IsotropicMixture.flow_inverse": (LINE_MIXTURE, None),
    "nn.attention.SelfAttention": (SelfAttention(4, 2, 2), FEATURES),
    "nn.convolution.AveragePool": (AveragePool(), FEATURES),
    "nn.convolution.Conv2d": (Conv2d(4, 3), FEATURES),
    "nn.convolution.GroupNorm": (GroupNorm(4, 2), FEATURES),
    "nn.convolution.Upsample": (Upsample(), FEATURES),
    "nn.conv_denoisers.ConvDenoiser": (ConvDenoiser(1, T, 4, 1, 2, 4, classes=3), FEATURES[..., :1]),
    "nn.conv_denoisers.UNet": (UNet(1, T, 4, 1, 2, 4, classes=3), FEATURES[..., :1]),
    "nn.denoisers.MLPDenoiser": (RECIPE.denoiser, X),
    "nn.layers.Linear": (Linear(2, 3), X),
    "nn.layers.SiLU": (SiLU(), X),
    "runs.log.MetricsLog": (None, None),
}

# What comes back and can be called, and with what.
THEN: dict[str, tuple[Any, ...]] = {
    "decoders.discretised_gaussian": (np.array([[0.5, -1.0], [0.0, 1.0], [-0.5, 0.0]]), X, 0.1),
    "flow.exact_divergence": (X, 3),
    "flow.hutchinson": (X, 3),
    "guidance.guided": (X, 3),
    "guidance.respaced_predictor": (X, 3),
    "guidance.clipped": (X, 3),
    "hierarchy.diffusion_encoder": (X, 3),
    "hierarchy.diffusion_decoder": (X, 3),
    "nn.optimizers.constant_rate": (1,),
    "nn.optimizers.cosine_decay": (1,),
    "nn.optimizers.linear_decay": (1,),
    "nn.optimizers.warmup": (1,),
    "runs.batches.batches": (1,),
    "runs.evaluation.predictor": (X, 3),
}


def write_files() -> None:
    """Make what paths name, in the current folder."""
    np.savez("a.npz", images=IMAGES, labels=np.arange(90) % 3)
    Path("a.jsonl").write_text('{"step": 1, "loss": 0.5}\n')
    save_checkpoint(Path("checkpoint.npz"), RECIPE, STATE, CONFIGURATION, np.asarray)
    write_archive(Path("archive.npz"), {"a": X}, {"a": 1})


# --- finding the functions ----------------------------------------------------------------


@functools.cache
def entries() -> list[Entry]:
    """Every public function, constructor and method, in a fixed order."""
    return [*_found()]


def _found() -> Iterator[Entry]:
    for module in sorted(info.name for info in pkgutil.walk_packages(ddpm_np.__path__, "ddpm_np.")):
        place = module.removeprefix("ddpm_np.")
        parts = place.split(".")
        rooms = {".".join(parts[:k]) for k in range(1, len(parts) + 1)}
        if rooms & OUTSIDE.keys() or any(part.startswith("_") for part in parts):
            continue
        for name, value in sorted(vars(importlib.import_module(module)).items()):
            public = not name.startswith(("_", "check_")) or name in CHECKS
            here = getattr(value, "__module__", None) == module and not name.endswith("_unchecked")
            if public and here and f"{place}.{name}" not in OUTSIDE:
                yield from _entries_of(f"{place}.{name}", value)


def _entries_of(name: str, value: Any) -> Iterator[Entry]:
    if not inspect.isclass(value):
        if callable(value) and inspect.signature(value).parameters:
            yield _entry(name, value)
        return
    record = issubclass(value, (tuple, Exception, Warning)) or getattr(value, "_is_protocol", False)
    if record:
        return
    if inspect.signature(value).parameters:
        yield _entry(name, value)
    for method, function in sorted(vars(value).items()):
        if (
            inspect.isfunction(function)
            and not method.startswith("_")
            and f"{name}.{method}" not in OUTSIDE
        ):
            yield from _method(f"{name}.{method}", name, method, function)


def _method(name: str, owner: str, method: str, function: Any) -> Iterator[Entry]:
    if len(inspect.signature(function).parameters) < 2 or method == "backward":
        return  # without arguments; gradients come from the layer above
    if owner not in INSTANCES:
        yield Entry(name, function, {}, ["an instance"])
        return
    instance, x = INSTANCES.get(name, INSTANCES[owner])
    if instance is None:  # it has a file: made anew for each call
        yield _entry(name, _append)
    elif x is None:
        yield _entry(name, getattr(instance, method))
    else:
        yield Entry(name, getattr(instance, method), _layer_arguments(instance, method, x), [])


def _append(record: Any) -> Any:
    """Append to a new log."""
    return MetricsLog(Path("a.jsonl"), 0).append(record)


def _layer_arguments(instance: Any, method: str, x: Any) -> dict[str, Any]:
    if method == "init":
        return {"rng": np.random.default_rng(0)}
    params = instance.init(np.random.default_rng(0))
    inputs: dict[str, Any] = {"params": params, "x": x, "ops": OPS}
    if "x_t" in inspect.signature(instance.forward).parameters:
        inputs = {"params": params, "x_t": x, "t": 3, "ops": OPS}
        if getattr(instance, "classes", 0):
            inputs["labels"] = np.array([1, 2])
    return inputs


def _entry(name: str, call: Any) -> Entry:
    places = [name.rsplit(".", k)[0] for k in range(name.count("."), 0, -1)] + [name]
    values = dict(BY_NAME)
    for place in places:
        values |= BY_PLACE.get(place, {})
    wanted = [
        parameter.name
        for parameter in inspect.signature(call).parameters.values()
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    ]
    arguments = {parameter: values[parameter] for parameter in wanted if parameter in values}
    return Entry(name, call, arguments, [parameter for parameter in wanted if parameter not in values])
