create temporary table staged_order (
    line         bigint not null,
    first_line   bigint not null, -- of the order, where it has a row for each of its items
    external_id  text not null,
    email        text not null,
    email_key    text not null,
    first_name   text,
    last_name    text,
    ordered_at   timestamptz not null,
    fulfilled_at timestamptz,
    status       order_status not null,
    total        bigint,
    currency     text,
    items        text[] not null,
    locale       text,
    country      text,
    attributes   jsonb not null,
    consent      boolean
) on commit drop;

create temporary table known_order (
    line     bigint not null,
    order_id bigint not null,
    erased   boolean not null
) on commit drop;

-- A file is merged by a few large joins; they are much faster when they fit into memory.
set local work_mem = '64MB';
