-- $1 shop. Orders that are not there yet, from before their customer was erased: the file is older than the erasure, and the person
-- does not come back. An order from after it makes a new customer.
delete from staged_order s
using customer c
where exists (select from customer e where e.shop_id = $1 and e.erased_hash is not null) -- or no address is hashed
  and c.shop_id = $1
  and c.erased_hash = sha256(convert_to(s.email_key, 'UTF8'))
  and s.ordered_at <= c.erased_at
