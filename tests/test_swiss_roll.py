import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backends import BackendError, get_backend
from ddpm_np.runs.checkpoint import read_archive, save_checkpoint, write_archive
from ddpm_np.runs.log import read_metrics
from ddpm_np.training import init_state

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "examples" / "swiss_roll.py"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
ENVIRONMENT.pop("PYTHONWARNINGS", None)
TINY = {
    "--steps": 30,
    "--batch-size": 16,
    "--hidden-size": 8,
    "--hidden-layers": 1,
    "--timesteps": 25,
    "--samples": 50,
    "--backend": "numpy",
}
FILES = {"checkpoint.npz", "metrics.jsonl", "summary.json"}
PICTURES = {"samples.png", "trajectory.png", "elbo.png", "budget.png", "loss.png", "schedule.png"}

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")


def arguments(out, *flags, plots=False, **settings):
    """The tiny settings, with changes: ``hidden_size=4``."""
    values = {**TINY, **{f"--{name.replace('_', '-')}": value for name, value in settings.items()}}
    pairs = [str(part) for pair in values.items() for part in pair]
    return [*pairs, "--out-dir", str(out), *([] if plots else ["--no-plots"]), *flags]


def command(*args, **kwargs):
    return [sys.executable, "-u", str(SCRIPT), *arguments(*args, **kwargs)]


def call(out, *flags, limits=(), **settings):
    """Run the script in a process of its own, under limits of its resources."""

    def set_limits():
        import resource

        for name, value in limits:
            resource.setrlimit(getattr(resource, name), (value, value))

    return subprocess.run(
        command(out, *flags, **settings),
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        cwd=out.parent if out.parent.is_dir() else None,
        preexec_fn=set_limits if limits else None,
        timeout=120,
    )


