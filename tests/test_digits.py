"""The digits example: a run and its files, data good and bad, classes, and exact resuming."""

import importlib.util
import itertools
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backends import get_backend
from ddpm_np.data.images import scale, split
from ddpm_np.decoders import discretised_gaussian
from ddpm_np.elbo import elbo_decomposition
from ddpm_np.guidance import clipped
from ddpm_np.randomness import BOUND, generator
from ddpm_np.reverse import reverse_variance
from ddpm_np.runs.batches import batches
from ddpm_np.runs.checkpoint import read_archive, save_checkpoint
from ddpm_np.runs.evaluation import predictor
from ddpm_np.training import init_state, train

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "examples" / "digits.py"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
ENVIRONMENT.pop("PYTHONWARNINGS", None)
TINY = {
    "--steps": 12,
    "--batch-size": 8,
    "--learning-rate": 0.01,
    "--channels": 8,
    "--timesteps": 10,
    "--samples": 6,
    "--levels": 5,
    "--backend": "numpy",
}
FILES = {"checkpoint.npz", "metrics.jsonl", "summary.json"}
PICTURES = {"data.png", "samples.png", "strips.png", "terms.png", "loss.png", "schedule.png"}
RNG = np.random.default_rng(0)
LABELS = np.arange(90) % 3 + 4
IMAGES = np.clip(RNG.integers(0, 3, (90, 4, 4)) + (LABELS - 4)[:, None, None], 0, 4).astype(np.uint8)

sklearn = pytest.mark.skipif(
    importlib.util.find_spec("sklearn") is None, reason="scikit-learn is not installed"
)


def arguments(out, *flags, plots=False, baselines=False, **settings):
    """The tiny settings, with changes: ``channels=16``."""
    values = {**TINY, **{f"--{name.replace('_', '-')}": value for name, value in settings.items()}}
    pairs = [str(part) for name, value in values.items() if value is not None for part in (name, value)]
    left_out = [*([] if plots else ["--no-plots"]), *([] if baselines else ["--no-baselines"])]
    return [*pairs, "--out-dir", str(out), *left_out, *flags]


