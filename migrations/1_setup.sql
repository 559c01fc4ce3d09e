-- The shops, and the files that came in.
--
-- Every table of a shop's data starts its primary key with `shop_id`, so that the data can be partitioned or distributed by
-- shop without a rewrite. Times are `timestamptz`; money is minor units and a currency; states are enums that have a twin in Rust.

-- What a shop is called lives in jobs.toml; this row only gives its key a number that the other tables can carry.
create table shop (
    shop_id int generated always as identity primary key,
    key     text not null constraint shop_key_key unique,
    name    text not null
);

create type import_kind as enum ('orders', 'events', 'responses', 'ratings');

-- One row per file that was read to its end. `digest` is the SHA-256 over the file and over the format it was read with, so that
-- the same file offered twice is recognised, and the same file read with a corrected format is not.
create table import_run (
    shop_id       int not null references shop,
    import_run_id bigint generated always as identity,
    kind          import_kind not null,
    file_name     text not null,
    digest        bytea not null,
    format        text not null,
    encoding      text not null,
    delimiter     text not null,
    n_read        bigint not null,
    n_inserted    bigint not null,
    n_updated     bigint not null,
    n_unchanged   bigint not null,
    n_aside       bigint not null, -- kept aside, because their order was not there yet; what became of them since is not told here
    n_rejected    bigint not null,
    started_at    timestamptz not null,
    finished_at   timestamptz not null,
    primary key (shop_id, import_run_id),
    constraint import_run_adds_up check (n_inserted + n_updated + n_unchanged + n_aside + n_rejected = n_read)
);
create index import_run_digest_idx on import_run (shop_id, kind, digest);
-- What came in lately: with a file a quarter of an hour there are a hundred thousand after three years.
create index import_run_finished_idx on import_run (shop_id, finished_at);

-- The rows that could not be taken, as they stood in the file. They may hold personal data: an erasure empties
-- those that hold the address.
create table import_reject (
    shop_id       int not null,
    import_run_id bigint not null,
    line          bigint not null,
    "column"      text,
    reason        text not null,
    "row"         text not null,
    foreign key (shop_id, import_run_id) references import_run on delete cascade
);
create index import_reject_run_idx on import_reject (shop_id, import_run_id, line);
