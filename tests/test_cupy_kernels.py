"""The CuPy backend without a GPU: its sources compiled by NVRTC, and run on the CPU.

Nothing here runs on a GPU; cuda_on_cpu says what that leaves open.
"""

import contextlib
import importlib
import inspect
import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from backends import BackendError, get_backend
from ddpm_np import scaled_linear_schedule
from ddpm_np.nn import Adam, ConvDenoiser, MLPDenoiser, UNet, constant_rate
from ddpm_np.nn import ops as generic
from ddpm_np.nn.ops import GENERIC
from ddpm_np.randomness import generator
from ddpm_np.runs.checkpoint import read_archive
from ddpm_np.training import Recipe, init_state, train_step
from tests import cuda_on_cpu, test_backends
from tests.kernels import KERNELS, call, example

try:
    from backends import cupy_backend, cupy_kernels, cupy_launch
except BackendError as error:
    pytest.skip(str(error), allow_module_level=True)

PAGES = sorted(Path(cupy_backend.__file__).parent.glob("cupy_*.py"))
MODULES = [importlib.import_module(f"backends.{path.stem}") for path in PAGES]
OPS = [op for op in KERNELS if hasattr(cupy_backend, test_backends.operation(op))]
needs_a_compiler = pytest.mark.skipif(not cuda_on_cpu.COMPILER, reason="no C++ compiler on Linux")


@contextlib.contextmanager
def on_the_cpu(cupy=cuda_on_cpu.CUPY, source=cupy_kernels.SOURCE):
    """The CuPy backend as it is, but with another CuPy, and kernels that run on the CPU."""
    caches = cupy_launch._function, cupy_launch._module
    with pytest.MonkeyPatch.context() as patch:
        for module in MODULES:
            if hasattr(module, "cupy"):
                patch.setattr(module, "cupy", cupy)
        patch.setattr(cupy_launch, "SOURCE", source)
        try:
            for cache in caches:
                cache.cache_clear()
            yield cupy_backend.make()
        finally:
            for cache in caches:
                cache.cache_clear()


@pytest.fixture
def backend():
    with on_the_cpu() as backend:
        yield backend
    cuda_on_cpu.check_margins()


# --- the sources compile ------------------------------------------------------------------


CUPY_FLAGS = ("--std=c++17", "-ftz=true")
"""What CuPy adds: its standard of C++, and subnormal numbers of float become 0."""


def compile_cuda(source, real, flags=CUPY_FLAGS):
    """PTX of a source by NVRTC, which needs no GPU."""
    nvrtc = pytest.importorskip("cupy_backends.cuda.libs.nvrtc", reason="CuPy is not installed")
    try:
        nvrtc.getVersion()
    except Exception as error:  # CuPy loads the library late, and its errors have many types
        pytest.skip(f"NVRTC is not installed: {error}")
    program = nvrtc.createProgram(source, "kernels.cu", (), ())
    try:
        defined = f"-DREAL={real}", f"-DBLOCK={cupy_kernels.BLOCK}"
        nvrtc.compileProgram(program, (*defined, *flags))
        ptx = nvrtc.getPTX(program)
        return ptx.decode() if isinstance(ptx, bytes) else ptx
    finally:
        nvrtc.destroyProgram(program)


@pytest.mark.parametrize("flags", [CUPY_FLAGS, ("--std=c++14",)], ids=" ".join)
@pytest.mark.parametrize("real", ["float", "double"])
def test_cuda_kernels_compile(real, flags):
    ptx = compile_cuda(cupy_kernels.SOURCE, real, flags)
    code = "".join(inspect.getsource(module) for module in MODULES)
    launched = set(re.findall(r'launch(?:_each)?\(\s*"(\w+)"', code))
    assert launched == set(cupy_launch.SIGNATURES)
    assert len(launched) == 12
    assert launched == set(re.findall(r"\.visible \.entry (\w+)\(", ptx))
    # In float, nothing silently computes in double; and nothing depends on the order of threads.
    assert (".f64" in ptx) == (real == "double")
    assert not re.search(r"\b(atom|red)\.", ptx)


