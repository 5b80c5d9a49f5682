"""A run's folder: made, checked, held by one process at a time, with the files of one run in it."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ddpm_np.runs import folder as folders
from ddpm_np.runs.folder import FolderError, hold_folder, prepare_folder

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OPENBLAS_NUM_THREADS": "1"}


def python(script, *arguments, **settings):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *map(str, arguments)],
        env=ENVIRONMENT,
        text=True,
        **settings,
    )


# --- making it ----------------------------------------------------------------------------


def test_makes_the_folder_and_leaves_nothing_in_it(tmp_path):
    folder = tmp_path / "a" / "b"
    prepare_folder(folder)
    assert os.listdir(folder) == []
    (folder / "old").write_text("kept")
    prepare_folder(folder)
    assert (folder / "old").read_text() == "kept"
    assert os.listdir(folder) == ["old"]


@posix
def test_an_impossible_folder_is_an_os_error_and_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("kept")
    bad = [
        tmp_path / "file",
        tmp_path / "file" / "a" / "b",
        Path("/proc/nothing/here"),
        Path("/proc/self"),
    ]
    for folder in [*bad, tmp_path / ("x" * 300)]:
        with pytest.raises(OSError, match=r"."):
            prepare_folder(folder)
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "kept"


@posix
def test_a_full_disk_is_found_before_any_work_is_done(tmp_path):
    script = """
import resource, sys
from pathlib import Path
from ddpm_np.runs import prepare_folder
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    prepare_folder(Path(sys.argv[1]))
except OSError as error:
    print(error.strerror)
"""
    result = python(script, tmp_path, capture_output=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout
    assert os.listdir(tmp_path) == []


def test_folders_in_the_way_are_found_before_any_work(tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(IsADirectoryError, match=r"a\.png is in the way"):
        prepare_folder(tmp_path, ("b.png", "a.png"))
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="file is in the way: a folder"):
        prepare_folder(tmp_path / "file")


@posix
def test_what_is_no_file_is_in_the_way(tmp_path):
    """To read or write a pipe could take for ever, and a device has no end."""
    os.mkfifo(tmp_path / "metrics.jsonl")
    (tmp_path / "a.npz").symlink_to("/dev/zero")
    for name in ("metrics.jsonl", "a.npz"):
        with pytest.raises(IsADirectoryError, match="is in the way: a file is to be"):
            prepare_folder(tmp_path, (name,))


def test_a_long_name_leaves_a_short_message(tmp_path):
    deep = tmp_path.joinpath(*["x" * 100] * 5)
    deep.mkdir(parents=True)
    (deep / "a\nb").write_text("")
    with pytest.raises(NotADirectoryError) as caught:
        prepare_folder(deep / "a\nb")
    message = str(caught.value)
    assert len(message) < 200
    assert message.isprintable()
    assert message.startswith(str(tmp_path)[:20])
    assert "xxx/a\\nb is in the way" in message


# --- one process at a time ----------------------------------------------------------------

NAMES = ("checkpoint.npz", "metrics.jsonl", "a.png")


@posix
def test_who_holds_a_folder_is_named_and_nothing_is_touched(tmp_path):
    folder = tmp_path / "run"
    with hold_folder(folder, NAMES):
        assert (folder / ".lock").read_text() == f"process {os.getpid()}\n"
        (folder / "checkpoint.npz").write_bytes(b"of the holder")
        (folder / ".a.png.1.01234567.tmp").write_bytes(b"being written")
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        for resume in (False, True):
            with pytest.raises(FolderError) as caught, hold_folder(folder, NAMES, resume=resume):
                pass
            assert str(caught.value) == (
                f"{folder} is in use by process {os.getpid()}: "
                "wait until it ends, stop it, or choose another --out-dir"
            )
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert not (folder / ".lock").exists()
    with hold_folder(folder, NAMES):
        pass


@posix
def test_the_lock_of_a_dead_process_is_taken_over(tmp_path):
    script = """
import os, sys
from pathlib import Path
from ddpm_np.runs import hold_folder
with hold_folder(Path(sys.argv[1]), ("a.png",)):
    os.kill(os.getpid(), 9)
