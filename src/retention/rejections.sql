-- $1 shop, $2 behind the rejections of this response, $3 so many responses. What was in the way of mails to authors that were settled before
-- $4. $5 only counts.
with looked as materialized (
    select distinct response_id from rejection where shop_id = $1 and response_id > $2 order by response_id limit $3
),
due as materialized (
    select r.response_id, r.reason
    from looked l
    join rejection r on r.shop_id = $1 and r.response_id = l.response_id
    where r.settled_at < $4 and r.fault is not null
),
emptied as (
    update rejection r set fault = null
    from due
    where not $5::boolean and r.shop_id = $1 and r.response_id = due.response_id and r.reason = due.reason
)
select (select count(*) from looked) as "n_looked!", (select max(response_id) from looked) as last, null::bigint as last_minor,
    count(*) as "n!", 0::bigint as "n_names!"
from due
