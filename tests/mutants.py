"""Planted mistakes: a copy of the project with one fragment replaced, and its tests run there.

Each run is a process of its own. Loading pytest, Hypothesis and SciPy takes longer than most of the
tests, so processes are forked from one that has loaded these, and nothing of the project.
"""

import multiprocessing
import os
import re
import runpy
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
LIBRARIES = [
    "array_api_strict",
    "hypothesis.extra.numpy",
    "mpmath",
    "pytest",
    "scipy.integrate",
    "scipy.stats",
]
OURS = ("ddpm_np", "backends", "tests", "probe")

# Loaded by the inner pytest. Exit statuses of its own, since 1 would count as a caught mistake.
PROBE = """
import os, pathlib, sys

class Missing:  # numba would compile its kernels anew in every copy, and cupy is slow to load
    def find_spec(self, name, *_):
        if name in ("numba", "cupy"):
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, Missing())
try:
    import ddpm_np
except BaseException as error:
    print("the mutated package cannot be imported:", error)
    sys.stdout.flush()
    os._exit(8)
if pathlib.Path(ddpm_np.__file__).resolve().parents[1] != pathlib.Path(__file__).resolve().parent:
    print("not the copy:", ddpm_np.__file__)
    sys.stdout.flush()
    os._exit(9)
"""


class Mutation(NamedTuple):
    file: str
    """In ddpm_np."""
    name: str
    right: str
    wrong: str
    test: str
    """One test, which has to fail: finding it among a file's others would take most of the time."""


def parse(text: str) -> list[Mutation]:
    """Read a table of mutations: "file: name", "- right", "+ wrong", "> test", an empty line."""
    pattern = r"^(\S+): (.+)\n- (.+)\n\+ (.+)\n> (\S+)$"
    return [Mutation(*re.fullmatch(pattern, block).groups()) for block in text.strip().split("\n\n")]


def copy_project(folder: Path) -> None:
    """What the inner tests need, without compiled files: those could outlive a mutation."""
    ignore = shutil.ignore_patterns("__pycache__", "benchmarks")
    for name in ("ddpm_np", "backends", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "probe.py").write_text(PROBE)


def plant(path: Path, right: str, wrong: str) -> None:
    """Replace a fragment that occurs once."""
    source = path.read_text()
    assert source.count(right) == 1, f"{right!r} must occur once in {path.name}: the source has changed"
    path.write_text(source.replace(right, wrong))


def run_tests(folder: Path, *tests: str, profile: str = "mutation") -> tuple[int, str]:
    """Run files or tests against the package in ``folder``, up to the first failure."""
    options = ["-x", "-q", "--tb=line", "-p", "probe", "-p", "no:cacheprovider", "-p", "no:xdist"]
    options += ["-m", "not slow"]
    options += ["-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"]
    arguments = [*options, "--rootdir", str(folder), *(f"tests/{test}" for test in tests)]
    return run_module(folder, "pytest", arguments, HYPOTHESIS_PROFILE=profile)


def run_module(folder: Path, module: str, arguments: list[str], **environment: str) -> tuple[int, str]:
    """Run what ``python -m module arguments`` runs, with the project in ``folder``.

    Returns the exit status and what was printed.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LIBRARIES)
    process = context.Process(target=_run, args=(str(folder), module, arguments, environment))
    process.start()
    process.join(300)
    if process.is_alive():
        process.kill()
        raise TimeoutError(f"{module} {arguments} takes more than 300 s in {folder}")
    return process.exitcode, (folder / "output.txt").read_text()


def assert_caught(status: int, output: str) -> None:
    """1 is a failed test; anything else is no verdict (2 and above: nothing could be collected)."""
    assert status == 1, output
    failed = re.search(r"^FAILED tests/(.*)", output, re.MULTILINE)
    assert failed, output
    print(failed[1])


def _run(folder: str, module: str, arguments: list[str], environment: dict[str, str]) -> None:
    """Run a module as a process that knows the project only from ``folder``."""
    os.chdir(folder)
    with open("output.txt", "wb") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]
    sys.path[:] = [folder, *(path for path in sys.path if path and Path(path).resolve() != ROOT)]
    os.environ |= {"PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1", **environment}
    os.environ.pop("PYTEST_ADDOPTS", None)
    sys.dont_write_bytecode = True
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)
