import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ddpm_np.runs.log import LogError, MetricsLog, Progress, read_metrics

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OPENBLAS_NUM_THREADS": "1"}


def record(step):
    return {"step": step, "loss": 1 / (step + 3), "learning_rate": 1e-3}


def line(step):
    return json.dumps(record(step)) + "\n"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.jsonl"


def python(script, *arguments, **settings):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *map(str, arguments)],
        env=ENVIRONMENT,
        text=True,
        **settings,
    )


# --- the log ------------------------------------------------------------------------------


def test_one_json_object_a_line_readable_at_any_time(path):
    log = MetricsLog(path, 0)
    assert path.read_bytes() == b""
    for step in (100, 200):
        log.append(record(step))
        assert path.read_text().splitlines()[-1] == line(step).strip()
    assert log.records == read_metrics(path) == [record(100), record(200)]
    assert path.read_text() == line(100) + line(200)


def test_numbers_come_back_to_the_last_bit(path):
    values = [0.1 + 0.2, 5e-324, -0.0, 1.7e308, float(np.float32(1 / 3))]
    log = MetricsLog(path, 0)
    for step, value in enumerate(values):
        log.append({"step": step, "loss": value})
    assert [repr(entry["loss"]) for entry in read_metrics(path)] == [repr(value) for value in values]


def test_starting_afresh_drops_everything(path):
    path.write_text(line(100) + line(200))
    assert MetricsLog(path, 0).records == []
    assert path.read_bytes() == b""


@pytest.mark.parametrize(
    ("step", "kept"), [(99, []), (100, [100]), (250, [100, 200]), (1000, [100, 200, 300])]
)
def test_lines_after_the_resumed_step_are_dropped(path, step, kept):
    path.write_text(line(100) + line(200) + line(300))
    assert MetricsLog(path, step).records == [record(k) for k in kept]
    assert path.read_text() == "".join(map(line, kept))
    assert os.listdir(path.parent) == [path.name]


def test_a_line_torn_anywhere_is_dropped(path):
    whole = line(100) + line(200)
    for cut in range(len(line(100)), len(whole) - 1):
        path.write_text(whole[:cut])
        log = MetricsLog(path, 500)
        assert log.records == [record(100)], cut
        log.append(record(200))
        assert path.read_text() == whole
    path.write_text(whole[:-1])  # only the line's end is missing
    MetricsLog(path, 500).append(record(300))
    assert path.read_text() == whole + line(300)


@pytest.mark.parametrize(
    "junk",
    [
        b"\0" * 40,
        b"\xff\xfe\n",
        b"\n\n",
        b"[1, 2]\n",
        b"7\n",
        b'{"loss": 1}\n',
        b'{"step": "9"}\n',
        b"nan\n",
        b'{"step": 7, "loss": NaN}\n',
        b"[" * 100_000 + b"\n",
    ],
)
def test_what_is_no_record_is_dropped(path, junk):
    path.write_bytes(line(100).encode() + junk + b"\n" + line(200).encode())
    assert MetricsLog(path, 500).records == [record(100), record(200)]
    assert path.read_text() == line(100) + line(200)


def test_however_often_a_run_is_torn_and_resumed_the_log_is_that_of_one_run(path):
    expected = "".join(line(step) for step in range(5, 101, 5))
    for seed in range(20):
        rng, saved = np.random.default_rng(seed), 0
        path.unlink(missing_ok=True)
        while saved < 100:
            log, stop = MetricsLog(path, saved), saved + int(rng.integers(1, 40))
            for step in range(saved + 1, min(stop, 100) + 1):
                if step % 5 == 0:
                    log.append(record(step))
                if step % 7 == 0 or step == 100:
                    saved = step
            torn = line(stop + 1).encode()[: rng.integers(60)]
            if saved < 100:
                with path.open("ab") as file:
                    file.write(torn)
        steps = [entry["step"] for entry in read_metrics(path)]
        assert steps == sorted(set(steps))
        assert path.read_text() == expected


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_cannot_hold_is_refused_and_not_written(path, value):
    log = MetricsLog(path, 0)
    log.append(record(100))
    with pytest.raises(ValueError, match="JSON"):
        log.append({"step": 200, "loss": value})
    assert path.read_text() == line(100)


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ([], "steps 100, 200, 300, \\.\\.\\., and the checkpoint is at step 500: put back"),
        ([100, 200, 400, 500], "steps 300, and"),
        ([100, 200, 300], "steps 400, 500, and"),
    ],
)
def test_lines_that_a_resumed_run_needs_are_named_and_the_log_stays(path, kept, said):
    content = "".join(map(line, kept)) + "torn"
    path.write_text(content)
    with pytest.raises(LogError, match=said):
        MetricsLog(path, 500, range(100, 501, 100))
    assert path.read_text() == content
    path.write_text("".join(map(line, [*range(50, 501, 50), 600])))
    assert len(MetricsLog(path, 500, range(100, 501, 100)).records) == 10


def test_a_step_beyond_all_logs_is_refused_at_once(path):
    with pytest.raises(LogError, match="steps 100, 200, 300"):
        MetricsLog(path, 2**62, range(100, 2**62, 100))


