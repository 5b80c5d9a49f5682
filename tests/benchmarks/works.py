"""What is measured: the rows of the table, and the contenders that do the work.

A work is one function of that name in ours.py and one in peers.py, and one entry in WORKS. The
function takes the contender's context and the sizes, makes everything ready, and returns a
callable without arguments: the work, done once. Nothing here imports an array library: workers
must load no more than their own contender needs.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

T = 1000
"""Steps of the chain that people train with."""
SHORT = 50
"""Steps of the chain that is timed where whole chains would take minutes."""
DIMENSIONS, WIDTH, LAYERS, EMBEDDING = 2, 128, 3, 64
"""The network: MLPDenoiser(2, T), its defaults."""
DATA = 100_000
"""Points that batches are drawn from."""
BLOCKS, GROUPS, IMAGES = 2, 8, (1297, 8, 8, 1)
"""The convolutional network, ConvDenoiser(1, T, width, BLOCKS), and the images that it sees."""
RATE, DECAY = 1e-3, 0.999
"""Learning rate of Adam, and decay of the running average."""

PARTS = {
    "a": "training steps",
    "b": "ancestral sampling",
    "c": "decomposition of the bound",
    "d": "schedule, q_sample and q_posterior",
    "e": "from start to the first training step",
    "f": "peak memory",
    "g": "training steps of the convolutional network",
}


class Product(NamedTuple):
    """Matrix products of one shape: (m, k) times (k, n)."""

    kind: str
    """How the operands lie: "xw" is x @ w, "xtd" is x.T @ d, "dwt" is d @ w.T."""
    m: int
    k: int
    n: int
    count: int = 1


def forward_products(rows: int, *, one_time: bool) -> list[Product]:
    """The products of a forward pass; with one time for all rows its embedding costs one row."""
    inputs = DIMENSIONS if one_time else DIMENSIONS + EMBEDDING
    return [
        Product("xw", rows, inputs, WIDTH),
        Product("xw", rows, WIDTH, WIDTH, LAYERS),
        Product("xw", rows, WIDTH, DIMENSIONS),
    ]


def training_products(rows: int) -> list[Product]:
    """Forward, gradients of the weights, and gradients of every layer's input but the first's."""
    return [
        *forward_products(rows, one_time=False),
        Product("xtd", DIMENSIONS + EMBEDDING, rows, WIDTH),
        Product("xtd", WIDTH, rows, WIDTH, LAYERS),
        Product("xtd", WIDTH, rows, DIMENSIONS),
        Product("dwt", rows, WIDTH, WIDTH, LAYERS),
        Product("dwt", rows, DIMENSIONS, WIDTH),
    ]


def flops(products: list[Product]) -> int:
    """Floating-point operations, a multiplication and an addition counted as two."""
    return sum(2 * p.m * p.k * p.n * p.count for p in products)


@dataclass(frozen=True)
class Work:
    """A row of the table."""

    part: str
    label: str
    function: str
    """Its name in ours.py and in peers.py."""
    sizes: dict[str, int]
    products: list[Product] = field(default_factory=list)
    """The matrix products that one unit of it needs; empty: it is not about products."""
    units: int = 1
    """Units in one call: times are given per unit."""
    whole: str = ""
    """What works.T units make, where that is what people wait for."""
    quick: bool = False
    """Whether --quick measures it."""


WORKS = [
    *(
        Work(
            "a",
            f"training step, batch {batch}",
            "train",
            {"batch": batch},
            training_products(batch),
            quick=batch in (32, 512),
        )
        for batch in (32, 128, 512, 4096)
    ),
    Work(
        "b",
        "a step of sampling, 10,000 points",
        "sample",
        {"points": 10_000, "steps": SHORT},
        forward_products(10_000, one_time=True),
        units=SHORT,
        whole="10,000 samples, 1,000 steps",
        quick=True,
    ),
    Work(
        "c",
        "a term of the bound, 2,000 points",
        "decompose",
        {"points": 2000, "steps": SHORT},
        forward_products(2000, one_time=True),
        units=SHORT,
        whole="the bound of 2,000 points, all 1,000 terms",
        quick=True,
    ),
    Work(
        "d",
        "schedule, q_sample, q_posterior, 10⁶ points",
        "formulas",
        {"points": 1_000_000, "steps": T},
        quick=True,
    ),
    *(
        Work(
            "g",
            f"images, 128 x 8 x 8, {width} channels",
            "train_images",
            {"batch": 128, "width": width},
            quick=width == 32,
        )
        for width in (32, 64)
    ),
]

FIRST_STEP = {"batch": 512}
"""The training step of parts e and f."""
TRAINED, SAMPLED = 200, {"points": 10_000, "steps": SHORT}
"""What the processes of part f do: steps of training, or one chain of sampling."""


@dataclass(frozen=True)
class Contender:
    """Somebody who does the works, in a process of its own."""

    name: str
    label: str
    module: str
    """Where its functions are."""
    cache: bool = False
    """Whether it keeps compiled code on disk, so that first runs differ from later ones."""
    blas_of_one: bool = False
    """Whether it brings its own threads and wants the BLAS library to have one."""


CPU = [
    Contender("numpy", "ours, numpy", "ours"),
    Contender("numba", "ours, numba", "ours", cache=True, blas_of_one=True),
    Contender("eager", "PyTorch eager", "peers"),
    Contender("compiled", "PyTorch compiled", "peers", cache=True),
]
CUDA = [
    Contender("cupy", "ours, cupy", "ours", cache=True),
    Contender("eager", "PyTorch eager", "peers"),
    Contender("compiled", "PyTorch compiled", "peers", cache=True),
    Contender("graph", "PyTorch, CUDA graph", "graphs"),
]
RATIOS = {
    "cpu": [("numpy", "eager"), ("numba", "eager"), ("compiled", "eager"), ("numba", "compiled")],
    "cuda": [("cupy", "eager"), ("compiled", "eager"), ("graph", "eager"), ("cupy", "graph")],
}
"""Whose times are divided by whose."""

PRODUCTS = {
    "cpu": [
        Contender("numpy-products", "NumPy's products", "products"),
        Contender("torch-products", "PyTorch's products", "products"),
        Contender("numpy-blocks", "NumPy's products in blocks", "products", blas_of_one=True),
    ],
    "cuda": [Contender("torch-products", "PyTorch's products", "products")],
}
"""Who does the matrix products alone; the fastest in each round counts."""


def contenders(device: str) -> list[Contender]:
    """Those of a device, "cpu" or "cuda"."""
    return CUDA if device == "cuda" else CPU


def images() -> Any:
    """Images that batches are drawn from: float32, shape IMAGES, the same for everybody."""
    import numpy as np

    return np.random.default_rng(0).uniform(-1.0, 1.0, IMAGES).astype(np.float32)


def swiss_roll() -> Any:
    """The points that batches are drawn from: float32, shape (DATA, 2), the same for everybody."""
    import numpy as np

    rng = np.random.default_rng(0)
    u = rng.uniform(1.5 * np.pi, 4.5 * np.pi, DATA)
    roll = np.stack([u * np.cos(u), u * np.sin(u)], axis=1) / 8.0
    return (roll + 0.05 * rng.standard_normal(roll.shape)).astype(np.float32)
