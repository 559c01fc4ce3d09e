-- $1 shop. The order that a row names, or the customer's latest order at the time.
update staged_event s
set order_id = coalesce(
    (select o.order_id from "order" o where o.shop_id = $1 and o.external_id = s.order_external_id),
    (
        select o.order_id
        from customer c
        join "order" o on o.shop_id = $1 and o.customer_id = c.customer_id and o.ordered_at <= s.happened_at
        where s.order_external_id is null and c.shop_id = $1 and c.email_key = s.email_key
        order by o.ordered_at desc, o.order_id desc
        limit 1
    )
)
