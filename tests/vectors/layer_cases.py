"""Cases of the parts that networks are made of: inputs, what they catch, and a note."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.vectors.cases import Draft
from tests.vectors.draws import draw, f32
from tests.vectors.weights import attention_weights

Found = Iterator[Draft]
USUAL_EPSILON = f32(1e-5)


def time_embedding() -> Found:
    """Every T and size, first and last times, and times between."""
    order, scale = ["embedding-order"], ["embedding-scale"]
    yield {"T": 1000, "size": 4, "t": [1, 2, 3]}, order, "all sines first, then all cosines"
    yield {"T": 1000, "size": 8, "t": [1, 500, 1000]}, order, "sines and cosines do not alternate"
    yield {"T": 1000, "size": 2, "t": [1, 7]}, ["embedding-frequency"], "one frequency: k = 1, f_1 = 1"
    yield {"T": 1, "size": 4, "t": [1]}, scale, "T = 1: t' = 1000"
    yield {"T": 2, "size": 4, "t": [1, 2]}, scale, "t' is 500 and 1000, not 1 and 2"
    yield {"T": 10, "size": 4, "t": [1, 5, 10]}, scale, "t' = 100 t"
    yield {"T": 50, "size": 6, "t": [1, 25, 50]}, scale, "t' = 20 t"
    yield {"T": 64, "size": 8, "t": [3, 17, 64]}, [*scale, "off-by-one"], "1000 / T is no integer"
    yield {"T": 100, "size": 16, "t": [1, 100]}, ["off-by-one"], "t from 1: t' = 10 at t = 1, not 0"
    yield {"T": 400, "size": 10, "t": [399, 400]}, ["off-by-one"], "the last times: t' = 1000 at T"
    yield {"T": 4000, "size": 4, "t": [1, 2000, 4000]}, scale, "t' = t / 4"
    yield {"T": 10000, "size": 8, "t": [1, 9999]}, scale, "t' = t / 10"
    frequency = ["embedding-frequency"]
    yield {"T": 1000, "size": 6, "t": [10, 20]}, frequency, "(i - 1) / k with k = 3: not / (k - 1)"
    yield {"T": 1000, "size": 12, "t": [600]}, frequency, "the lowest frequency is not 1 / 10000"
    yield {"T": 1000, "size": 32, "t": [250, 251]}, frequency, "16 frequencies, none of them repeated"
    yield (
        {"T": 3, "size": 4, "t": [3, 1, 3, 2]},
        ["order"],
        "rows in the order of t, repeated where it is",
    )


def silu() -> Found:
    """Small, large, and where the slope has its zero."""
    yield {"x": [0.0, 1.0, -1.0]}, ["sign"], "y(0) = 0 and slope 1/2; not odd"
    yield {"x": [0.5, 2.0, 4.0, 8.0]}, ["slope"], "the slope is gate + y (1 - gate), above 1 at x = 4"
    yield {"x": [-0.5, -2.0, -4.0, -8.0]}, ["slope"], "the slope is negative at x = -2"
    yield (
        {"x": [-1.25, -1.28125, -1.3125]},
        ["slope"],
        "around the minimum, where the slope changes sign",
    )
    yield {"x": [20.0, 40.0, 80.0]}, ["overflow"], "y = x to the last digit"
    yield {"x": [-20.0, -40.0, -80.0]}, ["overflow"], "small but not 0: exp(x) kept, 1 - gate not taken"
    yield {"x": [1000.0, -1000.0]}, ["overflow"], "exp(1000) overflows; y = 1000 and 0, never NaN"
    yield {"x": [0.0009765625, -0.0009765625]}, ["epsilon"], "close to 0: y = x / 2"
    yield {"x": draw("silu", 3, 4)}, [], "an array of two axes"


def linear_backward() -> Found:
    """Rectangles, squares, one row, one column, no bias."""

    def case(seed: str, rows: int, n: int, m: int, **own: Any) -> dict[str, Any]:
        shapes = {"x": (rows, n), "weight": (n, m), "bias": (m,), "dy": (rows, m)}
        return {name: draw(f"linear {seed} {name}", *shape) for name, shape in shapes.items()} | own

    yield case("a", 1, 2, 3), ["transposed"], "weight has shape (inputs, outputs)"
    yield (
        case("b", 3, 2, 2),
        ["transposed"],
        "a square weight: a transposed one still has the right shape",
    )
    yield case("c", 4, 3, 3), ["transposed"], "square, four rows"
    yield case("d", 5, 2, 1), ["mean-for-sum"], "dbias adds up the rows; it does not average them"
    yield (
        case("e", 2, 4, 3, bias=[0.0] * 3),
        ["missing-bias"],
        "bias 0: only dbias shows that there is one",
    )
    yield case("f", 2, 1, 3, x=[[0.0], [0.0]]), ["missing-bias"], "x = 0: y is the bias in each row"
    yield case("g", 8, 1, 1), ["mean-for-sum"], "dweight adds up the rows, too"
    own = {"dy": [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]}
    yield case("h", 2, 3, 3, **own), ["transposed"], "dy picks rows of the transposed weight into dx"
    yield case("i", 3, 4, 2, weight=draw("linear i", 4, 2, scale=64.0)), [], "large weights"
    yield case("j", 16, 2, 4), ["mean-for-sum"], "sixteen rows"


def conv2d() -> Found:
    """Kernels of 1, 3 and 5, up to images smaller than the kernel."""

    def case(
        seed: str, shape: tuple[int, int, int], k: int, n: int, m: int, **own: Any
    ) -> dict[str, Any]:
        shapes = {"x": (*shape, n), "weight": (k, k, n, m), "bias": (m,), "dy": (*shape, m)}
        return {name: draw(f"conv {seed} {name}", *s) for name, s in shapes.items()} | own

    yield case("a", (1, 4, 4), 3, 1, 1), ["flipped"], "a correlation: the kernel is not turned over"
    yield case("b", (1, 4, 4), 3, 2, 2), ["transposed"], "inputs before outputs, square"
    yield case("c", (2, 3, 3), 3, 2, 3), ["mean-for-sum"], "dweight and dbias add up images and pixels"
    yield case("d", (1, 2, 4), 3, 1, 2), ["order"], "2 rows and 4 columns: not to be swapped"
    yield case("e", (1, 4, 2), 3, 2, 1), ["order"], "4 rows and 2 columns"
    yield case("f", (2, 2, 2), 1, 3, 2), ["transposed"], "1 x 1: a linear map of each pixel"
    yield case("g", (1, 4, 4), 5, 1, 1), ["padding"], "5 x 5: two rows of zeros around the image"
    yield case("h", (1, 1, 1), 3, 2, 2), ["padding"], "one pixel: only the middle of the kernel counts"
    middle = np.zeros((1, 4, 4, 1))
    middle[0, 1, 2, 0] = 1.0
    yield case("i", (1, 4, 4), 3, 1, 1, x=middle), ["flipped"], "one pixel lit: y shows the kernel"
    yield case("j", (1, 4, 4), 3, 1, 1, dy=middle), ["flipped"], "one pixel asked: dx shows the kernel"
    corner = np.zeros((1, 3, 3, 1))
    corner[0, 0, 0, 0] = 1.0
    yield case("k", (1, 3, 3), 3, 1, 1, x=corner), ["padding"], "a corner lit: nothing wraps around"
    yield case("l", (2, 3, 2), 3, 3, 1, bias=[0.0]), ["missing-bias"], "bias 0, with a gradient"


def group_norm() -> Found:
    """One group, many groups, several images, epsilons that matter."""

    def case(
        seed: str, shape: tuple[int, ...], groups: int, epsilon: float = USUAL_EPSILON, **own: Any
    ) -> dict[str, Any]:
        shapes = {"x": shape, "gain": shape[-1:], "shift": shape[-1:], "dy": shape}
        drawn = {name: draw(f"norm {seed} {name}", *s) for name, s in shapes.items()} | own
        dy = drawn.pop("dy")
        return drawn | {"groups": groups, "epsilon": epsilon, "dy": dy}

    yield case("a", (1, 2, 2, 2), 1), ["order"], "one group: mean over pixels and channels"
    yield case("b", (1, 2, 2, 2), 2), ["order"], "one channel a group: mean over pixels"
    yield (
        case("c", (2, 2, 2, 4), 2),
        ["group-order"],
        "adjacent channels share a group: 0 and 1, 2 and 3",
    )
    yield case("d", (1, 2, 3, 6), 3), ["group-order"], "three groups of two"
    yield case("e", (3, 2, 2, 2), 1), ["batch"], "each image by itself: the mean is not the batch's"
    yield case("f", (1, 1, 2, 2), 1), ["unbiased-variance"], "four numbers: divided by 4, not by 3"
    outside = ["epsilon"]
    yield case("g", (1, 2, 2, 2), 1, 0.5), outside, "epsilon = 1/2, inside the root"
    yield case("h", (2, 2, 2, 4), 2, 1.0), outside, "epsilon = 1, inside the root"
    small = draw("norm i", 1, 2, 2, 2, scale=2.0**-8)
    yield case("i", (1, 2, 2, 2), 1, x=small), outside, "a variance of about epsilon"
    yield (
        case("j", (1, 2, 2, 2), 1, x=np.full((1, 2, 2, 2), 0.75)),
        outside,
        "variance 0: y is the shift",
    )
    moved = 8 + draw("norm k", 1, 2, 2, 2)
    yield case("k", (1, 2, 2, 2), 1, x=moved), ["cancellation"], "a mean of 8 beside a deviation of 1"
    far = 4 + draw("norm l", 1, 2, 2, 4, scale=0.25)
    yield case("l", (1, 2, 2, 4), 2, x=far), ["cancellation"], "a mean of 4 beside a deviation of 1/4"
    yield (
        case("m", (2, 2, 2, 2), 1, gain=[0.0, 1.0]),
        ["swapped"],
        "gain 0 in one channel: only its shift",
    )
    yield case("n", (4, 3, 2), 1), ["mean-for-sum"], "one axis of pixels; dgain and dshift add up images"


def attention() -> Found:
    """Heads, groups, several images, scores from flat to sharp."""

    def case(
        seed: str, shape: tuple[int, int, int, int], heads: int, groups: int, **own: Any
    ) -> dict[str, Any]:
        weights = attention_weights(f"attention {seed}", shape[-1]) | own
        x, dy = (draw(f"attention {seed} {name}", *shape) for name in ("x", "dy"))
        return {"x": x, "weights": weights, "heads": heads, "groups": groups, "dy": dy}

    yield case("a", (1, 2, 2, 2), 1, 1), ["scale"], "one head: scores over the root of 2 channels"
    yield case("b", (1, 2, 2, 4), 2, 1), ["scale"], "two heads of 2: over the root of 2, not of 4"
    yield case("c", (1, 2, 2, 4), 4, 2), ["scale"], "heads of one channel: scores stay as they are"
    yield case("d", (1, 2, 2, 4), 1, 2), ["scale"], "one head of 4: over 2"
    yield case("e", (2, 1, 3, 2), 1, 1), ["batch"], "two images that do not see each other"
    yield (
        case("f", (1, 1, 1, 4), 1, 1),
        ["softmax"],
        "one pixel: its weight is 1, y is linear in the value",
    )
    yield (
        case("g", (1, 3, 2, 4), 2, 2),
        ["head-order"],
        "a head is adjacent channels of each of the three",
    )
    sharp = {"entry/weight": draw("attention h", 2, 6, scale=4.0)}
    yield case("h", (1, 2, 2, 2), 1, 1, **sharp), ["softmax"], "sharp weights: softmax along the keys"
    gain = {"norm/gain": [1.0, 1.0], "norm/shift": [0.0, 0.0]}
    yield case("i", (1, 2, 2, 2), 2, 1, **gain), ["residual"], "y without x: what stands around adds it"
    zero = {"exit/weight": np.zeros((2, 2)), "exit/bias": [0.0, 0.0]}
    yield (
        case("j", (1, 2, 2, 2), 1, 1, **zero),
        ["swapped"],
        "as at the start of training: y = 0, dexit not",
    )
