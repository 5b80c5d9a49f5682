"""Standard output that may go away, as in ``| head -1`` or when a terminal hangs up."""

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

GONE = (errno.EPIPE, errno.ECONNRESET, errno.EIO)


class _Patient(io.FileIO):
    """A stream that goes on into nothing once its reader has gone."""

    def write(self, data: bytes, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in GONE:
                raise
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, self.fileno())
        os.close(nothing)
        return len(data)


@contextmanager
def patient_streams() -> Iterator[None]:
    """Let the process's stdout and stderr outlive their readers, and escape what they cannot show."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(_patient, before)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError, OSError):
                stream.flush()
        sys.stdout, sys.stderr = before


def _patient(stream: Any) -> Any:
    if stream is None or stream not in (sys.__stdout__, sys.__stderr__):
        return stream  # there is none, or it was replaced, as tests do
    if sys.platform == "win32":  # a console there takes no bytes
        stream.reconfigure(errors="backslashreplace")
        return stream
    stream.flush()
    raw = _Patient(stream.fileno(), "wb", closefd=False)
    return io.TextIOWrapper(
        raw if stream.write_through else io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors="backslashreplace",  # for ASCII terminals
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
