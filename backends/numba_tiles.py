"""Register tiles: the vector instructions under the products and convolutions of the Numba backend.

In products as small as these, packing the operands, as a BLAS library does, costs a tenth of the
time; and what a row of a product is does not depend on the rows beside it, to the last bit.

Numba's cache on disk notices changes of a function's own file, not of this one, which others
compile into theirs: after a change here, `make clean`.
"""

from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils, config
from numba.extending import intrinsic

# error_model="numpy" leaves out the check for division by zero, which stops vectorisation;
# the fastmath flags allow fused multiply-add but still respect NaN and infinity. All loops run
# without Python's lock, and none in parallel: threads belong to the batch, see numba_threads.
_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz"}}
compiled = njit(**_OPTIONS)
inlined = njit(inline="always", **_OPTIONS)
summing = njit(**_OPTIONS | {"fastmath": {"contract", "nsz", "reassoc"}})  # sums in any order
REAL = np.float32

# --- the register tile --------------------------------------------------------------------


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
THREADS: int = config.NUMBA_NUM_THREADS
"""NUMBA_NUM_THREADS, or else the number of cores that this process may use."""


def _tile(rows: int, vectors: int, lanes: int) -> Any:
    """Make c[i, j] = start[i, j] + sum over o, k of a[i, o, k] b[o, k, j], in registers.

    For i < rows and j < vectors * lanes. Element i, o, k of a lies i a_row + o a_outer + k a_inner
    from its start, and so on; those of one row of b, c and start lie side by side. If start_row is
    0 all rows start as the same one: a bias.
    """

    @intrinsic
    def tile(
        typing: Any, a: Any, a_row: Any, a_outer: Any, a_inner: Any, b: Any, b_outer: Any, b_inner: Any,
        start: Any, start_row: Any, c: Any, c_row: Any, outer: Any, inner: Any,
    ) -> Any:  # fmt: skip
        arguments = (
            a, a_row, a_outer, a_inner, b, b_outer, b_inner, start, start_row, c, c_row, outer, inner
        )  # fmt: skip

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            a, a_row, a_outer, a_inner, b, b_outer, b_inner, start, start_row, c, c_row = values[:11]
            outer, inner = values[11:]
            integer, real = ir.IntType(64), ir.FloatType()
            vector = ir.VectorType(real, lanes)
            name = f"llvm.fma.v{lanes}f32"
            fma = builder.module.globals.get(name) or ir.Function(
                builder.module, ir.FunctionType(vector, [vector] * 3), name
            )

            def places(first: Any, row: Any) -> list[list[Any]]:
                starts = [builder.gep(first, [builder.mul(row, integer(i))]) for i in range(rows)]
                return [
                    [
                        builder.bitcast(builder.gep(at, [integer(v * lanes)]), vector.as_pointer())
                        for v in range(vectors)
                    ]
                    for at in starts
                ]

            sums = [[cgutils.alloca_once(builder, vector) for _ in range(vectors)] for _ in range(rows)]
            begin, end = places(start, start_row), places(c, c_row)
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
                    columns = [
                        builder.load(
                            builder.bitcast(builder.gep(b_k, [integer(v * lanes)]), vector.as_pointer()),
                            align=4,
                        )
                        for v in range(vectors)
                    ]
                    for i in range(rows):
                        scalar = builder.load(builder.gep(a_k, [builder.mul(a_row, integer(i))]))
                        one = builder.insert_element(undefined, scalar, ir.IntType(32)(0))
                        spread = builder.shuffle_vector(one, undefined, everywhere)
                        for v in range(vectors):
                            total = builder.load(sums[i][v])
                            builder.store(builder.call(fma, [spread, columns[v], total]), sums[i][v])
            for i in range(rows):
                for v in range(vectors):
                    builder.store(builder.load(sums[i][v]), end[i][v], align=4)
            return context.get_dummy_value()

        return types.void(*arguments), generate

    return tile


@intrinsic
def address(typing: Any, place: Any, offset: Any) -> Any:
    """Address of an element of a contiguous array, or of one further on."""
    pointer = place if isinstance(place, types.CPointer) else types.CPointer(place.dtype)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        start, steps = values
        if place is not pointer:
            start = context.make_array(place)(context, builder, start).data
        return builder.gep(start, [steps])

    return pointer(place, types.int64), generate


