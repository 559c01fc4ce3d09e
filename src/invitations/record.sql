-- What has to be durable about rows that senders hold: which are about to be sent, and what became of tries. A row is in one of the two.
-- $1 shops, $2 invitations, $3 fences, $4 Message-IDs of what is about to be sent;
-- of the tries $5 shops, $6 invitations, $7 fences, $8 attempts, $9 outcomes, $10 whether the address is suppressed, $11 due again,
-- $12 ended, $13 started, $14 phases, $15 codes, $16 enhanced codes, $17 texts, $18 when the next wave is to be decided
with entering as (
    select * from unnest($1::int[], $2::bigint[], $3::bigint[], $4::text[]) as e (shop_id, invitation_id, fence, message_id)
),
ended as (
    select * from unnest(
        $5::int[], $6::bigint[], $7::bigint[], $8::smallint[], $9::text[], $10::boolean[], $11::timestamptz[], $12::timestamptz[],
        $13::timestamptz[], $14::text[], $15::smallint[], $16::text[], $17::text[], $18::timestamptz[]
    ) as e (
        shop_id, invitation_id, fence, attempt, outcome, suppress, due_at, ended_at, started_at, phase, code, enhanced_code, text,
        remind_at
    )
),
in_data as (
    update invitation i
    set state = 'in_data', message_id = coalesce(i.message_id, entering.message_id), lease_until = now() + interval '15 minutes'
    from entering
    where i.shop_id = entering.shop_id and i.invitation_id = entering.invitation_id and i.fence = entering.fence
        -- As text, so that the rows are found by their key: the index of the outbox fits too, and is as long as the queue.
        and i.state::text in ('claimed', 'in_data')
    returning i.invitation_id
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
        and i.state::text in ('claimed', 'in_data')
    returning i.shop_id, i.invitation_id, i.customer_id
),
tried as (
    insert into attempt (shop_id, invitation_id, attempt, started_at, phase, outcome, code, enhanced_code, text)
    select shop_id, invitation_id, attempt, started_at, phase, outcome::attempt_outcome, code, enhanced_code, text
    from ended join ours using (shop_id, invitation_id)
),
suppressed as (
    insert into suppression (shop_id, address_hash, reason, created_at)
    select shop_id, sha256(convert_to(c.email_key, 'UTF8')), 'bounced', ended.ended_at
    from ended join ours using (shop_id, invitation_id) join customer c using (shop_id, customer_id)
    where ended.suppress and c.email_key is not null
    on conflict do nothing
)
select invitation_id as "id!: InvitationId" from in_data
union all
select invitation_id from ours
union all
-- Written before, and nobody heard of it: the statement sees the rows as they were when it began.
select ended.invitation_id
from ended join invitation i using (shop_id, invitation_id)
where i.fence = ended.fence and i.attempts = ended.attempt and i.state::text = ended.outcome
