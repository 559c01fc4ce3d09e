#!/usr/bin/env python3
"""Runs the stages' benchmarks, and prints one table: what is ours, beside what, the ratio, the budget, the memory, and whether it is met.

    make bench                                     every stage, small, five rounds
    make bench STAGE=import SIZE=full              one of them, as large as the budgets are meant
    make bench STAGE="send collect" ROUNDS=3       SIZE is small, full, or a number of orders, mails, answers or testimonials
    make bench STAGE=import GROWTH="10000 100000"  at these sizes, and how the time grows with them; of send and collect, after a past of so
                                                   many orders, and SIZE is what is sent and collected
    make bench ARGS=--json                         the table and every sample as JSON, on stdout

A ratio is of items per second, ours to the other's, in the same round; what stands in the table is the median of the rounds. What could not
take part is named. The exit code is 1 when a stage failed; a budget that is not met is a figure and no failure.
"""

import argparse
import json
import math
import os
import signal
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

STAGES = ("import", "decide", "send", "relay", "collect", "metrics", "export", "start")
# These measure the way there, or the start, and have no curve.
WITHOUT_GROWTH = ("relay", "start")
# These do as much whatever has been before; what may grow is what each of it costs.
WITH_A_PAST = ("send", "collect")


@dataclass(frozen=True)
class Budget:
    """What one of our contestants has to reach, where something is given; the others of a stage are shown without."""

    stage: str
    ours: str
    beside: str | None = None
    # Items per second, ours to the other's.
    ratio: float | None = None
    seconds: float | None = None
    # What the program takes for everything else, by the contestant that does nothing else.
    without: str | None = None
    p99_ms: float | None = None
    mib: int | None = None


# Of the full sizes. benches/README.md says why these.
BUDGETS = (
    Budget("import", "afterword, fresh", "psql \\copy", ratio=0.6, mib=96),
    Budget("import", "afterword, again", "psql \\copy", ratio=0.8, mib=96),
    Budget("import", "afterword, known file", "psql \\copy"),
    Budget("import", "afterword, fresh", "pgloader"),
    Budget("decide", "afterword, a day", "bare SQL, a day", seconds=0.1),
    Budget("decide", "afterword, 30 days", "bare SQL, 30 days", seconds=1),
    Budget("decide", "the command, all years", None, seconds=60),
    Budget("send", "afterword, 8 connections", "smtp-source", ratio=0.35),
    Budget("send", "afterword, 32 connections", "smtp-source", ratio=0.35),
    Budget("send", "afterword, 32 connections", "lettre, pooled, 32 connections", ratio=10),
    Budget("send", "afterword, 32 connections", "graphile-worker with nodemailer"),
    Budget("send", "afterword, 2 instances of 8 connections", "afterword, 8 connections"),
    Budget("send", "afterword, 4 instances of 8 connections", "afterword, 8 connections"),
    *(
        Budget("relay", f"afterword, {n} connections{kind}", f"four round trips, {n} connections", ratio=0.9)
        for kind in ("", ", one command at a time")
        for n in (1, 8, 32, 64)
    ),
    Budget("collect", "afterword", "pgbench, one row", ratio=1, p99_ms=10),
    Budget("collect", "afterword", "pgbench, an answer's rows"),
    Budget("collect", "afterword, 2 instances", "afterword"),
    Budget("collect", "afterword, 4 instances", "afterword"),
    Budget("metrics", "rebuild", "DuckDB", ratio=1 / 6),
    Budget("metrics", "kept report, by month", seconds=0.05, without="only the start"),
    Budget("metrics", "kept report, a month", seconds=0.05, without="only the start"),
    Budget("export", "afterword, generic, stream", "psql \\copy", ratio=0.9, mib=64),
    Budget("export", "afterword, generic, file", "psql \\copy", ratio=0.9, mib=64),
    Budget("export", "afterword, google-merchant, stream", "psql \\copy", ratio=0.9, mib=64),
    Budget("start", "afterword serve", seconds=1),
)


