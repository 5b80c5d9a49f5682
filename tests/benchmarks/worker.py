"""A contender's process: makes a work ready, then times blocks of it whenever it is asked.

    python worker.py CONTENDER MODULE DEVICE THREADS

One request per line on stdin, one answer per line on stdout, both JSON:

    {"do": "prepare", "function": "train", "sizes": {"batch": 32}, "block": 0.5}  ->  {"repeats": 700}
    {"do": "measure"}                                              ->  {"seconds": 0.0007}
    anything that fails                                            ->  {"error": "..."}

Between requests it waits in a read, so that contenders never compete for the machine.
"""

import gc
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

WARM_UP = 3
"""Calls before any is timed: they compile, fill caches and allocate."""


class Session:
    """The contender's module, and the work at hand."""

    def __init__(self, name: str, module: str, device: str, threads: int) -> None:
        self.module = importlib.import_module(module)
        self.new_context = lambda: self.module.open_context(name, device, threads)
        self.context = self.new_context()
        self.call: Callable[[], Any] | None = None
        self.repeats = 0

    def prepare(self, function: str, sizes: dict[str, Any], block: float) -> dict[str, Any]:
        """Make a work ready, warm it up, and find how often it fits into ``block`` seconds."""
        self.call = None
        gc.collect()
        self.context = self.new_context()
        self.call = getattr(self.module, function)(self.context, **sizes)
        self.timed(WARM_UP)
        self.repeats = 1
        while (took := self.timed(self.repeats)) < block / 3:
            self.repeats = max(
                self.repeats + 1, min(10 * self.repeats, int(self.repeats * block / took))
            )
        self.repeats = max(1, round(self.repeats * block / took))
        return {"repeats": self.repeats}

    def measure(self) -> dict[str, Any]:
        """Seconds per call, over one block."""
        return {"seconds": self.timed(self.repeats) / self.repeats}

    def timed(self, repeats: int) -> float:
        """Seconds for so many calls, with nothing left to do on the device."""
        if self.call is None:
            raise RuntimeError("nothing is prepared")
        call = self.call
        self.module.synchronize(self.context)
        began = time.perf_counter()
        for _ in range(repeats):
            call()
        self.module.synchronize(self.context)
        return time.perf_counter() - began


def main() -> None:
    """Answer requests until stdin ends."""
    # Libraries print what they like: stdout is for answers, everything else goes to stderr.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    name, module, device, threads = sys.argv[1:]
    session: Session | None = None
    for line in sys.stdin:
        try:
            request = json.loads(line)
            action = request.pop("do")
            if action == "open":
                session = Session(name, module, device, int(threads))
                answer: dict[str, Any] = {}
            elif session is None or action not in ("prepare", "measure"):
                raise ValueError(f"no such request now: {action}")
            else:
                answer = getattr(session, action)(**request)
        except Exception as error:  # the parent says what happened, and may go on
            if type(error).__name__ not in ("BackendError", "ModuleNotFoundError"):
                traceback.print_exc()
            answer = {"error": " ".join(f"{error}".split()) or type(error).__name__}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):  # the parent says it
        main()
