-- [3] What others say about the shop: the scores that platforms publish.
create table rating (
    shop_id    int not null references shop,
    source     text not null, -- who publishes it
    rated_on   date not null,
    score      float8 not null,
    scale      float8 not null, -- the best score there is
    n_ratings  bigint, -- how many it is made of; null: is not said
    updated_at timestamptz not null,
    primary key (shop_id, source, rated_on),
    constraint rating_within_scale check (score >= 0 and score <= scale and scale > 0),
    constraint rating_count_is_none check (n_ratings >= 0)
);
