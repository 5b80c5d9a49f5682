"""Images of integer levels: files good and bad, splits, scales, and the chain's first step."""

import io
import math
import os
import pickle
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from ddpm_np.data import files as array_files
from ddpm_np.data.files import DataError, read_array
from ddpm_np.data.images import (
    ImageData,
    check_data,
    dequantise,
    digits,
    load_images,
    log_bin_volume,
    scale,
    split,
    to_levels,
)
from ddpm_np.decoders import discretised_gaussian
from ddpm_np.elbo import bits_per_dim
from ddpm_np.schedules import cosine_schedule, linear_schedule, merge_first_steps

IMAGES = np.random.default_rng(0).integers(0, 17, (80, 4, 6)).astype(np.uint8)
LABELS = np.arange(80) % 3 + 5


def npy(array, **header):
    """The bytes of an .npy file, with another header if given."""
    stream = io.BytesIO()
    if header:
        np.lib.format.write_array_header_1_0(stream, header)
        stream.write(array.tobytes())
    else:
        np.lib.format.write_array(stream, array)
    return stream.getvalue()


def zipped(name, content, compression=zipfile.ZIP_STORED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        archive.writestr(name, content)
    return stream.getvalue()


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


# --- files --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "int64", "uint16", ">i4", "float64", "float16"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_files_come_back_as_they_were(tmp_path, dtype, save):
    path = tmp_path / "a.npz"
    save(path, images=IMAGES.astype(dtype), labels=LABELS, other=np.zeros(3))
    found = load_images(path, levels=17, labels_key="labels", multiple=2)
    assert found.images.shape == (80, 4, 6, 1)
    assert found.images.dtype == np.int32
    np.testing.assert_array_equal(found.images[..., 0], IMAGES)
    np.testing.assert_array_equal(found.labels, LABELS - 4)
    assert found.classes == (5, 6, 7)


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_npy_file_holds_the_images_whatever_its_name(tmp_path, order):
    colours = np.random.default_rng(1).integers(0, 256, (70, 3, 5, 3), dtype=np.uint8)
    path = tmp_path / "images.bin"
    path.write_bytes(npy(np.asarray(colours, order=order)))
    found = load_images(path, levels=256)
    np.testing.assert_array_equal(found.images, colours)
    assert (found.labels, found.classes) == (None, ())


def test_an_empty_array_and_a_scalar_are_read_as_such(tmp_path):
    for array in (np.zeros((0, 3)), np.array(7)):
        (tmp_path / "a.npy").write_bytes(npy(array))
        np.testing.assert_array_equal(read_array(tmp_path / "a.npy", "images"), array)


HUGE = {"descr": "<f8", "fortran_order": False, "shape": (10 * 2**27,)}  # 10 GiB
BAD_FILES = {
    "missing": (None, "there is no file"),
    "empty": (b"", "neither an .npz nor an .npy"),
    "text": (b"no images here\n", "neither an .npz nor an .npy"),
    "pickle": (pickle.dumps(IMAGES), "neither an .npz nor an .npy"),
    "an image": (b"\x89PNG\r\n\x1a\n" + bytes(100), "neither an .npz nor an .npy"),
    "npy cut in the magic": (npy(IMAGES)[:6], "cannot be read"),
    "npy cut in the header": (npy(IMAGES)[:60], "cannot be read"),
    "npy cut in the data": (npy(IMAGES)[:-1], r"takes 1920 bytes, the file has 1919"),
    "npy with more": (npy(IMAGES) + b"x", r"takes 1920 bytes, the file has 1921"),
    "npy of 10 GiB, cut": (npy(IMAGES, **HUGE), "takes 10737418240 bytes, more than"),
    "npy of 1 GiB, cut": (npy(IMAGES, **{**HUGE, "shape": (2**27,)}), "takes 1073741824 bytes"),
    "npy that overflows": (npy(IMAGES, **{**HUGE, "shape": (2**40, 2**40)}), "more than"),
    "npy of negative size": (npy(IMAGES, **{**HUGE, "shape": (-1, 8)}), "takes -64 bytes"),
    "npy of another version": (b"\x93NUMPY\x09\x00" + npy(IMAGES)[8:], "version"),
    "npy with code for a header": (
        b"\x93NUMPY\x01\x00\x20\x00" + b"__import__('os').abort()" + b" " * 8,
        "cannot be read",
    ),
    "npy with a long header": (b"\x93NUMPY\x02\x00\x00\x00\x10\x00" + b" " * 2**20, "cannot be read"),
    "npz cut": (zipped("images.npy", npy(IMAGES))[:-40], "cannot be read"),
    "npz of text": (zipped("images.npy", b"no images here"), "cannot be read"),
    "npz without arrays": (zipped("readme.txt", b"hello"), "no array 'images': it has 'readme.txt'"),
    "npz, empty": (b"PK\x05\x06" + bytes(18), "has no array 'images': it has nothing"),
    "npz of 10 GiB, cut": (zipped("images.npy", npy(IMAGES, **HUGE)), "more than"),
    "npz cut inside": (zipped("images.npy", npy(IMAGES)[:-1]), "the file has 1919"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_one_sentence(tmp_path, case):
    content, message = BAD_FILES[case]
    path = tmp_path / "images.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_array(path, "images")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folders_and_pipes_are_no_files(tmp_path):
    with pytest.raises(DataError, match="is no file"):
        read_array(tmp_path, "images")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")  # to open it would wait for ever
        with pytest.raises(DataError, match="is no file"):
            read_array(tmp_path / "pipe", "images")


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")
def test_a_file_that_becomes_a_pipe_or_a_device_is_refused_too(tmp_path, monkeypatch):
    """Between the look at it and its opening: neither waits nor reads."""
    path, stat = tmp_path / "a.npy", os.stat
    swaps = {"pipe": lambda: os.mkfifo(path), "device": lambda: path.symlink_to("/dev/zero")}
    for kind, swap in swaps.items():

        def swapped(*arguments, swap=swap, **settings):
            found = stat(*arguments, **settings)
            path.unlink()
            swap()
            return found

        path.write_bytes(npy(IMAGES))
        with monkeypatch.context() as context:
            context.setattr(os, "stat", swapped)
            with pytest.raises(DataError, match=f"it is no file, but a {kind}"):
                read_array(path, "images")
        path.unlink()
    path.write_bytes(npy(IMAGES))
    assert read_array(path, "images").shape == IMAGES.shape


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("place", [0.3, 0.6, 0.9])
def test_a_flipped_bit_in_an_archive_is_found(tmp_path, compression, place):
    content = bytearray(zipped("images.npy", npy(IMAGES), compression))
    content[int(place * len(content) * 0.9)] ^= 4
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match="cannot be read"):
        read_array(tmp_path / "a.npz", "images")


def test_what_is_declared_takes_no_memory(tmp_path):
    """10 GiB in a header; and 3 GiB in the archive's own directory."""
    contents = [BAD_FILES["npy of 10 GiB, cut"][0], BAD_FILES["npz of 10 GiB, cut"][0]]
    lie = zipped("images.npy", npy(IMAGES, **{**HUGE, "shape": (3 * 2**27,)}))
    size = len(npy(IMAGES, **{**HUGE, "shape": (3 * 2**27,)}))
    new = size - IMAGES.nbytes + 3 * 2**30
    contents.append(lie.replace(size.to_bytes(4, "little"), new.to_bytes(4, "little")))
    assert contents[-1] != lie
    for content in contents:
        (tmp_path / "a.npz").write_bytes(content)
        tracemalloc.start()
        with pytest.raises(DataError):
            read_array(tmp_path / "a.npz", "images")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 2**20, content[:8]


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(array_files, "MOST_BYTES", 10**6)
    np.savez_compressed(tmp_path / "a.npz", images=np.zeros(2 * 10**6, np.uint8))
    assert (tmp_path / "a.npz").stat().st_size < 10**4
    with pytest.raises(DataError, match="takes 2000000 bytes, more than 1000000"):
        read_array(tmp_path / "a.npz", "images")


def test_what_becomes_too_large_as_float64_is_refused(tmp_path, monkeypatch):
    """Integers take eight times as much once they are pixels."""
    monkeypatch.setattr(array_files, "MOST_BYTES", 10**6)
    for values in (125_000, 125_001):
        np.save(tmp_path / "a.npy", np.zeros(values, np.uint8))
        np.savez_compressed(tmp_path / "a.npz", images=np.zeros(values, np.uint8))
        for name in ("a.npy", "a.npz"):
            if values == 125_000:
                assert read_array(tmp_path / name, "images").shape == (values,)
                continue
            with pytest.raises(DataError, match="takes 1000008 bytes as float64, more than 1000000"):
                read_array(tmp_path / name, "images")


def test_a_bomb_in_a_header_takes_no_memory(tmp_path):
    header = b"\x93NUMPY\x02\x00" + (2**28).to_bytes(4, "little") + b" " * 2**26
    (tmp_path / "a.npz").write_bytes(zipped("images.npy", header, zipfile.ZIP_DEFLATED))
    tracemalloc.start()
    with pytest.raises(DataError, match="cannot be read"):
        read_array(tmp_path / "a.npz", "images")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**21


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", ["twice", "lzma", "nested", "escaped"])
def test_what_numpy_does_not_write_is_refused(tmp_path, kind):
    nested = b"\x93NUMPY\x01\x00" + (9000).to_bytes(2, "little") + b"(" * 8000 + b" " * 1000
    escaped = npy(IMAGES).replace(b"'|u1'", b"'\\q1'")  # Python's parser would warn
    content = {"nested": nested, "escaped": escaped}.get(kind, npy(IMAGES))
    packing = zipfile.ZIP_LZMA if kind == "lzma" else zipfile.ZIP_STORED
    with zipfile.ZipFile(tmp_path / "a.npz", "w", packing) as archive:
        for _ in range(1 + (kind == "twice")):
            archive.writestr("images.npy", content)
    with pytest.raises(DataError, match="cannot be read: ") as caught:
        read_array(tmp_path / "a.npz", "images")
    assert {"twice": "two arrays", "lzma": "NumPy does not"}.get(kind, "") in str(caught.value)


@pytest.mark.parametrize("name", ["x\n\x1b[2J", "\udcff", "é", "n" * 10_000, "a\u202eb"])
def test_a_message_is_one_short_printable_line(tmp_path, name):
    path = tmp_path.joinpath(*["d" * 200] * 3, "a\tb.npz")
    path.parent.mkdir(parents=True)
    path.write_bytes(zipped(name.encode("utf-8", "replace").decode(), npy(IMAGES)))
    with pytest.raises(DataError) as caught:
        read_array(path, name + "?")
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 300
    assert message.startswith(str(tmp_path)[:20])
    assert r"ddd/a\tb.npz has no array '" in message
    for text in ("x" * 10**7, "\n" * 10**7):
        assert len(str(DataError(text))) < 300
        assert str(DataError(text)).isprintable()


@pytest.mark.parametrize("where", ["npy", "npz", "pickle"])
def test_nothing_in_a_file_is_executed(tmp_path, where):
    marker = tmp_path / "executed"
    trap = np.array([Trap(str(marker))] * 80, dtype=object)
    stream = io.BytesIO()
    np.lib.format.write_array(stream, trap, allow_pickle=True)
    content = {
        "npy": stream.getvalue(),
        "npz": zipped("images.npy", stream.getvalue()),
        "pickle": pickle.dumps(Trap(str(marker))),
    }[where]
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError):
        load_images(tmp_path / "a.npz", levels=17)
    assert not marker.exists()
    pickle.loads(pickle.dumps(Trap(str(marker))))  # the trap works
    assert marker.exists()


def test_a_wrong_key_names_what_is_there(tmp_path):
    np.savez(tmp_path / "a.npz", digits=IMAGES, labels=LABELS)
    with pytest.raises(DataError, match=r"no array 'images': it has 'digits', 'labels'"):
        load_images(tmp_path / "a.npz", levels=17)
    with pytest.raises(DataError, match="no array 'classes'"):
        load_images(tmp_path / "a.npz", levels=17, key="digits", labels_key="classes")


# --- what the arrays must be --------------------------------------------------------------


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES[:69], "at least 70 images are needed, got 69"),
        (IMAGES[:, :, 0], r"shape \(n, H, W\) or \(n, H, W, C\), got \(80, 4\)"),
        (IMAGES[:, :, :0], r"got \(80, 4, 0\)"),
        (IMAGES[:, None, :, :, None], r"got \(80, 1, 4, 6, 1\)"),
        (IMAGES[:, :3], "divisible by 2, got 3 x 6"),
        (IMAGES / 16.0, "must be whole numbers, got 0."),
        (np.where(IMAGES == 3, np.nan, IMAGES), "must be whole numbers, got nan"),
        (np.where(IMAGES == 3, np.inf, IMAGES), "must be whole numbers, got inf"),
        (IMAGES.astype(np.int8) - 1, r"17 levels must lie in 0..16, got -1..15"),
        (IMAGES + 1, r"17 levels must lie in 0..16, got 1..17"),
        (np.full((80, 4, 4), 2**64 - 1, np.uint64), "must lie in 0..16, got 1.84467e"),
        (np.full((80, 4, 4), 1e300), r"must lie in 0..16, got 1e\+300"),
        (IMAGES > 8, "must have an integer dtype, got bool"),
        (IMAGES.astype(str), "must have an integer dtype, got <U3"),
        (IMAGES.astype(complex), "must have an integer dtype, got complex128"),
        (IMAGES.astype("M8[s]"), "must have an integer dtype, got datetime64"),
        (IMAGES.view([("r", "u1")]), "must have an integer dtype"),
    ],
    ids=lambda value: None if isinstance(value, np.ndarray) else value[:30],
)
def test_bad_images_are_one_sentence(images, message):
    with pytest.raises(DataError, match=message) as caught:
        check_data("a.npz", images, None, 17, multiple=2)
    assert (
        str(caught.value).startswith("a.npz: images ")
        or "images are needed" in str(caught.value)
        or ("divisible" in str(caught.value))
    )


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS[:-1], r"shape \(80,\), got \(79,\)"),
        (LABELS[:, None], r"got \(80, 1\)"),
        (LABELS + 0.5, "labels must be whole numbers, got 5.5"),
        (np.full(80, "a"), "labels must have an integer dtype"),
        (np.zeros(80, int), "from 2 to 1000 values, got 1"),
    ],
)
def test_bad_labels_are_one_sentence(labels, message):
    with pytest.raises(DataError, match=message):
        check_data("a.npz", IMAGES, labels, 17)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (4, 8, 8), (3, 32, 48), (2, 6, 5)])
