-- [1] What happened about an order after it was placed, from other systems' files: a customer-care case that was closed. A survey can wait
-- for one instead of for the delivery.
create table order_event (
    shop_id        int not null,
    order_event_id bigint generated always as identity,
    order_id       bigint not null,
    event          text not null, -- what happened, in one word
    external_id    text not null, -- what the other system calls it; where it has no name, when it happened
    happened_at    timestamptz not null,
    import_run_id  bigint not null, -- the run that wrote it; not a foreign key: the run is recorded when it ends
    primary key (shop_id, order_event_id),
    constraint order_event_once_key unique (shop_id, order_id, event, external_id),
    foreign key (shop_id, order_id) references "order"
);
-- What became due since the last decision, and what an import has brought since then.
create index order_event_happened_idx on order_event (shop_id, event, happened_at);
create index order_event_import_run_idx on order_event (shop_id, import_run_id);
