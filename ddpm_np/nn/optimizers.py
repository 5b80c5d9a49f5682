"""Optimizers, averages and learning rates: states are values, updates are pure."""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from ddpm_np._arrays import Array, array_namespace, check_layer_input
from ddpm_np._checks import check_callable, check_integer, check_real, settle, shortened
from ddpm_np.nn.ops import Ops
from ddpm_np.nn.tree import Tree, tree_leaves, tree_map, with_leaves

LearningRate: TypeAlias = Callable[[int], float]
"""A learning rate as a function of the number of steps done, from 0."""


class AdamState(NamedTuple):
    """State of :class:`Adam`."""

    step: int
    """Updates done."""
    m: Tree
    """Running mean of the gradients."""
    v: Tree
    """Running mean of their squares."""


@dataclass(frozen=True)
class Adam:
    """Adam, Kingma & Ba 2015, with decoupled weight decay if asked; :class:`AdamW` asks.

    Parameters
    ----------
    rate : callable
        Learning rate as a function of the number of updates done; :func:`constant_rate`, say.
    beta_1, beta_2 : float
        Decay of the running means, in [0, 1).
    epsilon : float
        Added to the root of the second moment; positive.
    weight_decay : float
        Per unit of learning rate, >= 0.

    Raises
    ------
    TypeError, ValueError
        If a number is out of range.
    """

    rate: LearningRate
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if not callable(self.rate):
            raise TypeError(
                f"rate must be a function of the step, constant_rate({shortened(self.rate)}) say, "
                f"got {type(self.rate).__name__}"
            )
        _check_rate(self.rate)
        for name in ("beta_1", "beta_2"):
            settle(self, **{name: check_real(name, getattr(self, name), 0.0, 1.0, closed=True)})
            if getattr(self, name) == 1.0:
                raise ValueError(f"{name} must be below 1, got 1")
        decay = check_real("weight_decay", self.weight_decay, 0.0, sys.float_info.max, closed=True)
        settle(self, epsilon=check_real("epsilon", self.epsilon, 0.0, 1.0), weight_decay=decay)

    def init(self, params: Tree) -> AdamState:
        """Return zero moments for a tree of parameters."""
        for leaf in tree_leaves(params):
            check_layer_input("params", leaf)
        return AdamState(0, _zeros(params), _zeros(params))

    def update(self, params: Tree, grads: Tree, state: AdamState, ops: Ops) -> tuple[Tree, AdamState]:
        """Return the new parameters and state.

        Raises
        ------
        TypeError, ValueError
            If params, grads and state are not trees of one structure, of arrays of the same shapes.
        """
        rate = self.rate(state.step)
        step = state.step + 1
        settings = (rate, self.beta_1, self.beta_2, self.epsilon, self.weight_decay, step)
        if not isinstance(params, dict | list | tuple):
            _check_like("grads", grads, params)
            new, m, v = ops.adam(params, grads, state.m, state.v, *settings)
            return new, AdamState(step, m, v)
        moved: list[tuple[Array, Array, Array]] = []

        def move(param: Array, grad: Array, m: Array, v: Array) -> None:
            _check_like("grads", grad, param)
            moved.append(ops.adam(param, grad, m, v, *settings))

        tree_map(move, params, grads, state.m, state.v)
        new_params, m, v = (with_leaves(params, column) for column in zip(*moved, strict=True))
        return new_params, AdamState(step, m, v)


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay, Loshchilov & Hutter 2019."""

    weight_decay: float = 0.01


def ema_update(average: Tree, params: Tree, decay: float, ops: Ops) -> Tree:
    """Exponential moving average of parameters: decay * average + (1 - decay) * params."""
    share = check_real("decay", decay, 0.0, 1.0, closed=True)

    def move(a: Array, p: Array) -> Array:
        check_layer_input("params", p)
        _check_like("average", a, p)
        return ops.ema(a, p, share)

    return tree_map(move, average, params)


def global_norm(tree: Tree) -> Array:
    """Euclidean norm over all leaves together; shape (), on their device."""
    leaves = tree_leaves(tree)
    if not leaves:
        raise ValueError("tree must have at least one array, got none")
    for leaf in leaves:
        xp = check_layer_input("tree", leaf)
    total = xp.sum(leaves[0] * leaves[0])
    for leaf in leaves[1:]:
        total = total + xp.sum(leaf * leaf)
    return xp.sqrt(total)


def clip_by_global_norm(grads: Tree, max_norm: float) -> Tree:
    """Scale gradients down so that their global norm is at most ``max_norm``.

        grads * min(1, max_norm / global_norm(grads))

    Stays on the device. Zero gradients are returned as they are.

    Raises
    ------
    TypeError, ValueError
        If max_norm is not positive.
    """
    limit = check_real("max_norm", max_norm, 0.0, math.inf)
    leaves = tree_leaves(grads)
    if not leaves:
        raise ValueError("grads must have at least one array, got none")
    for leaf in leaves:
        check_layer_input("grads", leaf)
    norm = global_norm(grads)
    xp = array_namespace(norm)
    scale = limit / xp.where(norm > limit, norm, xp.full_like(norm, limit))
    return tree_map(lambda g: g * scale, grads)


def constant_rate(rate: float) -> LearningRate:
    """Return the same learning rate at every step."""
    value = check_real("rate", rate, 0.0, math.inf)
    return lambda step: value


def linear_decay(rate: float, steps: int) -> LearningRate:
    """From ``rate`` at step 0 linearly to 0 at ``steps``, and 0 from there on."""
    value, last = check_real("rate", rate, 0.0, math.inf), check_integer("steps", steps, 1)
    return lambda step: value * max(0.0, 1.0 - step / last)


def cosine_decay(rate: float, steps: int) -> LearningRate:
    """From ``rate`` at step 0 along half a cosine to 0 at ``steps``, and 0 from there on."""
    value, last = check_real("rate", rate, 0.0, math.inf), check_integer("steps", steps, 1)
    return lambda step: value * 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / last)))


def warmup(rate: LearningRate, steps: int) -> LearningRate:
    """Scale the first ``steps`` updates linearly: (step + 1) / steps of ``rate``."""
    check_callable("rate", rate)
    _check_rate(rate)
    last = check_integer("steps", steps, 1)
    return lambda step: float(rate(step)) * min(1.0, (step + 1) / last)


def _check_rate(rate: LearningRate) -> None:
    """Raise unless the learning rate of the first update is one; those that follow are not asked."""
    check_real("rate(0)", rate(0), 0.0, math.inf, closed=True)


def _check_like(name: str, leaf: Array, param: Array) -> None:
    """Raise unless a leaf is an array of the parameter's shape; else it would broadcast."""
    check_layer_input(name, leaf)
    if leaf.shape != param.shape:
        raise ValueError(f"{name} must have the shapes of params, {param.shape}, got {leaf.shape}")


def _zeros(tree: Tree) -> Tree:
    return tree_map(lambda leaf: array_namespace(leaf).zeros_like(leaf), tree)
