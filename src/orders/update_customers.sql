-- $1 shop. The address as the customer's last row writes it, and the last names that are given; only where that is a change.
with wanted as (
    select t.customer_id,
           (array_agg(s.email order by s.line desc))[1] as email,
           (array_agg(s.first_name order by s.line desc) filter (where s.first_name is not null))[1] as first_name,
           (array_agg(s.last_name order by s.line desc) filter (where s.last_name is not null))[1] as last_name
    from touched_customer t
    join staged_order s on s.email_key = t.email_key
    group by t.customer_id
)
update customer c
set email = w.email,
    first_name = coalesce(w.first_name, c.first_name),
    last_name = coalesce(w.last_name, c.last_name)
from wanted w
where c.shop_id = $1
  and c.customer_id = w.customer_id
  and (c.email, c.first_name, c.last_name)
      is distinct from (w.email, coalesce(w.first_name, c.first_name), coalesce(w.last_name, c.last_name))
