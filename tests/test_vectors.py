"""The vectors of formulas, chains and samplers: as derived, as the schema says; slips fail them."""

import json
import re
import statistics
from types import SimpleNamespace

import mpmath
import pytest

from ddpm_np.testing.vectors import FOLDER, check_vectors
from ddpm_np.testing.vectors.ours import ours
from tests.formula_slips import SLIPS
from tests.vectors import networks, tolerances
from tests.vectors.cases import index, whole, written
from tests.vectors.files import FUNCTIONS

NETWORKS = {function.name for function in networks.FUNCTIONS}
FORMULAS = [name for name in FUNCTIONS if name not in NETWORKS]
SCHEMA = json.loads((FOLDER / "schema.json").read_text(encoding="utf-8"))
FILES = {name: json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")) for name in FUNCTIONS}


def test_index_and_files_are_written_as_the_generator_writes():
    """Down to the byte; what is in them is derived again below."""
    text = {path.name: path.read_bytes() for path in FOLDER.iterdir() if path.name != "schema.json"}
    wanted = {f"{name}.json": written(file).encode() for name, file in FILES.items()}
    assert text == wanted | {"index.json": written(index(FILES)).encode()}


@pytest.mark.parametrize("name", FORMULAS)
def test_cases_are_those_of_the_generator(name):
    """All inputs and expected values; `make vectors-check` derives all tolerances as well."""
    function, file = FUNCTIONS[name], FILES[name]
    given = {key: file[key] for key in ("function", "equation", "formula", "inputs", "outputs")}
    texts = (function.name, function.equation, function.formula, function.inputs, function.outputs)
    assert tuple(given.values()) == texts
    drafts = list(function.cases())
    assert len(drafts) == len(file["cases"])
    for n, ((inputs, flags, note), case) in enumerate(zip(drafts, file["cases"], strict=True), start=1):
        assert case["id"] == f"{name}-{n:03d}"
        assert (case["flags"], case["note"]) == (flags, note)
        assert case["inputs"] == tolerances.plain(inputs)
        with mpmath.workdps(tolerances.DIGITS):
            numbers = tolerances.midway(case["inputs"])
            if function.prepare is not None:
                numbers = function.prepare(**numbers)
            assert tolerances.plain(function.compute(**numbers)) == case["expected"], case["id"]


# Sixteen times the work of expected values.
@pytest.mark.parametrize("name", ["q_step", "guided", "marginalise", "kl_isotropic", "prior_term"])
def test_tolerances_are_those_of_the_generator(name):
    assert written(whole(FUNCTIONS[name])).encode() == (FOLDER / f"{name}.json").read_bytes()


@pytest.mark.parametrize("name", [*FUNCTIONS, "index"])
def test_a_file_follows_the_schema(name):
    file = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    assert not list(faults(file, SCHEMA))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("version",), 2),
        (("cases",), []),
        (("cases", 0, "id"), "Q 1"),
        (("cases", 0, "note"), ""),
        (("cases", 0, "flags"), ["E2", "E2"]),
        (("cases", 0, "expected", "x_t"), [["0.5"]]),
        (("cases", 0, "tolerance", "float64", "x_t"), [1e-16]),
        (("cases", 0, "tolerance", "float32", "x_t"), [-1e-16, 0.0]),
        (("cases", 0, "more"), 1),
    ],
)
def test_the_schema_refuses(path, value):
    file = json.loads(json.dumps(FILES["q_sample"]))
    at = file
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    assert list(faults(file, SCHEMA))


def test_the_schema_is_one():
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for file in FILES.values():
        jsonschema.Draft202012Validator(SCHEMA).validate(file)


def test_there_are_enough_and_each_has_its_own_id():
    cases = [case for file in FILES.values() for case in file["cases"]]
    assert len({case["id"] for case in cases}) == len(cases) >= 600
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 3_000_000


def test_schedules_have_from_1_to_10000_steps():
    steps = {case["inputs"]["T"] for case in FILES["linear_schedule"]["cases"]}
    assert {1, 1000, 10000} <= steps


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_ddpm_np_passes(dtype):
    report = check_vectors(ours(), dtype=dtype, functions=FORMULAS)
    assert {result.status for result in report.results} == {"passed"}, str(report)


# --- tolerances ---------------------------------------------------------------------------


def test_a_tolerance_is_sixteen_roundings_of_what_the_condition_explains():
    """y = (x - 1)^2 at x = 1.25: its condition is 2 (x - 1) x, and nothing is lost in reducing it."""

    def compute():
        x = tolerances.midway([1.25])[0]
        return {"y": (x - 1) ** 2}

    _, bounds = tolerances.tolerance(compute, seed="parabola")
    needed = 16 * 2.0**-53 * (2 * 0.25 * 1.25 + 0.0625)
    (absolute, relative) = bounds["float64"]["y"]
    assert needed <= absolute + relative * 0.0625 <= 1.05 * needed


