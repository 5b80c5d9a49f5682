"""Trees of arrays: nested tuples, NamedTuples, lists and dicts, whose leaves are arrays.

Parameters, their gradients and their averages are trees of one structure. An array by itself
is a tree with one leaf.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ddpm_np._arrays import Array, array_namespace

Tree: TypeAlias = Any


def tree_map(function: Callable[..., Any], tree: Tree, *rest: Tree) -> Tree:
    """Apply ``function`` to each leaf of ``tree`` and to its partners in trees of the same structure.

    Raises
    ------
    ValueError
        If a tree of ``rest`` has another structure.
    """
    if isinstance(tree, dict):
        _check_alike(tree, rest, lambda other: isinstance(other, dict) and list(other) == list(tree))
        return {key: tree_map(function, tree[key], *(other[key] for other in rest)) for key in tree}
    if isinstance(tree, list | tuple):
        _check_alike(tree, rest, lambda other: type(other) is type(tree) and len(other) == len(tree))
        return _rebuild(tree, [tree_map(function, *parts) for parts in zip(tree, *rest, strict=True)])
    _check_alike(tree, rest, lambda other: not isinstance(other, dict | list | tuple))
    return function(tree, *rest)


def tree_leaves(tree: Tree) -> list[Any]:
    """The leaves, depth first."""
    return [leaf for _, leaf in named_leaves(tree)]


def named_leaves(tree: Tree, name: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves with their paths, such as ``("hidden/0/weight", array)``, depth first."""
    if isinstance(tree, dict):
        parts: Any = tree.items()
    elif isinstance(tree, tuple) and hasattr(tree, "_fields"):
        parts = zip(tree._fields, tree, strict=True)
    elif isinstance(tree, list | tuple):
        parts = enumerate(tree)
    else:
        yield name, tree
        return
    for key, part in parts:
        yield from named_leaves(part, f"{name}/{key}" if name else str(key))


def with_leaves(tree: Tree, leaves: Iterable[Any]) -> Tree:
    """A tree of the same structure with other leaves, in the order of :func:`tree_leaves`."""
    queue = iter(leaves)
    return tree_map(lambda _: next(queue), tree)


def ravel(tree: Tree) -> Array:
    """Join all leaves in one flat array, in the order of :func:`tree_leaves`."""
    leaves: list[Array] = []
    _collect(tree, leaves)
    if not leaves:
        raise ValueError("tree must have at least one array, got none")
    xp = array_namespace(leaves[0], "tree")
    return xp.concat([_flat(leaf, xp) for leaf in leaves])


class Layout(NamedTuple):
    """Where each leaf of a tree lies in its :func:`ravel`; undo it with :meth:`unravel`."""

    tree: Tree
    """The tree with a (start, stop, shape) in the place of each leaf."""
    size: int
    """Numbers in all leaves."""

    @staticmethod
    def of(tree: Tree) -> "Layout":
        """Measure a tree of arrays."""
        start = 0

        def place(leaf: Array) -> _Place:
            nonlocal start
            stop = start + leaf.size
            found = _Place(start, stop, leaf.shape)
            start = stop
            return found

        return Layout(tree_map(place, tree), start)

    def unravel(self, flat: Array) -> Tree:
        """Cut a flat array into the tree's leaves; views where the library has them."""
        if flat.shape != (self.size,):
            raise ValueError(f"flat must have shape ({self.size},), got {flat.shape}")
        # NumPy's function takes longer than its method
        reshape = np.ndarray.reshape if type(flat) is np.ndarray else array_namespace(flat).reshape
        return _cut(self.tree, flat, reshape)


class _Place:
    """A leaf (not a tuple, which would be a tree)."""

    __slots__ = ("shape", "start", "stop")

    def __init__(self, start: int, stop: int, shape: tuple[int, ...]) -> None:
        self.start, self.stop, self.shape = start, stop, shape


def _flat(leaf: Array, xp: Any) -> Array:
    if len(leaf.shape) == 1:
        return leaf
    return leaf.reshape(-1) if type(leaf) is np.ndarray else xp.reshape(leaf, (-1,))


def _cut(tree: Tree, flat: Array, reshape: Callable[..., Array]) -> Tree:
    if type(tree) is _Place:
        leaf = flat[tree.start : tree.stop]
        return leaf if len(tree.shape) == 1 else reshape(leaf, tree.shape)
    if isinstance(tree, dict):
        return {key: _cut(part, flat, reshape) for key, part in tree.items()}
    return _rebuild(tree, [_cut(part, flat, reshape) for part in tree])


def _collect(tree: Tree, leaves: list[Array]) -> None:
    if isinstance(tree, dict):
        tree = tree.values()
    elif not isinstance(tree, tuple | list):
        leaves.append(tree)
        return
    for part in tree:
        _collect(part, leaves)


def _rebuild(like: Any, parts: list[Any]) -> Any:
    return type(like)(*parts) if hasattr(like, "_fields") else type(like)(parts)


def _check_alike(tree: Tree, rest: tuple[Tree, ...], alike: Callable[[Tree], bool]) -> None:
    for other in rest:
        if not alike(other):
            raise ValueError(
                f"trees must have one structure, got {type(other).__name__} beside {type(tree).__name__}"
            )
