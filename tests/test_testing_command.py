"""``python -m ddpm_np.testing``, what importing it costs, and what docs/porting.md says of it."""

import functools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ddpm_np as ddpm
from ddpm_np.testing import Reference, check_identities
from ddpm_np.testing.__main__ import main

ROOT = Path(__file__).parent.parent


def test_command_line(capsys, tmp_path, monkeypatch):
    (tmp_path / "some_adapters.py").write_text(
        "from ddpm_np import linear_schedule\n"
        "from ddpm_np.testing import Reference\n"
        "good = Reference(linear_schedule(5))\n"
        "class Bad(Reference):\n"
        "    def eps_loss_weight(self, t): return 1.0\n"
        "class Needs:\n"
        "    def __init__(self, x): pass\n"
        "empty = object()\n"
        "def make(): return good\n"
    )
    (tmp_path / "broken_adapters.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["some_adapters:good"]) == 0
    assert "27 identities: 27 hold" in capsys.readouterr().out
    assert main(["some_adapters:make", "--seed", "3"]) == 0
    assert main(["some_adapters:Bad"]) == 1
    assert "L_simple" in capsys.readouterr().out
    for target, words in {
        "nowhere_at_all:x": "cannot import nowhere_at_all: ModuleNotFoundError",
        "broken_adapters:x": "cannot import broken_adapters: ZeroDivisionError",
        "some_adapters:x": "some_adapters has no x",
        "some_adapters:Needs": "does not make an implementation: TypeError",
        "some_adapters:empty": "implementation.T must be an integer",
        "some_adapters": "the target must be module:object",
    }.items():
        assert main([target]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert len(error.splitlines()) == 1
    assert main(["some_adapters:good", "--dtype", "int8"]) == 2
    with pytest.raises(SystemExit, match="2"):
        main([])


def run(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, check=False)


def test_module_runs():
    result = run("-W", "error", "-m", "ddpm_np.testing", "ddpm_np.testing:Reference")
    assert result.returncode == 0, result.stderr
    assert "27 hold" in result.stdout


def test_importing_ddpm_np_leaves_testing_alone():
    code = (
        "import sys, ddpm_np; assert 'ddpm_np.testing' not in sys.modules; import ddpm_np.testing; "
        "assert 'hypothesis' not in sys.modules"
    )
    assert run("-c", code).returncode == 0
    code = "import sys; sys.modules['hypothesis'] = None; import ddpm_np.testing.strategies"
    result = run("-c", code)
    assert result.stderr.splitlines()[-1] == (
        "ImportError: ddpm_np.testing.strategies needs Hypothesis: pip install hypothesis"
    )


@functools.cache
def porting() -> str:
    return (ROOT / "docs" / "porting.md").read_text()


def test_the_example_of_the_document_runs(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", porting(), re.DOTALL)
    (tmp_path / "my_adapter.py").write_text(blocks[0])
    result = run("-m", "ddpm_np.testing", "my_adapter:Mine", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    (tmp_path / "test_mine.py").write_text(blocks[1])
    assert run("-m", "pytest", "-q", "test_mine.py", cwd=tmp_path).returncode == 0


def test_the_document_names_rows_that_exist():
    rows = {row.identity for row in check_identities(Reference(ddpm.linear_schedule(5))).rows}
    table = porting().split("## Usual mistakes")[1].split("\n## ")[0]
    named = [name.replace("\\|", "|") for name in re.findall(r"\| `([^`]*)` \|$", table, re.MULTILINE)]
    assert len(named) >= 15
    assert set(named) <= rows


def test_a_report_that_cannot_be_written_is_no_verdict():
    command = [sys.executable, "-m", "ddpm_np.testing", "ddpm_np.testing:Reference"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
