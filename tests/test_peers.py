"""The same mathematics by PyTorch: autograd, its optimizers, and its arrays in our functions."""

import math

import numpy as np
import pytest

import ddpm_np as ddpm
from backends import BackendError, get_backend
from ddpm_np._arrays import to_host
from ddpm_np.nn import Adam, AdamW, MLPDenoiser, constant_rate, time_embedding
from ddpm_np.nn.ops import GENERIC, silu_backward
from ddpm_np.nn.tree import named_leaves
from ddpm_np.runs.batches import draw_batch
from ddpm_np.training import Recipe, TrainState, init_state, train_step
from tests.gradients import randomised

pytestmark = pytest.mark.peers
torch = pytest.importorskip("torch")

T, D, WIDTH, LAYERS, EMBEDDING = 20, 3, 16, 2, 8


class TorchDenoiser(torch.nn.Module):
    """MLPDenoiser written again, from its docstring, with nothing of ours but the parameters."""

    def __init__(self, params):
        super().__init__()
        joined = np.concatenate([params.weight, params.time_weight])
        hidden = zip(params.hidden_weight, params.hidden_bias, strict=True)
        pairs = [(joined, params.bias), *hidden, (params.out_weight, params.out_bias)]
        self.layers = torch.nn.ModuleList(self.linear(*pair) for pair in pairs)

    @staticmethod
    def linear(weight, bias):
        layer = torch.nn.Linear(*weight.shape, dtype=torch.float64)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(weight.T.copy()))
            layer.bias.copy_(torch.from_numpy(bias))
        return layer

    def forward(self, x, t):
        half = EMBEDDING // 2
        frequencies = torch.exp(-math.log(10000.0) * torch.arange(half, dtype=torch.float64) / half)
        angles = (1000.0 * t.to(torch.float64) / T)[:, None] * frequencies
        h = torch.cat([x, torch.sin(angles), torch.cos(angles)], dim=1)
        h = torch.nn.functional.silu(self.layers[0](h))
        for layer in self.layers[1:-1]:
            h = h + torch.nn.functional.silu(layer(h))
        return self.layers[-1](h)

    def leaves(self, of=lambda parameter: parameter.detach()):
        """Its parameters, or what belongs to them, in the order and the shapes of ours."""
        first, *hidden, last = ((of(a.weight).numpy().T, of(a.bias).numpy()) for a in self.layers)
        weights, biases = (np.stack(column) for column in zip(*hidden, strict=True))
        return [first[0][:D], first[0][D:], first[1], weights, biases, *last]

    def gradients(self):
        """In the same order."""
        return self.leaves(lambda parameter: parameter.grad)


def network_and_batch(rows=6):
    network = MLPDenoiser(D, T, WIDTH, LAYERS, EMBEDDING)
    params = network.init(np.random.default_rng(0))
    rng = np.random.default_rng(1)
    x, dy = rng.standard_normal((2, rows, D))
    return network, params, x, rng.integers(1, T + 1, rows), dy


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_gradients_against_autograd(backend):
    try:
        ops = get_backend(backend).ops
    except BackendError as error:
        pytest.skip(str(error))
    network, params, x, t, dy = network_and_batch()
    params = randomised(params)
    y, cache = network.forward(params, x, t, ops)
    dx, grads = network.backward(params, cache, dy, ops)

    peer = TorchDenoiser(params)
    x_peer = torch.tensor(x, requires_grad=True)
    y_peer = peer(x_peer, torch.from_numpy(t))
    (y_peer * torch.from_numpy(dy)).sum().backward()

    def assert_near(found, expected, name):
        # 1e-16 per rounding, some fifty products to a sum, five layers
        error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
        assert error < 1e-10, (name, error)

    assert_near(y, y_peer.detach().numpy(), "y")
    assert_near(dx, x_peer.grad.numpy(), "dx")
    for (name, leaf), expected in zip(named_leaves(grads), peer.gradients(), strict=True):
        assert_near(leaf, expected, name)