@pytest.mark.parametrize(
    "flaw", [("REAL gate = REAL(1)", "REAL gate = REEL(1)"), ("exp(-x)", "exp(-slope)")]
)
def test_the_gate_fails_a_broken_source(flaw):
    assert flaw[0] in cupy_kernels.SOURCE
    with pytest.raises(Exception, match="COMPILATION") as caught:
        compile_cuda(cupy_kernels.SOURCE.replace(*flaw), "float")
    assert type(caught.value).__name__ == "NVRTCError"


# --- the operations, run on the CPU -------------------------------------------------------


@needs_a_compiler
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("op", OPS)
@given(data=st.data())
def test_kernels_are_their_definitions(op, dtype, data):
    """Arguments as the sources declare them, bounds, and results, from subnormal to huge numbers."""
    with on_the_cpu() as backend, pytest.MonkeyPatch.context() as patch:
        patch.setattr(test_backends, "running", lambda name: backend)
        test_backends.test_kernels_are_their_definitions.hypothesis.inner_test("cupy", op, dtype, data)
    cuda_on_cpu.check_margins()


@needs_a_compiler
@pytest.mark.parametrize("op", OPS)
def test_kernels_hand_on_nan(backend, dtype, op):
    test_backends.test_kernels_hand_on_nan(backend, dtype, op)


@needs_a_compiler
def test_kernels_at_the_ends_of_the_range(backend, dtype):
    test_backends.test_kernels_at_the_ends_of_the_range(backend, dtype)


@needs_a_compiler
def test_kernels_keep_odd_shapes_and_leave_their_input(backend):
    test_backends.test_kernels_keep_odd_shapes_and_leave_their_input(backend)


@needs_a_compiler
@pytest.mark.parametrize("op", OPS)
def test_kernels_refuse_arrays_that_do_not_agree(backend, op):
    test_backends.test_kernels_refuse_arrays_that_do_not_agree(backend, op)


@needs_a_compiler
@pytest.mark.parametrize("op", ["squared_error of rows"])
def test_a_weight_has_the_axes_of_what_it_weighs(backend, op):
    test_backends.test_a_weight_has_the_axes_of_what_it_weighs(backend, op)


@needs_a_compiler
@pytest.mark.parametrize("groups", [0, -1, 2, 4])
def test_groups_divide_the_channels(backend, groups):
    test_backends.test_groups_divide_the_channels(backend, groups)


@needs_a_compiler
@pytest.mark.parametrize("foreign", test_backends.EACH_FOREIGN)
def test_kernels_refuse_foreign_arrays(foreign):
    """By the argument's name; here NumPy's arrays are CuPy's."""
    value = test_backends.FOREIGN[foreign]()
    with on_the_cpu(cuda_on_cpu.PLAIN) as backend:
        for op in OPS:
            arrays = example(op)
            call(op, backend.ops, arrays)
            for argument in arrays:
                if foreign == "number" and argument == "weight" and op.endswith("rows"):
                    continue  # one weight for all
                with pytest.raises(TypeError, match=f"^{argument} must be a CuPy array .* got "):
                    call(op, backend.ops, arrays | {argument: value})


@needs_a_compiler
def test_kernels_refuse_arrays_of_another_gpu(backend, monkeypatch):
    (x,) = random(backend, "float32", (2, 3))
    elsewhere = random(backend, "float32", (2, 3))[0]
    elsewhere.device = 1
    with pytest.raises(ValueError, match=r"^value must be on the current GPU, cpu, got 1"):
        backend.ops.ema(x, elsewhere, 0.5)


def random(backend, dtype, *shapes):
    rng = np.random.default_rng(0)
    return [backend.asarray(rng.standard_normal(shape), dtype) for shape in shapes]


# A block has 256 threads: groups with fewer channels, more, and a number that does not divide it.
GROUPS = [(1, 1, 1), (300, 1, 2), (5, 300, 1), (3, 100, 2), (70, 3, 2), (2, 513, 1), (64, 8, 4)]


