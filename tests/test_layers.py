"""Layers, combinators and the denoiser: values, gradients, purity, devices, errors."""

import dataclasses
import math

import numpy as np
import pytest

from backends import get_backend
from ddpm_np import q_sample, scaled_linear_schedule
from ddpm_np.nn import (
    Adam,
    Linear,
    LinearParams,
    MLPDenoiser,
    Residual,
    Serial,
    SiLU,
    constant_rate,
    loss_and_gradient,
    mlp_loss_and_gradient,
    time_embedding,
)
from ddpm_np.nn.layers import embed
from ddpm_np.nn.ops import GENERIC, Ops, forward_only, residual_mlp_loss
from ddpm_np.nn.tree import Layout, named_leaves, ravel, tree_leaves, tree_map
from ddpm_np.runs.evaluation import predictor
from ddpm_np.training import Recipe, init_state, train_step
from tests.gradients import check_gradients, randomised

LAYERS = {
    "linear": (Linear(3, 5), 4),
    "linear_one_row": (Linear(5, 2), 1),
    "linear_scalar": (Linear(1, 1), 1),
    "linear_column": (Linear(7, 1), 2),
    "silu": (SiLU(), 4),
    "serial_empty": (Serial(()), 3),
    "serial": (Serial((Linear(3, 4), SiLU(), Linear(4, 2))), 3),
    "serial_nested": (Serial((Serial((Linear(2, 3), SiLU())), Serial((Linear(3, 2),)))), 5),
    "residual_linear": (Residual(Linear(3, 3)), 2),
    "residual_silu": (Residual(SiLU()), 2),
    "residual_nested": (
        Residual(Serial((Linear(3, 3), Residual(Serial((Linear(3, 3), SiLU())))))),
        3,
    ),
    "serial_of_residuals": (
        Serial((Linear(2, 3), Residual(Serial((SiLU(), Linear(3, 3)))), Residual(SiLU()))),
        1,
    ),
}
WIDTH = {"silu": 3, "serial_empty": 2, "residual_linear": 3, "residual_silu": 3, "residual_nested": 3}
DENOISERS = {
    "per_example_t": (MLPDenoiser(3, 20, 5, 2, 4), 4, np.array([1, 7, 20, 7])),
    "int_t": (MLPDenoiser(2, 20, 4, 1, 2), 3, 13),
    "one_row": (MLPDenoiser(2, 1, 3, 1, 6), 1, np.array([1])),
    "no_hidden_layers": (MLPDenoiser(1, 5, 3, 0, 2), 2, 5),
    "widths_of_one": (MLPDenoiser(1, 5, 1, 3, 2), 3, np.array([1, 5, 2])),
}


def normal(shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape)


def layer_case(name):
    """A layer, random parameters, and an input."""
    layer, rows = LAYERS[name]
    params = randomised(layer.init(np.random.default_rng(0)))
    leaves = dict(named_leaves(params))
    width = WIDTH.get(name) or next(iter(leaves.values())).shape[0]
    return layer, params, normal((rows, width))


def denoiser_case(name):
    """A denoiser with t bound, so that it is a layer; random parameters, and an input."""
    network, rows, t = DENOISERS[name]

    class Bound:
        init, backward = network.init, network.backward

        @staticmethod
        def forward(params, x, ops):
            return network.forward(params, x, t, ops)

    params = randomised(network.init(np.random.default_rng(0)))
    return Bound, params, normal((rows, network.dimensions))


CASES = [(layer_case, name) for name in LAYERS] + [(denoiser_case, name) for name in DENOISERS]


@pytest.fixture(params=CASES, ids=lambda case: case[1])
def case(request):
    make, name = request.param
    return make(name)


