"""How the CuPy backend starts a kernel of cupy_kernels, and which arrays it accepts."""

import functools
import re
from collections.abc import Callable
from typing import Any, TypeAlias

import cupy
import numpy as np

from backends.base import check_own
from backends.cupy_kernels import BLOCK, SOURCE
from ddpm_np._arrays import Array

C_TYPES = {np.dtype("float32"): "float", np.dtype("float64"): "double"}

SIGNATURES = {
    name: tuple(parameters.split(","))
    for name, parameters in re.findall(r"__global__\s+void (\w+)\(([^)]*)\)", SOURCE)
}
"""What each kernel takes, as the source declares it."""

Argument: TypeAlias = Array | float | np.generic
Kernel: TypeAlias = Callable[[tuple[int], tuple[int], tuple[Argument, ...]], None]
"""A compiled kernel: (blocks,), (threads of a block,) and the arguments."""


def cupy_arrays(**arrays: Array) -> tuple[Array, ...]:
    """Return contiguous CuPy arrays that agree; refuse others, since kernels see bare addresses."""
    check_own("CuPy", cupy.ndarray, arrays)
    here = cupy.cuda.Device()
    for name, array in arrays.items():
        if array.device != here:
            raise ValueError(f"{name} must be on the current GPU, {here}, got {array.device}")
    return tuple(cupy.asarray(array, order="C") for array in arrays.values())


def launch_each(kernel: str, like: Array, *arguments: Argument) -> None:
    """Enqueue a kernel with one thread for each number of an array."""
    launch(kernel, -(-like.size // BLOCK), like.dtype, *arguments, like.size)


def launch(
    kernel: str, blocks: int, dtype: np.dtype[Any], *arguments: Argument, threads: int = BLOCK
) -> None:
    """Enqueue a kernel on the current stream, with its arguments in the order of its declaration.

    Without blocks, which CUDA refuses, nothing is launched.
    """
    if blocks:
        declared = zip(SIGNATURES[kernel], arguments, strict=True)
        values = tuple(_convert(parameter, value, dtype) for parameter, value in declared)
        _function(kernel, dtype)((blocks,), (threads,), values)


def _convert(parameter: str, value: Argument, dtype: np.dtype[Any]) -> Argument:
    """Convert an argument to the type that the source declares for it."""
    if "*" in parameter:
        return value
    if "REAL" in parameter:
        real: np.generic = dtype.type(value)
        return real
    return (np.uint64 if "unsigned" in parameter else np.int64)(value)


@functools.cache
def _function(kernel: str, dtype: np.dtype[Any]) -> Kernel:
    return _module(dtype).get_function(kernel)


@functools.cache
def _module(dtype: np.dtype[Any]) -> cupy.RawModule:
    return cupy.RawModule(code=SOURCE, options=(f"-DREAL={C_TYPES[dtype]}", f"-DBLOCK={BLOCK}"))
