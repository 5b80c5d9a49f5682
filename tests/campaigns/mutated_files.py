"""Checkpoints and data files, damaged at random or well formed and wrong, loaded in this process.

A loader either raises the project's own error, one printable line, or returns what the whole file
holds: what no checksum guards, the values of an .npy file or of a file written anew, must at least be
valid. It needs little memory either way. Even cases are checkpoints, odd ones data files.
"""

import io
import json
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ddpm_np.data.files import DataError
from ddpm_np.data.images import ImageData, load_images
from ddpm_np.nn import Adam, MLPDenoiser, constant_rate
from ddpm_np.runs.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from ddpm_np.schedules import scaled_linear_schedule
from ddpm_np.training import Recipe, TrainState, init_state
from tests.campaigns.cases import Case, TookTooLong, not_a_sentence, time_limit
from tests.campaigns.runs import write_images

TRIED = "checkpoints and data files, mutated bytes and well-formed nonsense"
CASES = 10_000
SECONDS, BYTES = 5.0, 2**26
"""The most that loading may take, of files of 20 kB or, with absurd JSON, a megabyte."""
CONFIGURATION = {"steps": 30, "seed": 0, "target": "eps", "learning_rate": 0.1 + 0.2, "labels": None}
Bytes = bytes | bytearray


class Context(NamedTuple):
    """The whole files."""

    checkpoint: bytes
    npz: bytes
    npy: bytes


def make_recipe() -> Recipe:
    """A network of a few hundred parameters."""
    schedule = scaled_linear_schedule(25)
    return Recipe(schedule, MLPDenoiser(2, 25, 8, 1, embedding_size=4), Adam(constant_rate(1e-3)))


RECIPE = make_recipe()


def as_float32(values: Any) -> Any:
    """Where, and in what, the network computes."""
    with np.errstate(over="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", np.exceptions.ComplexWarning)
        return np.asarray(values, dtype=np.float32)


def make_state() -> TrainState:
    """A state after 30 steps, with moments as they are: the second is positive."""
    rng = np.random.default_rng(0)
    state = init_state(RECIPE, 0, as_float32)
    m = 0.1 * rng.standard_normal(state.params.shape, dtype=np.float32)
    optimizer = state.optimizer._replace(step=30, m=m, v=m * m + np.float32(1e-8))
    return state._replace(step=30, optimizer=optimizer, loss_sum=np.float32(1 / 3))


STATE = make_state()


def prepare(folder: Path, numbers: Sequence[int]) -> Context:
    """Write the whole files."""
    path = folder / "checkpoint.npz"
    save_checkpoint(path, RECIPE, STATE, CONFIGURATION, np.asarray)
    images = write_images(folder / "images.npz")
    buffer = io.BytesIO()
    np.save(buffer, np.load(images)["images"])
    return Context(path.read_bytes(), images.read_bytes(), buffer.getvalue())


def try_case(case: Case, context: Context) -> None:
    """Change a file, load it, and judge what comes back."""
    if case.number % 2 == 0:
        change, exact = case.choose([(_mutate, True)] * 3 + [(_rewrite_checkpoint, True)] * 2)
        content, what = change(case, context.checkpoint)
        _judge(case, content, what, CheckpointError, _load_state, _bits(STATE) if exact else None)
        return
    whole, change, exact = case.choose(
        [
            *[(context.npz, _mutate, True)] * 3,
            (context.npz, _rewrite_images, False),
            (context.npy, _mutate, False),
        ]
    )
    content, what = change(case, whole)
    expected = _load_images_bits(context, case) if exact else None
    _judge(case, content, what, DataError, _load_images, expected)


