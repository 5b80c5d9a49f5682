"""A run's folder: held by one process at a time, and with the files of one run in it."""

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ddpm_np._checks import as_path, as_texts
from ddpm_np.data.files import FileError, shown
from ddpm_np.runs.files import remove_leftovers, sync_folder

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
PREVIOUS = "previous"
"""The subfolder for the files of an earlier run."""

_held: set[int] = set()


class FolderError(FileError):
    """A run cannot have its folder; the message says why in one sentence."""


def prepare_folder(path: Path, names: tuple[str, ...] = ()) -> None:
    """Create a folder, and make sure before any work is done that it can be written to.

    ``names`` are the files that will be written; nothing but a file may be there.

    Raises
    ------
    OSError
        If the folder cannot be made or written to.
    """
    path = as_path("path", path)
    _make(path, tuple(as_texts("names", names)))
    _probe(path)


@contextmanager
def hold_folder(path: Path, names: tuple[str, ...], *, resume: bool = False) -> Iterator[None]:
    """Hold a run's folder from before its first file until after its last.

    The folder is prepared as by :func:`prepare_folder`, and locked against other processes. The lock,
    on a file ``.lock`` that names the process, ends with the process however that dies. Where there
    are no such locks, on Windows and some network file systems, there is none. Then temporary files
    of writers that died are removed.

    Unless the run resumes, files of an earlier run move to the subfolder ``previous``, in place of
    those there. That which a run resumes from goes first, so that it cannot be mistaken for the new
    run's. An earlier run without it, stopped before it had one, replaces nothing there.

    Parameters
    ----------
    path : Path
    names : tuple of str
        The files that the run may write. The first is what a run resumes from.
    resume : bool
        Go on with the run in the folder, if the first of ``names`` is there.

    Raises
    ------
    FolderError
        If another process holds the folder, or files of an earlier run cannot be moved.
    OSError
        If the folder cannot be made or written to.
    """
    path = as_path("path", path)
    _make(path, names)
    with _locked(path):
        _probe(path)
        for name in names:
            remove_leftovers(path / name)
        if not (resume and _is_there(path / names[0])):
            _set_aside(path, names)
        yield


def _make(path: Path, names: tuple[str, ...]) -> None:
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"{shown(path)} is in the way: a folder is to be made there")
    path.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (path / name).exists() and not (path / name).is_file():
            raise IsADirectoryError(f"{shown(path / name)} is in the way: a file is to be written there")


def _is_there(path: Path) -> bool:
    """Whether there is a file; what cannot be said, as of a link to itself, is an OSError."""
    try:
        path.stat()
    except FileNotFoundError:
        return False
    return True


def _probe(path: Path) -> None:
    with tempfile.TemporaryFile(dir=path) as probe:
        probe.write(b"\0" * 4096)
        probe.flush()
        os.fsync(probe.fileno())


# --- one process at a time ----------------------------------------------------------------


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    path = folder / LOCK
    descriptor = _acquire(path)
    if descriptor is None:
        yield
        return
    _held.add(descriptor)
    try:
        yield
    finally:
        if descriptor in _held:  # not in a forked child
            _held.remove(descriptor)
            with suppress(OSError):
                if _is_same(descriptor, path):
                    os.unlink(path)  # while it is still locked: nobody else can have it
            os.close(descriptor)


def _acquire(path: Path) -> int | None:
    """Lock the file, made if need be; returns its descriptor, or None where there are no locks."""
    if fcntl is None:
        return None
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        with contextlib.ExitStack() as unless_locked:
            unless_locked.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(descriptor, 100).decode("ascii", "replace").strip()
                raise FolderError(
                    f"{shown(path.parent)} is in use by {shown(holder, 40) or 'another process'}: "
                    "wait until it ends, stop it, or choose another --out-dir"
                ) from None
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
                    raise
                os.unlink(path)
                return None
            if _is_same(descriptor, path):  # else its last holder removed it just now
                unless_locked.callback(os.unlink, path)
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"process {os.getpid()}\n".encode())
                unless_locked.pop_all()
                return descriptor


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _forget_locks() -> None:
    """A child that is forked would else keep its parent's locks after the parent's death."""
    while _held:
        os.close(_held.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_locks)


# --- one run at a time --------------------------------------------------------------------


def _set_aside(folder: Path, names: tuple[str, ...]) -> None:
    """Move the files of an earlier run; killed at any moment, the next call completes it."""
    # A symbolic link is followed, as by atomic_write: the old file stays on its own disk.
    files = [Path(os.path.realpath(folder / name)) for name in names]
    places = [file.parent / PREVIOUS / file.name for file in files]
    if not any(file.exists() for file in files):
        return
    try:
        if files[0].exists():
            for place in places:
                place.unlink(missing_ok=True)
        for file, place in zip(files, places, strict=True):
            if not file.exists():
                continue
            if place.exists():
                file.unlink()
                continue
            place.parent.mkdir(exist_ok=True)
            file.rename(place)
            sync_folder(place.parent)
            sync_folder(file.parent)
    except OSError as error:
        raise FolderError(
            f"the files of an earlier run in {shown(folder)} cannot be moved to its subfolder "
            f"{PREVIOUS} ({error.strerror}): move them yourself, or choose another --out-dir"
        ) from None
