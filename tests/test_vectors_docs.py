"""docs/vectors.md: its ports pass, its tables are those of the files, its reports are real."""

import re
import shutil
import subprocess
import sys

import pytest

from ddpm_np.testing.vectors.__main__ import main
from tests.vectors_table import DOCUMENT, PAGE, page, with_tables

TEXT = DOCUMENT.read_text(encoding="utf-8")


def block(language):
    """The first block of a language."""
    found = re.search(rf"^```{language}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    assert found
    return found[1]


def test_the_tables_are_those_of_the_files():
    assert with_tables(TEXT) == TEXT, "vectors have changed: make format"
    assert page() == PAGE.read_text(encoding="utf-8"), "vectors have changed: make format"


def test_the_port_in_javascript_passes(tmp_path, capsys):
    node = shutil.which("node") or pytest.skip("node is not installed")
    (tmp_path / "my_port.mjs").write_text(block("js"))
    assert main(["--run", f"{node} {tmp_path}/my_port.mjs"]) == 0
    report = capsys.readouterr().out
    assert re.search(r"^q_sample +\d\d +0 +0 ", report, re.MULTILINE)
    assert re.search(r"^q_moments +\d\d +0 +0 ", report, re.MULTILINE)


def test_the_report_is_that_of_the_port_without_a_root(tmp_path, capsys):
    """But for its counts, since cases are added."""
    node = shutil.which("node") or pytest.skip("node is not installed")
    wrong = block("js").replace("Math.sqrt(-Math.expm1(log[s]))", "-Math.expm1(log[s])", 1)
    (tmp_path / "my_port.mjs").write_text(wrong)
    assert main(["--run", f"{node} {tmp_path}/my_port.mjs", "--function", "q_sample"]) == 1
    found, shown = capsys.readouterr().out, block("text")
    told = re.compile(r"^      q_sample-001.*?(?=\n\n)", re.DOTALL | re.MULTILINE)
    assert told.findall(found) == told.findall(shown) != []


def test_the_port_in_cpp_passes(tmp_path, capsys):
    compiler = shutil.which("g++") or pytest.skip("g++ is not installed")
    (tmp_path / "my_port.cpp").write_text(block("cpp"))
    warnings = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    command = [compiler, "-std=c++17", *warnings, "my_port.cpp", "-o", "my_port"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert main(["--plain", "--run", f"{tmp_path}/my_port"]) == 0
    assert re.search(r"^q_sample +\d\d +0 +0 ", capsys.readouterr().out, re.MULTILINE)


def test_the_example_in_python_runs():
    done = subprocess.run([sys.executable, "-c", block("python")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^q_sample +\d\d +0 +0 ", done.stdout, re.MULTILINE)


def test_the_options_are_those_of_the_command(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    known = set(re.findall(r"(--[a-z0-9]+)", capsys.readouterr().out))
    table = TEXT.partition("| option |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(--\w+)", table, re.MULTILINE)) == known - {
        "--help",
        "--run",
        "--folder",
    }
