#!/usr/bin/env python3
"""How fast testimonials leave, beside psql's `\\copy` of the same query (src/testimonials/candidate.sql). Everything is published already, so
that both only read.

small: 50,000 testimonials; full: 1 million. The program writes its own format to a pipe and into a file, and the merchants' feed to a pipe.
"""

import common

QUERY = common.ROOT / "src" / "testimonials" / "candidate.sql"
DATA = common.ROOT / "benches" / "testimonials.sql"


def main() -> None:
    stage = common.Stage("export", small=50_000, full=1_000_000)
    n = stage.size
    # The rows are made in one go, and are read from memory by both.
    with common.shop(max_wal_size="8GB", shared_buffers="512MB") as shop:
        stage.say(f"making {n} testimonials")
        shop.sql(f"\\i {DATA}", n=n)
        shop_id = shop.sql("select shop_id from shop")
        values = {1: shop_id, 2: "'approved'", 3: "null", 4: "true", 5: "null", 6: "false", 7: "interval '1825 days'", 8: "timestamptz '2026-02-01'", 9: "null"}
        query = common.with_values(QUERY, values)
        files = {"generic, stream": ("generic", "-"), "generic, file": ("generic", "out.csv"), "google-merchant, stream": ("google-merchant", "-")}
        for round in stage.rounds:
            with (shop.place / "out").open("wb") as out:
                copied = shop.measure_psql(f"\\copy ({query}) to stdout with (format csv, header)", stdout=out)
            stage.sample("psql \\copy", round, copied[0], n, copied[1])
            for contestant, (format, to) in files.items():
                with (shop.place / "out").open("wb") as out:
                    # Exit code 3: some of it the format could not take.
                    command = ("export", "testimonials", "--shop", "maison", "--as-of", "2026-02-01", "--format", format, "--out", to)
                    took = shop.run(*command, ok=(0, 3), stdout=out)
                rows = int(shop.sql("select n_rows from export_run order by export_run_id desc limit 1"))
                if rows != n:
                    common.fail(f"{contestant}: {rows} testimonials left, not {n}")
                stage.sample(f"afterword, {contestant}", round, took[0], n, took[1])


main()
