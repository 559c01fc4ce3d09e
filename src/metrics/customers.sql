-- How many customers ordered in each bucket of time, by the value of a segment; buckets may overlap.
-- $1 shop, $2 the first moments of the buckets and $3 the first moments after them, $4 as of, $5 the segment, $6 the name of
-- an attribute
select n as "n!", segment as "segment!", count(*) as "customers!", count(*) filter (where orders >= 2) as "repeat!",
    count(*) filter (where is_returning) as "returning!"
from (
    select b.n::int, segment.value as segment, count(*) as orders, bool_or(o.is_later) as is_returning
    from unnest($2::timestamptz[], $3::timestamptz[]) with ordinality as b (starts_at, ends_at, n)
    cross join lateral (
        select o.*, exists (
            select from "order" e
            where e.shop_id = $1 and e.customer_id = o.customer_id and e.status not in ('cancelled', 'refunded')
              and e.ordered_at <= o.ordered_at and (e.ordered_at, e.order_id) < (o.ordered_at, o.order_id)
        ) as is_later
        from "order" o
        where o.shop_id = $1 and o.status not in ('cancelled', 'refunded') and o.ordered_at <= $4
          and o.ordered_at >= b.starts_at and o.ordered_at < b.ends_at
    ) as o
    cross join lateral unnest(coalesce(
        order_segment($5, $6, o.country, o.locale, o.items, o.attributes, o.is_later), array['']
    )) as segment (value)
    group by b.n, segment.value, o.customer_id
) as customer
group by n, segment
