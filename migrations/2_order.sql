-- [1] Customers and their orders.

-- One customer per shop and address. Addresses compare case-insensitively: `email_key` is the address in lower case, `email` is the
-- address as it was last written, and is the one that is mailed. Both are null once the customer was erased; the row stays, because
-- the figures count customers, not addresses.
create table customer (
    shop_id     int not null, -- of a shop that is there: see below
    customer_id bigint generated always as identity,
    email       text,
    email_key   text,
    first_name  text,
    last_name   text,
    erased_at   timestamptz,
    erased_hash bytea, -- SHA-256 of `email_key`, so that an older file does not bring an erased person back
    primary key (shop_id, customer_id),
    constraint customer_email_key unique (shop_id, email_key),
    constraint customer_address_or_erased check ((email is null) = (email_key is null) and (email is null) = (erased_at is not null))
);

-- Whom an import must not bring back; there are few.
create index customer_erased_idx on customer (shop_id, erased_hash) where erased_hash is not null;

create type order_status as enum ('open', 'fulfilled', 'cancelled', 'refunded');

create table "order" (
    shop_id       int not null,
    order_id      bigint generated always as identity,
    external_id   text not null, -- what the shop calls it
    customer_id   bigint not null,
    ordered_at    timestamptz not null,
    fulfilled_at  timestamptz,
    status        order_status not null,
    total         bigint, -- minor units of `currency`
    currency      text,
    items         text[] not null, -- product ids
    locale        text, -- null: the shop's
    country       text, -- ISO 3166-1 alpha-2
    consent       boolean, -- whether the customer agreed to be asked by mail; null: was not asked
    attributes    jsonb not null, -- for segments: names and values from the file, all text
    import_run_id bigint, -- the run that wrote the row last; not a foreign key: the run is recorded when it ends
    imported_at   timestamptz not null,
    updated_at    timestamptz not null,
    primary key (shop_id, order_id),
    constraint order_external_id_key unique (shop_id, external_id)
);
-- Nothing is planned by what stands in these two, and looking at it is more than half of what statistics cost.
alter table "order" alter items set statistics 0, alter attributes set statistics 0;
-- Repeat customers are counted from this index alone.
create index order_customer_idx on "order" (shop_id, customer_id, ordered_at) include (status);
-- What became due since yesterday is found here, whatever the age of the shop.
create index order_fulfilled_idx on "order" (shop_id, fulfilled_at) include (customer_id) where fulfilled_at is not null;
-- What an import has brought since the last decision, however old it is.
create index order_import_run_idx on "order" (shop_id, import_run_id);
create index order_ordered_idx on "order" (shop_id, ordered_at);

-- Whether a row of a file holds the address of somebody who was erased in the shop.
create function names_erased(shop int, "row" text) returns boolean language sql stable
return exists (select from customer where shop_id = shop and erased_hash is not null) and exists (
    select
    from regexp_matches(lower("row"), '[^\s,;|"''<>()]+@[^\s,;|"''<>()]+', 'g') as address
    join customer c on c.shop_id = shop and c.erased_hash = sha256(convert_to(address[1], 'UTF8'))
);

-- That a customer is of a shop and an order of a customer is looked at here, for all rows of a statement at once. Foreign keys would look
-- for each row by itself, and a file of orders is one statement: they were a third of what an import took. What is referred to stays as it
-- is (the row of an erased customer too), so that nothing has to be locked against its going.
create function must_have_parent() returns trigger language plpgsql as $$
declare
    n_orphans bigint;
begin
    -- Planned anew each time, because one statement brings a row and another one a million; and counted, because a plan for the first
    -- orphan would look for one after the other.
    execute format(
        'select count(*) from written left join %I parent using (%s) where parent.shop_id is null', tg_argv[0], tg_argv[1]
    ) into n_orphans;
    if n_orphans > 0 then
        raise exception 'a row of "%" has no "%"', tg_table_name, tg_argv[0]
            using errcode = 'foreign_key_violation', table = tg_table_name, constraint = tg_name;
    end if;
    return null;
end $$;
create trigger customer_has_shop after insert on customer referencing new table as written
    for each statement execute function must_have_parent('shop', 'shop_id');
create trigger order_has_customer after insert on "order" referencing new table as written
    for each statement execute function must_have_parent('customer', 'shop_id, customer_id');
create trigger order_keeps_customer after update on "order" referencing new table as written
    for each statement execute function must_have_parent('customer', 'shop_id, customer_id');

create function must_stay() returns trigger language plpgsql as $$
declare
    has_children boolean := true;
begin
    if tg_op = 'TRUNCATE' then
        execute format('select exists (select from %I)', tg_argv[0]) into has_children;
    end if;
    if has_children then
        raise exception 'rows of "%" stay, and so do their keys', tg_table_name
            using errcode = 'restrict_violation', table = tg_table_name, constraint = tg_name;
    end if;
    return null;
end $$;
create trigger shop_stays after delete or truncate or update of shop_id on shop
    for each statement execute function must_stay('customer');
create trigger customer_stays after delete or truncate or update of shop_id, customer_id on customer
    for each statement execute function must_stay('order');
