"""Training: Algorithm 1 as one pure step, and the loop around it.

The state of a run is a value. A batch is a pure function of (seed, step). So a run that was
stopped at any step, and resumed from its state, ends in the same bits as one that was not.

x0, noise, x_t and truth have shape (B, ...); times t and class labels are integer arrays of shape
(B,), on the host. Anything else raises TypeError or ValueError.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddpm_np._arrays import (
    Array,
    Table,
    Times,
    array_namespace,
    check_arrays,
    check_table,
    check_times,
    coefficient,
)
from ddpm_np._checks import check_callable, check_integer, check_real, describe, settle
from ddpm_np.forward import q_sample_unchecked
from ddpm_np.nn.denoisers import (
    Denoiser,
    Labels,
    LossAndGradient,
    check_denoiser,
    check_labels_array,
    loss_and_gradient,
)
from ddpm_np.nn.ops import Ops
from ddpm_np.nn.optimizers import Adam, AdamState, clip_by_global_norm
from ddpm_np.nn.tree import Layout, ravel
from ddpm_np.randomness import INIT, generator
from ddpm_np.schedules import Schedule, check_schedule
from ddpm_np.targets import Target, check_target, training_target_unchecked


class TrainState(NamedTuple):
    """Everything that changes during training.

    Parameters are one flat array, which one optimizer kernel passes over; cut it up with
    ``recipe.layout.unravel``.
    """

    step: int
    """Updates done."""
    params: Array
    average: Array
    """Exponential moving average of the parameters: sample and evaluate with these."""
    optimizer: AdamState
    loss_sum: Array
    """Sum of the losses since the last multiple of the steps between reports."""


@dataclass(frozen=True, eq=False)
class Recipe:
    """Everything that does not change during training.

    Parameters
    ----------
    schedule : Schedule
    denoiser : Denoiser
    optimizer : Adam
    target : {"eps", "x0", "mean", "v"}
        What the network predicts; not "eps" if alpha_bar[T] = 0.
    weight : Table of length T + 1, or None
        Weight of each time in the loss; None is L_simple, all ones. For the bound take, for
        t = 1..T and anything at entry 0, ``T * d * bound_weight(schedule, t, sigma2, target)``.
    ema_decay : float
        In [0, 1), of the average of the parameters. It is reached from below, as
        ``min(ema_decay, (1 + step) / (10 + step))``.
    max_grad_norm : float or None
        Clip gradients to this global norm.
    loss_and_gradient : LossAndGradient
        How both are computed: by the denoiser's forward and backward, or, for an
        :class:`ddpm_np.nn.MLPDenoiser`, by the faster :func:`ddpm_np.nn.mlp_loss_and_gradient`.
    """

    schedule: Schedule
    denoiser: Denoiser
    optimizer: Adam
    target: Target = "eps"
    weight: Table | None = None
    ema_decay: float = 0.999
    max_grad_norm: float | None = None
    loss_and_gradient: LossAndGradient = loss_and_gradient

    def __post_init__(self) -> None:
        check_schedule(self.schedule)
        check_denoiser(self.denoiser)
        if not hasattr(self.optimizer, "update"):
            raise TypeError(f"optimizer must have a method update, got {describe(self.optimizer)}")
        check_target(self.schedule, self.target)
        if self.weight is not None:
            settle(self, weight=check_table("weight", self.weight, self.schedule.T))
        T = getattr(self.denoiser, "T", self.schedule.T)
        if T != self.schedule.T:
            raise ValueError(
                f"denoiser must be made for the schedule's T = {self.schedule.T}, got T = {T}; once "
                "trained, it serves shorter chains by respacing (respaced_predictor)"
            )
        settle(self, ema_decay=check_real("ema_decay", self.ema_decay, 0.0, 1.0, closed=True))
        if self.ema_decay == 1.0:
            raise ValueError("ema_decay must be below 1, got 1")
        if self.max_grad_norm is not None:
            limit = check_real("max_grad_norm", self.max_grad_norm, 0.0, math.inf)
            settle(self, max_grad_norm=limit)
        check_callable("loss_and_gradient", self.loss_and_gradient)

    @functools.cached_property
    def layout(self) -> Layout:
        """Where each parameter lies in the flat array."""
        return Layout.of(self.denoiser.init(np.random.default_rng(0)))


def init_state(recipe: Recipe, seed: int, asarray: Callable[[Any], Array]) -> TrainState:
    """Draw the parameters, from which their average starts too; all else is zero.

    ``asarray`` brings a host array to where training happens, in its dtype.
    """
    params = asarray(np.asarray(ravel(recipe.denoiser.init(generator(seed, INIT)))))
    return TrainState(0, params, params, recipe.optimizer.init(params), _zero(params))


def train_step(
    recipe: Recipe,
    state: TrainState,
    x0: Array,
    t: Times,
    noise: Array,
    ops: Ops,
    labels: Labels = None,
) -> TrainState:
    """One gradient step, Ho et al. 2020, Algorithm 1.

        x_t  = sqrt(alpha_bar[t]) * x0 + sqrt(1 - alpha_bar[t]) * noise
        loss = mean(weight[t] * (prediction(x_t, t) - truth)^2)

    x0 is from the data, t uniform in 1..T (an int is one time for all), the noise standard normal;
    labels are for a denoiser that sees classes. Pure: the same arguments give the same bits. Never
    waits for the device.
    """
    check_arrays(x0=x0, noise=noise)
    if x0.dtype != state.params.dtype:
        raise TypeError(f"x0 must have the parameters' dtype, {state.params.dtype}, got {x0.dtype}")
    check_labels_array(labels, x0.shape[0])
    times = check_times(t, recipe.schedule.T, x0.shape[0])
    if isinstance(times, int):
        times = np.full(x0.shape[0], times)

    x_t = q_sample_unchecked(recipe.schedule, x0, times, noise)
    truth = training_target_unchecked(recipe.schedule, x0, times, noise, recipe.target)
    loss, gradient = batch_gradient(recipe, state.params, x_t, times, labels, truth, ops)
    if recipe.max_grad_norm is not None:
        gradient = clip_by_global_norm(gradient, recipe.max_grad_norm)
    params, optimizer = recipe.optimizer.update(state.params, gradient, state.optimizer, ops)
    # A young average forgets faster: it would else keep much of the random start for long.
    decay = min(recipe.ema_decay, (1 + state.step) / (10 + state.step))
    average = ops.ema(state.average, params, decay)
    return TrainState(state.step + 1, params, average, optimizer, state.loss_sum + loss)


def batch_gradient(
    recipe: Recipe,
    flat_params: Array,
    x_t: Array,
    t: NDArray[np.integer[Any]],
    labels: Labels,
    truth: Array,
    ops: Ops,
) -> tuple[Array, Array]:
    """The loss of :func:`train_step` and its flat gradient, added up over the parts that ``ops`` cuts.

    loss  = sum over parts of mean(share * weight[t] * (prediction(x_t, t) - truth)^2)
    share = rows of the part / rows of the batch
    """
    params, size = recipe.layout.unravel(flat_params), x_t.shape[0]

    def part(rows: slice) -> tuple[Array, Array]:
        x, times, own_labels = x_t[rows, ...], t[rows], None if labels is None else labels[rows]
        share = x.shape[0] / size
        weight = share if recipe.weight is None else coefficient(share * recipe.weight[times], x)
        return recipe.loss_and_gradient(
            recipe.denoiser, params, x, times, own_labels, truth[rows, ...], weight, ops
        )

    parts = iter(ops.in_parts(part, size, math.prod(x_t.shape[1:-1])))
    loss, gradient = next(parts)
    for more_loss, more_gradient in parts:
        loss = loss + more_loss
        gradient += more_gradient
    return loss, gradient


def train(
    recipe: Recipe,
    state: TrainState,
    draw: Callable[[int], tuple[Array, ...]],
    ops: Ops,
    *,
    steps: int,
    report: Callable[[int, float], None] = lambda step, loss: None,
    report_every: int = 100,
    save: Callable[[TrainState], None] = lambda state: None,
    save_every: int = 1000,
) -> TrainState:
    """Take gradient steps until ``steps`` have been taken in all.

    Parameters
    ----------
    recipe : Recipe
    state : TrainState
        From :func:`init_state` or a checkpoint.
    draw : callable step -> (x0, t, noise) or (x0, t, noise, labels)
        The batch for a step, counted from 0, such as :func:`ddpm_np.runs.batches.batches` returns.
    ops : Ops
    steps : int
        Where to stop, counted from the start of the run.
    report : callable (step, loss)
        Called every ``report_every`` steps, and at the end, with the mean loss of the steps
        since the last multiple of ``report_every``. The loop waits for the device only here
        and before it saves.
    save : callable (state)
        Called every ``save_every`` steps, at the end, and on Ctrl-C before KeyboardInterrupt
        goes on. A step counts once it has been reported: one that Ctrl-C cuts short is taken
        again by the run that resumes.

    Returns
    -------
    TrainState

    Raises
    ------
    FloatingPointError
        If the loss or a parameter is no longer finite; such a state is not saved.
    """
    steps = check_integer("steps", steps, 0)
    report_every = check_integer("report_every", report_every, 1)
    save_every = check_integer("save_every", save_every, 1)
    for name, function in (("draw", draw), ("report", report), ("save", save)):
        check_callable(name, function)
    saved = -1
    try:
        while state.step < steps:
            x0, t, noise, *labels = _batch(draw(state.step))
            with np.errstate(over="ignore", invalid="ignore"):  # what they leave is looked for below
                new = train_step(recipe, state, x0, t, noise, ops, *labels)
            last = new.step == steps
            reporting = new.step % report_every == 0 or last
            saving = new.step % save_every == 0 or last
            if reporting or saving:
                mean_loss = _checked_mean_loss(new, report_every)
            if reporting:
                report(new.step, mean_loss)
            if new.step % report_every == 0:
                new = new._replace(loss_sum=_zero(new.params))
            state = new
            if saving:
                save(state)
                saved = state.step
    except KeyboardInterrupt:
        if state.step != saved and _is_finite(state):
            save(state)
        raise
    return state


def _batch(drawn: Any) -> tuple[Any, ...]:
    """What draw returned, if it is a batch."""
    if not isinstance(drawn, tuple | list) or len(drawn) not in (3, 4):
        raise TypeError(f"draw must return (x0, t, noise), perhaps with labels, got {describe(drawn)}")
    return tuple(drawn)


def _checked_mean_loss(state: TrainState, report_every: int) -> float:
    """Mean of the losses since the last multiple of report_every; waits for the device."""
    if not _is_finite(state):
        raise FloatingPointError(
            f"training diverged by step {state.step}: the loss or a parameter is no longer finite; "
            "look for NaN in the data, or try a lower learning rate"
        )
    return float(state.loss_sum) / ((state.step - 1) % report_every + 1)


def _is_finite(state: TrainState) -> bool:
    xp = array_namespace(state.params)
    return math.isfinite(float(state.loss_sum)) and bool(xp.all(xp.isfinite(state.params)))


def _zero(like: Array) -> Array:
    return array_namespace(like).zeros_like(like[0])
