-- $1 now, $2 whether the file says how many ratings there are. What is there and differs.
update rating r
set score = s.score::numeric, scale = s.scale::numeric, ratings = case when $2 then s.ratings else r.ratings end, updated_at = $1
from staged_rating s
where r.shop_id = s.shop_id
  and r.source = s.source
  and r.rated_on = s.rated_on
  and (r.score, r.scale, r.ratings)
      is distinct from (s.score::numeric, s.scale::numeric, case when $2 then s.ratings else r.ratings end)
