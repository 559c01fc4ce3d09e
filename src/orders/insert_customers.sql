-- $1 shop. Customers who are not there yet, as the last of their rows has them. Sorting bytes is faster than sorting words.
insert into customer (shop_id, email, email_key, first_name, last_name)
select distinct on (s.email_key collate "C") $1, s.email, s.email_key, s.first_name, s.last_name
from staged_order s
where not exists (select from customer c where c.shop_id = $1 and c.email_key = s.email_key)
order by s.email_key collate "C", s.line desc