@needs_a_compiler
@pytest.mark.parametrize(("pixels", "members", "groups"), GROUPS)
def test_group_norm_of_any_size(backend, pixels, members, groups):
    n, call = members * groups, (groups, 1e-5)
    x, gain, shift, dy = random(backend, "float64", (2, pixels, n), (2, n), (2, n), (2, pixels, n))
    y, cache = backend.ops.group_norm(x, gain, shift, *call)
    host = [np.asarray(a) for a in (x, gain, shift, dy)]
    expected, expected_cache = GENERIC.group_norm(*host[:3], *call)
    np.testing.assert_allclose(np.asarray(y), expected, rtol=1e-11, atol=1e-11)
    found = backend.ops.group_norm_backward(dy, cache)
    for a, b in zip(found, GENERIC.group_norm_backward(host[3], expected_cache), strict=True):
        np.testing.assert_allclose(np.asarray(a), b, rtol=1e-10, atol=1e-10)


@needs_a_compiler
@pytest.mark.parametrize("size", [1, 255, 257, 256**2 - 1, 256**2 + 1, 200_003])
def test_squared_error_of_any_size(backend, size):
    """More numbers than threads of one launch, and partial sums in every number."""
    prediction, truth = random(backend, "float64", size, (size,))
    found = backend.ops.squared_error(prediction, truth, 0.3)
    expected = generic.squared_error(np.asarray(prediction), np.asarray(truth), 0.3)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.asarray(a), b, rtol=1e-12, atol=1e-300)
    assert found[0].shape == ()


@needs_a_compiler
def test_scalars_of_any_type(backend, dtype):
    """Python's and NumPy's numbers arrive as what the kernels take; Kernel checks the types."""
    x, y = random(backend, dtype, (3, 2), (3, 2))
    for one, zero, half in ((1, 0, 0.5), (np.float64(1), np.float64(0), np.float32(0.5))):
        if isinstance(one, float | int):
            backend.ops.squared_error(x, y, one)
        backend.ops.ema(x, y, half)
        backend.ops.adam(x, y, x, y * y, half, zero, half, one, zero, 1)
    backend.ops.group_norm(x, x, y, np.int64(2), np.float64(1e-5))


@needs_a_compiler
def test_empty_arrays_are_not_launched(backend, monkeypatch):
    """CUDA refuses a grid of no blocks."""
    monkeypatch.setattr(cuda_on_cpu.Kernel, "__call__", None)
    x, bias = random(backend, "float32", (0, 2), (2,))
    params = random(backend, "float32", (2, 3), (4, 3), 3, (1, 3, 3), (1, 3), (3, 2), 2)
    embedding = random(backend, "float32", (0, 4))[0]
    backend.ops.silu(x)
    y, cache = backend.ops.residual_mlp(x, embedding, generic.MLPParams(*params))
    _, grads = backend.ops.residual_mlp_backward(y, cache, generic.MLPParams(*params))
    assert all(np.all(np.asarray(leaf) == 0.0) for leaf in grads)
    backend.ops.group_norm(x, x, x, 1, 1e-5)
    images, weight = random(backend, "float32", (0, 4, 4, 2), (3, 3, 2, 2))
    assert backend.ops.conv2d(images, weight, bias, 2).shape == (0, 2, 2, 2)


@needs_a_compiler
@pytest.mark.parametrize("depth", range(5))
def test_a_prediction_without_a_cache_is_the_same(backend, depth):
    shapes = ((2, 3), (4, 3), 3, (depth, 3, 3), (depth, 3), (3, 2), 2)
    x, embedding, *leaves = random(backend, "float32", (7, 2), (7, 4), *shapes)
    params = generic.MLPParams(*leaves)
    y, _ = backend.ops.residual_mlp(x, embedding, params)
    alone, cache = backend.ops.residual_mlp(x, embedding, params, keep=False)
    np.testing.assert_array_equal(np.asarray(alone), np.asarray(y))
    assert cache is None


def test_arguments_are_counted():
    with on_the_cpu(), pytest.raises(ValueError, match="zip"):
        cupy_launch.launch("mean", 1, np.dtype("float32"), 1, 2, 3)


# --- sums in a fixed order ----------------------------------------------------------------


