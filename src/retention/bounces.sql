-- $1 shop, $2 behind this bounce, $3 so many. What mail systems wrote before $4. $5 only counts.
with looked as materialized (
    select bounce_id, received_at, reason from bounce where shop_id = $1 and bounce_id > $2 order by bounce_id limit $3
),
due as materialized (select bounce_id from looked where received_at < $4 and reason <> ''),
emptied as (
    update bounce b set reason = '' from due where not $5::boolean and b.shop_id = $1 and b.bounce_id = due.bounce_id
)
select (select count(*) from looked) as "n_looked!", (select max(bounce_id) from looked) as last, null::bigint as last_minor,
    count(*) as "n!", 0::bigint as "n_names!"
from due