def test_gradients_by_complex_step(case):
    layer, params, x = case
    if all(leaf.size for leaf in tree_leaves(params)):
        check_gradients(layer.forward, layer.backward, params, x)
        return

    # Without hidden layers some leaves have no entries: check those that have.
    def whole(given):
        rest = iter(given)
        return tree_map(lambda leaf: next(rest) if leaf.size else leaf, params)

    def backward(given, cache, dy, ops):
        dx, grads = layer.backward(whole(given), cache, dy, ops)
        assert type(grads) is type(params)
        assert [leaf.shape for leaf in tree_leaves(grads)] == [
            leaf.shape for leaf in tree_leaves(params)
        ]
        return dx, [leaf for leaf in tree_leaves(grads) if leaf.size]

    given = [leaf for leaf in tree_leaves(params) if leaf.size]
    check_gradients(lambda given, x, ops: layer.forward(whole(given), x, ops), backward, given, x)


def test_pure(case):
    """Nothing is written to, the same call gives the same bits, and the cache is explicit."""
    layer, params, x = case
    y, cache = layer.forward(params, x, GENERIC)
    dy = normal(y.shape, 2)
    dx, grads = layer.backward(params, cache, dy, GENERIC)
    for _, array in named_leaves((params, x, y, cache, dy)):
        array.flags.writeable = False
    layer.forward(params, 2.0 * x, GENERIC)  # somebody else's forward in between
    again = (layer.forward(params, x, GENERIC), layer.backward(params, cache, dy, GENERIC))
    for (_, first), (name, second) in zip(
        named_leaves(((y, cache), (dx, grads))), named_leaves(again), strict=True
    ):
        np.testing.assert_array_equal(first, second, err_msg=name)


def test_device_dtype_and_value(case, lib, dtype):
    """Every library agrees with NumPy in float64, keeps the dtype and stays on its device.

    A handful of sums of at most 12 products of order 1 in sequence, each good to 12 eps of its
    terms: 500 eps is ample and still a thousand times below an error of a wrong term.
    """
    layer, params, x = case
    y, cache = layer.forward(params, x, GENERIC)
    dy = normal(y.shape, 2)
    dx, grads = layer.backward(params, cache, dy, GENERIC)

    def move(leaf):
        return lib.array(leaf, dtype)

    moved = tree_map(move, params)
    y_moved, cache_moved = layer.forward(moved, move(x), GENERIC)
    dx_moved, grads_moved = layer.backward(moved, cache_moved, move(dy), GENERIC)
    expected, found = (y, dx, grads), (y_moved, dx_moved, grads_moved)
    for (name, a), (_, b) in zip(named_leaves(expected), named_leaves(found), strict=True):
        assert b.dtype == getattr(lib.xp, dtype), name
        scale = 1.0 + np.max(np.abs(a), initial=0.0)
        np.testing.assert_allclose(
            lib.host(b), a, rtol=0.0, atol=500 * np.finfo(dtype).eps * scale, err_msg=name
        )


def test_linear_is_affine():
    params = LinearParams(normal((3, 2)), normal(2, 2))
    x = normal((4, 3), 3)
    y, _ = Linear(3, 2).forward(params, x, GENERIC)
    expected = [
        [sum(r[i] * params.weight[i, j] for i in range(3)) + params.bias[j] for j in (0, 1)] for r in x
    ]
    np.testing.assert_allclose(y, expected, rtol=1e-13)


def test_linear_init():
    params = Linear(400, 300, gain=2.0).init(np.random.default_rng(0))
    assert params.weight.dtype == params.bias.dtype == np.float64
    assert params.weight.shape == (400, 300)
    assert not np.any(params.bias)
    # The standard deviation of 120,000 draws is known to 1 / sqrt(240,000) = 0.2 %.
    assert np.std(params.weight) == pytest.approx(2.0 / math.sqrt(400), rel=0.01)
    np.testing.assert_array_equal(
        params.weight, Linear(400, 300, gain=2.0).init(np.random.default_rng(0)).weight
    )
    assert not np.any(Linear(3, 2, gain=0.0).init(np.random.default_rng(0)).weight)