@intrinsic
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """Return a * b + c with one rounding, of float32 numbers."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.fma(*values)

    return types.float32(types.float32, types.float32, types.float32), generate


_tall_wide, _tall_narrow, _tall_single = _tile(ROWS, 2, LANES), _tile(ROWS, 1, LANES), _tile(ROWS, 1, 1)
_flat_wide, _flat_narrow, _flat_single = _tile(1, 2, LANES), _tile(1, 1, LANES), _tile(1, 1, 1)


# --- products -----------------------------------------------------------------------------


@compiled
def product(
    a: Any, a_row: int, a_outer: int, a_inner: int, b: Any, b_outer: int, b_inner: int,
    start: Any, start_row: int, c: Any, c_row: int, m: int, n: int, outer: int, inner: int,
) -> None:  # fmt: skip
    """Write start and an m x n product to c, tile by tile; all are addresses, steps those of _tile."""
    j = 0
    while j < n:
        width = WIDE if n - j >= WIDE else LANES if n - j >= LANES else 1
        b_at = address(b, j)
        i = 0
        while i < m:
            height = ROWS if m - i >= ROWS else 1
            a_at, c_at = address(a, i * a_row), address(c, i * c_row + j)
            start_at = address(start, i * start_row + j)
            if height == ROWS:
                if width == WIDE:
                    _tall_wide(
                        a_at, a_row, a_outer, a_inner, b_at, b_outer, b_inner,
                        start_at, start_row, c_at, c_row, outer, inner,
                    )  # fmt: skip
                elif width == LANES:
                    _tall_narrow(
                        a_at, a_row, a_outer, a_inner, b_at, b_outer, b_inner,
                        start_at, start_row, c_at, c_row, outer, inner,
                    )  # fmt: skip
                else:
                    _tall_single(
                        a_at, a_row, a_outer, a_inner, b_at, b_outer, b_inner,
                        start_at, start_row, c_at, c_row, outer, inner,
                    )  # fmt: skip
            elif width == WIDE:
                _flat_wide(
                    a_at, a_row, a_outer, a_inner, b_at, b_outer, b_inner,
                    start_at, start_row, c_at, c_row, outer, inner,
                )  # fmt: skip
            elif width == LANES:
                _flat_narrow(
                    a_at, a_row, a_outer, a_inner, b_at, b_outer, b_inner,
                    start_at, start_row, c_at, c_row, outer, inner,
                )  # fmt: skip
            else:
                _flat_single(
                    a_at, a_row, a_outer, a_inner, b_at, b_outer, b_inner,
                    start_at, start_row, c_at, c_row, outer, inner,
                )  # fmt: skip
            i += height
        j += width


@intrinsic
def _turn(typing: Any, a: Any, a_row: Any, result: Any, result_row: Any) -> Any:
    """Transpose a square of LANES x LANES numbers; rows of a and result lie so far apart.

    In log2(LANES) rounds, each of which swaps the off-diagonal halves of all squares half as large.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        a, a_row, result, result_row = values
        integer, vector = ir.IntType(64), ir.VectorType(ir.FloatType(), LANES)

        def place(start: Any, row: Any, i: int) -> Any:
            at = builder.gep(start, [builder.mul(row, integer(i))])
            return builder.bitcast(at, vector.as_pointer())

        def mix(first: Any, second: Any, lanes: list[int]) -> Any:
            mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), lanes)
            return builder.shuffle_vector(first, second, mask)

        rows = [builder.load(place(a, a_row, i), align=4) for i in range(LANES)]
        half = LANES // 2
        while half:
            upper = [k if not k & half else k - half + LANES for k in range(LANES)]
            lower = [k + half if not k & half else k + LANES for k in range(LANES)]
            for i in range(LANES):
                if not i & half:
                    first, second = rows[i], rows[i + half]
                    rows[i], rows[i + half] = mix(first, second, upper), mix(first, second, lower)
            half //= 2
        for i, row in enumerate(rows):
            builder.store(row, place(result, result_row, i), align=4)
        return context.get_dummy_value()

    return types.void(a, a_row, result, result_row), generate


@compiled
def transpose(a: Any, result: Any) -> None:
    """Write the transpose of a, by squares of LANES x LANES, and what is left one by one."""
    rows, columns = a.shape
    for top in range(0, rows - LANES + 1, LANES):
        for left in range(0, columns - LANES + 1, LANES):
            _turn(
                address(a, top * columns + left), columns,
                address(result, left * rows + top), rows,
            )  # fmt: skip
    bottom, right = rows - rows % LANES, columns - columns % LANES
    for i in range(rows):
        for j in range(right if i < bottom else 0, columns):
            result[j, i] = a[i, j]


# --- transforms of small squares -----------------------------------------------------------


def sandwich(matrix: Any, add: bool) -> Any:
    """Make y[u, v] = sum over i, j of matrix[u, i] x[i, j] matrix[v, j], of LANES channels at once.

    Adds to y if asked to. Element [i, j] of x lies at i x_row + j x_column.
    """

    @intrinsic
    def sandwich(
        typing: Any, x: Any, x_row: Any, x_column: Any, y: Any, y_row: Any, y_column: Any
    ) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            x, x_row, x_column, y, y_row, y_column = values
            integer, vector = ir.IntType(64), ir.VectorType(ir.FloatType(), LANES)

            def place(start: Any, row: Any, column: Any, i: int, j: int) -> Any:
                down, right = builder.mul(row, integer(i)), builder.mul(column, integer(j))
                return builder.bitcast(
                    builder.gep(start, [builder.add(down, right)]), vector.as_pointer()
                )

            def combine(factors: Any, terms: Any) -> Any:
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

        return types.void(x, x_row, x_column, y, y_row, y_column), generate

    return sandwich
