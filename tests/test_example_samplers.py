"""examples/samplers.py from the command line: its orders, its floor, its picture, bad spectra."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm_np.schedules import log_snr_schedule
from ddpm_np.targets import training_target

SCRIPT = Path(__file__).parents[1] / "examples" / "samplers.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("example_samplers", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def outcome(example, tmp_path_factory):
    """Folder and summary of one fast run."""
    folder = tmp_path_factory.mktemp("samplers")
    np.save(folder / "spectrum.npy", [2.0, 0.5, 0.1])
    arguments = ["--spectrum", str(folder / "spectrum.npy"), "--points", "300", "--steps", "300"]
    assert example.main([*arguments, "--backend", "numpy", "--out-dir", str(folder / "out")]) == 0
    return folder / "out", json.loads((folder / "out" / "summary.json").read_text())


def test_writes_a_picture_and_a_summary(outcome):
    folder, summary = outcome
    assert sorted(path.name for path in folder.iterdir()) == ["samplers.png", "summary.json"]
    with Image.open(folder / "samplers.png") as image:
        assert image.width > 1800
        assert len(image.convert("RGB").getcolors(2**20)) > 50
    assert summary["steps"] == [5, 10, 20, 40, 80, 160]
    assert summary["times"] == "log-snr"
    assert set(summary["swiss_roll"]) == set(summary["gaussian"]) == {
        *["ancestral", "ancestral, beta", "ddim", "dpm-solver", "heun"]
    }  # fmt: skip


@pytest.mark.parametrize("panel", ["gaussian", "mixture"])
@pytest.mark.parametrize(("name", "order"), [("ddim", 1), ("dpm-solver", 2), ("heun", 2)])
def test_errors_fall_with_the_order_of_the_sampler(outcome, panel, name, order):
    errors = outcome[1][panel][name]
    assert np.log2(errors[-2] / errors[-1]) == pytest.approx(order, abs=0.3)


def test_more_steps_come_nearer_to_the_roll(outcome):
    for errors in outcome[1]["swiss_roll"].values():
        assert errors[-1] < errors[0]
    assert 0.0 < outcome[1]["swiss_roll_floor"] < 0.3


def test_the_network_is_asked_as_often_as_the_picture_says(example):
    schedule = log_snr_schedule(200, 0.01)
    for name in ("ancestral", "ddim", "dpm-solver", "heun"):
        asked = []

        def predict(x_t, t, asked=asked):
            asked.append(t)
            return x_t

        times = example.TIMES["log-snr"](schedule, 20).tolist()
        walk = example.make_walk(name, schedule, times, "eps", "beta")
        walk(predict, np.ones((1, 1)), lambda t: np.zeros((1, 1)))
        assert len(asked) == example.evaluations(name)[example.STEPS.index(20)]


@pytest.mark.parametrize("target", ["eps", "x0", "mean", "v"])
@pytest.mark.parametrize("name", ["ancestral", "ddim", "dpm-solver", "heun"])
def test_every_sampler_takes_every_target(example, name, target):
    """The exact denoiser in other words."""
    law, schedule = example.mixture_1d_exact(), log_snr_schedule(60, 0.05)
    x_T = np.linspace(-2, 2, 9)[:, None]

    def sample(target):
        def predict(x_t, t):
            eps, x0 = law.bayes_eps(schedule, x_t, t), law.posterior_x0(schedule, x_t, t)
            return training_target(schedule, x0, t, eps, target)

        walk = example.make_walk(name, schedule, [5, 20, 40, 60], target, "posterior")
        return walk(predict, x_T, lambda t: np.full_like(x_T, np.sin(t)))

    np.testing.assert_allclose(sample(target), sample("eps"), rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones((2, 2)), "must hold variances, shape (d,), got shape (2, 2)"),
        (np.array([1.0, 0.0]), "must hold variances between 1e-10 and 1e12"),
        (np.array([1.0, 9e-11]), "must hold variances between 1e-10 and 1e12"),
        (np.array([1.0, np.nan]), "must hold variances between 1e-10 and 1e12"),
    ],
)
def test_a_bad_spectrum_is_one_sentence(example, tmp_path, capsys, values, message):
    path = tmp_path / "bad.npy"
    np.save(path, values)
    assert example.main(["--spectrum", str(path), "--out-dir", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert example.main(["--spectrum", str(tmp_path / "none.npy")]) == 2


@pytest.mark.parametrize("variances", [[1e-10], [1e12], [1e-10, 1e12]])
def test_the_widest_spectra_have_a_chain(example, tmp_path, variances):
    """What is let in has tables in float64, and errors that are finite."""
    np.save(tmp_path / "wide.npy", variances)
    found = example.gaussian_errors(example.read_spectrum(tmp_path / "wide.npy"), "log-snr")
    assert np.all(np.isfinite([*found.values()]))
