"""No room: every file limited to a size, or a file system that is full, and later room again.

A run that finds no room says so in one sentence with status 2. What was there before is whole, in its
place or set aside. With room, --resume ends in the bits of an undisturbed run.
"""

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.campaigns.cases import Case, wait_until
from tests.campaigns.runs import (
    PATIENCE,
    Ended,
    Process,
    Results,
    call,
    contents,
    expect_good_end,
    expect_refusal,
    expect_results,
    read_checkpoint,
    results,
    swiss_roll,
)

TRIED = "file-size limits and full file systems; fresh, over an older run, resumed"
CASES = 90
SETTINGS = {"steps": 450, "checkpoint_every": 50}
STARTS = ("in a new folder", "over an older run", "resumed")
BLOCK = 4096


class Context(NamedTuple):
    """A run with room, an older one, one that was killed, and whether file systems can be mounted."""

    results: Results
    older: Path
    begun: Path
    mounts: bool


def prepare(folder: Path, numbers: Sequence[int]) -> Context:
    """Make what cases begin with."""
    whole, older, begun, disk = (folder / name for name in ("whole", "older", "begun", "disk"))
    call(swiss_roll(whole, **SETTINGS), whole=True)
    call(swiss_roll(older, **SETTINGS, seed=5))
    process = Process(swiss_roll(begun, **SETTINGS))
    wait_until(lambda: (begun / "checkpoint.npz").exists() or process.ended, PATIENCE)
    process.kill()
    mounts = _mount(disk, 16 * BLOCK)
    if mounts:
        _unmount(disk)
    return Context(results(whole), older, begun, mounts)


def try_case(case: Case, context: Context) -> None:
    """Run without enough room, look at what is left, and go on with room."""
    start = STARTS[case.number % 3]
    before = {"over an older run": context.older, "resumed": context.begun}.get(start)
    flags = ("--resume",) if start == "resumed" else ()
    full = context.mounts and case.number // 3 % 2 == 1
    disk = case.folder / "disk"
    out = (disk if full else case.folder) / "run"
    if not context.mounts and case.number // 3 % 2 == 1:
        case.note("with a size limit instead of a full disk: none can be mounted here")
    if full:
        _mount(disk, 2**26)
    try:
        if before is not None:
            shutil.copytree(before, out)
        ended = _run_without_room(case, out, flags, full)
        what = f"{start}, {'a full disk' if full else 'a limit of sizes'}"
        if ended.status == 0:
            case.note("had room enough")
            expect_results(case, out, context.results)
        elif expect_refusal(case, ended, f"{what}:"):
            _expect_whole(case, out, before, what)
        if full:
            _remount(disk, 2**26)
        _go_on(case, context, out, before, what)
    finally:
        if full:
            _unmount(disk)


def _run_without_room(case: Case, out: Path, flags: tuple[str, ...], full: bool) -> Ended:
    command = swiss_roll(out, *flags, **SETTINGS)
    if full:
        # tmpfs counts blocks, and one for each folder: what is there, and some more.
        used = _used(out.parent) + BLOCK * int(case.choose([0, 0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 14]))
        _remount(out.parent, max(used, 2 * BLOCK))
        return call(command)
    size = int(case.rng.integers(25_000)) if case.rng.random() < 0.7 else int(case.rng.integers(700))
    return call(command, limits={"RLIMIT_FSIZE": size})


def _go_on(case: Case, context: Context, out: Path, before: Path | None, what: str) -> None:
    """Resume; or start once more, where the older run is still there untouched."""
    untouched = before == context.older and contents(before).items() <= contents(out).items()
    flags = () if untouched else ("--resume",)
    if expect_good_end(case, call(swiss_roll(out, *flags, **SETTINGS)), f"{what}, and then room:"):
        expect_results(case, out, context.results)


def _expect_whole(case: Case, out: Path, before: Path | None, what: str) -> None:
    """What lies in the folder can be read, and there is a checkpoint, if there was one."""
    old = contents(before) if before is not None else {}
    if not out.exists():
        return
    for path in out.rglob("*"):
        if path.suffix == ".tmp":
            case.expect(False, f"{what}: a temporary file is left", path.name)
        if path.name == "checkpoint.npz":
            case.expect(_is_whole(path), f"{what}: a damaged checkpoint", path)
        if path.name == "summary.json":
            case.expect(_is_json(path), f"{what}: a damaged summary", path)
        if path.parent.name == "previous" and path.name in old:
            same = path.read_bytes() == old[path.name]
            case.expect(same, f"{what}: an older file was changed when set aside", path)
    if old:
        kept = any(
            path.exists() for path in (out / "checkpoint.npz", out / "previous" / "checkpoint.npz")
        )
        case.expect(kept, f"{what}: no checkpoint is left, old or new")


def _is_whole(path: Path) -> bool:
    try:
        return "configuration" in read_checkpoint(path)[1]
    except Exception:
        return False


def _is_json(path: Path) -> bool:
    try:
        return bool(json.loads(path.read_text()))
    except ValueError:
        return False


# --- a small file system ------------------------------------------------------------------


def _mount(folder: Path, size: int) -> bool:
    """Mount a file system in memory, if that is allowed."""
    folder.mkdir(exist_ok=True)
    return _succeeds("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))


def _remount(folder: Path, size: int) -> None:
    assert _succeeds("mount", "-o", f"remount,size={size}", str(folder))


def _unmount(folder: Path) -> None:
    assert _succeeds("umount", str(folder))


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def _used(folder: Path) -> int:
    usage = shutil.disk_usage(folder)
    return usage.used
