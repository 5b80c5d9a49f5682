"""The runner of the test vectors: planted mistakes are reported, and ports that break are said to."""

import io
import json
import re
import sys

import numpy as np
import pytest

from ddpm_np.testing.vectors import VectorsError, VectorsFailed, _port, _program, check_vectors, load
from ddpm_np.testing.vectors.__main__ import main
from ddpm_np.testing.vectors._comparing import WrongAnswer, compare
from ddpm_np.testing.vectors._files import Case
from ddpm_np.testing.vectors._flags import MEANINGS, meaning
from ddpm_np.testing.vectors._python import report_on
from ddpm_np.testing.vectors.ours import ours
from ddpm_np.testing.vectors.serving import serve

TIGHT = {"float64": [1e-15, 1e-15], "float32": [1e-6, 1e-6]}


def case(id, function, inputs, expected, flags=("root",)):
    tolerance = {dtype: dict.fromkeys(expected, bounds) for dtype, bounds in TIGHT.items()}
    about = {"id": id, "function": function, "equation": "M2 (22)", "note": f"a note on {id}"}
    rest = {"inputs": inputs, "expected": expected, "tolerance": tolerance, "flags": list(flags)}
    return {**about, **rest}


CASES = {
    "double": [
        case(f"double-{i:03}", "double", {"x": [i, -1.5]}, {"y": [2.0 * i, -3.0]}) for i in range(1, 5)
    ],
    "moments": [
        case(
            "moments-001",
            "moments",
            {"x": [[1.0, 3.0]], "t": [1], "kind": "plain", "weights": {"a/b": [[2.0]], "c": 0.5}},
            {"mean": [2.0], "count": 2},
            ("E2", "a slip of its own"),
        )
    ],
    "sign": [case("sign-001", "sign", {"x": -2.0}, {"y": -1.0})],
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """Vectors of three small functions."""
    folder = tmp_path / "v1"
    folder.mkdir()
    index = {"version": 1, "functions": [{"function": name} for name in CASES]}
    (folder / "index.json").write_text(json.dumps(index))
    for name, cases in CASES.items():
        texts = {"version": 1, "function": name, "equation": "M2 (22)", "formula": "y = f(x)"}
        tables = {
            "inputs": dict.fromkeys(cases[0]["inputs"], ""),
            "outputs": dict.fromkeys(cases[0]["expected"], ""),
        }
        (folder / f"{name}.json").write_text(json.dumps({**texts, **tables, "cases": cases}))
    return folder


PORT = """
import json, os, sys, time
hello = json.loads(sys.stdin.readline())
say = lambda found: print(json.dumps(found), flush=True)
say({"port": "mine", "dtype": hello["dtype"]})
def double(x): return {"y": [2.0 * v for v in x]}
def moments(x, t, kind, weights): return {"mean": [sum(x[0]) / 2], "count": 2}
def sign(x): return {"y": -1.0 if x < 0 else 1.0}
for line in sys.stdin:
    case = json.loads(line)
    id, inputs = case["id"], case["inputs"]
    PLANT
    say({"id": id, "outputs": globals()[case["function"]](**inputs)})
"""


@pytest.fixture
def run(folder, tmp_path, capsys):
    """Run a port with something planted in its loop; exit status, report or error."""

    def call(plant="pass", *options, port=PORT):
        path = tmp_path / "port.py"
        path.write_text(port.replace("PLANT", plant))
        command = f"{sys.executable} -S {path}"
        status = main(["--folder", str(folder), "--run", command, "--timeout", "20", *options])
        said = capsys.readouterr()
        return status, said.out or said.err

    return call


# --- ports --------------------------------------------------------------------------------


def test_a_right_port_passes(run):
    status, report = run()
    assert status == 0
    assert report.startswith("mine, float64, vectors v1\n")
    assert report.endswith("\n6 passed, 0 failed, 0 skipped\n")


def test_a_wrong_port_fails_with_both_numbers_and_what_it_means(run):
    wrong = "{'mean': [2.5], 'count': 2}"
    status, report = run(f"if id == 'moments-001': say({{'id': id, 'outputs': {wrong}}}); continue")
    assert status == 1
    assert "moments-001, M2 (22): mean[0] is 2.5, should be 2.0" in report
    assert "a note on moments-001" in report
    assert f"usually means: {meaning('E2')}; or a slip of its own" in " ".join(report.split())
    assert "5 passed, 1 failed, 0 skipped" in report


def test_a_mistake_that_a_passing_case_would_show_is_not_named(run, folder):
    path = folder / "double.json"
    table = json.loads(path.read_text())
    for row, flags in zip(table["cases"], (["sign"], ["sign", "root"], [], ["order"]), strict=True):
        row["flags"] = flags
    path.write_text(json.dumps(table))
    _, report = run("if id == 'double-002': inputs['x'] = [0.0, 0.0]")
    assert f"usually means: {meaning('root')}\n" in report
    _, report = run("if id in ('double-001', 'double-002'): inputs['x'] = [0.0, 0.0]")
    assert f"usually means: {meaning('sign')}\n" in report


def test_only_the_first_failure_of_a_function_is_told(run):
    _, report = run("if id in ('double-003', 'double-004'): inputs['x'] = [0.0, 0.0]")
    assert "double-003" in report
    assert "double-004" not in report
    assert re.search(r"double +2 +2 +0 ", report)


@pytest.mark.parametrize(
    ("plant", "sentence"),
    {
        "say({'id': id, 'skip': 'no doubles'}); continue": "skipped: double: no doubles.",
        "say({'id': id, 'error': 'out of\\nmemory'}); continue": "it says: out of memory",
        "say({'id': id}); continue": "the answer has neither outputs, nor skip, nor error",
        "say({'id': id, 'outputs': {}}); continue": "the output 'y' is missing; there is nothing",
        "say({'id': id, 'outputs': {'y': [1.0]}}); continue": "y must have shape (2,), got (1,)",
        "say({'id': id, 'outputs': {'y': [[1.0], 2.0]}}); continue": "y must be numbers",
        "say({'id': id, 'outputs': {'y': ['2', 'two']}}); continue": "y must be numbers",
        "say({'id': id, 'outputs': {'y': {}}}); continue": "y must be numbers",
        "say({'id': id, 'outputs': {'y': [None, -3.0]}}); continue": "y[0] is nan, should be 2.0",
        "say({'id': id, 'outputs': {'y': ['nan', -3.0]}}); continue": "y[0] is nan, should be 2.0",
        "say({'id': id, 'outputs': {'y': [2.0, '-inf']}}); continue": "y[1] is -inf, should be -3.0",
        "print('x =', inputs, flush=True)": "no JSON object; what is no answer belongs on stderr",
        "print('[]', flush=True)": "it printed '[]', no JSON object",
        "print('[' * 9999, flush=True)": "no JSON object",
        "say({'id': 'another', 'outputs': {}})": "expected, got one to 'another'",
        "sys.exit('cannot\\nsay more')": "it ended with status 1 and said 'say more'",
        "os.kill(os.getpid(), 9)": "it ended by SIGKILL",
        "os.close(1); time.sleep(60)": "it closed its output",
    }.items(),
)  # fmt: skip
def test_every_way_to_go_wrong_is_one_sentence(run, plant, sentence, monkeypatch):
    monkeypatch.setattr(_program, "EXIT_SECONDS", 0.3)
    status, report = run(f"if id == 'double-001': {plant}")
    assert sentence in " ".join(report.split())
    assert status == (0 if "skipped:" in sentence else 1)
    assert "Traceback" not in report
    assert re.search(r"moments +1 +0", report), "the others go on"


def test_a_case_that_takes_too_long(run):
    status, report = run("if id == 'sign-001': time.sleep(60)", "--timeout", "0.2", "--function", "sign")
    assert status == 1
    assert "it did not answer in time; does it flush its output after each answer?" in report


def test_a_port_that_does_not_read_what_is_longer_than_a_pipe(run, folder):
    path = folder / "double.json"
    table = json.loads(path.read_text())
    table["cases"] = [case("double-009", "double", {"x": [1.0] * 50_000}, {"y": [2.0]})]
    path.write_text(json.dumps(table))
    port = PORT.replace("for line in sys.stdin:", "time.sleep(60)\nfor line in sys.stdin:")
    _, report = run("pass", "--timeout", "0.3", "--function", "double", port=port)
    assert "it did not answer in time" in report


def test_a_port_that_breaks_is_started_anew_and_given_up_in_the_end(run, monkeypatch):
    _, report = run("if id == 'double-002': sys.exit(3)")
    assert "double-002, M2 (22): it ended with status 3" in report
    assert "5 passed, 1 failed, 0 skipped" in report
    monkeypatch.setattr(_port, "MOST_OF_ONE_FUNCTION", 2)
    _, report = run("if 'double' in id: sys.exit(3)", "--json")
    messages = {row["id"]: row["message"] for row in json.loads(report)["cases"]}
    assert messages["double-003"] == "not asked, since the port broke 2 times before it"
    assert messages["sign-001"] == ""
    monkeypatch.setattr(_port, "MOST_IN_A_ROW", 2)
    _, report = run("if 'double' in id: sys.exit(3)", "--json")
    assert (
        json.loads(report)["cases"][-1]["message"] == "not asked, since the port broke 2 times in a row"
    )


@pytest.mark.parametrize(
    ("end", "sentence"),
    {
        "print('bye', flush=True)": "after the last case: it printed more after its last answer: 'bye'.",
        "sys.exit(4)": "after the last case: it ended with status 4.",
        "time.sleep(60)": "after the last case: it did not end when its input did.",
    }.items(),
)
def test_a_port_must_end_well(run, end, sentence):
    status, report = run("pass", "--timeout", "0.5", port=PORT + end)
    assert status == 1
    assert sentence in report
    assert "6 passed, 0 failed, 0 skipped" in report


@pytest.mark.parametrize(
    ("hello", "sentence"),
    {
        "1 / 0": "said 'ZeroDivisionError",
        "pass": "it ended with status 0",
        "print('ready', flush=True)": "it printed 'ready', no JSON object",
        "print('{}', flush=True)": "its first line must name the port",
        "print('{\"port\": \"p\", \"functions\": 1}')": "its first line must name the port",
        "print('{\"port\": \"p\", \"dtype\": \"float16\"}')": "it computes in float16, and float64",
        "import time; time.sleep(60)": "it did not answer in time",
    }.items(),
)  # fmt: skip
def test_what_is_no_port_is_one_sentence_and_status_2(run, hello, sentence, monkeypatch):
    monkeypatch.setattr(_port, "START_SECONDS", 0.3)
    status, error = run("", "--timeout", "0.3", port=hello)
    assert status == 2
    assert sentence in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    {
        ("--run", "no-such-program x"): "no-such-program x cannot be run: No such file or directory",
        ("--run", "'"): "cannot be split",
        ("--run", " "): "the command of the port is empty",
        ("--run", "x", "--function", "nothing"): "there are no vectors for 'nothing'",
        ("--run", "x", "--xfail", "/no/such/file"): "/no/such/file cannot be read: No such file",
        ("--list", "--folder", "/no/such/folder"): "there is no file /no/such/folder/index.json",
    }.items(),
)
def test_misuse_is_one_sentence_and_status_2(capsys, folder, options, sentence):
    options = ["--folder", str(folder), *options]
    assert main(options) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "options", [(), ("--run", "x", "--timeout", "0"), ("--run", "x", "--timeout", "y")]
)
def test_a_wrong_command_line(capsys, options):
    with pytest.raises(SystemExit) as stop:
        main(options)
    assert stop.value.code == 2


