"""``python -m ddpm_np.testing``, what importing it costs, and what docs/porting.md says of it."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ddpm_np.testing import check_identities
from ddpm_np.testing.__main__ import main
from ddpm_np.testing.protocol import CompleteImplementation
from tests.porting_gallery import (
    BEGIN,
    DOCUMENT,
    END,
    GALLERY,
    SHOWN,
    block,
    report_of,
    with_gallery,
    without_numbers,
)

ROOT = Path(__file__).parent.parent


def test_command_line(capsys, tmp_path, monkeypatch):
    (tmp_path / "some_adapters.py").write_text(
        "from ddpm_np import linear_schedule\n"
        "from ddpm_np.testing import Reference\n"
        "good = Reference(linear_schedule(5, 0.005, 0.95))\n"
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
    assert "0 failed, 0 remarks, 0 not offered" in capsys.readouterr().out
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
    assert "0 failed, 0 remarks, 0 not offered" in result.stdout


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


def shown(kind: str) -> list[tuple[str, str]]:
    """Commands of docs/porting.md, and the reports that it shows for them."""
    found = SHOWN.findall(DOCUMENT.read_text(encoding="utf-8"))
    assert found
    return [pair for pair in found if ("--like" in pair[0]) == (kind == "like")]


@pytest.mark.parametrize(("command", "report"), shown("adapter"), ids=lambda part: part[:50])
def test_the_document_shows_real_reports(command, report, tmp_path):
    assert without_numbers(report_of(command, tmp_path)) == without_numbers(report)


@pytest.mark.peers
@pytest.mark.parametrize(("command", "report"), shown("like"), ids=lambda part: part[:50])
def test_the_document_shows_real_reports_on_diffusers(command, report, tmp_path):
    pytest.importorskip("diffusers")
    assert without_numbers(report_of(command, tmp_path)) == without_numbers(report)


def test_the_example_of_the_document_is_right(tmp_path):
    for name in ("my_diffusion.py", "test_mine.py"):
        (tmp_path / name).write_text(block(name))
    done = run("-m", "pytest", "-q", "test_mine.py", cwd=tmp_path)
    assert done.returncode == 0, done.stdout


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of what is planted
def test_the_gallery_of_the_document_is_what_the_reports_say():
    text = DOCUMENT.read_text(encoding="utf-8")
    assert with_gallery(text) == text, "python -m tests.porting_gallery"


def test_the_gallery_names_every_slip():
    rows = re.findall(r"^\| .* \| `(.*)` \| (.*) \|$", gallery(), re.MULTILINE)
    assert len(rows) == sum(map(len, GALLERY.values()))
    assert len(rows) >= 40
    assert all(row and words for row, words in rows)


def gallery() -> str:
    return DOCUMENT.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]


def test_the_document_names_all_methods_and_options():
    text = DOCUMENT.read_text(encoding="utf-8")
    methods = [name for name in vars(CompleteImplementation) if not name.startswith("_")]
    assert [name for name in methods if f"`{name}(" not in text] == []
    options = set(inspect.signature(check_identities).parameters) - {"implementation"}
    assert [name for name in sorted(options) if f"`--{name}" not in text] == []


def test_a_report_that_cannot_be_written_is_no_verdict():
    command = [sys.executable, "-m", "ddpm_np.testing", "ddpm_np.testing:Reference"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
