-- [4] What calls for somebody's attention, and who was told.

create type alert_closed as enum (
    'back',     -- what was found is no longer there
    'rule_gone' -- jobs.toml does not ask for it any more
);

-- What a rule of jobs.toml has found. The words are made from the numbers when somebody reads them.
create table alert (
    shop_id        int not null references shop,
    alert_id       bigint generated always as identity,
    rule           text not null, -- its name in jobs.toml
    metric         text not null,
    segment        text not null default '', -- by what orders are told apart; empty: all orders
    segment_value  text not null default '',
    opened_at      timestamptz not null,
    seen_at        timestamptz not null, -- when a night last looked at it
    closed_at      timestamptz,
    closed_because alert_closed,
    reminded_at    timestamptz,
    opening        jsonb not null, -- the numbers that opened it
    latest         jsonb not null, -- the same as they were last seen
    primary key (shop_id, alert_id),
    constraint alert_is_closed_for_a_reason check ((closed_at is null) = (closed_because is null))
);
-- However often and by however many a night is looked at: one alert.
create unique index alert_open_key on alert (shop_id, rule, segment_value) where closed_at is null;

create type alert_channel as enum ('mail', 'webhook');
create type alert_occasion as enum ('opened', 'reminder', 'closed');
create type alert_delivery_state as enum (
    'queued',
    'in_data', -- committed before the final dot, or before the request
    'sent',    -- the relay said 2xx to the mail, the receiver to the request
    'failed',  -- given up
    'unknown'  -- a mail of which nobody can know; it is not sent again
);

-- Who is told what: a row per recipient, written in the transaction that opens, reminds of or closes the alert.
create table alert_delivery (
    shop_id           int not null,
    alert_delivery_id bigint generated always as identity,
    alert_id          bigint not null,
    channel           alert_channel not null,
    recipient         text not null, -- an address of the shop's own people; empty: the webhook of jobs.toml
    occasion          alert_occasion not null,
    state             alert_delivery_state not null default 'queued',
    queued_at         timestamptz not null,
    attempts          smallint not null default 0,
    next_try_at       timestamptz not null,
    claimed_by        text,
    lease_until       timestamptz, -- the database's clock
    settled_at        timestamptz,
    fault             text, -- what went wrong last, without addresses
    primary key (shop_id, alert_delivery_id),
    foreign key (shop_id, alert_id) references alert,
    constraint alert_delivery_once_key unique (shop_id, alert_id, occasion, queued_at, channel, recipient)
);
create index alert_delivery_open_idx on alert_delivery (shop_id, next_try_at) where state in ('queued', 'in_data');
