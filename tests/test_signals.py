"""Signals of the examples, where no command line is needed to see them; see also test_swiss_roll."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"

IN_A_FINALIZER = f"""
import os, signal, sys, time
sys.path.insert(0, {str(EXAMPLES)!r})
import _signals

class Slow:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000):
            pass

INSERT
hook = sys.unraisablehook
try:
    with _signals.raised_signals():
        slow = Slow()
        del slow
        time.sleep(10)
except KeyboardInterrupt as error:
    print("stopped by", error.number, sys.unraisablehook is hook)
"""


CTRL_C_WHILE_IT_IS_DROPPED = """
class Timer(_signals.threading.Timer):
    def __init__(self, *arguments):
        os.kill(os.getpid(), signal.SIGINT)
        super().__init__(*arguments)

_signals.threading.Timer = Timer
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")
@pytest.mark.parametrize("more", ["", CTRL_C_WHILE_IT_IS_DROPPED], ids=["one", "and Ctrl-C"])
def test_a_signal_that_python_drops_in_a_finalizer_stops_a_moment_later(more):
    done = subprocess.run(
        [sys.executable, "-c", IN_A_FINALIZER.replace("INSERT", more)],
        capture_output=True,
        text=True,
        env=os.environ,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "stopped by 15 True\n", "")
