"""Cases of whole networks and of their training: inputs, what they catch, and a note."""

from typing import Any

import numpy as np

from tests.vectors.draws import draw, f32
from tests.vectors.layer_cases import Found
from tests.vectors.weights import mlp_weights, unet_weights


def mlp_forward() -> Found:
    """Depths from none, widths from 1, times of both ends."""

    def case(
        seed: str, t: list[int], T: int = 10, d: int = 2, layers: int = 1, **own: Any
    ) -> dict[str, Any]:
        weights = mlp_weights(f"mlp {seed}", d, 4, layers, 4) | own
        return {"T": T, "weights": weights, "x_t": draw(f"mlp {seed}", len(t), d), "t": t}

    yield case("a", [1]), ["residual"], "one row, one hidden layer"
    yield case("b", [1, 5, 10]), ["residual"], "one hidden layer, added to what comes in"
    yield case("c", [2, 9], layers=2), ["residual", "order"], "two hidden layers, in order"
    yield case("d", [7, 7], layers=3), ["residual"], "three hidden layers, one time for both rows"
    yield case("e", [1, 1000], T=1000), ["off-by-one"], "the first and the last time of a long chain"
    yield case("f", [500, 499, 1], T=1000), ["order"], "each row has its own time"
    yield case("g", [1], T=1), ["embedding-scale"], "T = 1"
    yield case("h", [3, 4], d=1), ["transposed"], "one dimension"
    yield case("i", [6], d=3), ["transposed"], "three dimensions"
    yield case("j", [8, 2], d=4), ["transposed"], "as many dimensions as hidden numbers: square weights"
    no_bias = {"bias": np.zeros(4), "hidden_bias": np.zeros((1, 4)), "out_bias": np.zeros(2)}
    yield case("k", [5, 6], **no_bias), [], "no biases: should they be the fault, this one passes"
    blind = {"time_weight": np.zeros((4, 4))}
    yield (
        case("l", [1, 10], **blind),
        [],
        "blind to the time: should the embedding be the fault, it passes",
    )
    quiet = {"out_weight": np.zeros((4, 2))}
    yield case("m", [4, 4], **quiet), ["missing-bias"], "out_weight 0: the prediction is out_bias"
    yield case("n", [10, 1, 2, 3], layers=2), ["batch"], "four rows that do not see each other"


def mlp_loss_gradient() -> Found:
    """Batches, dimensions and weights of the loss that a wrong mean shows in."""

    def case(
        seed: str,
        t: list[int],
        d: int = 2,
        layers: int = 1,
        T: int = 10,
        loss_weight: Any = None,
        **own: Any,
    ) -> dict[str, Any]:
        weights = mlp_weights(f"loss {seed}", d, 4, layers, 4) | own
        batch = {name: draw(f"loss {seed} {name}", len(t), d) for name in ("x_t", "truth")}
        ones = [1.0] * len(t) if loss_weight is None else loss_weight
        return {"T": T, "weights": weights, "x_t": batch["x_t"], "t": t, "truth": batch["truth"]} | {
            "loss_weight": ones
        }

    mean, weight = ["mean-for-sum"], ["loss-weight"]
    yield case("a", [3], d=1), ["factor-2"], "one number: the loss is its squared error, slope 2"
    yield case("b", [3, 8], d=1), mean, "a mean over two rows"
    yield case("c", [5], d=2), mean, "a mean over two dimensions, not their sum"
    yield case("d", [1, 4, 7, 10], d=3), mean, "divided by B d = 12"
    yield case("e", [2, 7], loss_weight=[0.5, 2.0]), weight, "each row has its weight; not their mean"
    yield case("f", [2, 6], loss_weight=[4.0, 0.0]), weight, "weight 0: still divided by all B d entries"
    yield case("g", [9, 1, 5], loss_weight=[3.0] * 3), weight, "one weight: not divided by their sum"
    yield case("h", [2, 9]), ["residual"], "one hidden layer: the gradient passes through and around it"
    yield case("i", [2, 9], layers=2), ["residual"], "two hidden layers: the gradient passes around each"
    yield case("j", [4, 4, 4], layers=3), ["residual"], "three hidden layers, one time"
    yield case("k", [1, 1000], T=1000), ["off-by-one"], "the ends of a long chain, in dtime_weight"
    yield case("l", [6, 3], d=4), ["transposed"], "all weights square"
    blind = {"weight": np.zeros((2, 4))}
    yield case("m", [5, 6], **blind), ["swapped"], "weight 0: its gradient is not"
    yield case("n", [8, 1, 2, 3, 5, 6, 7, 9], d=2), mean, "eight rows: dbias adds up what each row gives"


