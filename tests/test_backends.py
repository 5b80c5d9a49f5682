"""Backends: fused kernels against their definitions, what they refuse, and how one is chosen."""

import importlib
import inspect
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends import BackendError, describe_backend, get_backend
from ddpm_np import scaled_linear_schedule
from ddpm_np.data import swiss_roll
from ddpm_np.nn import Adam, MLPDenoiser, constant_rate
from ddpm_np.nn import ops as generic
from ddpm_np.nn.ops import Ops
from ddpm_np.training import Recipe, draw_batch, init_state, train
from tests.gradients import check_gradients, randomised

FUSED = ("numba", "cupy")
NAMES = tuple(Ops.__dataclass_fields__)


def running(name):
    """A backend, or the reason why it does not run as the reason for skipping."""
    try:
        return get_backend(name)
    except BackendError as error:
        pytest.skip(str(error))


def module_of(name):
    """A backend's module: the functions in it can be called with arguments to be refused."""
    try:
        return importlib.import_module(f"backends.{name}_backend")
    except BackendError as error:
        pytest.skip(str(error))


@pytest.fixture(params=FUSED)
def backend(request):
    return running(request.param)


def run_python(code):
    """Run code in a fresh interpreter at the project's root, and return what it printed."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


# --- kernels against their definitions
#
# A kernel may contract a product and a sum into one rounding and may use another exponential,
# so it agrees with its definition to some roundings of the largest terms that were added: that
# sum of absolute values is the ``scale`` below. 4 eps = 8 roundings: the exponential, good to
# 2 ulp, is 4 of them, three operations follow, and one is the reference's own.


def arguments(backend, dtype, shape, seed, magnitude):
    """Arrays of one shape on the host, and on the backend in some memory layout."""
    rng = np.random.default_rng(seed)
    layouts = (
        lambda a: a,
        lambda a: a.T.copy().T,
        lambda a: np.repeat(a, 2, axis=0)[::2],
        lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
    )
    while True:
        host = (magnitude * rng.standard_normal(shape)).astype(dtype)
        moved = layouts[seed % 4](backend.asarray(host, dtype))
        np.testing.assert_array_equal(backend.to_numpy(moved), host)
        yield host, moved


def assert_near(backend, found, expected, scale, dtype):
    found = backend.to_numpy(found)
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype == dtype
    info = np.finfo(dtype)
    bound = 4 * info.eps * scale.astype(np.float64) + 4 * float(info.smallest_subnormal)
    assert np.all(np.abs(found.astype(np.float64) - expected.astype(np.float64)) <= bound)


kernels = given(
    shape=st.tuples(st.integers(0, 9), st.integers(1, 9)),
    seed=st.integers(0, 10_000),
    magnitude=st.sampled_from([1e-20, 0.1, 1.0, 30.0]),
    dtype=st.sampled_from(["float32", "float64"]),
)


@pytest.mark.parametrize("name", FUSED)
@kernels
def test_silu_kernels(name, shape, seed, magnitude, dtype):
    backend = running(name)
    more = arguments(backend, dtype, shape, seed, magnitude)
    x, x_moved = next(more)
    # the exact result: the definition in float64, where that is the higher precision
    y, gate = (a.astype(dtype) for a in generic.silu(x.astype(np.float64)))
    y_found, gate_found = backend.ops.silu(x_moved)
    assert_near(backend, gate_found, gate, gate, dtype)
    assert_near(backend, y_found, y, np.abs(y), dtype)

    dy, dy_moved = next(more)
    dx = generic.silu_backward(dy, y, gate)
    dx_found = backend.ops.silu_backward(
        dy_moved, backend.asarray(y, dtype), backend.asarray(gate, dtype)
    )
    assert_near(backend, dx_found, dx, np.abs(dy) * (gate + np.abs(y)), dtype)


@pytest.mark.parametrize("name", FUSED)
@kernels
def test_ema_kernels(name, shape, seed, magnitude, dtype):
    backend = running(name)
    more = arguments(backend, dtype, shape, seed, magnitude)
    (average, average_moved), (value, value_moved) = next(more), next(more)
    found = backend.ops.ema(average_moved, value_moved, 0.9)
    scale = np.abs(average) + np.abs(value)
    assert_near(backend, found, generic.ema(average, value, 0.9), scale, dtype)


@pytest.mark.parametrize("name", FUSED)
@kernels
def test_adam_kernels(name, shape, seed, magnitude, dtype):
    backend = running(name)
    more = arguments(backend, dtype, shape, seed, magnitude)
    (param, p), (grad, g), (m, m_moved), (v, _) = (next(more) for _ in range(4))
    v = v * v
    settings = (0.1, 0.9, 0.999, 1e-8, 0.1, 1 + seed)
    found = backend.ops.adam(p, g, m_moved, backend.asarray(v, dtype), *settings)
    expected = generic.adam(param, grad, m, v, *settings)
    size = np.sqrt(expected[2]) * (1.0 - 0.999 ** (1 + seed)) ** -0.5 + 1e-8
    running_mean = np.abs(0.9 * m) + np.abs(0.1 * grad)
    step = 0.1 / (1.0 - 0.9 ** (1 + seed)) * running_mean / size
    scales = (np.abs(param) + 2.0 * step, running_mean, expected[2])  # the root is in both steps
    for a, b, scale in zip(found, expected, scales, strict=True):
        assert_near(backend, a, b, scale, dtype)


@pytest.mark.parametrize("name", FUSED)
@pytest.mark.parametrize("weight", ["number", "rows"])
@kernels
def test_squared_error_kernels(name, weight, shape, seed, magnitude, dtype):
    backend = running(name)
    shape = (shape[0] + 1, shape[1])  # there is no mean of nothing
    more = arguments(backend, dtype, shape, seed, magnitude)
    (prediction, p), (truth, q) = next(more), next(more)
    rows = np.random.default_rng(seed).uniform(0.1, 2.0, (shape[0], 1)).astype(dtype)
    w, w_moved = (0.7, 0.7) if weight == "number" else (rows, backend.asarray(rows, dtype))
    loss, dprediction = backend.ops.squared_error(p, q, w_moved)
    exact, _ = generic.squared_error(prediction.astype(np.float64), truth.astype(np.float64), w)
    # up to 90 squares added in sequence
    loss = backend.to_numpy(loss)
    assert loss.dtype == dtype
    assert loss.shape == ()
    assert loss == pytest.approx(exact, rel=100 * float(np.finfo(dtype).eps), abs=1e-44)
    expected = generic.squared_error(prediction, truth, w)[1]
    assert_near(backend, dprediction, expected, np.abs(expected), dtype)


def test_kernels_at_the_ends_of_the_range(backend, dtype):
    """Huge and subnormal numbers, 0, infinity: like the definition, and without a warning."""
    info = np.finfo(dtype)
    values = [
        0.0,
        info.smallest_subnormal,
        info.tiny,
        1e-7,
        60.0,
        87.5,
        88.5,
        104.0,
        800.0,
        1e30,
        info.max,
    ]
    x = np.array([s * float(v) for v in values for s in (1.0, -1.0)]).astype(dtype)
    y, gate = generic.silu(x)
    y_found, gate_found = (backend.to_numpy(a) for a in backend.ops.silu(backend.asarray(x, dtype)))
    # Beside a few roundings: a gate below tiny may be lost, and 1000 times it in y.
    np.testing.assert_allclose(gate_found, gate, rtol=4 * info.eps, atol=float(info.tiny))
    np.testing.assert_allclose(y_found, y, rtol=4 * info.eps, atol=1e3 * float(info.tiny))
    dx = generic.silu_backward(np.ones_like(x), y, gate)
    ones = backend.asarray(np.ones_like(x), dtype)
    found = backend.ops.silu_backward(ones, *(backend.asarray(a, dtype) for a in (y, gate)))
    # 1 - gate is off by eps / 2 times |y| <= 60 before the gate is 1
    np.testing.assert_allclose(backend.to_numpy(found), dx, rtol=4 * info.eps, atol=60 * info.eps)

    arrays = [x, x[::-1].copy(), np.abs(x)]
    with np.errstate(all="ignore"):  # the square of the largest number is infinite
        expected = generic.adam(arrays[0], arrays[1], 0 * x, arrays[2], 1e-3, 0.9, 0.999, 1e-8, 0.0, 1)
    moved = [backend.asarray(a, dtype) for a in (arrays[0], arrays[1], 0 * x, arrays[2])]
    for a, b in zip(backend.ops.adam(*moved, 1e-3, 0.9, 0.999, 1e-8, 0.0, 1), expected, strict=True):
        np.testing.assert_allclose(backend.to_numpy(a), b, rtol=8 * info.eps, atol=float(info.tiny))


def test_exponential_is_good_everywhere(backend):
    """2 ulp of the exponential and two roundings, 3 eps, at a quarter of a million points."""
    x = np.linspace(-87.0, 88.0, 1 << 18, dtype=np.float32)
    y, gate = (backend.to_numpy(a) for a in backend.ops.silu(backend.asarray(x, "float32")))
    exact = 1.0 / (1.0 + np.exp(-x.astype(np.float64)))
    eps = float(np.finfo(np.float32).eps)
    assert np.max(np.abs(gate - exact) / exact) < 3 * eps
    assert np.max(np.abs(y - x * exact) / np.abs(x * exact)) < 3.5 * eps  # one rounding more


def test_kernels_hand_on_nan(backend, dtype):
    nan, one = (backend.asarray(np.full(3, v), dtype) for v in (np.nan, 1.0))
    results = {
        "silu": backend.ops.silu(nan)[:1],
        "silu_backward": [backend.ops.silu_backward(nan, one, one)],
        "adam": backend.ops.adam(one, nan, one, one, 0.1, 0.9, 0.999, 1e-8, 0.0, 1),
        "ema": [backend.ops.ema(one, nan, 0.9)],
        "squared_error": backend.ops.squared_error(nan, one, 1.0),
    }
    for name, arrays in results.items():
        for array in arrays:
            assert np.all(np.isnan(backend.to_numpy(array))), name


def test_kernels_keep_odd_shapes_and_leave_their_input(backend):
    for shape in ((1,), (0,), (2, 0), (2, 3, 4)):
        host = np.random.default_rng(0).standard_normal(shape)
        x = backend.asarray(host, "float64")
        y, gate = backend.ops.silu(x)
        others = [backend.ops.silu_backward(x, y, gate), backend.ops.ema(x, y, 0.5)]
        others += backend.ops.adam(x, x, x, gate, 0.1, 0.9, 0.999, 1e-8, 0.0, 1)
        assert {a.shape for a in (x, y, gate, *others)} == {shape}
        np.testing.assert_array_equal(backend.to_numpy(x), host)


def test_numba_takes_read_only_arrays():
    backend = running("numba")
    x = np.array([1.0, -2.0], dtype=np.float32)
    y, _ = backend.ops.silu(x)
    x.flags.writeable = False
    np.testing.assert_array_equal(backend.ops.silu(x)[0], y)


# --- signatures, and what kernels refuse


def test_ops_stay_few():
    assert len(NAMES) <= 12


@pytest.mark.parametrize("name", ["numpy", *FUSED])
def test_kernels_have_the_signatures_of_the_definitions(name):
    module = module_of(name)
    kernels = {op: getattr(module, op) for op in NAMES if hasattr(module, op)}
    assert name == "numpy" or {"silu", "silu_backward", "adam", "ema"} <= set(kernels)
    for op, kernel in kernels.items():
        expected = inspect.signature(getattr(generic, op)).parameters
        assert list(inspect.signature(kernel).parameters) == list(expected), op


def test_a_backend_brings_its_kernels(backend):
    module = module_of(backend.name)
    for op in NAMES:
        assert getattr(backend.ops, op) is getattr(module, op, getattr(generic, op)), op


KERNEL_ARRAYS = {
    "silu": ("x",),
    "silu_backward": ("dy", "y", "gate"),
    "squared_error": ("prediction", "truth"),
    "adam": ("param", "grad", "m", "v"),
    "ema": ("average", "value"),
}
REST = {"squared_error": (1.0,), "adam": (0.1, 0.9, 0.999, 1e-8, 0.0, 1), "ema": (0.9,)}
FOREIGN = {
    "list": lambda: [1.0, 2.0],
    "number": lambda: 1.0,
    "none": lambda: None,
    "integers": lambda: np.array([1, 2]),
    "float16": lambda: np.ones(2, np.float16),
    "complex": lambda: np.ones(2, np.complex128),
    "other_byte_order": lambda: np.ones(2, ">f8"),
    "masked": lambda: np.ma.ones(2),
    "strict": lambda: pytest.importorskip("array_api_strict").ones(2),
    "torch": lambda: pytest.importorskip("torch").ones(2, dtype=pytest.importorskip("torch").float64),
}


@pytest.mark.parametrize("name", FUSED)
@pytest.mark.parametrize("foreign", FOREIGN)
def test_kernels_refuse_foreign_arrays(name, foreign):
    """By the argument's name. CuPy's refusals need no GPU if the foreign array comes first."""
    module, value = module_of(name), FOREIGN[foreign]()
    for op, arrays in KERNEL_ARRAYS.items():
        for i, argument in enumerate(arrays):
            if not hasattr(module, op) or (name == "cupy" and i > 0):
                continue
            values = [np.ones(2)] * len(arrays)
            values[i] = value
            with pytest.raises(
                TypeError, match=f"^{argument} must be a .* array of float32 or float64, got"
            ):
                getattr(module, op)(*values, *REST.get(op, ()))


def test_numpy_arrays_are_foreign_to_cupy():
    with pytest.raises(TypeError, match=r"x must be a CuPy array .* got numpy array of shape \(2,\)"):
        module_of("cupy").silu(np.ones(2))


def test_kernels_refuse_arrays_that_do_not_agree(backend):
    for op, arrays in KERNEL_ARRAYS.items():
        if not hasattr(module_of(backend.name), op):
            continue
        for i, argument in enumerate(arrays[1:], start=1):
            for shape, dtype in (((3,), "float64"), ((2, 1), "float64"), ((2,), "float32")):
                values = [backend.asarray(np.ones(2), "float64")] * len(arrays)
                values[i] = backend.asarray(np.ones(shape), dtype)
                with pytest.raises(ValueError, match=f"^{argument} must have the shape"):
                    getattr(backend.ops, op)(*values, *REST.get(op, ()))


@pytest.mark.parametrize("weight", [[1.0, 2.0], None, np.ones((2, 1), int)])
def test_squared_error_refuses_foreign_weights(weight):
    numba = running("numba")
    with pytest.raises(TypeError, match=r"^weight must be"):
        numba.ops.squared_error(np.ones((2, 1)), np.ones((2, 1)), weight)


# --- gradients with fused kernels


def test_numba_silu_passes_the_gradient_check():
    numba = running("numba")
    x = 3.0 * np.random.default_rng(0).standard_normal((5, 4))
    check_gradients(
        lambda params, x, ops: (lambda y, gate: (y, (y, gate)))(*ops.silu(x)),
        lambda params, cache, dy, ops: (ops.silu_backward(dy, *cache), ()),
        (),
        x,
        ops=numba.ops,
    )


def test_numba_denoiser_passes_the_gradient_check():
    numba = running("numba")
    network, t = MLPDenoiser(2, 10, 5, 2, 4), np.array([1, 10, 4])
    params = randomised(network.init(np.random.default_rng(0)))
    x = np.random.default_rng(1).standard_normal((3, 2))
    check_gradients(
        lambda params, x, ops: network.forward(params, x, t, ops),
        network.backward,
        params,
        x,
        ops=numba.ops,
    )


def losses(backend, dtype, steps):
    schedule = scaled_linear_schedule(50)
    recipe = Recipe(schedule, MLPDenoiser(2, 50, 16, 2, 8), Adam(constant_rate(1e-3)), max_grad_norm=1.0)
    data, seen = swiss_roll(500, 0).astype(dtype), []

    def asarray(values):
        return backend.asarray(values, dtype)

    def draw(step):
        x0, t, noise = draw_batch(data, 50, 32, 0, step)
        return asarray(x0), t, asarray(noise)

    train(
        recipe,
        init_state(recipe, 0, asarray),
        draw,
        backend.ops,
        steps=steps,
        report=lambda step, loss: seen.append(loss),
        report_every=1,
    )
    return np.array(seen)


def test_backends_train_alike(backend):
    """200 steps in float64: roundings of 1e-16 a step are not amplified beyond 1e-9."""
    reference = losses(get_backend("numpy"), "float64", 200)
    assert np.mean(reference[-20:]) < 0.8 * np.mean(reference[:20])
    np.testing.assert_allclose(losses(backend, "float64", 200), reference, rtol=1e-9)


# --- choosing a backend


def assert_advises(error, advice):
    message = str(error)
    assert advice in message
    assert "\n" not in message
    assert message.startswith("backend ")


@pytest.mark.parametrize("name", ["gpu", "", "NumPy", "torch"])
def test_unknown_name(name):
    with pytest.raises(ValueError, match="backend must be one of 'auto', 'cupy', 'numba', 'numpy'"):
        get_backend(name)


def test_cupy_without_a_gpu_gives_advice():
    cupy = pytest.importorskip("cupy")
    if cupy.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(BackendError) as caught:
        get_backend("cupy")
    assert_advises(caught.value, "nvidia-smi")


@pytest.mark.parametrize("exists", [False, True], ids=["broken", "wrong"])
def test_cupy_with_a_gpu_that_does_not_work(monkeypatch, exists):
    """is_available() only counts devices; a kernel that fails or computes nonsense decides."""
    module = module_of("cupy")

    def smoke(x):
        if not exists:
            raise RuntimeError("CUDA_ERROR_NO_BINARY_FOR_GPU:\nno kernel image")
        return np.zeros(1), None

    class Runtime:
        getDeviceProperties = staticmethod(lambda device: {"name": b"Broken GPU"})

    monkeypatch.setattr(module.cupy, "is_available", lambda: True)
    monkeypatch.setattr(module.cupy, "ones", np.ones)
    monkeypatch.setattr(module.cupy.cuda, "runtime", Runtime)
    monkeypatch.setattr(module.cupy.cuda, "Device", lambda: type("D", (), {"id": 0}))
    monkeypatch.setattr(module, "silu", smoke)
    with pytest.raises(
        BackendError, match="wrong result" if exists else "RuntimeError: CUDA_ERROR"
    ) as caught:
        module.make()
    assert_advises(caught.value, "--backend numba or numpy")
    assert get_backend("auto").name != "cupy"


def runs(name):
    try:
        get_backend(name)
    except BackendError:
        return False
    return True


@pytest.mark.parametrize("missing", [(), ("cupy",), ("numba",), ("numba", "cupy")], ids="+".join)
def test_missing_packages(missing):
    """Without a package its backend says how to install it, and "auto" takes the next."""
    text = run_python(
        f"""
        import json, sys, warnings
        class Missing:
            def find_spec(self, name, *_):
                if name in {missing!r}:
                    raise ModuleNotFoundError(f"No module named {{name!r}}")
        sys.meta_path.insert(0, Missing())
        warnings.simplefilter("default")  # of the packages' own
        from backends import BackendError, describe_backend, get_backend
        backend, errors = get_backend("auto"), {{}}
        for name in {missing!r}:
            try:
                get_backend(name)
            except BackendError as error:
                errors[name] = str(error)
        print(json.dumps([backend.name, describe_backend("auto", backend), errors]))
        """
    )
    name, line, errors = json.loads(text)
    assert name == next(n for n in ("cupy", "numba", "numpy") if n not in missing and runs(n))
    assert line.startswith(f"backend: {name} on ")
    assert ("(auto: backend cupy cannot run: " in line) == (name != "cupy")
    assert sorted(errors) == sorted(missing)
    for package, message in errors.items():
        assert message.startswith(f"backend {package} cannot run: ")
        assert "\n" not in message
        assert 'pip install -e ".[' + {"numba": "numba", "cupy": "cuda12"}[package] + ']"' in message
        assert name == "cupy" or message in line


def test_description_of_a_named_backend():
    backend = get_backend("numpy")
    assert describe_backend("numpy", backend) == "backend: numpy on cpu"


def test_the_mathematics_imports_no_backend():
    """Nor matplotlib, but for the module that draws."""
    text = run_python(
        """
        import importlib, pkgutil, sys
        import ddpm_np
        names = [m.name for m in pkgutil.walk_packages(ddpm_np.__path__, "ddpm_np.")]
        for name in names:
            if name not in ("ddpm_np.plotting", "ddpm_np._figures") and not name.endswith(".__main__"):
                importlib.import_module(name)
        print(len(names), *{"matplotlib"} & set(sys.modules))
        importlib.import_module("ddpm_np.plotting")
        print(*{"backends", "numba", "cupy", "torch"} & set(sys.modules))
        """
    )
    count, *others = text.split()
    assert int(count) > 20
    assert others == []


# --- arrays and noise


@pytest.mark.parametrize("name", ["numpy", *FUSED])
def test_asarray(name, dtype):
    backend = running(name)
    host = np.arange(12.0).reshape(3, 4).T
    for values in (host, host.tolist(), host.astype(np.float32), backend.asarray(host, dtype)):
        array = backend.asarray(values, dtype)
        np.testing.assert_array_equal(backend.to_numpy(array), host)
        assert backend.to_numpy(array).dtype == dtype
        assert array.flags.c_contiguous
    assert backend.asarray(np.array(2.0), dtype).shape == ()
    for foreign in ("strict", "torch"):
        try:
            value = FOREIGN[foreign]()
        except pytest.skip.Exception:
            continue
        with pytest.raises(TypeError, match="copy it to the host first"):
            backend.asarray(value, dtype)


@pytest.mark.parametrize("name", ["numpy", *FUSED])
def test_normal_is_a_pure_function_of_its_key(name, dtype):
    backend = running(name)

    def draw(*key):
        array = backend.normal(key, (4, 3), dtype)
        assert array.shape == (4, 3)
        return backend.to_numpy(array)

    first = draw(0, 1, 2)
    assert first.dtype == dtype
    others = [draw(*key) for key in ((0, 1, 3), (0, 2, 2), (1, 1, 2), (0, 1), (0, 1, 2, 1))]
    np.testing.assert_array_equal(draw(0, 1, 2), first)
    assert not any(np.any(other == first) for other in others)
    np.testing.assert_array_equal(get_backend("numpy").normal((0, 1, 2), (4, 3), dtype), first)


# --- CUDA sources, compiled without a GPU


def compile_cuda(source, real):
    """PTX of a source by NVRTC, which needs no GPU."""
    nvrtc = pytest.importorskip("cupy_backends.cuda.libs.nvrtc", reason="CuPy is not installed")
    try:
        nvrtc.getVersion()
    except Exception as error:  # CuPy loads the library late, and its errors have many types
        pytest.skip(f"NVRTC is not installed: {error}")
    program = nvrtc.createProgram(source, "kernels.cu", (), ())
    try:
        nvrtc.compileProgram(program, (f"-DREAL={real}", "--std=c++17"))
        return nvrtc.getPTX(program)
    finally:
        nvrtc.destroyProgram(program)


@pytest.mark.parametrize("real", ["float", "double"])
def test_cuda_kernels_compile(real):
    module = module_of("cupy")
    ptx = compile_cuda(module.SOURCE, real)
    ptx = ptx.decode() if isinstance(ptx, bytes) else ptx
    launched = {
        line.split('_launch("')[1].split('"')[0]
        for line in inspect.getsource(module).splitlines()
        if '_launch("' in line
    }
    assert launched == {"silu", "silu_backward", "adam", "ema"}
    for kernel in launched:
        assert f".visible .entry {kernel}(" in ptx
    # in float, nothing silently computes in double
    assert (".f64" in ptx) == (real == "double")


def test_kernel_arguments_agree_with_the_sources(monkeypatch):
    """_launch passes bare values: as many as the CUDA function has parameters, of its types."""
    module = module_of("cupy")

    class Fake(np.ndarray):
        device = 0

    seen = {}
    monkeypatch.setattr(module.cupy, "ndarray", Fake)
    monkeypatch.setattr(module.cupy, "empty_like", np.empty_like)
    monkeypatch.setattr(module.cupy, "asarray", lambda a, order: a)
    monkeypatch.setattr(module.cupy.cuda, "Device", lambda: 0)
    monkeypatch.setattr(
        module, "_launch", lambda kernel, like, arguments: seen.update({kernel: arguments})
    )
    one = np.ones(2, np.float32).view(Fake)
    for op, arrays in KERNEL_ARRAYS.items():
        if hasattr(module, op):
            getattr(module, op)(*[one] * len(arrays), *REST.get(op, ()))
    assert len(seen) == 4
    for kernel, values in seen.items():
        declared = module.SOURCE.split(f"void {kernel}(")[1].split(")")[0].split(",")
        assert declared.pop().strip() == "long long size"
        assert ["*" in parameter for parameter in declared] == [isinstance(v, Fake) for v in values]
        assert {type(v) for v in values} <= {Fake, np.float32}


@pytest.mark.parametrize("flaw", [("REAL g = REAL(1)", "REAL g = REEL(1)"), ("exp(-x[i])", "exp(-x)")])
def test_the_gate_fails_a_broken_source(flaw):
    source = module_of("cupy").SOURCE
    assert flaw[0] in source
    with pytest.raises(Exception, match="COMPILATION") as caught:
        compile_cuda(source.replace(*flaw), "float")
    assert type(caught.value).__name__ == "NVRTCError"
