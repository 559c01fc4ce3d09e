"""The figures of the nights, counted by DuckDB from the same tables.

    beside.py load DATABASE FOLDER     CSV files that psql has written, into tables
    beside.py count DATABASE OUT       counts, writes metric_day and metric_customers as OUT.day.csv and OUT.customers.csv, and
                                       prints the seconds that the counting took

The rules are those of the shipped jobs.toml for the two surveys that the made-up shop has; the times are UTC, in which that shop lies.
"""

import resource
import sys
import time

import duckdb

TABLES = {
    "orders": "order_id BIGINT, customer_id BIGINT, ordered_at TIMESTAMP, status VARCHAR",
    "invitation": "invitation_id BIGINT, order_id BIGINT, survey VARCHAR, wave INT, state VARCHAR, placed_at TIMESTAMP",
    "bounce": "invitation_id BIGINT, kind VARCHAR",
    "response": "response_id BIGINT, order_id BIGINT, survey VARCHAR, by_mail BOOLEAN, revision INT, counted BOOLEAN, verdict VARCHAR, "
    "answered_at TIMESTAMP",
    "answer": "response_id BIGINT, question VARCHAR, value VARCHAR",
    "rating": "source VARCHAR, rated_on DATE, share VARCHAR, ratings BIGINT",
}

DAY = """
create temp table standing as
select false as with_suspects, * from (
    select * from response where verdict = 'human'
    qualify row_number() over (partition by order_id, survey order by counted desc, answered_at desc, revision desc) = 1)
union all
select true, * from (
    select * from response
    qualify row_number() over (partition by order_id, survey order by answered_at desc, revision desc) = 1);

create temp table mailed as
select m.*, wave = 0 and a.order_id is not null as is_answered, b.invitation_id is not null as bounced
from (select * from invitation where state in ('sent', 'unknown', 'failed')) m
left join (select distinct order_id, survey from response where by_mail and verdict = 'human') a using (order_id, survey)
left join (select distinct invitation_id from bounce where kind = 'hard') b using (invitation_id);

-- Who does not recommend is unhappy, and in the other survey who gives six or less.
create temp table said as
select s.with_suspects, s.answered_at::date as day, s.survey, s.response_id, a.question, a.value,
    case question when 'recommend' then value = 'no' when 'nps' then value::int <= 6 else false end as is_unhappy
from standing s join answer a using (response_id);

create temp table unhappy as
select day, survey, response_id from said where not with_suspects and is_unhappy;

create temp table metric_day as
select ordered_at::date as day, 'orders' as fact, '' as survey, '' as question, '' as value, count(*) as n
from orders where status not in ('cancelled', 'refunded') group by all
union all
select day, fact, '', '', '', n from (
    unpivot (
        select placed_at::date as day,
            count(*) filter (state = 'sent') as mails_sent,
            count(*) filter (wave = 0) as first_mails,
            count(*) filter (wave = 0 and is_answered) as first_mails_complete,
            count(*) filter (wave = 0 and state = 'unknown') as first_mails_unknown,
            count(*) filter (wave = 0 and state = 'sent' and (is_answered or not bounced)) as first_mails_reached,
            count(*) filter (wave = 0 and state = 'sent' and is_answered) as first_mails_answered
        from mailed group by all
    ) on columns(* exclude day) into name fact value n
) where n > 0
union all
select answered_at::date, 'answers', survey, '', '', count(*) from standing where not with_suspects group by all
union all
select day, 'comments', survey, '', '', count(distinct response_id) from said where not with_suspects and value is null group by all
union all
select day, case when with_suspects then 'answer_with_suspects' else 'answer' end, survey, question, value, count(*)
from said where value is not null group by all
union all
select day, 'unhappy', survey, '', '', count(*) from unhappy group by all
union all
select u.day, 'topic', u.survey, s.question, s.value, count(*)
from unhappy u join said s on s.response_id = u.response_id and not s.with_suspects
where s.question in ('topic', 'improve') group by all
union all
select rated_on, 'score', source, '', share, ratings from rating;
"""

CUSTOMERS = """
create temp table ordered as
select customer_id, ordered_at, row_number() over (partition by customer_id order by ordered_at) > 1 as is_later
from orders where status not in ('cancelled', 'refunded');
create temp table metric_customers (period varchar, starts_on date, customers bigint, "repeat" bigint, "returning" bigint);
"""

PERIODS = ["day", "week", "month", "quarter", "year"]


def period(name: str) -> str:
    starts_on = "date '0001-01-01'" if name == "ever" else f"date_trunc('{name}', ordered_at)::date"
    return f"""
        insert into metric_customers
        select '{name}', starts_on, count(*), count(*) filter (n >= 2), count(*) filter (is_returning)
        from (select {starts_on} as starts_on, customer_id, count(*) as n, bool_or(is_later) as is_returning from ordered group by all)
        group by all;
    """


def main() -> None:
    what, database, target = sys.argv[1:]
    connection = duckdb.connect(database)
    connection.execute("set threads = 2")
    if what == "load":
        for table, columns in TABLES.items():
            connection.execute(f"create table {table} ({columns})")
            connection.execute(f"copy {table} from '{target}/{table}.csv' (header, nullstr '')")
        return
    began = time.monotonic()
    connection.execute(DAY)
    connection.execute(CUSTOMERS)
    for name in [*PERIODS, "ever"]:
        connection.execute(period(name))
    seconds = time.monotonic() - began
    connection.execute(f"copy (from metric_day order by all) to '{target}.day.csv' (header false, quote '')")
    connection.execute(f"copy (from metric_customers order by all) to '{target}.customers.csv' (header false)")
    print(f"{seconds:.3f} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}")


main()
