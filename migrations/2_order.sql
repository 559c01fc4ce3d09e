-- [1] Customers and their orders.

-- One customer per shop and address. Addresses compare case-insensitively: `email_key` is the address in lower case, `email` is the
-- address as it was last written, and is the one that is mailed. Both are null once the customer was erased; the row stays, because
-- the figures count customers, not addresses.
create table customer (
    shop_id     int not null references shop,
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
    constraint order_external_id_key unique (shop_id, external_id),
    foreign key (shop_id, customer_id) references customer
);
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
