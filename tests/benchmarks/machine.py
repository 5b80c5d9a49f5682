"""The machine and the versions that a measurement belongs to."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

PACKAGES = ("numpy", "numba", "torch")
GPU_PACKAGES = ("numpy", "cupy-cuda12x", "cupy-cuda13x", "torch")


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor() -> str:
    """The CPU's name."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    names = [
        line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")
    ]
    return names[0] if names else platform.processor() or platform.machine()


def gpu() -> str:
    """The GPU's name and its driver's version, by nvidia-smi."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, encoding="utf-8", check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    name, _, driver = done.stdout.splitlines()[0].partition(", ")
    return f"{name}, driver {driver}"


def describe(device: str) -> dict[str, str]:
    """What to print above the tables."""
    found = {"CPU": processor(), "cores": str(cores()), "system": platform.system()}
    if device == "cuda":
        found["GPU"] = gpu()
    found["Python"] = platform.python_version()
    for name in GPU_PACKAGES if device == "cuda" else PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def load() -> float:
    """Processes that run or want to, averaged over the last minute; 0 where nobody counts them."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return 0.0
