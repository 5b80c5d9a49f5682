"""Every public function refuses bad arguments: what it was, what is allowed, by its name."""

import copy
import functools
import inspect
import math
import pickle
import re
import subprocess
import sys

import array_api_strict as strict
import numpy as np
import pytest

import ddpm_np as ddpm
from ddpm_np import data, exact
from ddpm_np._checks import check_integer
from ddpm_np.estimators.three import consistency_triple_integrand
from tests.strategies import MILD, TARGETS

T, B = MILD.T, 2
SIGMA2 = MILD.beta
X = np.ones((B, 3))
OTHER = strict.Device("device1")

# Functions of (schedule, t, arrays): how to call them, the least t, the names of the arrays.
TIMED = {
    "q_step": (lambda s, t, x, y: ddpm.q_step(s, x, t, y), 1, ("x_prev", "noise")),
    "q_step_moments": (lambda s, t, x: ddpm.q_step_moments(s, x, t), 1, ("x_prev",)),
    "q_two_step_moments": (lambda s, t, x: ddpm.q_two_step_moments(s, x, t), 2, ("x_prev2",)),
    "q_moments": (lambda s, t, x: ddpm.q_moments(s, x, t), 0, ("x0",)),
    "q_sample": (lambda s, t, x, y: ddpm.q_sample(s, x, t, y), 0, ("x0", "noise")),
    "q_posterior": (lambda s, t, x, y: ddpm.q_posterior(s, x, y, t), 1, ("x0", "x_t")),
    "posterior_mean_from_eps": (
        lambda s, t, x, y: ddpm.posterior_mean_from_eps(s, x, t, y),
        1,
        ("x_t", "eps"),
    ),
    "x0_from_eps": (lambda s, t, x, y: ddpm.x0_from_eps(s, x, t, y), 1, ("x_t", "eps")),
    "eps_from_x0": (lambda s, t, x, y: ddpm.eps_from_x0(s, x, t, y), 1, ("x_t", "x0")),
    "x0_from_mean": (lambda s, t, x, y: ddpm.x0_from_mean(s, x, t, y), 1, ("x_t", "mean")),
    "eps_from_mean": (lambda s, t, x, y: ddpm.eps_from_mean(s, x, t, y), 1, ("x_t", "mean")),
    "x0_from_v": (lambda s, t, x, y: ddpm.x0_from_v(s, x, t, y), 1, ("x_t", "v")),
    "eps_from_v": (lambda s, t, x, y: ddpm.eps_from_v(s, x, t, y), 1, ("x_t", "v")),
    "v_from_x0_and_eps": (lambda s, t, x, y: ddpm.v_from_x0_and_eps(s, t, x, y), 1, ("x0", "eps")),
    "bound_loss": (lambda s, t, x, y: ddpm.bound_loss(s, t, x, y, SIGMA2), 1, ("truth", "prediction")),
}


def by_target(target):
    return {
        f"model_mean-{target}": (
            lambda s, t, x, y: ddpm.model_mean(s, x, t, y, target),
            1,
            ("x_t", "prediction"),
        ),
        f"predicted_x0-{target}": (
            lambda s, t, x, y: ddpm.predicted_x0(s, x, t, y, target),
            1,
            ("x_t", "prediction"),
        ),
        f"predicted_eps-{target}": (
            lambda s, t, x, y: ddpm.predicted_eps(s, x, t, y, target),
            1,
            ("x_t", "prediction"),
        ),
        f"training_target-{target}": (
            lambda s, t, x, y: ddpm.training_target(s, x, t, y, target),
            1,
            ("x0", "noise"),
        ),
    }


for _target in TARGETS:
    TIMED |= by_target(_target)

# Host tables: functions of (schedule, t, sigma2).
WEIGHTS = {
    "mean_loss_weight": (ddpm.mean_loss_weight, 1),
    "eps_loss_weight": (ddpm.eps_loss_weight, 1),
    "x0_loss_weight": (ddpm.x0_loss_weight, 1),
    "v_loss_weight": (ddpm.v_loss_weight, 1),
    "bound_weight": (ddpm.bound_weight, 1),
    "loss_constant": (lambda s, t, sigma2: ddpm.loss_constant(s, t, sigma2, 3), 2),
}