def test_functions_that_are_not_offered_are_skipped(run):
    port = PORT.replace('hello["dtype"]}', 'hello["dtype"], "functions": ["sign"]}')
    status, report = run(port=port)
    assert status == 0
    assert "not offered: double, moments." in report
    assert "1 passed, 0 failed, 5 skipped" in report


def test_known_failures(run, tmp_path):
    known, plant = tmp_path / "known.txt", "if id == 'sign-001': inputs['x'] = 1"
    known.write_text("# of ours\nsign-001  # a sign\n\ndouble\n")
    status, report = run(plant, "--xfail", str(known))
    assert status == 0
    assert "known to fail, but passed: double-001, double-002, double-003, double-004" in report
    assert report.endswith("5 passed, 0 failed, 0 skipped\n1 more known to fail\n")
    known.write_text("sing-001\n")
    assert run(plant, "--xfail", str(known)) == (
        2,
        f"python -m ddpm_np.testing.vectors: error: {known} names 'sing-001', which is no case "
        "and no function\n",
    )


def test_float32_has_tolerances_of_its_own(run):
    plant = "if id == 'double-001': inputs['x'] = [1.0 + 4e-7, -1.5]"
    assert run(plant)[0] == 1
    status, report = run(plant, "--float32")
    assert status == 0
    assert report.startswith("mine, float32")


