"""Atomic writes: a file has its old content or the new one, never part of each."""

import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

from ddpm_np._checks import as_path


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file that replaces ``path`` only once it is complete and on disk.

    The content goes to a temporary file in the same folder, which at the end of the ``with``
    block is flushed, synced and renamed to ``path``. If anything is raised, KeyboardInterrupt
    and a full disk included, the temporary file is removed and the old file stays as it was.

    Parameters
    ----------
    path : path
        Its folder must exist. A symbolic link is followed, not replaced.

    Yields
    ------
    binary file, open for writing

    Raises
    ------
    TypeError
        If ``path`` is none.
    IsADirectoryError
        If ``path`` exists and is not a regular file.
    FileNotFoundError
        If its folder does not exist.
    OSError
        If the file cannot be written.
    """
    target = os.path.realpath(as_path("path", path))
    folder, name = os.path.split(target)
    if os.path.exists(target) and not os.path.isfile(target):
        raise IsADirectoryError(f"{os.fspath(path)} is in the way: a file is to be written there")
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"path must lie in an existing folder, got {os.fspath(path)!r}")
    temporary = os.path.join(folder, f".{name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    sync_folder(folder)


def remove_leftovers(path: str | os.PathLike[str]) -> None:
    """Remove the temporary files of writers of ``path`` that died; none may be writing now."""
    folder, name = os.path.split(os.path.realpath(as_path("path", path)))
    leftover = re.compile(rf"\.{re.escape(name)}\.[0-9]+\.[0-9a-f]{{8}}\.tmp")
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if leftover.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                os.unlink(entry)


def write_json(path: str | os.PathLike[str], obj: object) -> None:
    """Write ``obj`` as indented JSON, atomically.

    Raises
    ------
    TypeError, ValueError
        If JSON cannot hold it; it has no NaN or infinity.
    OSError
        As :func:`atomic_write`.
    """
    text = to_json("obj", obj, indent=2) + "\n"
    with atomic_write(path) as file:
        file.write(text.encode())


def to_json(name: str, value: object, indent: int | None = None) -> str:
    """Return JSON; TypeError or ValueError that names the argument for what JSON cannot hold."""
    try:
        return json.dumps(value, indent=indent, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(f"{name} must be what JSON can hold: {error}") from None


def parse_json(text: str | bytes) -> Any:
    """Parse JSON, and nothing but JSON: ValueError for NaN, infinity, and what is nested too deeply."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        return json.loads(text, parse_constant=refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Make a rename durable where the system can; the new content is in place in any case."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
