"""The outcome of a check: one row per identity, and a text table for people."""

import textwrap
from dataclasses import dataclass
from typing import Literal, TypeAlias

Verdict: TypeAlias = Literal["holds", "imprecise", "FAILS", "not offered"]


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
    verdict : {"holds", "imprecise", "FAILS", "not offered"}
        "imprecise" is beyond the tolerance, but within what tables in float32 lose.
    explanation : str
        What a failure of this kind usually means, or a remark; may be empty.
    """

    identity: str
    equation: str
    residual: float
    tolerance: float
    verdict: Verdict
    explanation: str = ""


@dataclass(frozen=True)
class Report:
    """All rows; ``print`` it, or call :meth:`raise_if_failed` in a test."""

    name: str
    rows: tuple[Row, ...]

    @property
    def ok(self) -> bool:
        """Whether no identity fails. Rows that are imprecise or not offered do not count."""
        return not self.failed

    @property
    def failed(self) -> tuple[Row, ...]:
        """The rows that fail."""
        return tuple(row for row in self.rows if row.verdict == "FAILS")

    def raise_if_failed(self) -> None:
        """Raise :class:`IdentityError` with the table, unless all is well."""
        if not self.ok:
            raise IdentityError(f"\n{self}")

    def __getitem__(self, identity: str) -> Row:
        for row in self.rows:
            if row.identity == identity:
                return row
        raise KeyError(identity)

    def __str__(self) -> str:
        header = ("identity", "equation", "residual", "tolerance", "verdict")
        rows = [row for row in self.rows if row.verdict != "not offered"]
        cells = [header, *(_cells(row) for row in rows)]
        widths = [max(len(line[i]) for line in cells) for i in range(len(header))]
        lines = [self.name, ""]
        for number, line in enumerate(cells):
            padded = [c.rjust(w) if i in (2, 3) else c.ljust(w) for i, (c, w) in _columns(line, widths)]
            lines.append("  ".join(padded).rstrip())
            if number == 0:
                lines.append("  ".join("-" * w for w in widths))
                continue
            row = rows[number - 1]
            if row.explanation:
                indent = "      "
                lines += textwrap.wrap(
                    row.explanation, 100, initial_indent=indent, subsequent_indent=indent
                )
        return "\n".join([*lines, "", *self._remarks(), self._summary()])

    def _remarks(self) -> list[str]:
        remarks = []
        silent = [row.explanation for row in self.rows if row.verdict == "not offered"]
        if silent:
            remarks.append(f"not offered: {', '.join(sorted(set(', '.join(silent).split(', '))))}.")
        if any(row.verdict == "imprecise" for row in self.rows):
            remarks.append(IMPRECISE)
        return [
            line for text in remarks for line in textwrap.wrap(text, 100, subsequent_indent="      ")
        ]

    def _summary(self) -> str:
        counts = [
            f"{sum(row.verdict == verdict for row in self.rows)} {word}"
            for verdict, word in (
                ("holds", "hold"),
                ("imprecise", "imprecise"),
                ("FAILS", "failed"),
                ("not offered", "not offered"),
            )
        ]
        return f"{len(self.rows)} identities: {', '.join(counts)}."


def _columns(line: tuple[str, ...], widths: list[int]) -> list[tuple[int, tuple[str, int]]]:
    return list(enumerate(zip(line, widths, strict=True)))


def _cells(row: Row) -> tuple[str, str, str, str, str]:
    if row.residual != row.residual:  # nothing was measured
        return row.identity, row.equation, "-", "-", row.verdict
    return row.identity, row.equation, f"{row.residual:.1e}", f"{row.tolerance:.1e}", row.verdict