# Functions of arrays alone. The names are patterns: inside the sampler, x_T is the first x_t.
UNTIMED = {
    "normal_log_density": (lambda x, y: ddpm.normal_log_density(x, y, 1.0), ("x", "mean")),
    "gaussian_decoder": (lambda x, y: ddpm.gaussian_decoder(x, y, 1.0), ("x0", "mean")),
    "kl_isotropic": (lambda x, y: ddpm.kl_isotropic(x, 1.0, y, 1.0), ("mean_1", "mean_2")),
    "kl_normal_1d": (ddpm.kl_normal_1d, ("mean_1", "sigma_1", "mean_2", "sigma_2")),
    "simple_loss": (ddpm.simple_loss, ("truth", "prediction")),
    "prior_log_density": (ddpm.prior_log_density, ("x_T",)),
    "prior_term": (functools.partial(ddpm.prior_term, MILD), ("x0",)),
    "middle_term": (
        lambda x, y, z: ddpm.middle_term(MILD, x, y, 4, z, SIGMA2),
        ("x0", "x_t", "mean"),
    ),
    "elbo_decomposition": (
        lambda x, y: ddpm.elbo_decomposition(
            MILD, lambda x_t, t: x_t, x, noise=lambda t: y, sigma2=SIGMA2
        ),
        ("x0", "noise"),
    ),
    "elbo_decomposition-prediction": (
        lambda x, y: ddpm.elbo_decomposition(
            MILD, lambda x_t, t: y, x, noise=lambda t: x, sigma2=SIGMA2
        ),
        ("x(0|_t)", "prediction"),
    ),
    "ancestral_sample": (
        lambda x, y: ddpm.ancestral_sample(
            MILD, lambda x_t, t: x_t, x, noise=lambda t: y, sigma2=SIGMA2
        ),
        ("x_T", "noise"),
    ),
    "ancestral_sample-prediction": (
        lambda x, y: ddpm.ancestral_sample(MILD, lambda x_t, t: y, x, noise=lambda t: x, sigma2=SIGMA2),
        ("x_[tT]", "prediction"),
    ),
}

ARRAYS = {name: (functools.partial(call, MILD, 4), names) for name, (call, _, names) in TIMED.items()}
ARRAYS |= UNTIMED
quiet = pytest.mark.filterwarnings("ignore::ddpm_np.PriorWarning")


def refuses(error, message):
    return pytest.raises(error, match=message)


# --- the calls below are wrong only in what they are meant to be


@quiet
@pytest.mark.parametrize("name", ARRAYS)
def test_good_arrays_pass(name):
    call, names = ARRAYS[name]
    call(*[X] * len(names))


@pytest.mark.parametrize("name", TIMED)
def test_good_times_pass(name):
    call, minimum, names = TIMED[name]
    for t in [minimum, T, np.int32(3), np.array(3), np.array([minimum, T]), np.array([2, T], np.uint8)]:
        call(MILD, t, *[X] * len(names))


# --- times


def bad_times(minimum):
    scalar = rf"t must be between {minimum} and {T}, got "
    vector = rf"t must be between {minimum} and {T}, got values from "
    kind = rf"t must be an integer between {minimum} and {T}, got "
    dtype = rf"t must hold integers between {minimum} and {T}, got dtype "
    return [
        (minimum - 1, ValueError, scalar + str(minimum - 1)),
        (T + 1, ValueError, scalar + str(T + 1)),
        (-3, ValueError, scalar + "-3"),
        (np.array(T + 1), ValueError, scalar + str(T + 1)),
        (2.0, TypeError, kind + "float 2.0"),
        (np.float64(2.0), TypeError, kind),
        (True, TypeError, kind + "bool True"),
        (np.True_, TypeError, kind),
        ("2", TypeError, kind + "str '2'"),
        (None, TypeError, kind + "NoneType None"),
        ([2, 3], TypeError, kind + r"list \[2, 3\]"),
        (np.array([2.0, 3.0]), TypeError, dtype + "float64"),
        (np.array([True, True]), TypeError, dtype + "bool"),
        (np.array([minimum - 1, 3]), ValueError, vector + f"{minimum - 1} to 3"),
        (np.array([2, T + 1]), ValueError, vector + f"2 to {T + 1}"),
        (np.array([[2, 3]]), ValueError, r"t must be an int or have shape .*, got \(1, 2\)"),
    ]


