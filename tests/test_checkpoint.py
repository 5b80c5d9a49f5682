import io
import json
import os
import pickle
import socket
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ddpm_np.nn import Adam, AdamState, MLPDenoiser, constant_rate
from ddpm_np.runs import checkpoint
from ddpm_np.runs.checkpoint import (
    CheckpointError,
    load_checkpoint,
    read_archive,
    save_checkpoint,
    write_archive,
)
from ddpm_np.schedules import cosine_schedule, linear_schedule, scaled_linear_schedule
from ddpm_np.training import Recipe, TrainState

T = 25
CONFIGURATION = {"seed": 2**63, "learning_rate": 0.1 + 0.2, "target": "eps", "schedule": "scaled_linear"}
AWKWARD = [-0.0, 5e-324, -1e-45, 1.0 + 2**-52, 3.4e38, -1e-38, 0.1]
"""Values that a text, or another dtype on the way, would change."""


def make_recipe(schedule=None, size=4, layers=1):
    schedule = scaled_linear_schedule(T) if schedule is None else schedule
    denoiser = MLPDenoiser(2, schedule.T, size, layers, embedding_size=4)
    return Recipe(schedule, denoiser, Adam(constant_rate(1e-3)))


RECIPE = make_recipe()


def make_state(dtype="float64", step=2**53 + 1, recipe=RECIPE):
    rng = np.random.default_rng(0)
    size = max(place.stop for place in _places(recipe))
    flats = []
    for _ in range(4):
        flat = rng.standard_normal(size).astype(dtype)
        flat[rng.permutation(size)[: len(AWKWARD)]] = np.array(AWKWARD).astype(dtype)
        flats.append(flat)
    params, average, m, v = flats
    return TrainState(step, params, average, AdamState(step, m, np.abs(v)), np.array(1 / 3, dtype=dtype))


def _places(recipe):
    from ddpm_np.nn.tree import tree_leaves

    return tree_leaves(recipe.layout.tree)


def save(path, state, recipe=RECIPE, configuration=CONFIGURATION):
    save_checkpoint(path, recipe, state, configuration, np.asarray)


def load(path, recipe=RECIPE, configuration=CONFIGURATION, dtype="float64"):
    return load_checkpoint(path, recipe, configuration, lambda a: np.asarray(a, dtype=dtype))


def bits(state):
    arrays = (state.params, state.average, state.optimizer.m, state.optimizer.v, state.loss_sum)
    return (
        *(type(state.step), state.step, state.optimizer.step),
        *((array.dtype, array.shape, array.tobytes()) for array in arrays),
    )


@pytest.fixture
def path(tmp_path):
    """A good checkpoint, alone in its folder."""
    save(tmp_path / "checkpoint.npz", make_state())
    return tmp_path / "checkpoint.npz"


def refusal(path, **settings):
    """The message of the CheckpointError that loading must raise."""
    with pytest.raises(CheckpointError) as caught:
        load(path, **settings)
    message = str(caught.value)
    assert message.startswith((str(path), f"there is no file {path}"))
    assert message.isprintable()
    assert len(message) < 300
    return message


# --- round trip ---------------------------------------------------------------------------


def test_a_state_comes_back_to_the_bit(tmp_path, dtype):
    state = make_state(dtype)
    save(tmp_path / "a.npz", state)
    assert bits(load(tmp_path / "a.npz", dtype=dtype)) == bits(state)
    assert os.listdir(tmp_path) == ["a.npz"]


def test_the_same_state_gives_the_same_arrays_and_replaces_the_old(path):
    before, _ = read_archive(path)
    save(path, make_state(step=7))
    after, about = read_archive(path)
    assert about["step"] == load(path).step == 7
    assert before.keys() == after.keys()
    assert all(before[name].tobytes() == after[name].tobytes() for name in before)


def test_saving_changes_nothing_in_the_state(tmp_path):
    state = make_state()
    before = bits(state)
    save(tmp_path / "a.npz", state)
    assert bits(state) == before


