"""A child process that is talked to in lines, and never waited for longer than was said."""

import contextlib
import os
import queue
import shlex
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import IO, Any

from ddpm_np.testing.vectors._files import VectorsError
from ddpm_np.testing.vectors._python import in_one_line

LONGEST_LINE = 2**26
"""Bytes of one line of an answer; the rest would be taken for the next."""
EXIT_SECONDS = 5.0
"""For a program that has closed its output to end, too."""
HOW_TO_FLUSH = "does it flush its output after each answer?"


class Broken(Exception):
    """The program cannot be talked to any longer; the message says what happened."""


class Program:
    """A running program, its lines and the end of what it says on stderr.

    Reading and writing have threads of their own: a program may stop in the middle of either.

    Raises
    ------
    VectorsError
        If it cannot be started.
    """

    def __init__(self, command: Sequence[str]) -> None:
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # what it starts itself is ended with it
            )
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or in_one_line(error)
            raise VectorsError(f"{shlex.join(command)} cannot be run: {reason}") from None
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._to_write: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._last_words: deque[bytes] = deque(maxlen=4)
        self._threads = [
            threading.Thread(target=work, args=(stream,), daemon=True)
            for work, stream in (
                (self._read, self._process.stdout),
                (self._listen, self._process.stderr),
                (self._write, self._process.stdin),
            )
        ]
        for thread in self._threads:
            thread.start()

    def send(self, text: str) -> None:
        """Send whole lines; returns at once."""
        self._to_write.put(text.encode())

    def receive(self, seconds: float) -> str:
        """Return the next line.

        Raises
        ------
        Broken
            If there is none in time, or the program has ended.
        """
        try:
            line = self._lines.get(timeout=max(seconds, 0.0))
        except queue.Empty:
            raise Broken(f"it did not answer in time; {HOW_TO_FLUSH}") from None
        if line is None:
            self._lines.put(None)
            raise Broken(self._how_it_ended())
        return line.decode(errors="backslashreplace").strip()

    def finish(self, seconds: float) -> str:
        """Close its input and wait for its end; returns what was wrong with it, or nothing."""
        self._to_write.put(None)
        deadline = time.monotonic() + seconds
        try:
            line = self._lines.get(timeout=seconds)
            if line is not None:
                return f"it printed more after its last answer: {_quoted(line)}"
            self._process.wait(max(deadline - time.monotonic(), 0.1))
        except (queue.Empty, subprocess.TimeoutExpired):
            return "it did not end when its input did"
        return self._how_it_ended() if self._process.returncode else ""

    def kill(self) -> None:
        """End it, and all that it started, however it fares."""
        with contextlib.suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()
        self._process.wait()
        self._to_write.put(None)
        for thread in self._threads:
            thread.join(5.0)

    def _how_it_ended(self) -> str:
        try:
            status = self._process.wait(EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            return "it closed its output"
        self._threads[1].join(5.0)
        how = f"with status {status}" if status >= 0 else f"by {_signal_name(-status)}"
        words = [line for line in self._last_words if line.strip()]
        return f"it ended {how}" + (f" and said {_quoted(words[-1])}" if words else "")

    def _read(self, stream: IO[bytes]) -> None:
        with contextlib.suppress(OSError, ValueError), stream:
            for line in iter(lambda: stream.readline(LONGEST_LINE), b""):
                self._lines.put(line)
        self._lines.put(None)

    def _listen(self, stream: IO[bytes]) -> None:
        with contextlib.suppress(OSError, ValueError), stream:
            for line in iter(lambda: stream.readline(LONGEST_LINE), b""):
                if line.strip():
                    self._last_words.append(line[:1000])

    def _write(self, stream: IO[bytes]) -> None:
        # A program that has gone is noticed when its answer is missing.
        with contextlib.suppress(OSError, ValueError), stream:
            for text in iter(self._to_write.get, None):
                stream.write(text)
                stream.flush()


def _quoted(text: bytes) -> str:
    return repr(in_one_line(text.decode(errors="backslashreplace"), 100))


def _signal_name(number: int) -> Any:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
