#!/usr/bin/env python3
"""How long it takes to decide who is asked: `afterword run send-invitations` with what became due in one day and in 30 days, beside the bare
statement (src/invitations/decide.sql) in psql, rolled back.

small: 200,000 orders; full: 5 million, of three years, all of which were decided about until then (metrics/shop.sql). It is Friday night,
when no mail may leave, so that a run is the decision, its commit, and what surrounds every run. It takes what the ledger of the jobs says, by
Postgres's clock, and the statement what psql says, so that neither has its program's start in it; what a person waits for who types the
command is beside them, and so is a run that finds nothing new. At the end the shop is as if it had just brought in its years of orders: the
first decision of all.
"""

import re

import common

NOW = "2026-01-09 23:00+00"
STATEMENT = common.ROOT / "src" / "invitations" / "decide.sql"


def main() -> None:
    stage = common.Stage("decide", small=200_000, full=5_000_000)
    with common.shop(max_wal_size="8GB") as shop:
        stage.say(f"making a shop of {stage.size} orders")
        data = f"\\i {common.ROOT}/benches/metrics/shop.sql"
        shop.sql(data, orders=stage.size, answers=stage.size // 5, decided="2025-12-10 23:00+00")
        shop.sql("vacuum analyze")
        decide(shop, None)  # enters the survey and its version, and reads what is read the first time
        for round in stage.rounds:
            for days, what in ((1, "a day"), (30, "30 days")):
                bare = shop.sql(f"begin;\n\\timing on\n{statement(days)};\n\\timing off\nrollback;")
                run, typed, n, peak = decide(shop, days)
                stage.sample(f"bare SQL, {what}", round, float(re.search(r"Time: ([\d.]+) ms", bare)[1]) / 1e3, n, None)
                stage.sample(f"afterword, {what}", round, run, n, peak)
                stage.sample(f"the command, {what}", round, typed, n, peak)
            run, typed, n, peak = decide(shop, 0)
            stage.sample("afterword, nothing due", round, run, n, peak)
            stage.sample("the command, nothing due", round, typed, n, peak)
        stage.say("forgetting who was asked")
        for round in stage.rounds:
            shop.sql("truncate invitation, response cascade; delete from decided_until; analyze invitation")
            run, typed, n, peak = decide(shop, None)
            stage.sample("afterword, all years", round, run, n, peak)
            stage.sample("the command, all years", round, typed, n, peak)


def decide(shop: common.Shop, days: int | None) -> tuple[float, float, int, int]:
    """What a run took by the ledger, and the whole command, when it was decided until so many days ago (never, without a number); how many
    decisions it made, which are taken back; and its memory."""
    if days is not None:
        shop.sql(f"update decided_until set due_until = '{NOW}'::timestamptz - interval '{days} days', import_run_id = 1")
    shop.sql("checkpoint")
    typed, peak = shop.run("--as-of", NOW.replace(" ", "T").replace("+00", ":00Z"), "run", "send-invitations")
    n = int(shop.sql(f"with d as (delete from invitation where decided_at >= '{NOW}' returning 1) select count(*) from d"))
    if (n == 0) != (days == 0):
        common.fail(f"{n} orders were due in {'any' if days is None else days} days")
    run = float(shop.sql("select extract(epoch from finished_at - started_at) from job_run order by job_run_id desc limit 1"))
    shop.sql("vacuum analyze invitation")
    return run, typed, n, peak


def statement(days: int) -> str:
    """The statement with what the program gives it for the shipped survey `satisfaction`."""
    version = "(select max(survey_version_id) from survey_version where survey = 'satisfaction')"
    week, now = "interval '7 days'", f"timestamptz '{NOW}'"
    values = ["(select shop_id from shop)", "'satisfaction'::text", version, now, "'fulfilled'::text", week, "'{}'::text[]"]
    values += ["'{}'::interval[]", "interval '30 days'", "interval '90 days'", "4294967296", "'\\x00'::bytea"]
    values += [f"{now} - interval '{days} days'", "1", week, week, "false", "'{DE}'::text[]", "null::bigint", "null::timestamptz"]
    values += ["null::text", "'{after-service}'::text[]"]
    return common.with_values(STATEMENT, dict(enumerate(values, start=1)))


main()
