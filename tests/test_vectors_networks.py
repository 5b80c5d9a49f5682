"""The vectors of networks and training: as derived; ddpm_np passes them, usual slips do not."""

import json
from types import SimpleNamespace

import mpmath
import numpy as np
import pytest

from backends import BackendError, get_backend
from ddpm_np.testing.vectors import FOLDER, check_vectors, load
from ddpm_np.testing.vectors.ours import ours
from tests.network_slips import SLIPS
from tests.vectors import cases, networks
from tests.vectors.calculus import Traced, exp, gradients
from tests.vectors.tolerances import DIGITS, midway, plain

FUNCTIONS = {function.name: function for function in networks.FUNCTIONS}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_expected_values_are_those_of_the_formula(name):
    function = FUNCTIONS[name]
    for case in json.loads((FOLDER / f"{name}.json").read_text())["cases"]:
        with mpmath.workdps(DIGITS):
            assert plain(function.compute(**midway(case["inputs"]))) == case["expected"], case["id"]


# Those of training take seconds each; python -m tests.vectors --check does them all.
@pytest.mark.parametrize("name", sorted(FUNCTIONS.keys() - {"training"}))
def test_a_case_is_written_as_on_disk(name):
    function = FUNCTIONS[name]
    first = cases._case(function, f"{name}-001", *next(iter(function.cases())))
    assert first == json.loads((FOLDER / f"{name}.json").read_text())["cases"][0]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_ddpm_np_passes(backend, dtype):
    try:
        ops = get_backend(backend).ops
    except BackendError as error:
        pytest.skip(str(error))
    report = check_vectors(ours(ops), dtype=dtype, functions=FUNCTIONS)
    assert {result.status for result in report.results} == {"passed"}, str(report)


@pytest.mark.parametrize(
    ("function", "flag", "port"), SLIPS, ids=[f"{function}-{flag}" for function, flag, _ in SLIPS]
)
def test_slips_are_refused_by_a_case_that_names_them(function, flag, port):
    report = check_vectors(SimpleNamespace(**{function: port}), dtype="float32", functions=[function])
    # by its numbers: a port that raises shows nothing
    failed = [result for result in report.failed if result.distance is not None]
    refused = {name for result in failed for name in result.case.flags}
    assert flag in refused, str(report)


def test_a_float32_embedding_of_t_passes():
    """A port may take the angles in float32: the tolerance knows how large they are."""

    def embedding(T, size, t):
        half = size // 2
        frequency = np.float32(10000) ** (-np.arange(half, dtype="float32") / np.float32(half))
        angles = (np.float32(1000) / np.float32(T) * t.astype("float32"))[:, None] * frequency
        return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)

    port = SimpleNamespace(time_embedding=embedding)
    report = check_vectors(port, dtype="float32", functions=["time_embedding"])
    assert {result.status for result in report.results} == {"passed"}, str(report)


def test_the_rules_of_calculus_are_difference_quotients():
    """Every rule that the gradients rest on, against (f(x + h) - f(x - h)) / 2 h in 60 digits."""
    dy = np.arange(1, 13).reshape(2, 3, 2)

    def f(x):
        y = exp(x * 0.25) / (x * x + 1) - x
        y = (y @ y.transpose(0, 2, 1)[:, :, :2]) ** mpmath.mpf(2)
        return y + x.sum(1) + x.reshape(2, 2, 3).transpose(0, 2, 1)[:, [0, 0, 2]]

    with mpmath.workdps(60):
        x = np.array([mpmath.mpf(i) / 7 for i in range(-5, 7)]).reshape(2, 3, 2)
        start = Traced(x)
        found = gradients(f(start), dy, {"x": start})["dx"]
        h = mpmath.mpf(10) ** -20
        for at in np.ndindex(x.shape):
            step = np.zeros(x.shape, dtype=object)
            step[at] = h
            up, down = ((f(Traced(x + s)).value * dy).sum() for s in (step, -step))
            assert abs((up - down) / (2 * h) - found[at]) < mpmath.mpf(10) ** -36, at


def test_inputs_are_small_and_cases_many():
    files = load(FUNCTIONS)
    assert sum(len(function.cases) for function in files) >= 120
    assert sum((FOLDER / f"{name}.json").stat().st_size for name in FUNCTIONS) < 1_000_000
