"""examples/minimal.py: one page, whose picture and numbers are right."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm_np.data import swiss_roll
from ddpm_np.data.distances import sliced_wasserstein

SCRIPT = Path(__file__).parents[1] / "examples" / "minimal.py"


def test_it_is_one_page_of_public_names():
    source = SCRIPT.read_text(encoding="utf-8")
    assert len(source.splitlines()) < 80
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            assert node.module.partition(".")[0] in {"ddpm_np", "pathlib"}
            assert "._" not in f".{node.module}"
            assert not [name.name for name in node.names if name.name.startswith("_")]


@pytest.mark.slow
def test_it_trains_samples_measures_and_draws(tmp_path):
    folder = tmp_path / "new"
    # As the command does, but the samples are kept.
    code = f"import runpy; found = runpy.run_path({str(SCRIPT)!r}); import numpy; "
    code += f"numpy.save({str(tmp_path / 'samples.npy')!r}, found['samples'])"
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")

    entropy = float(re.search(r"entropy of the data: ([\d.]+) nats", done.stdout).group(1))
    assert entropy == pytest.approx(0.8026, abs=1e-3)
    rows = re.findall(r"-ELBO of (.+?) *: ([\d.]+), a gap of ([\d.]+) \+- ([\d.]+)", done.stdout)
    gaps = {}
    for name, *numbers in rows:
        nll, gaps[name], error = map(float, numbers)
        assert gaps[name] == pytest.approx(nll - entropy, abs=2e-3)
        assert 0.02 < error < 0.05
    assert abs(gaps["the best one"] - 0.20) < 4.5 * 0.035
    assert gaps["the best one"] < gaps["our network"] < gaps["the best one"] + 0.2

    samples = np.load(tmp_path / "samples.npy")
    assert samples.shape == (2000, 2)
    assert sliced_wasserstein(samples, swiss_roll(2000, 1)) < 0.1  # two sets of data: 0.04
    with Image.open(folder / "samples.png") as picture:
        assert picture.width > 1000
        assert len(picture.convert("RGB").getcolors(2**20)) > 50
    assert done.stdout.endswith(f"data beside samples: {folder / 'samples.png'}\n")
