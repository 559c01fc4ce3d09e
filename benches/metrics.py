#!/usr/bin/env python3
"""How fast figures are counted and read: `metrics rebuild --check`, which counts every day of a shop from its rows, beside DuckDB, which
counts the same from the same tables, and must come to the same. Then what a night costs after so and so many orders have changed, and how
long reports take.

small: 50,000 orders and 10,000 answers; full: 5 million and 1 million, which takes 10 GB below /tmp and half an hour. The shop is made up
by metrics/shop.sql and is the same each time. DuckDB comes from PyPI into target/duckdb. What the program is asked includes its start, which
is beside it ("only the start").
"""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import common

SOURCES = common.ROOT / "benches" / "metrics"
FIGURES = {
    "day": "select day, fact, survey, question, value, n from metric_day where known_to = 'infinity'",
    "customers": """select period, starts_on, customers, "repeat", "returning" from metric_customers where known_to = 'infinity'""",
}


class Nights:
    """No two nights are at the same moment."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 2, 2, tzinfo=UTC)

    def as_of(self) -> tuple[str, str]:
        return "--as-of", self.now.strftime("%Y-%m-%dT%H:%M:%SZ")

    def next(self) -> tuple[str, str]:
        self.now += timedelta(hours=1)
        return self.as_of()


def main() -> None:
    stage = common.Stage("metrics", small=50_000, full=5_000_000)
    n = stage.size
    duckdb = python_with_duckdb()
    if duckdb is None:
        stage.skip("DuckDB", "it is not there, and pip could not get it")
    with common.shop() as shop:
        shop.configure(('timezone = "Europe/Paris"', 'timezone = "UTC"'))
        shop.run("jobs")
        stage.say(f"making a shop of {n} orders")
        shop.sql(f"\\i {SOURCES}/shop.sql", orders=n, answers=n // 5)
        shop.sql("vacuum analyze")
        nights = Nights()
        first = shop.run(*nights.next(), "run", "nightly-metrics")
        stage.sample("a first night", 1, first[0], n, first[1])
        if duckdb:
            stage.say("loading DuckDB")
            shop.sql(f"\\i {SOURCES}/export.sql", folder=shop.place)
            subprocess.run([duckdb, SOURCES / "beside.py", "load", shop.place / "duckdb", shop.place], check=True)
        for round in stage.rounds:
            if duckdb:
                count = [duckdb, SOURCES / "beside.py", "count", shop.place / "duckdb", shop.place / "theirs"]
                # It measures itself: the start of Python and the reading of the library are not DuckDB's counting.
                seconds, peak = subprocess.run(count, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
                stage.sample("DuckDB", round, float(seconds), n, int(peak))
            took = shop.run(*nights.next(), "metrics", "rebuild", "--check")
            stage.sample("rebuild", round, took[0], n, took[1])
        if duckdb:
            compare(stage, shop)
        for round in stage.rounds:
            a_night_after_changes(stage, shop, nights, round)
        for round in stage.rounds:
            reports(stage, shop, nights, round)


def python_with_duckdb() -> Path | None:
    python = common.TARGET / "duckdb" / "bin" / "python"

    def has_it() -> bool:
        return python.exists() and subprocess.run([python, "-c", "import duckdb"], capture_output=True, check=False).returncode == 0

    if not has_it():
        for command in ([sys.executable, "-m", "venv", python.parent.parent], [python, "-m", "pip", "install", "--quiet", "duckdb"]):
            if subprocess.run(command, stdout=sys.stderr, check=False).returncode != 0:
                return None
    return python if has_it() else None


def compare(stage: common.Stage, shop: common.Shop) -> None:
    """Both have counted the same."""
    counts = []
    for what, query in FIGURES.items():
        ours = shop.sql(f"copy ({query}) to stdout csv").replace('"', "")
        theirs = (shop.place / f"theirs.{what}.csv").read_text().replace('"', "")
        if sorted(ours.splitlines()) != sorted(theirs.splitlines()):
            common.fail(f"the two have counted different things by {what}")
        counts.append(f"{len(ours.splitlines())} by {what}")
    stage.say(f"both counted the same: {' and '.join(counts)}")


def a_night_after_changes(stage: common.Stage, shop: common.Shop, nights: Nights, round: int) -> None:
    """The latest orders change, as files bring them: of 5 million, 1,000 and 100,000; then 1,000 of all years. Nights are a day apart, so
    that autovacuum has been there since the night before."""
    flip = """update "order" set status = case status when 'cancelled' then 'fulfilled' else 'cancelled' end::order_status where """
    for share in (None, 5000, 50):
        changed = stage.size // share if share else 0
        shop.sql(flip + f"order_id > {stage.size - changed}")
        shop.sql("vacuum analyze")
        took = shop.run(*nights.next(), "run", "nightly-metrics")
        what = f"a night after one of {share:,} orders has changed" if share else "a night after no change"
        stage.sample(what, round, took[0], changed, took[1])
    shop.sql(flip + f"order_id % greatest({stage.size} / 1000, 1) = 0")
    shop.sql("vacuum analyze")
    took = shop.run(*nights.next(), "run", "nightly-metrics")
    stage.sample("a night after 1,000 orders of all years have changed", round, took[0], 1000, took[1])


def reports(stage: common.Stage, shop: common.Shop, nights: Nights, round: int) -> None:
    month = ("--from", "2025-11-01", "--to", "2025-12-01")
    kept = (*nights.as_of(), "--json", "report")
    asked = {
        "only the start": ("alerts",),
        "kept report, by month": (*kept, "--by", "month"),
        "kept report, a month": (*kept, *month),
        "report from the rows, a month": ("--json", "report", *month),
        "report from the rows, everything": ("--json", "report"),
        "report as a page, from the rows": ("report", "--html", "page.html"),
    }
    for contestant, words in asked.items():
        took = shop.run(*words)
        stage.sample(contestant, round, took[0], 1, took[1])


main()
