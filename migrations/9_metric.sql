-- [4] What is counted.

-- What a day has so and so many of.
create type metric_fact as enum (
    'orders',               -- placed, and not cancelled or refunded
    'mails_sent',           -- first mails and reminders that the relay took
    'first_mails',          -- first mails of which the relay heard, whatever it said
    'first_mails_complete', -- of these, those that were answered on the page
    'first_mails_unknown',  -- of these, those of which nobody knows whether the relay has them
    'first_mails_reached',  -- of these, those that the relay took and that did not come back
    'first_mails_answered', -- of the last, those that were answered on the page
    'answers',              -- answered questionnaires of people, as they stand
    'comments',             -- of these, those with words
    'answer',               -- of these, those with this answer to this question
    'answer_with_suspects', -- the same, had the submissions of programs counted
    'unhappy',              -- of the answered questionnaires, those that call for the shop's attention
    'topic',                -- of the unhappy ones, those with this answer to this question of type choice
    'score'                 -- how a third party rates the shop: `survey` is the source, `value` the share of its scale, `n` of how many ratings, or −1
);

-- Days are read one by one when they change, and by these. (Whoever asks for one answer a customer goes by
-- the first, too: a shop has few surveys, and each index costs every answer that comes in.)
create index response_placed_idx on response (shop_id, answered_at);
create index invitation_placed_idx on invitation (shop_id, coalesce(sent_at, decided_at)) where state in ('sent', 'unknown', 'failed');
-- Whom a window's answers should look like is found by when their mails became due. Rows come in that order, so that it is enough to know
-- of each stretch of the table from when to when it goes, which costs the writers next to nothing.
create index invitation_due_idx on invitation using brin (due_at) with (autosummarize = on);
-- An index's own statistics are not used for ranges of its expression; without any, a whole history passes for a few rows.
create statistics invitation_placed_at on (coalesce(sent_at, decided_at)) from invitation;

-- Whether an order is not its customer's first; cancelled and refunded orders do not count.
create function has_ordered_before(shop int, customer bigint, ordered timestamptz, id bigint) returns boolean language sql stable parallel safe
return exists (
    select from "order" e
    where e.shop_id = shop and e.customer_id = customer and e.status not in ('cancelled', 'refunded')
      and e.ordered_at <= ordered and (e.ordered_at, e.order_id) < (ordered, id)
);

create function distinct_texts(texts text[]) returns text[] language sql immutable parallel safe
return array(select distinct t from unnest(texts) as t);

-- The values of a segment that an order has: one, or each of its products; null: there is no segment, and grouping by null costs nothing.
create function order_segment(
    segment text, attribute text, country text, locale text, items text[], attributes jsonb, is_later boolean
) returns text[] language sql immutable parallel safe
return case segment
    when 'none' then null
    when 'country' then array[coalesce(country, '')]
    when 'locale' then array[coalesce(locale, '')]
    when 'product' then distinct_texts(items)
    when 'attribute' then array[coalesce(attributes ->> attribute, '')]
    when 'new_or_returning' then array[case when is_later then 'returning' else 'new' end]
end;

-- What was counted, as it was known. A row is a version: of what the day had from `known_from` on, until `known_to`. What a night knew can
-- so be read again later, whatever was cancelled, erased or brought in since. What there is none of has no row.
create table metric_day (
    shop_id    int not null references shop,
    day        date not null, -- in the shop's zone
    fact       metric_fact not null,
    survey     text not null,
    question   text not null,
    value      text not null,
    n          bigint not null,
    known_from timestamptz not null,
    known_to   timestamptz not null default 'infinity',
    primary key (shop_id, day, fact, survey, question, value, known_from),
    constraint metric_day_was_known check (known_from < known_to)
);
create unique index metric_day_current_key on metric_day (shop_id, day, fact, survey, question, value) where known_to = 'infinity';
-- Reports have the latest scores of each third party.
create index metric_day_score_idx on metric_day (shop_id, survey, day) where fact = 'score';

