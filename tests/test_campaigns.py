"""A handful of cases of each campaign, and campaigns that must find a planted fault."""

import sys
from pathlib import Path

import pytest

from tests.campaigns import bad_arguments, base_arguments, mutated_files, mutation_rules
from tests.campaigns.__main__ import CAMPAIGNS, main
from tests.campaigns.cases import load, run_campaign

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")

FEW = {
    **{"kills": 1, "mutated_files": 100, "hostile_files": 3, "bad_arguments": 250},
    **{"stops": 1, "full_disk": 1, "two_writers": 1},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*FEW}))
def test_a_few_cases_end_well(name, capsys):
    status = main(["--only", name, "--cases", str(FEW[name]), "--workers", "0"])
    said = capsys.readouterr().out
    assert status == 0, said
    assert said.splitlines()[-1].split()[:3] == [name, str(FEW[name]), "0"]


def test_every_campaign_is_in_the_table():
    """A module that no command runs would be forgotten."""
    folder = Path(base_arguments.__file__).parent
    helpers = {"__main__", "base_arguments", "cases", "mutation_rules", "runs"}
    assert {path.stem for path in folder.glob("*.py")} - helpers == {*CAMPAIGNS}
    for name in CAMPAIGNS:
        assert load(name).TRIED
        assert load(name).CASES > 0


def test_every_public_function_has_base_arguments():
    lacking = {entry.name: entry.missing for entry in base_arguments.entries() if entry.missing}
    assert lacking == {}


def test_a_case_alone_is_the_same_case(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        mutated_files, "try_case", lambda case, context: drawn.append((case.number, case.rng.random()))
    )
    run_campaign("mutated_files", 0, range(3), tmp_path / "a", workers=0)
    run_campaign("mutated_files", 0, [1], tmp_path / "b", workers=0)
    run_campaign("mutated_files", 1, [1], tmp_path / "c", workers=0)
    assert drawn[3] == drawn[1]
    assert drawn[4][1] != drawn[1][1]


def test_a_loader_that_returns_something_else_is_found(tmp_path, monkeypatch):
    other = mutated_files.STATE._replace(step=7)
    monkeypatch.setattr(mutated_files, "load_checkpoint", lambda *_: other)
    found = run_campaign("mutated_files", 0, range(0, 20, 2), tmp_path, workers=0)
    assert {fault.number for fault in found.faults} == {*range(0, 20, 2)}
    assert all("loaded, and is something else" in fault.kind for fault in found.faults)


def test_a_function_that_fails_in_its_own_words_is_found(tmp_path, monkeypatch):
    entry = next(entry for entry in base_arguments.entries() if entry.name == "elbo.bits_per_dim")
    careless = entry._replace(call=lambda nll, dimensions: nll.mean() / dimensions)
    monkeypatch.setattr(bad_arguments, "entries", lambda: [careless])
    bad_arguments._base.cache_clear()
    found = run_campaign("bad_arguments", 0, range(60), tmp_path, workers=0)
    bad_arguments._base.cache_clear()
    kinds = {fault.kind for fault in found.faults}
    assert "elbo.bits_per_dim(nll): AttributeError" in kinds
    assert "elbo.bits_per_dim(dimensions): TypeError that names no argument" in kinds


SOURCE = {
    "javascript": """
/** x_t = sqrt(alpha_bar[t]) x_0, not - 1. */
export const qMoments = (s, x0, t) => [mix(sqrt(s.alpha[t]), x0, -1, t), "a - b"]; // - 2
""",
    "python": '''
def q_moments(self, x0):
    """M2 (22): sqrt(alpha_bar) - x_0."""
    return self.alpha_bar.sqrt() * x0, max(0.5, x0)  # - 2
''',
}


@pytest.mark.parametrize(
    ("language", "wrong"),
    [
        ("javascript", "[mix((s.alpha[t]), x0, -1, t),"),
        ("javascript", "[mix(sqrt(s.alphaBar[t]), x0, -1, t),"),
        ("javascript", "[mix(sqrt(s.alpha[t - 1]), x0, -1, t),"),
        ("python", "return self.alpha_bar * x0, max(0.5, x0)"),
        ("python", "return self.alpha.sqrt() * x0, max(0.5, x0)"),
        ("python", "return self.alpha_bar.sqrt() * x0, min(0.5, x0)"),
    ],
)
def test_rules_of_mutation_change_the_code_alone(language, wrong):
    source = SOURCE[language]
    found = mutation_rules.sites(source)
    changed = {site.plant(source) for site in found}
    assert len(changed) == len(found)
    assert any(wrong in text for text in changed)
    kept = ("sqrt(alpha_bar[t]) x_0, not - 1.", '"a - b"', "M2 (22): sqrt(alpha_bar) - x_0", "- 2")
    for text in changed:
        assert text != source
        assert [part in text for part in kept] == [part in source for part in kept]
    assert {site.definition for site in found} <= {"qMoments", "q_moments"}
