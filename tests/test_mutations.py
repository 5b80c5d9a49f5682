"""Planted mistakes: the tests of a module must fail when its mathematics is wrong.

Each mutation is one fragment of source that occurs exactly once, and a wrong replacement for
it, applied in a copy of the project; the named tests must then fail there, and pass without.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]

# Loaded by the inner pytest. Exit statuses of its own, since 1 would count as a caught mistake.
PROBE = """
import os, pathlib, sys

class Missing:  # numba would compile its kernels anew in every copy, and cupy is slow to load
    def find_spec(self, name, *_):
        if name in ("numba", "cupy"):
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, Missing())
try:
    import ddpm_np
except BaseException as error:
    print("the mutated package cannot be imported:", error)
    sys.stdout.flush()
    os._exit(8)
if pathlib.Path(ddpm_np.__file__).resolve().parents[1] != pathlib.Path(__file__).resolve().parent:
    print("not the copy:", ddpm_np.__file__)
    sys.stdout.flush()
    os._exit(9)
"""


class Mutation(NamedTuple):
    file: str
    """In ddpm_np."""
    name: str
    right: str
    wrong: str
    test: str
    """A file in tests, or one test in it."""


MUTATIONS = """
nn/ops.py: bias gradient dropped
- array_namespace(dy).sum(dy, axis=0)
+ 0.0 * array_namespace(dy).sum(dy, axis=0)
> test_layers.py

nn/ops.py: bias gradient averaged
- .sum(dy, axis=0)
+ .mean(dy, axis=0)
> test_layers.py

nn/ops.py: weight not transposed
- return dy @ weight.T
+ return dy @ weight
> test_layers.py

nn/ops.py: bias forgotten
- y += bias
+ y += 0.0 * bias
> test_layers.py

