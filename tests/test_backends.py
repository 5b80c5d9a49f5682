"""Backends: fused kernels against their definitions, what they refuse, and how one is chosen."""

import importlib
import inspect
import json
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends import BackendError, describe_backend, get_backend
from ddpm_np import scaled_linear_schedule
from ddpm_np.data.toy import swiss_roll
from ddpm_np.nn import Adam, MLPDenoiser, constant_rate, mlp_loss_and_gradient
from ddpm_np.nn import ops as generic
from ddpm_np.nn.ops import Ops
from ddpm_np.runs.batches import draw_batch
from ddpm_np.training import Recipe, init_state, train
from tests.gradients import check_gradients, randomised
from tests.kernels import KERNELS, MAGNITUDES, Rounding, call, example, inputs

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


def operation(name):
    return name.split(" ")[0]


@pytest.mark.parametrize("name", ["numpy", *FUSED])
@given(size=st.integers(1, 5000), pixels=st.sampled_from([1, 16, 64, 784, 10**6]))
def test_parts_cover_the_batch_in_order(name, size, pixels):
    ops = running(name).ops
    parts = [list(ops.in_parts(lambda part: part, size, pixels)) for _ in range(2)]
    assert parts[0] == parts[1]
    assert all(len(range(size)[part]) for part in parts[0])
    assert [i for part in parts[0] for i in range(size)[part]] == list(range(size))


def test_every_operation_has_its_kernel_test():
    assert {operation(name) for name in KERNELS} == set(NAMES) - {"in_parts"}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("op", KERNELS)
@pytest.mark.parametrize("name", ["numpy", *FUSED])
@given(data=st.data())
def test_kernels_are_their_definitions(name, op, dtype, data):
    backend, kernel, rounding = running(name), KERNELS[op], Rounding(dtype)
    sizes, described = data.draw(inputs(kernel))
    s, host, moved, tame = SimpleNamespace(**sizes), {}, [], True
    for argument, (shape, (seed, magnitude, zeros, layout)) in described.items():
        rng = np.random.default_rng(seed)
        values = rng.standard_normal(shape) * (rng.random(shape) >= zeros)
        values = (values * MAGNITUDES[magnitude](np.finfo(dtype))).astype(dtype)
        host[argument] = np.abs(values) if argument == "v" or op.endswith("rows") else values
        moved.append(layout(backend.asarray(host[argument], dtype)))
        tame = tame and magnitude in ("1", "0.1", "30")
    with np.errstate(all="ignore"):
        found = kernel.call(backend.ops, s, *moved)
        exact = {argument: a.astype(rounding.higher) for argument, a in host.items()}
        expected = kernel.call(generic, s, *exact.values())
        errors = kernel.errors(rounding, s, kernel.call, exact)
        for i, (a, b, error) in enumerate(zip(found, expected, errors, strict=True)):
            a = backend.to_numpy(a)
            assert a.shape == b.shape == error.shape
            assert a.dtype == dtype
            claimed = error < np.inf
            assert claimed.all() or not tame
            off = np.abs(a.astype(rounding.higher) - b)
            assert np.all((off <= error)[claimed]), (i, np.max((off / error)[claimed]))
    for argument, array in zip(host, moved, strict=True):
        np.testing.assert_array_equal(backend.to_numpy(array), host[argument], err_msg=argument)


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
    found = [backend.to_numpy(a) for a in backend.ops.silu(backend.asarray(x, dtype))]
    rounding = Rounding(dtype)
    exact = x.astype(rounding.higher)
    with np.errstate(all="ignore"):
        errors = rounding.silu(exact)
    for a, b, error in zip(found, generic.silu(exact), errors, strict=True):
        assert np.all(np.abs(a - b) <= error)

    arrays = [x, x[::-1].copy(), np.abs(x)]
    with np.errstate(all="ignore"):  # the square of the largest number is infinite
        expected = generic.adam(arrays[0], arrays[1], 0 * x, arrays[2], 1e-3, 0.9, 0.999, 1e-8, 0.0, 1)
    moved = [backend.asarray(a, dtype) for a in (arrays[0], arrays[1], 0 * x, arrays[2])]
    for a, b in zip(backend.ops.adam(*moved, 1e-3, 0.9, 0.999, 1e-8, 0.0, 1), expected, strict=True):
        np.testing.assert_allclose(backend.to_numpy(a), b, rtol=8 * info.eps, atol=float(info.tiny))