def call(out, *flags, environment=ENVIRONMENT, **settings):
    """Run the script in a process of its own."""
    command = [sys.executable, "-u", str(SCRIPT), *arguments(out, *flags, **settings)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


def assert_refused(result, out):
    """Exit status 2, one sentence, which is returned, and nothing written."""
    assert result.returncode == 2, result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert result.stderr.startswith("digits.py: error: ")
    assert not out.exists()
    return result.stderr


def arrays(folder):
    """Every bit of a checkpoint that a run depends on."""
    found, about = read_archive(folder / "checkpoint.npz")
    return {name: (array.dtype, array.tobytes()) for name, array in found.items()}, about


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("digits_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "images.npz"
    np.savez(path, images=IMAGES, labels=LABELS)
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory, data, script):
    """A run with the tiny settings and without pictures: its folder."""
    out = tmp_path_factory.mktemp("finished") / "run"
    assert script.main(arguments(out, data=data)) == 0
    return out


@pytest.fixture(scope="module")
def conditional(tmp_path_factory, data, script):
    """The same with classes."""
    out = tmp_path_factory.mktemp("conditional") / "run"
    flags = ("--conditional", "--labels-key", "labels")
    assert script.main(arguments(out, *flags, data=data)) == 0
    return out


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


# --- a run --------------------------------------------------------------------------------


def test_a_run_writes_its_files_and_its_bits_add_up(finished):
    assert {path.name for path in finished.iterdir()} == FILES
    found = summary(finished)
    assert found["images"] == {
        "shape": [4, 4, 1],
        "levels": 5,
        "train": 66,
        "validation": 12,
        "test": 12,
    }
    for row in found["bits_per_dim"].values():
        assert row["L_T"] + row["L_mid"] + row["L_0"] == pytest.approx(row["total"], rel=1e-9)
        assert row["L_T"] > 0
        assert min(row[f"{name}_se"] for name in ("L_T", "L_mid", "L_0", "total")) > 0
    totals = {kind: row["total"] for kind, row in found["bits_per_dim"].items()}
    flow = found["flow_bits_per_dim"]
    assert flow["images"] == 12
    assert min(flow["total_se"], flow["difference_se"]) > 0
    difference = found["bits_per_dim"]["optimal"]["total"] - flow["total"]
    assert flow["difference"] == pytest.approx(difference, rel=1e-5)
    assert totals["optimal"] < min(totals["posterior"], totals["beta"])
    assert found["samples"]["count"] == 6
    assert found["samples"]["nearest"] > 0


def test_the_bits_are_those_of_the_decomposition(finished, data, script):
    """Recomputed from the checkpoint, term by term, with the same draws."""
    options, numpy = script.parse(arguments(finished, data=data)), get_backend("numpy")
    images = script.load(options)
    recipe = script.make_recipe(options, images)
    saved, _ = read_archive(finished / "checkpoint.npz")
    average = np.concatenate([saved[f"average/{name}"].ravel() for name in names_of(recipe)])
    network = predictor(recipe, average, numpy.ops)
    test = np.repeat(scale(images.images, 5, "float32")[split(90).test], script.DRAWS, axis=0)
    terms = elbo_decomposition(
        recipe.schedule,
        clipped(recipe.schedule, network, recipe.target),
        test,
        noise=lambda t: generator(0, BOUND, t, 1).standard_normal(test.shape, dtype=np.float32),
        sigma2=reverse_variance(recipe.schedule, "beta"),
        decoder=discretised_gaussian(5),
        target="x0",
    )
    bits = -terms.total.reshape(-1, script.DRAWS).mean(axis=1) / 16 / np.log(2)
    row = summary(finished)["bits_per_dim"]["beta"]
    assert row["total"] == pytest.approx(bits.mean(), rel=1e-5)
    assert row["total_se"] == pytest.approx(bits.std(ddof=1) / 12**0.5, rel=1e-4)


def names_of(recipe):
    from ddpm_np.nn.tree import named_leaves

    return [name for name, _ in named_leaves(recipe.layout.tree)]


def test_pictures_are_drawn_and_classes_asked_for(data, script, tmp_path, capsys):
    out = tmp_path / "run"
    flags = ("--conditional", "--labels-key", "labels", "--guidance", "0.5")
    assert script.main(arguments(out, *flags, data=data, plots=True)) == 0
    assert {path.name for path in out.iterdir()} == FILES | PICTURES
    for name in PICTURES:
        with Image.open(out / name) as image:
            assert min(image.size) > 200
    samples = summary(out)["samples"]
    assert samples["count"] == 6
    if importlib.util.find_spec("sklearn"):
        assert samples["guidance"] == 0.5
        assert 0 <= samples["agreement"] <= 1
        assert samples["classifier_accuracy"] > 0.9
        assert "Agreement of a classifier" in capsys.readouterr().out


def test_colour_images_of_8_bits_run_too(script, tmp_path):
    images = RNG.integers(0, 256, (70, 4, 4, 3)).astype(np.float32)
    np.save(tmp_path / "colours.npy", images)
    settings = {"levels": None, "depth": 3, "schedule": "cosine", "target": "eps", "dtype": "float64"}
    settings |= {"data": tmp_path / "colours.npy", "variance": "beta", "steps": 2}
    assert script.main(arguments(tmp_path / "run", plots=True, **settings)) == 0
    assert summary(tmp_path / "run")["images"]["levels"] == 256
    assert summary(tmp_path / "run")["images"]["shape"] == [4, 4, 3]


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (
            IMAGES * 4,
            "images lie in 0..16, too low for the 256 levels .* add --levels 17, or --levels 256",
        ),
        (IMAGES // 3, "images lie in 0..1, .* add --levels 2, or"),
        (IMAGES * 0, "images lie in 0..0, .* add --levels 2, or"),
        (IMAGES * 31 + 3, "images lie in 3..127, .* add --levels 128, or"),
    ],
)
def test_256_levels_are_not_assumed_where_they_are_not(script, tmp_path, capsys, images, said):
    np.save(tmp_path / "a.npy", images)
    settings = {"data": tmp_path / "a.npy", "steps": 1, "timesteps": 3, "channels": 8}
    assert script.main(arguments(tmp_path / "run", levels=None, **settings)) == 2
    error = capsys.readouterr().err
    assert re.search(said, error)
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()
    options = script.parse(arguments(tmp_path / "run", **{**settings, "levels": 256}))
    assert script.load(options).images.max() == images.max()


def test_images_of_8_bits_need_no_white(script, tmp_path):
    np.save(tmp_path / "a.npy", IMAGES * 32)
    options = script.parse(arguments(tmp_path / "run", levels=None, data=tmp_path / "a.npy"))
    assert (options.levels, script.load(options).images.max()) == (256, 128)


