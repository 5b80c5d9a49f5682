"""Measure the same work in this project and in PyTorch, and write docs/benchmarks.md.

python tests/benchmarks/run.py              everything (a quarter of an hour), and the page
python tests/benchmarks/run.py --quick      a few rows, few rounds, no page: to try it out
python tests/benchmarks/run.py --only a,c   some parts, no page
python tests/benchmarks/run.py --gpu        on an NVIDIA GPU, and docs/benchmarks-gpu.md
"""

import argparse
import datetime
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import machine
import report
import startup
from pool import WorkerError, measure, opened
from spreads import ratios
from works import PARTS, PRODUCTS, RATIOS, WORKS, Contender, Work, contenders, flops

ROOT = Path(__file__).parents[2]
ROUNDS, BLOCK = 5, 0.5
QUICK_ROUNDS, QUICK_BLOCK = 2, 0.1
STARTS = 3
"""Fresh processes of each kind in parts e and f."""
QUIET = 0.5
"""Load above which the machine counts as busy."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = parse(arguments)
    device = "cuda" if options.gpu else "cpu"
    try:
        if options.from_json:
            results = json.loads(options.from_json.read_text(encoding="utf-8"))
            device = results["device"]
        else:
            if device == "cuda":
                check_gpu()
            results = collect(options, device, command_line(options, arguments))
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
            print(f"raw numbers: {options.json}")
        if options.write:
            write(results, ROOT / "docs")
    except (WorkerError, OSError) as error:
        print(f"run.py: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nrun.py: stopped", file=sys.stderr)
        return 130
    return 0


# --- the command line ---------------------------------------------------------------------


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse and check the command line; a mistake is one sentence and exit status 2."""
    listed = "; ".join(f"{letter}: {name}" for letter, name in PARTS.items())
    parser = argparse.ArgumentParser(
        prog="run.py",
        description="Measure the same work in this project and in PyTorch.",
        epilog=f"Parts: {listed}.",
    )
    add = parser.add_argument
    add(
        "--quick",
        action="store_true",
        help="few rows and rounds, on one thread, nothing compiled by PyTorch; no page unless --write",
    )
    add("--only", type=parts, metavar="a,c", help="measure these parts; no page unless --write")
    add("--rounds", type=rounds, metavar="N", help=f"rounds (default {ROUNDS})")
    add("--gpu", action="store_true", help="on an NVIDIA GPU: CuPy against PyTorch; parts a to e")
    add("--json", type=Path, metavar="PATH", help="raw numbers (default runs/benchmarks.json)")
    add("--write", action="store_true", help="write the page and its picture in docs/")
    add(
        "--from-json", type=Path, metavar="PATH", help="measure nothing: write the page from raw numbers"
    )
    options = parser.parse_args(arguments)
    if options.gpu and "f" in (options.only or ""):
        parser.error("argument --only: part f counts the host's memory, and is not for --gpu")
    if options.from_json and not options.from_json.is_file():
        parser.error(f"argument --from-json: there is no file {options.from_json}")
    if options.json and options.json.is_dir():
        parser.error(f"argument --json: must name a file, got the folder {options.json}")
    everything = not (options.quick or options.only or options.rounds)
    options.write = options.write or everything
    options.json = options.json or ROOT / "runs" / f"{stem(options.gpu)}.json"
    options.only = options.only or ("abcdg" if options.quick else "abcdeg" if options.gpu else "abcdefg")
    options.rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    return options


def parts(text: str) -> str:
    """Argparse type: letters with commas between them."""
    letters = [part.strip() for part in text.split(",")]
    if not set(letters) <= set(PARTS):
        raise argparse.ArgumentTypeError(
            f"must be letters from {', '.join(PARTS)} with commas between them, got {text!r}"
        )
    return "".join(letters)