@pytest.mark.parametrize("expected", [[1.0, 1e-3, 1e-9], [0.0, 1.0, 2.0], [5.0], [3.0, 3.0]])
@pytest.mark.parametrize("condition", [[0.0, 0.0, 0.0], [4.0, 2.0, 1.0], [1e-3, 5.0, 0.1]])
def test_a_pair_covers_each_entry_and_touches_one(expected, condition):
    condition = condition[: len(expected)]
    absolute, relative = tolerances._pair(expected, condition, 1.0)
    share = [
        (absolute + relative * y) / (16 * (c + y))
        for y, c in zip(expected, condition, strict=True)
        if c + y
    ]
    assert 1.0 <= min(share) <= 1.1


@pytest.mark.parametrize("name", ["q_sample", "kl_full", "middle_term", "gaussian_decoder", "guided"])
def test_tolerances_are_tight(name, monkeypatch):
    """At most 30 times the rounding that the condition explains: of some entry always, of most too."""
    shares = []

    def pair(expected, condition, u, reduced=tolerances._pair):
        absolute, relative = reduced(expected, condition, u)
        entries = zip(expected, condition, strict=True)
        own = [(absolute + relative * abs(y)) / (u * (c + abs(y))) for y, c in entries if c or y]
        assert not own or min(own) <= 30.0
        shares.extend(own)
        return [absolute, relative]

    monkeypatch.setattr(tolerances, "_pair", pair)
    whole(FUNCTIONS[name])
    assert statistics.median(shares) <= 30.0


# --- slips --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "flag", "slip"), SLIPS, ids=[f"{name}-{flag}" for name, flag, _ in SLIPS]
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of slips
def test_a_slip_fails_every_case_that_names_it(function, flag, slip):
    report = check_vectors(SimpleNamespace(**{function: slip}), functions=[function])
    named = [result for result in report.results if flag in result.case.flags]
    assert named
    passed = [result.case.id for result in named if result.distance is None or result.status == "passed"]
    assert not passed, str(report)


def faults(value, rule, root=SCHEMA):
    """Where a value does not follow a rule of JSON Schema; the words that schema.json uses."""
    known = {"$schema", "$comment", "$defs", "title", "properties"}
    for word, wanted in rule.items():
        if word == "$ref":
            yield from faults(value, root["$defs"][wanted.rpartition("/")[2]])
        elif word in ("oneOf", "anyOf"):
            fit = [not list(faults(value, choice)) for choice in wanted]
            if not any(fit) or (word == "oneOf" and sum(fit) > 1):
                yield f"{value!r:.40} is none of {word}"
        elif word == "type":
            kind = {"object": dict, "array": list, "string": str, "integer": int, "number": int | float}
            if not isinstance(value, kind[wanted]) or isinstance(value, bool):
                yield f"{value!r:.40} is no {wanted}"
        elif word == "const":
            if value != wanted:
                yield f"{value!r:.40} is not {wanted}"
        elif isinstance(value, dict) and word == "required":
            yield from (f"{key} is missing" for key in wanted if key not in value)
        elif isinstance(value, dict) and word == "additionalProperties":
            named = rule.get("properties", {})
            for key, item in value.items():
                inner = named.get(key, wanted)
                yield from [f"{key} is not known"] if inner is False else faults(item, inner)
        elif word in ("minItems", "maxItems", "minLength", "minProperties"):
            kind = {"minItems": list, "maxItems": list, "minLength": str, "minProperties": dict}[word]
            if isinstance(value, kind) and (
                len(value) > wanted if word == "maxItems" else len(value) < wanted
            ):
                yield f"{value!r:.40} breaks {word}"
        elif isinstance(value, list) and word == "items":
            for item in value:
                yield from faults(item, wanted)
        elif isinstance(value, list) and word == "uniqueItems":
            if len({*map(str, value)}) < len(value):
                yield "an item stands twice"
        elif isinstance(value, str) and word == "pattern":
            if not re.search(wanted, value):
                yield f"{value!r:.40} does not match {wanted}"
        elif isinstance(value, int | float) and word == "minimum":
            if value < wanted:
                yield f"{value} is below {wanted}"
        else:
            assert word in known or word in (
                "required",
                "additionalProperties",
                "items",
                "pattern",
                "minimum",
                "uniqueItems",
            ), word
