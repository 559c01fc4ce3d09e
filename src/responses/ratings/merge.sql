-- $1 shop, $2 now. Scores that are not there yet, and those that differ; of several rows for a day, the last holds.
with wanted as (
    select distinct on (source, rated_at::date) source, rated_at::date as rated_on, score::float8, scale::float8, n_ratings
    from staged_rating
    order by source, rated_at::date, line desc
),
merged as (
    insert into rating as r (shop_id, source, rated_on, score, scale, n_ratings, updated_at)
    select $1, source, rated_on, score, scale, n_ratings, $2
    from wanted
    on conflict (shop_id, source, rated_on) do update
    set score = excluded.score, scale = excluded.scale, n_ratings = excluded.n_ratings, updated_at = excluded.updated_at
    where (r.score, r.scale, r.n_ratings) is distinct from (excluded.score, excluded.scale, excluded.n_ratings)
    -- A row that was inserted has no past.
    returning xmax = 0 as is_new
)
select count(*) filter (where is_new), count(*) filter (where not is_new) from merged
