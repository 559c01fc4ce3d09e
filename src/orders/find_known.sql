-- $1 shop. Which of the staged orders are there already.
insert into known_order (line, order_id, erased)
select s.line, o.order_id, c.erased_at is not null
from staged_order s
join "order" o on o.shop_id = $1 and o.external_id = s.external_id
join customer c on c.shop_id = $1 and c.customer_id = o.customer_id
