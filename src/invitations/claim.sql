-- Takes rows that are due under a lease. What stands against a mail is looked at once more, in the statement that takes it.
-- $1 shop, $2 survey, $3 now, $4 how many, $5 owner, $6 trigger is the order's date, $7 max lateness, $8 a yes is demanded,
-- $9 countries where the opposite holds
with due as (
    select i.invitation_id
    from invitation i
    where i.shop_id = $1 and i.survey = $2 and i.state in ('queued', 'deferred') and i.next_attempt_at <= $3
        and i.due_at >= $3::timestamptz - $7::interval
        -- Nothing is tried before it is due: so the index begins after what has been unknown for long.
        and i.next_attempt_at >= $3::timestamptz - $7::interval
        -- A question per row and no join, so that it is asked of the first rows of the queue only, whatever the statistics say.
        and (
            select b.reason is null and ($6 or b.fulfilled_at is not null)
                and coalesce(b.consent, $8 = coalesce(b.country = any($9::text[]), false))
            from obstacle b
            where b.shop_id = i.shop_id and b.invitation_id = i.invitation_id
        )
    order by i.next_attempt_at, i.invitation_id
    limit $4
    for update skip locked
),
claimed as (
    update invitation i
    set state = 'claimed', claimed_by = $5, fence = fence + 1, lease_until = now() + interval '15 minutes'
    -- As an array, so that they are found by their key: joined with the table, some hundreds are worth reading all of it. And the shop as
    -- something that is not known while planning: one that the statistics have never seen passes for a single row.
    where i.shop_id = (select $1::int) and i.invitation_id = any (array(select invitation_id from due))
    returning i.*
)
select i.invitation_id as "invitation!: InvitationId", i.fence as "fence!", i.wave as "wave!", i.attempts as "attempts!", i.message_id,
    i.next_attempt_at as "next_attempt_at!",
    (
        select min(a.started_at) from attempt a
        where i.attempts > 0 and a.shop_id = i.shop_id and a.invitation_id = i.invitation_id and a.outcome = 'deferred'
            -- What was mailed again by hand begins anew.
            and not exists (
                select from attempt later
                where later.shop_id = a.shop_id and later.invitation_id = a.invitation_id and later.attempt > a.attempt
                    and later.outcome = 'unknown'
            )
    ) as first_deferred_at,
    i.survey_version_id as "survey_version!: SurveyVersionId", i.order_id as "order!: OrderId",
    i.customer_id as "customer!: CustomerId", o.external_id as "external_id!", o.ordered_at as "ordered_at!", o.locale, c.first_name,
    c.email as "email!"
from claimed i
cross join lateral (
    select external_id, ordered_at, locale from "order" o where o.shop_id = i.shop_id and o.order_id = i.order_id offset 0
) o
cross join lateral (
    select first_name, email from customer c where c.shop_id = i.shop_id and c.customer_id = i.customer_id offset 0
) c
