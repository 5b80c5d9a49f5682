"""Every public function, with one bad argument at a time: an error of one sentence that names it."""

import inspect
import math
import re

import numpy as np
import pytest

import ddpm_np as ddpm
from ddpm_np import data, estimators, exact, hierarchy, identities, nn, paths, schedules
from ddpm_np.data import baselines, distances, normal_mixtures
from ddpm_np.nn import ops
from ddpm_np.posterior import posterior_mean_coefficients
from ddpm_np.randomness import generator
from tests.strategies import MILD

T, B = MILD.T, 2
X, IMAGES, PATH = np.ones((B, 3)), np.ones((B, 4, 4, 4)), np.ones((T + 1, B, 3))
LEVELS = np.array([[0, 1, 2], [3, 2, 1], [1, 1, 0], [2, 3, 3]])
ONE, TWO = schedules.linear_schedule(1, 0.5), schedules.linear_schedule(2, 0.3, 0.5)
RNG = np.random.default_rng(0)


def halved(x_t, t):
    return 0.5 * x_t


def moments(z, t):
    return z, 1.0


def line(u):
    return np.stack([u, u, u], axis=1)


CHAIN, CHAIN_1D = (exact.gaussian_data_chain(MILD, np.zeros(d), np.eye(d), MILD.beta) for d in (3, 1))
MIXTURE = exact.IsotropicMixture(np.array([0.5, 0.5]), np.eye(2, 3), 0.5)
NORMAL = exact.GaussianData(np.zeros(3), np.ones(3))
CURVE = exact.NoisyCurve(line, 0.0, 1.0, 0.5)
MLP, CONV = nn.MLPDenoiser(3, T, 8, 1, 4), nn.UNet(4, T, 4, 1, 2, 4, classes=2)
MLP_PARAMS, CONV_PARAMS = MLP.init(RNG), CONV.init(RNG)
ADAM = nn.Adam(nn.constant_rate(0.1))
FIT = normal_mixtures.fit_gaussian(LEVELS, 0.1)
HISTOGRAMS = baselines.fit_histograms(LEVELS, 4, 1, 1.0, RNG)
ERRORS = estimators.step_errors(MILD, halved, X, noise=lambda t: X)

COMMON = {
    "schedule": MILD,
    "t": 4,
    "sigma2": MILD.beta,
    "target": "eps",
    "predict": halved,
    "decoder": ddpm.gaussian_decoder,
    "encode": moments,
    "decode": moments,
    "path": PATH,
    "seed": 0,
    "chain": CHAIN,
    "dimensions": 3,
    "nodes": 4,
    "variance": 0.5,
    "ops": ops.GENERIC,
    "params": MLP_PARAMS,
    "rng": RNG,
    "images": LEVELS,
}
ARRAYS = """x x0 x_t x_T x_prev x_prev2 x_next z_1 z_2 z_prev truth prediction noise step_noise eps v
    mean mean_1 mean_2 sigma_1 sigma_2"""
COMMON |= dict.fromkeys(ARRAYS.split(), X)
# Not tried: what another function makes, and what may be anything.
UNTRIED = {"ops", "params", "rng", "errors", "state", "model", "asarray", "to_numpy", "labels"}
UNTRIED |= {"nll", "trajectory"}
# Converted to host float64, from sequences and any real dtype that fits.
TABLES = {"sigma2", "error", "slope", "slopes", "offsets", "second_moments", "probabilities", "beta"}
TABLES |= {"alpha_bar", "uniforms", "u", "covariance", "cov_1", "cov_2", "weights", "means"}
CONVERTED = {"list", "integers", "float16", "big-endian"}


def case(function, *, name=None, tables="", fine=(), **special):
    """A function and good arguments: those of `special`, and COMMON by their names.

    `tables` names further arguments that are converted, `fine` the faults that are none here.
    """
    names = inspect.signature(function).parameters
    good = {key: special.get(key, COMMON.get(key, p.default)) for key, p in names.items()}
    tried = {key: value for key, value in good.items() if key not in UNTRIED}
    allowed = {key: CONVERTED if key in TABLES or key in tables.split() else set() for key in tried}
    allowed = {key: found | set(fine) for key, found in allowed.items()}
    return pytest.param(function, good, allowed, id=name or function.__qualname__)


def cases(room, names, **options):
    return [case(getattr(room, name), **options) for name in names.split()]


