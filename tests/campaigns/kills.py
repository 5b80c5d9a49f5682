"""``kill -9`` at random moments of runs, in a new folder or over an older run, and then --resume.

An older run is one with another seed; the same one, so that its checkpoint would fit; or one whose
checkpoint claims these settings and holds other weights, so that taking it changes every bit.
"""

import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.campaigns.cases import Case
from tests.campaigns.runs import (
    Process,
    Results,
    call,
    contents,
    digits,
    expect_good_end,
    expect_results,
    preload,
    read_checkpoint,
    results,
    swiss_roll,
    write_checkpoint,
    write_images,
)

TRIED = "kill -9 of runs and resumes at random moments, also over an older run"
CASES = 100
PLACES = ("nothing", "nothing", "another seed", "the same run", "other weights")
"""What the folder holds before."""
SETTINGS: dict[str, dict[str, int]] = {
    "swiss roll, saved at each step": {"steps": 450, "checkpoint_every": 1},
    "swiss roll, saved at times": {"steps": 5000, "checkpoint_every": 200},
    "digits": {"steps": 60, "checkpoint_every": 7},
}
KINDS = (*tuple(SETTINGS)[:2], *tuple(SETTINGS)[:2], "digits")


class Reference(NamedTuple):
    """An undisturbed run, and older runs to start over."""

    results: Results
    seconds: float
    older: dict[str, Path]


def prepare(folder: Path, numbers: Sequence[int]) -> dict[str, Reference]:
    """Run each kind to its end, as command lines of their own."""
    write_images(folder.parent / "images.npz")
    return {kind: _prepare(folder / kind, kind) for kind in {_kind(number) for number in numbers}}


def _prepare(folder: Path, kind: str) -> Reference:
    older = {place: folder / place for place in PLACES[2:]}
    call(command(folder.parent, kind, older["the same run"]), whole=True)
    preload()
    began = time.monotonic()
    call([*command(folder.parent, kind, older["another seed"]), "--seed", "5"])
    seconds = time.monotonic() - began
    shutil.copytree(older["another seed"], older["other weights"])
    arrays, _ = read_checkpoint(older["another seed"] / "checkpoint.npz")
    _, about = read_checkpoint(older["the same run"] / "checkpoint.npz")
    write_checkpoint(older["other weights"] / "checkpoint.npz", arrays, about)
    return Reference(results(older["the same run"]), seconds, older)


def _kind(number: int) -> str:
    return KINDS[number % len(KINDS)]


def command(folder: Path, kind: str, out: Path, *flags: str) -> list[str]:
    """The command line of a kind of run; ``folder`` is the campaign's."""
    settings: dict[str, Any] = SETTINGS[kind]
    if kind == "digits":
        return digits(out, *flags, data=folder.parent / "images.npz", **settings)
    return swiss_roll(out, *flags, **settings)


def try_case(case: Case, context: dict[str, Reference]) -> None:
    """Start, kill, resume, perhaps kill again, and resume to the end."""
    kind = _kind(case.number)
    reference, out = context[kind], case.folder / "run"
    place = PLACES[case.number // len(KINDS) % len(PLACES)]
    if place in reference.older:
        shutil.copytree(reference.older[place], out)
    fresh, resumed = (command(case.folder.parent, kind, out, *flags) for flags in ((), ("--resume",)))
    older = contents(out) if out.exists() else {}

    _kill_at_some_moment(case, Process(fresh), out, 1.1 * reference.seconds)
    if older and older.items() <= contents(out).items():
        case.note("killed before the fresh run had touched the older")
        resumed = fresh
    else:
        for _ in range(int(case.rng.integers(3))):
            _kill_at_some_moment(case, Process(resumed), out, 0.5 * reference.seconds)
    if expect_good_end(case, call(resumed), f"over {place}: the resumed run"):
        expect_results(case, out, reference.results)


def _kill_at_some_moment(case: Case, process: Process, out: Path, latest: float) -> None:
    """Kill at a random time, or soon after a temporary file has appeared."""
    end = process.began + case.rng.uniform(0.0, latest)
    if case.rng.random() < 0.4:
        seen, wanted = set(), int(case.rng.integers(1, 30))
        while len(seen) < wanted and time.monotonic() < end and not process.ended:
            seen |= _temporary_files(out)
        time.sleep(case.rng.uniform(0.0, 0.002))
    else:
        while time.monotonic() < end and not process.ended:
            time.sleep(0.001)
    case.note("kills" if not process.ended else "ended before the kill")
    process.kill()
    if _temporary_files(out):
        case.note("of them within a write")


def _temporary_files(out: Path) -> set[str]:
    try:
        return {name for name in os.listdir(out) if name.endswith(".tmp")}
    except FileNotFoundError:
        return set()