@dataclass
class Row:
    """A line of the table. What was not measured is None; so is `met` where there is no budget, or nothing to hold it against."""

    stage: str
    size: int
    ours: str
    seconds: float | None
    rate: float | None
    contestant: str | None
    their_rate: float | None
    ratio: float | None
    budget: str
    p99_ms: float | None
    peak_kib: int | None
    bytes: int | None
    met: bool | None


def main() -> None:
    arguments = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    samples, failed = [], []
    for stage in arguments.stages:
        runs = [(arguments.size,)]
        if arguments.growth and stage in WITH_A_PAST:
            runs = [(arguments.size, past) for past in arguments.growth]
        elif arguments.growth and stage not in WITHOUT_GROWTH:
            runs = [(size,) for size in arguments.growth]
        for run in runs:
            lines, status = measure(stage, arguments.rounds, *run)
            samples += lines
            if status != 0:
                failed.append(stage)
    measured = [sample for sample in samples if "skipped" not in sample]
    skipped = [sample for sample in samples if "skipped" in sample]
    rows = [row for stage in arguments.stages for size in sizes_of(measured, stage) for row in table(of(measured, stage, size), stage, size)]
    growth = exponents(measured) if arguments.growth else {}
    if arguments.json:
        answer = {"rows": [asdict(row) for row in rows], "growth": growth, "skipped": skipped, "failed": failed, "samples": measured}
        print(json.dumps(answer, indent=1))
    else:
        show(rows, arguments.rounds)
        for name, exponent in growth.items():
            print(f"grows with the size to the power of {exponent:.2f}: {name}")
        for words in dict.fromkeys(f"{sample['stage']}: {sample['contestant']}: {sample['skipped']}" for sample in skipped):
            print(f"SKIPPED {words}")
        for stage in failed:
            print(f"FAILED {stage}")
    sys.exit(1 if failed else 0)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", metavar="stage", help=f"of {', '.join(STAGES)}; all of them when none is named")
    parser.add_argument("--size", default="small", help="small, full or a number")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--growth", type=int, nargs="+", metavar="N", help="these sizes instead, and the exponent of the curve")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    for stage in arguments.stages:
        if stage not in STAGES:
            parser.error(f"there is no stage {stage}; there are {', '.join(STAGES)}")
    if arguments.rounds < 1:
        parser.error("at least one round")
    arguments.stages = arguments.stages or list(STAGES)
    return arguments