MEAN = {"mean": halved}
LINE = {"mean_1": np.zeros(2), "mean_2": np.zeros(2), "cov_1": np.eye(2), "cov_2": np.eye(2)}
GAUSSIAN = {"mean": np.zeros(3), "covariance": np.eye(3)}
ROWS = {"x0": X[0], "noise": np.ones((T + 1, 4, 3)) * np.arange(4.0)[:, None]}
NUMBERS = {"a": 0.5, "s2": 1.0, "b": 0.5, "t2": 1.0}
NUMBERS |= {"mean_1": 0.5, "sigma_1": 1.0, "mean_2": 0.5, "sigma_2": 1.0}
SIZES = {"n": 3, "T": 4, "batch": 4, "size": 4, "steps": 3, "levels": 4, "components": 1, "draws": 2}
ANY_TIMES = {"empty", "too long"}  # without a batch
# A denoiser may be given complex numbers, for derivatives, and no images; a layer any floats as well.
DENOISER = {"complex", "empty", "0-d"}
LAYER = {*DENOISER, "longdouble", "float16"}
CASES = [
    *cases(ddpm, "ancestral_sample elbo_decomposition", noise=lambda t: X),
    *cases(
        ddpm,
        "ddim_invert ddim_sample dpm_solver_sample heun_sample",
        tables="times",
        fine={"None"},
        times=np.array([2.0, T]),
        noise=lambda t: X,
        x_0=X,
    ),
    *cases(
        ddpm,
        """bound_loss eps_from_mean eps_from_v eps_from_x0 gaussian_decoder kl_normal_1d middle_term
        model_mean normal_log_density posterior_mean_from_eps predicted_eps predicted_x0
        prior_log_density prior_term q_moments q_posterior q_sample q_step q_step_moments
        q_two_step_moments simple_loss training_target v_from_x0_and_eps x0_from_eps
        x0_from_mean x0_from_v""",
    ),
    *cases(
        ddpm,
        """bound_weight eps_loss_weight loss_constant mean_loss_weight v_loss_weight
        x0_loss_weight""",
        fine=ANY_TIMES,
    ),
    case(ddpm.min_snr_weight, fine=ANY_TIMES, k=5.0),
    case(ddpm.learned_variance),
    case(ddpm.respaced_schedule, tables="times", times=np.array([2.0, T])),
    case(ddpm.respaced_predictor, tables="times", fine={"None"}, times=np.array([2.0, T])),
    *cases(ddpm, "uniform_times quadratic_times trailing_times log_snr_times", T=4, S=3),
    case(ddpm.bits_per_dim, nll=1.0),
    case(ddpm.exact_divergence),
    case(ddpm.exact_divergence(MILD, halved), name="exact_divergence's"),
    case(
        ddpm.flow_log_likelihood,
        tables="times",
        fine={"None"},
        times=np.array([2.0, T]),
        prior=ddpm.prior_log_density,
        divergence=lambda x_t, t: x_t[:, 0],
    ),
    case(ddpm.hutchinson, signs=X),
    case(ddpm.hutchinson(MILD, halved, X), name="hutchinson's"),
    case(ddpm.kl_isotropic, var_1=1.0, var_2=1.0),
    *cases(ddpm, "kl_full wasserstein2_full", tables="mean_1 mean_2", **LINE),
    case(ddpm.marginalise, fine={"array"}, **NUMBERS),
    case(ddpm.discretised_gaussian, levels=4),
    case(ddpm.discretised_gaussian(3), name="discretised_gaussian's decoder"),
    case(ddpm.reverse_variance, kind="beta"),
    case(posterior_mean_coefficients, fine=ANY_TIMES),
    case(ddpm.schedule_from_beta, beta=MILD.beta[1:]),
    case(ddpm.schedule_from_alpha_bar, alpha_bar=MILD.alpha_bar),
    *cases(ddpm, "linear_schedule scaled_linear_schedule cosine_schedule quadratic_schedule", T=30),
    case(ddpm.sigmoid_schedule, T=30),
    case(schedules.log_snr_schedule, T=4, noise=0.1),
    case(schedules.merge_first_steps, noise=0.1),
    case(ddpm.zero_terminal_snr),
    case(generator, fine={"2^63"}, stream=0),
    # paths and hierarchies
    case(paths.draw_path, noise=lambda t: X),
    *cases(
        paths,
        """path_log_density reversed_path_log_density model_path_log_density elbo_integrand_expanded
        elbo_integrand_bayes elbo_integrand_reversed elbo_path_terms elbo_integrand_consistency""",
        **MEAN,
    ),
    case(hierarchy.vae_bound),
    case(hierarchy.two_layer_integrand),
    case(hierarchy.hierarchical_integrand, chain=[X, X]),
    case(hierarchy.draw_layer, fine={"too late"}),
    case(hierarchy.draw_latents, fine={"empty"}, noise=[X, X]),
    case(hierarchy.diffusion_encoder),
    case(hierarchy.diffusion_encoder(MILD), name="diffusion_encoder's layer", z=X),
    case(hierarchy.diffusion_decoder, **MEAN),
    case(hierarchy.diffusion_decoder(halved, MILD.beta), name="diffusion_decoder's layer", z=X),
    # estimators
    *cases(
        estimators,
        """consistency_triple_integrand one_sample_estimate two_sample_estimate
        two_sample_conditional_variance posterior_entropy entropy_constant variance_from_eps_error""",
        noise=X,
        error=MILD.beta,
    ),
    *cases(
        estimators,
        "t_sample_estimate analytic_dpm_variance optimal_variance step_errors",
        noise=lambda t: X,
    ),
    case(estimators.best_variance, errors=ERRORS),
    case(estimators.elbo_from_errors, errors=ERRORS),
    case(estimators.low_discrepancy_times, u=0.5, **SIZES),
    case(estimators.spread_uniforms, u=0.5, **SIZES),
    case(
        estimators.times_from_uniforms,
        fine={"empty"},
        uniforms=np.array([0.1, 0.9]),
        probabilities=np.array([0.0, 0.5, 0.5]),
    ),
    case(estimators.importance_weight, fine=ANY_TIMES, probabilities=np.full(T + 1, 1 / T)),
    case(estimators.importance_probabilities, second_moments=MILD.beta),
    # exact laws
    case(exact.gaussian_points, tables="mean", **GAUSSIAN),
    case(exact.GaussianData, tables="mean", **GAUSSIAN),
    case(exact.linear_sampler_law, law=NORMAL, sample=lambda x_T, noise: x_T),
    case(exact.gaussian_data_chain, tables="mean", **GAUSSIAN),
    case(exact.optimal_variance_gaussian, **GAUSSIAN),
    case(exact.linear_gaussian_moments, slope=MILD.beta),
    case(exact.error_budget, law=CURVE, n=5),
    case(exact.LinearGaussianChain, slopes=CHAIN.slopes, offsets=CHAIN.offsets),
    case(exact.IsotropicMixture, weights=MIXTURE.weights, means=MIXTURE.means, std=0.5),
    case(exact.NoisyCurve, curve=line, low=0.0, high=1.0, std=0.5),
    *cases(MIXTURE, "sample diffused log_density score posterior_x0 bayes_eps", n=3),
    *cases(CURVE, "sample diffused log_density score posterior_x0 bayes_eps", n=3),
    *cases(
        NORMAL,
        """sample diffused log_density score posterior_x0 bayes_eps flow flow_inverse kl
        wasserstein2""",
        n=3,
        other=NORMAL,
    ),
    *cases(exact.IsotropicMixture([1.0], np.eye(1, 3), 0.5), "flow flow_inverse"),
    case(CURVE.mixture),
    *cases(exact.mixture_1d_exact(), "entropy fisher_information"),
    *cases(
        CHAIN,
        """mean log_density elbo expected_step_log_density elbo_expanded posterior_log_density
        gap""",
        tables="path",
    ),
    *cases(
        CHAIN,
        "expected_elbo expected_log_density expected_gap",
        tables="mean",
        **GAUSSIAN,
    ),
    # identities
    *cases(
        identities,
        """bayes_form_residual consistency_residual expanded_residual hierarchy_residual
        reversal_residual telescoping_residual bayes_rule_residual""",
        **MEAN,
    ),
    case(identities.vae_residual, schedule=ONE, sigma2=np.full(2, 0.5), **MEAN),
    case(identities.two_layer_residual, schedule=TWO, sigma2=np.full(3, 0.5), path=PATH[:3], **MEAN),
    *cases(
        identities,
        """eps_form_residual mean_form_residual mean_from_noise_form_residual v_form_residual
        x0_form_residual decomposition_residual elbo_decomposition_residual jensen_gap_residual
        marginalisation_residual model_bayes_residual gauss_hermite""",
    ),
    case(identities.elbo_decomposition_scores, tables="x0", **ROWS),
    case(identities.path_scores, tables="x0", **ROWS),
    case(identities.entropy_from_mmse, law=exact.mixture_1d_exact()),
    case(identities.bits_per_dim_residual, log_density=X[:, 0]),
    case(identities.kl_quadrature_residual, **NUMBERS),
    case(identities.marginalisation_quadrature_residual, x0=0.5, **MEAN),
    case(identities.quadrature_residual, x0=0.5, chain=CHAIN_1D),
    # data
    *cases(data, "circles eight_gaussians mixture_1d pinwheel swiss_roll two_moons", n=3, noise=0.1),
    case(data.checkerboard, n=3),
    case(data.as_generator),
    case(data.swiss_roll_curve, u=np.array([1.0, 2.0])),
    case(distances.sliced_wasserstein, tables="x y", y=X + 1.0),
    case(distances.energy_distance, tables="x y", y=X + 1.0),
    case(distances.gaussian_mmd, tables="x y", fine={"None"}, y=X + 1.0, bandwidth=1.0),
    case(distances.knn_kl, tables="x y", x=np.eye(B, 3), y=X + 1.0, k=1),
    case(baselines.fit_histograms, smoothing=1.0, **SIZES),
    case(baselines.histogram_log_prob, model=HISTOGRAMS),
    case(normal_mixtures.fit_gaussian, ridge=0.1),
    case(normal_mixtures.dequantised_log_prob, model=FIT, **SIZES),
    case(normal_mixtures.rounded_log_prob, model=FIT, **SIZES),
    case(normal_mixtures.refit_rounded, model=FIT, ridge=0.1, **SIZES),
    # networks
    case(nn.Adam, rate=nn.constant_rate(0.1)),
    case(nn.AdamW, rate=nn.constant_rate(0.1)),
    case(nn.AdaptiveGroupNorm, channels=4, embedding_size=4, groups=2),
    case(nn.Conv2d, inputs=4, outputs=4),
    case(nn.ConvDenoiser, channels=4, T=4),
    case(nn.UNet, channels=4, T=4),
    case(nn.GroupNorm, channels=4, groups=2),
    case(nn.Linear, inputs=4, outputs=4),
    case(nn.MLPDenoiser, dimensions=4, T=4),
    case(nn.ResidualBlock, inputs=4, outputs=4, embedding_size=4, groups=2),
    case(nn.SelfAttention, channels=4, heads=2, groups=2),
    case(nn.TimeAndClass, T=4, size=4),
    case(nn.time_embedding, T=4, size=4),
    case(nn.constant_rate, rate=0.1),
    case(nn.linear_decay, rate=0.1, steps=3),
    case(nn.cosine_decay, rate=0.1, steps=3),
    case(nn.warmup, rate=nn.constant_rate(0.1), steps=3),
    case(nn.ema_update, fine=LAYER, average=X, params=X, decay=0.5),
    case(nn.global_norm, fine=LAYER, tree=X),
    case(nn.clip_by_global_norm, fine=LAYER, grads=X, max_norm=1.0),
    case(ADAM.init, fine=LAYER, params=X),
    case(ADAM.update, fine=LAYER, params=X, grads=X, state=ADAM.init(X)),
    case(nn.loss_and_gradient, fine=LAYER | {"array"}, denoiser=MLP, labels=None, weight=1.0),
    case(nn.mlp_loss_and_gradient, fine=LAYER | {"array"}, denoiser=MLP, labels=None, weight=1.0),
    case(MLP.forward, fine=DENOISER),
    case(CONV.forward, fine=DENOISER, x_t=IMAGES, params=CONV_PARAMS, labels=np.array([1, 2])),
    *(
        case(
            layer.forward,
            fine=LAYER,
            x=IMAGES,
            params=layer.init(RNG),
            name=f"{type(layer).__name__}.forward",
        )
        for layer in (
            nn.Conv2d(4, 4),
            nn.GroupNorm(4, 2),
            nn.AveragePool(),
            nn.Upsample(),
            nn.SelfAttention(4, 2, 2),
            nn.SiLU(),
            nn.Residual(nn.SiLU()),
        )
    ),
    case(nn.Linear(3, 3).forward, fine=LAYER, params=nn.Linear(3, 3).init(RNG)),
]