def test_numpy_reads_it_by_the_documented_names(path):
    state = make_state()
    with np.load(path, allow_pickle=False) as file:
        assert file["params/weight"].shape == (2, 4)
        assert file["params/hidden_weight"].shape == (1, 4, 4)
        flat = np.concatenate([file[f"average/{name}"].ravel() for name in _names(RECIPE)])
        assert flat.tobytes() == state.average.tobytes()
        assert file["beta"].tobytes() == RECIPE.schedule.beta.tobytes()
        about = json.loads(str(file["about"]))
    assert about["configuration"] == CONFIGURATION
    assert about["step"] == 2**53 + 1


def _names(recipe):
    from ddpm_np.nn.tree import named_leaves

    return [name for name, _ in named_leaves(recipe.layout.tree)]


# --- damage -------------------------------------------------------------------------------


def outcome(path, content, whole):
    """Put content in the place of a checkpoint; True if refused, False if loaded the same."""
    path.write_bytes(content)
    try:
        state = load(path)
    except CheckpointError:
        refusal(path)
        return True
    assert bits(state) == whole
    return False


def test_every_truncated_file_is_refused(path):
    content, whole = path.read_bytes(), bits(load(path))
    cuts = np.linspace(0, len(content) - 1, 100).astype(int).tolist()
    cuts += [1, 4, 22, len(content) - 22, len(content) - 23, len(content) - 2]
    for cut in cuts:
        assert outcome(path, content[:cut], whole), cut


def test_a_flipped_bit_is_refused_or_changes_nothing(path, record_property):
    content, whole = path.read_bytes(), bits(load(path))
    rng = np.random.default_rng(0)
    directory = content.index(b"PK\x01\x02")
    places = [*rng.integers(0, len(content), 200), *rng.integers(directory, len(content), 100)]
    refused = []
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << rng.integers(8)
        refused.append(outcome(path, bytes(damaged), whole))
    record_property("refused of 200 anywhere", sum(refused[:200]))
    record_property("refused of 100 in the directory", sum(refused[200:]))
    # The rest are times, attributes and padding of the zip format, which hold nothing.
    assert sum(refused) > 150


def test_a_flipped_bit_in_an_array_is_always_refused(path):
    content, whole = path.read_bytes(), bits(load(path))
    rng = np.random.default_rng(1)
    beta = content.index(RECIPE.schedule.beta.tobytes())
    place = next(place for place in _places(RECIPE) if place.shape == (1, 4, 4))
    leaf = make_state().params[place.start : place.stop]
    params = content.index(leaf.tobytes())
    for start, size in ((beta, 8 * (T + 1)), (params, leaf.nbytes)):
        for place in rng.integers(start, start + size, 30):
            damaged = bytearray(content)
            damaged[place] ^= 1 << rng.integers(8)
            assert outcome(path, bytes(damaged), whole)


@pytest.mark.parametrize("fill", [b"\0", b"\xff"])
def test_a_block_that_was_never_written_is_refused(path, fill):
    content, whole = path.read_bytes(), bits(load(path))
    for start in range(0, len(content) - 512, 512):
        damaged = content[:start] + fill * 512 + content[start + 512 :]
        outcome(path, damaged, whole)
    assert outcome(path, fill * len(content), whole)


# --- other kinds of file ------------------------------------------------------------------


