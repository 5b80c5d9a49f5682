"""Who may import what: a line for each room, held against the imports in its source."""

import ast
import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GROUND = ["_checks", "_arrays", "randomness", "schedules", "gaussians"]
SLIDES = [
    *["forward", "posterior", "targets", "reverse", "losses", "decoders", "elbo", "paths"],
    *["hierarchy", "samplers", "flow", "guidance", "training"],
]
MATHEMATICS = [*GROUND, *SLIDES[:-1]]
BACKENDS = {"backends", "cupy", "cupy_backends", "numba", "llvmlite", "torch"}

# Its own room apart, which each may import; of the ground and the slides, only what comes before.
MAY_IMPORT = {
    **dict.fromkeys(GROUND, GROUND),
    **{name: [*GROUND, *SLIDES] for name in SLIDES},
    "training": [*MATHEMATICS, "nn"],
    "nn": GROUND,
    "data": GROUND,
    "estimators": MATHEMATICS,
    "exact": [*MATHEMATICS, "data", "estimators"],
    "identities": [*MATHEMATICS, "data", "exact"],
    "runs": [*MATHEMATICS, "training", "nn", "data.files"],  # one set of guards reads every file
    "plotting": [*MATHEMATICS, "runs.files"],
    "testing": [*MATHEMATICS, "data", "estimators", "exact", "identities"],
    "testing.vectors": [*MATHEMATICS, "training", "nn", "exact"],  # whose networks answer too
    "_moved": [],
}

# Adapters for the code of others, which nothing else imports.
FOREIGN = {
    f"testing.adapters.{name}": {"torch"} for name in ("pytorch", "diffusers", "usual_names", "jax")
}
FOREIGN["testing.__main__"] = {"torch"}


def name_of(path):
    """Its address inside ddpm_np: "nn.ops", "nn" for the page that hands names on, "" for the whole."""
    parts = path.relative_to(ROOT / "ddpm_np").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted((ROOT / "ddpm_np").rglob("*.py"))}


def imports(path):
    """What a file imports, anywhere in it: {"ddpm_np.runs.files", "numpy", ...}."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            modules = {f"{node.module}.{alias.name}" for alias in node.names}
            inner = {name for name in modules if name.removeprefix("ddpm_np.") in MODULES}
            found |= inner or {node.module}
    return found


def ours(path):
    """The addresses inside ddpm_np of what a file imports; nothing it imports may be of a backend."""
    found = imports(path)
    foreign = {name.partition(".")[0] for name in found} & BACKENDS
    assert foreign <= FOREIGN.get(name_of(path), set()), f"{path} imports a backend"
    return {name.removeprefix("ddpm_np").lstrip(".") for name in found if name.startswith("ddpm_np")}


def may_import(name, other):
    room, order = name.partition(".")[0], GROUND + SLIDES
    if other in order and room in order:
        return order.index(other) < order.index(room)
    own = other.partition(".")[0] == room
    corner = max((key for key in MAY_IMPORT if f"{name}.".startswith(f"{key}.")), key=len)
    return own or any(f"{other}.".startswith(f"{allowed}.") for allowed in MAY_IMPORT[corner])


@pytest.mark.parametrize("name", [name for name in MODULES if name])
def test_a_module_imports_what_its_room_may(name):
    assert name.partition(".")[0] in MAY_IMPORT, f"{name} belongs to no room"
    for other in ours(MODULES[name]):
        assert may_import(name, other), f"{name} imports {other}"


def test_the_package_hands_on_ground_and_slides():
    assert ours(MODULES[""]) <= {*GROUND, *SLIDES[:-1], "_moved"}


def test_modules_by_name_are_imported_in_two_places():
    """Elsewhere an import that no rule sees could hide."""
    found = {name for name, path in MODULES.items() if "import_module" in path.read_text()}
    assert found == {"_moved", "testing.__main__"}


@pytest.mark.parametrize("path", sorted((ROOT / "backends").glob("*.py")), ids=lambda path: path.stem)
def test_backends_know_operations_and_draws(path):
    known = {name for name in imports(path) if name.startswith("ddpm_np")}
    for name in known:
        assert name.startswith("ddpm_np.nn.") or name.removeprefix("ddpm_np.") in GROUND, name


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.stem)
def test_examples_use_addresses_of_today(path):
    known = {name for name in imports(path) if name.startswith("ddpm_np")}
    for name in known:
        assert name.removeprefix("ddpm_np").lstrip(".") in MODULES, name
        assert "._" not in name, f"{name} is private"


def test_no_circle():
    arrows = {name: ours(path) for name, path in MODULES.items()}
    while leaves := {name for name, others in arrows.items() if not others & arrows.keys()}:
        arrows = {name: others for name, others in arrows.items() if name not in leaves}
    assert not arrows


def test_the_top_level_is_the_slides():
    at_the_top = {name for name, path in MODULES.items() if path.parent.name == "ddpm_np" and name}
    assert at_the_top == {*GROUND, *SLIDES, "_moved"} - {"schedules"}  # a folder


def code_and_docstrings(path):
    """Lines of code (signatures are code, imports are not) and lines of docstrings."""
    lines, docstrings, imports = path.read_text(encoding="utf-8").split("\n"), set(), set()
    for node in ast.walk(ast.parse("\n".join(lines))):
        span = range(node.lineno, node.end_lineno + 1) if hasattr(node, "lineno") else ()
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports |= {*span}
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            docstrings |= {*span}
    code = [
        line
        for i, line in enumerate(lines, 1)
        if line.strip() and i not in docstrings | imports and not line.strip().startswith("#")
    ]
    return len(code), len(docstrings)


def test_equations_are_not_buried():
    names = [*SLIDES[:-1], "gaussians", *(name for name in MODULES if name.startswith("schedules."))]
    counted = [code_and_docstrings(MODULES[name]) for name in names]
    code, docstrings = map(sum, zip(*counted, strict=True))
    assert docstrings <= code


def test_no_module_is_long():
    paths = [
        path for room in ("ddpm_np", "backends", "examples") for path in (ROOT / room).rglob("*.py")
    ]
    # A port is one page of another language's; tests/test_ports.py has its limit.
    paths = [path for path in paths if "ports" not in path.parts]
    long = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in paths}
    assert {name: lines for name, lines in long.items() if lines > 300} == {}


def test_every_room_is_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    pages = (ROOT / "ddpm_np").glob("*/**/__init__.py")
    rooms = {".".join(path.parent.relative_to(ROOT).parts) for path in pages}
    assert set(project["tool"]["setuptools"]["packages"]) == {"ddpm_np", "backends", *rooms}


def test_what_is_imported_in_the_end():
    """No backend by any module, and matplotlib only by those that draw."""
    code = f"""
