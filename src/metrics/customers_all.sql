-- As `customers.sql`, in one pass over all orders: for many or wide buckets, in order, that do not overlap.
-- $1 shop, $2 the first moments of the buckets and $3 the first moments after them, $4 as of, $5 the segment, $6 the name of an attribute
select n as "n!", segment as "segment!", count(*) as "customers!", count(*) filter (where orders >= 2) as "repeat!",
    count(*) filter (where is_returning) as "returning!"
from (
    select width_bucket(o.ordered_at, $2::timestamptz[]) as n, segment.value as segment, count(*) as orders,
        bool_or(o.is_later) as is_returning
    from (
        select customer_id, ordered_at, country, locale, items, attributes, row_number() over (
            -- Without a segment it does not matter which of two orders of the same moment is the later one, and an index has the rest.
            partition by customer_id order by ordered_at, case when $5 = 'none' then 0 else order_id end
        ) > 1 as is_later
        from "order"
        where shop_id = $1 and status not in ('cancelled', 'refunded') and ordered_at <= $4
    ) as o
    cross join lateral unnest(coalesce(
        order_segment($5, $6, o.country, o.locale, o.items, o.attributes, o.is_later), array['']
    )) as segment (value)
    where o.ordered_at < ($3::timestamptz[])[width_bucket(o.ordered_at, $2::timestamptz[])]
    group by 1, segment.value, o.customer_id
) as customer
group by n, segment
