"""Arrays from untrusted files, .npy and .npz, read without executing anything.

A header is checked against the bytes present before memory is allocated; every error is a
:class:`DataError` of one sentence.
"""

import math
import os
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

MOST_BYTES = 2**32
"""Size of the largest array that is read, unpacked."""
MOST_HEADER = 10_000
"""Bytes: NumPy's own limit for untrusted headers."""


class DataError(RuntimeError):
    """Data cannot be read or used; the message says why in one sentence."""


def read_array(path: str | os.PathLike[str], key: str) -> NDArray[Any]:
    """Read one array from an .npz file, by its name, or the array of an .npy file.

    Raises
    ------
    DataError
        If there is no such file or array, or it is damaged, too large (``MOST_BYTES``), or holds
        Python objects.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise DataError(f"there is no file {path}" if not path.exists() else f"{path} is no file")
        size = path.stat().st_size
        with path.open("rb") as file:
            magic = file.read(6)
            file.seek(0)
            if magic == b"\x93NUMPY":
                return _read_npy(file, size)
            if magic[:4] not in (b"PK\x03\x04", b"PK\x05\x06"):
                raise DataError(f"{path} is neither an .npz nor an .npy file")
            with zipfile.ZipFile(file) as archive:
                member = _member(archive, path, key)
                if member.compress_size > size:  # zipfile would allocate memory for it
                    raise ValueError(f"it is to hold {member.compress_size} bytes, and has {size}")
                with archive.open(member) as stream:
                    return _read_npy(stream, member.file_size)
    except (DataError, MemoryError):
        raise
    except Exception as error:  # a damaged zip file can raise nearly anything
        text = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path} cannot be read: {text}") from None


def _member(archive: zipfile.ZipFile, path: Path, key: str) -> zipfile.ZipInfo:
    names = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    if key not in names:
        found = ", ".join(repr(name[:40]) for name in list(names)[:8]) or "nothing"
        raise DataError(f"{path} has no array {key!r}: it has {found}")
    return names[key]


def _read_npy(file: Any, size: int) -> NDArray[Any]:
    """Read an array in NumPy's format from a stream of ``size`` bytes."""
    shape, fortran, dtype = _read_header(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which could execute anything when loaded")
    expected, found = math.prod(shape) * dtype.itemsize, size - file.tell()
    declared = f"an array of shape {str(shape)[:60]} takes {expected} bytes"
    if expected > MOST_BYTES:
        raise ValueError(f"{declared}, more than {MOST_BYTES}")
    if expected != found:
        raise ValueError(f"{declared}, the file has {found}")
    content = file.read(expected)
    if len(content) != expected:
        raise ValueError(f"{declared}, the file ends after {len(content)}")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


def _read_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"it is of version {version} of the format, wanted (1, 0) or (2, 0)")
    return read(file, max_header_size=MOST_HEADER)