import importlib, sys
rooms = {[name for name in MODULES if not name.endswith("__main__") and name not in FOREIGN]!r}
for name in rooms:
    if not name.startswith("plotting"):
        importlib.import_module(f"ddpm_np.{{name}}".rstrip("."))
print(*{{"matplotlib"}} & set(sys.modules))
for name in rooms:
    importlib.import_module(f"ddpm_np.{{name}}".rstrip("."))
print(*{{"backends", "numba", "cupy", "torch"}} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


# --- where things were ----------------------------------------------------------------------

OLD_IMPORTS = """
from ddpm_np.array_files import DataError
from ddpm_np.baselines import Baseline, fit_baselines, has_scikit_learn
from ddpm_np.batches import Batch, batches
from ddpm_np.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from ddpm_np.data import DATASETS, swiss_roll
from ddpm_np.elbo import Elbo, Predictor, noise_function, warn_of_prior
from ddpm_np.estimators import t_sample_estimate, two_sample_estimate
from ddpm_np.evaluation import elbo_in_chunks, predictor, standard_error
from ddpm_np.exact import NoisyCurve, optimal_variance, swiss_roll_exact
from ddpm_np.files import write_json
from ddpm_np.guidance import clipped, guided
from ddpm_np.identities import bayes_rule_residual, jensen_gap_residual
from ddpm_np.image_plots import plot_image_grid, plot_image_strips, plot_terms
from ddpm_np.images import load_images, log_snr_schedule, merge_first_steps, to_levels
from ddpm_np.metrics import sliced_wasserstein
from ddpm_np.plotting import PALETTE, save
from ddpm_np.posterior import TARGETS, Target, posterior_mean_coefficients, x0_from_eps
from ddpm_np.runs import MetricsLog, Progress, prepare_folder
from ddpm_np.schedules import SCHEDULES, Schedule, Table
from ddpm_np.step_errors import StepErrors, best_variance, elbo_from_errors, step_errors
from ddpm_np.term_identities import marginalisation_residual, quadrature_residual
from ddpm_np.times import importance_probabilities, spread_uniforms, times_from_uniforms
import ddpm_np.normal_mixtures
"""


@pytest.mark.filterwarnings("ignore:ddpm_np:DeprecationWarning")
@pytest.mark.parametrize("line", OLD_IMPORTS.strip().splitlines())
def test_an_old_address_still_leads_there(line):
    exec(line, {})


def test_an_old_address_says_the_new_one():
    with pytest.warns(
        DeprecationWarning, match=r"ddpm_np.batches.batches is now ddpm_np.runs.batches"
    ) as given:
        old = importlib.import_module("ddpm_np.batches").batches
    assert [warning.filename for warning in given] == [__file__]
    assert old is importlib.import_module("ddpm_np.runs.batches").batches
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        exec("from ddpm_np.batches import nothing", {})
    for nowhere in ("ddpm_np.nowhere", "ddpm_np.nn.batches"):
        with pytest.raises(ModuleNotFoundError, match=nowhere):
            importlib.import_module(nowhere)


@pytest.mark.filterwarnings("ignore:ddpm_np:DeprecationWarning")
def test_a_star_at_an_old_address_brings_what_was_there():
    names = {}
    exec("from ddpm_np.images import *; from ddpm_np.posterior import *", names)
    assert {"digits", "log_snr_schedule", "x0_from_eps", "q_posterior", "TARGETS"} <= names.keys()
