-- What happened to those who wait to be mailed: gave up on them, with the reason, or moved them with their order's delivery date.
-- $1 shop, $2 survey, $3 now, $4 trigger, $5 delay, $6 countries with another delay, $7 their delays, $8 max lateness,
-- $9 a yes is demanded, $10 countries where the opposite holds
with waiting as (
    select i.shop_id, i.invitation_id, i.due_at,
        -- A delivery that turned out to be later moves the first mail; one that turned out to be earlier does not.
        case when i.wave = 0 and i.attempts = 0 then greatest(
            i.due_at,
            case $4 when 'ordered' then o.ordered_at when 'fulfilled' then o.fulfilled_at end
                + coalesce(($7::interval[])[array_position($6::text[], o.country)], $5::interval)
        ) else i.due_at end as now_due_at,
        coalesce(
            o.reason,
            case
                when $4 = 'fulfilled' and o.fulfilled_at is null then 'order_changed'
                when not coalesce(o.consent, $9 = coalesce(o.country = any($10::text[]), false)) then 'no_consent'
                when i.due_at < $3::timestamptz - $8::interval then 'too_late'
            end::decision_reason
        ) as reason
    from invitation i
    join obstacle o using (shop_id, invitation_id)
    where i.shop_id = $1 and i.survey = $2 and i.state in ('queued', 'deferred')
),
moved as (
    update invitation i set due_at = w.now_due_at, next_attempt_at = w.now_due_at
    from waiting w
    where i.shop_id = w.shop_id and i.invitation_id = w.invitation_id and w.reason is null and w.now_due_at > w.due_at
        -- As text, here and below, so that the rows are found by their key: the statistics may be of an hour in which nothing waited, and then
        -- those who wait would be compared with each other, each with each.
        and i.state::text in ('queued', 'deferred')
)
update invitation i
set reason = w.reason,
    state = (case
        when w.reason in ('unsubscribed', 'suppressed', 'no_address') then 'suppressed'
        when w.reason = 'too_late' then 'expired'
        else 'cancelled'
    end)::invitation_state
from waiting w
where i.shop_id = w.shop_id and i.invitation_id = w.invitation_id and w.reason is not null and i.state::text in ('queued', 'deferred')
returning i.invitation_id as "invitation: InvitationId", i.state as "state: InvitationState"
