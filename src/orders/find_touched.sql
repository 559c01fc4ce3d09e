-- $1 shop. Customers of whom some row says something else than what is there.
insert into touched_customer (customer_id, email_key)
select distinct c.customer_id, c.email_key
from staged_order s
join customer c on c.shop_id = $1 and c.email_key = s.email_key
where s.email <> c.email
   or s.first_name is not null and s.first_name is distinct from c.first_name
   or s.last_name is not null and s.last_name is distinct from c.last_name
