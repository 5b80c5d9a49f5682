"""What every formula needs for its array arguments: checks, and coefficients cast to match.

Checks happen here, at the boundary of the public functions, and look only at what the host
knows (type, shape, dtype, device): nothing in this module waits for an accelerator, except
:func:`check_finite` and a time argument that lives on one.
"""

import math
import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import array_api_compat
import numpy as np
from array_api_compat import is_array_api_obj
from numpy.typing import NDArray

from ddpm_np._checks import as_table as as_table
from ddpm_np._checks import check_integer, check_plain, describe
from ddpm_np._checks import check_table as check_table

Array: TypeAlias = Any
"""An array of any library that follows the array API standard."""

Table: TypeAlias = NDArray[np.float64]
"""A host float64 array indexed by time, of length T + 1."""

Times: TypeAlias = int | NDArray[np.integer[Any]]
"""One time for the whole batch, or one per example, on the host."""

Predictor: TypeAlias = Callable[[Array, int], Array]
"""A network or any other callable: (x_t, t) to a prediction of the shape of x_t."""

Noise: TypeAlias = Callable[[int], Array] | Array
"""Standard normal draws: a function of t, or an array of shape (T + 1, B, ...)."""

MeanFunction: TypeAlias = Callable[[Array, int], Array]
"""The model means: (x_t, t) to mu_theta(x_t, t), of the shape of x_t; t is an int."""

Samples: TypeAlias = NDArray[np.float64]
"""Host float64 draws, shape (n, d)."""

BatchPredictor: TypeAlias = Callable[[Array, Any], Array]
"""A network: (x_t, t) to a prediction of the shape of x_t; t is an int or of shape (B,)."""


FLOAT32_MAX = float(np.finfo(np.float32).max)
_NAMESPACES: dict[type, Any] = {np.ndarray: np}  # NumPy >= 2.1 follows the standard


def array_namespace(x: Array, name: str = "an argument") -> Any:
    """The array API namespace of an array, looked up once per type; TypeError for what is none."""
    kind = type(x)
    namespace = _NAMESPACES.get(kind)
    if namespace is None:
        check_plain(name, x)
        if not is_array_api_obj(x):
            raise TypeError(f"{name} must be an array, got {describe(x)}")
        of_numpy = isinstance(x, np.ndarray | np.generic)
        namespace = _NAMESPACES[kind] = np if of_numpy else array_api_compat.array_namespace(x)
    return namespace


def device(x: Array) -> Any:
    """The device of an array."""
    return "cpu" if type(x) is np.ndarray else array_api_compat.device(x)


def check_arrays(**arrays: Array) -> Any:
    """Check that the named arrays agree, and return their namespace.

    They must be real floating arrays of one library, one device, one dtype and one shape
    (B, ...) with B >= 1.
    """
    if _are_alike(arrays.values()):
        return np
    namespaces = {name: array_namespace(x, name) for name, x in arrays.items()}
    first_name, first = next(iter(arrays.items()))
    xp = namespaces[first_name]
    for name, x in arrays.items():
        if namespaces[name] is not xp:
            raise TypeError(
                f"{name} must come from the same array library as {first_name}, "
                f"got {describe(x)} beside {describe(first)}"
            )
    for name, x in arrays.items():
        check_dtype(name, x)
        if x.dtype != first.dtype:
            raise TypeError(f"{name} must have the dtype of {first_name}, {first.dtype}, got {x.dtype}")
        if x.shape != first.shape:
            raise ValueError(f"{name} must have the shape of {first_name}, {first.shape}, got {x.shape}")
        if device(x) != device(first):
            raise ValueError(
                f"{name} must be on the device of {first_name}, {device(first)}, got {device(x)}"
            )
    if len(first.shape) == 0 or 0 in first.shape:
        raise ValueError(
            f"{first_name} must have shape (B, ...) with at least one example and no empty axis, "
            f"got {first.shape}"
        )
    return xp


