-- How far the orders of the window came: each step counts orders of the step before it.
-- $1 shop, $2 as of, $3 from, $4 to
with placed as not materialized (
    select order_id from "order"
    where shop_id = $1 and status not in ('cancelled', 'refunded') and ordered_at <= $2
      and ($3::timestamptz is null or ordered_at >= $3)
      and ($4::timestamptz is null or ordered_at < $4)
),
mail as materialized (
    select i.order_id, i.survey, i.invitation_id, coalesce(i.state = 'sent' and i.sent_at <= $2, false) as is_sent
    from placed
    join invitation i on i.shop_id = $1 and i.order_id = placed.order_id and i.wave = 0 and i.decided_at <= $2
),
answered as (
    select distinct on (r.order_id, r.survey) r.order_id, r.survey, r.response_id, r.consent_version is not null as has_consent
    from mail
    join response r on r.shop_id = $1 and r.order_id = mail.order_id and r.survey = mail.survey and r.verdict = 'human'
        and r.invitation_id is not null and r.answered_at <= $2
    where mail.is_sent
    order by r.order_id, r.survey, r.counted desc, r.answered_at desc, r.revision desc
),
said as (
    select answered.*, exists (
        select from answer a where a.shop_id = $1 and a.response_id = answered.response_id and a.body is not null
    ) as has_comment
    from answered
),
lost as (
    select distinct invitation_id from bounce where shop_id = $1 and kind = 'hard' and received_at <= $2
)
select (select count(*) from placed) as "orders!",
    count(*) as "due!",
    count(*) filter (where is_sent) as "sent!",
    count(*) filter (where is_delivered) as "delivered!",
    count(*) filter (where is_answered) as "answered!",
    count(*) filter (where has_comment) as "commented!",
    count(*) filter (where has_consent) as "consented!"
from (
    select bool_or(is_sent) as is_sent,
        bool_or(is_sent and (said.response_id is not null or lost.invitation_id is null)) as is_delivered,
        bool_or(said.response_id is not null) as is_answered,
        bool_or(said.has_comment) as has_comment,
        bool_or(said.has_comment and said.has_consent) as has_consent
    from mail
    left join said on said.order_id = mail.order_id and said.survey = mail.survey
    left join lost on lost.invitation_id = mail.invitation_id
    group by mail.order_id
) as way
