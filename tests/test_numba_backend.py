"""What only the Numba backend promises: the same bits on any number of threads, on any processor's
vector width the same numbers, and no kernel that sees an array of another shape."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from backends import BackendError, get_backend

try:
    BACKEND = get_backend("numba")
except BackendError as error:
    pytest.skip(str(error), allow_module_level=True)

ROOT = Path(__file__).parents[1]

TRAIN = """
import hashlib, sys
import numpy as np
import ddpm_np as ddpm
from backends import get_backend
from ddpm_np.runs.evaluation import predictor
from ddpm_np.nn import (
    Adam, ConvDenoiser, MLPDenoiser, constant_rate, loss_and_gradient, mlp_loss_and_gradient
)
from ddpm_np.runs.batches import batches
from ddpm_np.training import Recipe, init_state, train

ops = get_backend("numba").ops
rng = np.random.default_rng(0)
for denoiser, shape, steps, batch, how in (
    (MLPDenoiser(2, 50, 32, 2, 8), (2,), 500, 300, mlp_loss_and_gradient),
    (MLPDenoiser(2, 50, 128, 3, 64), (2,), 20, 1000, mlp_loss_and_gradient),
    (MLPDenoiser(2, 50, 32, 2, 8), (2,), 50, 1000, loss_and_gradient),
    (ConvDenoiser(1, 50, 16, blocks=1, groups=4), (8, 8, 1), 5, 70, loss_and_gradient),
):
    schedule, adam = ddpm.scaled_linear_schedule(50), Adam(constant_rate(1e-3))
    recipe = Recipe(schedule, denoiser, adam, loss_and_gradient=how)
    data = rng.standard_normal((1000, *shape)).astype("float32")
    state = init_state(recipe, 0, lambda a: a.astype("float32"))
    state = train(recipe, state, batches(data, 50, batch, 0), ops, steps=steps)
    y = predictor(recipe, state.average, ops)(data[:700], 7)
    print(hashlib.sha256(state.params.tobytes() + state.average.tobytes() + y.tobytes()).hexdigest())
"""

COMPARE = """
import numpy as np
from backends import numba_products, numba_tiles
from backends.numba_backend import conv2d, conv2d_backward
from backends.numba_backend import residual_mlp, residual_mlp_backward, residual_mlp_loss
from ddpm_np.nn import ops
from ddpm_np.nn.ops import MLPParams

assert numba_tiles.LANES == LANES, numba_tiles.LANES
rng = np.random.default_rng(0)

def draw(*shape):
    return rng.standard_normal(shape).astype("float32")