def assert_refused(result):
    """Exit status 2 and one sentence, which is returned."""
    assert result.returncode == 2, result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert result.stderr.startswith("swiss_roll.py: error: ")
    assert "Traceback" not in result.stdout
    return result.stderr


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def arrays(folder):
    """Every bit of a checkpoint that a run depends on."""
    found, about = read_archive(folder / "checkpoint.npz")
    return {name: (array.dtype, array.tobytes()) for name, array in found.items()}, about


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("swiss_roll_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def here(script, monkeypatch, capsys):
    """As ``call``, but in this process, which starts faster, and where warnings are errors."""
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)

    def run(out, *flags, **settings):
        status = script.main(arguments(out, *flags, **settings))
        said = capsys.readouterr()
        return subprocess.CompletedProcess((), status, said.out, said.err)

    return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run with the tiny settings and without pictures: its folder, and what it printed."""
    out = tmp_path_factory.mktemp("finished") / "deep" / "run"
    result = call(out)
    assert result.returncode == 0, result.stderr
    return out, result


@pytest.fixture
def out(tmp_path, finished):
    """A copy of it."""
    shutil.copytree(finished[0], tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def begun(tmp_path, script):
    """A run that was stopped before its first step: a checkpoint, and no other file."""
    folder = tmp_path / "run"
    folder.mkdir()
    options, numpy = script.parse(arguments(folder)), get_backend("numpy")
    recipe = script.make_recipe(options)
    state = init_state(recipe, options.seed, lambda a: numpy.asarray(a, options.dtype))
    settings = script.configuration(options) | {"backend": "numpy"}
    save_checkpoint(folder / "checkpoint.npz", recipe, state, settings, numpy.to_numpy)
    return folder


# --- a run --------------------------------------------------------------------------------


def test_a_run_writes_its_files_and_says_what_it_does(finished):
    out, result = finished
    assert {path.name for path in out.iterdir()} == FILES
    assert result.stderr == ""
    said = result.stdout
    assert said.startswith("backend: numpy on cpu\n")
    for text in (
        "training: step 30 of 30, loss ",
        "50 points over 25 steps",
        "gap of the oracle",
        "each nat of the gap",
    ):
        assert text in said
    assert said.endswith(f"everything is in {out}\n")


def test_the_summary_has_every_key_and_its_nats_add_up(finished):
    summary = json.loads((finished[0] / "summary.json").read_text())
    floats = (
        *("train_seconds", "steps_per_second", "sample_seconds"),
        *("entropy", "gap", "oracle_gap", "sliced_w2", "sliced_w2_floor"),
    )
    types = dict.fromkeys(floats, float) | {"backend": str, "device": str, "nats": dict}
    types |= {"steps": int, "seed": int}
    assert {name: type(summary[name]) for name in types} == types
    nats = summary["nats"]
    assert nats.keys() == {"L_T", "L_mid", "L_0", "elbo", "elbo_se"}
    assert all(type(value) is float for value in nats.values())
    assert nats["L_T"] + nats["L_mid"] + nats["L_0"] == pytest.approx(nats["elbo"], rel=1e-6)
    assert summary["gap"] == -nats["elbo"] - summary["entropy"]
    assert nats["L_T"] < 0
    assert nats["L_mid"] < 0
    assert nats["elbo_se"] > 0
    assert summary["entropy"] == pytest.approx(0.8026, abs=1e-3)
    assert 0 < summary["oracle_gap"] < summary["gap"]
    assert summary["excess_gap"] == pytest.approx(summary["gap"] - summary["oracle_gap"], abs=1e-9)
    assert 0 < summary["sliced_w2_floor"] < summary["sliced_w2"]
    budget = summary["budget"]
    assert [*budget] == ["start", "steps", "variance", "network", "gap", "sum"]
    parts = sum(budget[name]["total"] for name in ("start", "steps", "variance", "network"))
    assert budget["sum"]["total"] == pytest.approx(parts, abs=1e-9)
    error = np.hypot(budget["sum"]["se"], budget["gap"]["se"])
    assert abs(budget["sum"]["total"] - budget["gap"]["total"]) < 4.0 * error
    assert (summary["backend"], summary["steps"], summary["seed"]) == ("numpy", 30, 0)
    assert summary["steps_per_second"] > 0


def test_the_log_ends_with_the_last_step(finished):
    (record,) = read_metrics(finished[0] / "metrics.jsonl")
    assert record["step"] == 30
    assert 0.1 < record["loss"] < 10
    assert 0 < record["learning_rate"] < 4e-3


def test_pictures_are_drawn_and_the_chain_animated(here, tmp_path):
    result = here(tmp_path / "run", "--animate", plots=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES | PICTURES | {"reverse.gif"}
    for name in PICTURES:
        with Image.open(tmp_path / "run" / name) as image:
            assert image.format == "PNG"
            assert min(image.size) > 200
            assert len(image.convert("L").getcolors()) > 10
    with Image.open(tmp_path / "run" / "reverse.gif") as image:
        assert image.format == "GIF"
        assert image.n_frames == 26


@pytest.mark.parametrize(
    "settings",
    [
        {"target": "v", "variance": "posterior", "schedule": "cosine", "dtype": "float64"},
        {"target": "x0", "variance": "unit", "schedule": "sigmoid", "hidden_layers": 0},
        {"target": "mean", "timesteps": 1, "schedule": "linear", "samples": 2, "steps": 1},
    ],
    ids=lambda settings: settings["target"],
)
def test_other_choices_run_too(here, tmp_path, settings):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the prior is off")
        result = here(tmp_path / "run", **settings)
    assert (result.returncode, result.stderr) == (0, "")
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES


def test_auto_takes_a_backend_and_says_which(tmp_path):
    result = call(tmp_path / "run", backend="auto")
    assert (result.returncode, result.stderr) == (0, "")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert result.stdout.startswith(f"backend: {summary['backend']} on {summary['device']}")


def test_a_prior_that_is_off_is_explained_once(tmp_path):
    result = call(tmp_path / "run", schedule="linear", timesteps=50)
    assert result.returncode == 0
    (line,) = result.stderr.splitlines()
    assert line.startswith("warning: the prior is off by 0.7")
    assert "scaled_linear" in line


# --- bad flags ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        *[("--steps", value) for value in ("0", "-1", "abc", "1e3", "1.5", "", "nan")],
        *[("--batch-size", value) for value in ("0", "-5", "2.0", "9" * 30)],
        *[("--hidden-size", value) for value in ("0", "x", "9" * 30)],
        *[("--hidden-layers", value) for value in ("-1", "1.0", "1001", "9" * 30)],
        *[("--timesteps", value) for value in ("0", "10", "20", "-3", "ten", "9" * 30)],
        *[("--schedule", value) for value in ("foo", "", "Linear")],
        *[("--target", value) for value in ("noise", "")],
        *[("--variance", value) for value in ("big", "")],
        *[("--learning-rate", value) for value in ("nan", "-1", "0", "inf", "-inf", "fast")],
        *[("--learning-rate", value) for value in ("", "1e999", "1e-999")],
        *[("--seed", value) for value in ("-1", "1.5", str(2**64), "none")],
        *[("--dtype", value) for value in ("float16", "double")],
        *[("--samples", value) for value in ("1", "0", "many", "9" * 30)],
        *[("--checkpoint-every", value) for value in ("0", "-1", "often")],
        *[("--backend", value) for value in ("torch", "")],
        ("--unknown", "1"),
    ],
)
def test_a_bad_value_is_one_sentence_and_status_2(script, tmp_path, monkeypatch, capsys, flag, value):
    monkeypatch.setattr(sys, "argv", ["swiss_roll.py"])
    with pytest.raises(SystemExit) as caught:
        script.main([*arguments(tmp_path / "run"), f"{flag}={value}"])
    assert caught.value.code == 2
    usage, error = capsys.readouterr().err.split("swiss_roll.py: error: ")
    assert usage.startswith("usage: ")
    assert flag in error
    assert error.count("\n") == 1
    if f"{flag}={value}" == "--timesteps=10":
        assert error.startswith("--timesteps 10 --schedule scaled_linear: T must exceed 20")
    assert not (tmp_path / "run").exists()


@posix
@pytest.mark.parametrize("where", ["a file", "below a file", "/proc/nothing/here", "too long a name"])
def test_an_impossible_folder_is_one_sentence(here, tmp_path, where):
    (tmp_path / "file").write_text("kept")
    folder = {
        "a file": tmp_path / "file",
        "below a file": tmp_path / "file" / "run",
        "/proc/nothing/here": Path("/proc/nothing/here"),
        "too long a name": tmp_path / ("x" * 300),
    }[where]
    assert str(folder)[:12] in assert_refused(here(folder))
    assert contents(tmp_path) == {"file": b"kept"}


def test_a_backend_that_cannot_run_is_one_sentence(tmp_path):
    try:
        get_backend("cupy")
    except BackendError:
        message = assert_refused(call(tmp_path / "run", backend="cupy"))
        assert "backend cupy cannot run" in message
        assert not (tmp_path / "run").exists()
    else:
        pytest.skip("cupy runs here")


@posix
@pytest.mark.parametrize(
    "settings",
    [
        *[{"batch_size": size} for size in (10**15, 10**10)],
        *[{"hidden_size": size} for size in (10**15, 10**9)],
        *[{"samples": size} for size in (10**15, 10**10)],
    ],
    ids=str,
)
def test_an_absurd_size_is_one_sentence(tmp_path, settings):
    result = call(tmp_path / "run", **settings, limits=[("RLIMIT_AS", 4 << 30)])
    assert "allocate" in assert_refused(result)


@posix
def test_an_absurd_number_of_times_is_one_sentence(tmp_path):
    result = call(tmp_path / "run", timesteps=10**15, limits=[("RLIMIT_AS", 4 << 30)])
    assert (result.returncode, result.stdout) == (2, "")
    assert "Traceback" not in result.stderr
    assert "--timesteps 1000000000000000" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"learning_rate": 1e30}, "training diverged by step 30"),
        ({"learning_rate": 1e5}, "diverged"),
        (
            {"learning_rate": 1e9, "dtype": "float64", "steps": 5, "hidden_size": 4},
            "sampling diverged at t = ",
        ),
    ],
)
def test_divergence_is_one_sentence(out, settings, said):
    before = contents(out)
    assert said in assert_refused(call(out, **settings))
    assert contents(out / "previous") == before
    if "steps" in settings:  # it diverged after training
        arrays(out)
    assert contents(out).keys() <= {"metrics.jsonl", "checkpoint.npz"}


# --- resuming -----------------------------------------------------------------------------


def test_resuming_a_finished_run_goes_straight_to_the_evaluation(here, out):
    before, summary = contents(out), json.loads((out / "summary.json").read_text())
    result = here(out, "--resume")
    assert (result.returncode, result.stderr) == (0, "")
    assert "at step 30 of 30" in result.stdout
    assert "training: step" not in result.stdout
    after = contents(out)
    assert after.keys() == before.keys()
    for name in ("checkpoint.npz", "metrics.jsonl"):
        assert after[name] == before[name]
    again = json.loads(after["summary.json"])
    assert again["nats"] == summary["nats"]
    assert again["sliced_w2"] == summary["sliced_w2"]


def test_without_resume_a_run_starts_afresh_and_another_seed_gives_other_bits(here, out):
    before = arrays(out)[0]["params/weight"]
    (out / "metrics.jsonl").write_text('{"step": 1, "loss": 7.0, "learning_rate": 1.0}\n')
    result = here(out, seed=5)
    assert (result.returncode, result.stderr) == (0, "")
    assert "training: step 30 of 30" in result.stdout
    assert arrays(out)[1]["configuration"]["seed"] == 5
    assert arrays(out)[0]["params/weight"] != before
    assert [record["step"] for record in read_metrics(out / "metrics.jsonl")] == [30]


def test_resuming_what_was_never_begun_begins_it_and_ends_in_the_same_bits(here, finished, tmp_path):
    result = here(tmp_path / "run", "--resume")
    assert (result.returncode, result.stderr) == (0, "")
    assert "starting at step 0" in result.stdout
    assert arrays(tmp_path / "run") == arrays(finished[0])
    again, first = (
        json.loads((folder / "summary.json").read_text()) for folder in (tmp_path / "run", finished[0])
    )
    for timing in ("train_seconds", "steps_per_second", "sample_seconds"):
        del again[timing], first[timing]
    assert again == first


def test_resuming_at_the_start_gives_the_whole_run(here, finished, begun):
    result = here(begun, "--resume")
    assert (result.returncode, result.stderr) == (0, "")
    assert arrays(begun) == arrays(finished[0])
    assert (begun / "metrics.jsonl").read_bytes() == (finished[0] / "metrics.jsonl").read_bytes()


def test_variance_and_samples_may_change_when_resuming(here, out):
    before = arrays(out)
    result = here(out, "--resume", variance="posterior", samples=20)
    assert (result.returncode, result.stderr) == (0, "")
    assert arrays(out) == before
    assert json.loads((out / "summary.json").read_text())["variance"] == "posterior"


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: b"This is no checkpoint.\n",
        lambda content: content[:2000] + bytes([content[2000] ^ 1]) + content[2001:],
    ],
    ids=["truncated", "empty", "text", "flipped"],
)
def test_a_damaged_checkpoint_is_one_sentence_and_stays(here, out, damage):
    path = out / "checkpoint.npz"
    path.write_bytes(damage(path.read_bytes()))
    before = contents(out)
    assert str(path) in assert_refused(here(out, "--resume"))
    assert contents(out) == before


def test_a_foreign_checkpoint_is_one_sentence_that_names_every_difference(here, out):
    before = contents(out)
    was = json.loads((out / "summary.json").read_text())["configuration"]
    changes = [
        {"steps": 40, "batch_size": 8, "hidden_size": 4, "hidden_layers": 2},
        {"timesteps": 30, "schedule": "cosine", "target": "v"},
        {"learning_rate": 0.5, "seed": 3, "dtype": "float64"},
    ]
    assert was.keys() == {name for change in changes for name in change} | {"backend", "noise"}
    for changed in changes:
        message = assert_refused(here(out, "--resume", **changed))
        for name, value in changed.items():
            assert f"{name} was {was[name]!r} and is now {value!r}" in message
        assert "backend was" not in message
    assert contents(out) == before


def test_many_differences_are_as_many_as_fit(here, out):
    changed = {"steps": 40, "batch_size": 8, "hidden_size": 4, "hidden_layers": 2, "timesteps": 30}
    message = assert_refused(here(out, "--resume", **changed, target="v", seed=3, dtype="float64"))
    assert len(message) < 300
    assert "steps was 30 and is now 40; batch_size was 16 and is now 8; " in message
    told = message.count(" was ")
    assert told >= 3
    assert message.endswith(f"; and {8 - told} more\n")


# --- a full disk --------------------------------------------------------------------------


def assert_intact(out, before):
    after = contents(out)
    assert not [name for name in after if name.endswith(".tmp")]
    assert after["checkpoint.npz"] == before["checkpoint.npz"]


@posix
@pytest.mark.parametrize("limit", [100, 4095, 4096, 10_000, 17_000])
@pytest.mark.parametrize("flags", [(), ("--resume",)], ids=["afresh", "resumed"])
def test_no_room_for_a_checkpoint_leaves_the_previous_one(begun, limit, flags):
    before = contents(begun)
    assert len(before["checkpoint.npz"]) > 17_000
    result = call(begun, *flags, limits=[("RLIMIT_FSIZE", limit)])
    assert "too large" in assert_refused(result)
    assert ("training: step" in result.stdout) == (limit >= 4096)
    # A run that starts afresh has set the earlier one aside.
    folder = begun if flags or limit < 4096 else begun / "previous"
    assert_intact(folder, before)
    assert flags or limit < 4096 or not (begun / "checkpoint.npz").exists()


@posix
@pytest.mark.parametrize("size", [5_990, 20_000], ids=["a line", "the log"])
def test_no_room_for_the_log_leaves_the_checkpoint(begun, size):
    line = json.dumps({"step": 0, "loss": 0.5, "learning_rate": 0.1, "pad": "x" * 50}) + "\n"
    text = line * (size // len(line))
    (begun / "metrics.jsonl").write_text(text)
    before = contents(begun)
    assert_refused(call(begun, "--resume", limits=[("RLIMIT_FSIZE", 6000)]))
    assert_intact(begun, before)
    assert (begun / "metrics.jsonl").read_text().startswith(text)
    result = call(begun, "--resume")  # once there is room
    assert (result.returncode, result.stderr) == (0, "")
    assert (begun / "metrics.jsonl").read_text().startswith(text + '{"step": 30')


@posix
def test_no_room_for_a_picture_leaves_the_rest(finished, out):
    before = contents(out)
    largest = max(len(content) for content in before.values())
    result = call(out, "--resume", "--animate", plots=True, limits=[("RLIMIT_FSIZE", largest + 1000)])
    assert "too large" in assert_refused(result)
    assert_intact(out, before)
    assert contents(out).keys() == FILES
    assert "everything is in" not in result.stdout


# --- stopped ------------------------------------------------------------------------------


def start(out, *flags, preexec_fn=None, **settings):
    """Start the script in a process of its own, to be stopped."""
    return subprocess.Popen(
        command(out, *flags, **settings),
        env=ENVIRONMENT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=preexec_fn,
    )


def wait_for(process, text):
    """Read what a run says until it says this."""
    for line in process.stdout:
        if text in line:
            return line
    raise AssertionError(f"ended without {text!r}: {process.stderr.read()}")


def hear_signals():
    """Undo what shells do to background jobs, and so to the tests: they ignore SIGINT, or SIGHUP."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