"""
    assert python(script, tmp_path).returncode == -signal.SIGKILL
    assert (tmp_path / ".lock").exists()
    with hold_folder(tmp_path, NAMES):
        assert (tmp_path / ".lock").read_text() == f"process {os.getpid()}\n"
    assert os.listdir(tmp_path) == []


@posix
def test_a_forked_child_does_not_keep_the_lock_of_its_parent(tmp_path):
    script = """
import os, sys, time
from pathlib import Path
from ddpm_np.runs import hold_folder
with hold_folder(Path(sys.argv[1]), ("a.png",)):
    if os.fork():
        time.sleep(60)
    else:
        print(os.getpid(), flush=True)
        sys.stdin.read()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        child = int(process.stdout.readline())
        process.kill()
        assert process.wait() == -signal.SIGKILL
        with hold_folder(tmp_path, NAMES):
            process.stdin.close()  # the child ends, and leaves alone what it does not hold
            process.stdout.read()
            assert (tmp_path / ".lock").read_text() == f"process {os.getpid()}\n"
    assert child != process.pid


@posix
def test_a_lock_on_a_file_that_was_just_removed_is_none(tmp_path, monkeypatch):
    """Between opening and locking it, the last holder ends and takes the file away."""
    flock, calls = folders.fcntl.flock, []

    def late(descriptor, operation):
        calls.append(descriptor)
        if len(calls) == 1:
            (tmp_path / ".lock").unlink()
        flock(descriptor, operation)

    monkeypatch.setattr(folders.fcntl, "flock", late)
    with hold_folder(tmp_path, NAMES):
        assert len(calls) == 2
        assert (tmp_path / ".lock").exists()
        with pytest.raises(FolderError, match="in use"):
            hold_folder(tmp_path, NAMES).__enter__()


@posix
def test_the_lock_is_removed_while_it_is_held_and_only_if_it_is_ours(tmp_path, monkeypatch):
    unlink, held = os.unlink, []

    def watch(path, **settings):
        with open(path) as file, pytest.raises(BlockingIOError):
            folders.fcntl.flock(file, folders.fcntl.LOCK_EX | folders.fcntl.LOCK_NB)
        held.append(path)
        unlink(path, **settings)

    monkeypatch.setattr(os, "unlink", watch)
    with hold_folder(tmp_path, NAMES):
        pass
    assert held == [tmp_path / ".lock"]
    monkeypatch.undo()
    with hold_folder(tmp_path, NAMES):
        (tmp_path / ".lock").unlink()
        (tmp_path / ".lock").write_text("another's")
    assert (tmp_path / ".lock").read_text() == "another's"


@posix
@pytest.mark.parametrize("code", ["ENOLCK", "ENOTSUP", "ENOSYS", None])
def test_without_locks_it_goes_on(tmp_path, monkeypatch, code):
    if code is None:
        monkeypatch.setattr(folders, "fcntl", None)
    else:

        def fail(*_):
            raise OSError(getattr(errno, code), "no locks")

        monkeypatch.setattr(folders.fcntl, "flock", fail)
    with hold_folder(tmp_path, NAMES):
        assert os.listdir(tmp_path) == []


# --- one run at a time --------------------------------------------------------------------


def write(folder, run, names=NAMES):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(f"{name} of {run}")


def runs(folder):
    """Which run each file is of."""
    return {path.name: path.read_text()[-1] for path in folder.iterdir() if path.is_file()}


def test_a_fresh_start_sets_the_earlier_run_aside(tmp_path):
    write(tmp_path, "A")
    write(tmp_path, "a user", ["notes.txt"])
    with hold_folder(tmp_path, NAMES):
        assert {name for name in runs(tmp_path) if name[0] != "."} == {"notes.txt"}
    assert runs(tmp_path / "previous") == dict.fromkeys(NAMES, "A")
    write(tmp_path, "B", NAMES[:2])
    with hold_folder(tmp_path, NAMES):
        pass
    assert runs(tmp_path / "previous") == dict.fromkeys(NAMES[:2], "B")


