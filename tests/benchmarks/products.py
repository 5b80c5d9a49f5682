"""The matrix products of a work alone: what no training step on the machine can be faster than.

By NumPy and by PyTorch, whole, as threaded as the libraries thread them; and by NumPy in blocks of
rows that stay in the caches, each thread with blocks of its own. Operands lie as they do in the
work (transposed where it transposes), results go to memory that is there already.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import works

BLOCK = 256
"""Rows of a block."""


@dataclass(frozen=True)
class Context:
    """Who multiplies, and in how many threads."""

    name: str
    threads: int
    torch: Any = None


def open_context(name: str, device: str, threads: int) -> Context:
    """Load the library that multiplies."""
    if name != "torch-products":
        return Context(name, threads)
    import torch_model

    return Context(name, threads, torch_model.open_context(name, device, threads))


def synchronize(context: Context) -> None:
    """Wait for the device."""
    if context.torch is not None:
        import torch_model

        torch_model.synchronize(context.torch)


def multiply(context: Context, products: list[list[Any]]) -> Callable[[], Any]:
    """All products of a work."""
    wanted = [works.Product(*product) for product in products]
    if context.name == "numpy-blocks":
        return numpy_blocks(wanted, context.threads)
    return numpy_products(wanted) if context.torch is None else torch_products(context.torch, wanted)


def numpy_products(products: list[works.Product]) -> Callable[[], None]:
    """By NumPy's matmul."""
    import numpy as np

    rng = np.random.default_rng(0)

    def operands(product: works.Product) -> tuple[Any, Any, Any]:
        left, right = shapes(product)
        a, b = (rng.standard_normal(shape, dtype=np.float32) for shape in (left, right))
        out = np.empty((product.m, product.n), np.float32)
        return a.T if product.kind == "xtd" else a, b.T if product.kind == "dwt" else b, out

    calls = [operands(product) for product in products for _ in range(product.count)]

    def run() -> None:
        for a, b, out in calls:
            np.matmul(a, b, out)

    return run


def numpy_blocks(products: list[works.Product], threads: int) -> Callable[[], None]:
    """By NumPy's matmul in blocks of rows, whose sums (of gradients of weights) are left out.

    Each thread has memory for one block of each product and uses it again: all is in its cache.
    """
    rows = getattr(products[0], axis(products[0]))
    blocks = max(threads, -(-rows // BLOCK))
    size = -(-rows // blocks)
    counts = [len(range(thread, blocks, threads)) for thread in range(threads)]
    parts = [product._replace(**{axis(product): size}) for product in products]
    passes = [numpy_products(parts) for _ in range(threads)]

    def work(thread: int) -> None:
        for _ in range(counts[thread]):
            passes[thread]()

    if threads == 1:
        return lambda: work(0)
    pool = ThreadPoolExecutor(threads)
    return lambda: list(pool.map(work, range(threads))) and None


def axis(product: works.Product) -> str:
    """Which of the sizes counts the rows of the batch."""
    return "k" if product.kind == "xtd" else "m"


def torch_products(context: Any, products: list[works.Product]) -> Callable[[], None]:
    """By torch.mm; on a GPU in a CUDA graph, so that launching them costs next to nothing."""
    import torch

    def operands(product: works.Product) -> tuple[Any, Any, Any]:
        left, right = shapes(product)
        a, b = (torch.randn(shape, device=context.device) for shape in (left, right))
        out = torch.empty(product.m, product.n, device=context.device)
        return a.t() if product.kind == "xtd" else a, b.t() if product.kind == "dwt" else b, out

    calls = [operands(product) for product in products for _ in range(product.count)]

    @torch.inference_mode()
    def run() -> None:
        for a, b, out in calls:
            torch.mm(a, b, out=out)

    if context.device != "cuda":
        return run
    import graphs

    return graphs.capture(run).replay


def shapes(product: works.Product) -> tuple[tuple[int, int], tuple[int, int]]:
    """How the operands lie in memory."""
    _, m, k, n, _ = product
    return (k, m) if product.kind == "xtd" else (m, k), (n, k) if product.kind == "dwt" else (k, n)
