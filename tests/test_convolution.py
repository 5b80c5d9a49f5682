"""Layers and denoisers of images: values, gradients, purity, devices, errors."""

import functools
import math

import numpy as np
import pytest

import ddpm_np as ddpm
from ddpm_np.nn import (
    Adam,
    AdaptiveGroupNorm,
    AveragePool,
    Conv2d,
    ConvDenoiser,
    GroupNorm,
    GroupNormParams,
    LinearParams,
    OnFirst,
    Residual,
    ResidualBlock,
    ResidualOnFirst,
    SelfAttention,
    Serial,
    TimeAndClass,
    UNet,
    Upsample,
    constant_rate,
    time_embedding,
)
from ddpm_np.nn.ops import GENERIC
from ddpm_np.nn.tree import Layout, named_leaves, ravel, tree_leaves, tree_map
from ddpm_np.training import Recipe, init_state, train_step
from tests.gradients import check_gradients, randomised

LAYERS = {
    "conv": (Conv2d(2, 3), (2, 5, 7, 2)),
    "conv_stride_2_odd": (Conv2d(2, 3, stride=2), (2, 5, 7, 2)),
    "conv_stride_2_even": (Conv2d(2, 3, stride=2), (2, 4, 6, 2)),
    "conv_1x1": (Conv2d(3, 2, kernel=1), (2, 3, 4, 3)),
    "conv_1x1_stride_2": (Conv2d(3, 2, kernel=1, stride=2), (2, 5, 4, 3)),
    "conv_5x5_wider_than_the_image": (Conv2d(1, 2, kernel=5), (2, 2, 3, 1)),
    "conv_one_image_one_channel": (Conv2d(1, 1), (1, 4, 3, 1)),
    "conv_one_pixel": (Conv2d(2, 2), (1, 1, 1, 2)),
    "conv_one_pixel_stride_2": (Conv2d(2, 2, stride=2), (3, 1, 1, 2)),
    "pool": (AveragePool(), (2, 4, 6, 3)),
    "pool_to_one_pixel": (AveragePool(), (1, 2, 2, 1)),
    "upsample": (Upsample(), (2, 2, 3, 2)),
    "upsample_one_pixel": (Upsample(), (1, 1, 1, 1)),
    "norm_two_groups": (GroupNorm(4, 2), (3, 3, 2, 4)),
    "norm_one_group": (GroupNorm(3, 1), (2, 3, 5, 3)),
    "norm_each_channel": (GroupNorm(3, 3), (2, 3, 5, 3)),
    "norm_one_image_one_channel": (GroupNorm(1, 1), (1, 2, 3, 1)),
    "norm_of_rows": (GroupNorm(6, 2), (3, 6)),
    "attention": (SelfAttention(4, 1, 2), (2, 2, 3, 4)),
    "attention_heads": (SelfAttention(4, 2, 1), (2, 3, 2, 4)),
    "attention_one_pixel": (SelfAttention(2, 2, 1), (2, 1, 1, 2)),
    "attention_one_image_one_channel": (SelfAttention(1, 1, 1), (1, 3, 3, 1)),
    "attention_residual": (Residual(SelfAttention(2, 1, 1)), (2, 2, 2, 2)),
}
POOLED = (OnFirst(AveragePool()), ResidualBlock(2, 4, 3, 2), OnFirst(Conv2d(4, 2)))
TWO_BLOCKS = Serial((ResidualBlock(2, 1, 2, 1), ResidualBlock(1, 2, 2, 1)))
PAIRS = {
    "norm": (AdaptiveGroupNorm(4, 3, 2), (2, 3, 2, 4), 3),
    "on_first": (OnFirst(Conv2d(2, 3)), (2, 3, 2, 2), 2),
    "block": (ResidualBlock(4, 4, 3, 2), (2, 3, 5, 4), 3),
    "block_more_channels": (ResidualBlock(2, 4, 3, 2), (2, 3, 2, 2), 3),
    "block_fewer_channels": (ResidualBlock(4, 2, 1, 1), (1, 2, 2, 4), 1),
    "block_one_image_one_channel": (ResidualBlock(1, 1, 2, 1), (1, 3, 3, 1), 2),
    "serial": (TWO_BLOCKS, (2, 2, 3, 2), 2),
    "serial_with_others": (Serial((*POOLED, ResidualBlock(2, 2, 3, 2))), (2, 2, 4, 2), 3),
    "residual": (ResidualOnFirst(TWO_BLOCKS), (2, 2, 3, 2), 2),
    "residual_without_embedding": (ResidualOnFirst(OnFirst(Conv2d(2, 2))), (1, 2, 3, 2), 2),
}
"""Layers on pairs, the shape of h, and the size of the embedding."""
SMALL = {"embedding_size": 2, "groups": 1, "blocks": 1}
DENOISERS = {
    "conv": (ConvDenoiser(1, 20, 2, **SMALL), (3, 4, 4, 1), np.array([1, 7, 20]), None),
    "conv_int_t_odd": (
        ConvDenoiser(2, 9, 2, blocks=2, groups=2, embedding_size=2),
        (2, 3, 5, 2),
        4,
        None,
    ),
    "conv_classes": (
        ConvDenoiser(1, 9, 2, classes=3, **SMALL),
        (4, 2, 3, 1),
        np.array([9, 1, 5, 5]),
        np.array([3, 0, 1, 3]),
    ),
    "conv_classes_no_labels": (ConvDenoiser(1, 1, 2, classes=1, **SMALL), (2, 1, 1, 1), 1, None),
    "unet": (UNet(1, 20, 2, **SMALL), (2, 4, 2, 1), np.array([3, 20]), None),
    "unet_one_level": (UNet(3, 20, 2, multipliers=(1,), **SMALL), (1, 3, 3, 3), 5, None),
    "unet_three_levels_heads": (
        UNet(1, 20, 1, multipliers=(1, 1, 2), heads=2, classes=2, **SMALL),
        (2, 8, 4, 1),
        np.array([2, 19]),
        np.array([2, 1]),
    ),
}