def test_channels_first_are_one_sentence(script, tmp_path, capsys):
    np.save(tmp_path / "a.npy", np.zeros((80, 1, 28, 28)))
    assert script.main(arguments(tmp_path / "run", data=tmp_path / "a.npy")) == 2
    assert "channels last, (n, H, W, C), got (80, 1, 28, 28)" in capsys.readouterr().err


def test_help_says_the_rules(script, capsys):
    with pytest.raises(SystemExit):
        script.main(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    for rule in (
        "refused where the highest pixel is below 128",
        "with a <= 4 < c and a != b is refused as channels first",
        "what diffusers calls scaled_linear is quadratic",
    ):
        assert rule in said


@sklearn
def test_the_digits_are_the_default_and_baselines_come_with_differences(
    script, tmp_path, capsys, monkeypatch
):
    """The digits are not tiny: one baseline and one draw must do."""
    fit = script.fit_baselines
    monkeypatch.setattr(script, "fit_baselines", lambda *arguments: itertools.islice(fit(*arguments), 1))
    monkeypatch.setattr(script, "DRAWS", 1)
    settings = {"levels": None, "timesteps": 3, "steps": 2}
    assert script.main(arguments(tmp_path / "run", baselines=True, **settings)) == 0
    found = summary(tmp_path / "run")
    assert found["images"]["train"] == 1285
    row = found["baselines"]["histograms of pixels"]
    assert row["total"] == pytest.approx(2.4226, abs=1e-3)
    model = found["bits_per_dim"]["optimal"]
    assert row["difference"] == pytest.approx(model["total"] - row["total"], rel=1e-9)
    assert 0 < row["difference_se"] < row["total_se"] + model["total_se"]
    assert "histograms of pixels" in capsys.readouterr().out


# --- resuming -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["finished", "conditional"])
def test_a_resumed_run_ends_in_the_same_bits(kind, request, data, script, tmp_path):
    whole, out = request.getfixturevalue(kind), tmp_path / "run"
    flags = ("--conditional", "--labels-key", "labels") if kind == "conditional" else ()

    # What the run had at step 5.
    options, numpy = script.parse(arguments(out, *flags, data=data)), get_backend("numpy")
    images = script.load(options)
    recipe, parts = script.make_recipe(options, images), split(90)
    labels = images.labels[parts.train] if flags else None
    batch = batches(
        scale(images.images, 5, "float32")[parts.train], recipe.schedule.T, 8, 0, labels, 0.1
    )
    state = init_state(recipe, 0, lambda a: numpy.asarray(a, "float32"))
    state = train(recipe, state, batch, numpy.ops, steps=5)
    settings = read_archive(whole / "checkpoint.npz")[1]["configuration"]
    out.mkdir()
    save_checkpoint(out / "checkpoint.npz", recipe, state, settings, numpy.to_numpy)
    assert arrays(out) != arrays(whole)

    assert script.main(arguments(out, "--resume", *flags, data=data)) == 0
    assert arrays(out) == arrays(whole)
    assert (out / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    again, first = summary(out), summary(whole)
    for found in (again, first):
        for name in [name for name in found if "second" in name]:
            del found[name]
    assert again == first


def test_a_checkpoint_of_other_data_or_settings_is_refused(finished, data, script, tmp_path, capsys):
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    other = tmp_path / "other.npz"
    np.savez(other, images=IMAGES[::-1])
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    for settings, said in (
        ({"data": other}, "data was '(90, 4, 4, 1)"),
        ({"depth": 1}, "depth was 2 and"),
    ):
        assert script.main(arguments(out, "--resume", **{"data": data, **settings})) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


# --- bad data and bad flags ---------------------------------------------------------------


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def bad_file(case, folder):
    path = folder / "bad.npz"
    header = {"descr": "<f8", "fortran_order": False, "shape": (10 * 2**27,)}  # 10 GiB
    if case == "10 GiB":
        with path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
    elif case == "pickle":
        np.savez(path, images=np.array([Trap(folder / "executed")] * 90, dtype=object))
    elif case == "raw pickle":
        path.write_bytes(pickle.dumps(Trap(folder / "executed")))
    elif case == "truncated":
        np.savez(path, images=IMAGES)
        path.write_bytes(path.read_bytes()[:-100])
    elif case != "missing":
        images = {
            "wrong key": IMAGES,
            "negative": IMAGES - 1.0,
            "floats": IMAGES / 4,
            "levels too small": IMAGES + 1,
            "odd size": IMAGES[:, :3],
            "flat": IMAGES.reshape(90, -1),
            "few": IMAGES[:9],
            "text": IMAGES.astype(str),
        }[case]
        np.savez(path, **{"x" if case == "wrong key" else "images": images})
    return path


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("missing", "there is no file"),
        ("10 GiB", "takes 10737418240 bytes"),
        ("pickle", "Python objects"),
        ("raw pickle", "neither an .npz nor an .npy"),
        ("truncated", "cannot be read"),
        ("wrong key", "no array 'images': it has 'x'"),
        ("negative", "must lie in 0..4, got -1..3"),
        ("floats", "must be whole numbers, got 0."),
        ("levels too small", "images of 5 levels must lie in 0..4, got 1..5"),
        ("odd size", "divisible by 2, got 3 x 4"),
        ("flat", "(n, H, W) or (n, H, W, C), got (90, 16)"),
        ("few", "at least 70 images are needed, got 9"),
        ("text", "integer dtype, got <U"),
    ],
)
def test_a_bad_file_is_one_sentence_and_nothing_is_written(script, tmp_path, capsys, case, said):
    path, out = bad_file(case, tmp_path), tmp_path / "run"
    assert script.main(arguments(out, data=path)) == 2
    error = capsys.readouterr().err
    assert error.startswith("digits.py: error: ")
    assert error.count("\n") == 1
    assert said in error
    assert not out.exists()
    assert not (tmp_path / "executed").exists()


