"""Two runs in one folder, at nearly the same time, and a third when the first was killed.

One runs, and ends as if alone. The other ends before it, in one sentence and with status 2.
"""

import shutil
import signal
import time
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
    expect_good_end,
    expect_refusal,
    expect_results,
    results,
    swiss_roll,
)

TRIED = "two runs started together in one folder, fresh and resumed; one after a kill -9"
CASES = 60
SETTINGS = {"steps": 2000, "checkpoint_every": 100}
FLAGS = (((), ()), (("--resume",), ("--resume",)), ((), ("--resume",)), (("--resume",), ()))
BEFORE = ("nothing", "an older run", "a run begun")
DELAYS = (0.0, 0.0, 0.001, 0.01, 0.05, 0.1, 0.3)
"""Seconds, at most, between the starts."""


class Context(NamedTuple):
    """A run alone, and what folders may hold before."""

    results: Results
    before: dict[str, Path]


def prepare(folder: Path, numbers: Sequence[int]) -> Context:
    """Run once alone, once with another seed, and once until a kill."""
    whole, older, begun = (folder / name for name in ("whole", "older", "begun"))
    call(swiss_roll(whole, **SETTINGS), whole=True)
    call(swiss_roll(older, **SETTINGS, seed=5))
    process = Process(swiss_roll(begun, **SETTINGS))
    wait_until(lambda: (begun / "checkpoint.npz").exists() or process.ended, PATIENCE)
    process.kill()
    return Context(results(whole), {"an older run": older, "a run begun": begun})


def try_case(case: Case, context: Context) -> None:
    """Start two runs; or kill the first of three."""
    before = case.choose(BEFORE)
    out = case.folder / "run"
    if before in context.before:
        shutil.copytree(context.before[before], out)
    flags = case.choose(FLAGS)
    if before == "an older run":  # it has another seed: only a fresh run fits
        flags = ((), ())
    delay = case.rng.uniform(0.0, case.choose(DELAYS) + 1e-9)
    if case.number % 3 == 2:
        _kill_the_first(case, context, out, flags[0])
    else:
        _start_two(case, context, out, flags, delay)


def _start_two(
    case: Case, context: Context, out: Path, flags: Sequence[Sequence[str]], delay: float
) -> None:
    first = Process(swiss_roll(out, *flags[0], **SETTINGS))
    time.sleep(delay)
    second = Process(swiss_roll(out, *flags[1], **SETTINGS))
    wait_until(lambda: first.ended or second.ended, PATIENCE)
    if first.ended and second.ended:
        case.note("ended at the same time")
    loser, winner = (first, second) if first.ended else (second, first)
    refused, won = loser.wait(), winner.wait()
    what = f"{_name(flags[0])} and {_name(flags[1])}"
    if refused.status == 0 and won.status == 0:
        case.expect(False, f"{what}: both ran to the end", won)
    else:
        expect_refusal(case, refused, f"{what}: the one that ended first")
        expect_good_end(case, won, f"{what}: the one that ended last")
    expect_results(case, out, context.results)


def _kill_the_first(case: Case, context: Context, out: Path, flags: Sequence[str]) -> None:
    """While it runs, another is refused; when it is dead, the next takes over at once."""
    first = Process(swiss_roll(out, *flags, **SETTINGS))
    wait_until(lambda: "training: step" in first.out or first.ended, PATIENCE)
    first.send(signal.SIGSTOP)  # it is alive, but cannot end before the other
    refused: Ended = call(swiss_roll(out, "--resume", **SETTINGS))
    expect_refusal(case, refused, "beside a run that is stopped:")
    first.kill()
    third = call(swiss_roll(out, "--resume", **SETTINGS))
    if expect_good_end(case, third, "after a kill -9 of the first: the next"):
        expect_results(case, out, context.results)


def _name(flags: Sequence[str]) -> str:
    return "a resumed run" if flags else "a fresh run"