def normal(shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape)


def randomly(layer):
    return randomised(layer.init(np.random.default_rng(0)))


class Joined:
    """A layer on pairs, whose results lie in one flat array: both of them count."""

    def __init__(self, layer):
        self.layer, self.init = layer, layer.init

    def forward(self, params, x, ops):
        y, cache = self.layer.forward(params, x, ops)
        return ravel(y), (cache, Layout.of(y))

    def backward(self, params, cache, dy, ops):
        cache, layout = cache
        return self.layer.backward(params, cache, layout.unravel(dy), ops)


class Bound:
    """A denoiser with t and labels bound, so that it is a layer."""

    def __init__(self, network, t, labels):
        self.network, self.t, self.labels = network, t, labels
        self.init, self.backward = network.init, network.backward

    def forward(self, params, x, ops):
        return self.network.forward(params, x, self.t, ops, self.labels)


def make_case(name):
    """A layer, random parameters, and an input."""
    kind, name = name.split(": ")
    if kind == "layer":
        layer, shape = LAYERS[name]
        x = normal(shape)
    elif kind == "pair":
        inner, shape, size = PAIRS[name]
        layer, x = Joined(inner), (normal(shape), normal((shape[0], size), 2))
    else:
        network, shape, t, labels = DENOISERS[name]
        layer, x = Bound(network, t, labels), normal(shape)
    return layer, randomly(layer), x


CASES = [
    f"{kind}: {name}"
    for kind, table in (("layer", LAYERS), ("pair", PAIRS), ("denoiser", DENOISERS))
    for name in table
]


@pytest.fixture(params=CASES)
def case(request):
    return make_case(request.param)


def test_gradients_by_complex_step(case):
    layer, params, x = case
    check_gradients(layer.forward, layer.backward, params, x)


def test_pure(case):
    """Nothing is written to, the same call gives the same bits, and the cache is explicit."""
    layer, params, x = case
    y, cache = layer.forward(params, x, GENERIC)
    dy = normal(y.shape, 2)
    dx, grads = layer.backward(params, cache, dy, GENERIC)
    for _, array in named_leaves((params, x, y, cache, dy)):
        if isinstance(array, np.ndarray):
            array.flags.writeable = False
    layer.forward(params, tree_map(lambda leaf: 2.0 * leaf, x), GENERIC)  # somebody else's, in between
    again = (layer.forward(params, x, GENERIC)[0], layer.backward(params, cache, dy, GENERIC))
    for (name, first), (_, second) in zip(
        named_leaves((y, (dx, grads))), named_leaves(again), strict=True
    ):
        np.testing.assert_array_equal(first, second, err_msg=name)


