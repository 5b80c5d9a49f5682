"""Mutations of ddpm_np's own formulas: check_identities alone has to catch each of them."""

import shutil
from pathlib import Path

import pytest

from tests.mutants import ROOT, plant, run_module

pytestmark = pytest.mark.slow

LINEAR = "Reference(linear_schedule(12, 0.02, 0.5))"
TABLE = "Reference(schedule_from_alpha_bar([1.0, 0.9, 0.7, 0.4, 0.1]))"
BETA = "Reference(linear_schedule(12, 0.02, 0.5), 'beta')"
UNIT = "Reference(linear_schedule(12, 0.02, 0.5), 'unit')"

TARGET = """
from pathlib import Path
import ddpm_np
from ddpm_np import linear_schedule, schedule_from_alpha_bar
from ddpm_np.testing import Reference
assert Path(ddpm_np.__file__).is_relative_to(Path(__file__).parent), ddpm_np.__file__
assert Path(ddpm_np.testing.__file__).is_relative_to(Path(__file__).parent)
subject = {subject}
"""

# Module, a fragment that stands there exactly once, what to put in its place, the subject.
MUTATIONS = [
    ("schedules/tables", "np.log1p(-keeps)", "np.log1p(-0.5 * keeps)"),
    ("schedules/tables", "np.exp(log_alpha_bar), log", "np.exp(0.5 * log_alpha_bar), log"),
    ("schedules/tables", "= -np.expm1(log_alpha_bar)", "= -np.expm1(0.5 * log_alpha_bar)"),
    ("schedules/tables", "from_1(before / now * beta[1:])", "from_1(beta[1:])"),
    (
        "schedules/tables",
        "before, now = one_minus_alpha_bar[:-1], one",
        "before, now = alpha_bar[:-1], one",
    ),
    ("schedules/tables", "np.sqrt(self.alpha_bar)", "self.alpha_bar"),
    ("schedules/tables", "np.sqrt(self.one_minus_alpha_bar)", "np.sqrt(self.beta)"),
    ("schedules/tables", "from_tables(beta, 1.0 - beta,", "from_tables(beta, np.sqrt(1.0 - beta),"),
    ("_arrays", "sums.append(total + correction)", "sums.append(float(term))"),
    ("schedules/tables", "- table[1:]) / table[:-1]", "- table[1:]) / table[1:] / 10", TABLE),
    ("schedules/tables", "log_alpha_bar, 1.0 - table)", "log_alpha_bar, 1.0 - table**2)", TABLE),
    (
        "forward",
        "signal = cast(schedule.sqrt_alpha_bar[t]",
        "signal = cast(schedule.alpha_bar[t]",
    ),
    (
        "forward",
        "sigma = cast(schedule.sqrt_one_minus_alpha_bar[t]",
        "sigma = cast(schedule.one_minus_alpha_bar[t]",
    ),
    ("forward", "signal * x0 + sigma * noise", "signal * x0 - sigma * noise"),
    (
        "forward",
        "sigma = cast(schedule.sqrt_one_minus_alpha_bar[t]",
        "sigma = cast(schedule.sqrt_one_minus_alpha_bar[t - 1]",
    ),
    (
        "forward",
        "mean = cast(schedule.sqrt_alpha_bar[t], x0) * x0",
        "mean = cast(schedule.alpha_bar[t], x0) * x0",
    ),
    (
        "forward",
        "return mean, coefficient_array(schedule.one_minus_alpha_bar[t], x0)",
        "return mean, coefficient_array(schedule.beta[t], x0)",
    ),
    ("schedules/tables", "from_1(np.sqrt(self.alpha[1:])", "from_1(self.alpha[1:]"),
    ("schedules/tables", "* before / now)", "* before)"),
    ("schedules/tables", "from_1(self.sqrt_alpha_bar[:-1]", "from_1(self.sqrt_alpha_bar[1:]"),
    ("schedules/tables", "(self.beta[1:] / now)", "(np.sqrt(self.beta[1:]) / now)"),
    (
        "posterior",
        "coefficient(schedule.c_xt[t], x_t) * x_t + coefficient(schedule.c_x0[t], x_t) * x0",
        "coefficient(schedule.c_xt[t], x_t) * x0 + coefficient(schedule.c_x0[t], x_t) * x_t",
    ),
    (
        "posterior",
        "variance = coefficient_array(schedule.posterior_variance[t], x0)",
        "variance = coefficient_array(schedule.beta[t], x0)",
    ),
    (
        "posterior",
        "schedule.sqrt_one_minus_alpha_bar[t] / root_alpha",
        "schedule.sqrt_one_minus_alpha_bar[t]",
    ),
    (
        "posterior",
        "schedule.beta[t] / schedule.sqrt_one_minus_alpha_bar[t]",
        "schedule.beta[t] / schedule.one_minus_alpha_bar[t]",
    ),
    (
        "posterior",
        "coefficient(1.0 / root_alpha, x_t) * x_t - coefficient(",
        "coefficient(1.0 / root_alpha, x_t) * x_t + coefficient(",
    ),
    ("posterior", "coefficient(1.0 / root_alpha, x_t)", "coefficient(root_alpha, x_t)"),
    ("posterior", "root_alpha = np.sqrt(schedule.alpha[t])", "root_alpha = schedule.alpha[t]"),
    ("posterior", "scale = schedule.beta[t]", "scale = schedule.beta[t - 1]"),
    (
        "reverse",
        "table = schedule.posterior_variance.copy()",
        "table = schedule.posterior_variance**0.5",
    ),
    ("reverse", "return schedule.beta.copy()", "return 0.5 * schedule.beta", BETA),
    ("reverse", "np.ones(T)", "2.0 * np.ones(T)", UNIT),
    ("losses", "return t, 1.0 / (2.0 * variance)", "return t, 1.0 / (1.0 * variance)"),
    ("losses", "half_precision * schedule.beta[t] ** 2 /", "half_precision * schedule.beta[t] /"),
    (
        "losses",
        "(schedule.alpha[t] * schedule.one_minus_alpha_bar[t])",
        "schedule.one_minus_alpha_bar[t]",
    ),
    (
        "losses",
        "schedule.alpha[t] * schedule.one_minus_alpha_bar[t]",
        "schedule.alpha_bar[t] * schedule.one_minus_alpha_bar[t]",
    ),
    (
        "elbo",
        "return 0.0 - kl_isotropic_unchecked(mean, variance, xp",
        "return kl_isotropic_unchecked(mean, variance, xp",
    ),
    (
        "elbo",
        "q_moments_unchecked(schedule, x0, schedule.T)",
        "q_moments_unchecked(schedule, x0, schedule.T - 1)",
    ),
    (
        "elbo",
        "mean, float(variances[t]))",
        "mean, float(variances[t - 1]))",
    ),
    (
        "elbo",
        "mean, float(variances[t]))",
        "mean, float(variances[t]) ** 0.5)",
    ),
    ("elbo", "return -kl_isotropic_unchecked(mean_1", "return kl_isotropic_unchecked(mean_1"),
    ("elbo", "decoder(x0, mean, float(variances[1]))", "decoder(x0, mean, float(variances[3]))"),
    (
        "elbo",
        "x_t = q_sample_unchecked(schedule, x0, t, ",
        "x_t = q_sample_unchecked(schedule, x0, t - 1, ",
    ),
    ("elbo", "x0, t, draw(t))", "x0, t, draw(t - 1))"),
    ("elbo", "ask(predict, x_t, t)", "ask(predict, x_t, max(t - 1, 1))"),
    ("elbo", "rows = [zeros, zeros]", "rows = [zeros]"),
    ("gaussians", "(excess - log_ratio)", "(excess + log_ratio)"),
    ("gaussians", "(mean_1 - mean_2) ** 2 / var_2)", "(mean_1 - mean_2) ** 2)"),
    ("gaussians", "0.5 * sum_features((excess", "1.0 * sum_features((excess"),
    (
        "gaussians",
        "excess = var_1 / var_2, (var_1 - var_2) / var_2",
        "excess = var_1 / var_2, (var_2 - var_1) / var_1",
        BETA,
    ),
    ("gaussians", "xp.log(variance) + LOG_2PI", "xp.log(variance)"),
    ("gaussians", "(x - mean) ** 2 / variance +", "(x - mean) ** 2 +"),
    (
        "decoders",
        "normal_log_density(x0, mean, variance)",
        "normal_log_density(x0, mean, variance**0.5)",
    ),
    ("samplers", "math.sqrt(variances[t]) * _draw", "variances[t] * _draw"),
    ("samplers", "if t > 1:", "if t > 0:"),
    ("samplers", "in times[:0:-1]", "in times[:1:-1]"),
    ("_arrays", "xp.sum(x, axis=tuple(", "xp.mean(x, axis=tuple("),
]


def report_on(folder: Path, module: str, old: str, new: str, subject: str) -> tuple[int, str]:
    """Exit status and output of the check of a mutated copy of the package."""
    shutil.copytree(ROOT / "ddpm_np", folder / "ddpm_np")
    plant(folder / "ddpm_np" / f"{module}.py", old, new)
    (folder / "mutated.py").write_text(TARGET.format(subject=subject))
    return run_module(folder, "ddpm_np.testing", ["mutated:subject"])


@pytest.mark.parametrize("subject", [LINEAR, TABLE, BETA, UNIT])
def test_control(subject, tmp_path):
    status, output = report_on(tmp_path, "forward", "sigma * noise", "sigma * noise", subject)
    assert status == 0, output


@pytest.mark.parametrize(
    "mutation", MUTATIONS, ids=[f"{m[0]}: {m[1]} -> {m[2]}"[:110] for m in MUTATIONS]
)
def test_mutation_is_caught(mutation, tmp_path):
    module, old, new, subject = (*mutation, LINEAR)[:4]
    status, output = report_on(tmp_path, module, old, new, subject)
    assert status == 1, output
    assert "FAILS" in output
