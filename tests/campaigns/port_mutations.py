"""Ports with one token wrong: does a test vector of the right function fail?

The right function is the one around the mistake, if there are vectors of it; of a helper, any that
uses it. What no vector can show is not planted: mistakes in what no vector reaches, such as the draws
of first weights, and those of EQUIVALENT, each with its reason. Cases 0 to 99 are of the JavaScript
port, 100 to 199 of the PyTorch port; a port whose tools are missing is noted, and not tried.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ddpm_np.testing.vectors import Report, VectorsError, load
from ddpm_np.testing.vectors._port import check_port
from ddpm_np.testing.vectors._protocols import Json
from tests.campaigns.cases import Case
from tests.campaigns.mutation_rules import DEFINITION, Site, sites, without_texts

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

    def command(self, folder: Path) -> str:
        """The command line of the port in a folder."""
        return f"{self.tool} {folder / self.runner}"


PYTHON = sys.executable if find_spec("torch") else None
TRIED_PORTS = (
    Port("javascript", shutil.which("node"), "runner.mjs", ("ddpm.mjs", "mlp.mjs")),
    Port("pytorch", PYTHON, "runner.py", ("ddpm.py",)),
)

EQUIVALENT: dict[tuple[str, str, str], str] = {}
"""Mistakes that change nothing which a port promises: file, line before, line after; and why."""


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
        if port.tool is None or not (PORTS / port.folder / port.runner).exists() or not wanted:
            continue
        report = _ask(port, PORTS / port.folder, [f.name for f in load()])
        if not report.ok:
            raise RuntimeError(f"the {port.folder} port fails before anything is planted:\n{report}")
        claimed = {result.case.function for result in report.having("passed")}
        mutants = choose(port, claimed, EACH)
        chosen |= {n: mutants[n - k * EACH] for n in wanted if n - k * EACH < len(mutants)}
    return chosen


def try_case(case: Case, context: dict[int, Mutant]) -> None:
    """Plant a mistake and ask the vectors of the right function; if all pass, all others."""
    if case.number not in context:
        case.note(
            f"of {TRIED_PORTS[case.number // EACH].folder} not tried, for want of tools or mistakes"
        )
        return
    mutant = context[case.number]
    port = mutant.port
    shutil.copytree(PORTS / port.folder, case.folder, dirs_exist_ok=True)
    path = case.folder / mutant.source
    before = path.read_text(encoding="utf-8")
    path.write_text(mutant.site.plant(before), encoding="utf-8")
    if failed_functions(port, case.folder, mutant.right):
        case.note(f"of {port.folder} shown by the right function")
        return
    others = failed_functions(port, case.folder, [f.name for f in load()])
    what = f"only {', '.join(sorted(others)[:3])} fails" if others else "nothing fails"
    lines = "\n      ".join(
        f"{sign} {line}" for sign, line in zip("-+", mutant.site.change(before), strict=True)
    )
    where = f"{port.folder}/{mutant.source}, {mutant.site.definition}, {mutant.site.kind}"
    case.expect(False, f"{where}: {what}", f"{lines}\n      right: {', '.join(mutant.right[:6])}")


def failed_functions(port: Port, folder: Path, functions: Sequence[str]) -> set[str]:
    """The functions with a vector that fails; all, if the port does not even start."""
    try:
        report = _ask(port, folder, functions)
    except VectorsError:
        return set(functions)
    return {result.case.function for result in report.failed}


def _ask(port: Port, folder: Path, functions: Sequence[str]) -> Report:
    return check_port(port.command(folder), load(functions), Json(), "float64", SECONDS)


# --- which mistakes -----------------------------------------------------------------------------


def choose(port: Port, claimed: set[str], number: int) -> list[Mutant]:
    """So many mistakes that a vector may show, of all kinds alike; always the same."""
    sources = {name: (PORTS / port.folder / name).read_text(encoding="utf-8") for name in port.sources}
    runner = (PORTS / port.folder / port.runner).read_text(encoding="utf-8")
    right = right_functions([*sources.values(), runner], claimed)
    by_kind: dict[str, list[Mutant]] = {}
    for name, source in sources.items():
        for site in sites(source):
            ought = tuple(sorted(right.get(site.definition, ())))
            if ought and (name, *site.change(source)) not in EQUIVALENT:
                by_kind.setdefault(site.kind, []).append(Mutant(port, name, site, ought))
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


def right_functions(sources: Sequence[str], claimed: set[str]) -> dict[str, set[str]]:
    """For each definition, the functions whose vectors must show that it is wrong.

    Itself, if it is one of them under its name in the language (qSample is q_sample); else all that
    use it, by way of others or at once. The runner's entry for a function uses what it calls.
    """
    uses = _uses(sources, claimed)
    right: dict[str, set[str]] = {}
    for function in claimed:
        seen, ahead = set(), [name for name in uses if _plain(name) == _plain(function)]
        while ahead:
            name = ahead.pop()
            if name not in seen:
                seen.add(name)
                ahead += uses[name] & uses.keys()
        for name in seen:
            right.setdefault(name, set()).add(function)
    own = {_plain(function): function for function in claimed}
    return {name: {own[_plain(name)]} if _plain(name) in own else all for name, all in right.items()}


def _uses(sources: Sequence[str], claimed: set[str]) -> dict[str, set[str]]:
    """All words in the text of each definition, and of each entry of the runner."""
    uses: dict[str, set[str]] = {}
    entry = rf"^ +\"?({'|'.join(claimed)})\"?(?::|,$)"
    for source in sources:
        code = without_texts(source)
        found = [*re.finditer(DEFINITION, code, re.M), *re.finditer(entry, source, re.M)]
        found.sort(key=lambda match: match.start())
        stops = [match.start() for match in found[1:]] + [len(source)]
        for match, stop in zip(found, stops, strict=True):
            name = next(filter(None, match.groups()))
            words = re.findall(r"\w+", source[match.end() : stop])
            uses.setdefault(name, set()).update(words)
            if match[0].rstrip().endswith(","):  # shorthand: the entry is named as what it calls
                uses[name].add(name)
    return uses


def _plain(name: str) -> str:
    return name.replace("_", "").lower()