def _judge(
    case: Case,
    content: Bytes,
    what: str,
    error: type[Exception],
    load_bits: Callable[[Path], Any],
    expected: Any,
) -> None:
    path = case.folder / "file.npz"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with time_limit(SECONDS):
            found = load_bits(path)
        if expected is not None:
            case.expect(found == expected, f"{what}: loaded, and is something else")
        case.note("files loaded all the same")
    except error as raised:
        problem = not_a_sentence(str(raised))
        case.expect(not problem, f"{what}: the message {problem}", repr(str(raised))[:600])
    except TookTooLong:
        case.expect(False, f"{what}: takes more than {SECONDS:g} s")
    except Exception as raised:
        kind = f"{what}: {type(raised).__name__} instead of {error.__name__}"
        case.expect(False, kind, repr(str(raised))[:300])
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    case.expect(peak < BYTES, f"{what}: needs more than {BYTES / 2**20:g} MB", f"{peak / 2**20:.0f} MB")


def _load_state(path: Path) -> Any:
    return _bits(load_checkpoint(path, RECIPE, CONFIGURATION, as_float32))


def _bits(state: TrainState) -> Any:
    arrays = (state.params, state.average, state.optimizer.m, state.optimizer.v, state.loss_sum)
    steps = tuple((type(step), step) for step in (state.step, state.optimizer.step))
    return steps, tuple((str(a.dtype), np.shape(a), a.tobytes()) for a in arrays)


def _load_images(path: Path) -> Any:
    """Load, see that what is loaded is valid, and return its bits."""
    labelled = path.read_bytes()[:1] == b"P"
    data = load_images(path, levels=5, labels_key="labels" if labelled else None)
    valid(data)
    return data.images.tobytes(), data.labels is not None and data.labels.tobytes(), data.classes


def valid(data: ImageData) -> None:
    """Raise AssertionError unless these are images of five levels, and their labels."""
    assert data.images.dtype == np.int32
    assert data.images.ndim == 4
    assert data.images.min() >= 0
    assert data.images.max() <= 4
    if data.labels is not None:
        assert data.labels.shape == data.images.shape[:1]
        assert set(np.unique(data.labels)) == set(range(1, len(data.classes) + 1))


def _load_images_bits(context: Context, case: Case) -> Any:
    path = case.folder / "whole.npz"
    path.write_bytes(context.npz)
    return _load_images(path)


# --- bytes --------------------------------------------------------------------------------


def _mutate(case: Case, whole: bytes) -> tuple[Bytes, str]:
    """Change bytes, as disks, networks and tools do, once or several times."""
    content: Bytes = whole
    change = case.choose(
        [
            _flip,
            _flip,
            _zero,
            _cut,
            _swap,
            _append,
            _prepend,
            _insert,
            _number,
            _duplicate,
            _rename,
            _drop,
        ]
    )
    for _ in range(int(case.choose([1, 1, 1, 2, 5]))):
        content = change(case, bytearray(content))
    return content, change.__name__.strip("_")


def _somewhere(case: Case, content: Bytes) -> int:
    """A place in the file; half of them in the directory at a zip file's end."""
    directory = max(bytes(content).find(b"PK\x01\x02"), 0)
    low = directory if case.rng.random() < 0.5 else 0
    return int(case.rng.integers(min(low, max(len(content) - 1, 0)), max(len(content), 1)))


def _flip(case: Case, content: bytearray) -> Bytes:
    if content:
        content[_somewhere(case, content)] ^= 1 << int(case.rng.integers(8))
    return content


def _zero(case: Case, content: bytearray) -> Bytes:
    start, size = _somewhere(case, content), int(case.choose([1, 4, 16, 512, 4096]))
    content[start : start + size] = bytes(len(content[start : start + size]))
    return content


def _cut(case: Case, content: bytearray) -> Bytes:
    return content[: _somewhere(case, content)]


def _swap(case: Case, content: bytearray) -> Bytes:
    size = int(case.choose([1, 16, 512]))
    a, b = (int(case.rng.integers(max(1, len(content) - size))) for _ in range(2))
    content[a : a + size], content[b : b + size] = content[b : b + size], content[a : a + size]
    return content


def _append(case: Case, content: bytearray) -> Bytes:
    return content + case.rng.bytes(int(case.choose([1, 22, 1000, 100_000])))


