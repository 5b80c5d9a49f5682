"""Ports with one token wrong: does a test vector of the right function fail?

The right function is the one around the mistake, under its name in the language: qSample is q_sample.
What is no function of the vectors only serves others, and any that fails is right. What no vector can
show is not planted: UNREACHED and EQUIVALENT, each with its reason. Cases 0 to 99 are of the JavaScript
port, 100 to 199 of the PyTorch port; a port whose tools are missing is noted, and not tried.
"""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ddpm_np.testing.vectors import VectorsError, load
from ddpm_np.testing.vectors._judging import judge
from ddpm_np.testing.vectors._port import Port as Asked
from ddpm_np.testing.vectors._port import check_port
from ddpm_np.testing.vectors._protocols import Json
from tests.campaigns.cases import Case
from tests.campaigns.mutation_rules import Site, sites

TRIED = "ports with one token wrong, which a vector of the right function shows"
EACH = 100
CASES = 2 * EACH
SECONDS = 10.0
PORTS = Path(__file__).parents[2] / "examples" / "ports"


class Port(NamedTuple):
    """Where a port is, and how to run it."""

    folder: str
    tool: str | None
    """The program; None if it is not there."""
    runner: str
    sources: tuple[str, ...]
    """The files to plant mistakes in."""
    shared: tuple[str, ...] = ()
    """What it needs of examples/ports itself."""

    @property
    def is_there(self) -> bool:
        """Whether it can be tried."""
        return self.tool is not None and (PORTS / self.folder / self.runner).exists()

    def command(self, ports: Path) -> str:
        """The command line, of the port or of a copy."""
        return f"{self.tool} {ports / self.folder / self.runner}"

    def copy(self, ports: Path) -> None:
        """Copy the port and what it needs."""
        shutil.copytree(PORTS / self.folder, ports / self.folder)
        for name in self.shared:
            shutil.copy(PORTS / name, ports)


PYTHON = sys.executable if find_spec("torch") else None
TRIED_PORTS = (
    Port("javascript", shutil.which("node"), "runner.mjs", ("ddpm.mjs", "mlp.mjs")),
    Port("pytorch", PYTHON, "runner.py", ("ddpm.py",), ("serving.py",)),
)

UNREACHED = dict.fromkeys(("initMlp", "normal"), "it draws the first weights, and vectors give them")
"""Definitions that no vector reaches, and why."""

EQUIVALENT = {
    ("linear", "j <= y.length"): "JavaScript drops what is written behind the end of a vector",
    ("linearBackward", "j <= m; j++) dbias"): "the same",
    ("linearBackward", "i <= x.length"): "the same",
    ("logMass", "sqrt(start + 80)"): "a longer interval, and nothing lies in what it adds",
    ("fixedPoint", "(change) < enough"): "a limit that nobody meets exactly",
    ("fixedPoint", "round <= 1000"): "one round more before it gives up",
    ("discretisedGaussian", "a <= 0"): "a mean at the very edge: both ways hold",
    ("discretisedGaussian", "b >= 0"): "the same at the other edge",
    ("discretisedGaussian", "outside <= 0.5"): "both ways hold on either side of the limit",
    ("excess", "<= 0.5"): "both ways hold on either side of the limit",
    ("runningSums", "abs(total) > abs(term)"): "of equals, either may be the larger",
    ("klIsotropic", "distance2(mean_2, mean_1)"): "a distance is the same from the other side",
    ("normalLogDensity", "distance2(mean, x)"): "the same",
    ("ddimSample", "eta >= 0"): "eta = 0 times noise",
    ("ddim_invert", "signal[t - 1] / signal[s]"): "another start of the iteration",
    ("ddimSample", "i >= 1"): "the variance of the last step, beta_tilde_1, is 0",
}
"""Mistakes that change nothing that a port promises: the definition, part of the wrong line; and why."""


class Mutant(NamedTuple):
    """One mistake, and what ought to fail."""

    port: Port
    source: str
    site: Site
    right: tuple[str, ...]
    """Functions of vectors, one of which must fail."""