def test_a_log_is_on_disk_once_it_is_synced(path, monkeypatch):
    log, synced, fsync = MetricsLog(path, 0), [], os.fsync
    log.append(record(100))
    inode = path.stat().st_ino

    def watch(descriptor):
        assert os.fstat(descriptor).st_ino == inode
        assert path.read_text() == line(100)
        synced.append(fsync(descriptor))

    monkeypatch.setattr(os, "fsync", watch)
    log.sync()
    assert len(synced) == 1


@posix
def test_pipes_and_devices_are_no_logs(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, said in ((tmp_path / "pipe", "a pipe"), (Path("/dev/zero"), "a device")):
        with pytest.raises(LogError, match=f"it is no file, but {said}"):
            read_metrics(path)


def test_a_log_larger_than_any_is_refused(path):
    with path.open("wb") as file:
        file.truncate(2**31)  # takes no room
    with pytest.raises(LogError, match="more than"):
        read_metrics(path)


def test_a_missing_log_is_empty(path):
    assert read_metrics(path) == []
    assert not path.exists()


def test_a_log_that_cannot_be_written_is_one_error(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for bad in (
        tmp_path / "file" / "metrics.jsonl",
        tmp_path / "no" / "metrics.jsonl",
        tmp_path / "folder",
    ):
        with pytest.raises((OSError, LogError), match=r"."):
            MetricsLog(bad, 0)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


@posix
def test_a_full_disk_leaves_the_previous_log(path):
    content = "".join(map(line, range(100)))
    path.write_text(content)
    script = """
import resource, sys
from pathlib import Path
from ddpm_np.runs import MetricsLog
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    MetricsLog(Path(sys.argv[1]), 50)
except OSError as error:
    print(error.strerror)
"""
    result = python(script, path, capture_output=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout
    assert path.read_text() == content
    assert os.listdir(path.parent) == [path.name]


# --- progress -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "last", "every", "at_most"),
    [
        (0, 1000, 100, 10),
        (0, 15_000, 100, 10),
        (0, 7, 1, 7),
        (937, 1000, 1, 11),
        (0, 30, 30, 1),
        (500, 600, 100, 1),
    ],
)
def test_elsewhere_about_ten_plain_lines(capsys, first, last, every, at_most):
    progress = Progress("training", first, last)
    for step in range(first + 1, last + 1):
        if step % every == 0 or step == last:
            progress.update(step, f"loss {step / 8:.4f}")
    progress.close()
    out, err = capsys.readouterr()
    assert err == ""
    assert "\r" not in out
    assert "\x1b" not in out
    lines = out.splitlines()
    assert min(at_most, 5) <= len(lines) <= at_most
    assert all(text.startswith("training: step ") and text.endswith(" steps/s") for text in lines)
    assert lines[-1].startswith(f"training: step {last} of {last}, loss {last / 8:.4f}, ")
    assert len(set(lines)) == len(lines)


def test_nothing_to_do_is_nothing_said(capsys):
    Progress("training", 30, 30).close()
    assert capsys.readouterr() == ("", "")


def on_a_terminal(script, columns=100):
    """Run a script whose standard error is a terminal; what it printed, and what was shown there."""
    import fcntl
    import pty
    import struct
    import termios

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24 if columns else 0, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", script],
        stdout=subprocess.PIPE,
        stderr=slave,
        env=ENVIRONMENT,
        text=True,
    )
    os.close(slave)
    shown = b""
    try:
        while True:
            try:
                part = os.read(master, 4096)
            except OSError:  # Linux says so when the other side is closed
                break
            if not part:
                break
            shown += part
        printed = process.communicate(timeout=60)[0]
    finally:
        process.kill()
        process.wait()
        os.close(master)
    assert process.returncode == 0, shown
    return printed, shown.decode()


@posix
@pytest.mark.parametrize("columns", [0, 60, 100], ids=["unknown width", "narrow", "wide"])
def test_a_bar_on_a_terminal(columns):
    script = """
import time
from ddpm_np.runs import Progress
progress = Progress("training", 100, 600)
for step in range(200, 700, 100):
    time.sleep(0.15)
    progress.update(step, f"loss {step / 800:.4f}")
progress.close()
"""
    printed, shown = on_a_terminal(script, columns)
    assert printed == ""
    frames = shown.split("\r")
    bars = [frame for frame in frames if "training" in frame]
    assert "100/600" in bars[0]
    assert any("500/600" in bar and "83%|" in bar and "step/s" in bar for bar in bars)
    assert all(len(bar) < (columns or 80) for bar in frames)  # a full line would wrap
    assert columns == 60 or any("loss 0.6250" in bar for bar in bars)
    assert "\n" not in shown
    assert frames[-1].strip() == ""  # taken away at the end


@posix
def test_the_bar_makes_room_for_an_error():
    printed, shown = on_a_terminal("""
import sys
from ddpm_np.runs import Progress
progress = Progress("training", 0, 100)
try:
    progress.update(10, "loss 1")
    raise KeyboardInterrupt
except KeyboardInterrupt:
    progress.close()
    print("stopped", file=sys.stderr)
""")
    assert printed == ""
    assert shown.split("\r")[-2] == "stopped"