def test_device_dtype_and_value(case, lib, dtype):
    """Every library agrees with NumPy in float64, keeps the dtype and stays on its device.

    Up to fifty layers of sums of at most 36 products, each good to a few eps of its terms, and
    divisions by deviations of 0.1 and more: 2,000 eps, 2e-4 in float32, is ample (the worst seen
    is 100) and still far below an error of a wrong term.
    """
    layer, params, x = case
    y, cache = layer.forward(params, x, GENERIC)
    dy = normal(y.shape, 2)
    expected = (y, *layer.backward(params, cache, dy, GENERIC))

    def move(leaf):
        return lib.array(leaf, dtype)

    moved = tree_map(move, params)
    y_moved, cache_moved = layer.forward(moved, tree_map(move, x), GENERIC)
    found = (y_moved, *layer.backward(moved, cache_moved, move(dy), GENERIC))
    for (name, a), (_, b) in zip(named_leaves(expected), named_leaves(found), strict=True):
        assert b.dtype == getattr(lib.xp, dtype), name
        assert b.shape == a.shape, name
        scale = 1.0 + np.max(np.abs(a))
        np.testing.assert_allclose(
            lib.host(b), a, rtol=0.0, atol=2000 * np.finfo(dtype).eps * scale, err_msg=name
        )


