#!/usr/bin/env python3
"""How fast a file of orders is read: `afterword import orders`, fresh and then the same file once more, beside psql's `\\copy` of the same
file into one table with the same two keys, and pgloader, Debian's, into the same table.

small: 50,000 orders; full: 1 million. The program reads, checks and normalises what it is given, finds each customer, and writes two
tables with seven indexes; the others write one table with two.
"""

import csv
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import common

COLUMNS = "order_id text, email text, ordered_at timestamptz, fulfilled_at timestamptz, status text, first_name text, last_name text, \
locale text, country text, currency text, total numeric, items text, channel text"
TABLE = f"""
create table bench_order (
    shop_id int not null default 1, row_id bigint generated always as identity, {COLUMNS},
    primary key (shop_id, row_id), unique (shop_id, order_id))
"""
PGLOADER = """
load csv from 'orders.csv' ({fields})
into postgresql://afterword@unix:{sockets}:5432/postgres target table bench_order ({fields})
with skip header = 1, fields optionally enclosed by '"', fields terminated by ',';
"""


def write_orders(path: Path, n: int) -> None:
    """Ten orders for seven customers, over three years; the same each time."""
    began = datetime(2023, 1, 1, tzinfo=UTC)
    step = timedelta(days=3 * 365) / n
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        names = [column.split()[0] for column in COLUMNS.split(", ")]
        rows.writerow([*names[:-1], "attributes.channel"])
        for i in range(n):
            customer = i * 7919 % (n * 7 // 10 + 1)
            at = (began + i * step).replace(microsecond=0)
            rows.writerow(
                [
                    f"A-{i}", f"c{customer}@customer.example", at.isoformat(), (at + timedelta(days=3)).isoformat(), "fulfilled",
                    "Claire", "Dubois", ("fr", "en")[i % 3 == 0], ("FR", "BE", "DE")[i % 3], "EUR",
                    f"{10 + i % 200}.{i % 100:02}", f"P-{i % 1000}|P-{i % 7}", ("web", "app")[i % 2],
                ]
            )  # fmt: skip


def main() -> None:
    stage = common.Stage("import", small=50_000, full=1_000_000)
    n = stage.size
    found = subprocess.run([common.ROOT / "scripts" / "pgloader.sh"], stdout=subprocess.PIPE, text=True, check=False)
    pgloader = found.stdout.strip()
    if not pgloader:
        stage.skip("pgloader", "it is not here, and Debian's package pgloader could not be had")
    # Checkpoints by the quantity that the default allows would fall into one contestant's turn and not into the other's.
    with common.shop(max_wal_size="8GB") as shop:
        stage.say(f"writing a file of {n} orders")
        write_orders(shop.place / "orders.csv", n)
        names = ", ".join(column.split()[0] for column in COLUMNS.split(", "))
        load = shop.place / "pgloader.load"
        load.write_text(PGLOADER.format(fields=names, sockets=shop.sockets))
        shop.sql(TABLE)
        imported = ("import", "orders", "--shop", "maison", "orders.csv")
        for round in stage.rounds:
            shop.sql("truncate bench_order; checkpoint")
            copied = shop.measure_psql(rf"\copy bench_order ({names}) from 'orders.csv' with (format csv, header)")
            stage.sample("psql \\copy", round, copied[0], n, copied[1])
            if pgloader:
                shop.sql("truncate bench_order; checkpoint")
                loaded = common.measure([pgloader, load], cwd=shop.place, env=shop.environment)
                check(shop, "bench_order", n)
                stage.sample("pgloader", round, loaded[0], n, loaded[1])
            check(shop, "bench_order", n)
            # A file that it has read before it does not read once more, unless it is told to: then every row is compared.
            shop.sql('truncate customer, "order", import_run cascade; checkpoint')
            contestants = {"afterword, fresh": (), "afterword, again": ("--again",), "afterword, known file": ()}
            for contestant, words in contestants.items():
                took = shop.run(*imported, *words)
                check(shop, '"order"', n)
                stage.sample(contestant, round, took[0], n, took[1])
                shop.sql("checkpoint")


def check(shop: common.Shop, table: str, n: int) -> None:
    rows = int(shop.sql(f"select count(*) from {table}"))
    if rows != n:
        common.fail(f"{table} has {rows} rows, not {n}")


main()
