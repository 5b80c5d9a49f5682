"""Arrays from untrusted files, .npy and .npz, read without executing anything.

Only regular files are opened. What a file declares is checked against the bytes present, and
against a limit, before memory is allocated. Every error is one short printable line.
"""

import io
import math
import os
import stat
import warnings
import zipfile
from collections.abc import Iterator, Set
from contextlib import contextmanager
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

Path: TypeAlias = str | os.PathLike[str]

MOST_BYTES = 2**32
"""Size of the largest array that is read, unpacked, and as float64."""
MOST_HEADER = 10_000
"""Bytes: NumPy's own limit for untrusted headers."""
PIECE = 2**20
"""Bytes read at a time, and the most that the directory of an archive may take."""
LONGEST_LINE = 268
"""Characters of an error's message, which leaves room for the name of the command."""


class FileError(RuntimeError):
    """A file or folder cannot be used; the message says why in one short printable line."""

    def __init__(self, message: str) -> None:
        super().__init__(shown(message, LONGEST_LINE))


class DataError(FileError):
    """Data cannot be read or used; the message says why in one sentence."""


def shown(text: object, most: int = 100) -> str:
    """Return text for a message: what is not printable escaped, and the middle left out if long."""
    line = str(text)
    if len(line) > 2 * most:
        line = line[:most] + line[-most:]
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
    if len(line) <= most:
        return line
    start = (most - 3) // 3
    return f"{line[:start]}...{line[start + 3 - most :]}"


@contextmanager
def reading(
    path: Path, error: type[FileError] = DataError, problem: str = "cannot be read"
) -> Iterator[BinaryIO]:
    """Open a regular file; whatever goes wrong in the ``with`` block is an ``error``.

    Pipes, sockets, devices and folders are refused at once: to open or to read one could take for ever.
    """
    try:
        with _open_regular(path) as file:
            yield file
    except (FileError, MemoryError):
        raise
    except FileNotFoundError:
        raise error(f"there is no file {shown(path)}") from None
    except Exception as cause:  # a damaged file can raise nearly anything
        text = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
        text = " ".join(text.split()) or type(cause).__name__
        raise error(f"{shown(path)} {problem}: {text}") from None


class Archive:
    """The arrays of an .npz file, by name.

    Raises
    ------
    ValueError, zipfile.BadZipFile, ...
        A damaged file raises nearly anything: use it inside :func:`reading`.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._zip = zipfile.ZipFile(file)
        self._members: dict[str, zipfile.ZipInfo] = {}
        for member in self._zip.infolist():
            name = member.filename.removesuffix(".npy")
            if name in self._members:
                raise ValueError(f"it has two arrays {shown(name)!r}")
            self._members[name] = member

    @property
    def names(self) -> Set[str]:
        """The names of the arrays."""
        return self._members.keys()

    def header(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Return the shape and dtype that an array is declared to have."""
        with self._open(name) as stream:
            shape, _, dtype = _read_header(io.BytesIO(stream.read(12 + MOST_HEADER)))
        return shape, dtype

    def read(self, name: str, most_bytes: int, most_values: float = math.inf) -> NDArray[Any]:
        """Read an array, which may take that many bytes, and have that many values."""
        with self._open(name) as stream:
            return _read_npy(stream, self._members[name].file_size, most_bytes, most_values)

    def _open(self, name: str) -> Any:
        member = self._members[name]
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError("it is packed in a way that NumPy does not use")
        return self._zip.open(member)


def read_array(path: Path, key: str) -> NDArray[Any]:
    """Read one array from an .npz file, by its name, or the array of an .npy file.

    Raises
    ------
    DataError
        If there is no such file or array, or it is damaged, too large (``MOST_BYTES``), or holds
        Python objects.
    """
    most_values = MOST_BYTES // 8
    with reading(path) as file:
        magic = file.read(6)
        file.seek(0)
        if magic == b"\x93NUMPY":
            return _read_npy(file, os.fstat(file.fileno()).st_size, MOST_BYTES, most_values)
        if magic[:4] not in (b"PK\x03\x04", b"PK\x05\x06"):
            raise DataError(f"{shown(path)} is neither an .npz nor an .npy file")
        archive = Archive(file)
        if key not in archive.names:
            found = ", ".join(repr(shown(name, 40)) for name in list(archive.names)[:8]) or "nothing"
            raise DataError(f"{shown(path)} has no array {shown(key, 40)!r}: it has {found}")
        return archive.read(key, MOST_BYTES, most_values)


class _InPieces(io.BufferedReader):
    """A file that is not read in large pieces: zipfile would read a directory of any size."""

    def read(self, size: int | None = -1, /) -> bytes:
        left = os.fstat(self.fileno()).st_size - self.tell()
        wanted = left if size is None or size < 0 else min(size, left)
        if wanted > PIECE:
            raise ValueError(f"it declares a directory of {wanted} bytes, more than {PIECE}")
        return super().read(size)


def _open_regular(path: Path) -> BinaryIO:
    _check_regular(os.stat(path))  # some devices act when they are opened
    flags = (getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_BINARY"))
    descriptor = os.open(path, os.O_RDONLY | sum(flags))
    try:
        _check_regular(os.fstat(descriptor))  # it may be another by now
        return _InPieces(io.FileIO(descriptor))
    except BaseException:
        os.close(descriptor)
        raise


def _check_regular(found: os.stat_result) -> None:
    kinds = {stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"it is no file, but a {kinds.get(stat.S_IFMT(found.st_mode), 'device')}")


def _read_npy(stream: Any, size: int, most_bytes: int, most_values: float) -> NDArray[Any]:
    """Read an array in NumPy's format from a stream of ``size`` bytes."""
    start = io.BytesIO(stream.read(12 + MOST_HEADER))
    shape, fortran, dtype = _read_header(start)
    values = math.prod(shape)
    expected, found = values * dtype.itemsize, size - start.tell()
    declared = f"an array of shape {str(shape)[:60]} takes"
    if expected > most_bytes:
        raise ValueError(f"{declared} {expected} bytes, more than {most_bytes}")
    if expected != found:
        raise ValueError(f"{declared} {expected} bytes, the file has {found}")
    if values > most_values:
        raise ValueError(f"{declared} {8 * values} bytes as float64, more than {most_bytes}")
    content = bytearray(start.read())
    while len(content) < expected:
        piece = stream.read(min(PIECE, expected - len(content)))
        if not piece:
            raise ValueError(f"{declared} {expected} bytes, the file ends after {len(content)}")
        content += piece
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


def _read_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"it is of version {version} of the format, wanted (1, 0) or (2, 0)")
    try:
        with warnings.catch_warnings():  # Python's parser and NumPy's have remarks about odd headers
            warnings.simplefilter("ignore")
            shape, fortran, dtype = read(file, max_header_size=MOST_HEADER)
    except (MemoryError, RecursionError):  # what Python's parser says of deep nesting
        raise ValueError("its header cannot be parsed") from None
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which could execute anything when loaded")
    return shape, fortran, dtype
