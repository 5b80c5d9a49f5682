"""One process that loads a contender, does a work, and says how long that took and how large it got.

python fresh.py NAME MODULE DEVICE THREADS FUNCTION SIZES REPEATS
"""

import time

BEGAN = time.perf_counter()

import importlib  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import resource  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402


def peak_memory() -> int:
    """The most memory that this process has had resident, in bytes.

    VmHWM where there is one: getrusage's ru_maxrss also counts what the parent had when it forked.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    """Do the work, and print one line of JSON once it is done."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    name, module_name, device, threads, function, sizes, repeats = sys.argv[1:]
    module = importlib.import_module(module_name)
    context = module.open_context(name, device, int(threads))
    loaded, memory_loaded = time.perf_counter() - BEGAN, peak_memory()
    call = getattr(module, function)(context, **json.loads(sizes))
    for _ in range(int(repeats)):
        call()
    module.synchronize(context)
    answer = {"loaded": loaded, "memory_loaded": memory_loaded, "memory": peak_memory()}
    print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
