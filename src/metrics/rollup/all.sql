-- $1 shop. Everything that can be counted, as `drain.sql` says it, and what was counted before.
select 'placed' as "kind!", date_trunc('hour', moment, 'UTC') as moment, null::date as day
from (
    select ordered_at as moment from "order" where shop_id = $1
    union all
    select answered_at from response where shop_id = $1
    union all
    select coalesce(sent_at, decided_at) from invitation where shop_id = $1 and state in ('sent', 'unknown', 'failed')
) as placed
group by 2
union all
select 'ordered', date_trunc('hour', ordered_at, 'UTC'), null from "order" where shop_id = $1 group by 2
union all
select 'rated', null, rated_on from rating where shop_id = $1 group by rated_on
union all
select 'counted', null, day from metric_day where shop_id = $1 and known_to = 'infinity' group by day
union all
select 'ordered', null, starts_on from metric_customers
where shop_id = $1 and known_to = 'infinity' and period <> 'ever'
group by starts_on