@pytest.mark.parametrize("name", TIMED)
def test_bad_times(name):
    call, minimum, names = TIMED[name]
    arrays = [X] * len(names)
    for t, error, message in bad_times(minimum):
        with refuses(error, message):
            call(MILD, t, *arrays)
    for size in (B, 1):  # to a batch of 1, a wrong length would broadcast
        message = rf"t must be an int or have shape \({size},\), one time per example, got \(3,\)"
        with refuses(ValueError, message):
            call(MILD, np.array([2, 3, 4]), *[X[:size]] * len(names))


@pytest.mark.parametrize("name", WEIGHTS)
def test_bad_times_of_weights(name):
    call, minimum = WEIGHTS[name]
    for t, error, message in bad_times(minimum):
        with refuses(error, message):
            call(MILD, t, SIGMA2)


@pytest.mark.parametrize("t", [-1, 0, 1, T + 1])
def test_middle_term_starts_at_two(t):
    with refuses(ValueError, rf"t must be between 2 and {T}, got {t}"):
        ddpm.middle_term(MILD, X, X, t, X, SIGMA2)


@pytest.mark.parametrize("t", [2.0, True, None, "2", np.array([2, 3])])
def test_middle_term_takes_one_time(t):
    with refuses(TypeError, rf"t must be an integer between 2 and {T}, got "):
        ddpm.middle_term(MILD, X, X, t, X, SIGMA2)


# --- arrays


@quiet
@pytest.mark.parametrize("name", ARRAYS)
def test_what_is_no_real_array(name):
    call, names = ARRAYS[name]
    bad = [
        ([[1.0] * 3] * 2, TypeError, r"must be an array, got list \[\[1.0"),
        (1.0, TypeError, "must be an array, got float 1.0"),
        (None, TypeError, "must be an array, got NoneType None"),
    ]
    for i, argument in enumerate(names):
        for value, error, message in bad:
            arrays = [X] * len(names)
            arrays[i] = value
            with refuses(error, f"^{argument} {message}"):
                call(*arrays)
    for dtype in ["int64", "complex128", "bool"]:
        with refuses(TypeError, f"^{names[0]} must have a real floating dtype, got {dtype}"):
            call(*[X.astype(dtype)] * len(names))
        for i, argument in enumerate(names[1:], start=1):
            arrays = [X] * len(names)
            arrays[i] = X.astype(dtype)
            with refuses(TypeError, f"^{argument} must have a real floating dtype, got {dtype}"):
                call(*arrays)


@quiet
@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0,), ()])
@pytest.mark.parametrize("name", ARRAYS)
def test_empty_arrays(name, shape):
    call, names = ARRAYS[name]
    message = rf"must have shape \(B, ...\) with at least one example .*, got {re.escape(str(shape))}"
    with refuses(ValueError, f"^{names[0]} {message}"):
        call(*[np.ones(shape)] * len(names))


@quiet
@pytest.mark.parametrize("name", [n for n, (_, names) in ARRAYS.items() if len(names) > 1])
def test_arrays_that_do_not_agree(name):
    call, names = ARRAYS[name]
    shape, device1 = r"\(2, 3\)", strict.asarray(X, device=OTHER)
    # What differs, beside X or its strict twin; and what is said of it and of the first.
    bad = [
        (X, X[:1], ValueError, rf"must have the shape of {{}}, {shape}, got \(1, 3\)"),
        (X, X[:, :2], ValueError, rf"must have the shape of {{}}, {shape}, got \(2, 2\)"),
        (X, X[0], ValueError, rf"must have the shape of {{}}, {shape}, got \(3,\)"),
        (X, X.astype(np.float32), TypeError, "must have the dtype of {}, float64, got float32"),
        (
            X,
            strict.asarray(X),
            TypeError,
            "must come from the same array library as {}, got array_api_strict array of shape "
            rf"{shape}, dtype array_api_strict.float64 beside numpy array",
        ),
        (device1, strict.asarray(X), ValueError, "must be on the device of {}, .*device1.*, got .*CPU"),
    ]
    for good, value, error, message in bad:
        for i, argument in enumerate(names[1:], start=1):
            arrays = [good] * len(names)
            arrays[i] = value
            with refuses(error, f"^{argument} {message.format(names[0])}"):
                call(*arrays)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_data_that_is_not_finite(value):
    bad = X.copy()
    bad[1, 2] = value
    options = {"noise": lambda t: X, "sigma2": SIGMA2}
    message = "must be finite, got 1 NaN or infinite of its 6 entries"
    with refuses(ValueError, f"^x0 {message}"):
        ddpm.elbo_decomposition(MILD, lambda x_t, t: x_t, bad, **options)
    with refuses(ValueError, f"^x_T {message}"):
        ddpm.ancestral_sample(MILD, lambda x_t, t: x_t, bad, **options)