def unet() -> Found:
    """Levels, blocks, groups, heads and classes, each alone and then together."""

    def case(
        seed: str,
        t: list[int],
        side: int = 4,
        T: int = 10,
        labels: list[int] | None = None,
        **own: Any,
    ) -> dict[str, Any]:
        usual = {"channels": 1, "width": 2, "blocks": 1, "groups": 1, "embedding_size": 2}
        config = usual | {"classes": 0, "multipliers": [1], "heads": 0} | own
        shape = (len(t), side, side, config["channels"])
        x_t, dy = (draw(f"unet {seed} {name}", *shape) for name in ("x_t", "dy"))
        inputs = {"T": T, "config": config, "weights": unet_weights(f"unet {seed}", config), "x_t": x_t}
        return inputs | {"t": t, "dy": dy} | ({} if labels is None else {"labels": labels})

    yield case("a", [4], side=2), ["residual"], "one level: two blocks, one behind the other"
    yield case("b", [1, 10], side=2, embedding_size=4), ["modulation"], "1 + scale, then the shift"
    attends = {"heads": 1, "width": 2}
    yield case("c", [7], side=2, **attends), ["residual"], "attention between the blocks, added to h"
    classes = {"classes": 2, "labels": [0, 2]}
    yield case("d", [3, 3], side=2, **classes), ["off-by-one"], "label 0 is no class: row 0 of the table"
    yield (
        case("e", [5], multipliers=[1, 1]),
        ["pooling"],
        "two levels: mean of 4 down, nearest neighbour up",
    )
    yield case("f", [8], multipliers=[1, 2]), ["skip"], "twice the channels below: 1 x 1 skip and lift"
    yield case("g", [500], T=1000, multipliers=[1, 1, 2]), ["order"], "three levels, down to one pixel"
    whole = {"multipliers": [1, 2], "heads": 2, "groups": 2, "classes": 1, "labels": [1]}
    yield (
        case("h", [9], **whole, embedding_size=4),
        ["group-order"],
        "all at once, one channel a group above",
    )


def adam() -> Found:
    """First updates, where the correction of the bias is all, and later ones."""

    def case(seed: str, n: int, k: int, rate: float = 2.0**-6, **own: Any) -> dict[str, Any]:
        settings = {"beta_1": 0.875, "beta_2": 1 - 2.0**-6, "epsilon": 2.0**-20, "weight_decay": 0.0}
        params, grads = draw(f"adam {seed} params", k), draw(f"adam {seed} grads", n, k)
        return {"rates": [rate] * n} | settings | {"params": params, "grads": grads} | own

    usual = {name: f32(x) for name, x in {"beta_1": 0.9, "beta_2": 0.999}.items()}
    usual["epsilon"] = f32(1e-8)
    bias = ["bias-correction"]
    yield case("a", 1, 3), bias, "the first update is about rate * sign(grad)"
    yield case("b", 2, 3), bias, "beta to the power of 2 at the second update, which counts from 1"
    yield case("c", 10, 2), bias, "ten updates"
    yield case("d", 5, 2, **usual), bias, "the usual settings, rounded to float32"
    epsilon = ["epsilon"]
    yield case("e", 3, 2, epsilon=0.5), epsilon, "epsilon = 1/2, added to the root, not inside"
    yield (
        case("f", 3, 2, epsilon=2.0**-4),
        epsilon,
        "epsilon after the correction of the bias, not before",
    )
    tiny = draw("adam g", 4, 2, scale=2.0**-20)
    yield case("g", 4, 2, grads=tiny), epsilon, "gradients of about epsilon"
    decay = ["decoupled-decay"]
    yield (
        case("h", 1, 2, weight_decay=0.5),
        decay,
        "decay times rate, of the parameters before the update",
    )
    yield (
        case("i", 4, 2, weight_decay=2.0, grads=np.zeros((4, 2))),
        decay,
        "no gradient: the decay alone",
    )
    yield case("j", 6, 2, weight_decay=0.125), decay, "decay does not go through the moments"
    rates = [2.0**-6, 2.0**-5, 2.0**-3, 2.0**-7, 0.0]
    yield case("k", 5, 2, rates=rates), ["order"], "each update has its own rate; the last one's is 0"
    yield case("l", 4, 2, beta_1=0.0), ["swapped"], "beta_1 = 0: no momentum"
    yield case("m", 4, 2, beta_2=0.0), ["swapped"], "beta_2 = 0: the last gradient's size only"
    signs = [[1.0], [-1.0], [1.0], [-1.0]]
    yield case("n", 4, 1, grads=signs), ["sign"], "signs that alternate: m and v part"
    late = [[1.0, 0.0], *[[0.0, 0.0]] * 5]
    yield case("o", 6, 2, grads=late), ["momentum"], "one gradient, then none: momentum goes on"
    yield (
        case("p", 3, 4, grads=draw("adam p", 3, 4, scale=1024.0)),
        ["scale"],
        "large gradients, same updates",
    )


