"""Images of integer levels: loaded, checked, split, and scaled for the network and back."""

import math
import os
import zlib
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddpm_np._checks import as_floats, check_choice, check_integer
from ddpm_np.data.files import MOST_BYTES, DataError, read_array
from ddpm_np.randomness import DATA, generator

LEAST = 70
"""The fewest images that can be split: ten each for validation and test."""
MOST_CLASSES = 1000
MOST_CHANNELS = 4
"""An axis of at most so many entries may be the channels; a longer last axis is not."""
DIGITS_LEVELS = 17


class ImageData(NamedTuple):
    """Images, and what they show.

    Attributes
    ----------
    images : integer array, shape (n, H, W, C)
        Channels last, levels from 0.
    labels : integer array, shape (n,), or None
        From 1 to the number of classes; 0 is kept for "no class".
    classes : tuple of int
        What the file called class 1, 2, ...; empty without labels.
    """

    images: NDArray[np.int32]
    labels: NDArray[np.int64] | None
    classes: tuple[int, ...]

    def fingerprint(self) -> str:
        """Return a short text that identifies these data."""
        crc = zlib.crc32(self.images.tobytes())
        if self.labels is not None:
            crc = zlib.crc32(self.labels.tobytes(), crc)
        return f"{self.images.shape} {crc:08x}"