@pytest.mark.parametrize(
    "noise",
    [
        np.ones((T, B, 3)),
        np.ones((T + 1, B, 4)),
        np.ones((T + 1, B)),
        X,
        [X] * (T + 1),
        None,
        3.0,
    ],
    ids=lambda n: type(n).__name__ + str(getattr(n, "shape", "")),
)
def test_noise_of_the_wrong_shape(noise):
    message = (
        r"^noise must be a function of t or an array of shape \(T \+ 1, \*x0.shape\) = "
        rf"\({T + 1}, 2, 3\), got \w+"
    )
    with refuses(ValueError, message):
        ddpm.elbo_decomposition(MILD, lambda x_t, t: x_t, X, noise=noise, sigma2=SIGMA2)


def test_noise_array_of_another_kind():
    good = np.ones((T + 1, *X.shape))
    run = functools.partial(ddpm.elbo_decomposition, MILD, lambda x_t, t: x_t, X, sigma2=SIGMA2)
    with refuses(TypeError, "noise must come from the same array library as x0"):
        run(noise=strict.asarray(good))
    with refuses(TypeError, "noise must have the dtype of x0, float64, got float32"):
        run(noise=good.astype(np.float32))


def test_what_cannot_be_called():
    options = {"noise": lambda t: X, "sigma2": SIGMA2}
    with refuses(TypeError, "^predict must be callable, got NoneType None"):
        ddpm.elbo_decomposition(MILD, None, X, **options)
    with refuses(TypeError, "^decoder must be callable, got str 'gaussian'"):
        ddpm.elbo_decomposition(MILD, lambda x_t, t: x_t, X, **options, decoder="gaussian")
    with refuses(TypeError, "^predict must be callable, got numpy array"):
        ddpm.ancestral_sample(MILD, X, X, **options)
    with refuses(TypeError, "^noise must be callable, got numpy array"):
        ddpm.ancestral_sample(MILD, lambda x_t, t: x_t, X, noise=X, sigma2=SIGMA2)


# --- schedules, tables, choices, numbers


def run_elbo(schedule=MILD, sigma2=SIGMA2, **options):
    return ddpm.elbo_decomposition(
        schedule, lambda x_t, t: x_t, X, noise=lambda t: X, sigma2=sigma2, **options
    )


def run_elbo_with(predict):
    return ddpm.elbo_decomposition(MILD, predict, X, noise=lambda t: X, sigma2=SIGMA2)


def run_sampler(schedule=MILD, sigma2=SIGMA2, **options):
    return ddpm.ancestral_sample(
        schedule, lambda x_t, t: x_t, X, noise=lambda t: X, sigma2=sigma2, **options
    )


WITH_SCHEDULE = {
    **{
        n: functools.partial(lambda c, k, s: c(s, 4, *[X] * k), c, len(k))
        for n, (c, _, k) in TIMED.items()
    },
    **{n: functools.partial(lambda c, s: c(s, 4, SIGMA2), c) for n, (c, _) in WEIGHTS.items()},
    "prior_term": lambda s: ddpm.prior_term(s, X),
    "middle_term": lambda s: ddpm.middle_term(s, X, X, 4, X, SIGMA2),
    "reverse_variance": lambda s: ddpm.reverse_variance(s, "beta"),
    "elbo_decomposition": run_elbo,
    "ancestral_sample": run_sampler,
}


@pytest.mark.parametrize("name", WITH_SCHEDULE)
def test_what_is_no_schedule(name):
    message = r"^schedule must be a ddpm_np.Schedule \(linear_schedule\(1000\), say\), got "
    for value, shown in [(None, "NoneType"), ("linear", "str 'linear'"), (SIGMA2, "numpy array of")]:
        with refuses(TypeError, message + shown):
            WITH_SCHEDULE[name](value)


WITH_SIGMA2 = {
    **{n: functools.partial(lambda c, s: c(MILD, 4, s), c) for n, (c, _) in WEIGHTS.items()},
    "bound_loss": lambda s: ddpm.bound_loss(MILD, 4, X, X, s),
    "middle_term": lambda s: ddpm.middle_term(MILD, X, X, 4, X, s),
    "elbo_decomposition": lambda s: run_elbo(sigma2=s),
    "ancestral_sample": lambda s: run_sampler(sigma2=s),
}


