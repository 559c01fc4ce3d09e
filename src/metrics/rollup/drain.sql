-- $1 shop. Takes what was written since the last time, and says whose counts it touches: hours in which something that is counted was or
-- is placed, days of third-party scores, and hours in which a customer whose orders have changed ordered, from the changed order on: which
-- of them is not the first one may be another one now. And the changed orders themselves, if they are at most $2: how many of a customer's
-- orders at a moment there are now more than there were.
with gone as (
    delete from metric_change where shop_id = $1 returning moments, customers, signs, orders, days
),
changed_order as (
    select distinct id from gone cross join lateral unnest(orders) as id
),
changed_customer as (
    select id, min(moment) as since
    from gone cross join lateral unnest(customers, moments) as changed (id, moment)
    where id is not null
    group by id
),
changed as (
    select id, moment, sum(sign)::int as sign
    from gone cross join lateral unnest(customers, moments, signs) as changed (id, moment, sign)
    where id is not null
    group by id, moment
),
placed as (
    select moment from gone cross join lateral unnest(moments) as moment
    union all
    select r.answered_at from changed_order c join response r on r.shop_id = $1 and r.order_id = c.id
    union all
    select coalesce(i.sent_at, i.decided_at)
    from changed_order c
    join invitation i on i.shop_id = $1 and i.order_id = c.id and i.state in ('sent', 'unknown', 'failed')
),
ordered as (
    select moment from gone cross join lateral unnest(customers, moments) as changed (id, moment) where id is not null
    union all
    select o.ordered_at from changed_customer c join "order" o on o.shop_id = $1 and o.customer_id = c.id and o.ordered_at >= c.since
)
select 'placed' as "kind!", date_trunc('hour', moment, 'UTC') as moment, null::date as day, null::bigint as customer, null::int as sign
from placed
group by 2
union all
select 'ordered', date_trunc('hour', moment, 'UTC'), null, null, null from ordered group by 2
union all
select 'rated', null, day, null, null from (select distinct day from gone cross join lateral unnest(days) as day) as rated
union all
select 'changed', moment, null, id, sign from changed where sign <> 0 and (select count(*) from changed) <= $2
