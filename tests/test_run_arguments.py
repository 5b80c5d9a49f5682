"""What surrounds a run refuses bad arguments by their names."""

import numpy as np
import pytest

from ddpm_np.data.images import check_data, scale
from ddpm_np.elbo import warn_of_prior
from ddpm_np.runs import MetricsLog, hold_folder, prepare_folder, read_metrics
from ddpm_np.runs.batches import batches
from ddpm_np.runs.evaluation import standard_error
from tests.strategies import MILD

IMAGES, POINTS = np.zeros((90, 4, 4), int), np.ones((3, 2))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: prepare_folder(0), TypeError, "path must be a path, got int 0"),
        (lambda: hold_folder(None, ()).__enter__(), TypeError, "path must be a path, got NoneType"),
        (lambda: read_metrics(0), TypeError, "path must be a path, got int 0"),
        (lambda: MetricsLog(b"a", 0), TypeError, "path must be a path, got bytes"),
        (lambda: MetricsLog("a.jsonl", -1), ValueError, "step must be >= 0, got -1"),
        (lambda: standard_error([1.0]), ValueError, "values must be two numbers or more"),
        (lambda: standard_error("ab"), TypeError, "values must hold real numbers"),
        (lambda: warn_of_prior(MILD, [], POINTS), TypeError, "L_T must be an array"),
        (lambda: warn_of_prior(MILD, POINTS[:, 0], None), TypeError, "x0 must be an array"),
        (lambda: scale(IMAGES, 5, "int8"), ValueError, "dtype must be one of"),
        (lambda: check_data("a", IMAGES, None, 5, 0), ValueError, "multiple must be >= 1, got 0"),
        (lambda: batches(POINTS, 5, 2, 0, labels=(1, 2, 1)), ValueError, "labels must be integers"),
        (
            lambda: batches(POINTS, 5, 2, 0, labels=np.ma.array([1, 2, 1], mask=[0, 1, 0])),
            ValueError,
            "labels must be integers",
        ),
    ],
)
def test_a_bad_argument_is_named(call, error, words):
    with pytest.raises(error, match=words):
        call()
