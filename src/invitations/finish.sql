-- What became of tries: the state of each invitation that is still ours, and a row per try.
-- $1 shops, $2 invitations, $3 fences, $4 attempts, $5 outcomes, $6 due again, $7 ended, $8 started, $9 phases, $10 codes,
-- $11 enhanced codes, $12 texts, $13 when the next wave is to be decided
with ended as (
    select * from unnest(
        $1::int[], $2::bigint[], $3::bigint[], $4::smallint[], $5::text[], $6::timestamptz[], $7::timestamptz[], $8::timestamptz[],
        $9::text[], $10::smallint[], $11::text[], $12::text[], $13::timestamptz[]
    ) as e (shop_id, invitation_id, fence, attempt, outcome, due_at, ended_at, started_at, phase, code, enhanced_code, text, remind_at)
),
ours as (
    update invitation i
    set state = ended.outcome::invitation_state,
        attempts = ended.attempt,
        next_attempt_at = ended.due_at,
        claimed_by = null,
        lease_until = null,
        sent_at = case when ended.outcome = 'sent' then ended.ended_at end,
        remind_at = case when ended.outcome = 'sent' then ended.remind_at end
    from ended
    where i.shop_id = ended.shop_id and i.invitation_id = ended.invitation_id and i.fence = ended.fence
        -- As text, so that the rows are found by their key: the index of the outbox fits too, and is as long as the queue.
        and i.state::text in ('claimed', 'in_data')
    returning i.shop_id, i.invitation_id
)
insert into attempt (shop_id, invitation_id, attempt, started_at, phase, outcome, code, enhanced_code, text)
select shop_id, invitation_id, attempt, started_at, phase, outcome::attempt_outcome, code, enhanced_code, text
from ended join ours using (shop_id, invitation_id)
returning invitation_id as "id: InvitationId"