LONG = {"steps": 3000, "checkpoint_every": 200, "samples": 2}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A longer run, that others are stopped within: its folder."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert call(out, **LONG).returncode == 0
    return out


def assert_is(out, whole):
    """It has the bits and the log of the whole run, and nothing was left behind."""
    assert arrays(out) == arrays(whole)
    assert (out / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert not list(out.glob(".*"))


def assert_resumed(out, whole):
    result = call(out, "--resume", **LONG)
    assert (result.returncode, result.stderr) == (0, "")
    assert_is(out, whole)
    return result


@posix
@pytest.mark.parametrize(
    "sent",
    [["SIGINT"], ["SIGTERM"], ["SIGHUP"], ["SIGTERM", "SIGTERM", "SIGHUP"]],
    ids=" ".join,
)
def test_a_signal_is_one_sentence_and_the_resumed_run_ends_in_the_same_bits(tmp_path, whole, sent):
    out = tmp_path / "parts"
    for flags in ((), ("--resume",)):
        # There is no checkpoint but that of the signal.
        settings = {**LONG, "checkpoint_every": 10**9}
        process = start(out, *flags, preexec_fn=hear_signals, **settings)
        with process:
            wait_for(process, "training: step")
            assert (out / "checkpoint.npz").exists() == bool(flags)
            for name in sent:
                process.send_signal(signal.Signals[name])
                time.sleep(0.001)
            _, error = process.communicate(timeout=60)
        first = signal.Signals(process.returncode - 128).name
        assert first in sent  # of two at a time, the system says which is first
        stopped = "\nswiss_roll.py: stopped" + ("" if first == "SIGINT" else f" by {first}")
        stopped = stopped if first == "SIGINT" else stopped.lstrip()
        assert error == f"{stopped}; the same command with --resume goes on from the checkpoint\n"
        assert 0 < arrays(out)[1]["step"] < 3000
        assert {path.name for path in out.iterdir()} == {"checkpoint.npz", "metrics.jsonl"}
    assert_resumed(out, whole)


@posix
def test_a_hangup_that_was_ignored_stays_so(tmp_path, whole):
    ignore = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)  # noqa: E731
    process = start(tmp_path / "run", preexec_fn=ignore, **LONG)
    with process:
        wait_for(process, "training: step")
        process.send_signal(signal.SIGHUP)
        _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (0, "")
    assert_is(tmp_path / "run", whole)


