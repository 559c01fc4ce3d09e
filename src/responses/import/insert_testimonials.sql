-- $1 shop, $2 survey, $3 those of orders with an invitation, or the others. Who agreed to publication and wrote something waits for
-- moderation; but words that were given before their author took words back do not come back by a file.
insert into testimonial (shop_id, response_id, state, decided_at)
select $1, r.response_id,
    case when back.at is null then 'pending' else 'withdrawn' end::testimonial_state,
    back.at
from response r
left join lateral (
    select max(t.decided_at) as at
    from response w
    join testimonial t on t.shop_id = $1 and t.response_id = w.response_id and t.state = 'withdrawn'
    where w.shop_id = $1 and w.order_id = r.order_id and w.survey = $2 and t.decided_at >= r.answered_at
) back on true
where r.shop_id = $1
  and r.survey = $2
  and r.counted
  and r.order_id in (select order_id from staged_response where invited = $3)
  and r.consent_version is not null
  and exists (select from answer a where a.shop_id = $1 and a.response_id = r.response_id and a.body is not null)
on conflict do nothing
