"""examples/elbo_decomposition.py: its tables against what is known."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

SCRIPT = Path(__file__).parents[1] / "examples" / "elbo_decomposition.py"


def run(folder, *flags):
    command = [sys.executable, str(SCRIPT), "--backend", "numpy", "--out-dir", str(folder), *flags]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    """The tables at T = 1000 without a trained denoiser."""
    folder = tmp_path_factory.mktemp("elbo")
    done = run(folder, "--points", "1500", "--steps", "0")
    assert (done.returncode, done.stderr) == (0, "")
    with Image.open(folder / "terms.png") as picture:
        assert picture.width > 1000
    return json.loads((folder / "summary.json").read_text())


def test_the_gap_is_the_divergence(summary):
    for row in summary["gaussian"].values():
        largest = max(abs(row["log_p"]), abs(row["elbo"]), row["kl"])
        assert abs(row["residual"]) < 1e-10 * largest
        assert row["elbo"] == pytest.approx(row["L_T"] + row["L_mid"] + row["L_0"], rel=1e-12)


@pytest.mark.parametrize(
    ("kind", "nats"),
    [("posterior", 1.2957), ("beta", 0.7269), ("beta (Ho)", 0.8405), ("optimal", 0.7258)],
)
def test_bounds_of_gaussian_data(summary, kind, nats):
    row = summary["gaussian"][f"1-D, {kind}"]
    assert row["expected_nll_bound"] == pytest.approx(nats, abs=5e-5)
    assert row["entropy"] == pytest.approx(0.7258, abs=5e-5)
    assert row["expected_nll_bound"] > row["entropy"]


@pytest.mark.parametrize(("kind", "nats"), [("posterior", 0.95), ("beta", 0.026), ("optimal", 0.007)])
def test_gaps_of_the_best_denoiser_on_the_roll(summary, kind, nats):
    """Reference values were measured with a quadrature of another make, to about 0.03."""
    row = summary["swiss_roll"][f"Bayes-optimal, {kind}"]
    assert abs(row["gap"] - nats) < 4.5 * (row["gap_se"] ** 2 + 0.03**2) ** 0.5
    assert row["gap_se"] < 0.1


def test_a_trained_denoiser_is_worse_than_the_best(tmp_path):
    done = run(tmp_path, "--timesteps", "50", "--points", "200", "--steps", "200")
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "summary.json").read_text())["swiss_roll"]
    for kind in ("posterior", "beta", "optimal"):
        assert rows[f"trained, {kind}"]["gap"] > rows[f"Bayes-optimal, {kind}"]["gap"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--timesteps", "20"), "must be an integer, at least 21"),
        (("--points", "one"), "must be an integer, at least 2"),
        (("--backend", "abacus"), "invalid choice"),
    ],
)
def test_bad_flags_are_one_sentence(flags, message, capsys):
    spec = importlib.util.spec_from_file_location("example_elbo", SCRIPT)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    with pytest.raises(SystemExit) as caught:
        example.main(list(flags))
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