-- The sum of the days of each month, without scores, which do not add up: a report of years reads some dozens of rows for what it counts
-- instead of a thousand.
create table metric_month (
    shop_id    int not null references shop,
    month      date not null, -- its first day
    fact       metric_fact not null,
    survey     text not null,
    question   text not null,
    value      text not null,
    n          bigint not null,
    known_from timestamptz not null,
    known_to   timestamptz not null default 'infinity',
    primary key (shop_id, month, fact, survey, question, value, known_from),
    constraint metric_month_was_known check (known_from < known_to)
);
create unique index metric_month_current_key on metric_month (shop_id, month, fact, survey, question, value) where known_to = 'infinity';
-- The month that is not over has a version for each night. Reports mostly want those of the latest night.
create index metric_month_known_idx on metric_month (shop_id, known_to, known_from);

-- Customers do not add up: one who came on two days is one customer of the month.
create type metric_period as enum ('day', 'week', 'month', 'quarter', 'year', 'ever');

create table metric_customers (
    shop_id     int not null references shop,
    period      metric_period not null,
    starts_on   date not null, -- its first day; of `ever`, the first day there is: 0001-01-01
    customers   bigint not null,
    "repeat"    bigint not null, -- with two or more orders in the period
    "returning" bigint not null, -- for whom one of their orders in the period was not their first
    known_from  timestamptz not null,
    known_to    timestamptz not null default 'infinity',
    primary key (shop_id, period, starts_on, known_from),
    constraint metric_customers_were_known check (known_from < known_to)
);
create unique index metric_customers_current_key on metric_customers (shop_id, period, starts_on) where known_to = 'infinity';

-- When the figures were brought up to date. As of such a moment they can be read again.
create table metric_freeze (
    shop_id   int not null references shop,
    frozen_at timestamptz not null,
    rules     bytea not null, -- SHA-256 of what of jobs.toml the facts depend on; when it changes, everything is counted anew
    primary key (shop_id, frozen_at)
);

-- What was written since the last night, so that only that is counted anew: a row per statement. Nothing here is unique and nothing is
-- indexed: a writer never waits for another one's uncommitted row. A row that is there without need costs a day's counting; one that is
-- missing would be a wrong figure, so the triggers leave out only what cannot matter.
create table metric_change (
    shop_id   int not null,
    moments   timestamptz[], -- something that is counted was placed there, or is now
    customers bigint[], -- as long as `moments`: whose order it is
    signs     smallint[], -- as long as `moments`: 1, an order that counts is there now; -1, it was there before; 0, it does not count
    orders    bigint[], -- whatever was answered or mailed about these orders has changed
    days      date[] -- third-party scores
);
-- Numbers in a row hardly shrink, and packing them takes longer than writing them.
alter table metric_change alter moments set storage external, alter customers set storage external, alter signs set storage external, alter orders set storage external;

create function order_sign(status order_status) returns smallint language sql immutable parallel safe
return case when status in ('cancelled', 'refunded') then 0 else 1 end::smallint;

create function metric_order_changed() returns trigger language plpgsql as $$
begin
    case tg_op
    when 'INSERT' then
        insert into metric_change (shop_id, moments, customers, signs)
        select shop_id, array_agg(ordered_at), array_agg(customer_id), array_agg(order_sign(status)) from written group by shop_id;
    when 'DELETE' then
        insert into metric_change (shop_id, moments, customers, signs)
        select shop_id, array_agg(ordered_at), array_agg(customer_id), array_agg(-order_sign(status)) from gone group by shop_id;
    else
        insert into metric_change (shop_id, moments, customers, signs)
        select shop_id, array_agg(moment), array_agg(customer), array_agg(sign)
        from gone g
        full join written w using (shop_id, order_id)
        cross join lateral (values
            (g.ordered_at, g.customer_id, -order_sign(g.status)), (w.ordered_at, w.customer_id, order_sign(w.status))
        ) as changed (moment, customer, sign)
        where (g.ordered_at, g.customer_id, g.status) is distinct from (w.ordered_at, w.customer_id, w.status)
          and customer is not null
        group by shop_id;
    end case;
    return null;
end $$;
create trigger metric_order_inserted after insert on "order" referencing new table as written
    for each statement execute function metric_order_changed();
create trigger metric_order_updated after update on "order" referencing old table as gone new table as written
    for each statement execute function metric_order_changed();
create trigger metric_order_deleted after delete on "order" referencing old table as gone
    for each statement execute function metric_order_changed();