def with_entry(t, value):
    table = SIGMA2.copy()
    table[t] = value
    return table


@pytest.mark.parametrize("name", WITH_SIGMA2)
def test_bad_variances(name):
    call = WITH_SIGMA2[name]
    positive = "^sigma2 must be positive and finite for t = 1..T, got "
    sequence = "^sigma2 must be a non-empty sequence of real numbers, got "
    length = rf"^sigma2 must have length T \+ 1 = {T + 1}, entry 0 unused, got "
    bad = [
        (SIGMA2[1:], ValueError, length + f"{T}$"),
        (np.ones(1), ValueError, length + "1$"),
        (with_entry(7, -0.5), ValueError, positive + r"sigma2\[7\] = -0.5"),
        (with_entry(1, 0.0), ValueError, positive + r"sigma2\[1\] = 0"),
        (with_entry(T, math.nan), ValueError, positive + rf"sigma2\[{T}\] = nan"),
        (with_entry(3, math.inf), ValueError, positive + r"sigma2\[3\] = inf"),
        (0.1, TypeError, sequence + "float 0.1"),
        ("beta", TypeError, sequence + "str 'beta'"),
        (None, TypeError, sequence + "NoneType"),
        (SIGMA2[:, None], TypeError, sequence + r"numpy array of shape \(11, 1\)"),
        (strict.asarray(SIGMA2, device=OTHER), TypeError, sequence + "array_api_strict array"),
        (SIGMA2 + 0j, TypeError, "^sigma2 must be real, got dtype complex128"),
    ]
    for value, error, message in bad:
        with refuses(error, message):
            call(value)


@quiet
@pytest.mark.parametrize("name", WITH_SIGMA2)
def test_entry_zero_of_variances_is_unused(name):
    good, same = WITH_SIGMA2[name](SIGMA2), WITH_SIGMA2[name](with_entry(0, math.nan))
    for a, b in zip(good, same, strict=True) if isinstance(good, tuple) else [(good, same)]:
        np.testing.assert_array_equal(a, b)


WITH_TARGET = {
    "model_mean": lambda target: ddpm.model_mean(MILD, X, 4, X, target),
    "predicted_x0": lambda target: ddpm.predicted_x0(MILD, X, 4, X, target),
    "predicted_eps": lambda target: ddpm.predicted_eps(MILD, X, 4, X, target),
    "training_target": lambda target: ddpm.training_target(MILD, X, 4, X, target),
    "bound_loss": lambda target: ddpm.bound_loss(MILD, 4, X, X, SIGMA2, target),
    "bound_weight": lambda target: ddpm.bound_weight(MILD, 4, SIGMA2, target),
    "elbo_decomposition": lambda target: run_elbo(target=target),
    "ancestral_sample": lambda target: run_sampler(target=target),
}


@pytest.mark.parametrize("target", ["epsilon", "EPS", "", None, 3, ["eps"]])
@pytest.mark.parametrize("name", WITH_TARGET)
def test_unknown_targets(name, target):
    message = f"target must be one of 'eps', 'x0', 'mean', 'v', got {target!r}"
    with refuses(ValueError, f"^{re.escape(message)}$"):
        WITH_TARGET[name](target)


@pytest.mark.parametrize("kind", ["learned", "Beta", "", None, 1.0])
def test_unknown_variances(kind):
    message = f"kind must be one of 'posterior', 'beta', 'unit', got {kind!r}"
    with refuses(ValueError, f"^{re.escape(message)}$"):
        ddpm.reverse_variance(MILD, kind)


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda v: ddpm.normal_log_density(X, X, v), "variance"),
        (lambda v: ddpm.gaussian_decoder(X, X, v), "variance"),
        (lambda v: ddpm.kl_isotropic(X, v, X, 1.0), "var_1"),
        (lambda v: ddpm.kl_isotropic(X, 1.0, X, v), "var_2"),
    ],
)
def test_numbers_that_are_no_variance(call, argument):
    for value in (0.0, -1.0, math.nan, math.inf, 0):
        with refuses(ValueError, rf"^{argument} must lie in \(0, inf\), got {value:g}$"):
            call(value)
    with refuses(TypeError, rf"^{argument} must be a number in \(0, inf\), got bool True"):
        call(True)


