"""Each operation against its definition, also where numbers get extreme."""

import itertools

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm_np.nn import Linear, LinearParams, MLPParams, Residual, Serial, SiLU, ops
from ddpm_np.nn.ops import GENERIC, Ops
from tests.gradients import check_gradients

SMALL = [0.0, 1e-45, 1e-38, 1e-8, 0.5, 1.278, 3.0]
LARGE = [17.0, 30.0, 40.0, 87.0, 89.0, 110.0, 700.0, 746.0, 1e4]
FAR = {"float32": 3.4e38, "float64": 1.7e308}
STEP = 1e-30


def extreme(dtype):
    values = [*SMALL, *LARGE, FAR[dtype], float(np.finfo(dtype).smallest_subnormal)]
    return np.array([s * v for v in values for s in (1.0, -1.0)]).astype(dtype)


def sigmoid(x):
    with mpmath.workdps(60):
        return 1 / (1 + mpmath.exp(-mpmath.mpf(float(x))))


def test_silu_against_mpmath(lib, dtype):
    """Warnings are errors: no overflow may be heard of."""
    x = extreme(dtype)
    y, slope = ops.silu(lib.array(x, dtype))
    eps, tiny = float(np.finfo(dtype).eps), float(np.finfo(dtype).tiny)
    for at, found_y, found_slope in zip(x, lib.host(y), lib.host(slope), strict=True):
        with mpmath.workdps(60):
            at = mpmath.mpf(float(at))
            gate, rest = sigmoid(at), sigmoid(-at)
            size = abs(at) * gate
            error_y = abs(mpmath.mpf(float(found_y)) - at * gate)
            error_slope = abs(mpmath.mpf(float(found_slope)) - gate * (1 + at * rest))
            # exp is good to 1 ulp or so and two roundings follow, three for y: 4 eps. 1 - gate is as
            # wrong as the gate, but for a large x, where the gate is 1, by no more than exp(-x).
            lost = size * min(4 * eps * gate, 16 * rest)
            # Subnormal results round by less than tiny. Where exp(-x) overflows the gate is 0 instead
            # of a number below 1 / max, which is less than tiny; and that costs up to |x| tiny.
            floor = min(1 + abs(at), 1000) * tiny
            assert error_y <= 4 * eps * size + floor
            assert error_slope <= 4 * eps * (gate + size * rest) + lost + floor


def test_silu_backward_is_a_product(lib, dtype):
    dy, slope = np.random.default_rng(0).standard_normal((2, 3, 5)).astype(dtype)
    dx = ops.silu_backward(lib.array(dy, dtype), lib.array(slope, dtype))
    np.testing.assert_array_equal(lib.host(dx), dy * slope)


def test_silu_of_nan_is_nan():
    assert all(np.isnan(part) for part in ops.silu(np.array([np.nan])))


def test_linear_written_out(lib, dtype):
    rng = np.random.default_rng(0)
    x, weight, bias = rng.standard_normal((4, 3)), rng.standard_normal((3, 2)), rng.standard_normal(2)
    dy = rng.standard_normal((4, 2))
    move = [lib.array(a, dtype) for a in (x, weight, bias, dy)]
    y = ops.linear(*move[:3])
    dx, dweight, dbias = ops.linear_backward(move[3], move[0], move[1])
    expected = {
        "y": (y, np.einsum("bi,io->bo", x, weight) + bias),
        "dx": (dx, np.einsum("bo,io->bi", dy, weight)),
        "dweight": (dweight, np.einsum("bi,bo->io", x, dy)),
        "dbias": (dbias, np.einsum("bo->o", dy)),
    }
    for name, (found, wanted) in expected.items():
        # sums of at most four products of order 1
        np.testing.assert_allclose(
            lib.host(found), wanted, rtol=0.0, atol=20 * np.finfo(dtype).eps, err_msg=name
        )
    np.testing.assert_array_equal(lib.host(move[2]), bias.astype(dtype))