-- The answers of a response are inserted with it, and need no trigger for that.
create function metric_response_changed() returns trigger language plpgsql as $$
begin
    case tg_op
    when 'INSERT' then
        insert into metric_change (shop_id, orders) select shop_id, array_agg(order_id) from written group by shop_id;
    when 'DELETE' then
        insert into metric_change (shop_id, moments, orders)
        select shop_id, array_agg(answered_at), array_agg(order_id) from gone group by shop_id;
    else
        insert into metric_change (shop_id, moments, orders)
        select shop_id, array_agg(moment), array_agg(about)
        from gone g
        full join written w using (shop_id, response_id)
        cross join lateral (values (g.answered_at, g.order_id), (w.answered_at, w.order_id)) as changed (moment, about)
        where (g.order_id, g.survey, g.answered_at, g.counted, g.verdict, g.invitation_id, g.revision)
                is distinct from (w.order_id, w.survey, w.answered_at, w.counted, w.verdict, w.invitation_id, w.revision)
          and about is not null
        group by shop_id;
    end case;
    return null;
end $$;
create trigger metric_response_inserted after insert on response referencing new table as written
    for each statement execute function metric_response_changed();
create trigger metric_response_updated after update on response referencing old table as gone new table as written
    for each statement execute function metric_response_changed();
create trigger metric_response_deleted after delete on response referencing old table as gone
    for each statement execute function metric_response_changed();

-- An erasure empties words, which changes no figure; somebody may do more by hand.
create function metric_answer_changed() returns trigger language plpgsql as $$
begin
    insert into metric_change (shop_id, orders)
    select r.shop_id, array_agg(r.order_id)
    from gone join response r using (shop_id, response_id)
    group by r.shop_id;
    return null;
end $$;
create trigger metric_answer_updated after update on answer referencing old table as gone
    for each statement execute function metric_answer_changed();
create trigger metric_answer_deleted after delete on answer referencing old table as gone
    for each statement execute function metric_answer_changed();

-- Most of what is written about a mail is on its way to the relay, and counts nowhere.
create function metric_invitation_changed() returns trigger language plpgsql as $$
begin
    case tg_op
    when 'INSERT' then
        insert into metric_change (shop_id, moments)
        select shop_id, array_agg(coalesce(sent_at, decided_at)) from written
        where state in ('sent', 'unknown', 'failed')
        group by shop_id;
    when 'DELETE' then
        insert into metric_change (shop_id, moments)
        select shop_id, array_agg(coalesce(sent_at, decided_at)) from gone
        where state in ('sent', 'unknown', 'failed')
        group by shop_id;
    else
        insert into metric_change (shop_id, moments)
        select shop_id, array_agg(placed_at)
        from (
            select shop_id, coalesce(sent_at, decided_at) as placed_at from gone where state in ('sent', 'unknown', 'failed')
            union all
            select shop_id, coalesce(sent_at, decided_at) from written where state in ('sent', 'unknown', 'failed')
        ) as changed
        group by shop_id;
    end case;
    return null;
end $$;
create trigger metric_invitation_inserted after insert on invitation referencing new table as written
    for each statement execute function metric_invitation_changed();
create trigger metric_invitation_updated after update on invitation referencing old table as gone new table as written
    for each statement execute function metric_invitation_changed();
create trigger metric_invitation_deleted after delete on invitation referencing old table as gone
    for each statement execute function metric_invitation_changed();

create function metric_bounce_changed() returns trigger language plpgsql as $$
begin
    insert into metric_change (shop_id, moments)
    select i.shop_id, array_agg(coalesce(i.sent_at, i.decided_at))
    from written join invitation i using (shop_id, invitation_id)
    where written.kind = 'hard'
    group by i.shop_id;
    return null;
end $$;
create trigger metric_bounce_inserted after insert on bounce referencing new table as written
    for each statement execute function metric_bounce_changed();
create trigger metric_bounce_deleted after delete on bounce referencing old table as written
    for each statement execute function metric_bounce_changed();

create function metric_rating_changed() returns trigger language plpgsql as $$
begin
    insert into metric_change (shop_id, days) select shop_id, array_agg(rated_on) from written group by shop_id;
    return null;
end $$;
create trigger metric_rating_inserted after insert on rating referencing new table as written
    for each statement execute function metric_rating_changed();
create trigger metric_rating_updated after update on rating referencing new table as written
    for each statement execute function metric_rating_changed();
create trigger metric_rating_deleted after delete on rating referencing old table as written
    for each statement execute function metric_rating_changed();
