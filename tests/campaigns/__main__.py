"""Campaigns: many random attempts to make runs, files and calls go wrong, counted in a table.

python -m tests.campaigns                              all but the last, a quarter of an hour on 2 cores
python -m tests.campaigns --only kills,full_disk       some
python -m tests.campaigns --cases 10                   ten cases of each
python -m tests.campaigns --only kills --case 17       one case again, and its folder is kept

Everything random follows from --seed. But where a kill or a signal lands depends on the machine too:
repeat such a case several times. Exit status 1 if anything went wrong.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.campaigns.cases import WORKERS, Fault, Outcome, load, run_campaign

CAMPAIGNS = (
    "kills",
    "mutated_files",
    "hostile_files",
    "bad_arguments",
    "stops",
    "full_disk",
    "two_writers",
    "port_mutations",
)
ROUTINE = CAMPAIGNS[:-1]
"""What `make campaign` runs; how many mutants of the ports no vector shows is a question of its own."""
SHOWN = 12
"""Kinds of faults of a campaign that are written out."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = parse(arguments)
    rows, wrong = [], False
    for name in options.only:
        campaign = load(name)
        numbers = range(min(campaign.CASES, options.cases or campaign.CASES))
        if options.case is not None:
            numbers = range(options.case, options.case + 1)
        began = time.monotonic()
        outcome = attempt(name, options, numbers)
        failed = len({fault.number for fault in outcome.faults})
        wrong = wrong or bool(outcome.faults)
        notes = "".join(f"; {count} {what}" for what, count in sorted(outcome.notes.items()))
        rows.append((name, len(numbers), failed, time.monotonic() - began, campaign.TRIED + notes))
        report(name, options, outcome.faults)
    print_table(rows)
    return int(wrong)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="campaigns", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--only", type=names, default=ROUTINE, metavar="A,B", help=f"of {', '.join(CAMPAIGNS)}")
    add("--seed", type=int, default=0, help="of everything random (default 0)")
    add("--cases", type=int, metavar="N", help="at most as many of each")
    add("--case", type=int, metavar="K", help="this one alone, and keep its folder")
    add("--all", action="store_true", help=f"write out all kinds of faults, not only {SHOWN}")
    add("--workers", type=int, default=WORKERS, help=f"0: in this process (default {WORKERS})")
    return parser.parse_args(arguments)


def names(text: str) -> tuple[str, ...]:
    """Argparse type: campaigns, by name."""
    wanted = tuple(text.split(","))
    if unknown := set(wanted) - set(CAMPAIGNS):
        raise argparse.ArgumentTypeError(f"there is no campaign {', '.join(sorted(unknown))}")
    return wanted


def attempt(name: str, options: argparse.Namespace, numbers: range) -> Outcome:
    """Run a campaign in a folder that is removed, unless one case is repeated."""
    print(f"{name}: {len(numbers)} cases", file=sys.stderr, flush=True)
    if options.case is not None:
        folder = Path(tempfile.mkdtemp(prefix="campaign-"))
        print(f"its files stay in {folder}")
        return run_campaign(name, options.seed, numbers, folder, workers=0, keep=True)
    with tempfile.TemporaryDirectory(prefix="campaign-", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        return run_campaign(name, options.seed, numbers, folder, workers=options.workers)


def report(name: str, options: argparse.Namespace, faults: list[Fault]) -> None:
    """Write out each kind of fault once, with how to repeat it."""
    counts = Counter(fault.kind for fault in faults)
    first = {fault.kind: fault for fault in reversed(faults)}
    shown = counts.most_common(None if options.all else SHOWN)
    if faults:
        print(f"\n{name}: {len(counts)} kinds of faults")
    for kind, count in shown:
        fault = first[kind]
        print(f"  {count} x {kind}")
        if fault.detail:
            print(f"      {fault.detail[:1500]}")
        print(f"      --only {name} --seed {options.seed} --case {fault.number}")
    if len(counts) > len(shown):
        print(f"  and {len(counts) - len(shown)} more kinds: --all")
    sys.stdout.flush()


def print_table(rows: list[tuple[str, int, int, float, str]]) -> None:
    """One line for each campaign."""
    print(f"\n{'campaign':<15}{'cases':>7}{'wrong':>7}{'seconds':>9}  what was tried")
    for name, cases, wrong, seconds, tried in rows:
        print(f"{name:<15}{cases:>7}{wrong:>7}{seconds:>9.0f}  {tried}")


if __name__ == "__main__":
    sys.exit(main())