nn/ops.py: silu' with a wrong sign
- return dy * (gate + y
+ return dy * (gate - y
> test_layers.py

nn/ops.py: silu' lacks a term
- return dy * (gate + y * (1.0 - gate))
+ return dy * gate
> test_ops.py

nn/ops.py: sigmoid mirrored
- xp.exp(-x)
+ xp.exp(x)
> test_ops.py

nn/ops.py: squared error's factor 2
- (2.0 / math.prod(error.shape))
+ (1.0 / math.prod(error.shape))
> test_ops.py

nn/ops.py: squared error's gradient unweighted
- weighted * (2.0
+ error * (2.0
> test_ops.py

nn/ops.py: adam without bias correction
- (rate / (1.0 - beta_1**step))
+ rate
> test_ops.py

nn/ops.py: adam without root
- array_namespace(v).sqrt(v)
+ v
> test_optimizers.py

nn/ops.py: weight decay grows
- (1.0 - rate * decay) * param -
+ (1.0 + rate * decay) * param -
> test_optimizers.py

nn/ops.py: ema decay swapped
- return decay * average + (1.0 - decay) * value
+ return (1.0 - decay) * average + decay * value
> test_optimizers.py

nn/combinators.py: residual gradient dropped
- return dy + dx, grads
+ return dx, grads
> test_layers.py

nn/combinators.py: serial gradients in reverse
- tuple(reversed(grads))
+ tuple(grads)
> test_layers.py

nn/denoisers.py: gradient of the wrong columns
- djoined[:, : self.dimensions]
+ djoined[:, -self.dimensions :]
> test_layers.py

nn/denoisers.py: time embedding off by one
- self.embedding_size)[t]
+ self.embedding_size)[t - 1]
> test_layers.py

nn/layers.py: time embedding not rescaled
- angles = (1000.0 / T) *
+ angles = 1.0 *
> test_layers.py

nn/layers.py: weights too small
- math.sqrt(self.inputs)
+ self.inputs
> test_layers.py

nn/optimizers.py: learning rate off by one
- self.rate(state.step)
+ self.rate(state.step + 1)
> test_optimizers.py

nn/optimizers.py: clipping the wrong way round
- xp.where(norm > limit
+ xp.where(norm < limit
> test_optimizers.py

nn/optimizers.py: norm without root
- return xp.sqrt(total)
+ return total
> test_optimizers.py

nn/optimizers.py: half of the cosine
- math.cos(math.pi *
+ math.cos(0.5 * math.pi *
> test_optimizers.py

nn/tree.py: layout off by one
- flat[at.start : at.stop]
+ flat[at.start - 1 : at.stop - 1]
> test_optimizers.py

training.py: loss gradient with a wrong sign
- ops.squared_error(prediction, truth, weight)
+ ops.squared_error(truth, prediction, weight)
> test_training.py::test_the_loss_and_its_gradient_are_those_of_the_definition

training.py: average lags a step
- ops.ema(state.average, new_params
+ ops.ema(state.average, state.params
> test_training.py::test_the_average_moves_by_the_decay_and_starts_at_the_parameters

training.py: t = T never trained
- rng.integers(1, T + 1,
+ rng.integers(1, T,
> test_training.py::test_a_batch_holds_examples_uniform_times_and_normal_noise

forward.py: (27) as M1 prints it, variance for its root
- coefficient(np.sqrt(schedule.one_minus_alpha_bar[t]), x0)
+ coefficient(schedule.one_minus_alpha_bar[t], x0)
> test_forward.py

forward.py: one step adds beta
- coefficient(np.sqrt(schedule.beta[t]), x_prev)
+ coefficient(schedule.beta[t], x_prev)
> test_forward.py

forward.py: two steps lack alpha
- beta[t] + alpha[t] * beta[t - 1]
+ beta[t] + beta[t - 1]
> test_forward.py

posterior.py: (26) with alpha_bar
- np.sqrt(schedule.alpha[t]) * variance[t - 1]
+ np.sqrt(schedule.alpha_bar[t]) * variance[t - 1]
> test_posterior.py

posterior.py: (26) off by one
- np.sqrt(schedule.alpha_bar[t - 1]) * (schedule
+ np.sqrt(schedule.alpha_bar[t]) * (schedule
> test_posterior.py

posterior.py: (28) with a wrong sign
- coefficient(inverse_signal, x_t) * x_t -
+ coefficient(inverse_signal, x_t) * x_t +
> test_posterior.py

posterior.py: (29) without root
- schedule.beta[t] / np.sqrt(schedule.one_minus_alpha_bar[t]) / root_alpha
+ schedule.beta[t] / schedule.one_minus_alpha_bar[t] / root_alpha
> test_posterior.py

posterior.py: v with a wrong sign
- coefficient(signal, x0) * eps -
+ coefficient(signal, x0) * eps +
> test_posterior.py

reverse.py: beta for beta_tilde
- table = schedule.posterior_variance.copy()
+ table = schedule.beta.copy()
> test_reverse.py

reverse.py: sigma_1 is 0
- table[1] = table[2] if T > 1 else
+ table[1] = table[1] if T > 1 else
> test_reverse.py

gaussians.py: log-density lacks log variance
- + (xp.log(variance) + LOG_2PI)
+ + LOG_2PI
> test_gaussians.py

gaussians.py: KL divides by the wrong variance
- log_ratio) + (mean_1 - mean_2) ** 2 / var_2
+ log_ratio) + (mean_1 - mean_2) ** 2 / var_1
> test_gaussians.py

gaussians.py: (37) lacks a square
- return a * b, s2 + t2 * a**2
+ return a * b, s2 + t2 * a
> test_gaussians.py

elbo.py: L_T with a wrong sign
- return -kl_isotropic(mean, variance,
+ return kl_isotropic(mean, variance,
> test_elbo.py

elbo.py: bound lacks L_T
- L_T + xp.sum(L, axis=0) + L_0)
+ xp.sum(L, axis=0) + L_0)
> test_elbo.py

elbo.py: KL to the wrong mean
- -kl_isotropic(posterior_mean, posterior_variance, mean,
+ -kl_isotropic(x0, posterior_variance, mean,
> test_elbo.py

losses.py: (35) as printed, without alpha
- (schedule.alpha[t] * schedule.one_minus_alpha_bar[t])
+ schedule.one_minus_alpha_bar[t]
> test_losses.py

losses.py: (35) lacks a square
- schedule.beta[t] ** 2
+ schedule.beta[t]
> test_losses.py

losses.py: x0 weight lacks a square
- * c_x0**2
+ * c_x0
> test_losses.py

losses.py: constant with a wrong sign
- (excess - log_ratio)
+ (excess + log_ratio)
> test_losses.py

losses.py: bound's loss lacks T
- weight = schedule.T * bound_weight(
+ weight = bound_weight(
> test_losses.py

schedules.py: alpha_bar without logarithm
- np.log1p(-steps)
+ -steps
> test_schedules.py

schedules.py: beta for beta_tilde (25)
- one_minus_alpha_bar[:-1] / one_minus_alpha_bar[1:] * beta[1:]
+ beta[1:]
> test_schedules.py

schedules.py: ramp does not reach its end
- / max(steps - 1, 1)
+ / steps
> test_schedules.py

schedules.py: cosine without offset
- 2.0 * offset) * quarter
+ offset) * quarter
> test_schedules.py

samplers.py: noise at t = 1
- if t > 1:
+ if t >= 1:
> test_samplers.py

samplers.py: variance for its root
- math.sqrt(variances[t])
+ variances[t]
> test_samplers.py

samplers.py: variance off by one
- math.sqrt(variances[t])
+ math.sqrt(variances[t - 1])
> test_samplers.py

samplers.py: trajectory backwards
- path[::-1]
+ path
> test_samplers.py
"""


def parse(text):
    pattern = r"^(\S+): (.+)\n- (.+)\n\+ (.+)\n> (\S+)$"
    blocks = text.strip().split("\n\n")
    return [Mutation(*re.fullmatch(pattern, block).groups()) for block in blocks]


def copy_project(folder):
    """What the inner tests need, without compiled files: those could outlive a mutation."""
    ignore = shutil.ignore_patterns("__pycache__", "benchmarks")
    for name in ("ddpm_np", "backends", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "probe.py").write_text(PROBE)


def run_tests(folder, test):
    """Run one file or test against the package in ``folder``, up to the first failure."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HYPOTHESIS_PROFILE": "mutation",
    }
    environment.pop("PYTEST_ADDOPTS", None)
    options = ["-x", "-q", "--tb=line", "-p", "probe", "-p", "no:cacheprovider", "-p", "no:xdist"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, "--rootdir", str(folder), f"tests/{test}"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("mutation", parse(MUTATIONS), ids=lambda m: f"{m.file}: {m.name}")
def test_mistake_is_caught(tmp_path, mutation):
    copy_project(tmp_path)
    path = tmp_path / "ddpm_np" / mutation.file
    source = path.read_text()
    assert source.count(mutation.right) == 1, "the fragment must occur once: the source has changed"
    path.write_text(source.replace(mutation.right, mutation.wrong))
    result = run_tests(tmp_path, mutation.test)
    # 1 is a failed test; anything else is no verdict (2 and above: nothing could be collected)
    assert result.returncode == 1, result.stdout + result.stderr
    assert re.search(r"^FAILED tests/", result.stdout, re.MULTILINE), result.stdout
    print(re.search(r"^FAILED tests/(.*)", result.stdout, re.MULTILINE)[1])


@pytest.mark.parametrize("test", sorted({m.test for m in parse(MUTATIONS)}))
def test_without_a_mistake_all_is_well(tmp_path, test):
    copy_project(tmp_path)
    result = run_tests(tmp_path, test)
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_package_that_is_not_the_copy_is_no_verdict(tmp_path):
    copy_project(tmp_path)
    shutil.move(tmp_path / "ddpm_np", tmp_path / "elsewhere" / "ddpm_np")
    (tmp_path / "sitecustomize.py").write_text(
        f"import sys; sys.path.append({str(tmp_path / 'elsewhere')!r})"
    )
    assert run_tests(tmp_path, "test_ops.py").returncode == 9
