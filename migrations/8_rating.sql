-- [3] What others have collected: scores on other sites, and answers that came before their order.

-- How a third party rates the shop, as it stood on a day. One row per source and day: a corrected score replaces the earlier one.
create table rating (
    shop_id     int not null references shop,
    source      text not null, -- what it is called, in lower case
    rated_on    date not null,
    score       numeric not null, -- from 0 to `scale`
    scale       numeric not null, -- 5, 10, 100, …
    ratings     bigint, -- of how many ratings it is made; null: the source does not say
    imported_at timestamptz not null,
    updated_at  timestamptz not null,
    primary key (shop_id, source, rated_on),
    constraint rating_within_scale check (scale > 0 and score between 0 and scale),
    constraint rating_ratings_not_negative check (ratings >= 0)
);

-- Answers that a file has brought and whose order is not there yet. They hold what they were read as, and become responses when the order
-- comes, or rejects of the run that read them when it does not come for too long. They hold personal data: an erasure removes them.
create table response_aside (
    shop_id           int not null references shop,
    response_aside_id bigint generated always as identity,
    import_run_id     bigint not null, -- the run that read it; not a foreign key: it may wait for longer than runs are kept
    line              bigint not null,
    "column"          text, -- what the file calls the column that the order is looked for by
    "row"             text not null, -- as it stands in the file, for the reject it may become
    survey            text not null,
    survey_version_id bigint not null, -- as it was when the file was read
    order_external_id text,
    email_key         text,
    answered_at       timestamptz not null,
    answered_by       timestamptz not null, -- the end of the day, where the file says no time of it
    external_id       text,
    display_name      text,
    consent_version   text,
    answers           jsonb not null,
    digest            bytea not null, -- of what it says, so that the same row is not kept twice
    kept_at           timestamptz not null,
    primary key (shop_id, response_aside_id),
    foreign key (shop_id, survey_version_id) references survey_version,
    constraint response_aside_digest_key unique (shop_id, survey, digest),
    constraint response_aside_looks_for_an_order check (num_nonnulls(order_external_id, email_key) = 1)
);
create index response_aside_kept_idx on response_aside (shop_id, kept_at);
create index response_aside_address_idx on response_aside (shop_id, email_key) where email_key is not null;
