"""Register tiles: the vector instructions under the products and convolutions of the Numba backend.

An intrinsic writes LLVM's instructions itself: its inner function gets the arguments as LLVM values
and a builder. Addresses are those of float32 numbers, and a step is the distance in numbers between
neighbours along one index.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias, TypeVar

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import extending, types
from numba.core import cgutils, config
from numba.core.base import BaseContext
from numba.core.typing import Context, Signature
from numpy.typing import NDArray

from backends.numba_cache import kept_njit

F = TypeVar("F", bound=Callable[..., object])

# error_model="numpy" leaves out the check for division by zero, which stops vectorisation;
# the fastmath flags allow fused multiply-add but still respect NaN and infinity. All loops run
# without Python's lock, and none in parallel: threads split the batch, see numba_threads.
_OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz"}}
compiled: Callable[[F], F] = kept_njit(**_OPTIONS)
inlined: Callable[[F], F] = kept_njit(inline="always", **_OPTIONS)
summing: Callable[[F], F] = kept_njit(**_OPTIONS | {"fastmath": {"contract", "nsz", "reassoc"}})
"""Allows sums in any order."""

REAL = np.float32
Reals: TypeAlias = NDArray[np.float32]
"""A contiguous array of float32 numbers, or a view of one."""

Address: TypeAlias = int
"""Where a float32 number lies in memory; a pointer in compiled code."""

Generator: TypeAlias = Callable[[BaseContext, ir.IRBuilder, Signature, Sequence[ir.Value]], ir.Value]
Intrinsic: TypeAlias = tuple[Signature, Generator]
"""What Numba expects of an intrinsic: its signature, and a function that writes its instructions."""

intrinsic: Callable[[Callable[..., Intrinsic]], Callable[..., Any]] = extending.intrinsic


def _lanes() -> int:
    """float32 numbers in the processor's widest vector register."""
    features = config.CPU_FEATURES
    if features is None:
        features = llvmlite.binding.get_host_cpu_features().flatten()
    return 16 if "+avx512f" in features else 8 if "+avx2" in features else 4


LANES = _lanes()
ROWS = 8 if LANES == 16 else 4
WIDE = 2 * LANES
"""The largest tile: ROWS x WIDE numbers in 16 (or 8) registers."""


def _pointer(builder: ir.IRBuilder, start: ir.Value, offset: ir.Value, lanes: int) -> ir.Value:
    """Address of a vector at this offset from the start."""
    vector = ir.VectorType(ir.FloatType(), lanes)
    return builder.bitcast(builder.gep(start, [offset]), vector.as_pointer())


def _offset(builder: ir.IRBuilder, step: ir.Value, count: int) -> ir.Value:
    return builder.mul(step, ir.IntType(64)(count))


# --- the register tile --------------------------------------------------------------------


def _tile(rows: int, vectors: int, lanes: int) -> Callable[..., None]:
    """Make c[i, j] = start[i, j] + sum over o, k of a[i, o, k] b[o, k, j], in registers.

    For i < rows and j < vectors * lanes. Operands are tuples: an address, and its steps along i, o
    and k as far as it has them; along j, numbers are neighbours. A start whose step is 0 is one row
    for all. The sizes are those of o and k.
    """

    @intrinsic
    def tile(
        typing: Context,
        a: types.Type,
        b: types.Type,
        start: types.Type,
        c: types.Type,
        sizes: types.Type,
    ) -> Intrinsic:
        def generate(
            context: BaseContext,
            builder: ir.IRBuilder,
            signature: Signature,
            values: Sequence[ir.Value],
        ) -> ir.Value:
            a, b, start, c, sizes = (cgutils.unpack_tuple(builder, value) for value in values)
            (a, a_row, a_outer, a_inner), (b, b_outer, b_inner) = a, b
            (start, start_row), (c, c_row), (outer, inner) = start, c, sizes
            integer, vector = ir.IntType(64), ir.VectorType(ir.FloatType(), lanes)
            name = f"llvm.fma.v{lanes}f32"
            fma = builder.module.globals.get(name) or ir.Function(
                builder.module, ir.FunctionType(vector, [vector] * 3), name
            )

            def pointers(first: ir.Value) -> list[ir.Value]:
                """Addresses of the vectors of a row."""
                return [_pointer(builder, first, integer(v * lanes), lanes) for v in range(vectors)]

            def row(first: ir.Value, step: ir.Value, i: int) -> ir.Value:
                return builder.gep(first, [_offset(builder, step, i)])

            sums = [[cgutils.alloca_once(builder, vector) for _ in range(vectors)] for _ in range(rows)]
            begin = [pointers(row(start, start_row, i)) for i in range(rows)]
            end = [pointers(row(c, c_row, i)) for i in range(rows)]
            for i in range(rows):
                for v in range(vectors):
                    builder.store(builder.load(begin[i][v], align=4), sums[i][v])
            undefined = ir.Constant(vector, ir.Undefined)
            everywhere = ir.Constant(ir.VectorType(ir.IntType(32), lanes), None)
            with cgutils.for_range(builder, outer, intp=integer) as outside:
                a_start = builder.gep(a, [builder.mul(outside.index, a_outer)])
                b_start = builder.gep(b, [builder.mul(outside.index, b_outer)])
                with cgutils.for_range(builder, inner, intp=integer) as inside:
                    a_k = builder.gep(a_start, [builder.mul(inside.index, a_inner)])
                    b_k = builder.gep(b_start, [builder.mul(inside.index, b_inner)])
                    columns = [builder.load(pointer, align=4) for pointer in pointers(b_k)]
                    for i in range(rows):
                        scalar = builder.load(row(a_k, a_row, i))
                        one = builder.insert_element(undefined, scalar, ir.IntType(32)(0))
                        spread = builder.shuffle_vector(one, undefined, everywhere)
                        for v in range(vectors):
                            total = builder.load(sums[i][v])
                            builder.store(builder.call(fma, [spread, columns[v], total]), sums[i][v])
            for i in range(rows):
                for v in range(vectors):
                    builder.store(builder.load(sums[i][v]), end[i][v], align=4)
            return context.get_dummy_value()

        return types.void(a, b, start, c, sizes), generate

    return tile


