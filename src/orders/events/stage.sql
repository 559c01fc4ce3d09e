create temporary table staged_event (
    line              bigint not null,
    "row"             text not null, -- as it stands in the file, for the rejects
    order_external_id text,
    email_key         text,
    event             text not null,
    external_id       text not null,
    happened_at       timestamptz not null,
    order_id          bigint
) on commit drop