def prepare(folder: Path, numbers: Sequence[int]) -> dict[int, Mutant]:
    """Choose the mistakes; the ports as they are must pass."""
    chosen: dict[int, Mutant] = {}
    for k, port in enumerate(TRIED_PORTS):
        wanted = [n for n in numbers if k * EACH <= n < (k + 1) * EACH]
        if not wanted or not port.is_there:
            continue
        report = check_port(port.command(PORTS), load(), Json(), "float64", SECONDS)
        if not report.ok:
            raise RuntimeError(f"the {port.folder} port fails before anything is planted:\n{report}")
        claimed = {result.case.function for result in report.having("passed")}
        mutants = dict(enumerate(choose(port, claimed, max(wanted) - k * EACH + 1), k * EACH))
        chosen |= {n: mutants[n] for n in wanted if n in mutants}
    return chosen


def try_case(case: Case, context: dict[int, Mutant]) -> None:
    """Plant a mistake and ask the vectors of the right function; if all pass, all others."""
    if case.number not in context:
        case.note(f"of {TRIED_PORTS[case.number // EACH].folder} not tried")
        return
    mutant = context[case.number]
    port = mutant.port
    port.copy(case.folder)
    path = case.folder / port.folder / mutant.source
    before = path.read_text(encoding="utf-8")
    path.write_text(mutant.site.plant(before), encoding="utf-8")
    if first_failure(port, case.folder, mutant.right):
        case.note(f"of {port.folder} shown by the right function")
        return
    other = first_failure(port, case.folder, [f.name for f in load()])
    what = f"{other} fails, not itself" if other else "nothing fails"
    right, wrong = mutant.site.change(before)
    where = f"{port.folder}/{mutant.source}, {mutant.site.definition}, {mutant.site.kind}"
    detail = f"- {right}\n      + {wrong}\n      right: {', '.join(mutant.right[:6])}"
    case.expect(False, f"{where}: {what}", detail)


def first_failure(port: Port, ports: Path, functions: Sequence[str]) -> str | None:
    """The first of these functions with a vector that fails, or all if the port does not start."""
    try:
        with Asked(port.command(ports), Json(), "float64", SECONDS) as asked:
            for function in load(functions):
                if any(result.status == "failed" for result in judge([function], asked.ask, "float64")):
                    return function.name
    except VectorsError:
        return "all"
    return None


# --- which mistakes -----------------------------------------------------------------------------


def choose(port: Port, claimed: set[str], number: int) -> list[Mutant]:
    """So many mistakes that a vector may show, of all kinds alike; always the same."""
    sources = {name: (PORTS / port.folder / name).read_text(encoding="utf-8") for name in port.sources}
    own = {_plain(function): (function,) for function in claimed}
    by_kind: dict[str, list[Mutant]] = {}
    for name, source in sources.items():
        for site in sites(source):
            if site.definition in UNREACHED or _is_equivalent(site, source):
                continue
            ought = own.get(_plain(site.definition), tuple(sorted(claimed)))
            mutant = Mutant(port, name, site, ought)
            by_kind.setdefault(site.kind, []).append(mutant)
    rng = np.random.default_rng(0)
    order = [[own[i] for i in rng.permutation(len(own))] for own in by_kind.values()]
    rounds = [own[i] for i in range(max(map(len, order))) for own in order if i < len(own)]
    chosen: list[Mutant] = []
    for mutant in rounds:
        if len(chosen) == number:
            break
        if _can_be_read(mutant, sources[mutant.source]):
            chosen.append(mutant)
    return chosen


def _is_equivalent(site: Site, source: str) -> bool:
    right, wrong = site.change(source)
    return any(
        site.definition == definition and has in wrong and has not in right
        for definition, has in EQUIVALENT
    )


def _can_be_read(mutant: Mutant, source: str) -> bool:
    """Whether the mistake leaves a program: what no compiler reads would count as found."""
    text = mutant.site.plant(source)
    if mutant.source.endswith(".py"):
        try:
            compile(text, mutant.source, "exec")
        except SyntaxError:
            return False
        return True
    command = [str(mutant.port.tool), "--input-type=module", "--check"]
    return subprocess.run(command, input=text, text=True, capture_output=True).returncode == 0


def _plain(name: str) -> str:
    return name.replace("_", "").lower()
