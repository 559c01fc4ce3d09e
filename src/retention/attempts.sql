-- $1 shop, $2 and $3 behind this try of an invitation, $4 so many. What relays said before $5. $6 only counts.
with looked as materialized (
    select invitation_id, attempt, started_at, text
    from attempt
    where shop_id = $1 and (invitation_id, attempt) > ($2, $3::bigint::smallint)
    order by invitation_id, attempt
    limit $4
),
due as materialized (select invitation_id, attempt from looked where started_at < $5 and text <> ''),
emptied as (
    update attempt a set text = ''
    from due
    where not $6::boolean and a.shop_id = $1 and a.invitation_id = due.invitation_id and a.attempt = due.attempt
)
select (select count(*) from looked) as "n_looked!",
    (select invitation_id from looked order by invitation_id desc, attempt desc limit 1) as last,
    (select attempt::bigint from looked order by invitation_id desc, attempt desc limit 1) as last_minor,
    count(*) as "n!", 0::bigint as "n_names!"
from due
