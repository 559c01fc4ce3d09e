create temporary table staged_rating (
    line      bigint not null,
    source    text not null,
    rated_at  text not null, -- a date and two numbers, as text
    score     text not null,
    scale     text not null,
    n_ratings bigint
) on commit drop
