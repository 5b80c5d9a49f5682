"""Matrix products of the Numba backend as compiled loops over register tiles, in float32; no checks.

Packing the operands, as a BLAS library does, would cost a tenth of the time in products as small as
these. A row of a product does not depend on the rows beside it, to the last bit. Arrays are
contiguous.
"""

from backends.numba_tiles import (
    LANES,
    ROWS,
    WIDE,
    Address,
    Reals,
    address,
    compiled,
    flat_narrow,
    flat_single,
    flat_wide,
    tall_narrow,
    tall_single,
    tall_wide,
    transpose_square,
)


@compiled
def affine(x: Reals, weight: Reals, bias: Reals, y: Reals) -> None:
    """Write y = x @ weight + bias."""
    rows, columns = y.shape
    product(
        (address(x, 0), len(weight), 0, 1),
        (address(weight, 0), 0, columns),
        (address(bias, 0), 0),
        (address(y, 0), columns),
        (rows, columns, 1, len(weight)),
    )


@compiled
def add_product(a: Reals, b: Reals, c: Reals) -> None:
    """Write c = c + a @ b."""
    rows, columns = c.shape
    product(
        (address(a, 0), len(b), 0, 1),
        (address(b, 0), 0, columns),
        (address(c, 0), columns),
        (address(c, 0), columns),
        (rows, columns, 1, len(b)),
    )


@compiled
def add_transposed_product(a: Reals, b: Reals, c: Reals) -> None:
    """Write c = c + a.T @ b."""
    rows, columns = c.shape
    product(
        (address(a, 0), 1, 0, rows),
        (address(b, 0), 0, columns),
        (address(c, 0), columns),
        (address(c, 0), columns),
        (rows, columns, 1, len(b)),
    )


@compiled
def product(
    a: tuple[Address, int, int, int],
    b: tuple[Address, int, int],
    start: tuple[Address, int],
    c: tuple[Address, int],
    sizes: tuple[int, int, int, int],
) -> None:
    """Write c[i, j] = start[i, j] + sum over o, k of a[i, o, k] b[o, k, j], tile by tile.

    Each operand is an address and its steps: of a along i, o and k, of b along o and k, of start
    and c along i; along j, numbers are neighbours. The sizes are those of i, j, o and k.
    """
    a_first, a_row, a_outer, a_inner = a
    b_first, b_outer, b_inner = b
    start_first, start_row = start
    c_first, c_row = c
    rows, columns, outer, inner = sizes
    j = 0
    while j < columns:
        width = WIDE if columns - j >= WIDE else LANES if columns - j >= LANES else 1
        i = 0
        while i < rows:
            height = ROWS if rows - i >= ROWS else 1
            operands = (
                (address(a_first, i * a_row), a_row, a_outer, a_inner),
                (address(b_first, j), b_outer, b_inner),
                (address(start_first, i * start_row + j), start_row),
                (address(c_first, i * c_row + j), c_row),
                (outer, inner),
            )
            if height == ROWS:
                if width == WIDE:
                    tall_wide(*operands)
                elif width == LANES:
                    tall_narrow(*operands)
                else:
                    tall_single(*operands)
            elif width == WIDE:
                flat_wide(*operands)
            elif width == LANES:
                flat_narrow(*operands)
            else:
                flat_single(*operands)
            i += height
        j += width


@compiled
def transpose(a: Reals, result: Reals) -> None:
    """Write the transpose of a, by squares of LANES x LANES, and the rest one by one."""
    rows, columns = a.shape
    for top in range(0, rows - LANES + 1, LANES):
        for left in range(0, columns - LANES + 1, LANES):
            square, turned = address(a, top * columns + left), address(result, left * rows + top)
            transpose_square(square, columns, turned, rows)
    bottom, right = rows - rows % LANES, columns - columns % LANES
    for i in range(rows):
        for j in range(right if i < bottom else 0, columns):
            result[j, i] = a[i, j]
