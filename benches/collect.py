#!/usr/bin/env python3
"""How fast answers are taken: the real pages with real forms from 64 connections, beside pgbench with 64 clients; then with the
connections spread over two and four instances; of a shop with a past, one instance. The client is collect.rs, which says how it measures;
this builds it, and the program with it unless PROGRAM names one.

small: 10,000 answers a round; full: 40,000.
"""

import os
import subprocess
import sys

import common


def main() -> None:
    stage = common.Stage("collect", small=10_000, full=40_000)
    programs = common.tools("postgres.sh")
    if programs is None:
        common.fail("there are no Postgres server programs")
    if "PROGRAM" in os.environ:
        os.environ["PROGRAM"] = str(common.program())
    os.environ["PATH"] = f"{programs}:{os.environ['PATH']}"
    client = [os.environ.get("CARGO") or "cargo", "bench", "--quiet", "--bench", "collect", "--", stage.size, stage.rounds.stop - 1]
    client += [stage.past] if stage.past else []
    done = subprocess.run([str(word) for word in client], cwd=common.ROOT, check=False)
    sys.exit(done.returncode)


main()
