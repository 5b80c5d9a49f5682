"""Optimizers, averages and learning rates: states are values, updates are pure."""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from ddpm_np._arrays import Array, array_namespace
from ddpm_np._checks import check_integer, check_real
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
                f"rate must be a function of the step, constant_rate({self.rate!r}) say, "
                f"got {type(self.rate).__name__}"
            )
        for name in ("beta_1", "beta_2"):
            if check_real(name, getattr(self, name), 0.0, 1.0, closed=True) == 1.0:
                raise ValueError(f"{name} must be below 1, got 1")
        check_real("epsilon", self.epsilon, 0.0, 1.0)
        check_real("weight_decay", self.weight_decay, 0.0, sys.float_info.max, closed=True)

    def init(self, params: Tree) -> AdamState:
        """Return zero moments for a tree of parameters."""
        return AdamState(0, _zeros(params), _zeros(params))

    def update(self, params: Tree, grads: Tree, state: AdamState, ops: Ops) -> tuple[Tree, AdamState]:
        """Return the new parameters and state.

        Raises
        ------
        ValueError
            If params, grads and state are not trees of one structure.
        """
        rate = self.rate(state.step)
        step = state.step + 1
        settings = (rate, self.beta_1, self.beta_2, self.epsilon, self.weight_decay, step)
        if not isinstance(params, dict | list | tuple):
            new, m, v = ops.adam(params, grads, state.m, state.v, *settings)
            return new, AdamState(step, m, v)
        moved: list[tuple[Array, Array, Array]] = []
        tree_map(
            lambda *leaves: moved.append(ops.adam(*leaves, *settings)), params, grads, state.m, state.v
        )
        new_params, m, v = (with_leaves(params, column) for column in zip(*moved, strict=True))
        return new_params, AdamState(step, m, v)


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay, Loshchilov & Hutter 2019."""

    weight_decay: float = 0.01


def ema_update(average: Tree, params: Tree, decay: float, ops: Ops) -> Tree:
    """Exponential moving average of parameters: decay * average + (1 - decay) * params."""
    return tree_map(lambda a, p: ops.ema(a, p, decay), average, params)


def global_norm(tree: Tree) -> Array:
    """Euclidean norm over all leaves together; shape (), on their device."""
    leaves = tree_leaves(tree)
    xp = array_namespace(leaves[0])
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
    last = check_integer("steps", steps, 1)
    return lambda step: rate(step) * min(1.0, (step + 1) / last)


def _zeros(tree: Tree) -> Tree:
    return tree_map(lambda leaf: array_namespace(leaf).zeros_like(leaf), tree)