def close(found, expected, dtype="float64", roundings=100):
    """Sums of some ten terms of order 1, a handful in a row: 100 eps of the largest result."""
    assert found.keys() == expected.keys()
    for name, wanted in expected.items():
        bound = roundings * np.finfo(dtype).eps * (1.0 + np.max(np.abs(wanted), initial=0.0))
        np.testing.assert_allclose(found[name], wanted, rtol=0.0, atol=bound, err_msg=name)


def near(lib, dtype, found, expected, roundings=100):
    """The same of another library, which must keep dtype and device."""
    for name, array in found.items():
        assert array.dtype == getattr(lib.xp, dtype), name
    close({name: lib.host(array) for name, array in found.items()}, expected, dtype, roundings)


def draw(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


# --- the residual network of rows


NETWORKS = {
    "a_time_per_row": (4, 2, 3, 6, 5, 2, 4),
    "a_time_for_all": (4, 2, 1, 6, 5, 2, 4),
    "one_row": (1, 3, 1, 2, 4, 1, 1),
    "no_hidden_layers": (3, 2, 3, 4, 5, 0, 2),
    "no_hidden_layers_and_one_time": (3, 2, 1, 4, 5, 0, 2),
    "widths_of_one": (3, 1, 3, 2, 1, 3, 1),
    "no_rows": (0, 2, 1, 4, 3, 2, 2),
}
"""Rows of x and their width, rows of the embedding and its width, hidden width, layers, outputs."""


def network_case(name):
    rows, d, times, size, n, layers, m = NETWORKS[name]
    times = rows if times > 1 else 1
    x, embedding, *leaves = draw(
        (rows, d), (times, size), (d, n), (size, n), (n,), (layers, n, n), (layers, n), (n, m), (m,)
    )
    return x, embedding, MLPParams(*leaves)


@pytest.mark.parametrize("name", NETWORKS)
def test_residual_mlp_written_out(lib, dtype, name):
    x, embedding, params = network_case(name)

    def silu(z):
        return z / (1.0 + np.exp(-z))

    joined = np.concatenate([x, np.broadcast_to(embedding, (len(x), embedding.shape[1]))], axis=1)
    h = silu(joined @ np.concatenate([params.weight, params.time_weight]) + params.bias)
    for weight, bias in zip(params.hidden_weight, params.hidden_bias, strict=True):
        h = h + silu(np.einsum("bi,io->bo", h, weight) + bias)
    y = h @ params.out_weight + params.out_bias
    moved = MLPParams(*(lib.array(leaf, dtype) for leaf in params))
    found, _ = ops.residual_mlp(lib.array(x, dtype), lib.array(embedding, dtype), moved)
    near(lib, dtype, {"y": found}, {"y": y})


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "no_rows"])
@pytest.mark.parametrize("weights", ["one", "rows"])
def test_the_loss_of_the_network_and_its_gradient(name, weights):
    """The mean over rows and outputs, and what it changes by for a small step in any direction."""
    x, embedding, params = network_case(name)
    truth, direction = draw((len(x), len(params.out_bias)), (sum(leaf.size for leaf in params),), seed=1)
    weight = 0.7 if weights == "one" else np.linspace(0.5, 2.0, len(x))[:, None]

    def loss_at(step):
        rest = iter(np.split(step * direction, np.cumsum([leaf.size for leaf in params])[:-1]))
        moved = MLPParams(*(leaf + next(rest).reshape(leaf.shape) for leaf in params))
        y, _ = ops.residual_mlp(x, embedding, moved)
        return np.mean(weight * (y - truth) ** 2)

    loss, gradient = ops.residual_mlp_loss(x, embedding, params, truth, weight)
    assert loss == pytest.approx(loss_at(0.0), rel=1e-14)
    h = 1e-5
    slope = (loss_at(h) - loss_at(-h)) / (2 * h)
    assert gradient @ direction == pytest.approx(slope, rel=1e-7, abs=1e-9)


