-- $1 shop, $2 and $3 behind this note about an invitation, $4 so many. Notes from before $5. $6 only counts.
with looked as materialized (
    select invitation_id, hit_id, at
    from hit
    where shop_id = $1 and (invitation_id, hit_id) > ($2, $3)
    order by invitation_id, hit_id
    limit $4
),
due as materialized (select invitation_id, hit_id from looked where at < $5),
gone as (
    delete from hit h
    using due
    where not $6::boolean and h.shop_id = $1 and h.invitation_id = due.invitation_id and h.hit_id = due.hit_id
)
select (select count(*) from looked) as "n_looked!",
    (select invitation_id from looked order by invitation_id desc, hit_id desc limit 1) as last,
    (select hit_id from looked order by invitation_id desc, hit_id desc limit 1) as last_minor,
    count(*) as "n!", 0::bigint as "n_names!"
from due
