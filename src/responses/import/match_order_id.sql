-- $1 shop
update staged_response s
set order_id = o.order_id, locale = o.locale, erased = c.erased_at is not null
from "order" o
join customer c on c.shop_id = o.shop_id and c.customer_id = o.customer_id
where o.shop_id = $1 and o.external_id = s.order_external_id