def test_a_resumed_run_moves_nothing(tmp_path):
    write(tmp_path, "A")
    with hold_folder(tmp_path, NAMES, resume=True):
        assert {**runs(tmp_path), ".lock": ""} == {**dict.fromkeys(NAMES, "A"), ".lock": ""}
    assert not (tmp_path / "previous").exists()


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_without_a_checkpoint_takes_no_place(tmp_path, resume):
    """There is nothing to resume: the log is not that of the run that begins now."""
    write(tmp_path / "previous", "A")
    write(tmp_path, "B", ["metrics.jsonl"])
    with hold_folder(tmp_path, NAMES, resume=resume):
        assert not (tmp_path / "metrics.jsonl").exists()
    assert runs(tmp_path / "previous") == dict.fromkeys(NAMES, "A")


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("earlier", [(), NAMES])
@pytest.mark.parametrize("call", ["unlink", "rename"])
@pytest.mark.parametrize("moment", range(4))
def test_killed_while_it_moves_the_files_stay_together(
    tmp_path, monkeypatch, resume, earlier, call, moment
):
    write(tmp_path / "previous", "X", earlier)
    write(tmp_path, "A")
    act, count = getattr(Path, call), 0

    def die(*arguments, **settings):
        nonlocal count
        count += 1
        if count > moment:
            raise KeyboardInterrupt
        return act(*arguments, **settings)

    with monkeypatch.context() as context:
        context.setattr(Path, call, die)
        try:
            with hold_folder(tmp_path, NAMES):
                pass
        except KeyboardInterrupt:
            pass
    if not (tmp_path / "checkpoint.npz").exists():  # else nothing has happened to the run
        with hold_folder(tmp_path, NAMES, resume=resume):
            assert {name for name in runs(tmp_path) if name[0] != "."} == set()
        assert runs(tmp_path / "previous") == dict.fromkeys(NAMES, "A")
    else:
        assert {**runs(tmp_path), ".lock": ""} == {**dict.fromkeys(NAMES, "A"), ".lock": ""}


@posix
def test_a_file_elsewhere_is_set_aside_there(tmp_path):
    folder, elsewhere = tmp_path / "run", tmp_path / "large disk"
    elsewhere.mkdir()
    write(folder, "A", NAMES[1:])
    (folder / NAMES[0]).symlink_to(elsewhere / "x.npz")
    write(elsewhere, "A", ["x.npz"])
    (elsewhere / ".x.npz.12.89abcdef.tmp").write_text("of a dead writer")
    with hold_folder(folder, NAMES):
        assert (folder / NAMES[0]).is_symlink()
        assert sorted(os.listdir(elsewhere)) == ["previous"]
    assert runs(elsewhere / "previous") == {"x.npz": "A"}


def test_what_cannot_be_moved_is_one_sentence(tmp_path):
    write(tmp_path, "A")
    (tmp_path / "previous").write_text("a file")
    with pytest.raises(FolderError, match=r"cannot be moved to its subfolder previous \(.*\): move"):
        hold_folder(tmp_path, NAMES).__enter__()
    assert {**runs(tmp_path), "previous": ""} == {**dict.fromkeys(NAMES, "A"), "previous": ""}


def test_the_checkpoint_moves_first_and_for_good(tmp_path, monkeypatch):
    write(tmp_path, "A")
    calls, rename = [], Path.rename
    monkeypatch.setattr(Path, "rename", lambda a, b: (calls.append(a.name), rename(a, b)))
    monkeypatch.setattr(folders, "sync_folder", lambda folder: calls.append(folder))
    with hold_folder(tmp_path, NAMES):
        pass
    assert calls[:3] == ["checkpoint.npz", tmp_path / "previous", tmp_path]


@posix
def test_a_link_to_itself_is_an_error_and_stays(tmp_path):
    (tmp_path / "checkpoint.npz").symlink_to("checkpoint.npz")
    with pytest.raises(OSError, match=r"symbolic links"):
        hold_folder(tmp_path, NAMES, resume=True).__enter__()
    assert (tmp_path / "checkpoint.npz").is_symlink()