def sums(backend, order):
    """Everything that is made from sums over the threads of a block, as bytes."""
    cuda_on_cpu.Kernel.order = order
    try:
        x, dy, gain, shift = random(backend, "float32", (2, 9, 100), (2, 9, 100), (2, 100), (2, 100))
        more = random(backend, "float32", (1, 3, 600), (1, 3, 600), (1, 600), (1, 600))
        found = [*backend.ops.squared_error(x, dy, 1.0)]
        for x, dy, gain, shift in ((x, dy, gain, shift), more):  # noqa: B020
            y, cache = backend.ops.group_norm(x, gain, shift, 2, 1e-5)
            found += [y, *cache, *backend.ops.group_norm_backward(dy, cache)]
        return [np.asarray(a).tobytes() for a in found]
    finally:
        cuda_on_cpu.Kernel.order = cuda_on_cpu.ASCENDING


@needs_a_compiler
def test_results_do_not_depend_on_the_order_of_threads():
    with on_the_cpu() as backend:
        first, *others = (sums(backend, order) for order in range(5))
    assert all(other == first for other in others)


BARRIERS = len(re.findall(r"__syncthreads\(\);", cupy_kernels.SOURCE))


@needs_a_compiler
@pytest.mark.parametrize("missing", range(BARRIERS))
def test_a_missing_barrier_is_noticed(missing):
    at = [match.span() for match in re.finditer(r"__syncthreads\(\);", cupy_kernels.SOURCE)][missing]
    source = cupy_kernels.SOURCE[: at[0]] + cupy_kernels.SOURCE[at[1] :]
    with on_the_cpu(source=source) as backend:
        first, *others = (sums(backend, order) for order in range(5))
    assert any(other != first for other in others)


@needs_a_compiler
def test_a_barrier_that_not_all_threads_reach_is_noticed():
    source = cupy_kernels.SOURCE.replace(
        "part[threadIdx.x] = value;", "if (threadIdx.x == 7) return value;"
    )
    assert source != cupy_kernels.SOURCE
    with on_the_cpu(source=source) as backend, pytest.raises(AssertionError, match="barrier"):
        sums(backend, cuda_on_cpu.ASCENDING)


# --- whole steps of training --------------------------------------------------------------

NETWORKS = {
    "MLP": (MLPDenoiser(2, 50, 8, 2, 8), (2,)),
    "ConvDenoiser": (ConvDenoiser(1, 50, 8, 1, 4, 8, 2), (4, 4, 1)),
    "UNet": (UNet(1, 50, 8, 1, 2, 8, 2, (1, 2), 2), (4, 4, 1)),
}


@needs_a_compiler
@pytest.mark.parametrize("name", NETWORKS)
def test_training_steps_are_those_of_the_definitions(name):
    network, shape = NETWORKS[name]
    recipe = Recipe(scaled_linear_schedule(50), network, Adam(constant_rate(1e-2)), max_grad_norm=1.0)
    rng = np.random.default_rng(0)
    with on_the_cpu(cuda_on_cpu.PLAIN) as backend:
        states = [init_state(recipe, 0, np.asarray)] * 2
        for _ in range(3):
            x0, noise, t = *rng.standard_normal((2, 3, *shape)), np.array([1, 30, 50])
            labels = None if name == "MLP" else np.array([0, 1, 2])
            states = [
                train_step(recipe, state, x0, t, noise, ops, labels)
                for state, ops in zip(states, (backend.ops, GENERIC), strict=True)
            ]
    first, second = states
    assert not np.array_equal(first.params, init_state(recipe, 0, np.asarray).params)
    for a, b in ((first.params, second.params), (first.average, second.average)):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    assert float(first.loss_sum) == pytest.approx(float(second.loss_sum), rel=1e-12)


@needs_a_compiler
def test_backends_train_alike():
    with on_the_cpu(cuda_on_cpu.PLAIN) as backend:
        found = test_backends.losses(backend, "float64", 20)
    expected = test_backends.losses(get_backend("numpy"), "float64", 20)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


# --- noise from the GPU -------------------------------------------------------------------


def box_muller(words):
    """Of the words that NumPy's generator draws; the method in float64."""
    pairs = words[: len(words) // 2 * 2].reshape(-1, 2)
    radius = np.sqrt(-2.0 * np.log((pairs[:, 0] | np.uint64(1)).astype(float) / 2**64))
    angle = 2.0 * np.pi * (pairs[:, 1].astype(float) / 2**64)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)


KEYS = [(0, 1), (0, 1, 2, 3), (2**64 - 1, 2**63, 2**64 - 1, 2**64 - 1), (7, 3, 2**40)]