def test_serial_and_residual_written_out():
    x = normal((4, 3))
    outer, inner = Linear(3, 3), SiLU()
    params = randomised(outer.init(np.random.default_rng(0)))
    affine = x @ params.weight + params.bias
    y, _ = Serial((Residual(outer), inner)).forward((params, ()), x, GENERIC)
    np.testing.assert_allclose(y, (x + affine) / (1.0 + np.exp(-x - affine)), rtol=1e-13)


@pytest.mark.parametrize("bad", [((),), ((), (), ())])
def test_serial_refuses_another_number_of_parameters(bad):
    with pytest.raises(ValueError, match="argument"):
        Serial((SiLU(), SiLU())).forward(bad, normal((2, 2)), GENERIC)


def test_denoiser_written_out():
    """The whole network in plain NumPy."""
    network, rows, t = DENOISERS["per_example_t"]
    params = randomised(network.init(np.random.default_rng(0)))
    x = normal((rows, 3))

    def silu(z):
        return z / (1.0 + np.exp(-z))

    joined = np.concatenate([x, time_embedding(20, 4)[t]], axis=1)
    h = silu(joined @ np.concatenate([params.weight, params.time_weight]) + params.bias)
    for layer in (0, 1):
        h = h + silu(h @ params.hidden_weight[layer] + params.hidden_bias[layer])
    y, _ = network.forward(params, x, t, GENERIC)
    np.testing.assert_allclose(y, h @ params.out_weight + params.out_bias, rtol=1e-12, atol=1e-12)


