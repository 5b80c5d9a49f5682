"""Each operation against its definition, also where numbers get extreme."""

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm_np.nn import ops
from ddpm_np.nn.ops import GENERIC, Ops

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
    y, gate = ops.silu(lib.array(x, dtype))
    eps, tiny = np.finfo(dtype).eps, np.finfo(dtype).tiny
    for at, found_y, found_gate in zip(x, lib.host(y), lib.host(gate), strict=True):
        exact = float(sigmoid(at))
        # exp is good to 1 ulp or so and two roundings follow, three for y: 4 eps. Where exp(-x)
        # overflows the gate is 0 instead of a number below 1 / max, which is less than tiny.
        assert abs(float(found_gate) - exact) <= 4 * eps * exact + tiny
        with mpmath.workdps(60):
            error = abs(mpmath.mpf(float(found_y)) - mpmath.mpf(float(at)) * sigmoid(at))
        bound = 4 * eps * abs(float(at)) * exact
        # Subnormal results round by less than tiny, and a lost gate costs up to |x| tiny.
        assert error <= bound + min(1.0 + abs(float(at)), 1e3) * tiny


def test_silu_backward_against_mpmath(lib, dtype):
    """silu' = gate + x gate (1 - gate), through the results that the forward pass kept."""
    x = extreme(dtype)
    y, gate = ops.silu(lib.array(x, dtype))
    dx = ops.silu_backward(lib.array(np.full_like(x, 3.0), dtype), y, gate)
    eps = np.finfo(dtype).eps
    for at, found in zip(x, lib.host(dx), strict=True):
        with mpmath.workdps(60):
            g = sigmoid(at)
            exact = float(3 * (g + mpmath.mpf(float(at)) * g * (1 - g)))
        # 1 - gate is off by eps / 2, times y: at most 40 or so before gate is 1 exactly.
        assert abs(float(found) - exact) <= 3 * eps * (4.0 + min(abs(float(at)), 40.0))


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


def test_the_table_holds_the_definitions():
    assert Ops() == GENERIC
    for name in Ops.__dataclass_fields__:
        assert getattr(GENERIC, name) is getattr(ops, name)