def check_dtype(name: str, x: Array) -> None:
    """Raise TypeError unless an array is float32 or float64, in native byte order."""
    xp = array_namespace(x, name)
    if not xp.isdtype(x.dtype, "real floating"):
        raise TypeError(f"{name} must have a real floating dtype, got {x.dtype}")
    if x.dtype not in (xp.float32, xp.float64):
        raise TypeError(f"{name} must be float32 or float64, in native byte order, got {x.dtype}")


def check_layer_input(name: str, x: Array) -> Any:
    """Raise unless an array is floating, and return its namespace.

    Layers and operations know no dtype: a complex step makes theirs complex, and more digits check them.
    """
    if type(x) is np.ndarray and x.dtype.kind in "fc" and x.dtype.isnative:
        return np
    xp = array_namespace(x, name)
    if xp is np or not xp.isdtype(x.dtype, ("real floating", "complex floating")):
        check_dtype(name, x)
    return xp


def _are_alike(arrays: Iterable[Array]) -> bool:
    """Spot the usual case fast: non-empty NumPy arrays that agree."""
    first = next(iter(arrays))
    if type(first) is not np.ndarray or first.dtype.char not in "fd" or not first.size or not first.ndim:
        return False
    kind, shape = first.dtype, first.shape
    if not kind.isnative:
        return False
    return all(type(x) is np.ndarray and x.dtype == kind and x.shape == shape for x in arrays)


def check_finite(name: str, x: Array) -> None:
    """Raise if an array holds NaN or infinity. Waits for the device."""
    xp = array_namespace(x)
    bad = int(xp.count_nonzero(~xp.isfinite(x)))
    if bad:
        raise ValueError(
            f"{name} must be finite, got {bad} NaN or infinite of its {math.prod(x.shape)} entries"
        )


def to_host(x: Array) -> NDArray[Any]:
    """Copy an array of any library to a NumPy array. Explicit, and waits for the device."""
    if isinstance(x, np.ndarray | np.generic):
        return np.asarray(x)
    return np.from_dlpack(x, device="cpu", copy=True)


def check_times(t: object, T: int, batch: int | None, minimum: int = 1) -> Times:
    """Return ``t`` on the host, as an int or an integer array of shape (batch,).

    Out-of-range indices wrap silently in array libraries, so the range is checked here.
    ``batch=None`` allows any one-dimensional array.
    """
    if type(t) is int and minimum <= t <= T:
        return t
    if type(t) is np.ndarray and batch and _are_times(t, T, batch, minimum):
        return t
    if isinstance(t, list | tuple):
        raise TypeError(
            f"t must be an integer between {minimum} and {T}, got {describe(t)}; "
            "or an integer array of shape (B,)"
        )
    if type(t) is not np.ndarray and (not is_array_api_obj(t) or isinstance(t, np.generic)):
        if minimum > T:
            raise ValueError(
                f"schedule must have T >= {minimum} where t starts at {minimum}, got T = {T}"
            )
        return check_integer("t", t, minimum, T)
    check_plain("t", t)
    times = to_host(t)
    if times.dtype.kind not in "iu":
        raise TypeError(f"t must hold integers between {minimum} and {T}, got dtype {times.dtype}")
    if times.ndim == 0:
        return check_integer("t", int(times), minimum, T)
    if times.ndim != 1 or (batch is not None and times.shape[0] != batch):
        wanted = "(B,)" if batch is None else f"({batch},)"
        raise ValueError(
            f"t must be an int or have shape {wanted}, one time per example, got {times.shape}"
        )
    if times.size and (times.min() < minimum or times.max() > T):
        raise ValueError(
            f"t must be between {minimum} and {T}, got values from {times.min()} to {times.max()}"
        )
    return times.astype(np.int64, copy=False)  # so that t - 1 and t + 1 cannot wrap


def _are_times(t: NDArray[Any], T: int, batch: int, minimum: int) -> bool:
    """Spot the usual case fast: int64 times of shape (batch,), all in range."""
    if t.dtype != np.int64 or t.shape != (batch,):
        return False
    return bool(minimum <= np.minimum.reduce(t) and np.maximum.reduce(t) <= T)