def as_layers(params, embedding):
    """The network of layers and combinators that it says it is, but for the gradients of the times."""
    (d, n), layers, m = params.weight.shape, len(params.hidden_weight), params.out_weight.shape[1]
    size = embedding.shape[1]
    residuals = [Residual(Serial((Linear(n, n), SiLU())))] * layers
    hidden = [(pair, ()) for pair in itertools.starmap(LinearParams, zip(*params[3:5], strict=True))]
    first = LinearParams(np.concatenate([params.weight, params.time_weight]), params.bias)
    network = Serial((Linear(d + size, n), SiLU(), *residuals, Linear(n, m)))
    return network, (first, (), *hidden, LinearParams(*params[5:]))


@pytest.mark.parametrize("name", NETWORKS)
def test_residual_mlp_is_a_serial_of_residuals(name):
    """Values and gradients to a few roundings; one row of embedding counts as one for each of x."""
    x, embedding, params = network_case(name)
    network, theirs = as_layers(params, embedding)
    rows = np.broadcast_to(embedding, (len(x), embedding.shape[1]))
    expected, their_cache = network.forward(theirs, np.concatenate([x, rows], axis=1), GENERIC)
    y, cache = ops.residual_mlp(x, embedding, params)
    close({"y": y}, {"y": expected})

    dy = draw(y.shape, seed=1)[0]
    dx, grads = ops.residual_mlp_backward(dy, cache, params)
    djoined, their_grads = network.backward(theirs, their_cache, dy, GENERIC)
    first, _, *hidden, last = their_grads
    d = x.shape[1]
    found = {"dx": dx, **grads._asdict()}
    wanted = {"dx": djoined[:, :d], "weight": first.weight[:d], "time_weight": first.weight[d:]}
    wanted |= {"bias": first.bias, "out_weight": last.weight, "out_bias": last.bias}
    for part in ("weight", "bias"):
        rows = [getattr(own, part) for own, _ in hidden]
        shape = getattr(params, f"hidden_{part}").shape
        wanted[f"hidden_{part}"] = np.reshape(rows, shape)
    close(found, wanted)


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "no_rows"])
def test_gradients_of_residual_mlp(name):
    x, embedding, params = network_case(name)
    given = [leaf for leaf in params if leaf.size]  # a network may have no hidden layers

    def whole(given):
        rest = iter(given)
        return MLPParams(*(next(rest) if leaf.size else leaf for leaf in params))

    def forward(given, x, ops):
        return ops.residual_mlp(x, embedding, whole(given))

    def backward(given, cache, dy, ops):
        dx, grads = ops.residual_mlp_backward(dy, cache, whole(given))
        assert [leaf.shape for leaf in grads] == [leaf.shape for leaf in params]
        return dx, [leaf for leaf in grads if leaf.size]

    check_gradients(forward, backward, given, x)


# --- convolution


IMAGES = {
    "odd": (2, 5, 7, 3, 4, 3, 1),
    "strided": (2, 5, 4, 2, 3, 3, 2),
    "strided_odd": (1, 7, 3, 2, 2, 3, 2),
    "stride_of_three": (1, 7, 8, 2, 2, 3, 3),
    "pointwise": (3, 4, 5, 3, 2, 1, 1),
    "pointwise_strided": (2, 5, 4, 2, 3, 1, 2),
    "one_channel": (2, 4, 6, 1, 1, 3, 1),
    "one_image": (1, 4, 4, 2, 2, 3, 2),
    "one_pixel": (1, 1, 1, 2, 3, 3, 2),
    "one_row": (2, 1, 6, 2, 1, 3, 2),
    "wide_weights": (2, 6, 5, 1, 2, 5, 2),
    "larger_than_the_image": (1, 2, 2, 3, 2, 5, 1),
    "no_image": (0, 3, 4, 2, 3, 3, 2),
}
"""Images, height, width, channels in and out, size of the weights, stride."""


def convolution_case(name):
    batch, height, width, n, m, k, stride = IMAGES[name]
    return (*draw((batch, height, width, n), (k, k, n, m), (m,)), stride)


