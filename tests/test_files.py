import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ddpm_np.runs.files import atomic_write, parse_json, remove_leftovers, write_json

OLD = b"the old content"


@pytest.fixture
def target(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(OLD)
    return path


def names(path):
    return sorted(entry.name for entry in path.parent.iterdir())


def test_new_content_replaces_the_old(target):
    with atomic_write(target) as file:
        file.write(b"new")
        assert target.read_bytes() == OLD
    assert target.read_bytes() == b"new"
    assert names(target) == ["file.bin"]


def test_makes_a_file_where_there_was_none(tmp_path):
    with atomic_write(str(tmp_path / "file.bin")) as file:
        file.write(b"new")
    assert (tmp_path / "file.bin").read_bytes() == b"new"
    assert names(tmp_path / "file.bin") == ["file.bin"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_the_old_file_and_no_litter(target, error):
    def write_half():
        with atomic_write(target) as file:
            file.write(b"x" * 100_000)
            raise error

    with pytest.raises(error):
        write_half()
    assert target.read_bytes() == OLD
    assert names(target) == ["file.bin"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failing_system_call_leaves_the_old_file_and_no_litter(target, monkeypatch, call):
    def fail(*_args):
        raise OSError("no")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="no"), atomic_write(target) as file:
        file.write(b"new")
    assert target.read_bytes() == OLD
    assert names(target) == ["file.bin"]


def test_content_is_on_disk_before_it_is_renamed_and_the_folder_after(target, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b)))
    with atomic_write(target) as file:
        file.write(b"new")
    assert calls == ["fsync", "replace", "fsync"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs setrlimit")
@pytest.mark.parametrize("size", [3000, 3_000_000], ids=["fails in the last flush", "fails in write"])
def test_a_full_disk_leaves_the_old_file_and_no_litter(target, size):
    script = f"""
import resource
from ddpm_np.runs.files import atomic_write
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    with atomic_write({str(target)!r}) as file:
        file.write(b"x" * {size})
except OSError as error:
    print("OSError", error.errno)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True
    )
    assert result.stdout.startswith("OSError"), result.stderr
    assert target.read_bytes() == OLD
    assert names(target) == ["file.bin"]


def test_concurrent_writers_leave_one_whole_file(target):
    def write(letter):
        for _ in range(20):
            with atomic_write(target) as file:
                file.write(letter * 10_000)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.read_bytes() in (b"a" * 10_000, b"b" * 10_000)
    assert names(target) == ["file.bin"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX permissions")
def test_permissions_are_those_of_an_ordinary_file(tmp_path):
    (tmp_path / "ordinary").write_bytes(b"")
    with atomic_write(tmp_path / "atomic") as file:
        file.write(b"")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


@pytest.mark.skipif(sys.platform == "win32", reason="needs symbolic links")
def test_a_symbolic_link_stays_one(target):
    link = target.parent / "link"
    link.symlink_to(target)
    with atomic_write(link) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_refuses_a_missing_folder_and_makes_none(tmp_path):
    with (
        pytest.raises(FileNotFoundError, match="existing folder"),
        atomic_write(tmp_path / "no" / "file"),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_refuses_a_folder(tmp_path):
    with pytest.raises(IsADirectoryError, match="is in the way"), atomic_write(tmp_path):
        pass


def test_what_a_killed_writer_leaves_is_removed_and_nothing_else(target):
    script = f"""
import os
from ddpm_np.runs.files import atomic_write
with atomic_write({str(target)!r}) as file:
    file.write(b"half")
    os.kill(os.getpid(), 9)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run([sys.executable, "-c", script], env=environment)
    (leftover,) = {*names(target)} - {"file.bin"}
    kept = [
        *(".file.bin.tmp", ".file.bin.12.0123456.tmp", ".file.bin.12.0123456g.tmp", "file.bin.12.tmp"),
        *(".fileXbin.12.01234567.tmp", ".file.bin.x.01234567.tmp", ".file.bin.12.01234567.tmp.gz"),
        *("x.file.bin.12.01234567.tmp", ".file.bin.12.01234567.tmp\n"),
    ]
    for name in kept:
        (target.parent / name).write_bytes(b"a user's")
    (target.parent / ".file.bin.12.01234567.tmp").mkdir()
    remove_leftovers(target)
    assert names(target) == sorted([*kept, "file.bin", ".file.bin.12.01234567.tmp"])
    assert target.read_bytes() == OLD
    remove_leftovers(target.parent / "nowhere" / "file.bin")
    assert leftover.endswith(".tmp")


@pytest.mark.parametrize("text", ["[NaN]", "-Infinity", "", "{", "[" * 100_000, "1" * 5000])
def test_what_is_not_json_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)


def test_json_round_trip(tmp_path):
    obj = {"name": "β", "values": [1, 2.5, None], "nested": {"ok": True}}
    write_json(tmp_path / "a.json", obj)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == obj
    assert text.endswith("\n}\n")
    assert '\n  "name"' in text


@pytest.mark.parametrize("obj", [{"loss": float("nan")}, [float("inf")], {"a": object()}])
def test_json_refuses_what_is_not_json_and_keeps_the_old_file(target, obj):
    with pytest.raises((TypeError, ValueError)):
        write_json(target, obj)
    assert target.read_bytes() == OLD
    assert names(target) == ["file.bin"]