@posix
@pytest.mark.parametrize("name", ["swiss_roll", "digits", "elbo_decomposition", "estimators"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_while_it_imports_is_one_sentence(tmp_path, name, number):
    (tmp_path / "numpy.py").write_text("import time; print('importing', flush=True); time.sleep(60)")
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT.parent / f"{name}.py")],
        env={**ENVIRONMENT, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=hear_signals,
    )
    with process:
        wait_for(process, "importing")
        process.send_signal(number)
        _, error = process.communicate(timeout=60)
    by = " by SIGTERM" if number == signal.SIGTERM else ""
    assert error.lstrip("\n") == f"{name}.py: stopped{by}\n"
    assert process.returncode == 128 + number


@posix
@pytest.mark.parametrize("flags", [(), ("--resume",)])
def test_stopped_before_it_begins_a_run_says_nothing_of_a_checkpoint(
    script, here, out, monkeypatch, flags
):
    monkeypatch.setattr(script, "get_backend", lambda *_: signal.raise_signal(signal.SIGTERM))
    before, handlers = contents(out), [signal.getsignal(k) for k in (signal.SIGINT, signal.SIGTERM)]
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.SIG_DFL)  # even under nohup
    result = here(out, *flags)
    monkeypatch.undo()
    assert (result.returncode, result.stderr) == (143, "swiss_roll.py: stopped by SIGTERM\n")
    assert contents(out) == before
    assert [signal.getsignal(k) for k in (signal.SIGINT, signal.SIGTERM)] == handlers