def measure(stage: str, rounds: int, size: str | int, *past: int) -> tuple[list[dict], int]:
    """What a stage's program prints, and its exit code."""
    command = [sys.executable, Path(__file__).with_name(f"{stage}.py"), *map(str, (size, rounds, *past))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        try:
            printed, _ = running.communicate()
        finally:
            # Told to stop, it stops its server and takes its directory away.
            if running.poll() is None:
                running.terminate()
    return [json.loads(line) for line in printed.splitlines()], running.returncode


def of(samples: list[dict], stage: str, size: int) -> list[dict]:
    return [sample for sample in samples if sample["stage"] == stage and sample["size"] == size]


def sizes_of(samples: list[dict], stage: str) -> list[int]:
    return sorted({sample["size"] for sample in samples if sample["stage"] == stage})


def table(samples: list[dict], stage: str, size: int) -> list[Row]:
    """The lines with budgets, then what else was measured."""
    rounds: dict[str, dict[int, dict]] = {}
    for sample in samples:
        rounds.setdefault(sample["contestant"], {})[sample["round"]] = sample
    budgets = [budget for budget in BUDGETS if budget.stage == stage and budget.ours in rounds]
    named = {name for budget in budgets for name in (budget.ours, budget.beside)}
    others = [Budget(stage, name) for name in rounds if name not in named]
    return [line(budget, size, rounds) for budget in [*budgets, *others]]


def line(budget: Budget, size: int, rounds: dict[str, dict[int, dict]]) -> Row:
    ours, theirs = rounds[budget.ours], rounds.get(budget.beside or "", {})
    rest = rounds.get(budget.without or "", {})
    seconds = middle(ours, "seconds") - (middle(rest, "seconds") or 0)
    ratios = [rate(ours[n]) / rate(theirs[n]) for n in ours.keys() & theirs.keys() if rate(ours[n]) and rate(theirs[n])]
    ratio = statistics.median(ratios) if ratios else None
    p99_ms = middle(ours, "p99_ms")
    peaks = [sample["peak_kib"] for sample in ours.values() if sample["peak_kib"] is not None]
    peak_kib = max(peaks, default=None)
    words, verdicts = [], []

    def judge(word: str, is_met: bool | None) -> None:
        words.append(word)
        verdicts.append(is_met)

    if budget.ratio is not None:
        judge(f"≥ {budget.ratio:.2f}", None if ratio is None else ratio >= budget.ratio)
    if budget.seconds is not None:
        # A difference below nothing is one that this machine is too restless to see.
        judge(f"≤ {time_of(budget.seconds)}", None if seconds < 0 else seconds <= budget.seconds)
    if budget.p99_ms is not None:
        judge(f"p99 ≤ {budget.p99_ms:g} ms", None if p99_ms is None else p99_ms <= budget.p99_ms)
    if budget.mib is not None:
        judge(f"< {budget.mib} MiB", None if peak_kib is None else peak_kib < budget.mib * 1024)
    met = None if not verdicts or None in verdicts else all(verdicts)
    return Row(
        stage=budget.stage,
        size=size,
        ours=budget.ours + (" (less its start)" if rest else ""),
        seconds=seconds,
        rate=middle_rate(ours),
        contestant=budget.beside,
        their_rate=middle_rate(theirs),
        ratio=ratio,
        budget=", ".join(words),
        p99_ms=p99_ms,
        peak_kib=peak_kib,
        bytes=middle(ours, "bytes"),
        met=False if False in verdicts else met,
    )


def rate(sample: dict) -> float | None:
    """Items per second."""
    return sample["items"] / sample["seconds"] if sample["items"] and sample["seconds"] else None


def middle_rate(samples: dict[int, dict]) -> float | None:
    rates = [found for sample in samples.values() if (found := rate(sample)) is not None]
    return statistics.median(rates) if rates else None


def middle(samples: dict[int, dict], what: str) -> float | None:
    values = [sample[what] for sample in samples.values() if what in sample]
    return statistics.median(values) if values else None


def exponents(samples: list[dict]) -> dict[str, float]:
    """By what power of the size the seconds grow: the slope of the least squares through the logarithms of the medians."""
    seconds: dict[str, dict[int, list[float]]] = {}
    for sample in samples:
        if sample["size"] and sample["seconds"]:
            name = f"{sample['stage']}: {sample['contestant']}"
            seconds.setdefault(name, {}).setdefault(sample["size"], []).append(sample["seconds"])
    return {
        name: statistics.linear_regression(
            [math.log(size) for size in of_sizes], [math.log(statistics.median(values)) for values in of_sizes.values()]
        ).slope
        for name, of_sizes in seconds.items()
        if len(of_sizes) > 1
    }


def show(rows: list[Row], rounds: int) -> None:
    # After GROWTH the size of WITH_A_PAST is that of the past.
    heads = ("stage", "size", "ours", "took", "per second", "beside", "per second", "ratio", "budget", "p99", "peak", "met")
    cells = [
        (
            row.stage,
            f"{row.size:,}" if row.size else "",
            row.ours,
            time_of(row.seconds) if row.bytes is None else f"{row.bytes / 2**20:.1f} MiB",
            number(row.rate),
            row.contestant or "",
            number(row.their_rate),
            "" if row.ratio is None else f"{row.ratio:.2f}",
            row.budget,
            "" if row.p99_ms is None else f"{row.p99_ms:.1f} ms",
            "" if row.peak_kib is None else f"{row.peak_kib / 1024:.0f} MiB",
            {None: "", True: "yes", False: "NO"}[row.met],
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    print(f"{rounds} rounds, medians; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for line_of in (heads, ["-" * width for width in widths], *cells):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line_of, widths, strict=True)) + " |")


def time_of(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds * 1e3:.0f} ms" if abs(seconds) < 1 else f"{seconds:.2f} s"


def number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


main()
