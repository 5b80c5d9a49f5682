"""Where compiled kernels stay between runs: Numba's cache on disk, with three differences.

A change to any source of the backend makes all its kernels new; Numba looks only at the file of the
function itself, not at those whose functions it compiles in. A damaged file counts as a missing one.
And where no folder can be written, kernels are compiled in each run.
"""

import contextlib
import functools
import hashlib
import pickle
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import llvmlite
import numba
from numba.core import config

from ddpm_np.nn import ops

F = TypeVar("F", bound=Callable[..., object])


class CacheWarning(UserWarning):
    """Compiled kernels cannot be kept on disk, so every run compiles them."""


def kept_njit(**options: Any) -> Callable[[F], F]:
    """``numba.njit`` with these options and the cache of this module."""

    def decorate(function: F) -> F:
        try:
            compiled = numba.njit(cache=True, **options)(function)
        except Exception:  # RuntimeError if Numba finds no folder, and others from its search
            _say_that_nothing_is_kept()
            return numba.njit(**options)(function)
        # These are private to Numba: without them, or without sources, its own cache stays.
        with contextlib.suppress(AttributeError, OSError):
            name = f"{function.__module__.rpartition('.')[2]}.{function.__qualname__}"
            compiled._cache = _Cache(compiled._cache, name)
        return compiled

    return decorate


@functools.cache
def _say_that_nothing_is_kept() -> None:
    given = f", not {config.CACHE_DIR!r}" if config.CACHE_DIR else ""
    warnings.warn(
        "the Numba backend cannot keep its compiled kernels on disk, so each run compiles them again, "
        f"for about 10 seconds; set NUMBA_CACHE_DIR to a folder that can be written{given}",
        CacheWarning,
        stacklevel=2,
    )


@functools.cache
def _sources() -> str:
    """Digest of all that kernels are made from: these sources, that of MLPParams, and the compiler."""
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    for path in (*sorted(Path(__file__).parent.glob("numba_*.py")), Path(ops.__file__)):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


class _Cache:
    """Numba's cache of one function, with files of ours. Whatever fails in it, the kernel runs."""

    def __init__(self, cache: Any, name: str) -> None:
        self._cache, self.cache_path, self.flush = cache, cache.cache_path, cache.flush
        cache._cache_file = _Files(Path(cache.cache_path), name, cache._cache_file._dump)

    def load_overload(self, signature: Any, context: Any) -> Any:
        with contextlib.suppress(Exception):
            return self._cache.load_overload(signature, context)

    def save_overload(self, signature: Any, compiled: Any) -> None:
        with contextlib.suppress(Exception):
            self._cache.save_overload(signature, compiled)


class _Files:
    """A file for each type of the arguments and processor: a checksum, then the compiled function.

    A file that is cut or half written does not have its checksum, so writers need no locks.
    """

    def __init__(self, folder: Path, name: str, dump: Callable[[Any], bytes]) -> None:
        self._folder, self._dump = folder, dump
        self._name = name.translate({ord(sign): None for sign in "<>"})
        self._current = f"{self._name}-{_sources()}-"

    def _path(self, key: Any) -> Path:
        text = f"{sys.implementation.cache_tag} {key}"
        return self._folder / f"{self._current}{hashlib.sha256(text.encode()).hexdigest()[:16]}.nbc"

    def load(self, key: Any) -> Any:
        stored = self._path(key).read_bytes()
        data = stored[hashlib.sha256().digest_size :]
        return pickle.loads(data) if stored == hashlib.sha256(data).digest() + data else None

    def save(self, key: Any, compiled: Any) -> None:
        for path in self._folder.glob(f"{self._name}-*.nb[ci]"):
            if not path.name.startswith(self._current):  # of older sources: nobody will read it
                path.unlink(missing_ok=True)
        data = self._dump(compiled)
        self._path(key).write_bytes(hashlib.sha256(data).digest() + data)

    def flush(self) -> None:
        for path in self._folder.glob(f"{self._current}*.nbc"):
            path.unlink(missing_ok=True)