# --- nobody listens -----------------------------------------------------------------------


@posix
@pytest.mark.parametrize("error", [subprocess.PIPE, subprocess.STDOUT], ids=["stdout", "both"])
@pytest.mark.parametrize("buffered", [True, False], ids=["buffered", "-u"])
def test_a_closed_pipe_does_not_stop_a_run(tmp_path, finished, error, buffered):
    out = tmp_path / "run"
    line = command(out, schedule="linear", timesteps=50)  # which has a warning to print
    process = subprocess.Popen(
        [part for part in line if not (buffered and part == "-u")],
        env=ENVIRONMENT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=error,
    )
    process.stdout.close()
    said = "" if error == subprocess.STDOUT else process.stderr.read()
    assert process.wait(timeout=60) == 0
    assert error == subprocess.STDOUT or (said.startswith("warning: ") and said.count("\n") == 1)
    process.stderr is None or process.stderr.close()
    assert {path.name for path in out.iterdir()} == FILES


@posix
def test_a_terminal_that_hangs_up_does_not_stop_a_run(tmp_path, whole):
    import pty

    master, slave = pty.openpty()
    process = subprocess.Popen(
        command(tmp_path / "run", **LONG), env=ENVIRONMENT, stdout=slave, stderr=slave
    )
    os.close(slave)
    shown = b""
    while b"training" not in shown:  # the bar
        shown += os.read(master, 4096)
    os.close(master)
    assert process.wait(timeout=60) == 0
    assert_is(tmp_path / "run", whole)