def test_json(run):
    _, text = run("if id == 'sign-001': inputs['x'] = 1", "--json", "--function", "sign")
    found = json.loads(text)
    assert not found["ok"]
    (row,) = found["cases"]
    assert row["status"] == "failed"
    assert row["distance"]["got"] == 1.0
    assert row["distance"]["expected"] == -1.0


def test_the_list_needs_no_port(capsys, folder):
    assert main(["--folder", str(folder), "--list"]) == 0
    assert "moments  1  (x, t, kind, weights) -> mean, count" in capsys.readouterr().out


# --- plain words --------------------------------------------------------------------------

PLAIN = """
import sys
words = sys.stdin.readline().split()
print("port mine", words[2], flush=True)
lines = iter(sys.stdin.readline, "")
for line in lines:
    _, id, function = line.split()
    inputs = dict(line.rstrip("\\n").split(" ", 1) for line in iter(lines.__next__, "end\\n"))
    print("asked", id, inputs, file=sys.stderr, flush=True)
    PLANT
    if function == "double":
        x = [float(v) for v in inputs["x"].split()[2:]]
        print("outputs", id, "\\ny 1 2", 2 * x[0], 2 * x[1], "\\nend", flush=True)
    elif function == "moments":
        assert inputs["weights/a/b"] == "2 1 1 2.0", inputs
        assert inputs["kind"] == "text plain"
        print("outputs", id, "\\nmean 1 1 2\\ncount 0 2\\nend", flush=True)
    else:
        print("outputs", id, "\\ny 0 -1\\nend", flush=True)
"""


