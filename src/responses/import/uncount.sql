-- $1 shop, $2 survey, $3 those of orders with an invitation, or the others. Of an order's human answers only the one answered last
-- counts, of simultaneous ones the later revision.
update response r
set counted = false
from (
    select distinct on (order_id) order_id, response_id
    from response
    where shop_id = $1 and survey = $2 and verdict = 'human'
      and order_id in (select order_id from staged_response where invited = $3)
    order by order_id, answered_at desc, revision desc
) latest
where r.shop_id = $1
  and r.order_id = latest.order_id
  and r.survey = $2
  and r.counted
  and r.response_id <> latest.response_id
