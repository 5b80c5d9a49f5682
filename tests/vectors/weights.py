"""Weights of small networks, by name: the shapes that a port must expect."""

from typing import Any

from tests.vectors.draws import draw

Shapes = dict[str, tuple[int, ...]]


def mlp_weights(seed: str, d: int, n: int, layers: int, size: int) -> dict[str, Any]:
    """Weights of a small residual perceptron, biases among them."""
    shapes = {
        "weight": (d, n),
        "time_weight": (size, n),
        "bias": (n,),
        "hidden_weight": (layers, n, n),
        "hidden_bias": (layers, n),
        "out_weight": (n, d),
        "out_bias": (d,),
    }
    return _drawn(seed, shapes)


def attention_weights(seed: str, n: int) -> dict[str, Any]:
    """Weights of attention over images of n channels."""
    return _drawn(seed, _attention_shapes(n))


def unet_weights(seed: str, config: dict[str, Any]) -> dict[str, Any]:
    """Weights of a U-Net, named by where they lie in it."""
    size, width, channels = config["embedding_size"], config["width"], config["channels"]
    shapes: Shapes = {}
    for part in ("embedding/time/0", "embedding/time/2"):
        shapes |= {f"{part}/weight": (size, size), f"{part}/bias": (size,)}
    if config["classes"]:
        shapes["embedding/classes"] = (config["classes"] + 1, size)
    shapes |= _conv_shapes("entry", 3, channels, width)
    for name, shape in _level_shapes(config, 0, width).items():
        shapes["trunk/" + name] = shape
    shapes |= {"exit/0/gain": (width,), "exit/0/shift": (width,)}
    return _drawn(seed, shapes | _conv_shapes("exit/2", 3, width, channels))


def _level_shapes(config: dict[str, Any], level: int, inputs: int) -> Shapes:
    """Down, below, up; numbered from 0."""
    width, below = config["width"] * config["multipliers"][level], {}
    if level + 1 < len(config["multipliers"]):
        inner = _level_shapes(config, level + 1, width)
        # part 0 halves the resolution and has no weights
        shifted = {}
        for name, shape in inner.items():
            number, rest = name.split("/", 1)
            shifted[f"{int(number) + 1}/{rest}"] = shape
        lift = 1 + max(int(name.split("/")[0]) for name in shifted)
        lower = config["width"] * config["multipliers"][level + 1]
        below = shifted | _conv_shapes(f"{lift}/0", 1, lower, width)
    elif config["heads"]:
        below = _attention_shapes(width)
    blocks, shapes = config["blocks"], {}
    for i in range(blocks):
        shapes |= _block_shapes(f"{i}", width if i else inputs, width, config["embedding_size"])
    shapes |= {f"{blocks}/{name}": shape for name, shape in below.items()}
    for i in range(blocks):
        number = blocks + bool(below) + i
        shapes |= _block_shapes(f"{number}", width, width, config["embedding_size"])
    return shapes


def _block_shapes(at: str, inputs: int, outputs: int, size: int) -> Shapes:
    shapes: Shapes = {
        f"{at}/first/0/gain": (inputs,),
        f"{at}/first/0/shift": (inputs,),
        **_conv_shapes(f"{at}/first/2", 3, inputs, outputs),
        f"{at}/modulation/weight": (size, 2 * outputs),
        f"{at}/modulation/bias": (2 * outputs,),
        **_conv_shapes(f"{at}/last/1", 3, outputs, outputs),
    }
    return shapes if inputs == outputs else shapes | _conv_shapes(f"{at}/skip/0", 1, inputs, outputs)


def _conv_shapes(at: str, k: int, inputs: int, outputs: int) -> Shapes:
    return {f"{at}/weight": (k, k, inputs, outputs), f"{at}/bias": (outputs,)}


def _attention_shapes(n: int) -> Shapes:
    return {
        "norm/gain": (n,),
        "norm/shift": (n,),
        "entry/weight": (n, 3 * n),
        "entry/bias": (3 * n,),
        "exit/weight": (n, n),
        "exit/bias": (n,),
    }


def _drawn(seed: str, shapes: Shapes) -> dict[str, Any]:
    return {name: draw(f"{seed} {name}", *shape, scale=0.5) for name, shape in shapes.items()}
