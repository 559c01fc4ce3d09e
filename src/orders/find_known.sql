-- $1 shop, $2 the columns the file has. Which of the staged orders are there already, and what of them the file would change.
insert into known_order (line, order_id, is_erased, order_differs, customer_differs)
select s.line, o.order_id, c.erased_at is not null,
       c.email_key is distinct from s.email_key
       or o.ordered_at <> s.ordered_at
       or 'fulfilled_at' = any ($2) and o.fulfilled_at is distinct from s.fulfilled_at
       -- Without a word for it, a delivery date makes an open order a fulfilled one and changes nothing else.
       or ('status' = any ($2) or o.status = 'open') and o.status <> s.status
       or 'total' = any ($2) and o.total is distinct from s.total
       or 'currency' = any ($2) and o.currency is distinct from s.currency
       or 'items' = any ($2) and o.items <> s.items
       or 'locale' = any ($2) and o.locale is distinct from s.locale
       or 'country' = any ($2) and o.country is distinct from s.country
       or 'attributes' = any ($2) and o.attributes <> s.attributes
       or 'consent' = any ($2) and o.consent is distinct from s.consent,
       c.email is distinct from s.email
       or s.first_name is not null and s.first_name is distinct from c.first_name
       or s.last_name is not null and s.last_name is distinct from c.last_name
from staged_order s
join "order" o on o.shop_id = $1 and o.external_id = s.external_id
join customer c on c.shop_id = $1 and c.customer_id = o.customer_id
