"""How the examples are stopped: by Ctrl-C, and by SIGTERM and SIGHUP, which schedulers send.

A signal that was ignored when the process started stays so, as ``nohup`` wants it.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import CodeType, FrameType
from typing import Any

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


def sentence(name: str, number: int, *notes: str) -> str:
    """Say which signal stopped the script, and what else there is to say."""
    start, by = ("\n", "") if number == signal.SIGINT else ("", f" by {signal.Signals(number).name}")
    return f"{start}{name}: {'; '.join([f'stopped{by}', *notes])}\n"


class Stopped(KeyboardInterrupt):
    """A signal asked the process to stop."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def exit_at_once(name: str) -> None:
    """Let signals end the process with a sentence: while it imports there is nothing to save.

    An exception would come out of an import as a traceback, or as another error.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        with suppress(OSError):
            os.write(2, sentence(name, number).encode())
        os._exit(128 + number)

    for number in _heard():
        signal.signal(number, leave)


@contextmanager
def raised_signals() -> Iterator[None]:
    """Let signals raise :class:`Stopped`, in the main thread.

    The first does. Schedulers send several: what follows must not cut short what the first began,
    such as saving a checkpoint. Only Ctrl-C may.
    """
    stopped = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        if _is_within(frame, dropped.__code__):
            return  # raised there, it would be printed and gone; a moment later all is stopped anyway
        if number == signal.SIGINT or not stopped:
            stopped = True
            raise Stopped(number)

    def dropped(found: Any) -> None:
        """Python drops what is raised in a finalizer or a callback: stop a moment later."""
        nonlocal stopped
        if isinstance(found.exc_value, Stopped):
            stopped = False
            threading.Timer(0.01, os.kill, (os.getpid(), found.exc_value.number)).start()
        else:
            hook(found)

    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, stop) for number in (_heard() if main else ())}
    hook, sys.unraisablehook = sys.unraisablehook, dropped
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_within(frame: FrameType | None, code: CodeType) -> bool:
    """Whether a frame is one of this code's, or called by it."""
    while frame is not None and frame.f_code is not code:
        frame = frame.f_back
    return frame is not None


def _heard() -> list[int]:
    return [number for number in SIGNALS if signal.getsignal(number) not in (signal.SIG_IGN, None)]
