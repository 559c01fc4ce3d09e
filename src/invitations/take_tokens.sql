-- Tokens for up to $3 mails, from a bucket that holds a second's worth and never less than one.
-- $1 relay, $2 mails per minute by jobs.toml (null: no limit), $4 what grows back in a minute, as a share of the full rate
with locked as (
    select * from relay where relay = $1 for update
),
-- In a step of its own: what time it is once we have the row, however long that took.
clocked as (
    select locked.*, clock_timestamp() as moment from locked
),
grown as (
    select c.*,
        c.rate_per_minute + c.full_rate * $4::float8 * extract(epoch from c.moment - c.rate_changed_at)::float8 / 60 as learnt
    from clocked c
),
rated as (
    -- `least` looks past nulls: no limit there.
    select g.*, least(case when g.learnt < g.full_rate then g.learnt end, $2::float8) / 60 as rate, g.learnt < g.full_rate as is_slowed
    from grown g
),
filled as (
    select r.*,
        least(greatest(1, r.rate), r.tokens + r.rate * greatest(0, extract(epoch from r.moment - r.refilled_at)::float8)) as filled
    from rated r
),
counted as (
    select f.*, case when f.rate is null then $3::bigint else least(floor(f.filled)::bigint, $3::bigint) end as n from filled f
)
update relay
set tokens = case when c.rate is null then 1 else c.filled - c.n end,
    refilled_at = c.moment,
    rate_per_minute = case when c.is_slowed then c.rate_per_minute end,
    full_rate = case when c.is_slowed then c.full_rate end,
    rate_changed_at = case when c.is_slowed then c.rate_changed_at end
from counted c
where relay.relay = c.relay
returning c.n as "n!",
    greatest(0, case when c.rate is null then 0 else (1 - (c.filled - c.n)) / c.rate end)::float8 as "wait!",
    coalesce(c.is_slowed, false) as "is_slowed!"