class Payload:
    """What a malicious pickle does."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (os.mkdir, (str(self.mark),))


def _pickle(path, mark):
    path.write_bytes(pickle.dumps({"about": Payload(mark)}))


def _pickle_in_npy(path, mark):
    with path.open("wb") as file:
        np.save(file, np.array([Payload(mark)], dtype=object), allow_pickle=True)


def _pickle_in_npz(path, mark):
    arrays, about = read_archive(path)
    arrays["params/weight"] = np.array([Payload(mark)], dtype=object)
    text = json.dumps({"format": checkpoint.FORMAT, **about})
    with path.open("wb") as file:
        np.savez(file, about=np.array(text), allow_pickle=True, **arrays)


def _pickle_as_about(path, mark):
    with path.open("wb") as file:
        np.savez(file, about=np.array(Payload(mark), dtype=object), allow_pickle=True)


def _pickle_instead_of_npy(path, mark):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("about.npy", pickle.dumps(Payload(mark)))


@pytest.mark.parametrize(
    "write",
    [_pickle, _pickle_in_npy, _pickle_in_npz, _pickle_as_about, _pickle_instead_of_npy],
    ids=lambda function: function.__name__.strip("_"),
)
def test_nothing_is_unpickled(path, write):
    mark = path.parent / "executed"
    write(path, mark)
    assert "no checkpoint" in refusal(path)
    assert not mark.exists()


def _zip(members):
    def write(path):
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in members.items():
                archive.writestr(name, text)

    return write


def _npz(**arrays):
    return lambda path: np.savez(path, **arrays)


def _folder(path):
    path.unlink()
    path.mkdir()


FORMAT_TEXT = json.dumps({"format": checkpoint.FORMAT})


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(lambda path: path.write_text("This is no checkpoint.\n"), id="text"),
        pytest.param(lambda path: path.write_bytes(bytes(range(256)) * 20), id="bytes"),
        pytest.param(lambda path: path.write_text('{"format": "ddpm-np checkpoint 1"}'), id="json"),
        pytest.param(_folder, id="folder"),
        pytest.param(_zip({}), id="empty zip"),
        pytest.param(_zip({"about.npy": "text"}), id="zip of text"),
        pytest.param(_zip({"../about.npy": "x", "a/": ""}), id="zip with paths"),
        pytest.param(_npz(x=np.zeros(3)), id="other npz"),
        pytest.param(_npz(about=np.zeros(3)), id="about is numbers"),
        pytest.param(_npz(about=np.array("no json")), id="about is no JSON"),
        pytest.param(_npz(about=np.array("[]")), id="about is a list"),
        pytest.param(_npz(about=np.array("7")), id="about is a number"),
        pytest.param(_npz(about=np.array("{}")), id="about is empty"),
        pytest.param(_npz(about=np.array(FORMAT_TEXT)), id="nothing but the format"),
    ],
)
def test_another_kind_of_file_is_refused(path, write):
    write(path)
    assert "no checkpoint" in refusal(path)


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    assert refusal(tmp_path / "no.npz") == f"there is no file {tmp_path / 'no.npz'}"
    (tmp_path / "file").write_text("")
    refusal(tmp_path / "file" / "no.npz")


def test_another_version_is_named(path):
    arrays, about = read_archive(path)
    text = json.dumps({**about, "format": "ddpm-np checkpoint 2"})
    np.savez(path, about=np.array(text), **arrays)
    assert refusal(path).endswith(
        "has format 'ddpm-np checkpoint 2', this version reads 'ddpm-np checkpoint 1'"
    )


@pytest.mark.parametrize("name", ["beta", "loss_sum", "params/weight", "adam_v/hidden_bias"])
def test_a_missing_array_is_named(path, name):
    arrays, about = read_archive(path)
    del arrays[name]
    write_archive(path, arrays, about)
    assert name in refusal(path)


@pytest.mark.parametrize("name", ["step", "optimizer_step", "configuration"])
def test_a_missing_number_is_named(path, name):
    arrays, about = read_archive(path)
    del about[name]
    write_archive(path, arrays, about)
    assert f"it has no {name}" in refusal(path)


# --- hostile files ------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")
@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "folder"])
@pytest.mark.parametrize("read", [load, read_archive], ids=["load_checkpoint", "read_archive"])
def test_what_is_no_file_is_refused_at_once(path, monkeypatch, kind, read):
    """To open a pipe waits for a writer; /dev/zero never ends."""
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        monkeypatch.chdir(path.parent)  # the name of a socket must be short
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(CheckpointError, match=f"it is no file, but a {kind}"):
        read(path)


def npy(array, **header):
    """The bytes of an .npy file, with another header if given."""
    stream = io.BytesIO()
    if header:
        wanted = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape, **header}
        np.lib.format.write_array_header_1_0(stream, wanted)
        stream.write(array.tobytes())
    else:
        np.lib.format.write_array(stream, array)
    return stream.getvalue()


def with_members(path, compression=zipfile.ZIP_STORED, **members):
    """Put other bytes into a checkpoint; ``params_weight`` stands for params/weight.npy."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    content |= {f"{name.replace('params_', 'params/')}.npy": text for name, text in members.items()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, text in content.items():
            archive.writestr(name, text)


