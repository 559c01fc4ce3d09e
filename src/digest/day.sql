-- $1 shop, $2 from, $3 until. The first mail of many may have been begun before and be recorded after: its time is when it was begun.
select
    tries.n_sent as "n_sent!", tries.n_deferred as "n_deferred!", tries.n_failed as "n_failed!", tries.n_unknown as "n_unknown!",
    outbox.n_waiting as "n_waiting!", outbox.n_unknown as "n_unknown_open!",
    came.n_answers as "n_answers!", came.n_suspects as "n_suspects!",
    (
        select count(*) from suppression where shop_id = $1 and created_at > $2 and created_at <= $3
    ) as "n_suppressed!",
    (
        select count(*) from alert_delivery
        where shop_id = $1 and settled_at > $2 and settled_at <= $3 and state in ('failed', 'unknown')
    ) as "n_messages_lost!",
    (
        select count(*) from rejection
        where shop_id = $1 and settled_at > $2 and settled_at <= $3 and state in ('failed', 'unknown')
    ) as "n_authors_not_told!"
from (
    select count(*) filter (where outcome = 'sent') as n_sent,
        count(*) filter (where outcome = 'deferred') as n_deferred,
        count(*) filter (where outcome = 'failed') as n_failed,
        count(*) filter (where outcome = 'unknown') as n_unknown
    from attempt
    where shop_id = $1 and started_at > $2 and started_at <= $3
) as tries
cross join (
    select count(*) filter (where state <> 'unknown') as n_waiting, count(*) filter (where state = 'unknown') as n_unknown
    from invitation
    where shop_id = $1 and state in ('queued', 'deferred', 'claimed', 'in_data', 'unknown')
) as outbox
cross join (
    select count(*) filter (where verdict = 'human') as n_answers, count(*) filter (where verdict = 'suspect') as n_suspects
    from response
    where shop_id = $1 and received_at > $2 and received_at <= $3
) as came