@pytest.mark.parametrize(
    "call", [lambda d: ddpm.bits_per_dim(1.0, d), lambda d: ddpm.loss_constant(MILD, 4, SIGMA2, d)]
)
def test_numbers_of_dimensions(call):
    for value in (0, -2):
        with refuses(ValueError, f"^dimensions must be >= 1, got {value}$"):
            call(value)
    for value in (2.0, "2", True, None):
        with refuses(TypeError, "^dimensions must be an integer >= 1, got "):
            call(value)


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("mean_1", np.ones((2, 1)), "got mean_1 of shape (2, 1)"),
        ("mean_2", np.ones(3), "got mean_2 of shape (3,)"),
        ("cov_1", np.eye(3), "got cov_1 of shape (3, 3)"),
        ("cov_2", 1.0, "got cov_2 of shape ()"),
        ("cov_1", -np.eye(2), "cov_1 and cov_2 must be symmetric positive definite"),
        ("cov_2", np.ones((2, 2)), "cov_1 and cov_2 must be symmetric positive definite"),
    ],
)
def test_kl_full(argument, value, message):
    good = {"mean_1": np.zeros(2), "cov_1": np.eye(2), "mean_2": np.zeros(2), "cov_2": np.eye(2)}
    assert ddpm.kl_full(**good) == 0.0
    with refuses(ValueError, re.escape(message)):
        ddpm.kl_full(**{**good, argument: value})


# --- the package


def test_import_is_light():
    """The mathematics loads no backend, no plotting, and nothing that is slow."""
    code = (
        "import sys, ddpm_np\n"
        "heavy = {'numba', 'cupy', 'matplotlib', 'scipy.stats', 'backends', 'torch'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.strip() == "[]"


ALIASES = {"Array", "Noise", "Predictor", "Table"}  # of types: their text stands where they are defined


@pytest.mark.parametrize("name", sorted(set(ddpm.__all__) - ALIASES))
def test_public_names_are_documented(name):
    value = getattr(ddpm, name)
    documentation = inspect.getdoc(value)
    assert documentation
    assert documentation.splitlines()[0].strip().endswith((".", ":"))
    assert value.__module__.startswith("ddpm_np")


def test_public_names_are_all():
    assert len(set(ddpm.__all__)) == len(ddpm.__all__)
    public = {
        name
        for name, value in vars(ddpm).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert public == set(ddpm.__all__)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("linear_schedule", "T beta_1=0.0001 beta_T=0.02"),
        ("cosine_schedule", "T s=0.008 max_beta=0.999"),
        ("q_sample", "schedule x0 t noise"),
        ("q_posterior", "schedule x0 x_t t"),
        ("posterior_mean_from_eps", "schedule x_t t eps"),
        ("model_mean", "schedule x_t t prediction target='eps'"),
        ("reverse_variance", "schedule kind"),
        ("eps_loss_weight", "schedule t sigma2"),
        ("elbo_decomposition", "schedule predict x0 noise sigma2 decoder target='eps'"),
    ],
)
def test_signatures_that_others_rely_on(name, parameters):
    signature = inspect.signature(getattr(ddpm, name))
    shown = [
        p.name + ("" if p.default is p.empty or callable(p.default) else f"={p.default!r}")
        for p in signature.parameters.values()
    ]
    assert " ".join(shown) == parameters


def test_masked_arrays_are_refused():
    x = np.ma.masked_array(X, mask=X > 2.0)
    with pytest.raises(TypeError, match="x0 must not be masked"):
        ddpm.q_moments(MILD, x, 1)


@pytest.mark.parametrize("other", [np.ma.masked_array(X, mask=X > 2.0), X.view(np.matrix)])
def test_arrays_with_other_entries_or_products_are_refused_beside_others(other):
    """In the second place too, and where a shape is all that would be looked at."""
    with pytest.raises(TypeError, match="noise must not be"):
        ddpm.q_sample(MILD, X, 1, other)
    with pytest.raises(TypeError, match="variance must not be"):
        ddpm.normal_log_density(X, X, other)
    with pytest.raises(TypeError, match="prediction must not be"):
        run_elbo_with(lambda x_t, t: other)