@posix
def test_a_full_disk_for_what_it_prints_is_an_error(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command(tmp_path / "run")[:1] + command(tmp_path / "run")[2:],
            env=ENVIRONMENT,
            text=True,
            stdout=full,
            stderr=subprocess.PIPE,
        )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "No space left" in done.stderr


# --- one folder, two runs -----------------------------------------------------------------


@posix
def test_a_fresh_start_over_an_older_run_cannot_be_mistaken_for_it(tmp_path, whole):
    """Killed before its first checkpoint, the new run goes on from its start, not from the old one."""
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    process = start(out, **{**LONG, "checkpoint_every": 10**9})
    with process:
        wait_for(process, "training: step")
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not (out / "checkpoint.npz").exists()
    assert contents(out / "previous") == contents(whole)
    assert "yet: starting at step 0" in assert_resumed(out, whole).stdout
    assert contents(out / "previous") == contents(whole)


@pytest.mark.parametrize(
    ("kept", "missing"),
    [(slice(0), "100, 200, 300, ..."), (slice(28), "2900, 3000"), (slice(1, None), "100")],
)
def test_a_log_that_lacks_lines_is_refused_by_name(here, whole, tmp_path, kept, missing):
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    lines = (out / "metrics.jsonl").read_text().splitlines(keepends=True)
    (out / "metrics.jsonl").write_text("".join(lines[kept]))
    before = contents(out)
    message = assert_refused(here(out, "--resume", **LONG))
    assert f"metrics.jsonl lacks the lines of steps {missing}, and the checkpoint is at st" in message
    assert contents(out) == before


