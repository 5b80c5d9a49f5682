"""What the runners of the PyTorch and the JAX port share: the protocol, and who answers which function.

docs/vectors.md describes both.
"""

import json
import sys
from functools import partial

import numpy as np

# Methods of a Step, whose inputs are beta, t and what the method takes, and their outputs.
STEP = {
    "q_step_moments": "mean variance",
    "q_step": "x_t",
    "q_moments": "mean variance",
    "q_sample": "x_t",
    "q_posterior": "mean variance",
    "posterior_mean_from_eps": "mean",
    "x0_from_eps": "x0",
    "eps_from_x0": "eps",
    "x0_from_mean": "x0",
    "eps_from_mean": "eps",
    "v_from_x0_and_eps": "v",
    "x0_from_v": "x0",
    "eps_from_v": "eps",
    "model_mean": "mean",
    "reverse_step": "x_prev",
    "clipped_x0": "x0",
    "loss_constant": "constant",
    "min_snr_weight": "weight",
    "prior_term": "L_T",
    "middle_term": "L",
    **{f"{target}_loss_weight": "weight" for target in ("mean", "eps", "x0", "v")},
}
# Methods of a Schedule, of beta.
SCHEDULE = {
    "q_two_step_moments": "mean variance",
    "reverse_variance": "sigma2",
    "learned_variance": "sigma2",
    "respaced_schedule": "beta alpha_bar one_minus_alpha_bar posterior_variance",
    "zero_terminal_snr": "beta alpha_bar one_minus_alpha_bar",
}
SAMPLERS = ("ancestral_sample", "ddim_sample", "dpm_solver_sample", "heun_sample", "ddim_invert")
MAKERS = {
    "schedule_from_beta": None,
    "schedule_from_alpha_bar": None,
    "cosine_schedule": None,
    "log_snr_schedule": None,
    **{f"{kind}_schedule": kind for kind in ("linear", "scaled_linear", "quadratic", "sigmoid")},
}
TABLES = ("beta", "alpha_bar", "log_alpha_bar", "one_minus_alpha_bar", "posterior_variance")
# Functions as they stand.
PLAIN = {
    "kl_normal_1d": "kl",
    "kl_full": "kl",
    "marginalise": "slope variance",
    "guided": "prediction",
    "discretised_gaussian": "log_prob",
}


def functions(ddpm, array, sin):
    """All functions of the vectors that have the same form in both ports, by name."""

    def step(name, outputs, beta, t=None, **rest):
        method, schedule = name, ddpm.schedule_from_beta(beta)
        t = len(beta) if t is None else t  # L_T is of the last step
        if name.endswith("_loss_weight"):
            method, rest["target"] = "loss_weight", name.removesuffix("_loss_weight")
        like = next((x for x in rest.values() if np.ndim(x) > 1), None)
        if "sigma2" in rest:
            rest["sigma2"] = ddpm.at(rest["sigma2"], t, like)
        return named(outputs, getattr(schedule.at(t, like), method)(**rest))

    def of_schedule(name, outputs, beta, **rest):
        found = getattr(ddpm.schedule_from_beta(beta), name)(**rest)
        if isinstance(found, ddpm.Schedule):
            return {table: getattr(found, table) for table in outputs.split()}
        return named(outputs, found)

    def made(name, kind, at, **rest):
        make = getattr(ddpm, name) if kind is None else partial(ddpm.beta_schedule, kind)
        schedule = make(**rest)
        return {table: getattr(schedule, table)[at] for table in TABLES}

    def network(slope, offset, curve=None):
        def predict(x_t, t):
            y = slope[t] * x_t + offset[t]
            return y if curve is None else y + curve[t] * sin(x_t)

        return predict

    def sampler(name, beta, slope, offset, curve, **rest):
        sample = getattr(ddpm.schedule_from_beta(beta), name)
        return {"trajectory": sample(network(slope, offset, curve), **rest)}

    def elbo(beta, slope, offset, decoder, **rest):
        score = ddpm.normal_log_density
        if decoder != "gaussian":
            score = partial(ddpm.discretised_gaussian, levels=decoder["levels"])
        terms = ddpm.schedule_from_beta(beta).elbo(network(slope, offset), decoder=score, **rest)
        return named("L_T L L_0 total", terms)

    def normal(x, mean, variance):
        return {"log_density": ddpm.normal_log_density(x, mean, variance[:, None])}

    def kl_isotropic(mean_1, var_1, mean_2, var_2):
        return {"kl": ddpm.kl_isotropic(mean_1, var_1[:, None], mean_2, var_2[:, None])}

    def gaussian_decoder(x0, mean, variance):
        return {"log_prob": ddpm.normal_log_density(x0, mean, array(variance))}

    def plain(name, outputs, **rest):
        if name == "kl_normal_1d":
            rest = {key: array(value) for key, value in rest.items()}
        return named(outputs, getattr(ddpm, name)(**rest))

    def times(kind, T, S):
        return {"times": ddpm.visits(kind, T, S)}

    return {
        **{name: partial(step, name, outputs) for name, outputs in STEP.items()},
        **{name: partial(of_schedule, name, outputs) for name, outputs in SCHEDULE.items()},
        **{name: partial(made, name, kind) for name, kind in MAKERS.items()},
        **{name: partial(plain, name, outputs) for name, outputs in PLAIN.items()},
        **{name: partial(sampler, name) for name in SAMPLERS},
        **{f"{kind}_times": partial(times, kind) for kind in ("uniform", "quadratic", "trailing")},
        "elbo_affine": elbo,
        "normal_log_density": normal,
        "kl_isotropic": kl_isotropic,
        "gaussian_decoder": gaussian_decoder,
    }


def named(outputs, values):
    """Give what a function returns its names; a variance is one number an example."""
    names = outputs.split()
    found = dict(zip(names, values if len(names) > 1 else [values], strict=True))
    if "mean" in found and "variance" in found:
        found["variance"] = found["variance"].reshape(-1)
    return found


def serve(name, make):
    """Answer cases until they end; make(dtype) returns the functions and what makes an array."""
    dtype = json.loads(sys.stdin.readline())["dtype"]
    known, array = make(dtype)
    say({"port": name, "dtype": dtype, "functions": list(known)})
    for line in sys.stdin:
        case = json.loads(line)
        inputs = {key: converted(key, value, array) for key, value in case["inputs"].items()}
        try:
            outputs = known[case["function"]](**inputs)
            say({"id": case["id"], "outputs": {key: lists(value) for key, value in outputs.items()}})
        except Exception as error:  # any: the runner of vectors goes on with the next case
            say({"id": case["id"], "error": f"{type(error).__name__}: {error}"})


def converted(key, value, array):
    """Turn lists into arrays; times are integers."""
    if isinstance(value, dict) and key == "weights":
        return {name: converted(name, part, array) for name, part in value.items()}
    if isinstance(value, list):
        return array(value, integers=key in ("t", "at", "times"))
    return value


def lists(values):
    """Turn an array into lists; JSON has no NaN and no infinity, text stands for them."""
    values = np.asarray(values, dtype=float)
    return np.where(np.isfinite(values), values.astype(object), values.astype(str)).tolist()


def say(answer):
    """Print a line at once."""
    print(json.dumps(answer, allow_nan=False), flush=True)
