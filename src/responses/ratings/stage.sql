create temporary table staged_rating (
    line     bigint not null,
    shop_id  int not null,
    source   text not null,
    rated_on date not null,
    score    text not null, -- a number; numeric has no simple binary form
    scale    text not null,
    ratings  bigint
) on commit drop;
