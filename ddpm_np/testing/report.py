"""The outcome of a check: one row per identity, and a text table for people."""

import json
import math
import textwrap
from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias

Verdict: TypeAlias = Literal["holds", "imprecise", "FAILS", "remark", "not offered"]
Cells: TypeAlias = tuple[str, str, str, str, str]

HEADER: Cells = ("identity", "equation", "residual", "tolerance", "verdict")
INDENT = 6 * " "
IMPRECISE = (
    "imprecise: no more than tables in float32 lose. Make them in float64, through "
    "cumsum(log1p(-beta)) and expm1, and cast the entries when they are used."
)


class IdentityError(AssertionError):
    """An implementation breaks an identity; the message is the report."""


@dataclass(frozen=True)
class Row:
    """One identity, at the time where it holds worst.

    Attributes
    ----------
    identity : str
        What should be equal.
    equation : str
        Its number in Masada's slides ("M2"), or its name.
    residual : float
        Relative error; NaN where nothing could be measured.
    tolerance : float
        What rounding can explain, from the dtype and the condition of the formula at that time.
    verdict : {"holds", "imprecise", "FAILS", "remark", "not offered"}
        "imprecise" is beyond the tolerance, but within what tables in float32 lose; a remark is
        something to know that is neither right nor wrong, or that cannot be judged.
    explanation : str
        What a failure of this kind usually means, or a remark; may be empty.
    also : tuple of str
        The identities that this row stands for, if it says what two methods do alike.
    """

    identity: str
    equation: str
    residual: float
    tolerance: float
    verdict: Verdict
    explanation: str = ""
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """All rows, and remarks on the adapter; ``print`` it, or ``raise_if_failed()`` in a test."""

    name: str
    rows: tuple[Row, ...]
    remarks: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether no identity fails; only rows that fail count."""
        return not self.failed

    @property
    def failed(self) -> tuple[Row, ...]:
        """The rows that fail."""
        return tuple(row for row in self.rows if row.verdict == "FAILS")

    def raise_if_failed(self) -> None:
        """Raise :class:`IdentityError` with the table, unless all is well."""
        if not self.ok:
            raise IdentityError(f"\n{self}")

    def as_json(self) -> str:
        """The report as a JSON object, with null where nothing was measured."""
        rows = [
            {
                name: None if isinstance(value, float) and not math.isfinite(value) else value
                for name, value in asdict(row).items()
            }
            for row in self.rows
        ]
        return json.dumps({"name": self.name, "ok": self.ok, "rows": rows}, indent=2)

    def __getitem__(self, identity: str) -> Row:
        for row in self.rows:
            if identity in (row.identity, *row.also):
                return row
        raise KeyError(identity)

    def __str__(self) -> str:
        shown = [row for row in self.rows if row.verdict != "not offered"]
        header, rule, *table = _table([_cells(row) for row in shown])
        lines = [self.name, "", header, rule]
        for row, line in zip(shown, table, strict=True):
            lines += [line, *_wrapped(row.explanation, INDENT)]
        return "\n".join([*lines, "", *self._below(), self._summary()])

    def _below(self) -> list[str]:
        remarks = list(self.remarks)
        silent = [row.explanation for row in self.rows if row.verdict == "not offered"]
        if silent:
            remarks.append(f"not offered: {', '.join(sorted(set(', '.join(silent).split(', '))))}.")
        if any(row.verdict == "imprecise" for row in self.rows):
            remarks.append(IMPRECISE)
        return [line for remark in remarks for line in _wrapped(remark)]

    def _summary(self) -> str:
        counts = [
            f"{sum(row.verdict == verdict for row in self.rows)} {word}"
            for verdict, word in (
                ("holds", "hold"),
                ("imprecise", "imprecise"),
                ("FAILS", "failed"),
                ("remark", "remarks"),
                ("not offered", "not offered"),
            )
        ]
        return f"{len(self.rows)} identities: {', '.join(counts)}."


def _table(rows: list[Cells]) -> list[str]:
    """Lines of a table: header, rule and rows; numbers to the right."""
    cells = [HEADER, *rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(HEADER))]
    lines = []
    for line in cells:
        padded = [
            cell.rjust(width) if name in ("residual", "tolerance") else cell.ljust(width)
            for name, cell, width in zip(HEADER, line, widths, strict=True)
        ]
        lines.append("  ".join(padded).rstrip())
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, 100, initial_indent=indent, subsequent_indent=INDENT)


def _cells(row: Row) -> Cells:
    if row.residual != row.residual:  # nothing was measured
        return row.identity, row.equation, "-", "-", row.verdict
    return row.identity, row.equation, f"{row.residual:.1e}", f"{row.tolerance:.1e}", row.verdict