def ema() -> Found:
    """Young averages, whose decay is less, and old ones."""

    def case(seed: str, n: int, k: int, decay: float, **own: Any) -> dict[str, Any]:
        params0, updates = draw(f"ema {seed} 0", k), draw(f"ema {seed}", n, k)
        return {"decay": decay, "params0": params0, "updates": updates} | own

    young, off = ["warm-up"], ["off-by-one"]
    most = f32(0.999)
    yield case("a", 1, 2, most), young, "the first update: decay 1 / 10"
    yield case("b", 2, 2, most), off, "then 2 / 11"
    yield case("c", 8, 2, most), young, "up to 8 / 17, far below 0.999"
    yield case("d", 3, 2, 0.0625), young, "a decay below 1 / 10: it holds from the start"
    yield case("e", 12, 1, 0.5), off, "(1 + n) / (10 + n) reaches 1/2 at n = 8, the ninth update"
    yield case("f", 4, 2, 0.0), ["swapped"], "decay 0: the average is the last parameters"
    moving = [[1.0], [0.0], [0.0]]
    yield (
        case("g", 3, 1, 0.5, params0=[0.0], updates=moving),
        ["swapped"],
        "what an update leaves, 9 / 10 first",
    )
    yield (
        case("h", 3, 1, 0.5, params0=[1.0], updates=np.zeros((3, 1))),
        ["start"],
        "starts at the parameters",
    )
    yield case("i", 18, 1, 0.625), off, "(1 + n) / (10 + n) reaches 5/8 at n = 14, the fifteenth update"
    yield case("j", 5, 4, most), [], "four parameters"


def training() -> Found:
    """Twenty steps on given batches."""

    def case(seed: str, T: int, target: str, d: int = 2, layers: int = 1, **own: Any) -> dict[str, Any]:
        weights = mlp_weights(f"training {seed}", d, 3, layers, 2)
        beta = [f32(0.01 + 0.39 * i / (T - 1)) for i in range(T)]
        x0, noise = (draw(f"training {seed} {name}", 20, 3, d) for name in ("x0", "noise"))
        t = np.floor(T * (draw(f"training {seed} t", 20, 3) + 1.5) / 3.03125).astype(int) + 1
        batches = {"x0": x0, "t": t.tolist(), "noise": noise}
        rest = {"rates": [2.0**-6] * 20, "target": target, "decay": f32(0.99)}
        return {"beta": beta, "weights": weights} | batches | rest | own

    yield case("a", 5, "eps"), ["E2", "root"], "Algorithm 1, the noise as target"
    yield case("b", 10, "x0"), ["target"], "x0 as target"
    yield case("c", 4, "v"), ["target", "sign"], "v = sqrt(alpha_bar) noise - sqrt(1 - alpha_bar) x0"
    falling = [2.0**-6 * (20 - n) / 20 for n in range(20)]
    rates = [f32(rate) for rate in falling]
    yield case("d", 5, "eps", rates=rates), ["order"], "rates that fall: which one is the first"
    yield case("e", 3, "eps", decay=0.0), ["off-by-one"], "decay 0: average and weights agree"
    yield case("f", 8, "eps", d=1, layers=2), ["mean-for-sum"], "one dimension, two hidden layers"
