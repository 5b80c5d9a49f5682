"""The contenders' processes, seen from the program that asks them."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from works import Contender, Work

HERE = Path(__file__).parent
PAUSE = 0.25
"""Seconds before each block: threads of the last contender that still spin go to sleep."""


class WorkerError(RuntimeError):
    """A contender could not do what it was asked; one sentence."""


def environment(contender: Contender, threads: int) -> dict[str, str]:
    """The variables that libraries read when they are loaded: threads, and no TF32."""
    names = ("OMP", "MKL", "OPENBLAS", "NUMBA")
    counts = {f"{name}_NUM_THREADS": str(threads) for name in names}
    if contender.blas_of_one:
        counts["OPENBLAS_NUM_THREADS"] = "1"
    return {
        **os.environ,
        **counts,
        "DDPM_NP_THREADS": str(threads),
        "CUPY_TF32": "0",
        "NVIDIA_TF32_OVERRIDE": "0",
    }


class Worker:
    """One contender in its own process, idle unless asked; use it in a ``with`` statement."""

    def __init__(self, contender: Contender, device: str, threads: int) -> None:
        self.contender = contender
        arguments = (contender.name, contender.module, device, str(threads))
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py"), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            # Compilation in the process itself: no helpers beside it that could take time.
            env=environment(contender, threads) | {"TORCHINDUCTOR_COMPILE_THREADS": "1"},
        )

    def ask(self, action: str, **arguments: Any) -> dict[str, Any]:
        """Send a request and wait for its answer; raises as :meth:`receive`."""
        self.send(action, **arguments)
        return self.receive()

    def send(self, action: str, **arguments: Any) -> None:
        """Send a request; that the worker is gone will show when its answer is read."""
        assert self.process.stdin
        with suppress(OSError):
            print(json.dumps({"do": action, **arguments}), file=self.process.stdin, flush=True)

    def receive(self) -> dict[str, Any]:
        """Wait for the answer to a request.

        Raises
        ------
        WorkerError
            If the worker says so, or is gone.
        """
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            status = self.process.wait()
            raise WorkerError(f"{self.contender.label}: the process ended with status {status}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerError(f"{self.contender.label}: {answer['error']}")
        return answer

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process.stdin
        assert self.process.stdout
        if kind is not None:
            self.process.kill()
        with suppress(OSError):
            self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@contextmanager
def opened(contenders: Sequence[Contender], device: str, threads: int) -> Iterator[list[Worker]]:
    """Workers with their libraries loaded; none is left when the block ends."""
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(one, device, threads)) for one in contenders]
        for worker in workers:
            worker.send("open")
        for worker in workers:
            worker.receive()
        yield workers


def request(contender: Contender, work: Work) -> dict[str, Any]:
    """What to ask a contender for a work: the function of that name, or its products alone."""
    if contender.module == "products":
        return {"function": "multiply", "sizes": {"products": work.products}}
    return {"function": work.function, "sizes": work.sizes}


def takes_part(contender: Contender, work: Work) -> bool:
    """Whether there is something to measure; there are graphs of the small network's works alone."""
    if contender.module == "products":
        return bool(work.products)
    return not (contender.module == "graphs" and work.function in ("formulas", "train_images"))


def measure(workers: Sequence[Worker], work: Work, rounds: int, block: float) -> dict[str, list[float]]:
    """Seconds per unit of a work for each contender in each round.

    The order is reversed from round to round, so that a machine that gets slower or faster favours
    nobody.
    """
    here = [worker for worker in workers if takes_part(worker.contender, work)]
    seconds: dict[str, list[float]] = {worker.contender.name: [] for worker in here}
    for worker in here:
        worker.ask("prepare", **request(worker.contender, work), block=block)
    for number in range(rounds):
        for worker in here if number % 2 == 0 else reversed(here):
            time.sleep(PAUSE)
            units = 1 if worker.contender.module == "products" else work.units
            seconds[worker.contender.name].append(worker.ask("measure")["seconds"] / units)
    return seconds