def test_plain_words(run):
    status, report = run("pass", "--plain", port=PLAIN)
    assert report.endswith("6 passed, 0 failed, 0 skipped\n")
    assert status == 0


@pytest.mark.parametrize(
    ("plant", "sentence"),
    {
        "print('skip', id, 'no signs', flush=True)": "skipped: sign: no signs.",
        "print('error', id, 'no signs', flush=True)": "it says: no signs",
        "print('hello', flush=True)": "it printed 'hello', no answer; what is none belongs on stderr",
        "print('outputs sign-002', flush=True)": "expected, got one to 'sign-002'",
        "print('outputs', id, '\\ny 1 3 1 2\\nend', flush=True)": "it printed 'y 1 3 1 2', no array",
        "print('outputs', id, '\\ny 0 one\\nend', flush=True)": "it printed 'y 0 one', no array",
        "print('outputs', id, '\\ny 0 nan\\nend', flush=True)": "y is nan, should be -1.0",
    }.items(),
)  # fmt: skip
def test_plain_words_gone_wrong(run, plant, sentence):
    _, report = run(f"{plant}; continue", "--plain", "--function", "sign", port=PLAIN)
    assert sentence in " ".join(report.split())


@pytest.mark.parametrize("hello", ["print('port', flush=True)", "print('ready', flush=True)"])
def test_plain_words_need_a_greeting(run, hello):
    status, error = run("", "--plain", port=hello)
    assert status == 2
    assert "its first line must be 'port NAME DTYPE ...'" in error


