-- $1 shop, $2 survey, $3 those of orders with an invitation, or the others. Who agreed to publication and wrote something waits for
-- moderation.
insert into testimonial (shop_id, response_id, state)
select $1, r.response_id, 'pending'
from response r
where r.shop_id = $1
  and r.survey = $2
  and r.counted
  and r.order_id in (select order_id from staged_response where invited = $3)
  and r.consent_version is not null
  and exists (select from answer a where a.shop_id = $1 and a.response_id = r.response_id and a.body is not null)
on conflict do nothing
