"""Composite Gauss-Legendre rules: along a curve, and on the cells around a cloud of points."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_np._arrays import Samples, Table


def composite_rule(edges: Table, nodes: int) -> tuple[Table, Table]:
    """Nodes and weights of a Gauss-Legendre rule on each panel between neighbouring edges.

        integral of f from edges[0] to edges[-1] = sum(weights * f(points))

    Parameters
    ----------
    edges : array, shape (P + 1,)
        Increasing.
    nodes : int
        Nodes per panel; polynomials of degree 2 * nodes - 1 are integrated exactly.

    Returns
    -------
    points, weights : array, shape (P * nodes,)
    """
    x, w = np.polynomial.legendre.leggauss(nodes)
    half = 0.5 * np.diff(edges)[:, None]
    middle = 0.5 * (edges[:-1] + edges[1:])[:, None]
    return (middle + half * x).ravel(), (half * w).ravel()


def cells_around(centres: Samples, reach: int, nodes: int) -> Iterator[tuple[Samples, Table]]:
    """Gauss-Legendre points on the unit cells within ``reach`` of any centre, block by block.

    Parameters
    ----------
    centres : array, shape (K, d)
    reach : int
        Distance up to which cells are wanted; a few further away are included.
    nodes : int
        Nodes per cell and axis.

    Yields
    ------
    points : array, shape (n, d)
        Of neighbouring cells, at most 8 along each axis.
    weights : array, shape (n,)
    """
    d = centres.shape[1]
    occupied = np.unique(np.floor(centres).astype(np.int64), axis=0)
    steps = _grid(np.arange(-reach - 1, reach + 2), d)
    # Centres anywhere in one cell reach a cell that is up to sqrt(d) further away.
    steps = steps[np.sum(steps**2, axis=1) <= (reach + np.sqrt(d)) ** 2]
    cells = np.unique((occupied[:, None, :] + steps).reshape(-1, d), axis=0)

    points, weights = composite_rule(np.array([0.0, 1.0]), nodes)
    offsets, volumes = _grid(points, d), np.prod(_grid(weights, d), axis=1)

    _, block = np.unique(cells // 8, axis=0, return_inverse=True)
    order = np.argsort(block, kind="stable")
    for group in np.split(cells[order], np.flatnonzero(np.diff(block[order])) + 1):
        yield (group[:, None, :] + offsets).reshape(-1, d), np.tile(volumes, len(group))


def _grid(axis: NDArray[Any], d: int) -> NDArray[Any]:
    """All d-tuples of the entries of ``axis``, shape (len(axis)^d, d)."""
    return np.stack(np.meshgrid(*[axis] * d, indexing="ij"), axis=-1).reshape(-1, d)
