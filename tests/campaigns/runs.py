"""Runs of the examples: started, stopped at will, and compared bit by bit.

Loading the libraries takes longer than a tiny run. So most runs are forked from this process, which
has loaded them; the script itself is loaded anew, as ``python script.py`` would. Where the start of a
process is what is tried, runs are command lines of their own.
"""

import atexit
import functools
import importlib
import json
import os
import runpy
import signal
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from tests.campaigns.cases import Case, mapped_bytes, not_a_sentence

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
ENVIRONMENT.pop("PYTHONWARNINGS", None)
NETWORK = {"hidden_size": 8, "hidden_layers": 1, "timesteps": 25}
SWISS_ROLL = {"steps": 30, "batch_size": 16, **NETWORK, "samples": 50, "backend": "numpy"}
U_NET = {"channels": 8, "timesteps": 10, "learning_rate": 0.01, "levels": 5}
DIGITS = {"steps": 12, "batch_size": 8, **U_NET, "samples": 6, "backend": "numpy"}
TIMINGS = {f"{name}_seconds" for name in ("train", "sample", "bound", "flow", "baselines")} | {
    "steps_per_second"
}
PATIENCE = 60.0
"""Seconds after which a run counts as hanging."""


def swiss_roll(out: Path, *flags: str, **settings: Any) -> list[str]:
    """The script and its arguments: tiny settings without pictures, with changes."""
    return _command("swiss_roll.py", out, {**SWISS_ROLL, **settings}, flags)


def digits(out: Path, *flags: str, **settings: Any) -> list[str]:
    """The same for images; ``data`` is a file of them."""
    return _command("digits.py", out, {**DIGITS, **settings}, ("--no-baselines", *flags))


def _command(script: str, out: Path, settings: Mapping[str, Any], flags: Sequence[str]) -> list[str]:
    pairs = [(f"--{name.replace('_', '-')}", str(value)) for name, value in settings.items()]
    plots = [] if "--plots" in flags else ["--no-plots"]
    rest = [flag for flag in flags if flag != "--plots"]
    command = [str(ROOT / "examples" / script), *(part for pair in pairs for part in pair)]
    return [*command, "--out-dir", str(out), *plots, *rest]


def write_images(path: Path) -> Path:
    """Ninety images of 4 x 4 with five levels and three classes, as in the tests."""
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3 + 4
    images = np.clip(rng.integers(0, 3, (90, 4, 4)) + (labels - 4)[:, None, None], 0, 4)
    np.savez(path, images=images.astype(np.uint8), labels=labels)
    return path


# --- processes ----------------------------------------------------------------------------


class Ended(NamedTuple):
    """How a process ended."""

    status: int | None
    """128 + n after signal n, as a shell says; None if it had to be stopped for taking too long."""
    out: str
    err: str
    peak: int
    """The most memory that it held, in bytes, beyond what it began with."""

    def __str__(self) -> str:
        return f"status {self.status}, stdout ends {self.out[-200:]!r}, stderr {self.err[-1000:]!r}"


