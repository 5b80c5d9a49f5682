"""Evaluating a trained network: as a callable, by its bound, with standard errors."""

import functools
import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_np._arrays import Array, Predictor, Table, Times, array_namespace, check_arrays
from ddpm_np._checks import as_floats, check_callable, describe
from ddpm_np.elbo import Elbo, PriorWarning, elbo_decomposition
from ddpm_np.nn.denoisers import Labels, check_labels_array
from ddpm_np.nn.ops import Ops, forward_only
from ddpm_np.reverse import made_for
from ddpm_np.schedules import Schedule, check_schedule
from ddpm_np.targets import Target
from ddpm_np.training import Recipe

TERMS_AT_A_TIME = 10_000_000


def predictor(recipe: Recipe, flat_params: Array, ops: Ops, labels: Labels = None) -> Predictor:
    """Make the network a callable (x_t, t) -> prediction, for the bound, the samplers and the flow.

    ``flat_params`` are those of a state, usually ``state.average``. Labels, for a denoiser that sees
    classes, are one for each example. Its attribute T is that of the recipe's schedule: the bound and
    the samplers refuse another. Its attribute vjp gives products with the network's Jacobian, by its
    backward, as :mod:`ddpm_np.flow` wants them.
    """
    check_labels_array(labels)
    params, lean_ops = recipe.layout.unravel(flat_params), forward_only(ops)

    def in_parts(part: Callable[[slice], Array], x: Array) -> Array:
        parts = list(ops.in_parts(part, x.shape[0], math.prod(x.shape[1:-1])))
        return parts[0] if len(parts) == 1 else array_namespace(x).concat(parts)

    def forward(x_t: Array, t: Times, rows: slice, ops: Ops) -> tuple[Array, Any]:
        times = t if isinstance(t, int) else t[rows]
        own_labels = None if labels is None else labels[rows]
        return recipe.denoiser.forward(params, x_t[rows, ...], times, ops, own_labels)

    def predict(x_t: Array, t: Times) -> Array:
        return in_parts(lambda rows: forward(x_t, t, rows, lean_ops)[0], x_t)

    def vjp(x_t: Array, t: Times) -> tuple[Array, Callable[[Array], Array]]:
        caches: dict[int, Any] = {}

        def part(rows: slice) -> Array:
            prediction, caches[rows.start] = forward(x_t, t, rows, ops)
            return prediction

        def part_back(v: Array, rows: slice) -> Array:
            return recipe.denoiser.backward(params, caches[rows.start], v[rows, ...], ops)[0]

        return in_parts(part, x_t), lambda v: in_parts(partial(part_back, v), v)

    predict.vjp = vjp  # type: ignore[attr-defined]
    return made_for(recipe.schedule.T, predict)


def elbo_in_chunks(
    schedule: Schedule,
    predict: Predictor,
    x0: NDArray[Any],
    *,
    noise: Callable[[int], NDArray[Any]],
    sigma2: Table,
    target: Target = "eps",
    asarray: Callable[[NDArray[Any]], Array] = np.asarray,
    to_numpy: Callable[[Array], NDArray[Any]] = np.asarray,
) -> Elbo:
    """Evaluate the bound on any number of examples, in chunks that keep memory small.

    Parameters
    ----------
    schedule, predict, sigma2, target
        As in :func:`ddpm_np.elbo_decomposition`, with its Gaussian decoder and without its
        :class:`ddpm_np.PriorWarning`.
    x0 : host array, shape (B, ...)
        Observations.
    noise : callable t -> host array of the shape of x0
        Standard normal draws; asked once for each chunk, so a pure function of t.
    asarray, to_numpy : callable
        Bring host arrays to where ``predict`` computes, in its dtype, and results back.

    Returns
    -------
    Elbo
        On the host, float64, in nats; L_T, L_0 and total of shape (B,), L averaged over the
        examples, of shape (T + 1,).

    Raises
    ------
    TypeError, ValueError
        As :func:`ddpm_np.elbo_decomposition` does.
    """
    check_arrays(x0=x0)
    check_callable("noise", noise)

    def draw(t: int, chunk: slice) -> Array:
        eps = noise(t)
        check_arrays(noise=eps)
        if eps.shape != x0.shape:
            raise ValueError(f"noise must have the shape of x0, {x0.shape}, got {eps.shape}")
        return asarray(eps[chunk])

    size = max(1, TERMS_AT_A_TIME // (check_schedule(schedule).T + 1))
    parts = []
    for start in range(0, len(x0), size):
        chunk = slice(start, start + size)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PriorWarning)
            terms = elbo_decomposition(
                schedule,
                predict,
                asarray(x0[chunk]),
                noise=functools.partial(draw, chunk=chunk),
                sigma2=sigma2,
                target=target,
            )
        host = Elbo(*(to_numpy(term).astype(np.float64) for term in terms))
        parts.append(host._replace(L=np.sum(host.L, axis=1)))
    joined = Elbo(*(np.concatenate([part[k] for part in parts]) for k in range(4)))
    return joined._replace(L=np.sum([part.L for part in parts], axis=0) / len(x0))


def standard_error(values: NDArray[Any]) -> float:
    """Standard error of the mean of independent values; at least two."""
    numbers = as_floats("values", values)
    if numbers.ndim != 1 or len(numbers) < 2:
        raise ValueError(f"values must be two numbers or more, got {describe(values)}")
    return float(np.std(numbers, ddof=1) / math.sqrt(len(numbers)))