def test_exponential_is_good_everywhere(backend):
    """2 ulp of the exponential and two or three roundings, at a quarter of a million points."""
    x = np.linspace(-87.0, 88.0, 1 << 18, dtype=np.float32)
    y, slope = (backend.to_numpy(a) for a in backend.ops.silu(backend.asarray(x, "float32")))
    exact = x.astype(np.float64)
    (exact_y, exact_slope), rounding = generic.silu(exact), Rounding("float32")
    assert np.max(np.abs(y - exact_y) / np.abs(exact_y)) < 3.5 * rounding.eps
    assert np.all(np.abs(slope - exact_slope) <= rounding.silu(exact)[1])


@pytest.mark.parametrize("op", KERNELS)
def test_kernels_hand_on_nan(backend, dtype, op):
    """To where the definition hands it, and no further."""
    reached = set()
    for argument in example(op):
        if op.startswith("conv2d") and argument == "weight":
            continue  # it meets the zeros around the image, as many of them as there are
        arrays = example(op)
        arrays[argument].flat[1] = np.nan
        expected = call(op, generic, arrays)
        found = call(op, backend.ops, {name: backend.asarray(a, dtype) for name, a in arrays.items()})
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(np.isnan(backend.to_numpy(a)), np.isnan(b), err_msg=argument)
            reached |= {argument} if np.any(np.isnan(b)) else set()
    constant = {"shift", "out_bias"} if op.endswith("backward") else set()
    assert reached >= set(example(op)) - constant - {"weight"}


def test_kernels_keep_odd_shapes_and_leave_their_input(backend):
    for shape in ((1,), (0,), (2, 0), (2, 3, 4)):
        host = np.random.default_rng(0).standard_normal(shape)
        x = backend.asarray(host, "float64")
        y, slope = backend.ops.silu(x)
        others = [backend.ops.ema(x, y, 0.5)]
        others += backend.ops.adam(x, x, x, slope * slope, 0.1, 0.9, 0.999, 1e-8, 0.0, 1)
        assert {a.shape for a in (x, y, slope, *others)} == {shape}
        np.testing.assert_array_equal(backend.to_numpy(x), host)


def test_numba_takes_read_only_arrays():
    backend = running("numba")
    x = np.array([1.0, -2.0], dtype=np.float32)
    y, _ = backend.ops.silu(x)
    x.flags.writeable = False
    np.testing.assert_array_equal(backend.ops.silu(x)[0], y)


# --- signatures, and what kernels refuse


def test_ops_stay_few():
    """About a dozen."""
    assert len(NAMES) <= 14


@pytest.mark.parametrize("name", ["numpy", *FUSED])
def test_kernels_have_the_signatures_of_the_definitions(name):
    module = module_of(name)
    kernels = {op: getattr(module, op) for op in NAMES if hasattr(module, op)}
    assert name == "numpy" or {"silu", "adam", "ema"} <= set(kernels)
    for op, kernel in kernels.items():
        expected = inspect.signature(getattr(generic, op)).parameters
        assert list(inspect.signature(kernel).parameters) == list(expected), op


def test_a_backend_brings_its_kernels(backend):
    module = module_of(backend.name)
    for op in NAMES:
        assert getattr(backend.ops, op) is getattr(module, op, getattr(generic.GENERIC, op)), op


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
EACH_FOREIGN = [
    pytest.param(name, marks=pytest.mark.peers) if name == "torch" else name for name in FOREIGN
]


@pytest.mark.parametrize("name", FUSED)
@pytest.mark.parametrize("foreign", EACH_FOREIGN)
def test_kernels_refuse_foreign_arrays(name, foreign):
    """By the argument's name. CuPy's refusals need no GPU if the foreign array comes first."""
    module, value = module_of(name), FOREIGN[foreign]()
    for op in KERNELS:
        if not hasattr(module, operation(op)):
            continue
        if name == "cupy" and op in ("residual_mlp_backward", "group_norm_backward"):
            continue  # what they are called with, forward must have made; see test_cupy_kernels
        arrays = example(op)
        for argument in list(arrays)[: None if name == "numba" else 1]:
            if foreign == "number" and op.endswith("rows") and argument == list(arrays)[-1]:
                continue  # one weight for all
            with pytest.raises(
                TypeError, match=f"^{argument} must be a .* array of float32 or float64, got"
            ):
                call(op, module, arrays | {argument: value})


def test_numpy_arrays_are_foreign_to_cupy():
    with pytest.raises(TypeError, match=r"x must be a CuPy array .* got numpy array of shape \(2,\)"):
        module_of("cupy").silu(np.ones(2))


