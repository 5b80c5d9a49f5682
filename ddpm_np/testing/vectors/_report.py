"""What became of the cases: a table by function for people, JSON for programs."""

import json
import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from ddpm_np.testing.vectors._files import VERSION
from ddpm_np.testing.vectors._flags import meaning
from ddpm_np.testing.vectors._judging import NOT_OFFERED, Result, Status

HEADER = ("function", "passed", "failed", "skipped", "tolerances", "ulps")
INDENT = 6 * " "


class VectorsFailed(AssertionError):
    """An implementation fails a case; the message is the report."""


@dataclass(frozen=True)
class Report:
    """All results; ``print`` it, or ``raise_if_failed()`` in a test."""

    name: str
    """Of the implementation."""
    dtype: str
    results: tuple[Result, ...]
    remarks: tuple[str, ...] = ()
    """What was wrong beside the cases: a program that did not end well, say."""

    @property
    def ok(self) -> bool:
        """Whether no case fails that is not known to fail, and nothing else was wrong."""
        return not self.failed and not self.remarks

    @property
    def failed(self) -> tuple[Result, ...]:
        """The cases that fail and are not known to."""
        return self.having("failed")

    def having(self, status: Status) -> tuple[Result, ...]:
        """The results of one status."""
        return tuple(result for result in self.results if result.status == status)

    def raise_if_failed(self) -> None:
        """Raise :class:`VectorsFailed` with the table, unless all is well."""
        if not self.ok:
            raise VectorsFailed(f"\n{self}")

    def as_json(self) -> str:
        """The report as a JSON object; infinite and missing numbers are null."""
        whole = {"name": self.name, "vectors": VERSION, "dtype": self.dtype, "ok": self.ok}
        cases = [_row(result) for result in self.results]
        return json.dumps({**whole, "remarks": self.remarks, "cases": cases}, indent=2, allow_nan=False)

    def __str__(self) -> str:
        groups = [list(group) for _, group in groupby(self.results, lambda r: r.case.function)]
        asked = [group for group in groups if any(r.message != NOT_OFFERED for r in group)]
        table = _table([HEADER, *map(_cells, asked)])
        lines = [f"{self.name}, {self.dtype}, vectors v{VERSION}", "", *table[:2]]
        for group, line in zip(asked, table[2:], strict=True):
            lines += [line, *_first_failure(group)]
        return "\n".join([*lines, "", *self._below(), self._summary()])

    def _below(self) -> Iterable[str]:
        paragraphs = list(self.remarks)
        silent = dict.fromkeys(r.case.function for r in self.results if r.message == NOT_OFFERED)
        if silent:
            paragraphs.append(f"not offered: {', '.join(silent)}.")
        reasons = {
            f"{r.case.function}: {r.message}"
            for r in self.having("skipped")
            if r.message and r.message != NOT_OFFERED
        }
        paragraphs += [f"skipped: {reason}." for reason in sorted(reasons)]
        passing = [r.case.id for r in self.having("passed") if r.expected_to_fail]
        if passing:
            paragraphs.append(
                f"known to fail, but passed: {', '.join(passing)}; take them off the list."
            )
        for paragraph in paragraphs:
            yield from _wrapped(paragraph, "")

    def _summary(self) -> str:
        counts = {status: len(self.having(status)) for status in ("passed", "failed", "skipped")}
        known = len(self.having("known to fail"))
        listed = ", ".join(f"{count} {status}" for status, count in counts.items())
        return listed + (f"\n{known} more known to fail" if known else "")


def _cells(group: Sequence[Result]) -> tuple[str, ...]:
    counts = [sum(r.status == status for r in group) for status in ("passed", "failed", "skipped")]
    distances = [r.distance for r in group if r.distance]
    if not distances:
        return (group[0].case.function, *map(str, counts), "-", "-")
    tolerances, ulps = max(d.tolerances for d in distances), max(d.ulps for d in distances)
    return (group[0].case.function, *map(str, counts), f"{tolerances:.2g}", f"{ulps:.2g}")


def _first_failure(group: Sequence[Result]) -> list[str]:
    result = next((r for r in group if r.status == "failed"), None)
    if result is None:
        return []
    case, d = result.case, result.distance
    found = result.message
    if d is not None:
        found = f"{d.entry} is {d.got!r}, should be {d.expected!r}: off by {_times(d.tolerances)}"
    paragraphs = [f"{case.id}, {case.equation}: {found}", case.note]
    # A mistake whose flag is on a case that passes has not been made.
    refuted = {flag for r in group if r.status == "passed" for flag in r.case.flags}
    likely = [flag for flag in case.flags if flag not in refuted] or case.flags
    if likely:
        paragraphs.append(f"usually means: {'; or '.join(map(meaning, likely))}")
    return [line for text in paragraphs if text for line in _wrapped(text, INDENT)]


def _times(tolerances: float) -> str:
    if not math.isfinite(tolerances):
        return "more than any tolerance"
    return f"{tolerances:.2g} tolerances"


def _row(result: Result) -> dict[str, Any]:
    case = result.case
    named = {"id": case.id, "function": case.function, "equation": case.equation}
    distance = None
    if result.distance:
        distance = {key: _finite(value) for key, value in asdict(result.distance).items()}
    status = {"status": result.status, "message": result.message, "distance": distance}
    return {**named, **status, "expected_to_fail": result.expected_to_fail, "flags": case.flags}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    """Lines of a table: header, rule and rows; numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *numbers in rows:
        right = [number.rjust(width) for number, width in zip(numbers, widths[1:], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *right]))
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, 100, initial_indent=indent, subsequent_indent=indent or INDENT)
