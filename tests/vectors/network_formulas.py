"""Networks in 40 digits, each as its formula; their gradients come from :mod:`.calculus` alone.

Arrays are NumPy's, of mpmath's numbers; images have their channels last. A function whose inputs hold
dy returns the derivatives of sum(dy * y) beside y: ``dx``, and ``d`` with the name of each parameter.
"""

from typing import Any

import mpmath
import numpy as np

from tests.vectors.calculus import Traced, exp, gradients
from tests.vectors.tolerances import midway

_sin, _cos = np.frompyfunc(mpmath.sin, 1, 1), np.frompyfunc(mpmath.cos, 1, 1)
Outputs = dict[str, Any]
Params = dict[str, Traced]


def time_embedding(T: Any, size: int, t: Any) -> Outputs:
    """Sines of all frequencies, then their cosines."""
    return {"embedding": embedding(T, size, t)}


def embedding(T: Any, size: int, t: Any) -> Any:
    """The rows at times t, shape (B, size)."""
    half = size // 2
    angles = [
        [
            mpmath.mpf(1000) * int(time) / T / mpmath.mpf(10000) ** (mpmath.mpf(i) / half)
            for i in range(half)
        ]
        for time in t
    ]
    rows = midway(np.array(angles))
    return np.concatenate([midway(_sin(rows)), midway(_cos(rows))], axis=1)


def silu(x: Any) -> Outputs:
    """Its values and its derivatives."""
    inputs = {"x": Traced(x)}
    y = _silu(inputs["x"])
    slope = gradients(y, np.ones_like(y.value), inputs)["dx"]
    return {"y": y.value, "slope": slope}


def linear_backward(x: Any, weight: Any, bias: Any, dy: Any) -> Outputs:
    """An affine map of rows."""
    w = _traced({"x": x, "weight": weight, "bias": bias})
    return _with_gradients(w["x"] @ w["weight"] + w["bias"], dy, w)


def conv2d(x: Any, weight: Any, bias: Any, dy: Any) -> Outputs:
    """A convolution, zeros around the image."""
    w = _traced({"x": x, "weight": weight, "bias": bias})
    return _with_gradients(_conv(w["x"], w["weight"], w["bias"]), dy, w)


def group_norm(x: Any, gain: Any, shift: Any, groups: int, epsilon: Any, dy: Any) -> Outputs:
    """Each group of each image brought to mean 0 and variance 1, then scaled and shifted."""
    w = _traced({"x": x, "gain": gain, "shift": shift})
    return _with_gradients(_normal(w["x"], groups, epsilon) * w["gain"] + w["shift"], dy, w)


def attention(x: Any, weights: Any, heads: int, groups: int, dy: Any) -> Outputs:
    """Every pixel looks at every pixel of its image."""
    w = _traced({"x": x, **weights})
    return _with_gradients(_attention(w["x"], w, "", heads, groups), dy, w)


def mlp_forward(T: Any, weights: Any, x_t: Any, t: Any) -> Outputs:
    """The prediction of the residual perceptron."""
    return {"prediction": _mlp(Traced(x_t), T, t, _traced(weights)).value}


def mlp_loss_gradient(T: Any, weights: Any, x_t: Any, t: Any, truth: Any, loss_weight: Any) -> Outputs:
    """The mean over all B d entries of the weighted squared error, and its gradient."""
    w = _traced(weights)
    error = _mlp(Traced(x_t), T, t, w) - truth
    squares = np.asarray(loss_weight, dtype=object)[:, None] * error**2
    loss = squares.sum(0, 1) / mpmath.mpf(error.value.size)
    return {"loss": loss.value[0, 0], **gradients(loss, [[1]], w)}


def unet(T: Any, config: Any, weights: Any, x_t: Any, t: Any, dy: Any, labels: Any = None) -> Outputs:
    """Down to lower resolutions and back, at each level as many blocks down as up."""
    w = _traced({"x": x_t, **weights})
    z = Traced(embedding(T, config["embedding_size"], t))
    z = z @ w["embedding/time/0/weight"] + w["embedding/time/0/bias"]
    z = _silu(z) @ w["embedding/time/2/weight"] + w["embedding/time/2/bias"]
    z = _silu(z + w["embedding/classes"][labels] if config["classes"] else z)
    h = _conv(w["x"], w["entry/weight"], w["entry/bias"])
    h = _level(h, z, w, "trunk/", config, 0)
    h = _silu(_normal(h, config["groups"]) * w["exit/0/gain"] + w["exit/0/shift"])
    y = _conv(h, w["exit/2/weight"], w["exit/2/bias"])
    return {"prediction": y.value, **gradients(y, dy, w)}