class Process:
    """A run on its way.

    Parameters
    ----------
    command : list of str
        The script and its arguments.
    whole : bool
        A command line of its own; else forked from this process.
    limits : mapping
        Of resources: {"RLIMIT_FSIZE": bytes}. RLIMIT_AS counts from what the process begins with.
    ignored : signals
        That the process is started with ignored, as by nohup.
    closed : file descriptors
        That it is started without.
    buffered : bool
        As it is for users whose output goes to a pipe; else lines come as they are printed.
    """

    def __init__(
        self,
        command: list[str],
        *,
        whole: bool = False,
        limits: Mapping[str, int] | None = None,
        ignored: Sequence[int] = (),
        closed: Sequence[int] = (),
        buffered: bool = False,
    ) -> None:
        reads, writes = zip(os.pipe(), os.pipe(), strict=True)
        self.began = time.monotonic()
        self._status: int | None = None
        if not whole:
            preload()
        self._peak, self._before = 0, 0 if whole else _resident_bytes()
        setting = (writes, limits or {}, ignored, closed, buffered)
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _become(command, whole, *setting)
        for end in writes:
            os.close(end)
        for end in reads:
            os.set_blocking(end, False)
        self._ends: list[int | None] = list(reads)
        self._said = [bytearray(), bytearray()]

    @property
    def out(self) -> str:
        """What it has printed so far."""
        self._read()
        return self._said[0].decode(errors="backslashreplace")

    @property
    def ended(self) -> bool:
        """Whether it is over; it is then no longer known to the system."""
        self._read()
        if self._status is None:
            pid, status, used = os.wait4(self.pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                self._status = code if code >= 0 else 128 - code
                self._peak = used.ru_maxrss * 1024 - self._before
        return self._status is not None

    def send(self, number: int) -> None:
        """Send a signal, unless it is over."""
        if not self.ended:
            os.kill(self.pid, number)

    def kill(self) -> Ended:
        """End it as ``kill -9`` does."""
        self.send(signal.SIGKILL)
        return self.wait()

    def close_output(self) -> None:
        """Stop reading what it prints, as ``head -1`` does after a line."""
        self._close(0)

    def wait(self, seconds: float = PATIENCE) -> Ended:
        """Wait for its end."""
        end = time.monotonic() + seconds
        while not self.ended:
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
                return self.wait()._replace(status=None)
            time.sleep(0.002)
        self._read()
        self._close(0)
        self._close(1)
        out, err = (text.decode(errors="backslashreplace") for text in self._said)
        return Ended(self._status, out, err, self._peak)

    def _read(self) -> None:
        for k, end in enumerate(self._ends):
            while end is not None:
                try:
                    content = os.read(end, 65536)
                except BlockingIOError:
                    break
                if not content:
                    break
                self._said[k] += content

    def _close(self, k: int) -> None:
        end, self._ends[k] = self._ends[k], None
        if end is not None:
            os.close(end)


def call(command: list[str], **setting: Any) -> Ended:
    """Run to the end."""
    return Process(command, **setting).wait()


def _become(
    command: list[str],
    whole: bool,
    writes: Sequence[int],
    limits: Mapping[str, int],
    ignored: Sequence[int],
    closed: Sequence[int],
    buffered: bool,
) -> NoReturn:
    """Turn a forked child into the run."""
    import resource

    status = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(writes[0], 1)
        os.dup2(writes[1], 2)
        os.closerange(3, 1024)
        for descriptor in closed:
            os.close(descriptor)
        for name, value in limits.items():
            base = mapped_bytes() if name == "RLIMIT_AS" else 0
            resource.setrlimit(getattr(resource, name), (base + value, base + value))
        if whole:
            options = [] if buffered else ["-u"]
            os.execve(sys.executable, [sys.executable, *options, *command], ENVIRONMENT)
        status = _run_script(command, ignored, closed)
    finally:
        os._exit(status)


def _run_script(command: list[str], ignored: Sequence[int], closed: Sequence[int]) -> int:
    """Do what the interpreter does with a script, from its handlers of signals to its last flush."""
    os.environ.pop("PYTHONWARNINGS", None)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    if signal.SIGINT not in ignored:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    warnings.resetwarnings()
    warnings.simplefilter("ignore", DeprecationWarning)
    atexit._clear()
    for k, name in ((1, "stdout"), (2, "stderr")):
        stream = None if k in closed else os.fdopen(k, "w", buffering=1, closefd=False)
        setattr(sys, name, stream)
    sys.argv = command
    sys.path[0] = str(Path(command[0]).parent)
    for name in {path.stem for path in (ROOT / "examples").glob("*.py")} & {*sys.modules}:
        del sys.modules[name]
    try:
        runpy.run_path(command[0], run_name="__main__")
        status = 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    return status


@functools.cache
def preload() -> None:
    """Load what the scripts need, so that forked runs have it."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    for name in (
        *("backends", "ddpm_np.exact", "ddpm_np.nn", "ddpm_np.training", "ddpm_np.runs.batches"),
        *("ddpm_np.runs.checkpoint", "ddpm_np.runs.evaluation", "ddpm_np.data.baselines"),
        *("ddpm_np.data.distances", "ddpm_np.data.images", "ddpm_np.plotting.points"),
    ):
        importlib.import_module(name)
    with suppress(ImportError):
        importlib.import_module("sklearn.mixture")


def _resident_bytes() -> int:
    import resource

    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


# --- what a run leaves --------------------------------------------------------------------


class Results(NamedTuple):
    """Every bit that a run is to reproduce."""

    arrays: dict[str, tuple[str, tuple[int, ...], bytes]]
    about: Any
    log: bytes
    summary: dict[str, Any]


def results(out: Path) -> Results:
    """Read the checkpoint, the log, and the summary without the times it took."""
    arrays, about = read_checkpoint(out / "checkpoint.npz")
    bits = {name: (str(array.dtype), array.shape, array.tobytes()) for name, array in arrays.items()}
    summary = json.loads((out / "summary.json").read_text())
    kept = {name: value for name, value in summary.items() if name not in TIMINGS}
    return Results(bits, about, (out / "metrics.jsonl").read_bytes(), kept)


def read_checkpoint(path: Path) -> tuple[dict[str, np.ndarray], Any]:
    """Read it with NumPy alone."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    return arrays, json.loads(str(arrays.pop("about")[()]))


def write_checkpoint(path: Path, arrays: Mapping[str, Any], about: Any) -> None:
    """Write it with NumPy alone; ``about`` is JSON text, or what becomes that."""
    text = about if isinstance(about, str) else json.dumps(about)
    with path.open("wb") as file:
        np.savez(file, about=np.array(text), **arrays)


def contents(out: Path) -> dict[str, bytes]:
    """The regular files directly in a folder."""
    return {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}


def expect_results(case: Case, out: Path, expected: Results) -> None:
    """Every bit is that of an undisturbed run, and no temporary file is left."""
    try:
        found = results(out)
    except Exception as error:
        case.expect(False, "the files cannot be read", f"{type(error).__name__}: {error}")
        return
    different = [name for name in expected.arrays if found.arrays.get(name) != expected.arrays[name]]
    case.expect(found.arrays == expected.arrays, "other bits in the checkpoint", different[:5])
    case.expect(found.about == expected.about, "other numbers in the checkpoint", found.about)
    lines = [len(log.splitlines()) for log in (found.log, expected.log)]
    case.expect(found.log == expected.log, "another log", f"{lines[0]} lines, wanted {lines[1]}")
    case.expect(found.summary == expected.summary, "other numbers in the summary", found.summary)
    left = sorted(str(path.relative_to(out)) for path in out.rglob("*.tmp"))
    case.expect(not left, "temporary files are left", left)


def expect_good_end(case: Case, ended: Ended, what: str) -> bool:
    """Status 0 and nothing on stderr."""
    right = ended.status == 0 and not ended.err
    return case.expect(right, f"{what} {_how(ended)}", ended)


def expect_refusal(case: Case, ended: Ended, what: str, status: int = 2) -> bool:
    """This status, and one sentence on stderr."""
    problem = not_a_sentence(ended.err.strip("\n").partition(": error: ")[2] or ended.err.strip("\n"))
    right = ended.status == status and not problem
    return case.expect(right, f"{what} {_how(ended, problem)}", ended)


def _how(ended: Ended, problem: str = "") -> str:
    if ended.status is None:
        return "hangs"
    if "Traceback" in ended.err:
        return f"ends in a traceback ({ended.err.strip().splitlines()[-1].partition(':')[0][:60]})"
    if "Exception ignored" in ended.err:
        return "says 'Exception ignored'"
    return f"ends with status {ended.status}{f'; what it says {problem}' if problem else ''}"