# --- in Python ----------------------------------------------------------------------------


class Mine:
    """What the three functions get, and ways to return."""

    def double(self, x):
        assert x.dtype == self.dtype
        return 2.0 * x

    def moments(self, x, t, kind, weights):
        assert t.dtype == np.int64
        assert kind == "plain"
        assert weights["a/b"].dtype == x.dtype
        return x.mean(axis=1), x.size

    def sign(self, x):
        return {"y": np.sign(x)}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_an_object_is_asked_in_its_dtype(folder, dtype):
    mine = Mine()
    mine.dtype = np.dtype(dtype)
    report = report_on(mine, "mine", load(folder=folder), dtype)
    report.raise_if_failed()
    assert len(report.having("passed")) == 6


def test_an_object_that_fails(folder):
    class Wrong:
        name = "wrong"

        def double(self, x):
            return 2.0 * x + 1e-12

        def moments(self, x, t, kind, weights):
            return x

        def sign(self, x):
            raise ArithmeticError("no\nsign")

    report = report_on(Wrong(), "wrong", load(folder=folder), "float64")
    with pytest.raises(VectorsFailed, match="0 passed, 6 failed, 0 skipped"):
        report.raise_if_failed()
    text = str(report)
    assert "it returned 1 results, wanted mean, count" in text
    assert "it raised ArithmeticError: no sign" in text


def test_an_object_may_leave_out_functions(folder):
    class Some:
        sign = "no function"

        def moments(self, **inputs):
            raise NotImplementedError("later")

    report = report_on(Some(), "some", load(folder=folder), "float64")
    assert report.ok
    assert "not offered: double, sign." in str(report)
    assert "skipped: moments: later." in str(report)


def test_serving_is_the_other_side_of_asking():
    """A line of each kind; what is not finite goes as text."""

    class Some:
        def q_sample(self, beta, x0, t, noise):
            if beta.size == 2:
                raise ValueError("two\nbetas")
            return np.array([np.nan, -np.inf, 1.0])

    asked = [{"vectors": 1, "dtype": "float32"}]
    for size, function in ((1, "q_sample"), (2, "q_sample"), (1, "q_step")):
        inputs = {"beta": [0.5] * size, "x0": [1.0], "t": [1], "noise": [0.0]}
        asked.append({"id": f"{size}{function}", "function": function, "inputs": inputs})
    out = io.StringIO()
    serve(Some(), "some", io.StringIO("".join(json.dumps(line) + "\n" for line in asked)), out)
    said = [json.loads(line) for line in out.getvalue().splitlines()]
    assert said == [
        {"port": "some", "dtype": "float32", "functions": ["q_sample"]},
        {"id": "1q_sample", "outputs": {"x_t": ["nan", "-inf", 1.0]}},
        {"id": "2q_sample", "error": "it raised ValueError: two betas"},
        {"id": "1q_step", "skip": "not offered"},
    ]


# --- comparing ----------------------------------------------------------------------------


def one(expected, absolute, relative):
    bounds = {dtype: {"y": [absolute, relative]} for dtype in TIGHT}
    return Case("y-001", "y", "", {}, {"y": expected}, bounds, (), "")


def test_the_tolerance_is_absolute_plus_relative():
    found = compare(one([10.0, 0.0], 0.5, 0.1), {"y": [10.75, 0.375]}, "float64")
    assert found.tolerances == 0.75
    assert found.entry == "y[1]"
    assert compare(one(10.0, 0.5, 0.1), {"y": 8.5}, "float64").tolerances == 1.0


