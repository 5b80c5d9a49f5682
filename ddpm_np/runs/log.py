"""A run's folder: a log of metrics that survives interruption, and a progress bar."""

import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ddpm_np.runs.files import atomic_write


def prepare_folder(path: Path, names: tuple[str, ...] = ()) -> None:
    """Create a folder, and make sure before any work is done that it can be written to.

    ``names`` are the files that will be written; none may be a folder.

    Raises
    ------
    OSError
        If the folder cannot be made or written to.
    """
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"{path} is in the way: a folder is to be made there")
    path.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (path / name).is_dir():
            raise IsADirectoryError(f"{path / name} is in the way: a file is to be written there")
    with tempfile.TemporaryFile(dir=path) as probe:
        probe.write(b"\0" * 4096)
        probe.flush()
        os.fsync(probe.fileno())


class MetricsLog:
    """One JSON object per line, appended as training goes on.

    Opened at a step, it drops the lines after that step and a line torn by a crash, so that a
    resumed run writes the log that an uninterrupted one would have.

    Parameters
    ----------
    path : Path
    step : int
        The last step whose line is kept; 0 starts afresh.

    Raises
    ------
    OSError
        If the file cannot be written.
    """

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        self.records = [record for record in read_metrics(path) if record["step"] <= step]
        with atomic_write(path) as file:
            file.write("".join(json.dumps(record) + "\n" for record in self.records).encode())

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one line; ``record`` holds "step"."""
        self.records.append(dict(record))
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read the complete lines of a metrics log; a missing file counts as empty."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    records = []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and type(record.get("step")) is int:
            records.append(record)
    return records


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
