"""Ports in other languages: each passes the vectors it claims, and samples as ddpm_np does.

A port is a row of PORTS. It is skipped where what it needs is not installed.
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import ddpm_np as ddpm
from ddpm_np.nn import Adam, MLPDenoiser, Ops, constant_rate
from ddpm_np.runs.checkpoint import save_checkpoint
from ddpm_np.runs.evaluation import predictor
from ddpm_np.runs.export import export
from ddpm_np.testing.vectors import load
from ddpm_np.testing.vectors._port import check_port
from ddpm_np.testing.vectors._protocols import Json
from ddpm_np.training import Recipe, init_state, train_step

FOLDER = Path(__file__).parents[1] / "examples" / "ports"
IMAGES = {"conv2d", "group_norm", "attention", "unet"}
BACKWARD = {"silu", "linear_backward", "mlp_loss_gradient"}


class Port(NamedTuple):
    """A port: what it needs, how to run it, and what it leaves out.

    In commands {ports} is examples/ports, {python} this Python, {built} a folder for the build.
    """

    runner: str
    """Answers vectors."""
    sample: str
    """Takes an exported network and a file of noise, and prints samples."""
    lacks: set[str]
    """The functions that it does not claim."""
    programs: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    build: str = ""

    @property
    def missing(self) -> list[str]:
        """What it needs and is not installed."""
        programs = [name for name in self.programs if shutil.which(name) is None]
        return programs + [name for name in self.modules if importlib.util.find_spec(name) is None]


PORTS = {
    "javascript": Port(
        runner="node {ports}/javascript/runner.mjs",
        sample="node {ports}/javascript/sample.mjs",
        lacks={*IMAGES, "affine_log_likelihood"},
        programs=("node",),
    ),
    "cpp": Port(
        runner="{built}/runner",
        sample="{built}/sample",
        lacks={*IMAGES, *BACKWARD, "adam", "ema", "training"},
        programs=("make", "g++"),
        build="make --silent -C {ports}/cpp OUT={built} CXXFLAGS=-O0",
    ),
    "pytorch": Port(
        runner="{python} {ports}/pytorch/runner.py",
        sample="{python} {ports}/pytorch/sample.py",
        lacks={*IMAGES, "affine_log_likelihood"},
        modules=("torch",),
    ),
    "jax": Port(
        runner="{python} {ports}/jax/runner.py",
        sample="{python} {ports}/jax/sample.py",
        lacks={*IMAGES, "affine_log_likelihood"},
        modules=("jax",),
    ),
}


def with_peers(name):
    """Ports that need another framework are compared with where the peers are."""
    return pytest.param(name, marks=pytest.mark.peers) if PORTS[name].modules else name


@pytest.fixture(scope="module", params=map(with_peers, PORTS))
def port(request, tmp_path_factory):
    """A port that is ready to run, its commands filled in."""
    row = PORTS[request.param]
    if row.missing:
        pytest.skip(f"the {request.param} port needs {', '.join(row.missing)}")
    places = {"ports": FOLDER, "python": sys.executable, "built": tmp_path_factory.mktemp("built")}
    if row.build:
        subprocess.run(row.build.format(**places), shell=True, check=True)
    return row._replace(runner=row.runner.format(**places), sample=row.sample.format(**places))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_passes_the_vectors_of_all_functions_but_those_it_lacks(port, dtype):
    functions = load()
    report = check_port(port.runner, functions, Json(), dtype, seconds=60.0)
    report.raise_if_failed()
    passed = {result.case.function for result in report.having("passed")}
    assert passed == {function.name for function in functions} - port.lacks
    skipped = {result.case.function for result in report.having("skipped")}
    assert skipped <= port.lacks


# --- samples of a trained network ---------------------------------------------------------------

T, B = 20, 50


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small network on the swiss roll, trained briefly in float32, and its export."""
    rng = np.random.default_rng(0)
    schedule = ddpm.linear_schedule(T, 0.02, 0.4)
    recipe = Recipe(schedule, MLPDenoiser(2, T, 16, 2, 8), Adam(constant_rate(5e-3)))
    state, roll = init_state(recipe, 0, np.float32), ddpm.data.swiss_roll(2000, rng)
    for _ in range(200):
        x0 = roll[rng.integers(len(roll), size=64)].astype(np.float32)
        t, noise = rng.integers(1, T + 1, 64), rng.standard_normal(x0.shape, dtype=np.float32)
        state = train_step(recipe, state, x0, t, noise, Ops())
    folder = tmp_path_factory.mktemp("trained")
    save_checkpoint(folder / "checkpoint.npz", recipe, state, {"target": "eps"}, np.asarray)
    export(folder / "checkpoint.npz", "json", folder / "network.json")
    export(folder / "checkpoint.npz", "json", folder / "raw.json", raw=True)
    return recipe, state, folder