def _prepend(case: Case, content: bytearray) -> Bytes:
    return case.rng.bytes(int(case.choose([1, 22, 1000, 100_000]))) + content


def _insert(case: Case, content: bytearray) -> Bytes:
    place = _somewhere(case, content)
    return content[:place] + case.rng.bytes(int(case.choose([1, 2, 100]))) + content[place:]


def _number(case: Case, content: bytearray) -> Bytes:
    """Put a number where a size or an offset may be: 0, one more, the largest."""
    place, size = _somewhere(case, content), int(case.choose([2, 4, 8]))
    old = int.from_bytes(content[place : place + size], "little")
    value = case.choose([0, old + 1, old - 1, 2 ** (8 * size) - 1, 2 ** (8 * size - 1), 2**20])
    content[place : place + size] = (value % 2 ** (8 * size)).to_bytes(size, "little")
    return content


def _members(content: Bytes) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [(info.filename, archive.read(info)) for info in archive.infolist()]


def _archive(members: Sequence[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            archive.NameToInfo.pop(info.filename, None)  # else zipfile warns of a duplicate
            info.compress_type = compression
            with archive.open(info, "w") as file:
                file.write(content)
    return buffer.getvalue()


def _on_members(case: Case, content: Bytes, change: Callable[[list[Any], int], None]) -> Bytes:
    try:
        members = _members(content)
    except Exception:  # of an .npy file, or of what an earlier change has damaged
        return _flip(case, bytearray(content))
    if members:
        change(members, int(case.rng.integers(len(members))))
    return _archive(members, case.choose([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA]))


def _duplicate(case: Case, content: bytearray) -> Bytes:
    """A second member of the same name, with the bytes of its data reversed."""

    def change(members: list[Any], k: int) -> None:
        name, old = members[k]
        members.insert(int(case.choose([0, len(members)])), (name, old[:128] + old[:127:-1]))

    return _on_members(case, content, change)


def _rename(case: Case, content: bytearray) -> Bytes:
    names = ["x.npy", "../x.npy", "/etc/x", "", "a" * 60_000, "params/weight", "é\x1b[2J\n.npy", "x\0y"]

    def change(members: list[Any], k: int) -> None:
        members[k] = (case.choose([*names, members[k][0].upper(), members[0][0]]), members[k][1])

    return _on_members(case, content, change)


def _drop(case: Case, content: bytearray) -> Bytes:
    return _on_members(case, content, lambda members, k: members.pop(k))


# --- well formed, and wrong ---------------------------------------------------------------


def _rewrite_checkpoint(case: Case, whole: bytes) -> tuple[Bytes, str]:
    """Write the archive anew with one thing that no run writes."""
    members = dict(_members(whole))
    arrays = {name.removesuffix(".npy"): np.load(io.BytesIO(raw)) for name, raw in members.items()}
    about = json.loads(str(arrays.pop("about")[()]))
    kind = case.choose([_wrong_array, _wrong_array, _wrong_about, _wrong_text, _wrong_header])
    if kind is _wrong_header:
        name = case.choose([*members])
        raw, what = _wrong_header(case, members[name])
        return _archive([*{**members, name: raw}.items()]), f"header: {what}"
    if kind is _wrong_array:
        what = _wrong_array(case, arrays)
        text = np.array(json.dumps(about))
    elif kind is _wrong_about:
        what = _wrong_about(case, about)
        text = np.array(json.dumps(about))
    else:
        text, what = _wrong_text(case, json.dumps(about))
    buffer = io.BytesIO()
    np.savez(buffer, about=text, **arrays)
    return buffer.getvalue(), what


def _wrong_array(case: Case, arrays: dict[str, Any]) -> str:
    """Another shape or dtype, or values that no run has."""
    name = case.choose([*arrays])
    old = arrays[name]
    value = case.choose([np.nan, np.inf, -np.inf])
    changed = old.copy()
    changed.reshape(-1)[int(case.rng.integers(old.size))] = value
    options: dict[str, Any] = {
        "not finite": changed,
        "an axis more": old[None],
        "transposed or flat": old.T if old.ndim > 1 and old.shape != old.T.shape else old.reshape(-1, 1),
        "too long": np.concatenate([old.reshape(-1)] * 2),
        "empty": old[:0] if old.ndim else np.zeros(0, old.dtype),
        "complex": old + 1j,
        "text": old.astype(str),
        "bytes": old.astype("S"),
        "bool": old > 2.0 * np.abs(old).max(),
        "times": np.zeros(old.shape, "datetime64[s]"),
        "a record": np.zeros(old.shape, [("a", "f4"), ("b", "f4")]),
        "void": np.zeros(old.shape, "V4"),
        "another float, the same values": old.astype(case.choose(["<f8", ">f4", ">f8", np.longdouble])),
        "too large for the dtype": np.full(old.shape, 1e300),
    }
    if name.startswith("adam_v"):
        options["negative second moments"] = -np.abs(old) - np.float32(1e-6)
    what = case.choose([*options])
    arrays[name] = options[what]
    return f"array: {what}" + (" (beta)" if name == "beta" else "")


STEPS: dict[str, Any] = {
    "negative": -1,
    "float": 30.0,
    "text": "30",
    "bool": True,
    "huge": 10**30,
    "too long to print": 10**4000,
    "null": None,
    "a list": [30],
    "an object": {"step": 30},
    "not a number": float("nan"),
    "infinite": float("inf"),
}


def _wrong_about(case: Case, about: dict[str, Any]) -> str:
    """Another type, or a value that no run has, of the step or the configuration."""
    name = case.choose(["step", "step", "optimizer_step", "configuration"])
    if name != "configuration":
        what = case.choose([*STEPS])
        about[name] = STEPS[what]
        return f"{name}: {what}"
    old = about[name]
    options: dict[str, Any] = {
        **{kind: value for kind, value in STEPS.items() if kind != "an object"},
        "empty": {},
        "a list of pairs": [*map(list, old.items())],
        "a value of another type": {**old, case.choose([*old]): case.choose([[], {}, "x", True, 1e999])},
        "a long value": {**old, "target": "x" * 100_000},
        "a long name": {**old, "x" * 100_000: 1},
        "an escape sequence": {**old, "target": "\x1b[2J\n\r\u202e"},
        "many names": {**old, **{f"name {k}": k for k in range(5000)}},
        "a surrogate": {**old, "target": "\ud800"},
    }
    what = case.choose([*options])
    about[name] = options[what]
    return f"configuration: {what}"


def _wrong_text(case: Case, text: str) -> tuple[Any, str]:
    """Text that is no JSON, or not of an object, or absurd."""
    deep = 100_000
    options = {
        "a list": np.array("[]"),
        "a number": np.array("7"),
        "null": np.array("null"),
        "a string": np.array('"about"'),
        "an empty object": np.array("{}"),
        "nested deeply": np.array("[" * deep + "]" * deep),
        "a nested configuration": np.array(
            text.replace(
                '"configuration": {', '"x": ' + "[" * deep + "]" * deep + ', "configuration": {'
            )
        ),
        "a number of a million digits": np.array('{"step": ' + "9" * 10**6 + "}"),
        "a million names": np.array('{"a": [' + "1," * 10**5 + "1]}"),
        "another format": np.array(text.replace("ddpm-np checkpoint", "\x1b[2J" + "x" * 1000)),
        "a format that is a list": np.array(text.replace('"format": "', '"format": ["x"], "was": "')),
        "cut": np.array(text[:-1]),
        "empty": np.array(""),
        "bytes": np.array(text.encode()),
        "numbers": np.zeros(3),
        "two texts": np.array([text, text]),
        "no text": np.zeros(0, "U5"),
        "a record": np.zeros((), [("a", "f4")]),
    }
    what = case.choose([*options])
    return options[what], f"about: {what}"


def _wrong_header(case: Case, raw: bytes) -> tuple[bytes, str]:
    """An array whose header, with a good checksum, says something else than the data."""
    array = np.load(io.BytesIO(raw))
    shape, dtype = array.shape, array.dtype.str
    texts = {
        "a shape too large": _header(dtype, (10**9, *shape[1:])),
        "a shape that overflows": _header(dtype, (2**40, 2**40)),
        "a negative shape": _header(dtype, (-1, *shape[1:])),
        "a shape of bools": f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': (True,)}}",
        "a smaller shape": _header(dtype, tuple(size // 2 for size in shape) or (0,)),
        "many axes": _header(dtype, (1,) * 65 + shape),
        "a wider dtype": _header("<f8" if dtype != "<f8" else "<c16", shape),
        "objects": _header("|O", shape),
        "a dtype that is none": _header("<q9", shape),
        "a nested dtype": f"{{'descr': [('a', '<f4', {shape})], 'fortran_order': 0, 'shape': ()}}",
        "no shape": f"{{'descr': {dtype!r}, 'fortran_order': False}}",
        "an expression": "__import__('os').system('true')",
        "nested deeply": "(" * 5000 + ")" * 5000,
        "nothing": "",
        "long": _header(dtype, shape) + " " * 60_000,
    }
    what = case.choose([*texts, "a version of tomorrow", "another version", "another magic"])
    end = 10 + int.from_bytes(raw[8:10], "little")
    if what in texts:
        text = texts[what].encode() + b"\n"
        return raw[:8] + len(text).to_bytes(2, "little") + text + raw[end:], what
    magic = {"a version of tomorrow": b"\x93NUMPY\x09\x00", "another version": b"\x93NUMPY\x02\x00"}
    return magic.get(what, b"\x93NUMPi\x01\x00") + raw[8:], what


def _header(dtype: str, shape: tuple[int, ...]) -> str:
    return repr({"descr": dtype, "fortran_order": False, "shape": shape})


def _rewrite_images(case: Case, whole: bytes) -> tuple[Bytes, str]:
    """Write a data file anew with arrays or headers that are not those of images or labels."""
    members = dict(_members(whole))
    name = case.choose(["images.npy", "images.npy", "labels.npy"])
    if case.rng.random() < 0.3:
        raw, what = _wrong_header(case, members[name])
        return _archive([*{**members, name: raw}.items()]), f"data header: {what}"
    old = np.load(io.BytesIO(members[name])).astype(np.float64)
    spoiled = old.copy()
    spoiled.reshape(-1)[int(case.rng.integers(old.size))] = case.choose(
        [np.nan, np.inf, -np.inf, -1.0, 0.5, 5.0, 1e300, -1e300, 2.0**63, 2.0**31]
    )
    options: dict[str, Any] = {
        "a spoiled value": spoiled,
        "other floats": old.astype(case.choose([">f8", "<f2", np.longdouble])),
        "whole numbers": old.astype(case.choose([">i8", "<u8", "|i1", ">u2"])),
        "huge whole numbers": np.full(old.shape, case.choose([2**63 - 1, 2**64 - 1]), np.uint64),
        "complex": old + 0j,
        "text": old.astype(str),
        "bool": old > 0,
        "times": old.astype("timedelta64[s]"),
        "a record": np.zeros(old.shape, [("a", "u1")]),
        "another shape": old.reshape(
            case.choose([(-1,), (1, *old.shape), (-1, 1), (*old.shape, 1, 1, 1)])
        ),
        "channels first": old.reshape(len(old), 1, *old.shape[1:]),
        "empty": old[:0],
        "too few": old[:30],
        "a scalar": old[(0,) * old.ndim],
        "one class": np.zeros(old.shape),
    }
    what = case.choose([*options])
    buffer = io.BytesIO()
    np.save(buffer, options[what])
    return _archive([*{**members, name: buffer.getvalue()}.items()]), f"data: {what}"
