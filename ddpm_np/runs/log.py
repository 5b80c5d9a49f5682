"""A log of metrics that survives interruption, and a progress bar."""

import itertools
import json
import math
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ddpm_np._checks import as_path, check_integer, check_mapping, describe
from ddpm_np.data.files import FileError, reading, shown
from ddpm_np.runs.files import atomic_write, parse_json, to_json

MOST_BYTES = 2**30
"""Size of the largest log that is read."""


class LogError(FileError):
    """A log cannot be read, or lacks lines that a resumed run needs; the message says why."""


class MetricsLog:
    """One JSON object per line, appended as training goes on.

    Opened at a step, it drops the lines after that step and a line torn by a crash, so that a
    resumed run writes the log that an uninterrupted one would have.

    Parameters
    ----------
    path : Path
    step : int
        The last step whose line is kept; 0 starts afresh.
    expected : iterable of int
        Steps whose lines must be there, in order.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above.
    LogError
        If lines are missing, or there is no reading the file; it stays as it is.
    OSError
        If the file cannot be written.
    """

    def __init__(self, path: Path, step: int, expected: Iterable[int] = ()) -> None:
        self.path = path = as_path("path", path)
        step = check_integer("step", step, 0, math.inf)
        self.records = [record for record in read_metrics(path) if record["step"] <= step]
        logged = {record["step"] for record in self.records}
        missing = [*itertools.islice((line for line in _steps(expected) if line not in logged), 4)]
        if missing:
            steps = ", ".join(map(str, missing[:3])) + (", ..." if len(missing) > 3 else "")
            raise LogError(
                f"{shown(path)} lacks the lines of steps {steps}, and the checkpoint is at step {step}: "
                "put back the log of that run, or start afresh, without --resume"
            )
        with atomic_write(path) as file:
            file.write("".join(json.dumps(record) + "\n" for record in self.records).encode())

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one line; ``record`` holds "step". It is on disk for certain only after :meth:`sync`."""
        check_mapping("record", record)
        line = to_json("record", dict(record)) + "\n"
        self.records.append(dict(record))
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line)

    def sync(self) -> None:
        """Wait until all lines are on disk, as they must be before a checkpoint that follows them."""
        with self.path.open("a") as file:
            os.fsync(file.fileno())


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read the complete lines of a metrics log; a missing file counts as empty.

    Raises
    ------
    LogError
        If it is no file that can be read.
    """
    path = as_path("path", path)
    if not path.exists():
        return []
    records = []
    with reading(path, LogError) as file:
        if os.fstat(file.fileno()).st_size > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES} bytes")
        for line in file:
            try:
                record = parse_json(line.decode("utf-8", "replace"))
            except ValueError:
                continue
            if isinstance(record, dict) and type(record.get("step")) is int:
                records.append(record)
    return records


def _steps(expected: object) -> Iterator[int]:
    """Go through the steps of the lines that must be there."""
    try:
        if isinstance(expected, str | bytes | Mapping):
            raise TypeError
        steps = iter(expected)  # type: ignore[call-overload]
    except TypeError:
        raise TypeError(f"expected must be an iterable of steps, got {describe(expected)}") from None
    for step in steps:
        yield check_integer("each step of expected", step, 0, math.inf)


class Progress:
    """A bar on a terminal; elsewhere about ten plain lines.

    Parameters
    ----------
    label : str
    first, last : int
        The step that work starts from, and the one it ends at.
    """

    def __init__(self, label: str, first: int, last: int) -> None:
        self.label, self.last = label, last
        self._began, self._first = time.perf_counter(), first
        self._line_every = max(1, (last - first) // 10)
        self._next_line = first + self._line_every
        self._bar = None
        if sys.stderr is not None and sys.stderr.isatty():
            # Some terminals report a size of 0 by 0, for which tqdm shows nothing.
            columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80
            size = {"ncols": columns - 1, "nrows": 20}
            self._bar = tqdm(total=last, initial=first, desc=label, unit="step", leave=False, **size)

    def update(self, step: int, note: str) -> None:
        """Show that ``step`` is done."""
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(step - self._bar.n)
        elif step >= self._next_line or step == self.last:
            speed = (step - self._first) / max(time.perf_counter() - self._began, 1e-9)
            print(f"{self.label}: step {step} of {self.last}, {note}, {speed:.0f} steps/s", flush=True)
            self._next_line = step + self._line_every

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
