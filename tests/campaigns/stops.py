"""SIGINT, SIGTERM and SIGHUP in each phase of a run, one or two; ignored signals, and closed pipes.

Each run is a command line of its own, with pictures, and is resumed to its end afterwards.
"""

import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.campaigns.cases import Case, not_a_sentence, wait_until
from tests.campaigns.runs import (
    PATIENCE,
    Ended,
    Process,
    Results,
    call,
    expect_good_end,
    expect_results,
    results,
    swiss_roll,
)

TRIED = "signals in each phase, two in a row, ignored ones; head -1, closed stdout and stderr"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SETTINGS = {"steps": 4000, "checkpoint_every": 100, "timesteps": 150, "samples": 1500}


class Context(NamedTuple):
    """An undisturbed run."""

    results: Results
    startup: float
    """Seconds until its first line."""


# --- phases: each is a condition for its beginning, and how long it lasts ------------------


def _loads(process: Process, out: Path) -> bool:
    """The script's first lines have run, nearly all of its imports are to come.

    Before, the interpreter starts, and what is installed editable is looked for: no line of a script
    can answer for a signal then. Its first lines catch SIGTERM, which Python itself does not.
    """
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return False
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


def _says(text: str) -> Callable[[Process, Path], bool]:
    return lambda process, out: text in process.out


def _writes(process: Process, out: Path) -> bool:
    return any(out.glob(".checkpoint*.tmp")) if out.exists() else False


def _has_summary(process: Process, out: Path) -> bool:
    return (out / "summary.json").exists()


PHASES: dict[str, tuple[Callable[[Process, Path], bool], float]] = {
    "imports": (_loads, 0.5),
    "preparing": (_says("backend:"), 0.1),
    "training": (_says("training: step"), 0.8),
    "a write": (_writes, 0.002),
    "sampling": (_says("sampling "), 0.15),
    "the bound": (_says("evaluating the bound"), 0.6),
    "pictures": (_has_summary, 1.5),
}
STOPPED = [(phase, number, False) for number in SIGNALS for phase in PHASES]
STOPPED_TWICE = [(phase, number, True) for number in SIGNALS for phase in PHASES]
OTHERS = ("ignored SIGHUP", "ignored SIGINT", "head -1", "head -1 | wait", "no stderr", "no stdout")
KINDS = [*STOPPED * 3, *STOPPED_TWICE, *OTHERS * 2]
CASES = len(KINDS)


def prepare(folder: Path, numbers: Sequence[int]) -> Context:
    """Run once undisturbed, and measure how long imports take."""
    out = folder / "whole"
    process = Process(swiss_roll(out, "--plots", **SETTINGS), whole=True)
    wait_until(lambda: "backend:" in process.out or process.ended, PATIENCE)
    startup = time.monotonic() - process.began
    process.wait()
    return Context(results(out), startup)


def try_case(case: Case, context: Context) -> None:
    """Stop a run, look at how it ends, and resume it."""
    kind = KINDS[case.number * 29 % CASES]
    out = case.folder / "run"
    if isinstance(kind, tuple):
        _stop(case, context, out, *kind)
    elif kind.startswith("ignored"):
        _ignore(case, context, out, getattr(signal, kind.split()[1]))
    elif kind.startswith("head"):
        _close_pipe(case, context, out, "wait" in kind)
    else:
        _without(case, context, out, 2 if kind == "no stderr" else 1)


def _stop(case: Case, context: Context, out: Path, phase: str, number: int, twice: bool) -> None:
    process = Process(swiss_roll(out, "--plots", **SETTINGS), whole=True)
    begins, lasts = PHASES[phase]
    if phase == "imports":
        lasts *= context.startup
    wait_until(lambda: begins(process, out) or process.ended, PATIENCE, pause=0.0005)
    time.sleep(case.rng.uniform(0.0, lasts))
    process.send(number)
    sent = {number}
    if twice:
        time.sleep(case.rng.uniform(0.0, case.choose([0.001, 0.02, 0.2])))
        sent.add(case.choose(SIGNALS))
        process.send(max(sent - {number}, default=number))
    ended = process.wait()
    what = f"{signal.Signals(number).name} during {phase}{', and another' if twice else ''}"
    if ended.status == 0 and "everything is in" in ended.out:
        case.note("over before the signal came")
        case.expect(not ended.err, f"{what}: ends well and says something", ended)
    else:
        _expect_stopped(case, ended, sent, what, may_be_silent=phase in ("imports", "pictures"))
    _expect_to_resume(case, context, out, what)