def test_channels_first_are_one_sentence(shape):
    images = np.zeros((80, *shape), np.uint8)
    with pytest.raises(
        DataError, match=r"must have their channels last, \(n, H, W, C\), got \(80, "
    ) as caught:
        check_data("a.npz", images, None, 17, multiple=2)
    assert "images.transpose(0, 2, 3, 1)" in str(caught.value)
    assert check_data("a.npz", images.transpose(0, 2, 3, 1), None, 17).images.shape[3] == shape[0]


@pytest.mark.parametrize(
    "shape", [(4, 8, 3), (1, 28, 1), (4, 4, 4), (4, 4, 8), (8, 4, 8), (2, 2, 4), (3, 3, 6), (28, 28, 4)]
)
def test_small_images_with_channels_last_are_taken_as_they_are(shape):
    assert check_data("a.npz", np.zeros((80, *shape), np.uint8), None, 17).images.shape == (80, *shape)


def test_images_are_refused_by_what_they_take_once_scaled():
    """Nothing is allocated: these are 1.2 GB as they come, and would be 9.4."""
    images = np.broadcast_to(np.uint8(0), (70, 4096, 4096))
    tracemalloc.start()
    with pytest.raises(DataError, match="take 9395240960 bytes in float64, more than 4294967296"):
        check_data("a.npz", images, None, 256)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