class Split(NamedTuple):
    """Indices of the examples for each purpose; together they hold every example once."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


def split(n: int) -> Split:
    """Cut n examples into three, at random but always the same way.

    A seventh each, rounded down, for test and validation, the rest for training: in this order,
    from the permutation of 0..n-1 by ``generator(0, DATA)``. It depends on n alone, not on a run's
    seed, so that all runs are measured on the same test images.

    Raises
    ------
    TypeError, ValueError
        If n is not an integer >= 70.
    """
    part = check_integer("n", n, LEAST) // 7
    order = generator(0, DATA).permutation(n)
    return Split(order[2 * part :], order[part : 2 * part], order[:part])


def scale(images: NDArray[Any], levels: int, dtype: str = "float64") -> NDArray[Any]:
    """Bring levels 0..levels-1 to [-1, 1], the grid of ``discretised_gaussian(levels)``.

    x = 2 k / (levels - 1) - 1
    """
    top = check_integer("levels", levels, 2, 2**16) - 1
    check_choice("dtype", dtype, ("float32", "float64"))
    return ((2.0 * images - top) / top).astype(dtype)


def to_levels(x: NDArray[Any], levels: int) -> NDArray[np.int64]:
    """Round to the nearest level, the inverse of :func:`scale`, for any finite x."""
    top = check_integer("levels", levels, 2, 2**16) - 1
    k = np.rint((np.asarray(x, dtype=np.float64) + 1.0) * (top / 2.0))
    return np.clip(k, 0, top).astype(np.int64)


def dequantise(
    images: NDArray[np.integer[Any]], levels: int, uniforms: NDArray[Any], dtype: str = "float64"
) -> NDArray[Any]:
    """Spread levels evenly over the bins around them, for models with a density; then scale them.

        x = scale(k + u - 1/2),  u = uniforms in [0, 1), of the shape of the images
        log P(k) >= E[log p(x)] + d log(2 / (levels - 1)),  P(k) the mass that p has in the bin of k

    by Jensen's inequality, with :func:`log_bin_volume` for the last term. :func:`to_levels` is the
    inverse.
    """
    u = as_floats("uniforms", uniforms)
    if u.shape != np.shape(images):
        raise ValueError(f"uniforms must have the shape of images, {np.shape(images)}, got {u.shape}")
    if not np.all((u >= 0.0) & (u < 1.0)):
        raise ValueError("uniforms must lie in [0, 1)")
    return scale(images + (u - 0.5), levels, dtype)


def log_bin_volume(levels: int, dimensions: int) -> float:
    """Log of the volume of the bin of one level in each of d dimensions, on the grid of :func:`scale`.

    Added to a log-density it makes a log-probability: of 256 levels, it costs log2(127.5) = 6.994 bits
    per dimension.
    """
    top = check_integer("levels", levels, 2, 2**16) - 1
    return check_integer("dimensions", dimensions, 1) * math.log(2.0 / top)


# --- where images come from ---------------------------------------------------------------


def digits() -> ImageData:
    """Return scikit-learn's handwritten digits: 1797 images of 8 x 8 x 1, 17 levels, 10 classes.

    They come with the package; nothing is downloaded.

    Raises
    ------
    DataError
        If scikit-learn is not installed.
    """
    require_scikit_learn("the digits come with scikit-learn")
    from sklearn.datasets import load_digits

    found = load_digits()
    return check_data("the digits", found.images, found.target, DIGITS_LEVELS)


def require_scikit_learn(why: str) -> None:
    """Raise DataError, with the install command, unless scikit-learn can be imported."""
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise DataError(
            f"{why}, which cannot be imported ({' '.join(str(error).split())}); "
            'install it, in the project\'s folder, with: pip install -e ".[data]"'
        ) from None


def load_images(
    path: str | os.PathLike[str],
    *,
    levels: int,
    key: str = "images",
    labels_key: str | None = None,
    multiple: int = 1,
) -> ImageData:
    """Read images, and labels if asked, from an .npz or .npy file.

    Parameters
    ----------
    path : path
        An .npz file of named arrays, or an .npy file of one; the content decides, not the name.
    levels : int
        From 2 to 65536.
    key, labels_key : str
        Names of the arrays in an .npz file.
    multiple : int
        Must divide height and width.

    Raises
    ------
    DataError
        If the file cannot be read, or :func:`check_data` refuses its arrays.
    """
    names = [key] if labels_key is None else [key, labels_key]
    arrays = [read_array(path, name) for name in names]
    return check_data(str(path), arrays[0], arrays[1] if labels_key else None, levels, multiple)


def check_data(name: str, images: Any, labels: Any, levels: int, multiple: int = 1) -> ImageData:
    """Check images and labels; return them as shape (n, H, W, C) and numbers from 1.

    Parameters
    ----------
    name : str
        What to call them in messages.
    images : array, shape (n, H, W) or (n, H, W, C)
        Whole numbers 0..levels-1, of any integer or floating dtype; at least 70 images, of no more
        than ``MOST_BYTES`` in float64, in which they are scaled. Channels are last: (n, a, b, c) with
        a <= 4 < c is refused as channels first, unless a = b, as in square images of many channels.
    labels : array, shape (n,), or None
        Whole numbers, with 2 to 1000 distinct values.
    levels : int
    multiple : int
        Must divide H and W.

    Raises
    ------
    DataError
        If a check fails.
    """
    check_integer("multiple", multiple, 1)
    images = np.asarray(images)
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise DataError(f"{name}: images must have shape (n, H, W) or (n, H, W, C), got {images.shape}")
    height, width = images.shape[1:3]
    if images.ndim == 4 and height <= MOST_CHANNELS < images.shape[3] and height != width:
        raise DataError(
            f"{name}: images must have their channels last, (n, H, W, C), got {images.shape}, which "
            "looks like channels first; save them as images.transpose(0, 2, 3, 1)"
        )
    if len(images) < LEAST:
        raise DataError(f"{name}: at least {LEAST} images are needed, got {len(images)}")
    if images.size * 8 > MOST_BYTES:
        raise DataError(
            f"{name}: images of shape {images.shape} take {images.size * 8} bytes in float64, "
            f"more than {MOST_BYTES}: save fewer"
        )
    if height % multiple or width % multiple:
        raise DataError(
            f"{name}: height and width must be divisible by {multiple}, got {height} x {width}"
        )
    _check_whole(f"{name}: images", images)
    low, high = images.min(), images.max()
    if low < 0 or high > levels - 1:
        raise DataError(
            f"{name}: images of {levels} levels must lie in 0..{levels - 1}, got {low:g}..{high:g}"
        )
    whole = images.astype(np.int32).reshape(*images.shape[:3], -1)
    if labels is None:
        return ImageData(whole, None, ())
    labels = np.asarray(labels)
    if labels.shape != (len(images),):
        raise DataError(f"{name}: labels must have shape ({len(images)},), got {labels.shape}")
    _check_whole(f"{name}: labels", labels)
    classes, numbers = np.unique(labels, return_inverse=True)
    if not 2 <= len(classes) <= MOST_CLASSES:
        raise DataError(f"{name}: labels must take from 2 to {MOST_CLASSES} values, got {len(classes)}")
    return ImageData(whole, numbers.astype(np.int64) + 1, tuple(map(int, classes)))


def _check_whole(name: str, values: NDArray[Any]) -> None:
    """Raise DataError unless all values are whole numbers, of an integer or floating dtype."""
    if values.dtype.kind not in "iuf":
        raise DataError(f"{name} must have an integer dtype, got {values.dtype}")
    if values.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            odd = ~(values == np.rint(values)) | np.isinf(values)
        if np.any(odd):
            raise DataError(f"{name} must be whole numbers, got {values[odd][0]:g}")