def _expect_stopped(
    case: Case, ended: Ended, sent: set[int], what: str, may_be_silent: bool = False
) -> None:
    """Status 128 + signal, no traceback, one sentence."""
    _expect_no_traceback(case, ended, what)
    said = ended.err.strip("\n")
    problem = "" if may_be_silent and not said else not_a_sentence(said)
    case.expect(not problem, f"{what}: what it says {problem}", ended)
    right = ended.status in {128 + number for number in sent}
    case.expect(right, f"{what}: ends with status {ended.status}", ended)


def _expect_no_traceback(case: Case, ended: Ended, what: str) -> None:
    said = ended.err + ended.out
    case.expect("Traceback" not in said, f"{what}: a traceback", ended)
    case.expect("Exception ignored" not in said, f"{what}: 'Exception ignored'", ended)


def _expect_to_resume(case: Case, context: Context, out: Path, what: str) -> None:
    """The run, resumed, ends in the same bits; it may have ended already."""
    again = call(swiss_roll(out, "--resume", **SETTINGS))
    if expect_good_end(case, again, f"{what}: resumed, it"):
        expect_results(case, out, context.results)


def _ignore(case: Case, context: Context, out: Path, number: int) -> None:
    """As under nohup, or in a shell's background: nothing happens."""
    process = Process(swiss_roll(out, "--plots", **SETTINGS), whole=True, ignored=(number,))
    phase = case.choose(["imports", "training", "a write", "the bound"])
    begins, lasts = PHASES[phase]
    wait_until(lambda: begins(process, out) or process.ended, PATIENCE)
    time.sleep(case.rng.uniform(0.0, 0.5 * lasts))
    process.send(number)
    what = f"an ignored {signal.Signals(number).name} during {phase}"
    if expect_good_end(case, process.wait(), f"{what}: the run"):
        expect_results(case, out, context.results)


def _close_pipe(case: Case, context: Context, out: Path, later: bool) -> None:
    """Read a line, or some, and no more: the run goes on to its end, or stops and can be resumed."""
    settings = {**SETTINGS, "checkpoint_every": 10**6}  # so that nothing is saved by chance
    process = Process(swiss_roll(out, "--plots", **settings), whole=True, buffered=True)
    wait_until(lambda: "\n" in process.out or process.ended, PATIENCE)
    if later:
        time.sleep(case.rng.uniform(0.0, 1.5))
    process.close_output()
    ended = process.wait()
    what = "a closed pipe"
    _expect_no_traceback(case, ended, what)
    if ended.status == 0:
        case.expect(not ended.err, f"{what}: ends well and says something", ended)
        expect_results(case, out, context.results)
        return
    said = ended.err.strip("\n")
    case.expect(
        ended.status in {2, 128 + signal.SIGPIPE}, f"{what}: ends with status {ended.status}", ended
    )
    case.expect(not said or not not_a_sentence(said), f"{what}: what it says is no sentence", ended)
    log = out / "metrics.jsonl"
    lost = log.exists() and log.stat().st_size > 0 and not (out / "checkpoint.npz").exists()
    case.expect(not lost, f"{what}: what was trained is lost", ended)
    _expect_to_resume(case, context, out, what)


def _without(case: Case, context: Context, out: Path, descriptor: int) -> None:
    """Started with stdout or stderr closed: there is nowhere to print to, and the run is the same."""
    ended = call(swiss_roll(out, "--plots", **SETTINGS), whole=True, closed=(descriptor,))
    if expect_good_end(case, ended, f"without file descriptor {descriptor}: the run"):
        expect_results(case, out, context.results)
