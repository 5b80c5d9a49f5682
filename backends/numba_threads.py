"""The threads of the Numba backend: how a batch is cut, and which thread takes which part."""

import functools
import os
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context, copy_context
from typing import TypeVar

from numba.core import config

T = TypeVar("T")

THREADS: int = config.NUMBA_NUM_THREADS
"""NUMBA_NUM_THREADS, or else the number of cores that this process may use."""
PART, PIXELS = 512, 1024
"""Rows of a part of the batch, or pixels of images, at most: they stay in a core's second cache."""


def in_parts(function: Callable[[slice], T], size: int, pixels: int = 1) -> Iterable[T]:
    """Call ``function`` with parts of the batch, on all threads, and yield results in order.

    How the batch is cut depends on its size alone, so results do not depend on the number of
    threads. Each thread works through its part by itself: its activations stay in
    its cache, and nothing waits until the end.
    """
    largest = PART if pixels == 1 else max(1, PIXELS // pixels)
    step = max(1, 128 // pixels, min(largest, -(-size // 2)))
    parts = [slice(start, min(start + step, size)) for start in range(0, size, step)]
    if len(parts) <= 1 or THREADS == 1:
        return map(function, parts)
    return _shared_out(function, parts)


def _shared_out(function: Callable[[slice], T], parts: list[slice]) -> list[T]:
    """The other threads start at the front, this one at the back, with parts nobody has begun."""
    # In the caller's context: otherwise threads would not share np.errstate, say.
    contexts = [copy_context() for _ in parts]
    pool = _threads(os.getpid())
    futures = [
        pool.submit(context.run, function, part) for context, part in zip(contexts, parts, strict=True)
    ]
    try:
        for i in reversed(range(len(parts))):
            if futures[i].cancel():
                futures[i] = _done(contexts[i], function, parts[i])
                if futures[i].exception():
                    break
    finally:
        for future in futures:  # after an error or Ctrl-C, the rest need not begin
            future.cancel()
    return [future.result() for future in futures if not future.cancelled()]


def _done(context: Context, function: Callable[[slice], T], part: slice) -> Future[T]:
    future: Future[T] = Future()
    try:
        future.set_result(context.run(function, part))
    except Exception as error:
        future.set_exception(error)
    return future


@functools.lru_cache(maxsize=1)
def _threads(process: int) -> ThreadPoolExecutor:
    """The other threads of this process: a fork has none of its parent's."""
    return ThreadPoolExecutor(THREADS - 1, thread_name_prefix="ddpm_np")
