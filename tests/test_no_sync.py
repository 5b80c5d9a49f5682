"""Training, sampling and the bound never wait for the device, but where their documentation says so.

On PyTorch's "meta" device arrays have shapes and no values: whatever asks for one raises. The
definitions of the operations run there, in all loops around them. The CuPy backend's own
functions have a check of this kind in test_cupy_kernels.
"""

import numpy as np
import pytest

import ddpm_np as ddpm
from ddpm_np import decoders, elbo, exact, flow, samplers, training
from ddpm_np.exact import eight_gaussians_exact, swiss_roll_exact
from ddpm_np.guidance import clipped, guided
from ddpm_np.nn import Adam, ConvDenoiser, MLPDenoiser, UNet, constant_rate
from ddpm_np.nn.ops import GENERIC
from ddpm_np.runs.evaluation import predictor
from ddpm_np.targets import TARGETS
from ddpm_np.training import Recipe, init_state, train

pytestmark = pytest.mark.peers
torch = pytest.importorskip("torch")
torch_namespace = pytest.importorskip("array_api_compat.torch")

T, BATCH = 6, 5
SCHEDULE = ddpm.linear_schedule(T, 0.1, 0.2)
SIGMA2 = ddpm.reverse_variance(SCHEDULE, "beta")
TIMES = np.array([1, 3, 3, 5, 6])
OPTIMAL = exact.optimal_variance.__globals__
"""The module of that name, which the function hides."""


def asarray(values):
    return torch.asarray(np.asarray(values, dtype=np.float32), device="meta")


@pytest.fixture
def waits(monkeypatch):
    """The places that may wait, which now only note that they would have."""
    seen = []

    def place(module, name, result=None):
        def note(*_):
            seen.append(name)
            return result

        monkeypatch.setitem(module if isinstance(module, dict) else vars(module), name, note)

    place(samplers, "check_finite")
    place(samplers, "first_failure")
    place(flow, "first_failure")
    place(elbo, "check_finite")
    place(elbo, "warn_of_prior")
    place(decoders, "bool", False)
    place(training, "_checked_mean_loss", 0.0)
    place(OPTIMAL, "check_finite")
    place(OPTIMAL, "to_host", np.zeros(T))

    def clip(*_):
        raise AssertionError("CuPy's clip, by way of array_api_compat, waits for the device")

    monkeypatch.setattr(torch_namespace, "clip", clip)
    return seen


@pytest.mark.parametrize(
    "wait",
    [float, bool, int, np.asarray, torch.Tensor.item, lambda x: x[x > 0], torch.nonzero],
    ids=["float", "bool", "int", "numpy", "item", "mask", "nonzero"],
)
def test_the_meta_device_notices(wait):
    with pytest.raises((RuntimeError, NotImplementedError, TypeError)):
        wait(asarray(1.0))


NETWORKS = {
    "MLP": (MLPDenoiser(2, T, 8, 2, 8), (2,)),
    "ConvDenoiser": (ConvDenoiser(1, T, 8, 1, 4, 8, 2), (4, 4, 1)),
    "UNet": (UNet(1, T, 8, 1, 2, 8, 2, (1, 2), 2), (4, 4, 1)),
}


def recipe_of(name, **settings):
    return Recipe(SCHEDULE, NETWORKS[name][0], Adam(constant_rate(1e-3)), **settings)


SETTINGS = {
    "simple": {},
    "weighted": {"weight": np.linspace(1.0, 2.0, T + 1)},
    "limited": {"max_grad_norm": 1.0},
    **{target: {"target": target} for target in TARGETS if target != "eps"},
}


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("name", NETWORKS)
def test_training_waits_only_to_report_and_to_save(waits, name, settings):
    shape = (BATCH, *NETWORKS[name][1])
    recipe, labels, steps = recipe_of(name, **SETTINGS[settings]), [], []
    if name != "MLP":
        labels = [np.array([0, 1, 2, 2, 1])]

    def draw(step):
        steps.append((step, len(waits)))
        return asarray(np.zeros(shape)), TIMES, asarray(np.zeros(shape)), *labels

    state = train(
        recipe, init_state(recipe, 0, asarray), draw, GENERIC, steps=7, report_every=3, save_every=5
    )
    assert waits == ["_checked_mean_loss"] * 4
    assert steps == [(0, 0), (1, 0), (2, 0), (3, 1), (4, 1), (5, 2), (6, 3)]
    assert state.params.device.type == state.loss_sum.device.type == "meta"


def predictor_of(name):
    recipe = recipe_of(name)
    labels = None if name == "MLP" else np.array([0, 1, 2, 2, 1])
    return predictor(recipe, init_state(recipe, 0, asarray).params, GENERIC, labels)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", NETWORKS)
def test_sampling_waits_only_to_look_at_its_ends(waits, name, target):
    x_T = asarray(np.zeros((BATCH, *NETWORKS[name][1])))
    samplers.ancestral_sample(
        SCHEDULE, predictor_of(name), x_T, noise=lambda t: x_T, sigma2=SIGMA2, target=target
    )
    assert waits == ["check_finite", "first_failure"]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("by", ["vjp", "differences"])
def test_the_flows_likelihood_waits_only_to_look_at_its_ends(waits, by, target):
    x0, network = asarray(np.zeros((BATCH, 2))), predictor_of("MLP")
    predict = network if by == "vjp" else lambda x_t, t: network(x_t, t)
    ddpm.flow_log_likelihood(SCHEDULE, predict, x0, target=target)
    assert waits == ["check_finite", "first_failure"]


def test_guidance_and_clipping_do_not_wait(waits):
    network, x_T = predictor_of("UNet"), asarray(np.zeros((BATCH, 4, 4, 1)))
    predict = clipped(SCHEDULE, guided(network, network, 2.0), "eps")
    samplers.ancestral_sample(
        SCHEDULE, predict, x_T, noise=lambda t: x_T, sigma2=SIGMA2, target="x0", trajectory=True
    )
    assert waits == ["check_finite", "first_failure"]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("decoder", [ddpm.gaussian_decoder, ddpm.discretised_gaussian(17)])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_bound_waits_only_at_its_ends(waits, name, decoder, target):
    """To look at x0, for the prior warning, and, if x0 must be on a grid, once at t = 1."""
    x0 = asarray(np.zeros((BATCH, *NETWORKS[name][1])))
    terms = ddpm.elbo_decomposition(
        SCHEDULE,
        predictor_of(name),
        x0,
        noise=lambda t: x0,
        sigma2=SIGMA2,
        decoder=decoder,
        target=target,
    )
    grid = [] if decoder is ddpm.gaussian_decoder else ["bool"]
    assert waits == ["check_finite", *grid, "warn_of_prior"]
    assert terms.total.shape == (BATCH,)


@pytest.mark.parametrize("measure", [exact.optimal_variance, exact.analytic_dpm_variance])
def test_variances_are_copied_to_the_host_once(waits, measure):
    x0 = asarray(np.zeros((BATCH, 2)))
    measure(SCHEDULE, predictor_of("MLP"), x0, noise=lambda t: x0)
    assert waits == ["check_finite", "to_host"]


@pytest.mark.parametrize("t", [3, TIMES], ids=["one", "each"])
@pytest.mark.parametrize("law", [eight_gaussians_exact, swiss_roll_exact])
def test_exact_denoisers_do_not_wait(waits, law, t):
    assert law().bayes_eps(SCHEDULE, asarray(np.zeros((BATCH, 2))), t).shape == (BATCH, 2)
    assert waits == []