# --- bad arguments, by what a good one is

NUMBER = {
    "None": None,
    "text": "0.5",
    "bytes": b"0.5",
    "bytearray": bytearray(b"0.5"),
    "list": [1],
    "bool": True,
    "NumPy's bool": np.True_,
    "nan": math.nan,
    "complex": 1j,
    "NumPy's complex": np.complex128(1j),
    "10^400": 10**400,
    "-10^400": -(10**400),
    "10^5000": 10**5000,
    "array": np.ones(1),
    "0-d text": np.array("1"),
    "0-d bool": np.array(True),
    "masked": np.ma.masked,
    "date": np.datetime64("2020"),
    "duration": np.timedelta64(1),
    "object": object(),
}
INTEGER = {
    **NUMBER,
    "2^63": 2**63,
    "10^30": 10**30,
    "-1": -1,
    "half": 0.5,
    "float": 1.0,
    "inf": math.inf,
    "0-d float": np.array(1.0),
}
SEED = {
    key: value for key, value in INTEGER.items() if key not in ("2^63", "10^30", "10^400", "10^5000")
}
TIME = {**INTEGER, "0-d": np.array(10**9), "too late": T + 1}


def variants(good):
    """Arrays like a good one, each with one fault."""
    bad = {
        "longdouble": good.astype(np.longdouble),
        "complex": good.astype(complex),
        "objects": good.astype(object),
        "texts": good.astype(str),
        "bools": np.ones(good.shape, bool),
        "dates": np.full(good.shape, "2020-01-01", "datetime64[D]"),
        "durations": np.full(good.shape, 1, "timedelta64[s]"),
        "masked": np.ma.masked_array(good, mask=np.zeros(good.shape, bool)),
        "empty": good[:0],
        "0-d": np.array(1.0),
        "huge": np.full(good.shape, 10**400, object),
        "None": None,
        "text": "array",
        "dict": {},
        "bool": True,
        "10^400": 10**400,
        "callable": len,
        "object": object(),
    }
    if good.ndim == 2:
        bad["matrix"] = good.view(np.matrix)  # without its warning
    return bad


