"""What a campaign is, and how its cases are tried side by side.

A campaign is a module with

    TRIED                    what is tried, for the table
    CASES                    how many
    prepare(folder, numbers) -> context        made once, before the cases; it must pickle
    try_case(case, context)                    calls case.expect for all that must hold

Everything random in a case comes from ``case.rng``, a function of the seed, the campaign's name and
the number of the case: so one case can be repeated alone.
"""

import importlib
import multiprocessing
import shutil
import signal
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

WORKERS = 2


class Fault(NamedTuple):
    """Something that went wrong in a case."""

    number: int
    kind: str
    """A few words, the same for the same fault: faults are counted by it."""
    detail: str


class Outcome(NamedTuple):
    """What came of one case, or of all of a campaign."""

    faults: list[Fault]
    notes: Counter[str]


class Case:
    """One thing to try: its number, its own random numbers, and a folder of its own."""

    def __init__(self, campaign: str, seed: int, number: int, folder: Path) -> None:
        self.number, self.folder = number, folder
        self.rng = np.random.default_rng([seed, zlib.crc32(campaign.encode()), number])
        self.faults: list[Fault] = []
        self.notes: Counter[str] = Counter()

    def expect(self, right: bool, kind: str, detail: object = "") -> bool:
        """Note a fault unless ``right``, which is returned."""
        if not right:
            self.faults.append(Fault(self.number, kind, str(detail)))
        return right

    def note(self, what: str) -> None:
        """Count something that the table should tell, such as kills that hit a write."""
        self.notes[what] += 1

    def choose(self, options: Sequence[Any]) -> Any:
        """One of the options, at random."""
        return options[int(self.rng.integers(len(options)))]


def load(name: str) -> Any:
    """The module of a campaign."""
    return importlib.import_module(f"tests.campaigns.{name}")


def run_campaign(
    name: str,
    seed: int,
    numbers: Sequence[int],
    folder: Path,
    *,
    workers: int = WORKERS,
    keep: bool = False,
) -> Outcome:
    """Try cases, two at a time; without workers, one after the other in this process."""
    (folder / name).mkdir(parents=True)
    context = load(name).prepare(folder / name, numbers)
    everything = Outcome([], Counter())
    for outcome in _outcomes((name, seed, folder / name, context, keep), numbers, workers):
        everything.faults.extend(outcome.faults)
        everything.notes.update(outcome.notes)
    return everything


def _outcomes(setting: tuple[Any, ...], numbers: Sequence[int], workers: int) -> Iterator[Outcome]:
    if not workers:
        _begin(*setting)
        yield from map(_try, numbers)
        return
    # Workers start as fresh processes: threads, handlers and warnings of this one stay here.
    context = multiprocessing.get_context("spawn")
    done = 0
    with ProcessPoolExecutor(workers, context, initializer=_begin, initargs=setting) as pool:
        try:
            for outcome in pool.map(_try, numbers, chunksize=max(1, len(numbers) // 200)):
                done += 1
                yield outcome
        except BrokenProcessPool:
            detail = "within the next hundreds of cases: find it with --case"
            yield Outcome([Fault(numbers[done], "the process of the campaign died", detail)], Counter())


_SETTING: tuple[Any, ...] = ()


def _begin(*setting: Any) -> None:
    global _SETTING
    _SETTING = setting


def _try(number: int) -> Outcome:
    name, seed, folder, context, keep = _SETTING
    case = Case(name, seed, number, folder / f"case-{number}")
    case.folder.mkdir()
    try:
        load(name).try_case(case, context)
    except Exception as error:
        raise RuntimeError(f"the campaign itself is wrong: --only {name} --case {number}") from error
    if not keep:
        shutil.rmtree(case.folder, ignore_errors=True)
    return Outcome(case.faults, case.notes)


class TookTooLong(BaseException):
    """Not an Exception: what is tried must not be able to swallow it."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TookTooLong in the block once it has taken this long."""

    def expire(*_: object) -> None:
        raise TookTooLong

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def memory_limit(extra: int) -> Iterator[None]:
    """Let the block map at most ``extra`` bytes more than are mapped now; beyond is a MemoryError."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (mapped_bytes() + extra, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def mapped_bytes() -> int:
    """Size of this process's address space."""
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def not_a_sentence(text: str, limit: int = 300) -> str:
    """What keeps a message from being one printable line under the limit; empty if nothing does."""
    if not text.strip():
        return "is empty"
    if len(text.splitlines()) > 1:
        return "has several lines"
    if len(text) >= limit:
        return f"has {limit} characters or more"
    if not text.isprintable():
        return "holds characters that cannot be printed"
    return ""


def wait_until(condition: Any, seconds: float, pause: float = 0.001) -> bool:
    """Look until the condition holds; False if it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(pause)
    return True
