"""CUDA sources on the CPU, and a CuPy made of NumPy: the CuPy backend without a GPU.

A kernel's source is compiled as C++. The threads of a block are fibres, which run one after the
other from barrier to barrier, in an order that can be chosen: a barrier that is missing shows as a
result that depends on it. Warps, caches, speed and cuBLAS are beyond this: it shows that what is
computed is right, not that a GPU computes it.
"""

import ctypes
import functools
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np

COMPILER = sys.platform == "linux" and (shutil.which("c++") or shutil.which("g++"))
"""Other systems have no ucontext.h, or warn of it."""

CUDA = r"""
#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <vector>
#include <ucontext.h>

#define __global__
#define __device__ static
#define __shared__ static
using std::exp; using std::log; using std::sqrt;
static REAL cospi(REAL x) { return std::cos(REAL(3.14159265358979323846) * x); }
static REAL sinpi(REAL x) { return std::sin(REAL(3.14159265358979323846) * x); }
static unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned __int128)a * b >> 64;
}

struct Index { unsigned x; };
static Index threadIdx, blockIdx, blockDim, gridDim;

struct Fibre { ucontext_t context; char stack[32768]; bool done; };
static ucontext_t scheduler;
static Fibre* running;
static const std::function<void()>* kernel;

static void run_fibre() { (*kernel)(); running->done = true; }
static void __syncthreads() { swapcontext(&running->context, &scheduler); }

// Returns false where some threads of a block end while others wait for them.
static bool launch(unsigned grid, unsigned block, int order, const std::function<void()>& body) {
    static std::vector<Fibre> fibres(1024);  // as many as CUDA allows in a block
    std::vector<unsigned> turn(block);
    std::mt19937 random(order);
    kernel = &body;
    gridDim.x = grid;
    blockDim.x = block;
    for (unsigned b = 0; b < grid; b++) {
        blockIdx.x = b;
        for (unsigned i = 0; i < block; i++) {
            Fibre& fibre = fibres[i];
            turn[i] = order ? block - 1 - i : i;
            fibre.done = false;
            getcontext(&fibre.context);
            fibre.context.uc_stack.ss_sp = fibre.stack;
            fibre.context.uc_stack.ss_size = sizeof fibre.stack;
            fibre.context.uc_link = &scheduler;
            makecontext(&fibre.context, run_fibre, 0);
        }
        for (unsigned done = 0; done < block;) {
            if (order > 1) std::shuffle(turn.begin(), turn.end(), random);
            for (unsigned i : turn) {
                running = &fibres[i];
                threadIdx.x = i;
                swapcontext(&scheduler, &running->context);
                done += running->done;
            }
            if (done % block) return false;
        }
    }
    return true;
}
"""
KERNEL = re.compile(r'extern "C" __global__\s+void (\w+)\(([^)]*)\)')
C_TYPES = {"long long": ctypes.c_longlong, "unsigned long long": ctypes.c_ulonglong}
REALS = {"float": (ctypes.c_float, np.float32), "double": (ctypes.c_double, np.float64)}
ASCENDING, DESCENDING, SHUFFLED = range(3)
"""Orders in which the threads of a block take turns; from 2 on, seeds of shuffled ones."""


class Kernel:
    """A kernel that is called as a cupy.RawKernel, and checks what no GPU would."""

    order = ASCENDING

    def __init__(self, library, name, parameters, real):
        self.function, self.name, self.dtype = library[f"run_{name}"], name, REALS[real][1]
        self.parameters = [p.strip().rsplit(maxsplit=1)[0] for p in parameters.split(",")]
        scalars = {"REAL": REALS[real][0], **C_TYPES}
        kinds = [ctypes.c_void_p if "*" in p else scalars[p] for p in self.parameters]
        self.function.argtypes = [ctypes.c_uint, ctypes.c_uint, ctypes.c_int, *kinds]

    def __call__(self, grid, block, arguments):
        types = {"REAL": self.dtype, "long long": np.int64, "unsigned long long": np.uint64}
        assert 0 < grid[0] < 2**31
        assert 0 < block[0] <= 1024
        values = []
        for parameter, value in zip(self.parameters, arguments, strict=True):
            if "*" in parameter:
                assert isinstance(value, np.ndarray), (self.name, parameter)
                assert value.flags.c_contiguous, (self.name, parameter)
                assert value.dtype == self.dtype, (self.name, parameter)
                values.append(value.ctypes.data)
            else:
                assert type(value) is types[parameter], (self.name, parameter)
                values.append(value.item())
        assert self.function(*grid, *block, Kernel.order, *values), (
            f"{self.name}: a barrier not all reach"
        )


