-- One decision for every order that became due and has none yet.
-- $1 shop, $2 survey, $3 survey version, $4 now, $5 trigger is the order's date, $6 delay, $7 max lateness, $8 throttle,
-- $9 sampling threshold (2^32 takes all), $10 sampling key, $11 decided until, $12 the last import run that was decided about
with due as (
    -- What became due since the last decision, and what an import has brought since then. Branches instead of a case, so that each can
    -- use its index; those of the other trigger are never executed.
    select o.order_id, o.external_id, o.customer_id, o.status, o.fulfilled_at + $6::interval as due_at
    from "order" o
    where not $5 and o.shop_id = $1 and o.fulfilled_at <= $4::timestamptz - $6::interval
        and o.fulfilled_at > $11::timestamptz - $6::interval
    union
    select o.order_id, o.external_id, o.customer_id, o.status, o.fulfilled_at + $6::interval
    from "order" o
    where not $5 and o.shop_id = $1 and o.fulfilled_at <= $4::timestamptz - $6::interval and o.import_run_id > $12
    union
    select o.order_id, o.external_id, o.customer_id, o.status, o.ordered_at + $6::interval
    from "order" o
    where $5 and o.shop_id = $1 and o.ordered_at <= $4::timestamptz - $6::interval
        and o.ordered_at > $11::timestamptz - $6::interval
    union
    select o.order_id, o.external_id, o.customer_id, o.status, o.ordered_at + $6::interval
    from "order" o
    where $5 and o.shop_id = $1 and o.ordered_at <= $4::timestamptz - $6::interval and o.import_run_id > $12
),
undecided as (
    select due.* from due
    where not exists (
        select from invitation i
        where i.shop_id = $1 and i.order_id = due.order_id and i.survey = $2 and i.wave = 0
    )
),
judged as (
    -- The first reason that applies is the one that is written: facts about the order, then about the person, then our own rules.
    select u.*,
        case
            when u.status = 'cancelled' then 'cancelled'
            when u.status = 'refunded' then 'refunded'
            when c.erased_at is not null then 'no_address'
            when s.reason = 'unsubscribed' then 'unsubscribed'
            when s.reason is not null then 'suppressed'
            when u.due_at < $4::timestamptz - $7::interval then 'too_late'
            -- The first 32 bits of SHA-256(key || order) against the threshold: the same order, the same verdict, in every rerun.
            when $9 < 4294967296
                and ('x' || encode(substr(sha256($10 || convert_to(u.external_id, 'UTF8')), 1, 4), 'hex'))::bit(32)::bigint >= $9
                then 'not_sampled'
            when exists (
                select from invitation i
                where i.shop_id = $1 and i.customer_id = u.customer_id and i.wave = 0
                    and i.state in ('queued', 'claimed', 'in_data', 'sent', 'deferred', 'unknown')
                    and i.decided_at > $4::timestamptz - $8::interval
            ) then 'throttled'
        end::decision_reason as reason
    from undecided u
    join customer c on c.shop_id = $1 and c.customer_id = u.customer_id
    left join suppression s on s.shop_id = $1 and s.address_hash = sha256(convert_to(c.email_key, 'UTF8'))
),
ranked as (
    -- Of several orders of one customer that are due together, the one that was due first is asked about.
    select j.*,
        row_number() over (partition by j.customer_id, j.reason is null order by j.due_at, j.order_id) as nth
    from judged j
),
decided as (
    select r.*,
        coalesce(r.reason, case when r.nth > 1 and $8::interval > interval '0' then 'throttled'::decision_reason end) as final_reason
    from ranked r
),
inserted as (
    insert into invitation (
        shop_id, order_id, customer_id, survey, wave, survey_version_id, state, reason, due_at, decided_at, next_attempt_at
    )
    select $1, order_id, customer_id, $2, 0, $3,
        (case when final_reason is null then 'queued' else 'skipped' end)::invitation_state,
        final_reason, due_at, $4, $4
    from decided
    order by due_at, order_id
    on conflict on constraint invitation_once_key do nothing
    returning reason
)
select reason as "reason: Reason", count(*) as "n!" from inserted group by reason