def test_the_last_line_of_a_log_must_be_there_too(here, out):
    (out / "metrics.jsonl").unlink()
    assert "lacks the lines of steps 30, and" in assert_refused(here(out, "--resume"))


def test_a_checkpoint_beyond_the_last_step_is_refused(here, out):
    found, about = read_archive(out / "checkpoint.npz")
    write_archive(out / "checkpoint.npz", found, about | {"step": 31, "optimizer_step": 31})
    assert "is at step 31, beyond --steps 30" in assert_refused(here(out, "--resume"))


@posix
def test_a_second_run_in_the_folder_is_refused_and_a_dead_one_is_not_waited_for(here, tmp_path):
    out = tmp_path / "run"
    process = start(out, **{**LONG, "steps": 10**7, "checkpoint_every": 1})
    with process:
        try:
            wait_for(process, "backend")
            while not (out / "checkpoint.npz").exists():
                time.sleep(0.01)
            for flags in ((), ("--resume",)):
                message = assert_refused(here(out, *flags))
                assert f"{out} is in use by process {process.pid}: wait" in message
            assert process.poll() is None
        finally:
            process.kill()
    (out / ".checkpoint.npz.99999.0123abcd.tmp").write_bytes(b"of a dead writer")
    result = here(out)
    assert (result.returncode, result.stderr) == (0, "")
    assert not list(out.glob(".*"))
    assert (out / "previous" / "checkpoint.npz").exists()