def near(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == np.float32
        # sums of at most 800 products; a slip in a stride is off by about 1
        np.testing.assert_allclose(a, b, rtol=0.0, atol=1e-5 * np.max(np.abs(b)))

for rows in (0, 1, 3, 4, 15, 16, 33, 70):
    for columns in (1, 4, 17, 32, 100):
        a, turned = draw(rows, columns), np.full((columns, rows), np.nan, np.float32)
        numba_products.transpose(a, turned)
        np.testing.assert_array_equal(turned, a.T)
for rows, n in ((1, 5), (37, 70), (150, 33)):
    hidden = 0.1 * draw(2, n, n), draw(2, n)
    params = MLPParams(draw(2, n), draw(6, n), draw(n), *hidden, draw(n, 3), draw(3))
    wide = MLPParams(*(leaf.astype("float64") for leaf in params))
    x, e, dy = draw(rows, 2), draw(rows, 6), draw(rows, 3)
    (y, cache), (z, more) = residual_mlp(x, e, params), ops.residual_mlp(x, e, wide)
    near([y], [z])
    dx, grads = residual_mlp_backward(dy, cache, params)
    dz, wider = ops.residual_mlp_backward(dy, more, wide)
    near([dx, *grads], [dz, *wider])
    truth = draw(rows, 3)
    loss, gradient = residual_mlp_loss(x, e, params, truth, 0.5)
    wide_arguments = [a.astype("float64") for a in (x, e)], wide, truth.astype("float64"), 0.5
    near([loss, gradient], ops.residual_mlp_loss(*wide_arguments[0], *wide_arguments[1:]))
for shape, k, m, stride in (
    ((2, 6, 4, 32), 3, 16, 1), ((3, 16, 16, 16), 3, 32, 1),
    ((2, 5, 7, 3), 3, 17, 2), ((1, 3, 3, 16), 1, 2, 1),
):
    x, weight, bias = draw(*shape), draw(k, k, shape[3], m), draw(m)
    wide = [a.astype("float64") for a in (x, weight, bias)]
    near([conv2d(x, weight, bias, stride)], [expected := ops.conv2d(*wide, stride)])
    dy = draw(*expected.shape)
    expected = ops.conv2d_backward(dy.astype("float64"), *wide[:2], stride)
    near(conv2d_backward(dy, x, weight, stride), expected)
"""


def python(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_number_of_threads_changes_no_bit():
    one, two, three = (python(TRAIN, NUMBA_NUM_THREADS=n) for n in "123")
    assert one == two == three
    assert len(set(one.split())) == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processor", "features", "lanes"),
    [("haswell", "+avx,+avx2,+fma,+sse2,+sse4.2", 8), ("x86-64", "+sse2", 4)],
)
def test_narrower_processors_give_the_same_numbers(tmp_path, processor, features, lanes):
    """Compiled for a processor with narrower registers than this one may have."""
    import platform

    import llvmlite.binding

    here = llvmlite.binding.get_host_cpu_features()
    needed = [feature.lstrip("+") for feature in features.split(",")]
    if platform.machine() not in ("x86_64", "AMD64") or not all(here.get(name) for name in needed):
        pytest.skip(f"this processor has no {features}")
    python(
        COMPARE.replace("LANES, numba", f"{lanes}, numba"),
        NUMBA_CPU_NAME=processor,
        NUMBA_CPU_FEATURES=features,
        NUMBA_CACHE_DIR=str(tmp_path),
    )


def test_parts_cover_the_batch_and_do_not_depend_on_threads():
    for size in (1, 2, 63, 64, 65, 127, 128, 129, 255, 511, 512, 513, 4096, 10_001):
        for pixels in (1, 16, 64, 784, 100_000):
            parts = list(BACKEND.ops.in_parts(lambda part: part, size, pixels))
            assert [i for part in parts for i in range(size)[part]] == list(range(size))
            rows = max(part.stop - part.start for part in parts) * pixels
            assert rows <= max(1024, pixels)


def test_an_error_in_a_part_is_the_callers():
    def fail(part):
        raise ValueError(f"part {part.start}")

    # Whichever came first: after it no other part is begun.
    with pytest.raises(ValueError, match=r"^part (0|500)$"):
        list(BACKEND.ops.in_parts(fail, 1000))
    with pytest.raises(ValueError, match="part 512"):
        list(BACKEND.ops.in_parts(lambda part: part.start and fail(part), 1024))


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_after_an_error_no_part_is_begun(error):
    """Which may happen in the caller's thread or another."""
    code = f"""
import threading, time
from backends import get_backend
main, begun = threading.get_ident(), []

def fail(part):
    begun.append(part)
    time.sleep(0.05)
    if threading.get_ident() == main:
        raise {error.__name__}

try:
    list(get_backend("numba").ops.in_parts(fail, 512 * 100))
except {error.__name__}:
    time.sleep(0.5)
    print(len(begun))
"""
    assert int(python(code, NUMBA_NUM_THREADS="2")) <= 4


def test_threads_survive_a_fork():
    """A child has none of its parent's threads, and makes its own."""
    code = """
import os, threading, time, warnings
from backends import get_backend
warnings.simplefilter("ignore")
ops = get_backend("numba").ops

def slow(part):
    time.sleep(0.1)  # so that every thread gets its share
    return threading.get_ident(), part.stop - part.start

def works():
    threads, rows = zip(*ops.in_parts(slow, 5000))
    return len(set(threads)) == 2 and sum(rows) == 5000

assert works()
child = os.fork()
if child == 0:
    os._exit(0 if works() else 1)
assert os.waitpid(child, 0)[1] == 0
"""
    if not hasattr(os, "fork"):
        pytest.skip("this system has no fork")
    python(code, NUMBA_NUM_THREADS="2")


def zeros(*shape):
    return np.zeros(shape, np.float32)


IMAGES, KERNEL = zeros(2, 4, 4, 3), zeros(3, 3, 3, 5)


@pytest.mark.parametrize(
    ("op", "arguments", "named"),
    [
        ("linear", (zeros(2, 3), zeros(4, 5), zeros(5)), "x"),
        ("linear", (zeros(2, 4), zeros(4, 5), zeros(4)), "bias"),
        ("linear_backward", (zeros(3, 5), zeros(2, 4), zeros(4, 5)), "dy"),
        ("conv2d", (IMAGES, KERNEL[:, :, :2], zeros(5), 1), "weight"),
        ("conv2d", (IMAGES, KERNEL, zeros(4), 1), "bias"),
        ("conv2d_backward", (zeros(2, 4, 4, 5), IMAGES, KERNEL, 2), "dy"),
        ("group_norm", (IMAGES, zeros(2, 4), zeros(2, 3), 1, 1e-5), "gain"),
    ],
)
def test_kernels_refuse_other_shapes(op, arguments, named):
    """They check no bounds themselves."""
    with pytest.raises(ValueError, match=f"{named} must have shape"):
        getattr(BACKEND.ops, op)(*arguments)


def test_a_cache_whose_groups_do_not_divide_the_channels():
    cache = IMAGES, zeros(2, 2), zeros(2, 3)
    with pytest.raises(ValueError, match="groups must divide channels, 3, got 2"):
        BACKEND.ops.group_norm_backward(IMAGES, cache)


def test_parts_see_what_the_caller_set_for_floating_point_errors():
    """Threads start without it: a run that looks for infinity itself would warn of it all the same."""
    with np.errstate(over="ignore", invalid="raise"):
        expected = np.geterr()
        found = list(BACKEND.ops.in_parts(lambda part: np.geterr(), 5000))
    assert len(found) > 1
    assert all(one == expected for one in found)