def test_a_bad_file_on_the_real_command_line(tmp_path):
    out = tmp_path / "run"
    assert "10737418240 bytes" in assert_refused(call(out, data=bad_file("10 GiB", tmp_path)), out)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--levels", "5"], "--levels needs --data"),
        (["--key", "x"], "--key needs --data"),
        (["--labels-key", "x"], "--labels-key needs --data"),
        (["--guidance", "2"], "--guidance needs --conditional"),
        (["--conditional", "--data", "x.npz"], "--conditional needs --labels-key"),
        (["--conditional", "--guidance", "-1"], "--guidance: must be a number, at least 0"),
        (["--conditional", "--guidance", "inf"], "--guidance"),
        (["--levels", "1"], "--levels"),
        (["--channels", "12"], "--channels must be divisible by 8"),
        (["--depth", "0"], "--depth"),
        (["--blocks", "0"], "--blocks"),
        (["--samples", "0"], "--samples"),
        (["--first-noise", "-1"], "--first-noise"),
        (["--first-noise", "0"], "--schedule log_snr: noise must lie in (0, 1)"),
        (["--first-noise", "8"], "--schedule log_snr"),
        (["--timesteps", "1"], "--timesteps 1 --schedule log_snr: T must be >= 2"),
        (["--schedule", "linear", "--timesteps", "3", "--first-noise", "7"], "no step is left"),
        (["--schedule", "sqrt"], "--schedule"),
        (["--variance", "small"], "--variance"),
    ],
)
def test_a_bad_flag_is_one_sentence(script, tmp_path, monkeypatch, capsys, flags, said):
    monkeypatch.setattr(sys, "argv", ["digits.py"])
    with pytest.raises(SystemExit) as caught:
        script.main(["--out-dir", str(tmp_path / "run"), *flags])
    assert caught.value.code == 2
    usage, error = capsys.readouterr().err.split("digits.py: error: ")
    assert usage.startswith("usage: ")
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_without_scikit_learn_the_digits_are_one_sentence_and_other_data_run(tmp_path, data):
    (tmp_path / "sklearn").mkdir()
    (tmp_path / "sklearn" / "__init__.py").write_text("raise ImportError('No module named sklearn')")
    without = {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    out = tmp_path / "run"
    message = assert_refused(call(out, levels=None, environment=without), out)
    assert 'pip install -e ".[data]"' in message
    flags = ("--conditional", "--labels-key", "labels")
    result = call(out, *flags, data=data, baselines=True, environment=without)
    assert (result.returncode, result.stderr) == (0, "")
    assert "without scikit-learn: no mixtures of Gaussians, no classifier" in result.stdout
    assert [*summary(out)["baselines"]][-1] == "Gaussian, dequantised"


def test_divergence_is_one_sentence(tmp_path, data):
    result = call(tmp_path / "run", data=data, learning_rate=1e30)
    assert result.returncode == 2
    assert "diverged" in result.stderr
    assert len(result.stderr.splitlines()) == 1
