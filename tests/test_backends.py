"""Backends: fused kernels against their definitions, what they refuse, and how one is chosen."""

import importlib
import inspect
import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends import BackendError, describe_backend, get_backend
from ddpm_np import scaled_linear_schedule
from ddpm_np.batches import draw_batch
from ddpm_np.data import swiss_roll
from ddpm_np.nn import Adam, MLPDenoiser, MLPParams, constant_rate
from ddpm_np.nn import ops as generic
from ddpm_np.nn.ops import Ops
from ddpm_np.training import Recipe, init_state, train
from tests.gradients import check_gradients, randomised

FUSED = ("numba", "cupy")
NAMES = tuple(Ops.__dataclass_fields__)


def running(name):
    """A backend, or the reason why it does not run as the reason for skipping."""
    try:
        return get_backend(name)
    except BackendError as error:
        pytest.skip(str(error))


def module_of(name):
    """A backend's module: the functions in it can be called with arguments to be refused."""
    try:
        return importlib.import_module(f"backends.{name}_backend")
    except BackendError as error:
        pytest.skip(str(error))


@pytest.fixture(params=FUSED)
def backend(request):
    return running(request.param)


def run_python(code):
    """Run code in a fresh interpreter at the project's root, and return what it printed."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


# --- kernels against their definitions
#
# Every operation of every backend against its definition in the next higher precision. A kernel
# may add in another order, contract a product and a sum into one rounding, and use another
# exponential, good to 2 ulp. So it agrees to some roundings of the terms that are added. Where
# these are products of the arguments, the definition of absolute values is the sum of their sizes.


class Rounding:
    """Bounds on what rounding to a dtype does; infinite where nothing is claimed."""

    def __init__(self, dtype):
        info = np.finfo(dtype)
        self.eps, self.tiny, self.most = float(info.eps), float(info.tiny), float(info.max)
        self.least = float(info.smallest_subnormal)
        self.higher = np.float64 if dtype == "float32" else np.longdouble

    def sum(self, scale, length):
        """Of ``length`` products, added in any order, whose sizes add up to ``scale``.

        length * eps is twice what it takes. Products below tiny are off by up to the smallest
        number each; and a sum that may overflow on the way may come out as anything.
        """
        bound = length * self.eps * scale + length * self.least
        return np.where(scale < self.most / 4, bound, np.inf)

    def product(self, a, error_a, b, error_b, length):
        """Of a @ b, if a and b are off already."""
        sizes = (np.abs(a) + error_a) @ (np.abs(b) + error_b)
        return error_a @ np.abs(b) + (np.abs(a) + error_a) @ error_b + self.sum(sizes, length)

    def silu(self, x):
        """Of y and slope = gate + y * rest: four roundings of what is added.

        rest = 1 - gate is as wrong as the gate, but for a large x, where the gate is 1, by no more
        than exp(-x). A gate below tiny may be lost: times 1 + |x| this is below 1000 tiny.
        """
        gate, rest = 1 / (1 + np.exp(-x)), 1 / (1 + np.exp(x))
        y = np.abs(x) * gate
        floor = np.minimum(1 + np.abs(x), 1000) * self.tiny
        lost = y * np.minimum(4 * self.eps * gate, 16 * rest)
        return 4 * self.eps * y + floor, 4 * self.eps * (gate + y * rest) + lost + floor


def of_products(lengths):
    """Errors of an operation all of whose terms are products of its arguments."""

    def errors(rounding, s, call, arrays):
        sizes = call(generic, s, *(np.abs(a) for a in arrays.values()))
        return [rounding.sum(*pair) for pair in zip(sizes, lengths(s), strict=True)]

    return errors


def conv2d_errors(rounding, s, call, arrays):
    x, weight, _ = (np.abs(a) for a in arrays.values())
    (sizes,) = call(generic, s, *(np.abs(a) for a in arrays.values()))
    spread = np.einsum("bn,ijnm->bm", brightest(x), weight)[:, None, None]
    return [rounding.sum(tiled(s, sizes, spread), s.k**2 * s.c + 1)]


def conv2d_backward_errors(rounding, s, call, arrays):
    dy, x, weight = (np.abs(a) for a in arrays.values())
    dx, dweight, dbias = call(generic, s, dy, x, weight)
    dx = tiled(s, dx, np.einsum("bm,ijnm->bn", brightest(dy), weight)[:, None, None])
    dweight = tiled(s, dweight, s.H * s.W * np.einsum("bn,bm->nm", brightest(x), brightest(dy)))
    pixels = dy.size // s.f
    return rounding.sum(dx, s.k**2 * s.f + 1), rounding.sum(dweight, pixels), rounding.sum(dbias, pixels)


def brightest(x):
    return np.max(x, axis=(1, 2), initial=0.0)


def tiled(s, sizes, spread):
    """Where 2 x 2 pixels may be made together, by Winograd's algorithm: it adds what cancels again.

    Its terms are sums of four pixels, weighed with at most 4 times the weights in all. Forward and
    backward alike, this is 16 times what the brightest pixels everywhere would give.
    """
    possible = s.k == 3 and s.stride == 1 and s.H % 2 == s.W % 2 == 0
    return np.maximum(sizes, 16 * spread) if possible else sizes


def silu_errors(rounding, s, call, arrays):
    return rounding.silu(arrays["x"])


def squared_error_errors(rounding, s, call, arrays):
    """The difference rounds once, its square and the weight a few times more; then a sum."""
    loss, dprediction = call(generic, s, *arrays.values())
    size, sizes = arrays["truth"].size, np.abs(dprediction)
    error = np.where(rounding.sum(size * sizes, 1) < np.inf, rounding.sum(sizes, 4), np.inf)
    return rounding.sum(size * loss, size + 4) / size, error


def adam_errors(rounding, s, call, arrays):
    """Each scalar rounds once too. The root halves the error of v, unless v is lost: see epsilon."""
    param, m, v = (np.abs(arrays[name]) for name in ("param", "m", "v"))
    grad = np.abs(arrays["grad"])
    error_m = rounding.sum(0.9 * m + 0.1 * grad, 3)
    error_v = rounding.sum(0.999 * v + 0.001 * grad**2, 4)
    size = np.sqrt(0.999 * v + 0.001 * grad**2) * (1 - 0.999**s.step) ** -0.5 + 1e-8
    rate = 0.1 / (1 - 0.9**s.step)
    step = rate * (0.9 * m + 0.1 * grad) / size
    error_param = rounding.sum(param + 2 * step, 4) + rate / size * (3 * rounding.least)
    may_overflow = np.maximum(rounding.sum(step / rate, 1), error_v) == np.inf
    return np.where(may_overflow, np.inf, error_param), error_m, error_v


class Traced(NamedTuple):
    """What a residual network computes on the way, and how far each of it may be off."""

    hidden: list
    slopes: list
    y: tuple


def trace_mlp(rounding, x, embedding, params):
    """Errors move on by the sizes of the weights and the steepest slope of SiLU, 1.1."""

    def affine(h, error, weight, bias, length):
        sizes = (np.abs(h) + error) @ np.abs(weight) + np.abs(bias)
        return h @ weight + bias, error @ np.abs(weight) + rounding.sum(sizes, length)

    def activate(z, error):
        (y, slope), (error_y, error_slope) = generic.silu(z), rounding.silu(z)
        return (y, error_y + 1.2 * error), (slope, error_slope + 0.6 * error)

    joined = np.concatenate([x, np.broadcast_to(embedding, (len(x), embedding.shape[1]))], axis=1)
    entry = np.concatenate([params.weight, params.time_weight])
    h, slope = activate(*affine(joined, 0 * joined, entry, params.bias, len(entry) + 1))
    hidden, slopes, n = [h], [slope], len(params.bias)
    for weight, bias in zip(params.hidden_weight, params.hidden_bias, strict=True):
        y, slope = activate(*affine(*h, weight, bias, n + 1))
        value, error = h[0] + y[0], h[1] + y[1]
        h = value, error + rounding.sum(np.abs(value) + error, 1)
        hidden.append(h)
        slopes.append(slope)
    return Traced(hidden, slopes, affine(*h, params.out_weight, params.out_bias, n + 1))


def mlp_errors(rounding, s, call, arrays):
    x, embedding, *leaves = arrays.values()
    return [trace_mlp(rounding, x, embedding, MLPParams(*leaves)).y[1]]


def mlp_backward_errors(rounding, s, call, arrays):
    dy, x, embedding, *leaves = arrays.values()
    traced = trace_mlp(rounding, x, embedding, MLPParams(*leaves))
    return traced_backward(rounding, dy, 0 * dy, x, embedding, MLPParams(*leaves), traced)


def mlp_loss_errors(rounding, s, call, arrays):
    """The prediction may be off, and so may its squared error, by as much again as it rounds."""
    x, embedding, *leaves, truth = (a for name, a in arrays.items() if name != "loss_weight")
    weight = np.abs(arrays.get("loss_weight", 0.7))
    traced = trace_mlp(rounding, x, embedding, MLPParams(*leaves))
    y, off = traced.y
    off = off + rounding.sum(np.abs(y) + off + np.abs(truth), 1)
    loss = weight * ((np.abs(y - truth) + off) ** 2)
    error_loss = (
        np.mean(loss - weight * (y - truth) ** 2) + rounding.sum(np.sum(loss), y.size + 4) / y.size
    )
    scale = 2 * weight / y.size
    dy = scale * (y - truth)
    reach = np.abs(y - truth) + off
    may_overflow = rounding.sum(y.size * scale * reach, 1) == np.inf  # on the way
    error_dy = scale * off + rounding.sum(scale, 1) * reach + rounding.sum(scale * reach, 4)
    error_dy = np.where(may_overflow, np.inf, error_dy)
    _, *grads = traced_backward(rounding, dy, error_dy, x, embedding, MLPParams(*leaves), traced)
    return error_loss, np.concatenate([grad.ravel() for grad in grads])


def traced_backward(rounding, dy, error_dy, x, embedding, params, traced):
    """Errors of the gradients, of a dy that may be off."""
    rows = len(dy) + 1
    embedding = np.broadcast_to(embedding, (len(x), embedding.shape[1]))
    hidden, slopes, _ = traced

    def weights(h, error, d, error_d):
        return rounding.product(h.T, error.T, d, error_d, rows)

    def bias(d, error_d):
        return np.sum(error_d, axis=0) + rounding.sum(np.sum(np.abs(d) + error_d, axis=0), rows)

    def inputs(d, error_d, weight):
        length = weight.shape[1] + 1
        return d @ weight.T, rounding.product(d, error_d, weight.T, 0 * weight.T, length)

    def through(d, error_d, slope, error_slope):
        sizes = (np.abs(d) + error_d) * (np.abs(slope) + error_slope)
        moved = error_d * np.abs(slope) + (np.abs(d) + error_d) * error_slope
        return d * slope, moved + rounding.sum(sizes, 1)

    out = weights(*hidden[-1], dy, error_dy), bias(dy, error_dy)
    dh, error = inputs(dy, error_dy, params.out_weight)
    layers = []
    for weight, h, slope in reversed([*zip(params.hidden_weight, hidden, slopes[1:])]):  # noqa: B905
        d = through(dh, error, *slope)
        layers.append((weights(*h, *d), bias(*d)))
        dbefore, error_before = inputs(*d, weight)
        dh, error = dh + dbefore, error + error_before
        error = error + rounding.sum(np.abs(dh) + error, 1)
    d = through(dh, error, *slopes[0])
    _, dx = inputs(*d, params.weight)
    entry = weights(x, 0 * x, *d), weights(embedding, 0 * embedding, *d), bias(*d)
    shapes = (params.hidden_weight.shape, params.hidden_bias.shape)
    columns = zip(*reversed(layers), strict=True) if layers else ((), ())
    stacked = (np.reshape(list(c), shape) for c, shape in zip(columns, shapes, strict=True))
    return dx, *entry, *stacked, *out


def normalised(rounding, s, x):
    """Mean and variance are sums; the root is no further off than the variance, if that is not far."""
    grouped = generic._grouped(x, s.groups)
    count = grouped.shape[1] * grouped.shape[3]

    def mean(a):
        return np.mean(a, axis=(1, 3), keepdims=True)

    def error_of_mean(a):
        return rounding.sum(count * mean(a), count + 1) / max(count, 1)

    centred = grouped - mean(grouped)
    error = error_of_mean(np.abs(grouped)) + rounding.sum(np.abs(centred), 1)
    variance = mean(centred**2) + EPSILON
    error_variance = mean(2 * np.abs(centred) * error + error**2)
    error_variance = error_variance + error_of_mean((np.abs(centred) + error) ** 2 + EPSILON)
    relative = error_variance / variance + 4 * rounding.eps
    scale = variance**-0.5
    error_scale = np.where(relative < 0.5, relative * scale, np.inf)
    normal = centred * scale
    moved = error * (scale + error_scale) + np.abs(centred) * error_scale
    error = moved + rounding.sum(np.abs(normal) + moved, 2)
    return normal, error, scale, error_scale, mean, error_of_mean


def group_norm_errors(rounding, s, call, arrays):
    x, gain, shift = arrays.values()
    normal, error, *_ = normalised(rounding, s, x)
    normal, error = (np.reshape(a, x.shape) for a in (normal, error))
    gain, shift = (np.abs(a)[:, None] for a in (gain, shift))
    return [gain * error + rounding.sum(gain * (np.abs(normal) + error) + shift, 3)]


def group_norm_backward_errors(rounding, s, call, arrays):
    dy, x, gain, _ = arrays.values()
    normal, error, scale, error_scale, mean, error_of_mean = normalised(rounding, s, x)
    dnormal = generic._grouped(gain[:, None] * dy, s.groups)
    size, reach = np.abs(dnormal), np.abs(normal) + error
    error_dnormal = rounding.sum(size, 1)
    size = size + error_dnormal
    level, along = mean(dnormal), mean(dnormal * normal)
    error_level = mean(error_dnormal) + error_of_mean(size)
    error_along = mean(size * error + error_dnormal * np.abs(normal)) + error_of_mean(2 * size * reach)
    d = dnormal - level - normal * along
    error_d = error_dnormal + error_level + error * np.abs(along) + reach * error_along
    sizes = size + np.abs(level) + error_level + reach * (np.abs(along) + error_along)
    error_d = error_d + rounding.sum(sizes, 4)
    dx = scale * error_d + error_scale * (np.abs(d) + error_d)
    dx = dx + rounding.sum((scale + error_scale) * (np.abs(d) + error_d), 1)
    error, reach = (np.reshape(a, x.shape) for a in (error, reach))
    pixels = x.shape[1] + 1
    dgain = np.sum(np.abs(dy) * error, axis=1) + rounding.sum(np.sum(np.abs(dy) * reach, axis=1), pixels)
    return np.reshape(dx, x.shape), dgain, rounding.sum(np.sum(np.abs(dy), axis=1), pixels)


class Kernel(NamedTuple):
    """How to call an operation for its results, a tuple, and how far off they may be."""

    shapes: Callable
    """Of its array arguments, by name, from sizes; the names of the sizes are in SIZES."""
    call: Callable
    """call(ops, sizes, *arrays); a cache comes from the same ops."""
    errors: Callable


SETTINGS = (0.1, 0.9, 0.999, 1e-8, 0.1)
EPSILON = 1e-5
FIELDS = MLPParams._fields


def mlp_shapes(B, d, size, n, L, m, times):
    leaves = ((d, n), (size, n), (n,), (L, n, n), (L, n), (n, m), (m,))
    embedding = (B if times == "each" else 1, size)
    return {"x": (B, d), "embedding": embedding, **dict(zip(FIELDS, leaves, strict=True))}


def mlp_backward(ops, s, dy, x, embedding, *leaves):
    params = MLPParams(*leaves)
    dx, grads = ops.residual_mlp_backward(dy, ops.residual_mlp(x, embedding, params)[1], params)
    return dx, *grads


def mlp_loss_shapes(sizes):
    return {**mlp_shapes(**sizes), "truth": (sizes["B"], sizes["m"])}


def mlp_loss(ops, x, embedding, *rest):
    """By its parts, where it has no kernel."""
    whole = ops.residual_mlp_loss or generic.residual_mlp_loss
    *leaves, truth, weight = rest
    return whole(x, embedding, MLPParams(*leaves), truth, weight)


def group_norm_backward(ops, s, dy, x, gain, shift):
    return ops.group_norm_backward(dy, ops.group_norm(x, gain, shift, s.groups, EPSILON)[1])


KERNELS = {
    "linear": Kernel(
        lambda B, n, m: {"x": (B, n), "weight": (n, m), "bias": (m,)},
        lambda ops, s, *arrays: (ops.linear(*arrays),),
        of_products(lambda s: (s.n + 1,)),
    ),
    "linear_backward": Kernel(
        lambda B, n, m: {"dy": (B, m), "x": (B, n), "weight": (n, m)},
        lambda ops, s, *arrays: ops.linear_backward(*arrays),
        of_products(lambda s: (s.m, s.B, s.B)),
    ),
    "silu": Kernel(lambda B, n: {"x": (B, n)}, lambda ops, s, x: ops.silu(x), silu_errors),
    "residual_mlp": Kernel(
        mlp_shapes,
        lambda ops, s, x, embedding, *leaves: ops.residual_mlp(x, embedding, MLPParams(*leaves))[:1],
        mlp_errors,
    ),
    "residual_mlp_backward": Kernel(
        lambda B, m, **sizes: {"dy": (B, m), **mlp_shapes(B, m=m, **sizes)},
        mlp_backward,
        mlp_backward_errors,
    ),
    "residual_mlp_loss": Kernel(
        lambda B1, m, **sizes: mlp_loss_shapes(sizes | {"B": B1, "m": m}),
        lambda ops, s, *arrays: mlp_loss(ops, *arrays, 0.7),
        mlp_loss_errors,
    ),
    "residual_mlp_loss of rows": Kernel(
        lambda B1, m, **sizes: mlp_loss_shapes(sizes | {"B": B1, "m": m}) | {"loss_weight": (B1, 1)},
        lambda ops, s, *arrays: mlp_loss(ops, *arrays),
        mlp_loss_errors,
    ),
    "conv2d": Kernel(
        lambda N, H, W, c, f, k, stride: {"x": (N, H, W, c), "weight": (k, k, c, f), "bias": (f,)},
        lambda ops, s, *arrays: (ops.conv2d(*arrays, s.stride),),
        conv2d_errors,
    ),
    "conv2d_backward": Kernel(
        lambda N, H, W, c, f, k, stride: {
            "dy": (N, -(-H // stride), -(-W // stride), f),
            "x": (N, H, W, c),
            "weight": (k, k, c, f),
        },
        lambda ops, s, *arrays: ops.conv2d_backward(*arrays, s.stride),
        conv2d_backward_errors,
    ),
    "group_norm": Kernel(
        lambda N, P, groups, part: (
            {"x": (N, P, groups * part)} | dict.fromkeys(("gain", "shift"), (N, groups * part))
        ),
        lambda ops, s, *arrays: ops.group_norm(*arrays, s.groups, EPSILON)[:1],
        group_norm_errors,
    ),
    "group_norm_backward": Kernel(
        lambda N, P, groups, part: (
            dict.fromkeys(("dy", "x"), (N, P, groups * part))
            | dict.fromkeys(("gain", "shift"), (N, groups * part))
        ),
        group_norm_backward,
        group_norm_backward_errors,
    ),
    "squared_error": Kernel(
        lambda B1, n: {"prediction": (B1, n), "truth": (B1, n)},
        lambda ops, s, *arrays: ops.squared_error(*arrays, 0.7),
        squared_error_errors,
    ),
    "squared_error of rows": Kernel(
        lambda B1, n: {"prediction": (B1, n), "truth": (B1, n), "weight": (B1, 1)},
        lambda ops, s, *arrays: ops.squared_error(*arrays),
        squared_error_errors,
    ),
    "adam": Kernel(
        lambda B, n, step: dict.fromkeys(("param", "grad", "m", "v"), (B, n)),
        lambda ops, s, *arrays: ops.adam(*arrays, *SETTINGS, s.step),
        adam_errors,
    ),
    "ema": Kernel(
        lambda B, n: {"average": (B, n), "value": (B, n)},
        lambda ops, s, *arrays: (ops.ema(*arrays, 0.9),),
        of_products(lambda s: (3,)),
    ),
}

# Vectors and register tiles have 4, 8, 16 or 32 numbers: these and their neighbours, and any other.
# Rows go through the layers 32 or 128 at a time.
ROWS = st.sampled_from([0, 1, 3, 8, 31, 33, 65, 128, 129]) | st.integers(0, 40)
WIDTHS = st.sampled_from([1, 4, 7, 8, 16, 31, 32, 33, 48]) | st.integers(1, 40)
CHANNELS = st.sampled_from([1, 3, 8, 17, 32]) | st.integers(1, 34)
SIZES = {
    **{"B": ROWS, "B1": ROWS.map(lambda rows: rows or 1), "n": WIDTHS, "m": WIDTHS},
    **{"d": st.integers(1, 4), "size": st.integers(1, 6), "L": st.integers(0, 3)},
    **{"times": st.sampled_from(["one", "each"]), "step": st.integers(1, 10_000)},
    **{"N": st.integers(0, 3), "c": CHANNELS, "f": CHANNELS},
    **{"H": st.integers(1, 7), "W": st.integers(1, 7), "P": st.integers(1, 20)},
    **{"k": st.sampled_from([1, 3, 5]), "stride": st.integers(1, 3)},
    **{"groups": st.integers(1, 4), "part": st.integers(1, 9)},
}
TWO = dict.fromkeys(SIZES, 2) | {"times": "each", "k": 3, "stride": 1}
MAGNITUDES = {
    "1": lambda info: 1.0,
    "0.1": lambda info: 0.1,
    "30": lambda info: 30.0,
    "subnormal": lambda info: float(info.tiny) / 8,
    "small": lambda info: float(info.tiny) ** 0.5,
    "large": lambda info: float(info.max) ** 0.5 / 8,
    "huge": lambda info: float(info.max) / 8,
}
LAYOUTS = (
    lambda a: a,
    lambda a: a.T.copy().T,
    lambda a: np.repeat(a, 2, axis=0)[::2],
    lambda a: np.repeat(a, 2, axis=-1)[..., 1::2],
    lambda a: a[(slice(None, None, -1),) * a.ndim].copy()[(slice(None, None, -1),) * a.ndim],
)


def sizes_of(kernel):
    """Names of its sizes; ``**sizes`` are those of mlp_shapes."""
    names = dict.fromkeys(inspect.signature(kernel.shapes).parameters)
    if names.pop("sizes", 0) is None:
        names |= dict.fromkeys(inspect.signature(mlp_shapes).parameters)
    return list(names)


@st.composite
def inputs(draw, kernel):
    """Sizes, and for each argument a seed, a magnitude, a share of zeros and a memory layout."""
    s = {name: draw(SIZES[name]) for name in sizes_of(kernel)}
    looks = st.tuples(
        st.integers(0, 2**32),
        st.sampled_from(["1", "1", "1", *MAGNITUDES]),
        st.sampled_from([0.0, 0.0, 0.3]),
        st.sampled_from(LAYOUTS),
    )
    return s, {name: (shape, draw(looks)) for name, shape in kernel.shapes(**s).items()}


def example(op):
    """Arguments of an operation, by name, in which nearly everything is of size two."""
    kernel, rng = KERNELS[op], np.random.default_rng(0)
    shapes = kernel.shapes(**{name: TWO[name] for name in sizes_of(kernel)})
    return {name: rng.uniform(0.5, 1.5, shape) for name, shape in shapes.items()}


def call(op, ops, arrays):
    """The results for an example."""
    return KERNELS[op].call(ops, SimpleNamespace(**TWO), *arrays.values())


def operation(name):
    return name.split(" ")[0]


@pytest.mark.parametrize("name", ["numpy", *FUSED])
@given(size=st.integers(1, 5000), pixels=st.sampled_from([1, 16, 64, 784, 10**6]))
def test_parts_cover_the_batch_in_order(name, size, pixels):
    ops = running(name).ops
    parts = [list(ops.in_parts(lambda part: part, size, pixels)) for _ in range(2)]
    assert parts[0] == parts[1]
    assert all(len(range(size)[part]) for part in parts[0])
    assert [i for part in parts[0] for i in range(size)[part]] == list(range(size))


def test_every_operation_has_its_kernel_test():
    assert {operation(name) for name in KERNELS} == set(NAMES) - {"in_parts"}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("op", KERNELS)
@pytest.mark.parametrize("name", ["numpy", *FUSED])
@given(data=st.data())
def test_kernels_are_their_definitions(name, op, dtype, data):
    backend, kernel, rounding = running(name), KERNELS[op], Rounding(dtype)
    sizes, described = data.draw(inputs(kernel))
    s, host, moved, tame = SimpleNamespace(**sizes), {}, [], True
    for argument, (shape, (seed, magnitude, zeros, layout)) in described.items():
        rng = np.random.default_rng(seed)
        values = rng.standard_normal(shape) * (rng.random(shape) >= zeros)
        values = (values * MAGNITUDES[magnitude](np.finfo(dtype))).astype(dtype)
        host[argument] = np.abs(values) if argument == "v" or op.endswith("rows") else values
        moved.append(layout(backend.asarray(host[argument], dtype)))
        tame = tame and magnitude in ("1", "0.1", "30")
    with np.errstate(all="ignore"):
        found = kernel.call(backend.ops, s, *moved)
        exact = {argument: a.astype(rounding.higher) for argument, a in host.items()}
        expected = kernel.call(generic, s, *exact.values())
        errors = kernel.errors(rounding, s, kernel.call, exact)
        for i, (a, b, error) in enumerate(zip(found, expected, errors, strict=True)):
            a = backend.to_numpy(a)
            assert a.shape == b.shape == error.shape
            assert a.dtype == dtype
            claimed = error < np.inf
            assert claimed.all() or not tame
            off = np.abs(a.astype(rounding.higher) - b)
            assert np.all((off <= error)[claimed]), (i, np.max((off / error)[claimed]))
    for argument, array in zip(host, moved, strict=True):
        np.testing.assert_array_equal(backend.to_numpy(array), host[argument], err_msg=argument)


def test_kernels_at_the_ends_of_the_range(backend, dtype):
    """Huge and subnormal numbers, 0, infinity: like the definition, and without a warning."""
    info = np.finfo(dtype)
    values = [
        0.0,
        info.smallest_subnormal,
        info.tiny,
        1e-7,
        60.0,
        87.5,
        88.5,
        104.0,
        800.0,
        1e30,
        info.max,
    ]
    x = np.array([s * float(v) for v in values for s in (1.0, -1.0)]).astype(dtype)
    found = [backend.to_numpy(a) for a in backend.ops.silu(backend.asarray(x, dtype))]
    rounding = Rounding(dtype)
    exact = x.astype(rounding.higher)
    with np.errstate(all="ignore"):
        errors = rounding.silu(exact)
    for a, b, error in zip(found, generic.silu(exact), errors, strict=True):
        assert np.all(np.abs(a - b) <= error)

    arrays = [x, x[::-1].copy(), np.abs(x)]
    with np.errstate(all="ignore"):  # the square of the largest number is infinite
        expected = generic.adam(arrays[0], arrays[1], 0 * x, arrays[2], 1e-3, 0.9, 0.999, 1e-8, 0.0, 1)
    moved = [backend.asarray(a, dtype) for a in (arrays[0], arrays[1], 0 * x, arrays[2])]
    for a, b in zip(backend.ops.adam(*moved, 1e-3, 0.9, 0.999, 1e-8, 0.0, 1), expected, strict=True):
        np.testing.assert_allclose(backend.to_numpy(a), b, rtol=8 * info.eps, atol=float(info.tiny))


def test_exponential_is_good_everywhere(backend):
    """2 ulp of the exponential and two or three roundings, at a quarter of a million points."""
    x = np.linspace(-87.0, 88.0, 1 << 18, dtype=np.float32)
    y, slope = (backend.to_numpy(a) for a in backend.ops.silu(backend.asarray(x, "float32")))
    exact = x.astype(np.float64)
    (exact_y, exact_slope), rounding = generic.silu(exact), Rounding("float32")
    assert np.max(np.abs(y - exact_y) / np.abs(exact_y)) < 3.5 * rounding.eps
    assert np.all(np.abs(slope - exact_slope) <= rounding.silu(exact)[1])


@pytest.mark.parametrize("op", KERNELS)
def test_kernels_hand_on_nan(backend, dtype, op):
    """To where the definition hands it, and no further."""
    reached = set()
    for argument in example(op):
        if op.startswith("conv2d") and argument == "weight":
            continue  # it meets the zeros around the image, as many of them as there are
        arrays = example(op)
        arrays[argument].flat[1] = np.nan
        expected = call(op, generic, arrays)
        found = call(op, backend.ops, {name: backend.asarray(a, dtype) for name, a in arrays.items()})
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(np.isnan(backend.to_numpy(a)), np.isnan(b), err_msg=argument)
            reached |= {argument} if np.any(np.isnan(b)) else set()
    constant = {"shift", "out_bias"} if op.endswith("backward") else set()
    assert reached >= set(example(op)) - constant - {"weight"}


def test_kernels_keep_odd_shapes_and_leave_their_input(backend):
    for shape in ((1,), (0,), (2, 0), (2, 3, 4)):
        host = np.random.default_rng(0).standard_normal(shape)
        x = backend.asarray(host, "float64")
        y, slope = backend.ops.silu(x)
        others = [backend.ops.ema(x, y, 0.5)]
        others += backend.ops.adam(x, x, x, slope * slope, 0.1, 0.9, 0.999, 1e-8, 0.0, 1)
        assert {a.shape for a in (x, y, slope, *others)} == {shape}
        np.testing.assert_array_equal(backend.to_numpy(x), host)


def test_numba_takes_read_only_arrays():
    backend = running("numba")
    x = np.array([1.0, -2.0], dtype=np.float32)
    y, _ = backend.ops.silu(x)
    x.flags.writeable = False
    np.testing.assert_array_equal(backend.ops.silu(x)[0], y)


# --- signatures, and what kernels refuse


def test_ops_stay_few():
    """About a dozen."""
    assert len(NAMES) <= 14


@pytest.mark.parametrize("name", ["numpy", *FUSED])
def test_kernels_have_the_signatures_of_the_definitions(name):
    module = module_of(name)
    kernels = {op: getattr(module, op) for op in NAMES if hasattr(module, op)}
    assert name == "numpy" or {"silu", "adam", "ema"} <= set(kernels)
    for op, kernel in kernels.items():
        expected = inspect.signature(getattr(generic, op)).parameters
        assert list(inspect.signature(kernel).parameters) == list(expected), op


def test_a_backend_brings_its_kernels(backend):
    module = module_of(backend.name)
    for op in NAMES:
        assert getattr(backend.ops, op) is getattr(module, op, getattr(generic.GENERIC, op)), op


FOREIGN = {
    "list": lambda: [1.0, 2.0],
    "number": lambda: 1.0,
    "none": lambda: None,
    "integers": lambda: np.array([1, 2]),
    "float16": lambda: np.ones(2, np.float16),
    "complex": lambda: np.ones(2, np.complex128),
    "other_byte_order": lambda: np.ones(2, ">f8"),
    "masked": lambda: np.ma.ones(2),
    "strict": lambda: pytest.importorskip("array_api_strict").ones(2),
    "torch": lambda: pytest.importorskip("torch").ones(2, dtype=pytest.importorskip("torch").float64),
}


@pytest.mark.parametrize("name", FUSED)
@pytest.mark.parametrize("foreign", FOREIGN)
def test_kernels_refuse_foreign_arrays(name, foreign):
    """By the argument's name. CuPy's refusals need no GPU if the foreign array comes first."""
    module, value = module_of(name), FOREIGN[foreign]()
    for op in NAMES:
        if not hasattr(module, op) or op not in KERNELS:
            continue
        if name == "cupy" and op in ("residual_mlp_backward", "group_norm_backward"):
            continue  # what they are called with, forward must have made; see test_cupy_kernels
        arrays = example(op)
        for argument in list(arrays)[: None if name == "numba" else 1]:
            with pytest.raises(
                TypeError, match=f"^{argument} must be a .* array of float32 or float64, got"
            ):
                call(op, module, arrays | {argument: value})


def test_numpy_arrays_are_foreign_to_cupy():
    with pytest.raises(TypeError, match=r"x must be a CuPy array .* got numpy array of shape \(2,\)"):
        module_of("cupy").silu(np.ones(2))


@pytest.mark.parametrize("op", ["squared_error", "adam", "ema"])
def test_elementwise_kernels_refuse_arrays_that_do_not_agree(backend, dtype, op):
    """They check no bounds, and do not broadcast."""
    if not hasattr(module_of(backend.name), op):
        pytest.skip(f"{backend.name} has the definition of {op}")
    arrays = {name: backend.asarray(a, dtype) for name, a in example(op).items()}
    for argument in list(arrays)[1:]:
        for shape in ((2, 3), (1, 2), (2, 1), (2,), (2, 2, 1)):
            with pytest.raises(ValueError, match=f"^{argument} must have (the )?shape"):
                call(op, backend.ops, arrays | {argument: backend.asarray(np.ones(shape), dtype)})


@pytest.mark.parametrize("op", [op for op in KERNELS if op != "squared_error of rows"])
def test_kernels_refuse_arrays_that_do_not_agree(backend, op):
    """Or they do as the definition does, which also takes another number of rows, say.

    In float32, where all kernels are: they check no bounds.
    """
    if not hasattr(module_of(backend.name), op):
        pytest.skip(f"{backend.name} has the definition of {op}")
    arrays = {name: backend.asarray(a, "float32") for name, a in example(op).items()}
    message = r"^\w+ must have (the )?(shape|dtype)|^params of shapes .* do not go with"
    for argument, array in arrays.items():
        for axis in range(len(array.shape)):
            for size in (1, array.shape[axis] + 1):
                shape = (*array.shape[:axis], size, *array.shape[axis + 1 :])
                other = np.random.default_rng(1).uniform(0.5, 1.5, shape)
                moved = arrays | {argument: backend.asarray(other, "float32")}
                try:
                    expected = call(op, generic, example(op) | {argument: other})
                    found = call(op, backend.ops, moved)
                except (ValueError, IndexError):
                    with pytest.raises(ValueError, match=message):
                        call(op, backend.ops, moved)
                    continue
                for a, b in zip(found, expected, strict=True):
                    np.testing.assert_allclose(backend.to_numpy(a), b, rtol=1e-4)
        if len(arrays) > 1:
            with pytest.raises(ValueError, match=message):
                call(op, backend.ops, arrays | {argument: backend.asarray(array, "float64")})


@pytest.mark.parametrize("weight", [[1.0, 2.0], None, np.ones((2, 1), int)])
def test_squared_error_refuses_foreign_weights(weight):
    numba = running("numba")
    with pytest.raises(TypeError, match=r"^weight must be"):
        numba.ops.squared_error(np.ones((2, 1)), np.ones((2, 1)), weight)


# --- gradients with fused kernels


def test_numba_silu_passes_the_gradient_check():
    numba = running("numba")
    x = 3.0 * np.random.default_rng(0).standard_normal((5, 4))
    check_gradients(
        lambda params, x, ops: ops.silu(x),
        lambda params, cache, dy, ops: (generic.silu_backward(dy, cache), ()),
        (),
        x,
        ops=numba.ops,
    )


def test_numba_denoiser_passes_the_gradient_check():
    numba = running("numba")
    network, t = MLPDenoiser(2, 10, 5, 2, 4), np.array([1, 10, 4])
    params = randomised(network.init(np.random.default_rng(0)))
    x = np.random.default_rng(1).standard_normal((3, 2))
    check_gradients(
        lambda params, x, ops: network.forward(params, x, t, ops),
        network.backward,
        params,
        x,
        ops=numba.ops,
    )


def losses(backend, dtype, steps):
    schedule = scaled_linear_schedule(50)
    recipe = Recipe(schedule, MLPDenoiser(2, 50, 16, 2, 8), Adam(constant_rate(1e-3)), max_grad_norm=1.0)
    data, seen = swiss_roll(500, 0).astype(dtype), []

    def asarray(values):
        return backend.asarray(values, dtype)

    def draw(step):
        x0, t, noise = draw_batch(data, 50, 32, 0, step)
        return asarray(x0), t, asarray(noise)

    train(
        recipe,
        init_state(recipe, 0, asarray),
        draw,
        backend.ops,
        steps=steps,
        report=lambda step, loss: seen.append(loss),
        report_every=1,
    )
    return np.array(seen)


def test_backends_train_alike(backend):
    """200 steps in float64: roundings of 1e-16 a step are not amplified beyond 1e-9."""
    reference = losses(get_backend("numpy"), "float64", 200)
    assert np.mean(reference[-20:]) < 0.8 * np.mean(reference[:20])
    np.testing.assert_allclose(losses(backend, "float64", 200), reference, rtol=1e-9)


# --- choosing a backend


def assert_advises(error, advice):
    message = str(error)
    assert advice in message
    assert "\n" not in message
    assert message.startswith("backend ")


@pytest.mark.parametrize("name", ["gpu", "", "NumPy", "torch"])
def test_unknown_name(name):
    with pytest.raises(ValueError, match="backend must be one of 'auto', 'cupy', 'numba', 'numpy'"):
        get_backend(name)


def test_cupy_without_a_gpu_gives_advice():
    cupy = pytest.importorskip("cupy")
    if cupy.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(BackendError) as caught:
        get_backend("cupy")
    assert_advises(caught.value, "nvidia-smi")


@pytest.mark.parametrize("exists", [False, True], ids=["broken", "wrong"])
def test_cupy_with_a_gpu_that_does_not_work(monkeypatch, exists):
    """is_available() only counts devices; a kernel that fails or computes nonsense decides."""
    module = module_of("cupy")

    def smoke(x):
        if not exists:
            raise RuntimeError("CUDA_ERROR_NO_BINARY_FOR_GPU:\nno kernel image")
        return np.zeros(1), None

    class Runtime:
        getDeviceProperties = staticmethod(lambda device: {"name": b"Broken GPU"})

    monkeypatch.setattr(module.cupy, "is_available", lambda: True)
    monkeypatch.setattr(module.cupy, "ones", np.ones)
    monkeypatch.setattr(module.cupy.cuda, "runtime", Runtime)
    monkeypatch.setattr(module.cupy.cuda, "Device", lambda: type("D", (), {"id": 0}))
    monkeypatch.setattr(module, "silu", smoke)
    with pytest.raises(
        BackendError, match="wrong result" if exists else "RuntimeError: CUDA_ERROR"
    ) as caught:
        module.make()
    assert_advises(caught.value, "--backend numba or numpy")
    assert get_backend("auto").name != "cupy"


def runs(name):
    try:
        get_backend(name)
    except BackendError:
        return False
    return True


@pytest.mark.parametrize("missing", [(), ("cupy",), ("numba",), ("numba", "cupy")], ids="+".join)
def test_missing_packages(missing):
    """Without a package its backend says how to install it, and "auto" takes the next."""
    text = run_python(
        f"""
        import json, sys, warnings
        class Missing:
            def find_spec(self, name, *_):
                if name in {missing!r}:
                    raise ModuleNotFoundError(f"No module named {{name!r}}")
        sys.meta_path.insert(0, Missing())
        warnings.simplefilter("default")  # of the packages' own
        from backends import BackendError, describe_backend, get_backend
        backend, errors = get_backend("auto"), {{}}
        for name in {missing!r}:
            try:
                get_backend(name)
            except BackendError as error:
                errors[name] = str(error)
        print(json.dumps([backend.name, describe_backend("auto", backend), errors]))
        """
    )
    name, line, errors = json.loads(text)
    assert name == next(n for n in ("cupy", "numba", "numpy") if n not in missing and runs(n))
    assert line.startswith(f"backend: {name} on ")
    assert ("(auto: backend cupy cannot run: " in line) == (name != "cupy")
    assert sorted(errors) == sorted(missing)
    for package, message in errors.items():
        assert message.startswith(f"backend {package} cannot run: ")
        assert "\n" not in message
        assert 'pip install -e ".[' + {"numba": "numba", "cupy": "cuda12"}[package] + ']"' in message
        assert name == "cupy" or message in line


def test_description_of_a_named_backend():
    backend = get_backend("numpy")
    assert describe_backend("numpy", backend) == "backend: numpy on cpu"


def test_the_mathematics_imports_no_backend():
    """Nor matplotlib, but for the modules that draw."""
    text = run_python(
        """
        import importlib, pkgutil, sys
        import ddpm_np
        names = [m.name for m in pkgutil.walk_packages(ddpm_np.__path__, "ddpm_np.")]
        for name in names:
            if not name.endswith(("plotting", "_figures", "_plots", ".__main__")):
                importlib.import_module(name)
        print(len(names), *{"matplotlib"} & set(sys.modules))
        importlib.import_module("ddpm_np.plotting")
        print(*{"backends", "numba", "cupy", "torch"} & set(sys.modules))
        """
    )
    count, *others = text.split()
    assert int(count) > 20
    assert others == []


# --- arrays and noise


@pytest.mark.parametrize("name", ["numpy", *FUSED])
def test_asarray(name, dtype):
    backend = running(name)
    host = np.arange(12.0).reshape(3, 4).T
    for values in (host, host.tolist(), host.astype(np.float32), backend.asarray(host, dtype)):
        array = backend.asarray(values, dtype)
        np.testing.assert_array_equal(backend.to_numpy(array), host)
        assert backend.to_numpy(array).dtype == dtype
        assert array.flags.c_contiguous
    assert backend.asarray(np.array(2.0), dtype).shape == ()
    for foreign in ("strict", "torch"):
        try:
            value = FOREIGN[foreign]()
        except pytest.skip.Exception:
            continue
        with pytest.raises(TypeError, match="copy it to the host first"):
            backend.asarray(value, dtype)


@pytest.mark.parametrize("name", ["numpy", *FUSED])
def test_normal_is_a_pure_function_of_its_key(name, dtype):
    backend = running(name)

    def draw(*key):
        array = backend.normal(key, (4, 3), dtype)
        assert array.shape == (4, 3)
        return backend.to_numpy(array)

    first = draw(0, 1, 2)
    assert first.dtype == dtype
    others = [draw(*key) for key in ((0, 1, 3), (0, 2, 2), (1, 1, 2), (0, 1), (0, 1, 2, 1))]
    np.testing.assert_array_equal(draw(0, 1, 2), first)
    assert not any(np.any(other == first) for other in others)
    np.testing.assert_array_equal(get_backend("numpy").normal((0, 1, 2), (4, 3), dtype), first)