def draws(rng):
    """x_T, and noise for the step from each t."""
    x_T, noise = rng.standard_normal((B, 2)), rng.standard_normal((T + 1, B, 2))
    return x_T.astype(np.float32), noise.astype(np.float32)


def samples(recipe, params, x_T, noise):
    sigma2 = ddpm.reverse_variance(recipe.schedule, "beta")
    predict = predictor(recipe, params, Ops())
    return ddpm.ancestral_sample(recipe.schedule, predict, x_T, noise=lambda t: noise[t], sigma2=sigma2)


def samples_of_port(port, network, folder, x_T, noise):
    given = {"x_T": x_T.tolist(), "noise": noise.tolist()}
    (folder / "noise.json").write_text(json.dumps(given))
    command = [*port.sample.split(), str(network), str(folder / "noise.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    return np.array(json.loads(done.stdout))


def test_repeats_samples_to_the_rounding_of_float32(port, trained, tmp_path):
    """As for vectors: 16 roundings of what goes in, by the condition of a sample as it is measured."""
    recipe, state, folder = trained
    rng = np.random.default_rng(1)
    x_T, noise = draws(rng)
    found = samples_of_port(port, folder / "network.json", tmp_path, x_T, noise)

    inputs = [a.astype(np.float64) for a in (state.average, x_T, noise)]
    exact = samples(recipe, *inputs)
    delta, condition = 1e-8, np.zeros(exact.shape)
    for _ in range(16):
        moved = [a * (1.0 + delta * rng.choice([-1.0, 1.0], a.shape)) for a in inputs]
        condition = np.maximum(condition, np.abs(samples(recipe, *moved) - exact) / delta)
    tolerance = 16 * 2.0**-24 * (condition + np.abs(exact))
    assert np.all(np.abs(found - exact) <= tolerance)
    assert np.max(np.abs(found - samples(recipe, state.average, x_T, noise))) <= np.max(2 * tolerance)
    assert np.max(tolerance) < 1e-3 < np.std(exact)  # far below what a wrong step changes


def test_samples_from_the_weights_that_it_is_given(port, trained, tmp_path):
    recipe, state, folder = trained
    x_T, noise = draws(np.random.default_rng(2))
    raw = samples_of_port(port, folder / "raw.json", tmp_path, x_T, noise)
    average = samples_of_port(port, folder / "network.json", tmp_path, x_T, noise)
    assert np.abs(raw - samples(recipe, state.params, x_T, noise)).max() < 1e-4
    assert np.abs(raw - average).max() > 1e-2


def test_is_short():
    for path in FOLDER.rglob("*"):
        if path.suffix in {".mjs", ".py", ".hpp", ".cpp"}:
            assert len(path.read_text(encoding="utf-8").splitlines()) < 450, path


# --- JavaScript alone -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ddpm.mjs", "mlp.mjs"])
def test_javascript_needs_neither_node_nor_a_package(name):
    source = (FOLDER / "javascript" / name).read_text(encoding="utf-8")
    assert set(re.findall(r'from "(.+?)"', source)) <= {"./ddpm.mjs"}
    assert not re.search(r"\b(process\.|require\(|Buffer|globalThis|import\()", source)


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_javascript_readme_trains_and_samples(tmp_path):
    readme = (FOLDER / "javascript" / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"(?m)(?:^(?: {4}.*)?\n)+", readme)
    code = [re.sub("(?m)^ {4}", "", block) for block in blocks if "import {" in block]
    assert len(code) == 2
    for path in (FOLDER / "javascript").glob("*.mjs"):
        shutil.copy(path, tmp_path)
    shown = "\nconsole.log(JSON.stringify([...x_0]), state.loss, state.adam.step);"
    for block, end in zip(code, ("\nconsole.log([...x_t]);", shown), strict=True):
        (tmp_path / "readme.mjs").write_text(block.replace("step < 2000", "step < 20") + end)
        done = subprocess.run(["node", tmp_path / "readme.mjs"], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        assert "NaN" not in done.stdout
    numbers, loss, steps = done.stdout.split()
    assert len(json.loads(numbers)) == 2
    assert 0.0 < float(loss) < 3.0
    assert steps == "20"


# --- C++ alone --------------------------------------------------------------------------------


@pytest.mark.parametrize("port", ["cpp"], indirect=True)
@pytest.mark.parametrize(
    ("function", "inputs", "says"),
    [
        (
            "q_sample",
            {"beta": [0.5], "x0": [[1]], "t": [2], "noise": [[1]]},
            "t must be between 1 and T",
        ),
        ("q_sample", {"beta": [0.5], "x0": [[1]], "t": [1], "noise": [[1, 2]]}, "share one shape"),
        ("q_sample", {"beta": [0.5], "x0": [[1]], "t": [1, 1], "noise": [[1]]}, "for each example"),
        ("prior_term", {"beta": [1.5], "x0": [[1]]}, "beta must lie strictly between 0 and 1"),
        ("respaced_schedule", {"beta": [0.5, 0.5], "times": [1]}, "the last of times must be T"),
        ("x0_from_eps", {"beta": [1], "x_t": [[1]], "t": [1], "eps": [[1]]}, "eps says nothing of x_0"),
    ],
)
def test_cpp_refuses_in_a_sentence_and_goes_on(port, function, inputs, says):
    asked = {"id": "a", "function": function, "inputs": inputs}
    fine = {"id": "b", "function": "trailing_times", "inputs": {"T": 4, "S": 2}}
    lines = [{"vectors": 1, "dtype": "float64"}, asked, fine]
    given = "\n".join(map(json.dumps, lines))
    done = subprocess.run(port.runner, input=given, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    _, refused, answered = map(json.loads, done.stdout.splitlines())
    assert says in refused["error"]
    assert answered == {"id": "b", "outputs": {"times": [2, 4]}}


def test_cpp_needs_its_own_headers_and_the_standard_library():
    own = {path.name for path in (FOLDER / "cpp").glob("*.hpp")}
    for path in (FOLDER / "cpp").glob("*.[hc]pp"):
        included = re.findall(r'#include (".+?"|<.+?>)', path.read_text(encoding="utf-8"))
        assert all(
            name[1:-1] in own if name[0] == '"' else name.isascii() and "." not in name
            for name in included
        )


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_cpp_readme_compiles_to_27(tmp_path):
    readme = (FOLDER / "cpp" / "README.md").read_text(encoding="utf-8")
    code = re.findall(r"(?m)^ {4}(.*)", readme[: readme.index("## It is proved")])
    shown = 'for (float x : x_t.x) std::printf("%.9g\\n", double(x));'
    body = "\n".join([*code[2:], shown])
    source = f"#include <cstdio>\n{code[0]}\n{code[1]}\nint main() {{\n{body}\n}}\n"
    (tmp_path / "readme.cpp").write_text(source)
    program = str(tmp_path / "readme")
    options = ["-std=c++17", "-O0", f"-I{FOLDER / 'cpp'}"]
    subprocess.run(["g++", *options, tmp_path / "readme.cpp", "-o", program], check=True)
    printed = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    x0, noise = np.full((2, 3), 0.5), np.ones((2, 3))
    x_t = ddpm.q_sample(ddpm.linear_schedule(1000), x0, np.array([1, 1000]), noise)
    assert np.array(printed.split(), float) == pytest.approx(x_t.ravel(), rel=4 * 2.0**-24)


# --- Python alone ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.py")), ids=lambda path: path.name)
def test_python_never_imports_ddpm_np(path):
    assert not re.search(r"(?m)^\s*(import|from) ddpm_np\b", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("kind", ["json", "safetensors"])
def test_python_reads_both_exports(trained, tmp_path, kind, monkeypatch):
    if kind == "safetensors":
        pytest.importorskip("safetensors")
    monkeypatch.syspath_prepend(str(FOLDER))
    exported = importlib.import_module("exported")
    _, _, folder = trained
    network = export(folder / "checkpoint.npz", kind, tmp_path / f"network.{kind}")
    beta, weights, configuration = exported.read_network(tmp_path / f"network.{kind}")
    assert configuration == {"target": "eps"}
    assert np.array_equal(beta, network.beta[1:])
    assert weights.keys() == network.weights.keys()
    for name, array in network.weights.items():
        assert (weights[name].dtype, weights[name].tobytes()) == (array.dtype, array.tobytes())


@pytest.mark.peers
@pytest.mark.parametrize(("name", "framework"), [("pytorch", "torch"), ("jax", "jax")])
def test_python_readme_trains_and_samples(tmp_path, name, framework):
    pytest.importorskip(framework)
    readme = (FOLDER / name / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"(?m)(?:^(?: {4}.*)?\n)+", readme)
    code = [re.sub("(?m)^ {4}", "", block) for block in blocks if " import " in block]
    assert len(code) == 2
    shown = "\nassert x_t.shape == (8, 2)", "\nprint(float(abs(x_0).mean()), float(loss))"
    for block, end in zip(code, shown, strict=True):
        (tmp_path / "readme.py").write_text(block.replace("range(2000)", "range(20)") + end)
        done = subprocess.run(
            [sys.executable, "-W", "error", tmp_path / "readme.py"],
            env={**os.environ, "PYTHONPATH": str(FOLDER / name)},
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, "")
    size, loss = map(float, done.stdout.split())
    assert 0.1 < size < 10.0
    assert 0.0 < loss < 3.0
