-- $1 shop, $2 behind this message, $3 so many. Messages about alerts that were queued before $4 and are settled: they name the shop's own
-- people. $5 only counts.
with looked as materialized (
    select alert_delivery_id, queued_at, state
    from alert_delivery
    where shop_id = $1 and alert_delivery_id > $2
    order by alert_delivery_id
    limit $3
),
due as materialized (
    select alert_delivery_id from looked where queued_at < $4 and state in ('sent', 'failed', 'unknown')
),
gone as (
    delete from alert_delivery d
    using due
    where not $5::boolean and d.shop_id = $1 and d.alert_delivery_id = due.alert_delivery_id
)
select (select count(*) from looked) as "n_looked!", (select max(alert_delivery_id) from looked) as last,
    null::bigint as last_minor, count(*) as "n!", 0::bigint as "n_names!"
from due
