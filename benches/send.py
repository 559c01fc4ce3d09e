#!/usr/bin/env python3
"""How fast invitations leave, end to end: decide, write, SMTP and ledger, into Postfix's smtp-sink; beside what others send into the same sink,
mails of the same size and as many:

- Postfix's smtp-source, which only speaks SMTP;
- lettre with its pool, as its documentation shows it, which also writes the mails (benches/lettre);
- a queue as a shop with Node would build it, graphile-worker with nodemailer, which also remembers what it has done (benches/graphile).

small: 3,000 mails a turn; full: 20,000. The program sends over 8 connections, like smtp-source, and over 32; and as two and four instances
of 8 connections, each in a run of its own, from one queue. In a shop with a past, which nine of ten orders were asked about, as many mails
leave; then it is measured beside smtp-source alone, which knows of no past.
"""

import os
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import common
import mailing

CONNECTIONS = (8, 32)
INSTANCES = (2, 4)


def main() -> None:
    stage = common.Stage("send", small=3_000, full=20_000)
    n = stage.size
    postfix = common.tools("postfix.sh")
    if postfix is None:
        common.fail("without smtp-sink there is nothing to send to")
    lettre, queue = (None, None) if stage.past else others(stage)
    libraries = os.environ | {"LD_LIBRARY_PATH": str(postfix.parent / "lib" / "postfix")}
    # The rows of a past are made in one go.
    with common.shop(max_wal_size="8GB") as shop, mailing.sink(postfix, libraries) as port:
        relay = mailing.relay(port)
        if stage.past:
            stage.say(f"making a past of {stage.past} orders")
            # It ended yesterday: what the throttle and the brakes look at is there.
            now = datetime.now(UTC)
            past = {"orders": stage.past, "answers": stage.past // 5, "began": (now - timedelta(days=3 * 365 + 2)).date(), "decided": now}
            shop.sql(f"\\i {common.ROOT}/benches/metrics/shop.sql", **past)
            shop.sql("vacuum analyze")
        shop.configure(("send_window = ", ""))
        # The size of a mail, from one that is written as a file; what else was due leaves so too.
        mailing.import_orders(shop, "size", 1)
        shop.run("run", "send-invitations")
        mails = (path.read_bytes() for path in (shop.place / "data" / "outbox").glob("*.eml"))
        size = next(len(mail) for mail in mails if b"csizex0@" in mail)
        stage.say(f"{n} mails of {size} bytes a turn")
        source = [postfix / "smtp-source", "-s", 8, "-d", "-m", n, "-l", size, "-f", "a@shop.example", "-t", "b@customer.example"]

        def ours(batch: str, name: str, connections: int, jobs: tuple) -> None:
            mailing.import_orders(shop, batch, n)
            shop.configure(("send_window = ", ""), ("transport = ", relay), ("max_connections = 4 ", f"max_connections = {connections} "))
            with (shop.place / "jobs.toml").open("a") as file:
                file.writelines(mailing.job(job) for job in jobs[1:])
            before = mailing.n_sent(shop)
            began = time.monotonic()
            peak_kib = run_all(shop, jobs)
            seconds = time.monotonic() - began
            sent = mailing.n_sent(shop) - before
            # Orders of the past become due all the while.
            if sent < n or (sent > n and not stage.past):
                common.fail(f"{sent} mails were sent, not {n}")
            stage.sample(name, round, seconds, sent, peak_kib)

        for round in stage.rounds:
            took = common.measure([*source, f"127.0.0.1:{port}"], env=libraries)
            stage.sample("smtp-source", round, took[0], n, took[1])
            for connections in CONNECTIONS:
                ours(f"{round}-{connections}", f"afterword, {connections} connections", connections, ("send-invitations",))
            for instances in () if stage.past else INSTANCES:
                jobs = ("send-invitations", *(f"send-too-{i}" for i in range(2, instances + 1)))
                ours(f"{round}-x{instances}", f"afterword, {instances} instances of 8 connections", 8, jobs)
            if lettre is not None:
                took = common.measure([lettre, port, n, 32, size])
                stage.sample("lettre, pooled, 32 connections", round, took[0], n, took[1])
            if queue is not None:
                # Its tables in a schema of its own, which the program does not look at.
                took = common.measure(["node", queue / "queue.js", port, n, 32, size], env=shop.environment)
                stage.sample("graphile-worker with nodemailer", round, took[0], n, took[1])


def others(stage: common.Stage) -> tuple[Path | None, Path | None]:
    """The programs that others send with, where they can be had."""
    lettre = mailing.contestant("lettre-pool")
    if lettre is None:
        stage.skip("lettre, pooled, 32 connections", "cargo could not build benches/lettre")
    queue = common.tools("graphile.sh")
    if queue is None:
        stage.skip("graphile-worker with nodemailer", "there is no Node, or npm could not install them")
    return lettre, queue


def run_all(shop: common.Shop, jobs: tuple) -> int:
    """Runs jobs, a process each, side by side; the most memory that the largest had."""
    running = [
        subprocess.Popen([shop.program, "run", job], cwd=shop.place, env=shop.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for job in jobs
    ]
    peaks = []
    for process in running:
        said = process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        peaks.append(used.ru_maxrss)
        if process.returncode != 0:
            common.fail(f"a run ended with {process.returncode}:\n{said.decode(errors='replace')[-4000:]}")
    return max(peaks)


main()
