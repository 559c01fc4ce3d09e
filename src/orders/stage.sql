create temporary table staged_order (
    line         bigint not null,
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
    locale       text,
    country      text,
    attributes   jsonb not null,
    consent      boolean,
    items        text[] not null -- last, because those of an order may stand on several rows
) on commit drop;

create temporary table known_order (
    line             bigint not null,
    order_id         bigint not null,
    is_erased        boolean not null, -- its customer was
    order_differs    boolean not null,
    customer_differs boolean not null  -- in address or name
) on commit drop;

create temporary table touched_customer (
    customer_id bigint not null,
    email_key   text not null
) on commit drop;

-- A file is merged by a few large joins; they are much faster when they fit into memory.
set local work_mem = '64MB';
