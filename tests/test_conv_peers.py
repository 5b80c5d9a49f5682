"""The layers and denoisers of images by PyTorch: its own operations, autograd and Adam."""

import math

import numpy as np
import pytest

import ddpm_np as ddpm
from backends import BackendError, get_backend
from ddpm_np.nn import (
    Adam,
    AveragePool,
    Conv2d,
    ConvDenoiser,
    GroupNorm,
    ResidualBlock,
    SelfAttention,
    UNet,
    Upsample,
    constant_rate,
)
from ddpm_np.nn.ops import GENERIC
from ddpm_np.nn.tree import named_leaves, ravel, tree_leaves, tree_map
from ddpm_np.runs.batches import draw_batch
from ddpm_np.training import Recipe, TrainState, train_step
from tests.gradients import randomised

pytestmark = pytest.mark.peers
torch = pytest.importorskip("torch")
F = torch.nn.functional

T = 20
SIZES = {"embedding_size": 8, "groups": 2}
NETWORKS = {
    "conv": (ConvDenoiser(1, T, 8, blocks=2, **SIZES), (4, 8, 8, 1)),
    "conv_classes": (ConvDenoiser(3, T, 4, blocks=1, classes=3, **SIZES), (3, 5, 7, 3)),
    "unet": (UNet(1, T, 4, blocks=1, multipliers=(1, 2, 3), heads=2, **SIZES), (3, 8, 12, 1)),
    "unet_classes": (UNet(2, T, 4, blocks=2, heads=1, classes=4, **SIZES), (2, 6, 4, 2)),
}


