-- $1 shop, $2 behind this customer, $3 so many. Of whom nothing was heard at $4 or later, and of whom nothing is published that left the
-- house at $5 or later. $6 only counts. $7 now. There is no hash of whom they were: who orders again is a new customer.
with looked as materialized (
    select customer_id, email is not null as has_address
    from customer
    where shop_id = $1 and customer_id > $2
    order by customer_id
    limit $3
),
due as materialized (
    select l.customer_id
    from looked l
    where l.has_address and not exists (
        select from "order" o
        where o.shop_id = $1 and o.customer_id = l.customer_id and (
            greatest(o.ordered_at, o.fulfilled_at) >= $4
            or exists (
                select from order_event e where e.shop_id = $1 and e.order_id = o.order_id and e.happened_at >= $4
            )
            or exists (
                select from invitation i
                where i.shop_id = $1 and i.order_id = o.order_id
                  and i.state not in ('skipped', 'expired', 'cancelled', 'suppressed') -- a mail that did not leave is none
                  and greatest(i.decided_at, i.sent_at, i.next_attempt_at, i.remind_at) >= $4
            )
            or exists (
                select from response r
                left join testimonial t on t.shop_id = $1 and t.response_id = r.response_id and t.state = 'approved'
                where r.shop_id = $1 and r.order_id = o.order_id and (r.answered_at >= $4 or t.published_at >= $5)
            )
        )
    )
),
gone as (
    update customer c
    set email = null, email_key = null, first_name = null, last_name = null, erased_at = $7
    from due
    where not $6::boolean and c.shop_id = $1 and c.customer_id = due.customer_id
)
select (select count(*) from looked) as "n_looked!", (select max(customer_id) from looked) as last, null::bigint as last_minor,
    count(*) as "n!", 0::bigint as "n_names!"
from due
