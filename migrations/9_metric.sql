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
    'score'                 -- how a third party rates the shop: `survey` is the source, `value` the share of its scale, `n` of how many ratings
);

-- Days are read one by one when they change, and by these.
create index response_placed_idx on response (shop_id, answered_at);
create index invitation_placed_idx on invitation (shop_id, coalesce(sent_at, decided_at)) where state in ('sent', 'unknown', 'failed');

-- Whether an order is not its customer's first; cancelled and refunded orders do not count.
create function has_ordered_before(shop int, customer bigint, ordered timestamptz, id bigint) returns boolean language sql stable
return exists (
    select from "order" e
    where e.shop_id = shop and e.customer_id = customer and e.status not in ('cancelled', 'refunded')
      and e.ordered_at <= ordered and (e.ordered_at, e.order_id) < (ordered, id)
);

create function distinct_texts(texts text[]) returns text[] language sql immutable
return array(select distinct t from unnest(texts) as t);

-- The values of a segment that an order has: one, or each of its products.
create function order_segment(
    segment text, attribute text, country text, locale text, items text[], attributes jsonb, is_later boolean
) returns text[] language sql immutable
return case segment
    when 'none' then array['']
    when 'country' then array[coalesce(country, '')]
    when 'locale' then array[coalesce(locale, '')]
    when 'product' then distinct_texts(items)
    when 'attribute' then array[coalesce(attributes ->> attribute, '')]
    when 'new_or_returning' then array[case when is_later then 'returning' else 'new' end]
end;