BIG = 64 * 2**20
ZEROS = np.zeros(BIG, np.uint8)
BOMBS = {
    "an array": ("params_weight", npy(ZEROS)),
    "an array of the right header": ("params_weight", npy(np.zeros((2, 4))) + bytes(BIG)),
    "another array": ("another", npy(ZEROS)),
    "loss_sum": ("loss_sum", npy(ZEROS)),
    "beta": ("beta", npy(np.zeros(BIG // 8))),
    "the description": ("about", npy(np.array("x" * (BIG // 4)))),
    "a header": ("params_weight", b"\x93NUMPY\x02\x00" + BIG.to_bytes(4, "little") + b" " * BIG),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_takes_no_memory(path, bomb):
    name, content = BOMBS[bomb]
    with_members(path, zipfile.ZIP_DEFLATED, **{name: content})
    assert path.stat().st_size < 2**18
    tracemalloc.start()
    refusal(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**21


def test_read_archive_has_a_limit_for_all_together(path, monkeypatch):
    monkeypatch.setattr(checkpoint, "MOST_BYTES", 1000)
    with pytest.raises(CheckpointError, match="bytes, more than"):
        read_archive(path)


def test_a_directory_without_end_is_not_read(path):
    """The directory of a zip file would be read whole: here it is a hole of a gigabyte."""
    end = b"PK\x05\x06" + bytes(4) + (1).to_bytes(2, "little") * 2
    with path.open("wb") as file:
        file.write(b"PK\x03\x04")
        file.truncate(2**30)
        file.seek(2**30)
        file.write(end + (2**30 - 100).to_bytes(4, "little") + (100).to_bytes(4, "little") + bytes(2))
    tracemalloc.start()
    assert "a directory of" in refusal(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**21


# --- well-formed files of what no run wrote -----------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        *[({"configuration": value}, "no table of settings") for value in (None, [], 7, "x", True)],
        *[
            ({"step": value, "optimizer_step": value}, "is damaged: its step is ")
            for value in (-1, True, 1.0, "7", None, [], {}, 2**63, 10**300)
        ],
        *[
            ({"optimizer_step": value}, "is damaged: the optimizer is at step ")
            for value in (7, 2.0**53, "7", None, True, 10**300)
        ],
        ({"stream": 2}, "is of another version: it was trained on batches of stream 2, this version dr"),
        ({"stream": True}, "is of another version"),
        ({"configuration": {**CONFIGURATION, "seed": 1e999}}, "Infinity is not JSON"),
        ({"configuration": {**CONFIGURATION, "seed": float("nan")}}, "NaN is not JSON"),
        ({"configuration": {**CONFIGURATION, "seed": float(2**63)}}, "seed was 9.223372036854776e+18"),
        ({"configuration": {**CONFIGURATION, "seed": "x" * 10**5}}, "seed was 'xxx"),
        ({"configuration": {**CONFIGURATION, "seed\x1b[2J\n": 1}}, r"seed\x1b[2J\n was 1 and is now N"),
        ({"configuration": {**CONFIGURATION, "a" * 10**5: 1}}, "aaa was 1 and is now None"),
        ({"format": "ddpm-np checkpoint \x00" + "9" * 10**5}, "has format 'ddpm-np checkp"),
        ({"format": ["ddpm-np checkpoint 1"]}, "has format ['ddpm"),
    ],
    ids=lambda value: (
        str(value)[:40].encode("ascii", "backslashreplace").decode() + str(len(str(value)))
    ),
)
def test_a_description_that_no_run_wrote_is_refused(path, changes, said):
    _, about = read_archive(path)
    text = json.dumps({"format": checkpoint.FORMAT, **about, **changes})
    with_members(path, about=npy(np.array(text)))
    assert said in refusal(path)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 10**5,
        '{"a":' * 10**5,
        '{"format": 1' + "0" * 5000 + "}",
        json.dumps({"format": checkpoint.FORMAT, "step": 1})[:-1] + ', "x": ' + "[" * 10**5,
    ],
    ids=["lists", "tables", "a long number", "nested in a table"],
)
def test_json_that_exhausts_the_parser_is_refused(path, text):
    with_members(path, about=npy(np.array(text)))
    assert "no checkpoint" in refusal(path)


def test_a_checkpoint_of_an_older_version_is_refused(path):
    arrays, about = read_archive(path)
    del about["stream"]
    write_archive(path, arrays, about)
    assert "is of an older version, which may have drawn other batches: start afresh" in refusal(path)


def changed(values, index, value):
    values = values.copy()
    values.flat[index] = value
    return values


@pytest.mark.parametrize(
    ("name", "array", "said"),
    [
        *[
            (name, lambda old, value=value: changed(old, 0, value), f"{name} holds NaN or infinity")
            for name in ("params/weight", "average/weight", "adam_m/weight", "adam_v/weight", "loss_sum")
            for value in (np.nan, np.inf, -np.inf)
        ],
        (
            "adam_v/weight",
            lambda old: changed(old, 3, -1e-300),
            "adam_v/weight, of squares, is negative",
        ),
        ("loss_sum", lambda old: old[None], "loss_sum has shape (1,), wanted ()"),
        ("params/weight", lambda old: old[..., None], "has shape (2, 4, 1), wanted (2, 4)"),
        ("params/weight", lambda old: old.T, "has shape (4, 2), wanted (2, 4)"),
        ("params/weight", lambda old: old.sum(), "has shape (), wanted (2, 4)"),
        (
            "params/weight",
            lambda old: old.astype(np.float32),
            "params/weight is float32, wanted float64",
        ),
        ("params/weight", lambda old: old.astype(">f8"), "params/weight is >f8, wanted float64"),
        ("params/weight", lambda old: old.astype(complex), "is complex128, wanted float64"),
        ("params/weight", lambda old: old.astype("M8[s]"), "is datetime64[s], wanted float64"),
        ("params/weight", lambda old: old.view("V8"), "is |V8, wanted float64"),
        ("loss_sum", lambda old: old.astype("U900"), "loss_sum is <U900, wanted float64"),
        ("beta", lambda old: old.astype(np.float32), "beta is no table of a schedule"),
        ("beta", lambda old: old[:1], "beta is no table of a schedule"),
        ("beta", lambda old: old.sum(), "beta is no table of a schedule"),
        ("beta", lambda old: changed(old, 3, np.nan), "is from another noise schedule"),
        ("params/more", lambda _: np.zeros(3), "from another network: it also has params/more, which"),
        ("x\n\x1b" + "y" * 10**4, lambda _: np.zeros(3), r"it also has x\n\x1byyyyy"),
    ],
    ids=lambda value: (
        value[:50].encode("ascii", "backslashreplace").decode() if type(value) is str else None
    ),
)
def test_an_array_that_no_run_wrote_is_refused(path, name, array, said):
    arrays, about = read_archive(path)
    arrays[name] = array(arrays.get(name))
    write_archive(path, arrays, about)
    assert said in refusal(path)


def test_a_checkpoint_of_another_dtype_is_refused(tmp_path):
    save(tmp_path / "a.npz", make_state("float64"))
    message = refusal(tmp_path / "a.npz", dtype="float32")
    assert message.endswith("is of another dtype: params/weight is float64, wanted float32")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_array_that_is_there_twice_is_refused(path):
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("beta.npy", npy(np.zeros(T + 1)))
    assert "it has two arrays 'beta'" in refusal(path)


@pytest.mark.parametrize("tree", ["params", "average", "m", "v", "loss_sum"])
def test_a_state_that_could_not_be_resumed_is_not_saved(path, tree):
    content, state = path.read_bytes(), make_state()
    if tree in ("m", "v"):
        moments = {tree: changed(getattr(state.optimizer, tree), 5, np.inf)}
        state = state._replace(optimizer=state.optimizer._replace(**moments))
    else:
        state = state._replace(**{tree: changed(np.array(getattr(state, tree)), 0, np.nan)})
    with pytest.raises(FloatingPointError, match="is no longer finite"):
        save(path, state)
    assert_untouched(path, content)


def test_a_state_whose_optimizer_is_at_another_step_is_not_saved(path):
    content = path.read_bytes()
    with pytest.raises(ValueError, match="at the step of its optimizer, 9007199254740993, got 7"):
        save(path, make_state()._replace(step=7))
    assert_untouched(path, content)


def test_a_long_path_leaves_room_for_what_is_wrong(tmp_path):
    deep = tmp_path.joinpath(*["d" * 100] * 5, "a\x1b.npz")
    deep.parent.mkdir(parents=True)
    save(deep, make_state())
    now = dict.fromkeys("abcdefghij", 1)
    for settings in ({"configuration": now}, {"recipe": make_recipe(size=5)}, {"dtype": "float32"}):
        with pytest.raises(CheckpointError) as caught:
            load(deep, **settings)
        message = str(caught.value)
        assert len(message) < 300
        assert message.isprintable()
        assert "ddd/a\\x1b.npz is " in message
    with pytest.raises(CheckpointError, match=r"^there is no file .*\.\.\..*ddd$"):
        load(deep.parent / ("d" * 99))


# --- other runs ---------------------------------------------------------------------------


def test_every_setting_that_differs_is_named_with_both_values(path, monkeypatch):
    monkeypatch.chdir(path.parent)  # a long path would leave less room
    path = Path(path.name)
    now = {**CONFIGURATION, "seed": 1, "target": "v", "new": True}
    del now["schedule"]
    message = refusal(path, configuration=now)
    assert message == (
        f"{path} is from another configuration: seed was {2**63} and is now 1; "
        "target was 'eps' and is now 'v'; schedule was 'scaled_linear' and is now None; "
        "new was None and is now True"
    )


def test_settings_compare_to_the_last_digit_and_in_any_order(path):
    load(path, configuration=dict(reversed(CONFIGURATION.items())))
    near = {**CONFIGURATION, "learning_rate": 0.3}
    assert "learning_rate was 0.30000000000000004 and is now 0.3" in refusal(path, configuration=near)


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        (cosine_schedule(T), "T = 25 with beta from 0.00543002 to 0.999"),
        (linear_schedule(T), "T = 25 with beta from 0.0001 to 0.02"),
        (scaled_linear_schedule(T + 1), "T = 26 with beta from 0.00384615 to 0.769231"),
        (linear_schedule(1), "T = 1 with beta from 0.0001 to 0.0001"),
    ],
    ids=["cosine", "linear", "longer", "one step"],
)
def test_another_schedule_is_refused_with_both(path, schedule, said):
    message = refusal(path, recipe=make_recipe(schedule))
    assert "T = 25 with beta from 0.004 to 0.8, and now" in message
    assert message.endswith(said)


@pytest.mark.parametrize(
    ("size", "layers", "said"),
    [
        (5, 1, "params/weight has shape (2, 4), wanted (2, 5)"),
        (4, 0, "params/hidden_weight has shape (1, 4, 4), wanted (0, 4, 4)"),
        (4, 2, "params/hidden_weight has shape (1, 4, 4), wanted (2, 4, 4)"),
    ],
)
def test_another_network_is_refused_and_its_difference_named(path, size, layers, said):
    message = refusal(path, recipe=make_recipe(size=size, layers=layers))
    assert "is from another network" in message
    assert said in message


def test_a_deeper_network_whose_shapes_all_fit_is_refused(tmp_path):
    deep = make_recipe(size=2, layers=2)
    save(tmp_path / "a.npz", make_state(recipe=deep), recipe=deep)
    message = refusal(tmp_path / "a.npz", recipe=make_recipe(size=2, layers=1))
    assert "is from another network" in message


# --- writing ------------------------------------------------------------------------------


def assert_untouched(path, content):
    assert path.read_bytes() == content
    assert os.listdir(path.parent) == [path.name]


def test_an_array_that_cannot_be_written_leaves_the_previous_file(path):
    content = path.read_bytes()
    arrays = {"good": np.zeros(10_000), "bad": np.array([object()], dtype=object), "more": np.zeros(3)}
    with pytest.raises(ValueError, match="allow_pickle"):
        write_archive(path, arrays, {})
    assert_untouched(path, content)


@pytest.mark.parametrize("about", [{"loss": float("nan")}, {"path": Path()}])
def test_a_description_that_is_no_json_leaves_the_previous_file(path, about):
    content = path.read_bytes()
    with pytest.raises((TypeError, ValueError)):
        write_archive(path, {}, about)
    assert_untouched(path, content)


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failure_before_the_end_leaves_the_previous_file(path, monkeypatch, call, error):
    content = path.read_bytes()

    def fail(*_args):
        raise error

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(error):
        save(path, make_state(step=8))
    assert_untouched(path, content)


@pytest.mark.parametrize("member", [0, 1, 7, 17])
def test_a_failure_between_arrays_leaves_the_previous_file(path, monkeypatch, member):
    content, count, write = path.read_bytes(), 0, np.lib.format.write_array

    def fail(*args, **kwargs):
        nonlocal count
        count += 1
        if count > member:
            raise KeyboardInterrupt
        write(*args, **kwargs)

    monkeypatch.setattr(np.lib.format, "write_array", fail)
    monkeypatch.setattr("numpy.lib._npyio_impl.format.write_array", fail)
    with pytest.raises(KeyboardInterrupt):
        save(path, make_state(step=8))
    assert count == member + 1
    assert_untouched(path, content)


@pytest.mark.parametrize("moment", [0, 1, 5])
def test_ctrl_c_inside_the_archive_is_ctrl_c(path, monkeypatch, moment):
    """zipfile, closed while it writes a member, raises a ValueError."""
    content, state, opened, enter = path.read_bytes(), make_state(), [], zipfile.ZipFile.open

    def interrupted(self, *arguments, **options):
        member = enter(self, *arguments, **options)
        opened.append(member)
        if len(opened) > moment:
            raise KeyboardInterrupt
        return member

    monkeypatch.setattr(zipfile.ZipFile, "open", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(path, state)
    opened[-1].close()
    assert_untouched(path, content)


@pytest.mark.skipif(sys.platform == "win32", reason="needs setrlimit")
def test_a_full_disk_at_any_byte_leaves_the_previous_file(path):
    content = path.read_bytes()
    script = """
import os, resource, sys
from pathlib import Path
from ddpm_np.runs.checkpoint import read_archive, write_archive

path = Path(sys.argv[1])
content, (arrays, about) = path.read_bytes(), read_archive(path)
size, (_, hard) = len(content), resource.getrlimit(resource.RLIMIT_FSIZE)
failed = 0
for limit in [*range(0, size, size // 40), size - 1]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        write_archive(path, arrays, about | {"step": 2**53 + 2, "optimizer_step": 2**53 + 2})
    except OSError:
        failed += 1
    else:
        sys.exit(f"wrote {size} bytes under a limit of {limit}")
    assert path.read_bytes() == content, limit
    assert os.listdir(path.parent) == [path.name], limit
resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
write_archive(path, arrays, about | {"step": 2**53 + 2, "optimizer_step": 2**53 + 2})
print(failed)
"""
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "OPENBLAS_NUM_THREADS": "1",
    }
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, str(path)],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert int(result.stdout) >= 41
    assert load(path).step == 2**53 + 2
    assert len(path.read_bytes()) == len(content)


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX paths")
def test_a_folder_that_cannot_be_written_is_an_os_error(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "missing", tmp_path / "file", Path("/proc"), Path("/proc/self/fd")):
        with pytest.raises(OSError, match=r"."):
            save(folder / "checkpoint.npz", make_state())
    assert os.listdir(tmp_path) == ["file"]


def test_a_read_only_folder_is_an_os_error(path):
    content = path.read_bytes()
    path.parent.chmod(0o500)
    try:
        if os.access(path.parent, os.W_OK):
            pytest.skip("permissions do not bind this user")
        with pytest.raises(PermissionError):
            save(path, make_state(step=8))
        assert_untouched(path, content)
    finally:
        path.parent.chmod(0o700)