def test_the_largest_images_are_those_that_fit_once_scaled(monkeypatch):
    images = np.zeros((80, 4, 4), np.uint8)
    monkeypatch.setattr("ddpm_np.data.images.MOST_BYTES", images.size * 8)
    assert scale(check_data("a", images, None, 17).images, 17).nbytes == images.size * 8
    with pytest.raises(DataError, match="take 10368 bytes in float64, more than 10240"):
        check_data("a", np.zeros((81, 4, 4), np.uint8), None, 17)


def test_too_many_classes_are_refused():
    with pytest.raises(DataError, match="values, got 1001"):
        check_data("a.npz", np.zeros((1001, 2, 2), int), np.arange(1001), 2)


def test_labels_may_be_any_numbers():
    assert check_data("a", IMAGES, np.where(LABELS == 5, -3.0, 1e6), 17).classes == (-3, 10**6)


def test_a_fingerprint_tells_data_apart():
    data = check_data("a", IMAGES, LABELS, 17)
    others = [
        check_data("a", IMAGES[:, ::-1], LABELS, 17),
        check_data("a", IMAGES, LABELS[::-1], 17),
        check_data("a", IMAGES, None, 17),
        check_data("a", IMAGES.reshape(80, 6, 4), LABELS, 17),
    ]
    assert len({one.fingerprint() for one in (data, *others)}) == 5
    assert ImageData(data.images.copy(order="F"), data.labels, ()).fingerprint() == data.fingerprint()