tall_wide, tall_narrow, tall_single = _tile(ROWS, 2, LANES), _tile(ROWS, 1, LANES), _tile(ROWS, 1, 1)
flat_wide, flat_narrow, flat_single = _tile(1, 2, LANES), _tile(1, 1, LANES), _tile(1, 1, 1)


# --- single numbers -----------------------------------------------------------------------


@intrinsic
def address(typing: Context, place: types.Type, offset: types.Type) -> Intrinsic:
    """Address of the number at this offset from the first of an array, or from another address."""
    pointer = place if isinstance(place, types.CPointer) else types.CPointer(place.dtype)

    def generate(
        context: BaseContext, builder: ir.IRBuilder, signature: Signature, values: Sequence[ir.Value]
    ) -> ir.Value:
        start, steps = values
        if place is not pointer:
            start = context.make_array(place)(context, builder, start).data
        return builder.gep(start, [steps])

    return pointer(place, types.int64), generate


@intrinsic
def fma(typing: Context, a: types.Type, b: types.Type, c: types.Type) -> Intrinsic:
    """Return a * b + c with one rounding, of float32 numbers."""

    def generate(
        context: BaseContext, builder: ir.IRBuilder, signature: Signature, values: Sequence[ir.Value]
    ) -> ir.Value:
        return builder.fma(*values)

    return types.float32(types.float32, types.float32, types.float32), generate


# --- squares ------------------------------------------------------------------------------


@intrinsic
def transpose_square(
    typing: Context, a: types.Type, a_row: types.Type, result: types.Type, result_row: types.Type
) -> Intrinsic:
    """Transpose LANES x LANES numbers; a_row and result_row are the distances between rows.

    In log2(LANES) rounds, each of which swaps the off-diagonal halves of all squares half as large.
    """

    def generate(
        context: BaseContext, builder: ir.IRBuilder, signature: Signature, values: Sequence[ir.Value]
    ) -> ir.Value:
        a, a_row, result, result_row = values

        def row(start: ir.Value, step: ir.Value, i: int) -> ir.Value:
            return _pointer(builder, start, _offset(builder, step, i), LANES)

        def mix(first: ir.Value, second: ir.Value, lanes: list[int]) -> ir.Value:
            mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), lanes)
            return builder.shuffle_vector(first, second, mask)

        rows = [builder.load(row(a, a_row, i), align=4) for i in range(LANES)]
        half = LANES // 2
        while half:
            upper = [k if not k & half else k - half + LANES for k in range(LANES)]
            lower = [k + half if not k & half else k + LANES for k in range(LANES)]
            for i in range(LANES):
                if not i & half:
                    first, second = rows[i], rows[i + half]
                    rows[i], rows[i + half] = mix(first, second, upper), mix(first, second, lower)
            half //= 2
        for i, numbers in enumerate(rows):
            builder.store(numbers, row(result, result_row, i), align=4)
        return context.get_dummy_value()

    return types.void(a, a_row, result, result_row), generate


def sandwich(matrix: Sequence[Sequence[float]], add: bool) -> Callable[..., None]:
    """Make y[u, v] = sum over i, j of matrix[u, i] x[i, j] matrix[v, j], of LANES channels at once.

    Adds to y if asked to. x and y are tuples: an address, and its steps along rows and columns.
    """

    @intrinsic
    def sandwich(typing: Context, x: types.Type, y: types.Type) -> Intrinsic:
        def generate(
            context: BaseContext,
            builder: ir.IRBuilder,
            signature: Signature,
            values: Sequence[ir.Value],
        ) -> ir.Value:
            (x, x_row, x_column), (y, y_row, y_column) = (
                cgutils.unpack_tuple(builder, value) for value in values
            )
            vector = ir.VectorType(ir.FloatType(), LANES)

            def place(start: ir.Value, row: ir.Value, column: ir.Value, i: int, j: int) -> ir.Value:
                offset = builder.add(_offset(builder, row, i), _offset(builder, column, j))
                return _pointer(builder, start, offset, LANES)

            def combine(factors: Sequence[float], terms: Iterable[ir.Value]) -> ir.Value:
                total = None
                for factor, term in zip(factors, terms, strict=True):
                    if factor == 0.0:
                        continue
                    if abs(factor) != 1.0:
                        term = builder.fmul(term, ir.Constant(vector, [abs(factor)] * LANES))
                    if total is None:
                        zero = ir.Constant(vector, [0.0] * LANES)
                        total = term if factor > 0.0 else builder.fsub(zero, term)
                    else:
                        total = (builder.fadd if factor > 0.0 else builder.fsub)(total, term)
                return total

            inputs = range(len(matrix[0]))
            loaded = [
                [builder.load(place(x, x_row, x_column, i, j), align=4) for j in inputs] for i in inputs
            ]
            halfway = [[combine(factors, row) for factors in matrix] for row in loaded]
            for v, column in enumerate(zip(*halfway, strict=True)):
                for u, factors in enumerate(matrix):
                    result, at = combine(factors, column), place(y, y_row, y_column, u, v)
                    if add:
                        result = builder.fadd(builder.load(at, align=4), result)
                    builder.store(result, at, align=4)
            return context.get_dummy_value()

        return types.void(x, y), generate

    return sandwich