def test_without_a_tolerance_only_equality_passes():
    assert compare(one([3, 0], 0.0, 0.0), {"y": [3.0, 0.0]}, "float64").tolerances == 0.0
    assert compare(one([3, 0], 0.0, 0.0), {"y": [3.0, 1e-300]}, "float64").tolerances == np.inf


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_ulps_are_those_of_the_dtype(dtype):
    got = float(np.nextafter(np.ones(1, dtype), np.full(1, 2, dtype))[0])
    assert compare(one([1.0, 0.0], 1.0, 0.0), {"y": [got, 0.0]}, dtype).ulps == 1.0
    # an expected 0 has the unit of the largest entry
    assert compare(one([1.0, 0.0], 1.0, 0.0), {"y": [1.0, got - 1.0]}, dtype).ulps == 1.0


def test_nothing_is_compared_with_itself():
    assert compare(one([], 0.0, 0.0), {"y": []}, "float64").tolerances == 0.0
    with pytest.raises(WrongAnswer, match="y must be numbers"):
        compare(one([1.0], 0.0, 0.0), {"y": [True]}, "float64")


# --- the files ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "change", "sentence"),
    [
        ("index.json", lambda _: {"version": 2}, "must be of version 1 of the vectors, got 2"),
        ("index.json", lambda _: [], "must be of version 1"),
        ("index.json", lambda _: {"version": 1}, "'functions' is"),
        ("sign.json", lambda f: {**f, "function": "sing"}, "its function is 'sing'"),
        ("sign.json", lambda f: {**f, "cases": None}, "'cases' is"),
        ("sign.json", lambda f: {**f, "cases": f["cases"] * 2}, "two cases 'sign-001'"),
        ("sign.json", lambda f: {**f, "cases": [{"id": "sign-001"}]}, "'equation' is"),
        (
            "sign.json",
            lambda f: {**f, "cases": [{**f["cases"][0], "tolerance": {"float64": {"y": [0, 0]}}}]},
            "'float32' is",
        ),
        (
            "sign.json",
            lambda f: {**f, "cases": [{**f["cases"][0], "expected": {"z": 1.0}}]},
            "sign-001 has no float64 tolerance for each output",
        ),
    ],
)
def test_damaged_vectors_are_one_sentence(folder, file, change, sentence):
    path = folder / file
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(VectorsError, match=sentence.replace("(", r"\(")):
        load(folder=folder)


def test_vectors_that_are_no_json(folder):
    (folder / "sign.json").write_text("{")
    with pytest.raises(VectorsError, match=r"sign\.json cannot be read: Expecting"):
        load(folder=folder)


# --- ddpm_np ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_ddpm_np_passes_all(dtype):
    report = check_vectors(ours(), dtype=dtype)
    report.raise_if_failed()
    assert not report.having("skipped")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_numba_passes_all(dtype):
    numba_backend = pytest.importorskip("backends.numba_backend")
    report = check_vectors(ours(numba_backend.make().ops, "numba"), dtype=dtype)
    report.raise_if_failed()
    assert not report.having("skipped")


def test_ddpm_np_is_a_port(capsys):
    functions = ("q_sample", "q_posterior")
    options = [option for name in functions for option in ("--function", name)]
    assert main(["--run", f"{sys.executable} -m ddpm_np.testing.vectors.ours", *options]) == 0
    assert ", 0 failed, 0 skipped" in capsys.readouterr().out


def test_a_dtype_that_is_none():
    with pytest.raises(ValueError, match="dtype must be one of 'float64', 'float32', got 'float16'"):
        check_vectors(object(), dtype="float16")


def test_every_flag_has_a_meaning_and_every_meaning_a_case():
    flags = {flag for function in load() for case in function.cases for flag in case.flags}
    assert flags == MEANINGS.keys()


def test_planted_slips_are_seen_in_python():
    """A root left out of q_sample, and a wrong index, each by a case of the right function."""

    class Slips:
        def q_sample(self, beta, x0, t, noise):
            alpha_bar = np.cumprod(1.0 - beta)[t - 1][:, None]
            return np.sqrt(alpha_bar) * x0 + (1.0 - alpha_bar) * noise

    report = check_vectors(Slips(), functions=["q_sample"])
    assert not report.ok
    assert "usually means" in str(report)
