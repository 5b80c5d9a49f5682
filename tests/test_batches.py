"""Batches: what is refused, what is warned of, and numbers that never change. See also test_training."""

import zlib

import numpy as np
import pytest

from ddpm_np.data import DATASETS
from ddpm_np.data.images import scale
from ddpm_np.runs.batches import STREAM, DataScaleWarning, batches, draw_batch

POINTS = np.random.default_rng(0).standard_normal((50, 2)).astype(np.float32)
LABELS = np.arange(50) % 3 + 1
CHECKSUMS = {1: "8417d3f7"}
"""Of the batches below, by version of the stream."""


# --- the stream ---------------------------------------------------------------------------


def checksum():
    """Of batches of two sizes: many that are drawn together, and some drawn one by one."""
    crc = 0
    for data, size in ((POINTS, 7), (POINTS.astype(np.float64), 20_000)):
        draw = batches(data, 10, size, 3, LABELS, 0.25)
        plain = batches(data, 10, size, 3)
        for step in (0, 1, 2339, 2340, 2341, 10**6):
            for values in (*draw(step), *plain(step)):
                crc = zlib.crc32(
                    np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes(), crc
                )
    return f"{crc:08x}"


def test_the_stream_is_what_its_version_says():
    assert checksum() == CHECKSUMS[STREAM], (
        "batches draw other numbers than before, so that a run would not resume as it began: "
        "this changes runs, raise STREAM"
    )


# --- bad data -----------------------------------------------------------------------------


@pytest.mark.parametrize("make", [batches, lambda *arguments: draw_batch(*arguments, 0)])
@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ([[1.0, 2.0]], TypeError, "data must be an array, got list"),
        (None, TypeError, "data must be an array, got NoneType"),
        (np.ones((5, 2), int), TypeError, "data must have a real floating dtype, got int64"),
        (np.ones((5, 2), complex), TypeError, "data must have a real floating dtype, got complex128"),
        (
            np.ones((5, 2), np.float16),
            TypeError,
            "data must be float32 or float64, in native byte order, got float16",
        ),
        (np.ma.masked_array(np.ones((5, 2))), TypeError, "data must not be masked"),
        (np.ones((0, 2)), ValueError, "data must have shape"),
        (np.ones(()), ValueError, "data must have shape"),
        (np.array([[1.0, np.nan]]), ValueError, "data must be finite, got 1 NaN or infinite of its 2"),
        (np.array([[1.0, -np.inf]]), ValueError, "data must be finite"),
    ],
)
def test_bad_data_are_refused(make, data, error, message):
    with pytest.raises(error, match=f"^{message}"):
        make(data, 10, 4, 0)


def test_data_on_a_device_are_refused():
    xp = pytest.importorskip("array_api_strict")
    with pytest.raises(TypeError, match="data must be a NumPy array, got array_api_strict array"):
        batches(xp.ones((5, 2)), 10, 4, 0)


# --- data of another scale ----------------------------------------------------------------

RNG = np.random.default_rng(1)
NORMAL, LEVELS = RNG.standard_normal((200, 2)), RNG.integers(0, 256, (200, 4, 4, 1))


@pytest.mark.parametrize(
    "data",
    [
        LEVELS * 1.0,
        LEVELS.reshape(200, 16).astype(np.float32),
        LEVELS // 16 * 1.0,
        NORMAL * [1.0, 100.0],
        NORMAL * [0.01, 1.0],
        NORMAL * [0.04, 4.0],
        NORMAL.reshape(-1, 2, 2, 2) * [0.01, 1.0],
        NORMAL + 10.0,
        NORMAL[:, 0] * 0.1,
        NORMAL[:, :1] * 0.0,
    ],
)
def test_data_of_another_scale_are_warned_of(data):
    with pytest.warns(DataScaleWarning, match="standardise each feature, or scale them to") as given:
        batches(data, 10, 4, 0)
    assert [warning.filename for warning in given] == [__file__]
    said = f"root mean square of {np.sqrt(np.mean(data**2.0)):.3g}"
    if data.ndim > 1 and data.shape[-1] > 1:
        each = np.sqrt(np.mean(data.reshape(-1, data.shape[-1]) ** 2.0, axis=0))
        said += f", {each.min():.3g} to {each.max():.3g} in their {each.size} features"
    assert f"{said}, far from" in str(given[0].message)


@pytest.mark.parametrize(
    ("value", "dtype", "said"), [(1e30, "float32", "1e\\+30"), (1e200, "float64", "inf")]
)
def test_data_that_overflow_when_squared_are_warned_of(value, dtype, said):
    with pytest.warns(DataScaleWarning, match=f"root mean square of {said}, far"):
        batches(np.full((5, 1), value, dtype), 10, 4, 0)


@pytest.mark.parametrize(
    "data",
    [
        *(draw(2000, 0) for draw in DATASETS.values()),
        scale(LEVELS, 256),  # images on [-1, 1], and on [0, 1], the darker ones too
        LEVELS / 255.0,
        LEVELS / 255.0 * 0.4,
        NORMAL * [0.1, 1.0],
        np.concatenate([NORMAL, np.zeros((200, 1))], axis=1),
    ],
    ids=[*DATASETS, "centred", "positive", "dark", "flat", "constant"],
)
def test_usual_data_are_not(data):
    batches(data, 10, 4, 0)
    batches(data.astype(np.float32), 10, 4, 0)


def test_the_digits_are_not():
    images = pytest.importorskip("sklearn.datasets").load_digits().images.astype(int)
    batches(scale(images[..., None], 17), 10, 4, 0)


def test_the_scale_of_much_data_is_that_of_all_of_it():
    """More than is squared at a time, though little of it is large."""
    data = np.ones((2**21 + 5, 1), np.float32)
    data[-(2**17) :] = 40.0
    with pytest.warns(DataScaleWarning, match=f"of {np.sqrt(np.mean(data**2.0)):.3g}, far"):
        batches(data, 10, 4, 0)