@pytest.mark.parametrize("adam", ["Adam", "AdamW"])
def test_loss_trajectory(adam):
    """20 steps of Algorithm 1 with one set of examples, noises and times."""
    ours, theirs = {
        "Adam": (Adam(constant_rate(1e-2)), lambda p: torch.optim.Adam(p, lr=1e-2)),
        "AdamW": (
            AdamW(constant_rate(1e-2), beta_2=0.99, weight_decay=0.1),
            lambda p: torch.optim.AdamW(p, lr=1e-2, betas=(0.9, 0.99), weight_decay=0.1),
        ),
    }[adam]
    schedule = ddpm.scaled_linear_schedule(100)
    schedule = ddpm.schedule_from_alpha_bar(schedule.alpha_bar[:: 100 // T])
    network, params, *_ = network_and_batch()
    recipe = Recipe(schedule, network, ours, ema_decay=0.9)
    flat = np.concatenate([leaf.ravel() for _, leaf in named_leaves(params)])
    state = TrainState(0, flat, flat, ours.init(flat), np.zeros(()))

    peer = TorchDenoiser(params)
    optimizer = theirs(peer.parameters())
    alpha_bar = torch.from_numpy(schedule.alpha_bar.copy())
    data = np.random.default_rng(2).standard_normal((100, D))
    total = 0.0
    for step in range(20):
        x0, t, noise = draw_batch(data, T, 32, 0, step)
        state = train_step(recipe, state, x0, t, noise, GENERIC)
        x0_peer, t_peer, noise_peer = (torch.from_numpy(a) for a in (x0, t, noise))
        signal = alpha_bar[t_peer][:, None]
        x_t = torch.sqrt(signal) * x0_peer + torch.sqrt(1.0 - signal) * noise_peer
        loss = torch.nn.functional.mse_loss(peer(x_t, t_peer), noise_peer)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
        assert float(state.loss_sum) == pytest.approx(total, rel=1e-6)
    last = np.concatenate([leaf.ravel() for leaf in peer.leaves()])
    # Adam divides by roots of tiny gradients, which amplifies roundings
    np.testing.assert_allclose(state.params, last, rtol=1e-6, atol=1e-8)


def test_silu():
    x = np.linspace(-40.0, 40.0, 801)
    y, slope = GENERIC.silu(x)
    dx = silu_backward(np.ones_like(x), slope)
    peer = torch.tensor(x, requires_grad=True)
    value = torch.nn.functional.silu(peer)
    value.sum().backward()
    np.testing.assert_allclose(y, value.detach().numpy(), rtol=1e-14)
    np.testing.assert_allclose(dx, peer.grad.numpy(), rtol=0.0, atol=1e-14)


def test_time_embedding():
    """At T = 1000 the table is the transformer's, as in Ho et al."""
    half = 16
    frequencies = torch.pow(10000.0, -torch.arange(half, dtype=torch.float64) / half)
    angles = torch.arange(1001, dtype=torch.float64)[:, None] * frequencies
    expected = torch.cat([angles.sin(), angles.cos()], dim=1).numpy()
    # angles up to 1000, good to 1e-13 and a few roundings of the frequency
    np.testing.assert_allclose(time_embedding(1000, 2 * half), expected, rtol=0.0, atol=1e-12)


def schedule_and_arrays():
    rng = np.random.default_rng(3)
    x0, a, b = rng.standard_normal((3, 4, 2, 3))
    return ddpm.scaled_linear_schedule(30), x0, a, b, np.array([1, 2, 17, 30])


FORMULAS = {
    "q_sample": lambda s, x, a, b, t, v: ddpm.q_sample(s, x, t, a),
    "q_step": lambda s, x, a, b, t, v: ddpm.q_step(s, x, t, a),
    "q_moments": lambda s, x, a, b, t, v: ddpm.q_moments(s, x, t),
    "q_posterior": lambda s, x, a, b, t, v: ddpm.q_posterior(s, x, a, t),
    "x0_from_eps": lambda s, x, a, b, t, v: ddpm.x0_from_eps(s, x, t, a),
    "eps_from_x0": lambda s, x, a, b, t, v: ddpm.eps_from_x0(s, x, t, a),
    "training_target": lambda s, x, a, b, t, v: ddpm.training_target(s, x, t, a, "mean"),
    **{
        f"model_mean_{target}": lambda s, x, a, b, t, v, target=target: ddpm.model_mean(
            s, x, t, a, target
        )
        for target in ("eps", "x0", "mean", "v")
    },
    "kl_isotropic": lambda s, x, a, b, t, v: ddpm.kl_isotropic(x, 0.5, a, 2.0),
    "prior_term": lambda s, x, a, b, t, v: ddpm.prior_term(s, x),
    "simple_loss": lambda s, x, a, b, t, v: ddpm.simple_loss(x, a),
    "bound_loss": lambda s, x, a, b, t, v: ddpm.bound_loss(s, t, x, a, v),
    "elbo": lambda s, x, a, b, t, v: ddpm.elbo_decomposition(
        s, lambda x_t, t: 0.5 * x_t, x, noise=lambda t: a, sigma2=v
    ),
    "ancestral_sample": lambda s, x, a, b, t, v: ddpm.ancestral_sample(
        s, lambda x_t, t: 0.5 * x_t, x, noise=lambda t: a, sigma2=v
    ),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_formulas_on_tensors(name, dtype):
    """Our functions on torch tensors: same dtype, same values as on NumPy arrays."""
    schedule, x0, a, b, t = schedule_and_arrays()
    sigma2 = ddpm.reverse_variance(schedule, "beta")

    def leaves(value):
        return list(value) if isinstance(value, tuple) else [value]

    arrays = [array.astype(dtype) for array in (x0, a, b)]
    expected = leaves(FORMULAS[name](schedule, *arrays, t, sigma2))
    tensors = [torch.from_numpy(array) for array in arrays]
    found = leaves(FORMULAS[name](schedule, *tensors, torch.from_numpy(t), sigma2))
    eps = float(np.finfo(dtype).eps)
    for one, other in zip(expected, found, strict=True):
        assert isinstance(other, torch.Tensor)
        assert other.dtype == getattr(torch, dtype)
        # roundings of sums of at most 30 steps, each of a handful of terms
        np.testing.assert_allclose(to_host(other), one, rtol=300 * eps, atol=300 * eps)


def test_losses_and_their_gradients():
    """L_simple and the bound's loss differentiated by autograd: what train_step hands to backward."""
    schedule, truth, prediction, _, t = schedule_and_arrays()
    sigma2 = ddpm.reverse_variance(schedule, "beta")
    weight = schedule.T * truth[0].size * ddpm.bound_weight(schedule, t, sigma2)
    for loss, w in (
        (ddpm.simple_loss, 1.0),
        (lambda a, b: ddpm.bound_loss(schedule, t, a, b, sigma2), weight[:, None, None]),
    ):
        peer = torch.tensor(prediction, requires_grad=True)
        value = loss(torch.from_numpy(truth), peer)
        value.backward()
        ours, gradient = GENERIC.squared_error(prediction, truth, w)
        assert ours == pytest.approx(value.item(), rel=1e-13)
        np.testing.assert_allclose(gradient, peer.grad.numpy(), rtol=1e-13)


def test_kl_against_torch_distributions():
    rng = np.random.default_rng(4)
    mean_1, mean_2 = (torch.from_numpy(a) for a in rng.standard_normal((2, 5, 3)))
    p = torch.distributions.Normal(mean_1, math.sqrt(0.3))
    q = torch.distributions.Normal(mean_2, math.sqrt(1.7))
    expected = torch.distributions.kl_divergence(p, q).sum(1)
    torch.testing.assert_close(
        ddpm.kl_isotropic(mean_1, 0.3, mean_2, 1.7), expected, rtol=1e-13, atol=0.0
    )
    density = p.log_prob(mean_2).sum(1)
    torch.testing.assert_close(
        ddpm.normal_log_density(mean_2, mean_1, 0.3), density, rtol=1e-13, atol=0.0
    )


def test_training_on_tensors():
    """The network, the optimizer and the step are array-generic too."""
    schedule = ddpm.linear_schedule(20, 0.01, 0.3)
    recipe = Recipe(schedule, MLPDenoiser(2, 20, 8, 1, 4), Adam(constant_rate(1e-2)))
    data = np.random.default_rng(0).standard_normal((50, 2))

    def tensor(values):
        return torch.tensor(np.array(values))

    ours, theirs = init_state(recipe, 0, np.asarray), init_state(recipe, 0, tensor)
    for step in range(5):
        x0, t, noise = draw_batch(data, 20, 16, 0, step)
        ours = train_step(recipe, ours, x0, t, noise, GENERIC)
        theirs = train_step(recipe, theirs, tensor(x0), t, tensor(noise), GENERIC)
    np.testing.assert_allclose(theirs.params.numpy(), ours.params, rtol=1e-10, atol=1e-12)
    assert float(theirs.loss_sum) == pytest.approx(float(ours.loss_sum), rel=1e-12)