def meetings(x, weight, stride):
    """Each pixel of the result, each weight, and the pixel that it meets there inside the image."""
    k, height, width = len(weight), *x.shape[1:3]
    for p, q in itertools.product(range(-(-height // stride)), range(-(-width // stride))):
        for i, j in itertools.product(range(k), repeat=2):
            row, column = stride * p + i - k // 2, stride * q + j - k // 2
            if 0 <= row < height and 0 <= column < width:
                yield (slice(None), p, q), (i, j), (slice(None), row, column)


@pytest.mark.parametrize("name", IMAGES)
def test_conv2d_written_out(lib, dtype, name):
    x, weight, bias, stride = convolution_case(name)
    batch, height, width, _ = x.shape
    expected = np.zeros((batch, -(-height // stride), -(-width // stride), len(bias))) + bias
    for out, place, seen in meetings(x, weight, stride):
        expected[out] += np.einsum("bn,nm->bm", x[seen], weight[place])
    found = ops.conv2d(*(lib.array(a, dtype) for a in (x, weight, bias)), stride)
    near(lib, dtype, {"y": found}, {"y": expected})


@pytest.mark.parametrize("name", IMAGES)
def test_conv2d_backward_written_out(lib, dtype, name):
    x, weight, bias, stride = convolution_case(name)
    dy = draw(ops.conv2d(x, weight, bias, stride).shape, seed=1)[0]
    dx, dweight = np.zeros_like(x), np.zeros_like(weight)
    for out, place, seen in meetings(x, weight, stride):
        dx[seen] += np.einsum("bm,nm->bn", dy[out], weight[place])
        dweight[place] += np.einsum("bn,bm->nm", x[seen], dy[out])
    found = ops.conv2d_backward(*(lib.array(a, dtype) for a in (dy, x, weight)), stride)
    expected = {"dx": dx, "dweight": dweight, "dbias": np.einsum("bpqm->m", dy)}
    near(lib, dtype, dict(zip(expected, found, strict=True)), expected)


@pytest.mark.parametrize("name", [name for name in IMAGES if name != "no_image"])
def test_gradients_of_conv2d(name):
    x, weight, bias, stride = convolution_case(name)

    def forward(params, x, ops):
        return ops.conv2d(x, *params, stride), x

    def backward(params, cache, dy, ops):
        dx, *grads = ops.conv2d_backward(dy, cache, params[0], stride)
        return dx, grads

    check_gradients(forward, backward, [weight, bias], x)


# --- group normalisation


NORMS = {
    "images": ((3, 4, 2, 6), 3, 1e-5),
    "one_group": ((2, 3, 3, 4), 1, 1e-5),
    "a_group_per_channel": ((2, 3, 2, 4), 4, 1e-5),
    "one_channel": ((2, 5, 2, 1), 1, 1e-5),
    "one_image": ((1, 2, 3, 4), 2, 1e-5),
    "rows": ((4, 6), 2, 1e-5),
    "one_number": ((3, 2), 2, 1e-5),
    "sequences": ((2, 5, 4), 2, 0.3),
    "large_epsilon": ((2, 3, 3, 4), 2, 10.0),
}
"""Shape, groups, epsilon."""


def norm_case(name):
    shape, groups, epsilon = NORMS[name]
    x, gain, shift = draw(shape, (shape[0], shape[-1]), (shape[0], shape[-1]))
    return 2.0 * x + 0.5, gain, shift, groups, epsilon


@pytest.mark.parametrize("name", NORMS)
def test_group_norm_written_out(lib, dtype, name):
    x, gain, shift, groups, epsilon = norm_case(name)
    expected, size = np.empty_like(x), x.shape[-1] // groups
    for b, c in np.ndindex(len(x), x.shape[-1]):
        first = c // size * size
        own = x[b, ..., first : first + size]
        normal = (x[b, ..., c] - np.mean(own)) / np.sqrt(np.var(own) + epsilon)
        expected[b, ..., c] = gain[b, c] * normal + shift[b, c]
    found, _ = ops.group_norm(*(lib.array(a, dtype) for a in (x, gain, shift)), groups, epsilon)
    near(lib, dtype, {"y": found}, {"y": expected})


@pytest.mark.parametrize("name", NORMS)
def test_gradients_of_group_norm(name):
    x, gain, shift, groups, epsilon = norm_case(name)

    def forward(params, x, ops):
        return ops.group_norm(x, *params, groups, epsilon)

    def backward(params, cache, dy, ops):
        dx, *grads = ops.group_norm_backward(dy, cache)
        return dx, grads

    check_gradients(forward, backward, [gain, shift], x)


@pytest.mark.parametrize("name", NORMS)
def test_gradients_of_group_norm_on_every_library(lib, dtype, name):
    x, gain, shift, groups, epsilon = norm_case(name)
    dy = draw(x.shape, seed=1)[0]
    results = []
    for move in (np.asarray, lambda a: lib.array(a, dtype)):
        _, cache = ops.group_norm(*(move(a) for a in (x, gain, shift)), groups, epsilon)
        names = ("dx", "dgain", "dshift")
        results.append(dict(zip(names, ops.group_norm_backward(move(dy), cache), strict=True)))
    # 1 / sqrt(epsilon) of 300 multiplies what rounding leaves where a group is one number
    near(lib, dtype, results[1], results[0], 3e4 if name == "one_number" else 100)


def test_group_norm_of_no_images(lib, dtype):
    x, gain, shift = (lib.array(np.ones(shape), dtype) for shape in ((0, 3, 3, 4), (0, 4), (0, 4)))
    y, cache = ops.group_norm(x, gain, shift, 2, 1e-5)
    grads = ops.group_norm_backward(x, cache)
    assert [y.shape, *(a.shape for a in grads)] == [x.shape, x.shape, (0, 4), (0, 4)]


@pytest.mark.parametrize("shape", [(1, 4, 5), (2, 3, 3, 4)])
def test_groups_that_do_not_divide_the_channels_are_no_groups(shape):
    gain = np.ones((shape[0], shape[-1]))
    with pytest.raises(ValueError, match="reshape"):
        ops.group_norm(np.ones(shape), gain, gain, 3 if shape[-1] == 4 else 2, 1e-5)


# --- losses and optimizers


@pytest.mark.parametrize("weight", [1.0, 0.3, np.array([[0.5], [2.0], [0.0]])], ids=["1", "0.3", "rows"])
def test_squared_error_and_its_gradient(weight):
    rng = np.random.default_rng(0)
    prediction, truth = rng.standard_normal((2, 3, 2))
    loss, gradient = ops.squared_error(prediction, truth, weight)
    assert loss == pytest.approx(np.mean(weight * (prediction - truth) ** 2), rel=1e-15)
    for index in np.ndindex(prediction.shape):
        moved = prediction.astype(np.complex128)
        moved[index] += STEP * 1j
        derivative = ops.squared_error(moved, truth, weight)[0].imag / STEP
        assert gradient[index] == pytest.approx(derivative, rel=1e-14, abs=1e-16)


def test_squared_error_on_every_library(lib, dtype):
    a, b = np.array([[1.0, 2.0], [3.0, -1.0]]), np.array([[0.0, 4.0], [3.0, 1.0]])
    weight = lib.array([[1.0], [2.0]], dtype)
    loss, gradient = ops.squared_error(lib.array(a, dtype), lib.array(b, dtype), weight)
    assert loss.dtype == gradient.dtype == getattr(lib.xp, dtype)
    assert loss.shape == ()
    assert float(loss) == (1.0 + 4.0 + 2.0 * 4.0) / 4.0
    np.testing.assert_array_equal(lib.host(gradient), [[0.5, -1.0], [0.0, -2.0]])


def torch_adam(param, grad, m, v, rate, beta_1, beta_2, epsilon, decay, step):
    """AdamW in the order in which torch.optim.AdamW computes it (its capturable=False path)."""
    param = param * (1.0 - rate * decay)
    m = m + (1.0 - beta_1) * (grad - m)
    v = v * beta_2 + (1.0 - beta_2) * grad * grad
    correction_1, correction_2 = 1.0 - beta_1**step, 1.0 - beta_2**step
    denominator = np.sqrt(v) / np.sqrt(correction_2) + epsilon
    return param - rate / correction_1 * m / denominator, m, v


@given(
    st.floats(1e-6, 1.0),
    st.floats(0.0, 0.99),
    st.floats(0.0, 0.9999),
    st.floats(1e-12, 0.5),
    st.floats(0.0, 0.9),
    st.integers(1, 10_000),
)
def test_adam_against_the_formula_of_torch(rate, beta_1, beta_2, epsilon, decay, step):
    rng = np.random.default_rng(step)
    param, grad, m = rng.standard_normal((3, 5))
    v = rng.standard_normal(5) ** 2
    settings = (rate, beta_1, beta_2, epsilon, decay, step)
    found = ops.adam(param, grad, m, v, *settings)
    expected = torch_adam(param, grad, m, v, *settings)
    # The running mean may cancel; nothing else does. |m_hat / size| is below 1e3 here.
    scale = rate / (1.0 - beta_1**step) * (np.abs(m) + np.abs(grad)) / (np.sqrt(expected[2]) + epsilon)
    assert np.all(np.abs(found[0] - expected[0]) <= 1e-14 * (np.abs(param) + scale))
    np.testing.assert_allclose(found[1], expected[1], rtol=0.0, atol=1e-15 * 5)
    np.testing.assert_allclose(found[2], expected[2], rtol=1e-14)


def test_first_step_of_adam_has_the_length_of_the_rate():
    """Bias correction at work: after one step m_hat / sqrt(v_hat) is the gradient's sign."""
    grad = np.array([3.0, -1e-3, 1e5])
    zero = np.zeros(3)
    param, m, v = ops.adam(zero, grad, zero, zero, 0.1, 0.9, 0.999, 1e-12, 0.0, 1)
    np.testing.assert_allclose(param, -0.1 * np.sign(grad), rtol=1e-8)
    np.testing.assert_allclose(m, 0.1 * grad, rtol=1e-15)
    np.testing.assert_allclose(v, 0.001 * grad**2, rtol=1e-12)


def test_adam_decays_weights_apart_from_the_gradient():
    zero = np.zeros(2)
    param, _, _ = ops.adam(np.array([1.0, -2.0]), zero, zero, zero, 0.1, 0.9, 0.999, 1e-8, 0.5, 1)
    np.testing.assert_allclose(param, [0.95, -1.9], rtol=1e-15)


@pytest.mark.parametrize("decay", [0.0, 0.25, 1.0])
def test_ema_written_out(lib, dtype, decay):
    average, value = np.array([1.0, -8.0, 0.5]), np.array([3.0, 4.0, 0.5])
    found = ops.ema(lib.array(average, dtype), lib.array(value, dtype), decay)
    np.testing.assert_array_equal(
        lib.host(found), (decay * average + (1.0 - decay) * value).astype(dtype)
    )


def test_adam_on_every_library(lib, dtype):
    rng = np.random.default_rng(0)
    arrays = [*rng.standard_normal((3, 4)), rng.standard_normal(4) ** 2]
    settings = (0.1, 0.9, 0.99, 1e-8, 0.1, 3)
    found = ops.adam(*(lib.array(a, dtype) for a in arrays), *settings)
    for a, b in zip(found, torch_adam(*arrays, *settings), strict=True):
        assert a.dtype == getattr(lib.xp, dtype)
        np.testing.assert_allclose(lib.host(a), b, rtol=0.0, atol=20 * np.finfo(dtype).eps)


@pytest.mark.parametrize("size", [1, 7])
def test_a_batch_is_one_part_by_default(size):
    rows = list(range(size))
    assert list(ops.in_parts(lambda part: rows[part], size)) == [rows]


def test_the_table_holds_the_definitions():
    assert Ops() == GENERIC
    assert GENERIC.residual_mlp_loss is None
    for name in set(Ops.__dataclass_fields__) - {"residual_mlp_loss"}:
        assert getattr(GENERIC, name) is getattr(ops, name)