@pytest.fixture(autouse=True)
def one_thread():
    """Tests run side by side, and the arrays are small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# --- the same networks, from the docstrings, channels first -------------------------------


def leaves_of(params):
    """The same tree of tensors that autograd follows."""
    return tree_map(lambda leaf: torch.tensor(leaf, requires_grad=True), params)


def conv(own, h, stride=1):
    kernel = own.weight.shape[0]
    return F.conv2d(
        h, own.weight.permute(3, 2, 0, 1).contiguous(), own.bias, stride, padding=kernel // 2
    )


def linear(own, h):
    return F.linear(h, own.weight.T, own.bias)


def norm(own, h, groups):
    return F.group_norm(h, groups, own.gain, own.shift, eps=1e-5)


def attention(own, h, heads, groups):
    batch, channels, height, width = h.shape
    rows = norm(own.norm, h, groups).flatten(2).transpose(1, 2)
    parts = linear(own.entry, rows).chunk(3, dim=-1)
    query, key, value = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in parts)
    seen = F.scaled_dot_product_attention(query, key, value)
    seen = linear(own.exit, seen.transpose(1, 2).flatten(2))
    return seen.transpose(1, 2).reshape(batch, channels, height, width)


def block(own, h, embedding, groups):
    first_norm, _, first_conv = own.first
    inner = conv(first_conv, F.silu(norm(first_norm, h, groups)))
    scale, shift = linear(own.modulation, embedding)[:, :, None, None].chunk(2, dim=1)
    inner = F.group_norm(inner, groups, eps=1e-5) * (1 + scale) + shift
    inner = conv(own.last[1], F.silu(inner))
    return inner + (conv(own.skip[0], h) if own.skip else h)


def embed(own, t, labels, size):
    half = size // 2
    frequencies = torch.exp(-math.log(10000.0) * torch.arange(half, dtype=torch.float64) / half)
    angles = (1000.0 * t.to(torch.float64) / T)[:, None] * frequencies
    h = torch.cat([torch.sin(angles), torch.cos(angles)], dim=1)
    h = linear(own.time[2], F.silu(linear(own.time[0], h)))
    return F.silu(h if labels is None else h + F.embedding(labels, own.classes))


def level(network, own, h, embedding, multipliers):
    """One level of a U-Net; a plain network is a chain of blocks."""
    own = list(own)
    for _ in range(network.blocks):
        h = block(own.pop(0), h, embedding, network.groups)
    if len(multipliers) > 1:
        _, *inner, (lift, _) = own.pop(0)
        low = level(network, inner, F.avg_pool2d(h, 2), embedding, multipliers[1:])
        h = h + F.interpolate(conv(lift, low), scale_factor=2, mode="nearest")
    elif network.heads:
        h = h + attention(own.pop(0), h, network.heads, network.groups)
    for own_block in own:
        h = block(own_block, h, embedding, network.groups)
    return h


def predict(network, own, x_t, t, labels):
    embedding = embed(own.embedding, t, labels, network.embedding_size)
    h = conv(own.entry, x_t.permute(0, 3, 1, 2))
    if isinstance(network, UNet):
        h = level(network, own.trunk, h, embedding, network.multipliers)
    else:
        for own_block in own.trunk:
            h = block(own_block, h, embedding, network.groups)
    h = conv(own.exit[2], F.silu(norm(own.exit[0], h, network.groups)))
    return h.permute(0, 2, 3, 1)


# --- comparisons --------------------------------------------------------------------------


def normal(shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape)


def first(h):
    return h.permute(0, 3, 1, 2)


LAYERS = {
    "conv": (Conv2d(3, 5), (2, 5, 7, 3), lambda own, x: conv(own, first(x))),
    "conv_stride_2": (Conv2d(3, 5, stride=2), (2, 5, 7, 3), lambda own, x: conv(own, first(x), 2)),
    "conv_stride_2_even": (Conv2d(2, 3, stride=2), (2, 6, 4, 2), lambda own, x: conv(own, first(x), 2)),
    "conv_1x1": (Conv2d(3, 5, kernel=1), (2, 4, 3, 3), lambda own, x: conv(own, first(x))),
    "conv_1x1_stride_2": (Conv2d(3, 5, 1, 2), (2, 5, 4, 3), lambda own, x: conv(own, first(x), 2)),
    "conv_one_channel": (Conv2d(1, 1), (1, 3, 3, 1), lambda own, x: conv(own, first(x))),
    "norm": (GroupNorm(6, 3), (2, 3, 5, 6), lambda own, x: norm(own, first(x), 3)),
    "norm_one_group": (GroupNorm(4, 1), (2, 3, 5, 4), lambda own, x: norm(own, first(x), 1)),
    "norm_each_channel": (GroupNorm(4, 4), (2, 3, 5, 4), lambda own, x: norm(own, first(x), 4)),
    "pool": (AveragePool(), (2, 4, 6, 3), lambda own, x: F.avg_pool2d(first(x), 2)),
    "upsample": (Upsample(), (2, 4, 6, 3), lambda own, x: F.interpolate(first(x), scale_factor=2)),
    "attention": (SelfAttention(4, 1, 1), (2, 3, 4, 4), lambda own, x: attention(own, first(x), 1, 1)),
    "attention_heads": (
        SelfAttention(6, 3, 2),
        (2, 4, 4, 6),
        lambda own, x: attention(own, first(x), 3, 2),
    ),
}


def assert_near(found, expected):
    """To 1e-9 of each leaf's norm: 1e-16 per rounding, some hundred products to a sum, ten layers.

    A bias that a norm of each channel takes away again has no gradient but rounding: where a
    leaf is a thousand times smaller than the largest, to 1e-12 of that.
    """
    expected = [leaf.detach().numpy() for leaf in tree_leaves(expected)]
    largest = max(np.linalg.norm(leaf) for leaf in expected)
    for (name, ours), theirs in zip(named_leaves(found), expected, strict=True):
        assert ours.shape == theirs.shape, name
        scale = max(np.linalg.norm(theirs), 1e-3 * largest)
        error = np.linalg.norm(ours - theirs) / scale
        assert error < 1e-9, (name, error)


@pytest.mark.parametrize("name", LAYERS)
def test_layers_against_autograd(name):
    layer, shape, peer = LAYERS[name]
    params, x = randomised(layer.init(np.random.default_rng(0))), normal(shape)
    y, cache = layer.forward(params, x, GENERIC)
    dy = normal(y.shape, 2)
    found = (y, *layer.backward(params, cache, dy, GENERIC))

    own, x_peer = leaves_of(params), torch.tensor(x, requires_grad=True)
    y_peer = peer(own, x_peer).permute(0, 2, 3, 1)
    y_peer.backward(torch.tensor(dy))
    assert_near(found, (y_peer, x_peer.grad, tree_map(lambda leaf: leaf.grad, own)))


@pytest.mark.parametrize(("inputs", "outputs", "groups"), [(4, 4, 4), (4, 6, 2), (6, 3, 1)])
def test_block_against_autograd(inputs, outputs, groups):
    layer = ResidualBlock(inputs, outputs, 5, groups)
    params, x = randomised(layer.init(np.random.default_rng(0))), normal((3, 4, 5, inputs))
    embedding = normal((3, 5), 3)
    (y, _), cache = layer.forward(params, (x, embedding), GENERIC)
    dy = normal(y.shape, 2)
    found = (y, *layer.backward(params, cache, (dy, 0.0), GENERIC))

    own = leaves_of(params)
    x_peer, e_peer = (torch.tensor(a, requires_grad=True) for a in (x, embedding))
    y_peer = block(own, first(x_peer), e_peer, groups).permute(0, 2, 3, 1)
    y_peer.backward(torch.tensor(dy))
    assert_near(found, (y_peer, x_peer.grad, e_peer.grad, tree_map(lambda leaf: leaf.grad, own)))


def labels_for(network, size):
    return np.arange(size) % (network.classes + 1) if network.classes else None


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("name", NETWORKS)
def test_denoisers_against_autograd(name, backend):
    try:
        ops = get_backend(backend).ops
    except BackendError as error:
        pytest.skip(str(error))
    network, shape = NETWORKS[name]
    params, x = randomised(network.init(np.random.default_rng(0))), normal(shape)
    t, labels = np.random.default_rng(3).integers(1, T + 1, shape[0]), labels_for(network, shape[0])
    y, cache = network.forward(params, x, t, ops, labels)
    dy = normal(shape, 2)
    found = (y, *network.backward(params, cache, dy, ops))

    own, x_peer = leaves_of(params), torch.tensor(x, requires_grad=True)
    labels_peer = None if labels is None else torch.from_numpy(labels)
    y_peer = predict(network, own, x_peer, torch.from_numpy(t), labels_peer)
    y_peer.backward(torch.tensor(dy))
    assert_near(found, (y_peer, x_peer.grad, tree_map(lambda leaf: leaf.grad, own)))


@pytest.mark.parametrize("name", NETWORKS)
def test_loss_trajectory(name):
    """20 steps of Algorithm 1 with one set of images, labels, noises and times, from our start."""
    schedule = ddpm.scaled_linear_schedule(100)
    schedule = ddpm.schedule_from_alpha_bar(schedule.alpha_bar[:: 100 // T])
    network, shape = NETWORKS[name]
    optimizer = Adam(constant_rate(1e-2))
    recipe = Recipe(schedule, network, optimizer)
    params = network.init(np.random.default_rng(0))
    flat = ravel(params)
    state = TrainState(0, flat, flat, optimizer.init(flat), np.zeros(()))

    own = leaves_of(params)
    theirs = torch.optim.Adam(tree_leaves(own), lr=1e-2)
    alpha_bar = torch.from_numpy(schedule.alpha_bar.copy())
    data, labels = normal((50, *shape[1:]), 4), labels_for(network, 8)
    labels_peer = None if labels is None else torch.from_numpy(labels)
    total = 0.0
    for step in range(20):
        x0, t, noise = draw_batch(data, T, 8, 0, step)
        state = train_step(recipe, state, x0, t, noise, GENERIC, labels)
        x0_peer, t_peer, noise_peer = (torch.from_numpy(a) for a in (x0, t, noise))
        signal = alpha_bar[t_peer][:, None, None, None]
        x_t = torch.sqrt(signal) * x0_peer + torch.sqrt(1.0 - signal) * noise_peer
        loss = F.mse_loss(predict(network, own, x_t, t_peer, labels_peer), noise_peer)
        theirs.zero_grad()
        loss.backward()
        theirs.step()
        total += loss.item()
        assert float(state.loss_sum) == pytest.approx(total, rel=1e-6)
    assert np.any(state.params != flat)
    last = np.concatenate([leaf.detach().numpy().ravel() for leaf in tree_leaves(own)])
    # Adam divides by roots of tiny gradients, which amplifies roundings
    np.testing.assert_allclose(state.params, last, rtol=1e-6, atol=1e-8)