# --- splits and scales --------------------------------------------------------------------


@pytest.mark.parametrize("n", [70, 71, 1797, 60_000])
def test_a_split_holds_every_example_once(n):
    parts = split(n)
    assert len(parts.validation) == len(parts.test) == n // 7
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(n))


def test_the_split_of_the_digits_is_what_it_always_was():
    parts = split(1797)
    assert [len(part) for part in parts] == [1285, 256, 256]
    assert parts.test[:4].tolist() == [447, 747, 1279, 1708]


def test_too_few_examples_are_not_split():
    with pytest.raises(ValueError, match="n must be >= 70"):
        split(69)


@pytest.mark.parametrize("levels", [2, 17, 256, 65536])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scaled_levels_are_the_decoder_s_grid(levels, dtype):
    k = np.unique(np.linspace(0, levels - 1, 300).astype(int))[:, None]
    x = scale(k, levels, dtype)
    assert x.dtype == dtype
    assert (x[0, 0], x[-1, 0]) == (-1.0, 1.0)
    np.testing.assert_array_equal(to_levels(x, levels), k)
    sure = discretised_gaussian(levels)(x, x, (0.01 / levels) ** 2)
    np.testing.assert_allclose(sure, 0.0, atol=1e-12)


def test_to_levels_rounds_and_clips():
    x = np.array([-7.0, -1.0, -0.94, -0.93, 0.0, 0.99, 1e300])
    assert to_levels(x, 17).tolist() == [0, 0, 0, 1, 8, 16, 16]


