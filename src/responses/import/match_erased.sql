-- $1 shop. Rows without an order's id that are of somebody who was erased since.
update staged_response s
set order_id = 0, erased = true
from customer c
where exists (select from customer e where e.shop_id = $1 and e.erased_hash is not null) -- or no address is hashed
  and s.order_external_id is null and s.order_id is null
  and c.shop_id = $1 and c.erased_hash = sha256(convert_to(s.email_key, 'UTF8'))
  and s.answered_at <= c.erased_at
