-- One decision about the next wave for every mail whose reminder became due.
-- $1 shop, $2 survey, $3 now, $4 the last wave there is, $5 trigger is the order's date, $6 max lateness, $7 reminders due by then may have
-- been sent before a restore, $8 a yes is demanded, $9 countries where the opposite holds
with due as (
    -- Of two runs at once, one takes the row. A reminder that is no longer configured is dropped without a word.
    update invitation i set remind_at = null
    from invitation before
    where i.shop_id = $1 and i.survey = $2 and i.remind_at <= $3
        and before.shop_id = $1 and before.invitation_id = i.invitation_id
    returning i.invitation_id, i.order_id, i.customer_id, i.survey_version_id, (i.wave + 1)::smallint as wave, before.remind_at as due_at
),
judged as (
    select d.*,
        coalesce(
            o.reason,
            case
                when not $5 and o.fulfilled_at is null then 'order_changed'
                when not coalesce(o.consent, $8 = coalesce(o.country = any($9::text[]), false)) then 'no_consent'
                when d.due_at <= $7 then 'already_asked'
                when d.due_at < $3::timestamptz - $6::interval then 'too_late'
            end::decision_reason
        ) as reason
    from due d
    join obstacle o on o.shop_id = $1 and o.invitation_id = d.invitation_id
    where d.wave <= $4
),
inserted as (
    insert into invitation (
        shop_id, order_id, customer_id, survey, wave, survey_version_id, state, reason, due_at, decided_at, next_attempt_at
    )
    select $1, order_id, customer_id, $2, wave, survey_version_id,
        (case when reason is null then 'queued' else 'skipped' end)::invitation_state,
        reason, due_at, $3, $3
    from judged
    order by due_at, order_id
    on conflict on constraint invitation_once_key do nothing
    returning reason
)
select reason as "reason: Reason", count(*) as "n!" from inserted group by reason
