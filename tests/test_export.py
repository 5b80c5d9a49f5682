"""Exports: what another framework reads is what the run has, to the last bit."""

import json
import struct

import numpy as np
import pytest

from ddpm_np.nn import Adam, MLPDenoiser, UNet, constant_rate
from ddpm_np.nn.tree import named_leaves
from ddpm_np.runs import export as exports
from ddpm_np.runs.checkpoint import CheckpointError, save_checkpoint, write_archive
from ddpm_np.runs.export import ExportError, export, main, read_network
from ddpm_np.schedules import linear_schedule
from ddpm_np.training import Recipe, init_state

CONFIGURATION = {"steps": 0, "target": "eps", "timesteps": 5}


@pytest.fixture
def recipe():
    schedule = linear_schedule(5, 0.01, 0.5)
    return Recipe(schedule, MLPDenoiser(2, 5, 4, 2, 6), Adam(constant_rate(0.1)))


def saved(path, recipe, dtype="float32"):
    """A checkpoint whose average is not its parameters."""
    state = init_state(recipe, 3, lambda x: np.asarray(x, dtype))
    state = state._replace(average=state.params * np.dtype(dtype).type(0.5))
    save_checkpoint(path, recipe, state, CONFIGURATION, np.asarray)
    return state


def by_hand(content):
    """A safetensors file by the format's definition: a length, a JSON header, the bytes."""
    (size,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    about = json.loads(header.pop("__metadata__")["about"])
    arrays = {}
    for name, row in header.items():
        start, stop = row["data_offsets"]
        dtype = {"F32": "<f4", "F64": "<f8"}[row["dtype"]]
        arrays[name] = np.frombuffer(data[start:stop], dtype).reshape(row["shape"])
    return about, arrays.pop("beta"), arrays


def by_json(content):
    whole = json.loads(content)
    dtype = whole["about"]["dtype"]
    arrays = {
        name: np.array(values, dtype).reshape(whole["shapes"][name])
        for name, values in whole["weights"].items()
    }
    return whole["about"], np.array(whole["beta"]), arrays


READ = {"safetensors": by_hand, "json": by_json}


@pytest.fixture(params=READ)
def kind(request):
    if request.param == "safetensors":
        pytest.importorskip("safetensors")
    return request.param


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("raw", [False, True])
def test_what_is_read_is_what_the_run_has(tmp_path, recipe, kind, dtype, raw, capsys):
    state = saved(tmp_path / "checkpoint.npz", recipe, dtype)
    options = [str(tmp_path / "checkpoint.npz"), "--to", kind, *(["--raw"] if raw else [])]
    assert main(options) == 0
    assert f"{'raw' if raw else 'average'} weights of step 0" in capsys.readouterr().out
    about, beta, arrays = READ[kind]((tmp_path / f"checkpoint.{kind}").read_bytes())
    params = recipe.layout.unravel(state.params if raw else state.average)
    assert {name: a.shape for name, a in arrays.items()} == {
        "weight": (2, 4),
        "time_weight": (6, 4),
        "bias": (4,),
        "hidden_weight": (2, 4, 4),
        "hidden_bias": (2, 4),
        "out_weight": (4, 2),
        "out_bias": (2,),
    }
    for name, leaf in named_leaves(params):
        assert arrays[name].dtype == leaf.dtype
        np.testing.assert_array_equal(arrays[name], leaf)
    np.testing.assert_array_equal(beta, recipe.schedule.beta)
    assert about == {
        "format": "ddpm-np export 1",
        "weights": "raw" if raw else "average",
        "dtype": dtype,
        "step": 0,
        "configuration": CONFIGURATION,
    }


def test_no_hidden_layers_keep_their_shape(tmp_path, recipe, kind):
    recipe = Recipe(recipe.schedule, MLPDenoiser(2, 5, 4, 0, 6), recipe.optimizer)
    saved(tmp_path / "checkpoint.npz", recipe)
    export(tmp_path / "checkpoint.npz", kind, tmp_path / "out")
    _, _, arrays = READ[kind]((tmp_path / "out").read_bytes())
    assert arrays["hidden_weight"].shape == (0, 4, 4)


def test_a_network_of_images_has_names_by_its_parts(tmp_path, recipe, kind):
    recipe = Recipe(recipe.schedule, UNet(1, 5, 4, 1, 2, 4, multipliers=(1,)), recipe.optimizer)
    saved(tmp_path / "checkpoint.npz", recipe)
    export(tmp_path / "checkpoint.npz", kind, tmp_path / "out")
    _, _, arrays = READ[kind]((tmp_path / "out").read_bytes())
    assert arrays["trunk/0/first/2/weight"].shape == (3, 3, 4, 4)


def test_other_orders_of_memory_are_made_plain(tmp_path, kind):
    """Columns first and high bytes first, which safetensors 0.8 would write as they lie."""
    values = np.arange(6.0).reshape(2, 3)
    arrays = {
        "average/a": np.asfortranarray(values),
        "average/b": values.astype(">f8"),
        "beta": values[0],
    }
    path = tmp_path / "checkpoint.npz"
    write_archive(path, arrays, {"step": 1, "configuration": {}})
    export(path, kind, tmp_path / "out")
    about, _, found = READ[kind]((tmp_path / "out").read_bytes())
    np.testing.assert_array_equal(found["a"], values)
    np.testing.assert_array_equal(found["b"], values)
    assert about["dtype"] == "float64"


@pytest.mark.peers
def test_torch_reads_it(tmp_path, recipe):
    torch = pytest.importorskip("safetensors.torch")
    saved(tmp_path / "checkpoint.npz", recipe)
    network = export(tmp_path / "checkpoint.npz", "safetensors", tmp_path / "out")
    found = torch.load_file(tmp_path / "out")
    np.testing.assert_array_equal(found["out_weight"].numpy(), network.weights["out_weight"])


# --- what goes wrong ----------------------------------------------------------------------


def refused(capsys, *options):
    """The sentence of a command that must fail."""
    assert main([str(option) for option in options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("python -m ddpm_np.runs.export: error: ")
    assert error.count("\n") == 1
    return error


def test_misuse_is_one_sentence(tmp_path, recipe, capsys):
    path = tmp_path / "checkpoint.npz"
    assert "there is no file" in refused(capsys, path, "--to", "json")
    path.write_bytes(b"PK\x03\x04 and no more")
    assert "it is damaged or no checkpoint" in refused(capsys, path, "--to", "json")
    saved(path, recipe)
    before = path.read_bytes()
    assert "must not be the checkpoint itself" in refused(capsys, path, "--to", "json", "--out", path)
    assert path.read_bytes() == before
    assert "existing folder" in refused(capsys, path, "--to", "json", "--out", tmp_path / "no" / "x")
    assert "is in the way" in refused(capsys, path, "--to", "json", "--out", tmp_path)
    with pytest.raises(SystemExit):
        main([str(path), "--to", "onnx"])


@pytest.mark.parametrize(
    ("arrays", "about", "sentence"),
    [
        ({"beta": np.zeros(2)}, {"step": 1, "configuration": {}}, "is no checkpoint of a run"),
        ({"average/a": np.zeros(2)}, {"step": 1, "configuration": {}}, "is no checkpoint of a run"),
        ({"average/a": np.zeros(2), "beta": np.zeros(2)}, {"step": 1}, "is no checkpoint of a run"),
        (
            {"average/a": np.zeros(2), "average/b": np.zeros(2, "float32"), "beta": np.zeros(2)},
            {"step": 1, "configuration": {}},
            "is no checkpoint of a run",
        ),
        (
            {"average/a": np.array([1.0, np.nan]), "beta": np.zeros(2)},
            {"step": 1, "configuration": {}},
            "is damaged: a is not finite",
        ),
        (
            {"average/a": np.arange(2), "beta": np.zeros(2)},
            {"step": 1, "configuration": {}},
            "is damaged: a is not finite",
        ),
    ],
)
def test_what_no_run_wrote_is_refused(tmp_path, arrays, about, sentence):
    write_archive(tmp_path / "checkpoint.npz", arrays, about)
    with pytest.raises(CheckpointError, match=sentence):
        read_network(tmp_path / "checkpoint.npz")


def test_without_safetensors_it_says_how_to_get_it(tmp_path, recipe, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "safetensors.numpy", None)
    saved(tmp_path / "checkpoint.npz", recipe)
    error = refused(capsys, tmp_path / "checkpoint.npz", "--to", "safetensors")
    assert 'pip install "ddpm-np[export]", or take --to json' in error
    assert not (tmp_path / "checkpoint.safetensors").exists()


def test_a_format_that_scrambles_is_noticed_before_it_is_written(tmp_path, recipe, monkeypatch):
    saved(tmp_path / "checkpoint.npz", recipe)
    out = tmp_path / "out"
    out.write_text("an earlier export")
    pack, unpack = exports.KINDS["json"]

    def scrambled(network):
        return pack(network._replace(beta=network.beta[::-1]))

    monkeypatch.setitem(exports.KINDS, "json", (scrambled, unpack))
    with pytest.raises(ExportError, match="it would read otherwise"):
        export(tmp_path / "checkpoint.npz", "json", out)
    assert out.read_text() == "an earlier export"


def test_a_disk_that_forgets_is_noticed(tmp_path, recipe, monkeypatch):
    saved(tmp_path / "checkpoint.npz", recipe)
    monkeypatch.setattr(exports.Path, "read_bytes", lambda path: b"")
    with pytest.raises(ExportError, match="reads otherwise than it was written"):
        export(tmp_path / "checkpoint.npz", "json", tmp_path / "out")
