-- One decision about the first mail for every order that became due and has none yet.
-- $1 shop, $2 survey, $3 survey version, $4 now, $5 trigger, $6 delay, $7 countries with another delay, $8 their
-- delays, $9 max lateness, $10 throttle, $11 sampling threshold (2^32 takes all), $12 sampling key, $13 decided until, $14 the last
-- import run that was decided about, $15 shortest and $16 longest delay, $17 a yes is demanded, $18 countries where the opposite holds,
-- $19 how many more may be asked today (null: any number), $20 orders due by then may have been asked before a restore, $21 the event that
-- is waited for, $22 the surveys that wait for one
with found as (
    -- What became due since the last decision, and what an import has brought since then that was due before. Branches instead of a
    -- case, so that each can use its index; those of the other trigger are never executed.
    select o.order_id, o.external_id, o.customer_id, o.status, o.country, o.consent, o.import_run_id, o.fulfilled_at as start
    from "order" o
    where $5 = 'fulfilled' and o.shop_id = $1 and o.fulfilled_at <= $4::timestamptz - $15::interval
        and o.fulfilled_at > $13::timestamptz - $16::interval
    union all
    select o.order_id, o.external_id, o.customer_id, o.status, o.country, o.consent, o.import_run_id, o.fulfilled_at
    from "order" o
    where $5 = 'fulfilled' and o.shop_id = $1 and o.import_run_id > $14 and o.fulfilled_at <= $13::timestamptz - $16::interval
    union all
    select o.order_id, o.external_id, o.customer_id, o.status, o.country, o.consent, o.import_run_id, o.ordered_at
    from "order" o
    where $5 = 'ordered' and o.shop_id = $1 and o.ordered_at <= $4::timestamptz - $15::interval
        and o.ordered_at > $13::timestamptz - $16::interval
    union all
    select o.order_id, o.external_id, o.customer_id, o.status, o.country, o.consent, o.import_run_id, o.ordered_at
    from "order" o
    where $5 = 'ordered' and o.shop_id = $1 and o.import_run_id > $14 and o.ordered_at <= $13::timestamptz - $16::interval
    union all
    -- Of several events about an order, the first.
    (
        select distinct on (e.order_id) e.order_id, o.external_id, o.customer_id, o.status, o.country, o.consent, e.import_run_id,
            e.happened_at
        from order_event e
        join "order" o on o.shop_id = $1 and o.order_id = e.order_id
        where $5 = 'event' and e.shop_id = $1 and e.event = $21 and e.happened_at <= $4::timestamptz - $15::interval
            and (e.happened_at > $13::timestamptz - $16::interval or e.import_run_id > $14)
        order by e.order_id, e.happened_at
    )
),
due as (
    select found.*, start + coalesce(($8::interval[])[array_position($7::text[], country)], $6::interval) as due_at
    from found
),
undecided as materialized (
    -- One look at what was decided about an order before, by this survey or by another.
    select due.*, earlier.is_asked from due
    cross join lateral (
        select coalesce(bool_or(i.survey = $2), false) as is_decided,
            coalesce(bool_or(
                $5 <> 'event' and i.survey <> all($22::text[])
                    and i.state in ('queued', 'claimed', 'in_data', 'sent', 'deferred', 'unknown')
            ), false) as is_asked
        from invitation i
        where i.shop_id = $1 and i.order_id = due.order_id and i.wave = 0
    ) earlier
    where due_at <= $4 and (due_at > $13 or import_run_id > $14) and not earlier.is_decided
),
busy as (
    -- Of these customers, who waits to be mailed, whenever that was decided; and who was mailed, or may have been, lately. Joined, because a
    -- list that does not fit into memory would be gone through for each order.
    select distinct customer_id
    from (
        select i.customer_id from invitation i
        where i.shop_id = $1 and i.wave = 0 and i.state in ('queued', 'claimed', 'in_data', 'deferred')
        union all
        select i.customer_id from invitation i
        where i.shop_id = $1 and i.sent_at > $4::timestamptz - $10::interval and i.wave = 0 and i.state = 'sent'
        union all
        select i.customer_id from invitation i
        where i.shop_id = $1 and i.decided_at > $4::timestamptz - $10::interval and i.wave = 0
            and (i.state = 'unknown' or i.reason = 'already_asked') and (i.reason is null or i.due_at <= $20)
    ) asked
    where $10::interval > interval '0' and customer_id in (select customer_id from undecided)
),
judged as materialized ( -- or each reason is looked for twice
    -- The first reason that applies is the one that is written: facts about the order, then about the person, then our own rules.
    select u.order_id, u.customer_id, u.due_at, hash,
        case
            when u.status = 'cancelled' then 'cancelled'
            when u.status = 'refunded' then 'refunded'
            when c.email is null then 'no_address'
            when c.email not like '_%@_%._%' or octet_length(c.email) > 254 then 'bad_address'
            when 'unsubscribed' in (s.reason, everywhere.reason) then 'unsubscribed'
            when coalesce(s.reason, everywhere.reason) is not null then 'suppressed'
            when not coalesce(u.consent, $17 = coalesce(u.country = any($18::text[]), false)) then 'no_consent'
            when exists (
                select from response r
                where r.shop_id = $1 and r.order_id = u.order_id and r.survey = $2 and r.counted
            ) then 'answered'
            when u.due_at <= $20 or u.is_asked then 'already_asked'
            when u.due_at < $4::timestamptz - $9::interval then 'too_late'
            when hash >= $11 then 'not_sampled'
            when busy.customer_id is not null then 'throttled'
        end::decision_reason as reason
    -- In the order of customers, so that a page of them is read once.
    from (select * from undecided order by customer_id offset 0) u
    left join busy on busy.customer_id = u.customer_id
    join customer c on c.shop_id = $1 and c.customer_id = u.customer_id
    cross join lateral (select sha256(convert_to(c.email_key, 'UTF8')) as address_hash offset 0) address
    left join suppression s on s.shop_id = $1 and s.address_hash = address.address_hash
    left join suppression everywhere on everywhere.shop_id = 0 and everywhere.address_hash = address.address_hash
    -- The first 32 bits of SHA-256(key || order): the same order, the same verdict, in every rerun.
    cross join lateral (
        select case
            when $11 < 4294967296 or $19::bigint is not null
            then ('x' || encode(substr(sha256($12 || convert_to(u.external_id, 'UTF8')), 1, 4), 'hex'))::bit(32)::bigint
        end as hash
    ) drawn
),
one_each as (
    -- Of several orders of one customer that are due together, the one that was due first is asked about.
    select j.*,
        coalesce(
            j.reason,
            case
                when $10::interval > interval '0'
                    and row_number() over (partition by j.customer_id, j.reason is null order by j.due_at, j.order_id) > 1
                then 'throttled'::decision_reason
            end
        ) as reason_so_far
    from judged j
),
decided as (
    -- Who is beyond the day's cap is drawn by lot, not by the hour of the day.
    select o.*,
        coalesce(
            o.reason_so_far,
            case
                when $19::bigint is not null
                    and row_number() over (partition by o.reason_so_far is null order by o.hash, o.order_id) > $19
                then 'over_cap'::decision_reason
            end
        ) as final_reason
    from one_each o
),
inserted as (
    -- Plain: whoever decides has the turn, so nothing conflicts, and an `on conflict` that never finds one costs a third of the insert.
    insert into invitation (
        shop_id, order_id, customer_id, survey, wave, survey_version_id, state, reason, due_at, decided_at, next_attempt_at
    )
    select $1, order_id, customer_id, $2, 0, $3,
        (case when final_reason is null then 'queued' else 'skipped' end)::invitation_state,
        final_reason, due_at, $4, $4
    from decided
    order by due_at, order_id
    returning reason
)
select reason as "reason: Reason", count(*) as "n!" from inserted group by reason