@needs_a_compiler
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 2), (5, 1, 7), (1031,)])
def test_noise_of_the_device_is_made_from_the_words_of_the_host(backend, dtype, key, shape):
    found = np.asarray(backend.device_normal(key, shape, dtype))
    assert found.shape == shape
    assert found.dtype == dtype
    size = math.prod(shape)
    expected = box_muller(generator(*key).bit_generator.random_raw(size + size % 2))[:size]
    tolerance = 2e-6 if dtype == "float32" else 1e-13
    np.testing.assert_allclose(np.reshape(found, -1), expected, rtol=tolerance, atol=tolerance)


@needs_a_compiler
def test_noise_of_the_device_is_standard_normal(backend, dtype):
    draws = [np.asarray(backend.device_normal((0, 1, step), (20_000,), dtype)) for step in range(3)]
    for draw in draws:
        assert scipy.stats.kstest(draw, "norm").pvalue > 0.01
        assert scipy.stats.kstest(draw[::2] * draw[1::2], scipy.stats.norm.cdf).pvalue < 0.01
    for a, b in itertools.combinations(draws, 2):
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.03
    assert abs(np.corrcoef(draws[0][::2], draws[0][1::2])[0, 1]) < 0.04


@needs_a_compiler
def test_the_noise_of_extreme_words_is_finite(dtype):
    """Without the rounds that mix them the third word is the key's part, and the fourth its step."""
    source = cupy_kernels.SOURCE.replace("round < 10", "round < 0")
    with on_the_cpu(source=source) as backend:
        for part, radius in ((0, math.sqrt(128.0 * math.log(2.0))), (2**64 - 1, 0.0)):
            draws = np.asarray(backend.device_normal((0, 1, 2**61, part), (4,), dtype))
            np.testing.assert_allclose(draws[2:], radius * math.sqrt(0.5), rtol=1e-6)


@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_the_cpu_has_no_other_device(name):
    test_backends.running(name)
    with pytest.raises(BackendError, match=f"^backend {name} draws noise on the host.*--noise host"):
        get_backend(name, "device")
    assert get_backend(name, "host").normal((0, 1), (2,), "float32").shape == (2,)


@pytest.mark.parametrize("noise", ["gpu", "", None])
def test_unknown_noise(noise):
    with pytest.raises(ValueError, match=r"^noise must be one of 'host', 'device', got"):
        get_backend("numpy", noise)


@needs_a_compiler
def test_a_backend_with_a_device_draws_there(monkeypatch):
    with on_the_cpu() as backend:
        monkeypatch.setattr("backends.base._choose", lambda name: backend)
        host, device = get_backend("cupy"), get_backend("cupy", "device")
        assert host.normal is backend.normal
        assert device.normal is backend.device_normal
        assert device.ops is backend.ops


@needs_a_compiler
def test_a_run_with_noise_of_the_device(tmp_path, monkeypatch, capsys):
    """It trains, is a pure function of its seed, and does not go on with other noise."""
    swiss_roll = importlib.import_module("swiss_roll")
    tiny = ["--no-plots", "--batch-size=4", "--hidden-size=4", "--hidden-layers=1", "--samples=5"]
    tiny += ["--timesteps=25", "--steps=3", "--checkpoint-every=3"]

    def run(folder, *more):
        return swiss_roll.main([*tiny, f"--out-dir={tmp_path / folder}", *more])

    with on_the_cpu(cuda_on_cpu.PLAIN) as backend:
        monkeypatch.setattr("backends.base._choose", lambda name: backend)
        for folder, noise in (("a", "device"), ("b", "device"), ("c", "host")):
            assert run(folder, "--noise", noise) == 0
        a, b, c = (read_archive(tmp_path / name / "checkpoint.npz")[0] for name in "abc")
        assert all(np.array_equal(a[name], b[name]) for name in a)
        assert not np.array_equal(a["params/weight"], c["params/weight"])
        assert not np.array_equal(a["loss_sum"], c["loss_sum"])
        capsys.readouterr()
        assert run("a", "--resume", "--noise", "host") == 2
        assert "noise was 'device' and is now 'host'" in capsys.readouterr().err
        assert run("a", "--resume", "--noise", "device") == 0