@functools.cache
def compile_on_cpu(source, options):
    """A shared library in which run_<kernel>(grid, block, order, arguments) launches a kernel."""
    shims = [
        f'extern "C" bool run_{name}(unsigned grid, unsigned block, int order, {parameters}) {{ '
        f"return launch(grid, block, order, [=] {{ {name}({names}); }}); }}"
        for name, parameters in KERNEL.findall(source)
        for names in [", ".join(p.split()[-1].strip("*") for p in parameters.split(","))]
    ]
    with tempfile.TemporaryDirectory() as folder:
        code, library = Path(folder, "kernels.cpp"), Path(folder, "kernels.so")
        code.write_text("\n".join((CUDA, source, *shims)))
        flags = ("-std=c++17", "-O1", "-ffp-contract=off", "-shared", "-fPIC", "-w", *options)
        subprocess.run(
            [COMPILER, *flags, code, "-o", library], check=True, capture_output=True, text=True
        )
        return ctypes.CDLL(str(library))


class RawModule:
    """As cupy.RawModule."""

    def __init__(self, code, options):
        self.library, self.parameters = compile_on_cpu(code, options), dict(KERNEL.findall(code))
        self.real = next(o for o in options if o.startswith("-DREAL=")).removeprefix("-DREAL=")

    def get_function(self, name):
        return Kernel(self.library, name, self.parameters[name], self.real)


MARGIN = 64


class Device(str):
    """Where NumPy says that its arrays are."""

    id = 0


DEVICE = Device("cpu")


class DeviceArray(np.ndarray):
    """Memory amid NaNs, which refuses what would make the host wait for a GPU."""

    device = DEVICE

    def _refuse(self, *_):
        raise AssertionError("the host would wait for the GPU")

    __float__ = __int__ = __bool__ = __index__ = item = tolist = _refuse

    def __matmul__(self, other):
        return matmul(self, other)


allocated = []


def empty(shape, dtype):
    """Memory that has not been written: NaN, so that reading it shows; and so is what surrounds it."""
    shape = (shape,) if isinstance(shape, int) else shape
    size = int(np.prod(shape))
    memory = np.full(size + 2 * MARGIN, np.nan, dtype)
    allocated.append((memory, size))
    return memory[MARGIN : MARGIN + size].reshape(shape).view(DeviceArray)


def to_device(values):
    array = empty(values.shape, values.dtype)
    array[...] = values
    return array


def check_margins():
    """Assert that nobody wrote beside what was allocated since the last time."""
    for memory, size in allocated:
        assert np.all(np.isnan(memory[:MARGIN])), "a kernel wrote in front of an array"
        assert np.all(np.isnan(memory[MARGIN + size :])), "a kernel wrote behind an array"
    allocated.clear()


def matmul(a, b, out=None):
    product = np.matmul(np.asarray(a), np.asarray(b))
    out = empty(product.shape, product.dtype) if out is None else out
    assert out.shape == product.shape
    assert out.flags.c_contiguous
    out[...] = product
    return out


def as_array(values, dtype=None, order=None):
    if type(values) is DeviceArray and values.flags.c_contiguous and dtype in (None, values.dtype):
        return values
    return to_device(np.asarray(values, dtype))


COMMON = {
    "RawModule": RawModule,
    "is_available": lambda: True,
    "float32": np.float32,
    "asnumpy": np.asarray,
    "cuda": SimpleNamespace(
        Device=lambda: DEVICE,
        runtime=SimpleNamespace(getDeviceProperties=lambda number: {"name": b"none"}),
    ),
}
CUPY = SimpleNamespace(
    **COMMON,
    ndarray=DeviceArray,
    asarray=as_array,
    empty=empty,
    empty_like=lambda a: empty(a.shape, a.dtype),
    zeros=lambda shape, dtype: to_device(np.zeros(shape, dtype)),
    ones=lambda shape, dtype: to_device(np.ones(shape, dtype)),
    matmul=matmul,
    multiply=lambda a, b, out: np.multiply(a, b, out=out),
    sum=lambda a, axis: to_device(np.sum(np.asarray(a), axis=axis)),
)
"""What the backend uses of CuPy."""

PLAIN = SimpleNamespace(
    **COMMON,
    **{name: getattr(np, name) for name in ("ndarray", "asarray", "empty", "empty_like", "zeros")},
    **{name: getattr(np, name) for name in ("ones", "matmul", "multiply", "sum")},
)
"""The same for NumPy's own arrays, for code that makes some by itself."""
