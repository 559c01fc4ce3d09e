-- $1 shop, $2 behind this run, $3 so many runs. Rows that runs before $4 could not take; the run goes on saying how many they were.
-- $5 only counts.
with looked as materialized (
    select import_run_id, finished_at
    from import_run
    where shop_id = $1 and import_run_id > $2
    order by import_run_id
    limit $3
),
due as materialized (
    select r.ctid as place
    from looked l
    join import_reject r on r.shop_id = $1 and r.import_run_id = l.import_run_id
    where l.finished_at < $4
),
gone as (
    delete from import_reject where not $5::boolean and ctid = any (array(select place from due))
)
select (select count(*) from looked) as "n_looked!", (select max(import_run_id) from looked) as last, null::bigint as last_minor,
    count(*) as "n!", 0::bigint as "n_names!"
from due