# --- values -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in LAYERS if name.startswith("conv")])
def test_convolution_written_out(name):
    layer, shape = LAYERS[name]
    params, x = randomly(layer), normal(shape)
    y, _ = layer.forward(params, x, GENERIC)
    _, height, width, _ = shape
    r, stride = layer.kernel // 2, layer.stride
    assert y.shape == (shape[0], -(-height // stride), -(-width // stride), layer.outputs)
    for b, p, q, m in np.ndindex(y.shape):
        total = params.bias[m]
        for i, j, n in np.ndindex(layer.kernel, layer.kernel, layer.inputs):
            row, column = stride * p + i - r, stride * q + j - r
            if 0 <= row < height and 0 <= column < width:
                total += x[b, row, column, n] * params.weight[i, j, n, m]
        assert y[b, p, q, m] == pytest.approx(total, rel=1e-12, abs=1e-12)


def test_convolution_init():
    layer = Conv2d(40, 50, gain=2.0)
    params = layer.init(np.random.default_rng(0))
    assert params.weight.shape == (3, 3, 40, 50)
    assert params.weight.dtype == params.bias.dtype == np.float64
    # The standard deviation of 18,000 draws is known to 1 / sqrt(36,000) = 0.5 %.
    assert np.std(params.weight) == pytest.approx(2.0 / math.sqrt(360), rel=0.025)
    np.testing.assert_array_equal(params.bias, np.zeros(50))
    assert not np.any(Conv2d(2, 2, gain=0.0).init(np.random.default_rng(0)).weight)


def test_pool_and_upsample_written_out():
    x = normal((2, 4, 6, 3))
    pooled, _ = AveragePool().forward((), x, GENERIC)
    large, _ = Upsample().forward((), x, GENERIC)
    assert pooled.shape == (2, 2, 3, 3)
    assert large.shape == (2, 8, 12, 3)
    for p, q in np.ndindex(2, 3):
        mean = np.mean(x[:, 2 * p : 2 * p + 2, 2 * q : 2 * q + 2], axis=(1, 2))
        np.testing.assert_allclose(pooled[:, p, q], mean, rtol=1e-14, atol=1e-15)
    for p, q in np.ndindex(8, 12):
        np.testing.assert_array_equal(large[:, p, q], x[:, p // 2, q // 2])


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_group_norm_written_out(groups):
    params = GroupNormParams(normal(4), normal(4, 2))
    x = 3.0 + 2.0 * normal((3, 2, 5, 4), 3)
    y, _ = GroupNorm(4, groups).forward(params, x, GENERIC)
    size = 4 // groups
    for b, g in np.ndindex(3, groups):
        at = slice(g * size, (g + 1) * size)
        part = x[b, ..., at]
        expected = (part - part.mean()) / math.sqrt(part.var() + 1e-5)
        expected = expected * params.gain[at] + params.shift[at]
        np.testing.assert_allclose(y[b, ..., at], expected, rtol=1e-12, atol=1e-12)


def test_group_norm_starts_as_plain_normalisation():
    params = GroupNorm(6, 3).init(np.random.default_rng(0))
    np.testing.assert_array_equal(params.gain, np.ones(6))
    np.testing.assert_array_equal(params.shift, np.zeros(6))


@pytest.mark.parametrize("heads", [1, 2])
def test_attention_written_out(heads):
    layer = SelfAttention(4, heads, 2)
    params, x = randomly(layer), normal((2, 2, 3, 4))
    h, _ = GroupNorm(4, 2).forward(params.norm, x, GENERIC)
    rows = h.reshape(2, 6, 4) @ params.entry.weight + params.entry.bias
    query, key, value = rows[..., :4], rows[..., 4:8], rows[..., 8:]
    seen, size = np.empty((2, 6, 4)), 4 // heads
    for b, head, i in np.ndindex(2, heads, 6):
        at = slice(head * size, (head + 1) * size)
        scores = [query[b, i, at] @ key[b, j, at] / math.sqrt(size) for j in range(6)]
        weights = np.exp(scores) / np.sum(np.exp(scores))
        seen[b, i, at] = weights @ value[b, :, at]
    y, _ = layer.forward(params, x, GENERIC)
    expected = (seen @ params.exit.weight + params.exit.bias).reshape(x.shape)
    np.testing.assert_allclose(y, expected, rtol=1e-11, atol=1e-11)


def test_attention_with_scores_that_exp_cannot_hold():
    layer = SelfAttention(2, 1, 1)
    params = tree_map(lambda leaf: (100.0 * leaf).astype(np.float32), randomly(layer))
    x = normal((1, 3, 3, 2)).astype(np.float32)
    y, cache = layer.forward(params, x, GENERIC)
    dx, grads = layer.backward(params, cache, np.ones_like(y), GENERIC)
    assert all(np.all(np.isfinite(leaf)) for leaf in tree_leaves((y, dx, grads)))


def silu(z):
    return z / (1.0 + np.exp(-z))


def test_block_written_out():
    block = ResidualBlock(2, 4, 3, 2)
    params = randomly(block)
    x, embedding = normal((2, 3, 3, 2)), normal((2, 3), 2)

    def conv(own, h):
        kernel, _, inputs, outputs = own.weight.shape
        return Conv2d(inputs, outputs, kernel).forward(own, h, GENERIC)[0]

    def norm(own, h):
        return GroupNorm(h.shape[-1], 2).forward(own, h, GENERIC)[0]

    first_norm, _, first_conv = params.first
    h = conv(first_conv, silu(norm(first_norm, x)))
    scale, shift = np.split(embedding @ params.modulation.weight + params.modulation.bias, 2, axis=1)
    h = norm(GroupNormParams(np.ones(4), np.zeros(4)), h)
    h = (1.0 + scale[:, None, None]) * h + shift[:, None, None]
    h = conv(params.last[1], silu(h)) + conv(params.skip[0], x)
    (y, same), _ = block.forward(params, (x, embedding), GENERIC)
    np.testing.assert_allclose(y, h, rtol=1e-11, atol=1e-11)
    np.testing.assert_array_equal(same, embedding)


def test_blocks_and_attention_start_as_nothing():
    x, embedding = normal((2, 4, 4, 4)), normal((2, 3), 2)
    block, attention = ResidualBlock(4, 4, 3, 2), Residual(SelfAttention(4, 2, 2))
    rng = np.random.default_rng(0)
    (y, _), _ = block.forward(block.init(rng), (x, embedding), GENERIC)
    np.testing.assert_array_equal(y, x)
    y, _ = attention.forward(attention.init(rng), x, GENERIC)
    np.testing.assert_array_equal(y, x)


def test_time_and_class_written_out():
    layer = TimeAndClass(20, 4, classes=2)
    params = randomly(layer)
    t, labels = np.array([1, 20, 7, 7]), np.array([2, 0, 1, 1])
    one, _, two = params.time
    h = silu(time_embedding(20, 4)[t] @ one.weight + one.bias) @ two.weight + two.bias
    embedding, cache = layer.forward(params, t, labels, np.zeros(1), GENERIC)
    np.testing.assert_allclose(embedding, silu(h + params.classes[labels]), rtol=1e-12, atol=1e-13)
    grads = layer.backward(params, cache, np.ones((4, 4)), GENERIC)
    z = h + params.classes[labels]
    gate = 1.0 / (1.0 + np.exp(-z))
    slope = gate * (1.0 + z * (1.0 - gate))
    expected = [slope[1], slope[2] + slope[3], slope[0]]
    np.testing.assert_allclose(grads.classes, expected, rtol=1e-12)


def test_classes_start_as_normal_draws():
    table = TimeAndClass(5, 64, classes=99).init(np.random.default_rng(0)).classes
    assert table.shape == (100, 64)
    # The standard deviation of 6,400 draws is known to 0.9 %.
    assert np.std(table) == pytest.approx(1.0, rel=0.045)


# --- denoisers ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", DENOISERS)
def test_prediction_starts_at_zero_and_has_the_shape_of_x_t(name):
    network, shape, t, labels = DENOISERS[name]
    params = network.init(np.random.default_rng(0))
    y, _ = network.forward(params, normal(shape), t, GENERIC, labels)
    np.testing.assert_array_equal(y, np.zeros(shape))


@pytest.mark.parametrize("name", DENOISERS)
def test_images_do_not_see_each_other(name):
    network, shape, t, labels = DENOISERS[name]
    params, x = randomly(network), normal(shape)
    y, _ = network.forward(params, x, t, GENERIC, labels)
    for b in range(shape[0]):
        own_t = t if isinstance(t, int) else t[b : b + 1]
        own_labels = None if labels is None else labels[b : b + 1]
        own, _ = network.forward(params, x[b : b + 1], own_t, GENERIC, own_labels)
        np.testing.assert_allclose(own[0], y[b], rtol=1e-10, atol=1e-10)


NETWORK = UNet(1, 10, 4, blocks=1, groups=2, embedding_size=4, classes=3, heads=2)


def predict(t, labels=None, network=NETWORK):
    return network.forward(randomly(network), normal((3, 4, 4, 1)), t, GENERIC, labels)[0]


def test_int_t_is_the_same_for_every_image():
    one = predict(7)
    np.testing.assert_array_equal(predict(np.full(3, 7)), one)
    np.testing.assert_array_equal(predict(np.array(7)), one)
    other = predict(np.array([7, 8, 7]))
    np.testing.assert_array_equal(other[::2], one[::2])
    assert np.all(other[1] != one[1])


def test_no_labels_are_no_class_and_labels_matter():
    one = predict(7)
    np.testing.assert_array_equal(predict(7, np.zeros(3, dtype=np.uint8)), one)
    other = predict(7, np.array([0, 3, 0]))
    np.testing.assert_array_equal(other[::2], one[::2])
    assert np.all(other[1] != one[1])
    assert np.all(predict(7, np.array([0, 2, 0]))[1] != other[1])


def test_unet_of_one_level_is_a_plain_network_with_twice_the_blocks():
    sizes = {"groups": 2, "embedding_size": 4}
    plain = ConvDenoiser(1, 10, 4, blocks=4, **sizes)
    unet = UNet(1, 10, 4, blocks=2, multipliers=(1,), **sizes)
    params, x = randomly(plain), normal((2, 3, 5, 1))
    assert [n for n, _ in named_leaves(params)] == [
        n for n, _ in named_leaves(unet.init(np.random.default_rng(0)))
    ]
    np.testing.assert_array_equal(
        unet.forward(params, x, 3, GENERIC)[0], plain.forward(params, x, 3, GENERIC)[0]
    )


@functools.cache
def halves():
    """Eight 4 x 4 images: the upper or the lower half is lit, classes 1 and 2."""
    x0 = np.full((8, 4, 4, 1), -1.0)
    labels = np.arange(8) % 2 + 1
    x0[labels == 1, :2] = 1.0
    x0[labels == 2, 2:] = 1.0
    return x0, labels


@pytest.mark.parametrize("kind", [ConvDenoiser, UNet])
def test_training_uses_the_labels(kind):
    """At t = T nothing of x0 is left: predicting it takes the labels, and only they are enough."""
    schedule = ddpm.linear_schedule(10, 0.1, 0.99)
    network = kind(1, 10, 4, blocks=1, groups=2, embedding_size=8, classes=2)
    recipe = Recipe(schedule, network, Adam(constant_rate(1e-2)), target="x0")
    x0, labels = halves()
    losses = {}
    for name, given in (("labels", labels), ("none", None)):
        state, rng, total = init_state(recipe, 0, np.asarray), np.random.default_rng(0), 0.0
        for step in range(60):
            state = train_step(recipe, state, x0, 10, rng.standard_normal(x0.shape), GENERIC, given)
            if step == 49:
                total = float(state.loss_sum)
        losses[name] = (float(state.loss_sum) - total) / 10
    assert losses["labels"] < 0.3
    assert losses["none"] > 0.8


# --- errors -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "message", "make"),
    [
        (ValueError, "inputs must be >= 1, got 0", lambda: Conv2d(0, 3)),
        (TypeError, "outputs must be an integer", lambda: Conv2d(3, 2.0)),
        (ValueError, "kernel must be odd, so that it has a middle, got 2", lambda: Conv2d(3, 2, 2)),
        (ValueError, "kernel must be >= 1", lambda: Conv2d(3, 2, 0)),
        (ValueError, "stride must be between 1 and 2, got 3", lambda: Conv2d(3, 2, stride=3)),
        (TypeError, "stride", lambda: Conv2d(3, 2, stride=None)),
        (ValueError, "gain must lie in", lambda: Conv2d(3, 2, gain=-1.0)),
        (ValueError, "groups must divide channels, 4, got 3", lambda: GroupNorm(4, 3)),
        (ValueError, "groups must be >= 1, got 0", lambda: GroupNorm(4, 0)),
        (TypeError, "channels must be an integer", lambda: GroupNorm("4", 2)),
        (ValueError, "heads must divide channels, 4, got 3", lambda: SelfAttention(4, 3, 1)),
        (ValueError, "heads must be >= 1", lambda: SelfAttention(4, 0, 1)),
        (ValueError, "groups must divide channels, 4, got 3", lambda: SelfAttention(4, 1, 3)),
        (ValueError, "groups must divide inputs, 3, got 2", lambda: ResidualBlock(3, 4, 2, 2)),
        (ValueError, "groups must divide outputs, 3, got 2", lambda: ResidualBlock(4, 3, 2, 2)),
        (ValueError, "embedding_size must be >= 1", lambda: ResidualBlock(4, 4, 0, 2)),
        (ValueError, "embedding_size must be >= 1", lambda: AdaptiveGroupNorm(4, 0, 2)),
        (ValueError, "groups must divide channels, 3, got 2", lambda: AdaptiveGroupNorm(3, 4, 2)),
        (ValueError, "classes must be >= 0, got -1", lambda: TimeAndClass(5, 4, -1)),
        (ValueError, "size must be even", lambda: TimeAndClass(5, 3)),
        (ValueError, "T must be >= 1", lambda: TimeAndClass(0, 4)),
        (ValueError, "channels must be >= 1", lambda: ConvDenoiser(0, 10)),
        (TypeError, "T must be an integer", lambda: ConvDenoiser(1, 10.0)),
        (ValueError, "groups must divide width, 12, got 8", lambda: ConvDenoiser(1, 10, 12)),
        (ValueError, "width must be >= 1", lambda: ConvDenoiser(1, 10, 0)),
        (ValueError, "blocks must be >= 1, got 0", lambda: ConvDenoiser(1, 10, blocks=0)),
        (ValueError, "size must be even", lambda: ConvDenoiser(1, 10, embedding_size=7)),
        (TypeError, "classes must be an integer", lambda: ConvDenoiser(1, 10, classes=True)),
        (ValueError, "blocks must be >= 1", lambda: UNet(1, 10, blocks=0)),
        (TypeError, "multipliers must be a tuple", lambda: UNet(1, 10, multipliers=[1, 2])),
        (TypeError, "multipliers must be a tuple", lambda: UNet(1, 10, multipliers=())),
        (TypeError, "multipliers must be an integer", lambda: UNet(1, 10, multipliers=(1, 1.5))),
        (ValueError, "multipliers must be >= 1", lambda: UNet(1, 10, multipliers=(1, 0))),
        (
            ValueError,
            r"multipliers must start with 1, got \(2, 2\)",
            lambda: UNet(1, 10, multipliers=(2, 2)),
        ),
        (ValueError, "heads must be >= 0", lambda: UNet(1, 10, heads=-1)),
        (
            ValueError,
            "heads must divide the channels of the lowest level, 128, got 3",
            lambda: UNet(1, 10, heads=3),
        ),
    ],
)
def test_sizes_are_checked(error, message, make):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("shape", [(1, 3, 4, 1), (1, 4, 3, 1)])
def test_odd_images_are_not_pooled(shape):
    with pytest.raises(ValueError, match=f"even height and width, got {shape[1]} x {shape[2]}"):
        AveragePool().forward((), np.zeros(shape), GENERIC)


CHECKED = UNet(3, 10, 4, blocks=1, groups=2, embedding_size=4, multipliers=(1, 1, 1))
CLASSES = UNet(3, 10, 4, blocks=1, groups=2, embedding_size=4, classes=5)
GOOD = (2, 4, 8, 3)


@pytest.mark.parametrize(
    ("error", "message", "network", "shape", "t", "labels"),
    [
        (ValueError, r"shape \(B, H, W, 3\) .*, got \(4, 8, 3\)", CHECKED, (4, 8, 3), 1, None),
        (ValueError, r"shape \(B, H, W, 3\) .*, got \(2, 4, 8, 1\)", CHECKED, (2, 4, 8, 1), 1, None),
        (ValueError, r"no empty axis, got \(0, 4, 8, 3\)", CHECKED, (0, 4, 8, 3), 1, None),
        (ValueError, "divisible by 4, for 3 levels, got 6 x 8", CHECKED, (2, 6, 8, 3), 1, None),
        (ValueError, "divisible by 4, for 3 levels, got 4 x 10", CHECKED, (2, 4, 10, 3), 1, None),
        (ValueError, "t must be between 1 and 10", CHECKED, GOOD, 0, None),
        (ValueError, "t must be between 1 and 10", CHECKED, GOOD, np.array([1, 11]), None),
        (ValueError, "one time per example", CHECKED, GOOD, np.array([1, 2, 3]), None),
        (TypeError, "t must", CHECKED, GOOD, 1.0, None),
        (ValueError, "labels must be None where classes = 0", CHECKED, GOOD, 1, np.array([0, 0])),
        (ValueError, "between 0 .no class. and 5, got .* 1 to 6", CLASSES, GOOD, 1, np.array([6, 1])),
        (ValueError, "between 0 .no class. and 5, got .* -1 to 1", CLASSES, GOOD, 1, np.array([-1, 1])),
        (ValueError, r"shape \(2,\), got shape \(3,\)", CLASSES, GOOD, 1, np.array([1, 1, 1])),
        (ValueError, r"shape \(2,\), got shape \(2, 1\)", CLASSES, GOOD, 1, np.array([[1], [1]])),
        (TypeError, r"integer array of shape \(2,\), got int 3", CLASSES, GOOD, 1, 3),
        (TypeError, r"integer array of shape \(2,\), got list", CLASSES, GOOD, 1, [1, 2]),
        (TypeError, "integer array .*, got dtype float64", CLASSES, GOOD, 1, np.array([1.0, 2.0])),
        (TypeError, "integer array .*, got dtype bool", CLASSES, GOOD, 1, np.array([True, False])),
    ],
)
def test_denoisers_check_their_input(error, message, network, shape, t, labels):
    params = network.init(np.random.default_rng(0))
    with pytest.raises(error, match=message):
        network.forward(params, np.zeros(shape), t, GENERIC, labels)


def test_parameters_have_the_names_that_checkpoints_show():
    names = [name for name, _ in named_leaves(NETWORK.init(np.random.default_rng(0)))]
    assert names[:5] == [
        *("embedding/time/0/weight", "embedding/time/0/bias"),
        *("embedding/time/2/weight", "embedding/time/2/bias", "embedding/classes"),
    ]
    assert "trunk/1/1/modulation/weight" in names
    assert names[-1] == "exit/2/bias"
    assert isinstance(NETWORK.init(np.random.default_rng(0)).entry, LinearParams)
    assert isinstance(Serial(()).init(np.random.default_rng(0)), tuple)