def from_1(entries: NDArray[Any]) -> NDArray[Any]:
    """Entries for t = 1..T as a table, whose entry 0 is 0."""
    return np.concatenate([np.zeros_like(entries[:1]), entries])


def cumulative_sum(terms: Iterable[float]) -> Table:
    """Running sums with Kahan-Neumaier compensation: the error does not grow with T."""
    sums = []
    total = correction = 0.0
    for term in terms:
        new = total + float(term)
        correction += (total - new) + term if abs(total) >= abs(term) else (term - new) + total
        total = new
        sums.append(total + correction)
    return np.array(sums)


def coefficient(values: Any, like: Array) -> Array | float:
    """Make host float64 coefficients, taken from a table at t, ready to multiply ``like``.

    A scalar (t was an int) gives a float. Values of shape (B,) give an array of shape
    (B, 1, ..., 1) with the dtype and device of ``like``: the one place where host tables
    meet device arrays.
    """
    largest = float(np.max(np.abs(values))) if np.ndim(values) else abs(float(values))
    if not largest <= _largest(like):
        raise ValueError(
            f"a coefficient at t is {largest:.3g}, which {like.dtype} cannot hold: "
            "alpha_bar[t] or a variance is too close to 0, or too large, for this formula"
        )
    return cast(values, like)


def cast(values: Any, like: Array) -> Array | float:
    """Return :func:`coefficient` of values that are known to fit, such as those in [0, 1]."""
    if np.ndim(values) == 0:
        return float(values)
    column = values.reshape((-1,) + (1,) * (len(like.shape) - 1))
    if type(like) is np.ndarray:
        return column.astype(like.dtype, copy=False)
    return array_namespace(like).asarray(column, dtype=like.dtype, device=device(like))


def _largest(like: Array) -> float:
    """Largest finite number that fits an array."""
    if type(like) is np.ndarray:  # np.finfo is slow
        return FLOAT32_MAX if like.dtype.char == "f" else sys.float_info.max
    return float(array_namespace(like).finfo(like.dtype).max)


def coefficient_array(values: Any, like: Array) -> Array:
    """Like :func:`coefficient`, but a scalar gives an array of shape ()."""
    value = coefficient(values, like)
    if isinstance(value, float):
        return array_namespace(like).asarray(value, dtype=like.dtype, device=device(like))
    return value


def clamp(x: Array, low: float, high: float) -> Array:
    """Limit entries to [low, high]; some libraries' own ``clip`` waits for the device."""
    xp = array_namespace(x)
    return xp.minimum(xp.maximum(x, xp.full_like(x, low)), xp.full_like(x, high))


def sum_features(x: Array) -> Array:
    """Sum over all axes but the first: shape (B, ...) to (B,)."""
    xp = array_namespace(x)
    if len(x.shape) == 1:
        return x
    return xp.sum(x, axis=tuple(range(1, len(x.shape))))


def noise_function(noise: Noise, x0: Array, T: int) -> Callable[[int], Array]:
    """Make the noise a function of t, however it was given; each draw must agree with x0."""
    if not callable(noise):
        shape = getattr(noise, "shape", None)
        if shape != (T + 1, *x0.shape):
            raise ValueError(
                f"noise must be a function of t or an array of shape (T + 1, *x0.shape) = "
                f"{(T + 1, *x0.shape)}, got {describe(noise)}"
            )

    def draw(t: int) -> Array:
        eps = noise(t) if callable(noise) else noise[t, ...]
        check_arrays(x0=x0, noise=eps)
        return eps

    return draw


def ask(predict: BatchPredictor, x_t: Array, t: Times) -> Array:
    """Call the network; its prediction must agree with x_t."""
    prediction = predict(x_t, t)
    known = type(x_t) is type(prediction) is np.ndarray
    if not (known and prediction.shape == x_t.shape and prediction.dtype == x_t.dtype):
        check_arrays(x_t=x_t, prediction=prediction)
    return prediction
