"""examples/estimators.py from the command line, and its table against exact moments."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SCRIPT = Path(__file__).parents[1] / "examples" / "estimators.py"
FAST = ["--timesteps", "25", "--points", "1000"]


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("example_estimators", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def outcome(example, tmp_path_factory):
    """Folder and summary of one fast run."""
    folder = tmp_path_factory.mktemp("estimators")
    assert example.main([*FAST, "--out-dir", str(folder)]) == 0
    summary = json.loads((folder / "summary.json").read_text())
    return folder, {row["name"]: row for row in summary["estimators"]}, summary["entropy"]


def test_writes_a_picture_and_a_summary(outcome):
    folder, rows, entropy = outcome
    assert sorted(path.name for path in folder.iterdir()) == ["estimators.png", "summary.json"]
    with Image.open(folder / "estimators.png") as image:
        assert image.width > 1200
        assert len(image.convert("RGB").getcolors(2**20)) > 50
    assert entropy == pytest.approx(0.8026, abs=1e-3)
    assert [rows[name]["evaluations"] for name in ("T-sample", "two-sample", "both")] == [25, 1, 64]


def test_expectations_agree(outcome):
    _, rows, entropy = outcome
    best = rows["both"]
    for row in rows.values():
        error = np.hypot(row["elbo_se"], best["elbo_se"])
        assert abs(row["elbo"] - best["elbo"]) < 4.5 * error, row
    assert best["elbo"] < -entropy


def test_each_idea_pays(outcome):
    price = {name: row["variance"] * row["evaluations"] for name, row in outcome[1].items()}
    assert price["one-sample"] < price["T-sample"]
    assert price["one-sample"] < price["two-sample"]
    assert price["low-discrepancy t"] < 0.9 * price["one-sample"]
    assert price["importance-sampled t"] < price["one-sample"] / 3
    assert price["both"] < price["importance-sampled t"] / 2


def test_curves_pass_through_the_measured_variances(example, outcome):
    """average_variance from the moments at each t, against estimates that were really averaged."""
    problem = example.Problem(
        example.swiss_roll_exact(),
        example.ddpm.scaled_linear_schedule(25),
        example.ddpm.reverse_variance(example.ddpm.scaled_linear_schedule(25), "beta"),
        0,
    )
    by_time = example.measure_by_time(problem, 1000)
    p = example.importance_probabilities(by_time.one_sample + by_time.mean**2)
    uniform = np.concatenate([[0.0], np.full(25, 1 / 25)])
    for name, table, batch, spread in (
        ("one-sample", uniform, 1, False),
        ("low-discrepancy t", uniform, 64, True),
        ("importance-sampled t", p, 1, False),
        ("both", p, 64, True),
    ):
        predicted = example.average_variance(by_time, table, batch, spread)
        measured = outcome[1][name]
        assert abs(predicted - measured["variance"]) < max(
            5.0 * measured["variance_se"], 0.15 * predicted
        ), name


def test_the_law_of_total_variance_shows(example):
    schedule = example.ddpm.scaled_linear_schedule(25)
    sigma2 = example.ddpm.reverse_variance(schedule, "beta")
    problem = example.Problem(example.swiss_roll_exact(), schedule, sigma2, 1)
    by_time = example.measure_by_time(problem, 2000)
    sum_of_parts = (by_time.one_sample + by_time.conditional)[1:]
    np.testing.assert_allclose(by_time.two_sample[1:], sum_of_parts, rtol=0.25)


def test_same_seed_same_summary(example, outcome, tmp_path, capsys):
    assert example.main([*FAST, "--out-dir", str(tmp_path)]) == 0
    assert (tmp_path / "summary.json").read_bytes() == (outcome[0] / "summary.json").read_bytes()
    table = capsys.readouterr().out
    for name in outcome[1]:
        assert name in table


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--timesteps", "5"], "T must exceed 20"),
        (["--points", "3"], "must be an integer, at least 20"),
        (["--seed", "-1"], "must be an integer, at least 0"),
        (["--timesteps", "1.5"], "must be an integer, at least 1"),
    ],
)
def test_bad_arguments_exit_with_2(example, arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        example.main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    command = [sys.executable, str(SCRIPT), *FAST, "--out-dir", str(tmp_path / "file")]
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("estimators.py: error: ")
    assert result.stderr.count("\n") == 1
