"""Kernels kept on disk: new after any change of the sources, and never a reason for a run to end.

Each test has a folder of its own with a copy of what it needs, and runs fresh interpreters there.
"""

import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

numba = pytest.importorskip("numba")

from backends import numba_cache  # noqa: E402

ROOT = Path(__file__).parents[1]
NOWHERE = os.devnull + "/nowhere"

INNER = """
from backends.numba_cache import kept_njit

@kept_njit()
def inner(x):
    return x + 1
"""
OUTER = """
from backends.numba_cache import kept_njit
from backends.numba_inner import inner

@kept_njit()
def outer(x):
    return 10 * inner(x)
"""
CALL_OUTER = """
from backends.numba_outer import outer
print(outer(1), sum(outer.stats.cache_hits.values()))
"""


@pytest.fixture
def folder(tmp_path):
    """Two kernels, one inside the other, and nothing else of the backends."""
    package = tmp_path / "backends"
    package.mkdir()
    shutil.copy(ROOT / "backends" / "numba_cache.py", package)
    (package / "__init__.py").touch()
    (package / "numba_inner.py").write_text(INNER)
    (package / "numba_outer.py").write_text(OUTER)
    return tmp_path


def start(folder, code, **environment):
    environment = {"NUMBA_CACHE_DIR": str(folder / "kept"), "PYTHONDONTWRITEBYTECODE": "1"} | environment
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    printed, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
    return printed.split()


def python(folder, code, **environment):
    return finish(start(folder, code, **environment))


def kept(folder, name=""):
    return sorted((folder / "kept").rglob(f"{name}*.nbc"))


@pytest.mark.parametrize("given", ["", NOWHERE])
def test_without_a_folder_kernels_run_and_it_is_said_once(tmp_path, given):
    """The package as a whole, where nothing can be written: not even root can write below a file."""
    shutil.copytree(ROOT / "backends", tmp_path / "backends", ignore=lambda *_: {"__pycache__"})
    (tmp_path / "backends" / "__pycache__").touch()
    code = """
import json, warnings
import numpy as np
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    from backends import get_backend
    get_backend("numba")
    ops = get_backend("numba").ops
    a = np.array([3.0], np.float32)
    average = ops.ema(a, 0 * a, 0.5)
print(json.dumps([float(average[0]), *(f"{w.category.__name__}: {w.message}" for w in said)]))
"""
    environment = {"NUMBA_CACHE_DIR": given, "HOME": NOWHERE, "XDG_CACHE_HOME": NOWHERE}
    average, *said = json.loads(" ".join(python(tmp_path, code, **environment)))
    assert average == 1.5
    (sentence,) = said
    assert sentence.startswith("CacheWarning: the Numba backend cannot keep its compiled kernels")
    assert "set NUMBA_CACHE_DIR to a folder that can be written" in sentence
    assert sentence.endswith(f", not {NOWHERE!r}" if given else "written")


def test_a_change_of_any_source_makes_kernels_anew(folder):
    """The kernel's own file stays as it was. What the old sources left behind goes, and no more."""
    assert python(folder, CALL_OUTER) == ["20", "0"]
    before = [(path, path.stat().st_mtime_ns) for path in kept(folder)]
    assert [path.name.split("-")[0] for path, _ in before] == ["numba_inner.inner", "numba_outer.outer"]
    assert python(folder, CALL_OUTER) == ["20", "1"]
    assert [(path, path.stat().st_mtime_ns) for path in kept(folder)] == before

    numbas_own = before[1][0].with_name("numba_outer.outer-5.py311.nbi")
    anothers = numbas_own.with_name("numba_outer.outer_most-5.py311.nbi")
    for path in (numbas_own, anothers):
        path.touch()
    inner = folder / "backends" / "numba_inner.py"
    inner.write_text(f"\n\n{INNER}".replace("x + 1", "x + 2"))
    assert python(folder, CALL_OUTER) == ["30", "0"]
    assert len(kept(folder)) == 2
    assert not numbas_own.exists()
    assert anothers.exists()
    (folder / "backends" / "numba_new.py").touch()
    assert python(folder, CALL_OUTER) == ["30", "0"]


DAMAGE = {
    "empty": lambda stored: b"",
    "cut": lambda stored: stored[: len(stored) // 2],
    "less than a checksum": lambda stored: stored[:5],
    "other bytes": lambda stored: np.random.default_rng(0).bytes(1000),
    "zeros": lambda stored: bytes(len(stored)),
    "a flipped bit": lambda stored: stored[:-1000] + bytes([stored[-1000] ^ 1]) + stored[-999:],
    "more": lambda stored: stored + b"\n",
    "a folder": None,
}


def test_damaged_files_are_made_anew(folder):
    kernels = [f"@kept_njit()\ndef f{i}(x):\n    return x + {i}\n" for i in range(len(DAMAGE))]
    imports = "from backends.numba_cache import kept_njit\n"
    (folder / "backends" / "numba_many.py").write_text(imports + "\n\n".join(kernels))
    code = f"""
from backends import numba_many
for i in range({len(DAMAGE)}):
    f = getattr(numba_many, f"f{{i}}")
    assert f(10) == 10 + i
    print(sum(f.stats.cache_hits.values()))
"""
    python(folder, code)
    for path, damage in zip(kept(folder), DAMAGE.values(), strict=True):
        stored = path.read_bytes()
        if damage is None:
            path.unlink()
            path.mkdir()
        else:
            path.write_bytes(damage(stored))
            assert path.read_bytes() != stored
    assert python(folder, code) == ["0"] * len(DAMAGE)
    *others, in_the_folders_place = python(folder, code)
    assert others == ["1"] * (len(DAMAGE) - 1)
    assert in_the_folders_place == "0"


def test_a_full_disk_ends_no_run(folder):
    """No file may grow beyond 100 bytes: writing fails in the middle, as on a full disk."""
    resource = pytest.importorskip("resource")
    limit = (
        f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100, {resource.RLIM_INFINITY}))"
    )
    assert python(folder, f"{limit}\n{CALL_OUTER}") == ["20", "0"]
    assert [path.stat().st_size for path in kept(folder)] == [100, 100]
    assert python(folder, CALL_OUTER) == ["20", "0"]
    assert all(path.stat().st_size > 100 for path in kept(folder))


def test_two_at_once(folder):
    both = [start(folder, CALL_OUTER) for _ in range(2)]
    assert [finish(process)[0] for process in both] == ["20", "20"]
    assert python(folder, CALL_OUTER) == ["20", "1"]


@pytest.mark.parametrize("internals", [{}, {"_cache": object()}])
def test_another_numba_keeps_its_own_cache(monkeypatch, internals):
    """One whose internals have other names."""
    asked, compiled = [], SimpleNamespace(**internals)

    def njit(**options):
        asked.append(options)
        return lambda function: compiled

    monkeypatch.setattr(numba, "njit", njit)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert numba_cache.kept_njit(nogil=True)(test_two_at_once) is compiled
    assert asked == [{"cache": True, "nogil": True}]
    assert vars(compiled) == internals
