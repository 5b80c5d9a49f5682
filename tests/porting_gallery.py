"""The reports that docs/porting.md shows, and its gallery: slips planted in its example.

    python -m tests.porting_gallery

rewrites both; reports on PyTorch code need it installed. A slip is a piece of the example and what
somebody writes in its place.
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ddpm_np.testing import check_identities

DOCUMENT = Path(__file__).parents[1] / "docs" / "porting.md"
BEGIN, END = "<!-- the gallery is written by tests/porting_gallery.py -->\n", "<!-- end -->\n"


class Slip(NamedTuple):
    """What is right, what somebody writes, and options of ``check_identities``."""

    right: str
    wrong: str
    options: dict[str, Any] = {}


LAST = "noise[t] if t > 1 else 0.0"
STEP = "x = mean + np.sqrt(self.beta[t - 1]) * z"
TIMES = "range(self.T, 0, -1)"
MEAN = "mean = self.model_mean(x, t, predict(x, t))"
LOSS = "np.mean((noise - predict(x_t, t)) ** 2)"
X_T = "x_t = np.sqrt(bar) * x0 + np.sqrt(1.0 - bar) * noise"
Q_SAMPLE = "np.sqrt(1.0 - self.bar[i]) * noise"
SHIFT = "shift = self.beta[i] / np.sqrt(1.0 - self.bar[i]) * eps"
WEIGHT = "self.beta[i] / (2.0 * self.alpha[i] * (1.0 - self.bar[i]))"
PRIOR = "L_T = -self.kl(np.sqrt(self.bar[-1]) * x0, 1.0 - self.bar[-1], 0.0, 1.0)"
DECODER = "np.log(2.0 * np.pi * variance)"
MIDDLE = "L[t] = -self.kl(*self.q_posterior(x0, x_t, t), mean, variance)"

GALLERY: dict[str, list[Slip]] = {
    "Tables and formulas": [
        Slip("np.cumprod(self.alpha)", "self.alpha"),
        Slip("np.cumprod(self.alpha)", "np.append(1.0, np.cumprod(self.alpha)[:-1])"),
        Slip("np.cumprod(self.alpha)", "np.cumprod(self.alpha.astype(np.float32))"),
        Slip("np.append(1.0, self.bar[:-1])", "np.roll(self.bar, 1)"),
        Slip(Q_SAMPLE, "(1.0 - self.bar[i]) * noise"),
        Slip(Q_SAMPLE, "np.sqrt(self.bar[i]) * noise"),
        Slip("of_x0 * x0 + of_xt * x_t, self", "of_xt * x0 + of_x0 * x_t, self"),
        Slip("x_t, self.tilde[i]", "x_t, self.beta[i]"),
        Slip(SHIFT, "shift = self.beta[i] / (1.0 - self.bar[i]) * eps"),
        Slip(SHIFT, "shift = -self.beta[i] / np.sqrt(1.0 - self.bar[i]) * eps"),
        Slip("(x_t - shift) / np.sqrt(self.alpha[i])", "x_t - shift"),
        Slip("return self.beta[t - 1]", "return np.sqrt(self.beta[t - 1])"),
        Slip(WEIGHT, "self.beta[i] / (2.0 * (1.0 - self.bar[i]))"),
        Slip(WEIGHT, "1.0"),
    ],
    "The loop": [
        Slip(TIMES, "range(self.T, 1, -1)"),
        Slip(TIMES, "range(self.T - 1, 0, -1)"),
        Slip("predict(x, t))", "predict(x, t - 1))"),
        Slip(LAST, "noise[t] if t > 2 else 0.0"),
        Slip(LAST, "noise[t]"),
        Slip(LAST, "noise[t - 1] if t > 1 else 0.0"),
        Slip(LAST, "noise[1] if t > 1 else 0.0"),
        Slip(STEP, "x = mean + self.beta[t - 1] * z"),
        Slip(STEP, "x = mean + np.sqrt(self.tilde[t - 1]) * z"),
        Slip(STEP, "x = np.clip(mean + np.sqrt(self.beta[t - 1]) * z, -1.0, 1.0)"),
        Slip(MEAN, "mean = self.model_mean(x, t, -predict(x, t))"),
        Slip(MEAN, "mean = self.q_posterior(predict(x, t), x, t)[0]"),
        Slip("        return x\n", "        return np.clip(x, -1.0, 1.0)\n"),
        Slip("x = x_T", "x = 0.5 * x_T"),
        Slip(STEP, "x[:] = mean + np.sqrt(self.beta[t - 1]) * z"),
        Slip(TIMES, "range(self.T - 9, 0, -10)", {"times": tuple(range(1, 200, 10))}),
    ],
    "Training": [
        Slip("rng.integers(1, self.T + 1, len(x0))", "rng.integers(1, self.T, len(x0))"),
        Slip("rng.integers(1, self.T + 1, len(x0))", "rng.integers(2, self.T + 1, len(x0))"),
        Slip("rng.standard_normal(x0.shape)", "rng.random(x0.shape)"),
        Slip("rng.standard_normal(x0.shape)", "rng.standard_normal(x0[:1].shape)"),
        Slip(X_T, "x_t = np.sqrt(bar) * x0 + (1.0 - bar) * noise"),
        Slip(X_T, "x_t = np.sqrt(1.0 - bar) * x0 + np.sqrt(bar) * noise"),
        Slip(LOSS, "np.mean((x0 - predict(x_t, t)) ** 2)"),
        Slip(LOSS, "np.mean((noise - predict(x_t, t - 1)) ** 2)"),
        Slip(LOSS, "np.mean((noise + predict(x_t, t)) ** 2)"),
        Slip(LOSS, "np.mean(bar / (1.0 - bar) * (noise - predict(x_t, t)) ** 2)"),
    ],
    "The bound": [
        Slip(PRIOR, "L_T = self.kl(np.sqrt(self.bar[-1]) * x0, 1.0 - self.bar[-1], 0.0, 1.0)"),
        Slip(PRIOR, "L_T = np.zeros(len(x0))"),
        Slip(DECODER, "np.log(variance)"),
        Slip(MIDDLE, "L[t] = -self.kl(mean, variance, *self.q_posterior(x0, x_t, t))"),
        Slip(MIDDLE, "L[t - 1] = -self.kl(*self.q_posterior(x0, x_t, t), mean, variance)"),
        Slip("return np.sum(kl, axis=1)", "return np.mean(kl, axis=1)"),
        Slip("return np.sum(kl, axis=1)", "return np.sum(kl, axis=1) / np.log(2.0)"),
    ],
}


def block(name: str) -> str:
    """The code of the document that belongs in a file of this name."""
    found = re.search(rf"`{name}`[^\n]*:\n\n```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert found, f"the document has no {name}"
    return found[1]


def planted(slip: Slip) -> Any:
    """The example of the document with the slip in it."""
    source = block("my_diffusion.py")
    assert source.count(slip.right) == 1, slip.right
    names: dict[str, Any] = {}
    exec(source.replace(slip.right, slip.wrong), names)
    with np.errstate(all="ignore"):
        return names["Mine"]()


def found(slip: Slip) -> tuple[str, str]:
    """The first row that fails or says something, and its words; empty if there is none."""
    report = check_identities(planted(slip), **slip.options)
    # What fails comes before what is imprecise, a name before none.
    rows = [row for row in report.rows if row.verdict in ("FAILS", "imprecise")]
    for row in sorted(rows, key=lambda row: row.verdict != "FAILS"):
        words = re.sub(r"(; |^)at t = \d+: got .*", "", row.explanation)
        if words:
            return row.identity, ("" if row.verdict == "FAILS" else "imprecise: ") + words
    return (rows[0].identity, "") if rows else ("", "")


def lines() -> Iterator[str]:
    """The gallery's Markdown."""
    for title, slips in GALLERY.items():
        yield f"\n### {title}\n"
        yield "| in place of | somebody writes | row | the report says |\n| --- | --- | --- | --- |"
        before = ""
        for slip in slips:
            right = "" if slip.right == before else f"`{slip.right.strip()}`"
            row, words = (part.replace("|", "\\|") for part in found(slip))
            yield f"| {right} | `{slip.wrong.strip()}` | `{row}` | {words} |"
            before = slip.right
    yield ""


