-- $1 shop, $2 behind this answer, $3 so many. Answers that were kept aside before $4 because their order was not there. Imports give them
-- up sooner than that, as rows that could not be taken, but only where there are imports. $5 only counts.
with looked as materialized (
    select response_aside_id, kept_at
    from response_aside
    where shop_id = $1 and response_aside_id > $2
    order by response_aside_id
    limit $3
),
due as materialized (select response_aside_id from looked where kept_at < $4),
gone as (
    delete from response_aside a
    using due
    where not $5::boolean and a.shop_id = $1 and a.response_aside_id = due.response_aside_id
)
select (select count(*) from looked) as "n_looked!", (select max(response_aside_id) from looked) as last,
    null::bigint as last_minor, count(*) as "n!", 0::bigint as "n_names!"
from due