def rounds(text: str) -> int:
    """Argparse type: a positive integer."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive integer, got {text!r}")
    return int(text)


def command_line(options: argparse.Namespace, arguments: list[str] | None) -> str:
    """How to get these numbers again."""
    given = sys.argv[1:] if arguments is None else arguments
    if not set(given) - {"--gpu", "--write"}:
        return "make bench-gpu" if options.gpu else "make bench"
    return shlex.join(["python", "tests/benchmarks/run.py", *given])


def stem(gpu: bool) -> str:
    """The files' name without its ending."""
    return "benchmarks-gpu" if gpu else "benchmarks"


# --- measuring ----------------------------------------------------------------------------


def check_gpu() -> None:
    """Raise WorkerError, in one sentence, unless both sides find a GPU that works."""
    try:
        with opened(contenders("cuda")[:2], "cuda", 1):
            pass
    except WorkerError as error:
        raise WorkerError(f"there is no GPU to measure on: {error}") from None


def collect(options: argparse.Namespace, device: str, command: str) -> dict[str, Any]:
    """Measure everything that was asked for."""
    busy = machine.load()
    if busy > QUIET:
        print(f"warning: the machine is busy (load {busy:.1f}): wait until it is not", file=sys.stderr)
    # Compiling takes PyTorch longer than all of --quick should.
    everybody = [one for one in contenders(device) if not (options.quick and one.name == "compiled")]
    cores = machine.cores()
    results: dict[str, Any] = {
        "command": command,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "device": device,
        "machine": machine.describe(device) | {"load average at the start": f"{busy:.2f}"},
        "rounds": options.rounds,
        "block": QUICK_BLOCK if options.quick else BLOCK,
        "contenders": {one.name: one.label for one in everybody},
        "rows": [],
    }
    counts = [cores] if device == "cuda" else [1] if options.quick else sorted({1, cores})
    for threads in counts:
        for part in options.only:
            chosen = [work for work in WORKS if work.part == part and (work.quick or not options.quick)]
            if chosen:
                results["rows"] += measure_part(results, everybody, chosen, threads)
    starts = 1 if options.quick else STARTS
    results["startup"] = (
        startup.first_steps(everybody, device, cores, starts, say) if "e" in options.only else []
    )
    results["memory"] = (
        startup.memory(everybody, device, cores, starts, say) if "f" in options.only else []
    )
    return results


def measure_part(
    results: dict[str, Any], everybody: list[Contender], chosen: list[Work], threads: int
) -> list[dict[str, Any]]:
    """Measure some works, in processes that live as long."""
    rows, device = [], results["device"]
    with opened([*everybody, *PRODUCTS[device]], device, threads) as workers:
        for work in chosen:
            seconds = measure(workers, work, results["rounds"], results["block"])
            rows.append(
                {
                    "part": work.part,
                    "label": work.label,
                    "threads": threads,
                    "sizes": work.sizes,
                    "units": work.units,
                    "whole": work.whole,
                    "flops": flops(work.products),
                    "seconds": seconds,
                }
            )
            say(
                f"{threads} thread{'s' if threads > 1 else ''}, {work.label}: {summary(device, seconds)}"
            )
    return rows


def summary(device: str, seconds: dict[str, list[float]]) -> str:
    """Times and ratios of a row for people who watch."""
    times = [f"{name} {report.cell(found, report.duration)}" for name, found in seconds.items()]
    pairs = [(a, b) for a, b in RATIOS[device] if a in seconds and b in seconds]
    divided = [
        f"{a} / {b} {report.cell_of(ratios(seconds[a], seconds[b]), report.plain)}" for a, b in pairs
    ]
    return "\n".join(["", *("    " + ", ".join(line) for line in (times, divided))])


def say(text: str) -> None:
    """Tell people how far it is."""
    print(text, flush=True)


# --- writing ------------------------------------------------------------------------------


def write(results: dict[str, Any], folder: Path) -> None:
    """Write the page, and its picture beside it if there is something to draw."""
    name = stem(results["device"] == "cuda")
    link = ""
    if results["rows"]:
        import picture

        link = f"images/{name}.png"
        picture.draw(results, folder / link)
    path = folder / f"{name}.md"
    path.write_text(report.page(results, link), encoding="utf-8")
    print(f"written: {path}")


if __name__ == "__main__":
    sys.exit(main())