def test_digits_are_the_digits():
    pytest.importorskip("sklearn")
    data = digits()
    assert data.images.shape == (1797, 8, 8, 1)
    assert (data.images.min(), data.images.max()) == (0, 16)
    assert data.classes == tuple(range(10))
    assert np.bincount(data.labels).tolist() == [0, 178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_the_library_does_without_scikit_learn(tmp_path):
    """Importing all of it imports no scikit-learn, and its absence is one sentence."""
    (tmp_path / "sklearn").mkdir()
    (tmp_path / "sklearn" / "__init__.py").write_text("raise ImportError('No module named sklearn')")
    code = (
        "import ddpm_np, ddpm_np.data.images, ddpm_np.data.baselines, ddpm_np.plotting.images, sys\n"
        "assert not any(name.startswith('sklearn') for name in sys.modules)\n"
        "try: ddpm_np.data.images.digits()\n"
        "except ddpm_np.data.images.DataError as error: print(error)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == (
        "the digits come with scikit-learn, which cannot be imported (No module named sklearn); "
        'install it, in the project\'s folder, with: pip install -e ".[data]"\n'
    )


# --- the first step -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "schedule", [cosine_schedule(100), linear_schedule(1000)], ids=["cosine", "linear"]
)
def test_merged_steps_are_one_that_reaches_as_far(schedule):
    merged = merge_first_steps(schedule, 0.05)
    dropped = schedule.T - merged.T
    assert dropped > 0
    np.testing.assert_array_equal(merged.alpha_bar[1:], schedule.alpha_bar[1 + dropped :])
    noise = np.sqrt(schedule.one_minus_alpha_bar)
    assert noise[dropped] < 0.05 <= noise[dropped + 1]
    np.testing.assert_allclose(merged.beta[2:], schedule.beta[2 + dropped :], rtol=1e-9)


