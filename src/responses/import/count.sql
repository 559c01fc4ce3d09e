-- $1 shop, $2 survey, $3 those of orders with an invitation, or the others. See uncount.sql.
update response r
set counted = true
from (
    select distinct on (order_id) order_id, response_id
    from response
    where shop_id = $1 and survey = $2 and verdict = 'human'
      and order_id in (select order_id from staged_response where invited = $3)
    order by order_id, answered_at desc, revision desc
) latest
where r.shop_id = $1 and r.response_id = latest.response_id and not r.counted
