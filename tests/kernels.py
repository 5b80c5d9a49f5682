"""The operations of a backend as tests call them: arguments to draw, and how far off results may be.

Every operation of every backend against its definition in the next higher precision. A kernel may
add in another order, contract a product and a sum into one rounding, and use another exponential,
good to 2 ulp. So it agrees to some roundings of the terms that are added. Where these are
products of the arguments, the definition of absolute values is the sum of their sizes.
"""

import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from ddpm_np.nn import MLPParams, image_ops
from ddpm_np.nn import ops as generic


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
    grouped = image_ops._grouped(x, s.groups)
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
    dnormal = image_ops._grouped(gain[:, None] * dy, s.groups)
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