def test_masks_of_times_and_tables_are_not_dropped():
    with pytest.raises(TypeError, match="t must not be masked"):
        ddpm.q_moments(MILD, X, np.ma.masked_array([2, 3], mask=[False, True]))
    with pytest.raises(TypeError, match="sigma2 must not be masked"):
        run_elbo(sigma2=np.ma.masked_array(SIGMA2, mask=SIGMA2 > 1.0))


@pytest.mark.parametrize("dtype", [">f8", ">f4", "longdouble"])
def test_other_dtypes_are_refused_when_all_agree(dtype):
    x = X.astype(dtype)
    with pytest.raises(TypeError, match=f"x0 must be float32 or float64, .*got {x.dtype}"):
        ddpm.q_sample(MILD, x, 1, x)


def test_arrays_on_disk_are_arrays(tmp_path):
    np.save(tmp_path / "x.npy", 0.5 * X)
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert type(x) is np.memmap
    np.testing.assert_array_equal(ddpm.q_sample(MILD, x, 4, X), ddpm.q_sample(MILD, 0.5 * X, 4, X))
    np.testing.assert_array_equal(ddpm.q_sample(MILD, X, 4, x), ddpm.q_sample(MILD, X, 4, 0.5 * X))


@pytest.mark.parametrize(
    ("number", "shown"),
    [(10**30, "about 10^30"), (10**5000, "about 10^5000"), (2**53 + 1, str(2**53 + 1))],
    ids=["30 digits", "5000 digits", "16 digits"],
)
def test_huge_integers_are_written_short(number, shown):
    with pytest.raises(ValueError, match=re.escape(f"T must be at most 2^53, got {shown}")):
        ddpm.linear_schedule(number)
    with pytest.raises(ValueError, match=re.escape(f"t must be between 1 and {T}, got {shown}")):
        ddpm.q_step(MILD, X, number, X)


def test_the_largest_size_and_seeds_without_a_limit():
    assert check_integer("n", 2**53, 1) == 2**53
    for seed in (2**53 + 1, 2**64, 10**30):
        assert data.swiss_roll(2, seed).shape == (2, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: ddpm.marginalise(1e200, 1.0, 1.0, 1.0),
            r"a must lie in \(-1e\+150, 1e\+150\), got 1e\+200",
        ),
        (lambda: data.pinwheel(3, 0, noise=1e200), r"noise must lie in \[0, 1e\+100\], got 1e\+200"),
        (lambda: exact.IsotropicMixture([1.0], [[0.0]], 1e200), r"std must lie in \(0, 1e\+150\)"),
        (lambda: exact.NoisyCurve(data.swiss_roll_curve, 0.0, 1.0, 5e-324), "std must be at least"),
        (lambda: exact.NoisyCurve(data.swiss_roll_curve, 0.0, 1.0, 0.1, 5e-324), "std must be at least"),
    ],
)
def test_numbers_whose_squares_or_quotients_no_float_holds(call, message):
    with refuses(ValueError, message):
        call()


def test_what_has_no_repr_is_described():
    class Broken:
        def __repr__(self):
            raise RuntimeError

    for value in (Broken(), [10**5000]):
        with pytest.raises(
            TypeError, match=rf"predict must be callable, got {type(value).__name__} \.\.\."
        ):
            run_elbo_with(value)


@pytest.mark.parametrize("dtype", ["float16"])
def test_less_than_float32_is_refused(dtype):
    with pytest.raises(
        TypeError, match="x0 must be float32 or float64, in native byte order, got float16"
    ):
        ddpm.q_moments(MILD, X.astype(dtype), 1)


def test_narrow_integers_do_not_wrap():
    """In uint8, t + 1 of 255 would be 0: the model's step from there would be another."""
    schedule = ddpm.linear_schedule(300)
    x, t = np.ones((2, 3)), np.array([1, 255])
    call = functools.partial(
        consistency_triple_integrand, schedule, lambda x_t, t: 0.0 * x_t, x, 2.0 * x, 3.0 * x
    )
    expected = call(t, sigma2=schedule.beta)
    np.testing.assert_array_equal(call(t.astype(np.uint8), sigma2=schedule.beta), expected)


def test_copies_of_a_schedule_are_read_only():
    for copied in (pickle.loads(pickle.dumps(MILD)), copy.deepcopy(MILD)):
        np.testing.assert_array_equal(copied.alpha_bar, MILD.alpha_bar)
        with pytest.raises(ValueError, match="read-only"):
            copied.beta[1] = 0.5