def bad_values(name, good):
    """Named bad values in place of a good one."""
    if name == "t":
        return {**TIME, **variants(np.array([4, 4])), "too long": np.array([4, 4, 4])}
    if name == "seed":
        return SEED
    if name == "images":
        return {
            **variants(good),
            "float": good.astype(float),
            "negative": good - 1,
            "list": good.tolist(),
            "number": 1.0,
        }
    if isinstance(good, np.ndarray):
        bad = variants(good) | {
            "number": 1.0,
            "float16": good.astype(np.float16),
            "big-endian": good.astype(">f8"),
            "integers": np.ones(good.shape, int),
        }
        bad["list"] = good.tolist()
        return bad
    if isinstance(good, bool):
        return {"None": None, "text": "yes", "one": 1}
    if isinstance(good, int):
        return INTEGER
    if isinstance(good, float):
        return NUMBER
    if isinstance(good, str):
        return {
            "None": None,
            "text": "nonsense",
            "number": 3,
            "long": "x" * 10_000,
            "10^5000": 10**5000,
            "array": X,
        }
    if isinstance(good, list):
        return {"None": None, "number": 1.0, "texts": ["a", "b"], "empty": [], "Nones": [None, None]}
    return {
        "None": None,
        "text": "text",
        "number": 1.0,
        "10^5000": 10**5000,
        "list": [1.0],
        "complex": 1j,
    }


def fault(function, arguments, name):
    """What is wrong with how a call refuses the argument of this name; None if nothing is."""
    try:
        function(**arguments)
    except (TypeError, ValueError) as error:
        text = str(error)
        if not re.search(rf"\b({name}|trees)\b", text):
            return f"does not name it: {text}"
        return "is long" if len(text) > 300 or "\n" in text else None
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "is accepted"


@pytest.mark.filterwarnings("ignore::ddpm_np.PriorWarning")
@pytest.mark.parametrize(("function", "good", "allowed"), CASES)
def test_a_bad_argument_is_named(function, good, allowed):
    function(**good)
    faults = {
        (name, label): found
        for name, fine in allowed.items()
        for label, bad in bad_values(name, good[name]).items()
        if label not in fine and (found := fault(function, {**good, name: bad}, name))
    }
    assert faults == {}


@pytest.mark.parametrize("room", [ddpm, data, estimators, exact, identities, nn])
def test_every_public_function_is_tried(room):
    """All but laws without arguments, and what NumPy, a Protocol or a NamedTuple makes."""
    tried = {case.values[0] for case in CASES}
    for name in room.__all__:
        value = getattr(room, name)
        if inspect.isfunction(value) and inspect.signature(value).parameters:
            assert value in tried, name
