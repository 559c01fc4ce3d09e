-- $1 shop. Rows without an order's id: the customer's latest order at the time, of half a year at most: who answers about an older one
-- answers about one that is not here yet.
update staged_response s
set order_id = m.order_id, locale = m.locale, erased = false
from (
    select u.line, o.order_id, o.locale
    from staged_response u
    join customer c on c.shop_id = $1 and c.email_key = u.email_key
    cross join lateral (
        select order_id, locale
        from "order"
        where shop_id = $1 and customer_id = c.customer_id 
          and ordered_at <= u.answered_by and ordered_at > u.answered_at - interval '180 days'
        order by ordered_at desc, order_id desc
        limit 1
    ) o
    where u.order_external_id is null
) m
where s.line = m.line