@pytest.mark.parametrize("op", ["squared_error", "adam", "ema"])
def test_elementwise_kernels_refuse_arrays_that_do_not_agree(backend, dtype, op):
    """They check no bounds, and do not broadcast."""
    if not hasattr(module_of(backend.name), operation(op)):
        pytest.skip(f"{backend.name} has the definition of {op}")
    arrays = {name: backend.asarray(a, dtype) for name, a in example(op).items()}
    for argument in list(arrays)[1:]:
        for shape in ((2, 3), (1, 2), (2, 1), (2,), (2, 2, 1)):
            with pytest.raises(ValueError, match=f"^{argument} must have (the )?shape"):
                call(op, backend.ops, arrays | {argument: backend.asarray(np.ones(shape), dtype)})


@pytest.mark.parametrize("op", KERNELS)
def test_kernels_refuse_arrays_that_do_not_agree(backend, op):
    """Or they do as the definition does, which also takes another number of rows, say.

    In float32, where all kernels are: they check no bounds.
    """
    if not hasattr(module_of(backend.name), operation(op)):
        pytest.skip(f"{backend.name} has the definition of {op}")
    arrays = {name: backend.asarray(a, "float32") for name, a in example(op).items()}
    message = r"^\w+ must have (the )?(shape|dtype)|^params of shapes .* do not go with"
    for argument, array in arrays.items():
        for axis in range(len(array.shape)):
            for size in (1, array.shape[axis] + 1):
                shape = (*array.shape[:axis], size, *array.shape[axis + 1 :])
                other = np.random.default_rng(1).uniform(0.5, 1.5, shape)
                moved = arrays | {argument: backend.asarray(other, "float32")}
                try:
                    expected = call(op, generic, example(op) | {argument: other})
                    found = call(op, backend.ops, moved)
                except (ValueError, IndexError):
                    with pytest.raises(ValueError, match=message):
                        call(op, backend.ops, moved)
                    continue
                for a, b in zip(found, expected, strict=True):
                    np.testing.assert_allclose(backend.to_numpy(a), b, rtol=1e-4)
        if len(arrays) > 1:
            with pytest.raises(ValueError, match=message):
                call(op, backend.ops, arrays | {argument: backend.asarray(array, "float64")})


@pytest.mark.parametrize("op", ["squared_error of rows", "residual_mlp_loss of rows"])
def test_a_weight_has_the_axes_of_what_it_weighs(backend, op):
    """With two rows and two columns, numbers for rows would go to columns without a word."""
    if not hasattr(module_of(backend.name), operation(op)):
        pytest.skip(f"{backend.name} has the definition of {op}")
    weight = list(example(op))[-1]
    for dtype in ("float32", "float64"):
        moved = {name: backend.asarray(a, dtype) for name, a in example(op).items()}
        for shape in ((1, 1), (2, 1), (1, 2), (2, 2), ()):
            host = np.random.default_rng(1).uniform(0.5, 1.5, shape)
            found = call(op, backend.ops, moved | {weight: backend.asarray(host, dtype)})
            expected = call(op, generic, example(op) | {weight: host})
            for a, b in zip(found, expected, strict=True):
                np.testing.assert_allclose(backend.to_numpy(a), b, rtol=800 * np.finfo(dtype).eps)
        for shape in ((2,), (1,), (3, 1), (2, 3), (1, 2, 1)):
            message = rf"^{weight} must have shape \(2, 2\), or 1 in place .* got \({shape[0]},"
            with pytest.raises(ValueError, match=message):
                call(op, backend.ops, moved | {weight: backend.asarray(np.ones(shape), dtype)})


@pytest.mark.parametrize("groups", [0, -1, 2, 4])
def test_groups_divide_the_channels(backend, groups):
    """Kernels go by sizes: the last channels would be left as they were found in memory."""
    x, gain = (backend.asarray(np.ones(shape), "float32") for shape in ((2, 4, 4, 3), (2, 3)))
    with pytest.raises(ValueError, match=rf"^groups must (divide channels, 3|be .*), got {groups}$"):
        backend.ops.group_norm(x, gain, gain, groups, 1e-5)


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
        lambda params, x, ops: ops.silu(x),
        lambda params, cache, dy, ops: (generic.silu_backward(dy, cache), ()),
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
    network, adam = MLPDenoiser(2, 50, 16, 2, 8), Adam(constant_rate(1e-3))
    recipe = Recipe(schedule, network, adam, max_grad_norm=1.0, loss_and_gradient=mlp_loss_and_gradient)
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


@pytest.mark.parametrize("foreign", ["strict", pytest.param("torch", marks=pytest.mark.peers)])
@pytest.mark.parametrize("name", ["numpy", *FUSED])
def test_asarray_refuses_arrays_of_other_libraries(name, dtype, foreign):
    with pytest.raises(TypeError, match="copy it to the host first"):
        running(name).asarray(FOREIGN[foreign](), dtype)


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