# --- pictures -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["swiss_roll", "elbo_decomposition"])
def test_a_bad_choice_of_windows_does_not_matter(tmp_path, name):
    out = tmp_path / "run"
    few = ["--timesteps", "25", "--points", "100", "--steps", "0", "--out-dir", str(out)]
    flags = arguments(out, plots=True) if name == "swiss_roll" else few
    done = subprocess.run(
        [sys.executable, str(SCRIPT.parent / f"{name}.py"), *flags],
        env={**ENVIRONMENT, "MPLBACKEND": "nonsense"},
        text=True,
        capture_output=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert list(out.glob("*.png"))


def test_pictures_that_cannot_be_drawn_are_known_before_training(tmp_path):
    (tmp_path / "matplotlib.py").write_text("raise ImportError('no matplotlib here')")
    environment = {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    out = tmp_path / "run"
    done = subprocess.run(command(out, plots=True), env=environment, text=True, capture_output=True)
    message = "pictures cannot be drawn, since an import failed: no matplotlib here\n"
    assert (done.returncode, done.stderr) == (2, f"swiss_roll.py: error: {message}")
    assert not out.exists()
    assert subprocess.run(command(out), env=environment, capture_output=True).returncode == 0


# --- killed -------------------------------------------------------------------------------


def steps_saved(out):
    path = out / "checkpoint.npz"
    return read_archive(path)[1]["step"] if path.exists() else 0


@posix
@pytest.mark.slow
def test_killed_at_thirty_random_moments_the_run_ends_in_the_same_bits(tmp_path, record_property):
    settings = {"steps": 550, "checkpoint_every": 1, "samples": 2}
    began = time.perf_counter()
    assert call(tmp_path / "whole", **settings).returncode == 0
    took = time.perf_counter() - began
    training = json.loads((tmp_path / "whole" / "summary.json").read_text())["train_seconds"]
    startup = (took - training) / 2

    out, rng = tmp_path / "parts", np.random.default_rng(0)
    alive, torn, reached = 0, 0, [0]
    for k in range(30):
        process = start(out, "--resume", **settings)
        with process:
            starting = k % 6 == 5
            if starting:
                time.sleep(rng.uniform(0, startup))
            else:  # it is training; altogether this takes about half of the steps
                wait_for(process, "at step")
                time.sleep(rng.uniform(0, 2) * training / 50)
            running = process.poll() is None
            process.kill()
            assert process.stderr.read() == ""
        reached.append(steps_saved(out))
        assert reached[-1] >= reached[-2]
        killed = running and process.returncode == -signal.SIGKILL
        alive += killed and not starting and 1 <= reached[-1] < 550
        torn = len(list(out.glob(".*.tmp")))
    record_property("kills that found it training, of 25", alive)
    record_property("kills within the writing of a file", torn)
    record_property("steps reached", reached)
    assert alive >= 20
    assert len(set(reached)) > 10

    result = call(out, "--resume", **settings)
    assert (result.returncode, result.stderr) == (0, "")
    assert arrays(out) == arrays(tmp_path / "whole")
    assert (out / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()
    assert {path.name for path in out.iterdir()} >= FILES
    assert not list(out.glob(".*"))