def test_nothing_is_merged_where_noise_starts_high():
    schedule = linear_schedule(10)
    assert merge_first_steps(schedule, 0.0) is schedule
    assert merge_first_steps(schedule, 0.01) is schedule
    first, second = schedule.sqrt_one_minus_alpha_bar[1:3]
    assert merge_first_steps(schedule, (first + second) / 2).T == schedule.T - 1
    with pytest.raises(ValueError, match="no step is left"):
        merge_first_steps(schedule, 0.9)


# --- dequantisation -------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_dequantised_levels_fill_their_bins_and_no_more(levels):
    images, width = np.arange(levels), 2.0 / (levels - 1)
    low, high = (dequantise(images, levels, np.full(levels, u)) for u in (0.0, 1.0 - 2.0**-53))
    np.testing.assert_allclose(low, scale(images, levels) - width / 2, rtol=0.0, atol=1e-15)
    np.testing.assert_allclose(low[1:], high[:-1], rtol=0.0, atol=1e-15)
    u = np.random.default_rng(0).uniform(0.001, 0.999, (50, levels))  # float32 rounds by 1e-5 levels
    x = dequantise(np.broadcast_to(images, u.shape), levels, u, "float32")
    assert x.dtype == np.float32
    np.testing.assert_array_equal(to_levels(x, levels), np.broadcast_to(images, u.shape))


def test_256_equal_levels_cost_8_bits_dequantised():
    """Their density is 1 / volume of the whole grid, 256 bins a dimension."""
    d, levels = 12, 256
    log_p = -d * math.log(levels * 2.0 / (levels - 1))
    assert bits_per_dim(-(log_p + log_bin_volume(levels, d)), d) == pytest.approx(8.0, rel=1e-14)
    assert bits_per_dim(-log_bin_volume(levels, d), d) == pytest.approx(math.log2(127.5), rel=1e-14)


def test_dequantised_densities_bound_the_mass_of_a_bin():
    """E[log p(x)] + log(volume) <= log(E[p(x)] volume) = log P(k), by quadrature."""
    levels, nodes, weights = 5, *np.polynomial.legendre.leggauss(40)
    u, weights = np.broadcast_to((nodes[:, None] + 1.0) / 2.0, (40, levels)), weights / 2.0
    x = dequantise(np.broadcast_to(np.arange(levels), u.shape), levels, u)
    p, volume = scipy.stats.norm(0.1, 0.4), math.exp(log_bin_volume(levels, 1))
    edges = scale(np.arange(levels + 1) - 0.5, levels)
    mass = np.diff(p.cdf(edges))
    np.testing.assert_allclose(weights @ p.pdf(x) * volume, mass, rtol=1e-12)
    assert np.all(weights @ p.logpdf(x) + math.log(volume) < np.log(mass))


@pytest.mark.parametrize(
    ("uniforms", "message"),
    [
        (np.zeros((80, 4)), r"uniforms must have the shape of images, \(80, 4, 6\), got \(80, 4\)"),
        (np.ones(IMAGES.shape), r"uniforms must lie in \[0, 1\)"),
        (np.full(IMAGES.shape, np.nan), r"uniforms must lie in \[0, 1\)"),
    ],
)
def test_bad_uniforms_are_one_sentence(uniforms, message):
    with pytest.raises(ValueError, match=message):
        dequantise(IMAGES, 17, uniforms)
