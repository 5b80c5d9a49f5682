"""Optimizers, averages, clipping and learning rates; and the trees that they walk over."""

import math
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm_np.nn import (
    Adam,
    AdamW,
    LinearParams,
    MLPDenoiser,
    clip_by_global_norm,
    constant_rate,
    cosine_decay,
    ema_update,
    global_norm,
    linear_decay,
    warmup,
)
from ddpm_np.nn.ops import GENERIC
from ddpm_np.nn.tree import Layout, named_leaves, ravel, tree_leaves, tree_map, with_leaves


class Pair(NamedTuple):
    left: object
    right: object


def normal(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def params_and_grads():
    params = (LinearParams(normal((3, 2)), normal(2, 1)), (), {"scale": normal((1,), 2)})
    return params, tree_map(lambda leaf: 2.0 * leaf - 0.5, params)


def freeze(tree):
    for leaf in tree_leaves(tree):
        leaf.flags.writeable = False


def assert_same(a, b):
    for (name, x), (other, y) in zip(named_leaves(a), named_leaves(b), strict=True):
        assert name == other
        np.testing.assert_array_equal(x, y, err_msg=name)


# --- Adam


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adam_written_out_over_some_steps(decay):
    """Kingma & Ba, algorithm 1, with a rate that changes and weight decay beside the gradient."""
    rate = linear_decay(0.1, 10)
    optimizer = Adam(rate, beta_1=0.8, beta_2=0.95, epsilon=1e-6, weight_decay=decay)
    x = normal(5)
    state = optimizer.init(x)
    theta, m, v = x.copy(), np.zeros(5), np.zeros(5)
    for step in range(1, 6):
        g = 3.0 * theta - 1.0
        m = 0.8 * m + 0.2 * g
        v = 0.95 * v + 0.05 * g**2
        theta = theta - rate(step - 1) * (
            m / (1 - 0.8**step) / (np.sqrt(v / (1 - 0.95**step)) + 1e-6) + decay * theta
        )
        x, state = optimizer.update(x, 3.0 * x - 1.0, state, GENERIC)
        np.testing.assert_allclose(x, theta, rtol=1e-13)
    assert state.step == 5
    np.testing.assert_allclose(state.m, m, rtol=1e-13)
    np.testing.assert_allclose(state.v, v, rtol=1e-13)


def test_adamw_is_adam_with_a_decay():
    params, grads = params_and_grads()
    adamw, adam = AdamW(constant_rate(0.1)), Adam(constant_rate(0.1), weight_decay=0.01)
    assert_same(
        adamw.update(params, grads, adamw.init(params), GENERIC),
        adam.update(params, grads, adam.init(params), GENERIC),
    )


def test_a_tree_moves_like_one_flat_array(dtype):
    params, grads = (tree_map(lambda a: a.astype(dtype), tree) for tree in params_and_grads())
    optimizer = AdamW(constant_rate(0.1))
    state, flat_state = optimizer.init(params), optimizer.init(ravel(params))
    flat = ravel(params)
    for _ in range(3):
        params, state = optimizer.update(params, grads, state, GENERIC)
        flat, flat_state = optimizer.update(flat, ravel(grads), flat_state, GENERIC)
    assert isinstance(params[0], LinearParams)
    for tree, whole in ((params, flat), (state.m, flat_state.m), (state.v, flat_state.v)):
        assert ravel(tree).dtype == dtype
        np.testing.assert_array_equal(ravel(tree), whole)


def test_update_is_pure():
    params, grads = params_and_grads()
    optimizer = Adam(constant_rate(0.1))
    _, state = optimizer.update(params, grads, optimizer.init(params), GENERIC)
    for tree in (params, grads, state.m, state.v):
        freeze(tree)
    first = optimizer.update(params, grads, state, GENERIC)
    assert_same(first, optimizer.update(params, grads, state, GENERIC))


def test_adam_finds_a_minimum():
    """Of a badly scaled quadratic: its steps do not depend on the gradient's scale."""
    scale, optimum = np.array([1e-3, 1.0, 1e3]), np.array([1.0, -2.0, 3.0])
    optimizer = Adam(cosine_decay(0.2, 400))
    x = np.zeros(3)
    state = optimizer.init(x)
    for _ in range(400):
        x, state = optimizer.update(x, scale * (x - optimum), state, GENERIC)
    np.testing.assert_allclose(x, optimum, atol=1e-2)


def test_optimizer_on_every_library(lib, dtype):
    params = tree_map(lambda leaf: lib.array(leaf, dtype), params_and_grads()[0])
    optimizer = AdamW(constant_rate(0.1))
    moved, state = optimizer.update(params, params, optimizer.init(params), GENERIC)
    moved, state = optimizer.update(moved, clip_by_global_norm(params, 0.1), state, GENERIC)
    average = ema_update(params, moved, 0.9, GENERIC)
    for leaf in tree_leaves((moved, state.m, state.v, average)):
        assert leaf.dtype == getattr(lib.xp, dtype)
        assert np.all(np.isfinite(lib.host(leaf)))


@pytest.mark.parametrize(
    ("error", "message", "settings"),
    [
        (TypeError, "rate must be a function", {"rate": 0.1}),
        (ValueError, "beta_1", {"beta_1": 1.0}),
        (ValueError, "beta_2", {"beta_2": -0.1}),
        (TypeError, "beta_2", {"beta_2": "0.9"}),
        (ValueError, "epsilon", {"epsilon": 0.0}),
        (ValueError, "weight_decay", {"weight_decay": -1.0}),
    ],
)
def test_settings_are_checked(error, message, settings):
    with pytest.raises(error, match=message):
        Adam(**{"rate": constant_rate(0.1), **settings})


def test_update_refuses_another_structure():
    params, grads = params_and_grads()
    optimizer = Adam(constant_rate(0.1))
    with pytest.raises(ValueError, match="one structure"):
        optimizer.update(params, grads[:2], optimizer.init(params), GENERIC)


# --- averages, norms, clipping


def test_ema_converges_geometrically():
    average, target = {"a": np.array([1.0])}, {"a": np.array([3.0])}
    for n in range(1, 6):
        average = ema_update(average, target, 0.75, GENERIC)
        assert average["a"][0] == pytest.approx(3.0 - 2.0 * 0.75**n, rel=1e-14)


def test_global_norm():
    tree = [np.array([[1.0, -2.0]]), {"b": np.array([2.0, 4.0]), "c": np.array(0.0)}]
    assert global_norm(tree) == 5.0
    assert global_norm(np.array([-3.0])) == 3.0


@given(st.integers(0, 100), st.floats(1e-3, 1e3), st.sampled_from(["float32", "float64"]))
def test_clipping(seed, limit, dtype):
    grads = [normal((2, 3), seed).astype(dtype), (10.0 * normal(4, seed + 1)).astype(dtype)]
    freeze(grads)
    norm = math.sqrt(sum(float(np.sum(np.square(g, dtype=np.float64))) for g in grads))
    clipped = clip_by_global_norm(grads, limit)
    if norm < limit * (1 - 1e-5):
        assert_same(clipped, grads)
    else:  # a factor, a product and the norm: a few roundings, over ten terms
        eps = float(np.finfo(dtype).eps)
        assert float(global_norm(clipped)) == pytest.approx(min(limit, norm), rel=20 * eps)
        for g, c in zip(grads, clipped, strict=True):
            assert c.dtype == dtype
            np.testing.assert_allclose(c, g * min(1.0, limit / norm), rtol=20 * eps)


def test_clipping_leaves_zeros_alone(lib, dtype):
    zeros = lib.array([0.0, 0.0], dtype)
    np.testing.assert_array_equal(lib.host(clip_by_global_norm((zeros,), 1.0)[0]), [0.0, 0.0])
    assert float(global_norm((zeros,))) == 0.0


@pytest.mark.parametrize("limit", [0.0, -1.0, math.inf, math.nan])
def test_clipping_checks_its_limit(limit):
    with pytest.raises(ValueError, match="max_norm"):
        clip_by_global_norm(np.ones(2), limit)


# --- learning rates


@pytest.mark.parametrize("decay", [linear_decay, cosine_decay])
def test_decays_at_their_ends(decay):
    rate = decay(0.5, 100)
    assert rate(0) == 0.5
    assert rate(50) == pytest.approx(0.25, rel=1e-15)
    assert rate(99) > 0.0
    assert rate(100) == rate(101) == rate(10_000) == 0.0
    steps = [rate(s) for s in range(101)]
    assert steps == sorted(steps, reverse=True)


def test_decays_at_a_quarter():
    assert linear_decay(1.0, 8)(2) == 0.75
    assert cosine_decay(1.0, 8)(2) == pytest.approx((1.0 + math.sqrt(0.5)) / 2.0, rel=1e-15)


def test_warmup_and_constant():
    rate = warmup(constant_rate(2.0), 4)
    assert [rate(s) for s in range(6)] == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    decaying = warmup(linear_decay(2.0, 8), 4)
    assert decaying(1) == linear_decay(2.0, 8)(1) / 2.0
    assert decaying(8) == 0.0


@pytest.mark.parametrize(
    ("error", "message", "make"),
    [
        (ValueError, "rate", lambda: constant_rate(0.0)),
        (TypeError, "rate", lambda: constant_rate("fast")),
        (ValueError, "rate", lambda: linear_decay(math.inf, 10)),
        (ValueError, "steps", lambda: linear_decay(0.1, 0)),
        (TypeError, "steps", lambda: cosine_decay(0.1, 10.0)),
        (ValueError, "steps", lambda: warmup(constant_rate(0.1), 0)),
    ],
)
def test_rates_are_checked(error, message, make):
    with pytest.raises(error, match=message):
        make()


# --- trees

leaves = st.lists(st.integers(0, 3), max_size=3).map(lambda shape: normal(tuple(shape)))
trees = st.recursive(
    leaves,
    lambda part: st.one_of(
        st.lists(part, max_size=3),
        st.lists(part, max_size=3).map(tuple),
        st.builds(Pair, part, part),
        st.dictionaries(st.sampled_from("abc"), part, max_size=3),
    ),
    max_leaves=6,
)


def structure(tree):
    """What must survive: types, keys and lengths, with shapes for leaves."""
    if isinstance(tree, dict):
        return {key: structure(part) for key, part in tree.items()}
    if isinstance(tree, list | tuple):
        return (type(tree), [structure(part) for part in tree])
    return tree.shape


@given(trees)
def test_tree_map_keeps_the_structure(tree):
    doubled = tree_map(lambda a, b: a + b, tree, tree)
    assert structure(doubled) == structure(tree)
    for (name, a), (other, b) in zip(named_leaves(tree), named_leaves(doubled), strict=True):
        assert name == other
        np.testing.assert_array_equal(2.0 * a, b)


@given(trees)
def test_names_are_paths(tree):
    names = [name for name, _ in named_leaves(tree)]
    assert len(set(names)) == len(names)
    for name, leaf in named_leaves(tree):
        at = tree
        for key in name.split("/") if name else ():
            at = at[int(key)] if key.isdigit() else at[key] if isinstance(at, dict) else getattr(at, key)
        assert at is leaf


@given(trees.filter(lambda tree: tree_leaves(tree)))
def test_ravel_and_unravel(tree):
    flat = ravel(tree)
    assert flat.shape == (sum(leaf.size for leaf in tree_leaves(tree)),)
    assert structure(Layout.of(tree).unravel(flat)) == structure(tree)
    assert_same(Layout.of(tree).unravel(flat), tree)
    assert_same(with_leaves(tree, tree_leaves(tree)), tree)


def test_ravel_on_every_library(lib, dtype):
    params = MLPDenoiser(2, 10, 3, 1, 2).init(np.random.default_rng(0))
    moved = tree_map(lambda leaf: lib.array(leaf, dtype), params)
    flat = ravel(moved)
    np.testing.assert_array_equal(lib.host(flat), ravel(params).astype(dtype))
    # the layout of the host's parameters serves every library
    again = Layout.of(params).unravel(flat)
    for a, b in zip(tree_leaves(again), tree_leaves(moved), strict=True):
        np.testing.assert_array_equal(lib.host(a), lib.host(b))


def test_names_of_a_denoiser():
    params = MLPDenoiser(2, 10, 3, 1, 2).init(np.random.default_rng(0))
    assert [name for name, _ in named_leaves(params)] == [
        *("weight", "time_weight", "bias", "hidden_weight", "hidden_bias", "out_weight", "out_bias")
    ]


a = np.zeros(1)


@pytest.mark.parametrize(
    ("tree", "other"),
    [
        ((a, a), (a,)),
        ((a, a), [a, a]),
        (Pair(a, a), (a, a)),
        ((a, a), Pair(a, a)),
        ({"x": a}, {"y": a}),
        ({"x": a, "y": a}, {"y": a, "x": a}),
        ({"x": a}, [a]),
        (a, (a,)),
        ((a,), a),
        ([(a,)], [(a, a)]),
    ],
)
def test_structures_must_agree(tree, other):
    with pytest.raises(ValueError, match="one structure"):
        tree_map(lambda x, y: x, tree, other)