def with_gallery(text: str) -> str:
    """The document with the gallery as it is now."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + "\n".join(lines()) + "\n" + END + rest.split(END)[1]


SHOWN = re.compile(r"(?<=\n    )python (-m ddpm_np\.testing .*)\n\n```text\n((?:.*\n)*?)```")


def report_of(command: str, folder: Path) -> str:
    """What a command of the document prints, run beside the files that it shows."""
    for name in ("my_code.py", "my_adapter.py", "my_diffusion.py"):
        (folder / name).write_text(block(name), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(DOCUMENT.parents[1]), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, *shlex.split(command)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


def with_reports(text: str) -> str:
    """The document with the reports as they are now."""

    def shown(match: re.Match[str]) -> str:
        with tempfile.TemporaryDirectory() as folder:
            return f"python {match[1]}\n\n```text\n{report_of(match[1], Path(folder))}```"

    return SHOWN.sub(shown, text)


def without_numbers(report: str) -> str:
    """A report without what rounding decides: residuals, and the numbers at the worst time."""
    report = re.sub(r" +[\d.]+e[+-]\d\d", " #", " ".join(report.split()))
    return re.sub(r"(worst at|at) t = \d+: got [^ ]+|worst at t = \d+", "#", report)


if __name__ == "__main__":
    current = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(with_gallery(with_reports(current)), encoding="utf-8")