def _level(h: Traced, z: Traced, w: Params, at: str, config: Any, first: int, level: int = 0) -> Traced:
    """Blocks, what is below, blocks; ``first`` is the number of the first part in the names."""
    n, last_level = config["blocks"], len(config["multipliers"]) - 1
    for i in range(n):
        h = _block(h, z, w, f"{at}{first + i}/", config["groups"])
    first += n
    if level < last_level:
        below = f"{at}{first}/"
        batch, rows, columns, channels = h.value.shape
        squares = h.reshape(batch, rows // 2, 2, columns // 2, 2, channels)
        small = squares.sum(2, 4).reshape(batch, rows // 2, columns // 2, channels) * mpmath.mpf("0.25")
        # part 0 of what is below is the pooling, which has no parameters
        low = _level(small, z, w, below, config, 1, level + 1)
        parts = 1 + 2 * n + (level + 1 < last_level or config["heads"] > 0)
        low = low @ w[f"{below}{parts}/0/weight"][0, 0] + w[f"{below}{parts}/0/bias"]
        h = h + low[:, np.arange(rows)[:, None] // 2, np.arange(columns) // 2]
        first += 1
    elif config["heads"]:
        h = h + _attention(h, w, f"{at}{first}/", config["heads"], config["groups"])
        first += 1
    for i in range(n):
        h = _block(h, z, w, f"{at}{first + i}/", config["groups"])
    return h


def _block(h: Traced, z: Traced, w: Params, at: str, groups: int) -> Traced:
    """A residual block of two convolutions; between them the embedding scales and shifts."""
    y = _silu(_normal(h, groups) * w[at + "first/0/gain"] + w[at + "first/0/shift"])
    y = _conv(y, w[at + "first/2/weight"], w[at + "first/2/bias"])
    n = y.value.shape[-1]
    both = (z @ w[at + "modulation/weight"] + w[at + "modulation/bias"]).reshape(-1, 1, 1, 2 * n)
    y = _silu(_normal(y, groups) * (both[..., :n] + 1) + both[..., n:])
    y = _conv(y, w[at + "last/1/weight"], w[at + "last/1/bias"])
    if at + "skip/0/weight" in w:
        h = _conv(h, w[at + "skip/0/weight"], w[at + "skip/0/bias"])
    return h + y


def _mlp(x: Traced, T: Any, t: Any, w: Params) -> Traced:
    """The residual perceptron."""
    rows = embedding(T, w["time_weight"].value.shape[0], t)
    h = _silu(x @ w["weight"] + Traced(rows) @ w["time_weight"] + w["bias"])
    for layer in range(w["hidden_weight"].value.shape[0]):
        h = h + _silu(h @ w["hidden_weight"][layer] + w["hidden_bias"][layer])
    return h @ w["out_weight"] + w["out_bias"]


def _silu(x: Traced) -> Traced:
    return x / (exp(-x) + 1)


def _conv(x: Traced, weight: Traced, bias: Traced) -> Traced:
    """Every pixel's neighbourhood in one row, times all weights; 0 where it leaves the image."""
    k, n = weight.value.shape[0], weight.value.shape[2]
    batch, height, width, _ = x.value.shape
    offset = np.arange(k) - k // 2
    rows = (np.arange(height)[:, None] + offset)[:, None, :, None]
    columns = (np.arange(width)[:, None] + offset)[None, :, None, :]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    near = x[:, rows.clip(0, height - 1), columns.clip(0, width - 1)]
    patches = near * inside[..., None].astype(int).astype(object)
    flat = patches.reshape(batch, height, width, k * k * n)
    return flat @ weight.reshape(k * k * n, -1) + bias


def _normal(x: Traced, groups: int, epsilon: Any = 1e-5) -> Traced:
    """Each group of adjacent channels of each image, with mean 0 and variance 1."""
    shape = x.value.shape
    grouped = x.reshape(shape[0], -1, groups, shape[-1] // groups)
    count = mpmath.mpf(grouped.value.shape[1] * grouped.value.shape[3])
    centred = grouped - grouped.sum(1, 3) / count
    variance = (centred**2).sum(1, 3) / count
    root = (variance + mpmath.mpf(epsilon)) ** mpmath.mpf("0.5")
    return (centred / root).reshape(*shape)


def _attention(x: Traced, w: Params, at: str, heads: int, groups: int) -> Traced:
    """Softmax of the products of queries and keys, as weights of the values; head by head."""
    batch, height, width, n = x.value.shape
    h = _normal(x, groups) * w[at + "norm/gain"] + w[at + "norm/shift"]
    h = h.reshape(batch, height * width, n) @ w[at + "entry/weight"] + w[at + "entry/bias"]
    size = n // heads
    looked = []
    for head in range(heads):
        query, key, value = (
            h[:, :, part * n + head * size : part * n + (head + 1) * size] for part in range(3)
        )
        likeness = exp(query @ key.transpose(0, 2, 1) / mpmath.sqrt(size))
        looked.append(likeness / likeness.sum(2) @ value)
    rows = sum(
        one @ w[at + "exit/weight"][head * size : (head + 1) * size] for head, one in enumerate(looked)
    )
    return (rows + w[at + "exit/bias"]).reshape(batch, height, width, n)


def _traced(arrays: Any) -> Params:
    return {name: Traced(array) for name, array in arrays.items()}


def _with_gradients(y: Traced, dy: Any, inputs: Params) -> Outputs:
    return {"y": y.value, **gradients(y, dy, inputs)}
