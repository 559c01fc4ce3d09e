-- How far the orders of the window came: each step counts orders of the step before it.
-- $1 shop, $2 as of, $3 from, $4 to
select count(*) as "orders!",
    count(*) filter (where is_due) as "due!",
    count(*) filter (where is_sent) as "sent!",
    count(*) filter (where is_delivered) as "delivered!",
    count(*) filter (where is_answered) as "answered!",
    count(*) filter (where has_comment) as "commented!",
    count(*) filter (where has_consent) as "consented!"
from (
    select order_id from "order"
    where shop_id = $1 and status not in ('cancelled', 'refunded') and ordered_at <= $2
      and ($3::timestamptz is null or ordered_at >= $3)
      and ($4::timestamptz is null or ordered_at < $4)
) as placed
left join lateral (
    select true as is_due, bool_or(mail.is_sent) as is_sent,
        bool_or(mail.is_sent and (r.response_id is not null or not mail.came_back)) as is_delivered,
        bool_or(mail.is_sent and r.response_id is not null) as is_answered,
        bool_or(mail.is_sent and r.has_comment) as has_comment,
        bool_or(mail.is_sent and r.has_comment and r.consent_version is not null) as has_consent
    from (
        select i.survey, coalesce(i.state = 'sent' and i.sent_at <= $2, false) as is_sent, exists (
                   select from bounce
                   where bounce.shop_id = $1 and bounce.invitation_id = i.invitation_id and kind = 'hard' and received_at <= $2
               ) as came_back
        from invitation i
        where i.shop_id = $1 and i.order_id = placed.order_id and i.wave = 0 and i.decided_at <= $2
    ) as mail
    left join lateral (
        select r.response_id, r.consent_version, exists (
                   select from answer a where a.shop_id = $1 and a.response_id = r.response_id and a.body is not null
               ) as has_comment
        from response r
        where r.shop_id = $1 and r.order_id = placed.order_id and r.survey = mail.survey and r.verdict = 'human'
          and r.invitation_id is not null and r.answered_at <= $2
        order by r.counted desc, r.answered_at desc, r.revision desc
        limit 1
    ) as r on true
    having count(*) > 0
) as way on true
