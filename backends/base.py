"""The Backend, and how one is chosen."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
from array_api_compat import is_array_api_obj
from numpy.typing import NDArray

from ddpm_np._arrays import Array
from ddpm_np._checks import describe
from ddpm_np.nn.ops import Ops
from ddpm_np.randomness import generator

Key: TypeAlias = tuple[int, ...]
"""What a draw is a function of: (seed, stream, step, ...)."""

Shape: TypeAlias = tuple[int, ...]

Normal: TypeAlias = Callable[[Key, Shape, str], Array]
"""Standard normal draws: (key, shape, dtype) to an array."""

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
NAMES = ("auto", "cupy", "numba", "numpy")
NOISE = ("host", "device")


class BackendError(RuntimeError):
    """A requested backend cannot run here; the message says what to do in one sentence."""


@dataclass(frozen=True)
class Backend:
    """Everything that differs between numpy, numba and cupy, as a value.

    Attributes
    ----------
    name : str
        "numpy", "numba" or "cupy".
    xp : module
        The array library, in its array API form.
    device : str
        For display: "cpu", or the GPU's name.
    ops : Ops
        The fused kernels, for :mod:`ddpm_np.nn`.
    asarray : callable (values, dtype) -> array
        Host values, or an array of this backend, as an array of this backend; dtype is
        "float32" or "float64". Arrays of other libraries are refused with TypeError.
    to_numpy : callable (array) -> NumPy array
        Waits for the device.
    normal : callable (key, shape, dtype) -> array
        Standard normal draws, a pure function of the key, a tuple of integers
        (seed, stream, step, ...).
    synchronize : callable ()
        Wait for the device; does nothing on the CPU.
    device_normal : callable (key, shape, dtype) -> array, or None
        Draws made on the device, which differ from the host's; None where the device is the host.
    """

    name: str
    xp: ModuleType
    device: str
    ops: Ops
    asarray: Callable[[Any, str], Array]
    to_numpy: Callable[[Array], NDArray[Any]]
    normal: Normal
    synchronize: Callable[[], None]
    device_normal: Normal | None = None


def get_backend(name: str = "auto", noise: str = "host") -> Backend:
    """Return a backend by name.

    "auto" is cupy if a GPU works, else numba if it is installed, else numpy.

    With noise from the "host", all backends draw the same numbers. With noise from the "device", a
    GPU draws its own numbers, and none are copied to it; backends on the CPU refuse, rather than
    draw the host's numbers under another name.

    Raises
    ------
    ValueError
        If the name, or the source of the noise, is unknown.
    BackendError
        If the backend cannot run here, with the reason and the install command; or if it has no
        device to draw noise on.
    """
    if name not in NAMES:
        raise ValueError(f"backend must be one of {', '.join(map(repr, NAMES))}, got {name!r}")
    if noise not in NOISE:
        raise ValueError(f"noise must be one of {', '.join(map(repr, NOISE))}, got {noise!r}")
    backend = _choose(name)
    if noise == "host":
        return backend
    if backend.device_normal is None:
        raise BackendError(
            f"backend {backend.name} draws noise on the host, and has no other device; "
            "choose --noise host, or --backend cupy on a machine with an NVIDIA GPU"
        )
    return replace(backend, normal=backend.device_normal)


def _choose(name: str) -> Backend:
    if name != "auto":
        return _make(name)
    for candidate in ("cupy", "numba"):
        try:
            return _make(candidate)
        except BackendError:
            continue
    return _make("numpy")


def describe_backend(asked: str, backend: Backend) -> str:
    """Describe in one line which backend runs, where, and why "auto" took it."""
    line = f"backend: {backend.name} on {backend.device}"
    if asked != "auto" or backend.name == "cupy":
        return line
    reasons = []
    for candidate in ("cupy", "numba"):
        if candidate == backend.name:
            break
        try:
            _make(candidate)
        except BackendError as error:
            reasons.append(str(error))
    return f"{line} (auto: {'; '.join(reasons)})"


def host_normal(key: Key, shape: Shape, dtype: str) -> NDArray[Any]:
    """Standard normal draws on the host, a pure function of the key."""
    return generator(*key).standard_normal(shape, dtype=np.dtype(dtype).type)


def host_asarray(values: Any, dtype: str) -> NDArray[Any]:
    """Host values as a NumPy array; arrays of other libraries are refused."""
    if is_array_api_obj(values) and not isinstance(values, np.ndarray | np.generic):
        raise TypeError(
            f"values must be host values or a NumPy array, got an array of {type(values).__module__}; "
            "copy it to the host first"
        )
    if dtype not in ("float32", "float64"):
        raise ValueError(f"dtype must be 'float32' or 'float64', got {dtype!r}")
    host = np.asarray(values)
    if host.dtype.kind not in "fiu" or isinstance(values, np.ma.MaskedArray):
        raise TypeError(f"values must be real numbers, got {type(values).__name__} of {host.dtype}")
    return np.asarray(host, dtype=dtype, order="C")


def check_own(library: str, kind: type[Any], arrays: dict[str, Array]) -> None:
    """Refuse arrays that are not of a library's type, in float32 or float64, all in one dtype."""
    first_name, first = next(iter(arrays.items()))
    for name, array in arrays.items():
        if type(array) is not kind or array.dtype not in FLOATS:
            raise TypeError(
                f"{name} must be a {library} array of float32 or float64, got {describe(array)}"
            )
        if array.dtype != first.dtype:
            raise ValueError(
                f"{name} must have the dtype of {first_name}, {first.dtype}, got {array.dtype}"
            )


def check_shapes(**arrays: tuple[Array, Shape]) -> None:
    """Refuse arrays of other shapes than those given: kernels check no bounds."""
    for name, (array, shape) in arrays.items():
        if array.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, got {array.shape}")


def check_weight(name: str, weight: Array, shape: Shape) -> None:
    """Refuse a weight that is not one number, or as the array it weighs but for sizes of 1.

    With fewer axes, a weight for each row would be taken for one for each column.
    """
    axes = weight.shape
    if axes and (
        len(axes) != len(shape) or any(a not in (1, b) for a, b in zip(axes, shape, strict=True))
    ):
        raise ValueError(
            f"{name} must have shape {shape}, or 1 in place of any of its sizes, got {axes}"
        )


def numpy_arrays(**arrays: Array) -> tuple[NDArray[Any], ...]:
    """Return contiguous NumPy arrays that agree; refuse others, which Numba would convert silently."""
    values = tuple(arrays.values())
    if _are_ready(values):
        return values
    check_own("NumPy", np.ndarray, arrays)
    return tuple(np.asarray(array, order="C") for array in values)


def _are_ready(arrays: tuple[Array, ...]) -> bool:
    """Say whether :func:`numpy_arrays` may return these as they are: the usual case, decided quickly."""
    first = arrays[0]
    if type(first) is not np.ndarray or first.dtype not in FLOATS:
        return False
    dtype = first.dtype
    for array in arrays:
        if type(array) is not np.ndarray or array.dtype != dtype or not array.flags.c_contiguous:
            return False
    return True


def _make(name: str) -> Backend:
    try:
        backend: Backend = importlib.import_module(f"backends.{name}_backend").make()
    except BackendError:
        raise
    except Exception as error:  # a half-working installation can raise anything
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise BackendError(f"backend {name} cannot run: {text}") from error
    return backend
