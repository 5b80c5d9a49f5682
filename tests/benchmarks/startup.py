"""Parts e and f: what a fresh process needs until it has done a first step, and its memory."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

from pool import HERE, WorkerError, environment
from works import FIRST_STEP, SAMPLED, TRAINED, Contender

CACHES = ("NUMBA_CACHE_DIR", "CUPY_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
"""Where compiled code is kept; CuPy's is by default in the home folder."""


def fresh(
    contender: Contender,
    device: str,
    threads: int,
    cache: str,
    function: str,
    sizes: dict[str, int],
    repeats: int,
) -> dict[str, float]:
    """Run fresh.py; adds ``wall``, the seconds from before its start to its answer.

    Raises
    ------
    WorkerError
        If it fails.
    """
    arguments = (contender.name, contender.module, device, threads, function, json.dumps(sizes), repeats)
    folders = {name: os.path.join(cache, name) for name in CACHES}
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, str(HERE / "fresh.py"), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        encoding="utf-8",
        env=environment(contender, threads) | folders,
    ) as process:
        assert process.stdout
        line = process.stdout.readline()
        wall = time.perf_counter() - began
        status = process.wait()
    if status or not line:
        raise WorkerError(f"{contender.label}: a fresh process ended with status {status}")
    answer: dict[str, float] = json.loads(line)
    return answer | {"wall": wall}


def first_steps(
    contenders: Sequence[Contender], device: str, threads: int, rounds: int, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Seconds until the libraries are loaded, and until the first training step is done.

    Those who keep compiled code on disk start twice in each round: with an empty folder for it, and
    again with what the first start left there.
    """
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for number in range(rounds):
        for contender in contenders if number % 2 == 0 else reversed(contenders):
            with tempfile.TemporaryDirectory() as cache:
                for state in ("empty", "filled") if contender.cache else ("",):
                    done = fresh(contender, device, threads, cache, "train", FIRST_STEP, 1)
                    row = rows.setdefault(
                        (contender.name, state),
                        {"label": contender.label, "cache": state, "loaded": [], "first": []},
                    )
                    row["loaded"].append(done["loaded"])
                    row["first"].append(done["wall"])
                    say(f"{contender.label} {state}: first step after {done['wall']:.2f} s")
    order = [contender.name for contender in contenders]
    return [rows[key] for key in sorted(rows, key=lambda key: (order.index(key[0]), key[1]))]


def memory(
    contenders: Sequence[Contender], device: str, threads: int, rounds: int, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Peak memory in bytes of processes that train, and of others that sample; caches are filled."""
    rows = []
    for contender in contenders:
        row: dict[str, Any] = {"label": contender.label, "loaded": [], "train": [], "sample": []}
        with tempfile.TemporaryDirectory() as cache:
            for name, sizes, repeats in (("train", FIRST_STEP, TRAINED), ("sample", SAMPLED, 1)):
                where = (contender, device, threads, cache, name, sizes)
                if contender.cache:
                    fresh(*where, 1)
                for _ in range(rounds):
                    done = fresh(*where, repeats)
                    row["loaded"].append(done["memory_loaded"])
                    row[name].append(done["memory"])
        say(
            f"{contender.label}: "
            + ", ".join(f"{k} {max(row[k]) / 2**20:.0f} MiB" for k in list(row)[1:])
        )
        rows.append(row)
    return rows