def test_int_t_is_the_same_for_every_example():
    """To rounding: a time for all is one row of embedding, and products of one row add up otherwise."""
    network = MLPDenoiser(2, 10, 4, 1, 4)
    params = randomised(network.init(np.random.default_rng(0)))
    x = normal((3, 2))
    results = [network.forward(params, x, t, GENERIC) for t in (7, np.full(3, 7), np.array([7, 8, 7]))]
    one, many, other = (y for y, _ in results)
    # sums of at most eight products of order 1, twice
    np.testing.assert_allclose(one, many, rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(other[::2], one[::2], rtol=1e-14, atol=1e-14)
    assert np.all(np.abs(other[1] - one[1]) > 1e-3)

    dy = normal((3, 2), 2)
    (dx, grads), (dx_many, grads_many) = (
        network.backward(params, cache, dy, GENERIC) for _, cache in results[:2]
    )
    np.testing.assert_allclose(dx, dx_many, rtol=1e-13, atol=1e-13)
    for (name, a), (_, b) in zip(named_leaves(grads), named_leaves(grads_many), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-13, err_msg=name)


@pytest.mark.parametrize("t", [3, np.array([3, 0, 10])], ids=["int", "each"])
def test_embedding_goes_where_x_is(lib, dtype, t):
    rows = embed(t, 10, 4, lib.array(np.ones((3, 2)), dtype))
    assert rows.dtype == getattr(lib.xp, dtype)
    expected = time_embedding(10, 4)[np.atleast_1d(t)].astype(dtype)
    np.testing.assert_array_equal(lib.host(rows), expected)
    rows[...] = 7.0  # it is the caller's own
    np.testing.assert_array_equal(lib.host(embed(t, 10, 4, rows)), expected)


@pytest.mark.parametrize(("T", "size"), [(1, 2), (10, 8), (1000, 64), (4000, 6)])
def test_time_embedding_written_out(T, size):
    half = size // 2
    table = time_embedding(T, size)
    assert table.shape == (T + 1, size)
    assert table.dtype == np.float64
    for t in {0, 1, T // 2, T}:
        angles = [1000.0 * t / T * 10000.0 ** (-i / half) for i in range(half)]
        # Angles up to 1000 are rounded by 1e-13, and their frequencies by a few eps more.
        expected = [*map(math.sin, angles), *map(math.cos, angles)]
        np.testing.assert_allclose(table[t], expected, rtol=0.0, atol=1e-12)


@pytest.mark.parametrize(("T", "size"), [(1, 2), (1000, 2), (1000, 64), (4000, 16)])
def test_time_embedding_tells_all_times_apart(T, size):
    """Even with one frequency: 355 / 113 is so close to pi that t + 710 comes within 6e-5."""
    assert len(np.unique(np.round(time_embedding(T, size), 6), axis=0)) == T + 1


def test_time_embedding_sees_t_over_T():
    """1000 t / T is exact for these: the rows agree to the last bit."""
    np.testing.assert_array_equal(time_embedding(1000, 8)[::10], time_embedding(100, 8))
    np.testing.assert_array_equal(time_embedding(1000, 8)[::4], time_embedding(250, 8))


def test_time_embedding_is_shared_and_read_only():
    with pytest.raises(ValueError, match="read-only"):
        time_embedding(10, 4)[0] = 1.0


@pytest.mark.parametrize(
    ("error", "message", "make"),
    [
        (ValueError, "size must be even", lambda: time_embedding(10, 5)),
        (ValueError, "size", lambda: time_embedding(10, 0)),
        (TypeError, "size", lambda: time_embedding(10, 4.0)),
        (ValueError, "T", lambda: time_embedding(0, 4)),
        (ValueError, "inputs", lambda: Linear(0, 3)),
        (TypeError, "outputs", lambda: Linear(3, 2.0)),
        (ValueError, "gain", lambda: Linear(3, 2, gain=-1.0)),
        (TypeError, "gain", lambda: Linear(3, 2, gain="big")),
        (TypeError, "dimensions", lambda: MLPDenoiser("2", 10)),
        (ValueError, "dimensions", lambda: MLPDenoiser(0, 10)),
        (TypeError, "T", lambda: MLPDenoiser(2, 10.0)),
        (ValueError, "T", lambda: MLPDenoiser(2, 0)),
        (TypeError, "hidden_size", lambda: MLPDenoiser(2, 10, hidden_size=8.5)),
        (ValueError, "hidden_layers", lambda: MLPDenoiser(2, 10, hidden_layers=-1)),
        (TypeError, "hidden_layers", lambda: MLPDenoiser(2, 10, hidden_layers=True)),
        (ValueError, "size must be even", lambda: MLPDenoiser(2, 10, embedding_size=7)),
    ],
)
def test_sizes_are_checked(error, message, make):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("error", "message", "shape", "t"),
    [
        (ValueError, r"x_t must have shape \(B, 2\)", (3,), 1),
        (ValueError, r"x_t must have shape \(B, 2\)", (3, 3), 1),
        (ValueError, r"x_t must have shape \(B, 2\)", (3, 2, 1), 1),
        (ValueError, "t must be between 1 and 10", (3, 2), 0),
        (ValueError, "t must be between 1 and 10", (3, 2), 11),
        (ValueError, "t must be between 1 and 10", (3, 2), np.array([1, 2, 11])),
        (ValueError, "one time per example", (3, 2), np.array([1, 2])),
        (TypeError, "t must", (3, 2), 1.0),
        (TypeError, "t must", (3, 2), np.array([1.0, 2.0, 3.0])),
    ],
)
def test_denoiser_checks_its_input(error, message, shape, t):
    network = MLPDenoiser(2, 10, 4, 1, 4)
    params = network.init(np.random.default_rng(0))
    with pytest.raises(error, match=message):
        network.forward(params, np.zeros(shape), t, GENERIC)


def test_denoiser_init():
    """x_t and its time start with weights as if each came alone."""
    denoiser = MLPDenoiser(2, 10, hidden_size=400, hidden_layers=3, embedding_size=16)
    params = denoiser.init(np.random.default_rng(0))
    shapes = [(2, 400), (16, 400), (400,), (3, 400, 400), (3, 400), (400, 2), (2,)]
    assert [leaf.shape for leaf in params] == shapes
    assert {leaf.dtype for leaf in params} == {np.dtype(np.float64)}
    for name, weight in params._asdict().items():
        if name.endswith("bias"):
            assert not np.any(weight), name
        else:
            # The standard deviation of n draws is known to 1 / sqrt(2 n).
            bound = 4.5 * (2 * weight.size) ** -0.5
            assert np.std(weight) == pytest.approx(weight.shape[-2] ** -0.5, rel=bound), name
    for weight, again in zip(params, denoiser.init(np.random.default_rng(0)), strict=True):
        np.testing.assert_array_equal(weight, again)


@pytest.mark.parametrize("name", ["numpy", "numba"])
@pytest.mark.parametrize("weights", ["one", "rows", "all"])
def test_the_loss_at_once_is_that_of_forward_and_backward(name, weights, dtype):
    """To rounding, but the same bits where it is done by its parts."""
    backend = (
        get_backend(name) if name == "numpy" else pytest.importorskip("numba") and get_backend(name)
    )
    network, rows = MLPDenoiser(2, 10, 20, 2, 4), 300
    params = tree_map(
        lambda leaf: leaf.astype(dtype), randomised(network.init(np.random.default_rng(0)))
    )
    x, truth = normal((rows, 2)).astype(dtype), normal((rows, 2), seed=1).astype(dtype)
    weight = 0.3 if weights == "one" else np.linspace(0.0, 1.0, rows, dtype=dtype)[:, None]
    if weights == "all":
        weight = np.linspace(0.0, 1.0, 2 * rows, dtype=dtype).reshape(2, rows).T
    for t in (7, np.arange(rows) % 10 + 1):
        arguments = (network, params, x, t, None, truth, weight, backend.ops)
        expected = loss_and_gradient(*arguments)
        for found, value in zip(mlp_loss_and_gradient(*arguments), expected, strict=True):
            assert found.dtype == value.dtype == dtype
            if name == "numpy":
                np.testing.assert_array_equal(found, value)
            else:  # sums of 300 rows
                bound = 300 * np.finfo(dtype).eps * np.max(np.abs(value))
                np.testing.assert_allclose(found, value, rtol=0.0, atol=bound)


@pytest.mark.parametrize("how", [loss_and_gradient, mlp_loss_and_gradient])
@pytest.mark.parametrize("ops", [GENERIC, Ops(residual_mlp_loss=residual_mlp_loss)])
def test_a_network_without_classes_refuses_labels(how, ops):
    network = MLPDenoiser(2, 50, 20, 2, 4)
    adam = Adam(constant_rate(1e-3))
    recipe = Recipe(scaled_linear_schedule(50), network, adam, loss_and_gradient=how)
    state, x, labels = init_state(recipe, 0, np.asarray), normal((3, 2)), np.array([1, 2, 3])
    with pytest.raises(TypeError, match=r"^labels must be None: MLPDenoiser has no classes$"):
        train_step(recipe, state, x, 7, x, ops, labels)
    with pytest.raises(TypeError, match=r"^labels must be None: MLPDenoiser has no classes$"):
        predictor(recipe, state.params, ops, labels)(x, 7)


def test_a_parameter_may_be_one_number():
    """Gradients of such are NumPy's scalars, which are no arrays."""
    tree = (np.ones(3), np.float64(2.0), np.zeros((2, 1)), np.array(5.0))
    np.testing.assert_array_equal(ravel(tree), [1, 1, 1, 2, 0, 0, 5])
    first, *rest = Layout.of(tuple(map(np.asarray, tree))).unravel(ravel(tree))
    assert [first.shape, *(leaf.shape for leaf in rest)] == [(3,), (), (2, 1), ()]


class Doubled(MLPDenoiser):
    """A network that changes what its parent predicts."""

    def forward(self, params, x_t, t, ops, labels=None):
        y, cache = super().forward(params, x_t, t, ops, labels)
        return 2.0 * y, cache

    def backward(self, params, cache, dy, ops):
        return super().backward(params, cache, 2.0 * dy, ops)


class Wrapped:
    """A network around another, which hands on all else."""

    def __init__(self):
        self.inner = MLPDenoiser(2, 50, 20, 2, 4)
        self.forward, self.backward = Doubled(2, 50, 20, 2, 4).forward, Doubled(2, 50, 20, 2, 4).backward

    def __getattr__(self, name):
        return getattr(self.inner, name)


@pytest.mark.parametrize("denoiser", [Doubled(2, 50, 20, 2, 4), Wrapped()], ids=["subclass", "wrapper"])
@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_networks_around_this_one_go_by_their_own_forward(name, denoiser):
    """In training and in predicting; and the kernel of this one refuses them."""
    ops = (
        get_backend(name) if name == "numpy" else pytest.importorskip("numba") and get_backend(name)
    ).ops
    x, noise = normal((5, 2)).astype("float32"), normal((5, 2), seed=1).astype("float32")
    schedule, adam = scaled_linear_schedule(50), Adam(constant_rate(1e-3))
    x_t, losses, predictions = q_sample(schedule, x, 7, noise), [], []
    for network, how in (
        (denoiser, loss_and_gradient),
        (MLPDenoiser(2, 50, 20, 2, 4), mlp_loss_and_gradient),
    ):
        recipe = Recipe(schedule, network, adam, loss_and_gradient=how)
        state = init_state(recipe, 0, lambda a: a.astype("float32"))
        losses.append(float(train_step(recipe, state, x, 7, noise, ops).loss_sum))
        predictions.append(predictor(recipe, state.params, ops)(x_t, 7))
    np.testing.assert_array_equal(predictions[0], 2.0 * predictions[1])
    assert losses[0] == pytest.approx(np.mean((predictions[0] - noise) ** 2), rel=1e-5)
    assert abs(losses[1] - losses[0]) > 0.01
    recipe = Recipe(schedule, denoiser, adam, loss_and_gradient=mlp_loss_and_gradient)
    message = f"^mlp_loss_and_gradient is for an MLPDenoiser, .* got {type(denoiser).__name__}; "
    with pytest.raises(TypeError, match=message):
        train_step(recipe, state, x, 7, noise, ops)


def test_a_recipe_is_by_forward_and_backward_unless_it_says_otherwise():
    recipe = Recipe(scaled_linear_schedule(50), MLPDenoiser(2, 50), Adam(constant_rate(1e-3)))
    assert recipe.loss_and_gradient is loss_and_gradient
    with pytest.raises(TypeError, match=r"^loss_and_gradient must be callable, got str 'fused'$"):
        dataclasses.replace(recipe, loss_and_gradient="fused")


@pytest.mark.parametrize("name", ["numpy", "numba"])
@pytest.mark.parametrize("rows", [1, 31, 32, 33, 300])
def test_a_prediction_alone_is_that_of_forward(name, rows, dtype):
    """It keeps nothing for the way back, and so works in less memory, with the same results."""
    backend = (
        get_backend(name) if name == "numpy" else pytest.importorskip("numba") and get_backend(name)
    )
    network = MLPDenoiser(2, 10, 20, 2, 4)
    params = tree_map(
        lambda leaf: leaf.astype(dtype), randomised(network.init(np.random.default_rng(0)))
    )
    x = normal((rows, 2)).astype(dtype)
    for t in (7, np.arange(rows) % 10 + 1):
        expected, _ = network.forward(params, x, t, backend.ops)
        found, cache = network.forward(params, x, t, forward_only(backend.ops))
        np.testing.assert_array_equal(found, expected)
        assert cache is None
