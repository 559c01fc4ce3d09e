-- $1 now
insert into rating (shop_id, source, rated_on, score, scale, ratings, imported_at, updated_at)
select shop_id, source, rated_on, score::numeric, scale::numeric, ratings, $1, $1
from staged_rating
on conflict do nothing
