-- A shop of three years: psql -v orders=5000000 -v answers=1000000 -f shop.sql, into a migrated database in which nothing but the shop
-- is. The same numbers make the same rows: what looks like chance is a hash of the row's number.
--
-- Seven customers for ten orders, most of them with one order and some with many; nine of ten orders are asked about, six of ten mailed,
-- and what is asked for of `answers` comes back, one in fifty of it changed later and one in fifty sent by a program first.
-- It begins at `began`, and what became due before `decided` has been decided about, which is its end where nothing else is said.
\set ON_ERROR_STOP on
\if :{?began}
\else
\set began '2023-01-01'
\endif
select (:'began'::date + interval '3 years')::date as ended \gset
\if :{?decided}
\else
\set decided :ended
\endif
set session_replication_role = replica; -- nothing is counted yet: no need to note what changed
set synchronous_commit = off;
select shop_id as shop from shop limit 1 \gset

-- From 0 to 1, the same for the same row and question.
create function pg_temp.chance(i bigint, about int) returns float8 language sql immutable parallel safe
return (hashint8extended(i, about) & 1048575) / 1048576.0;

insert into customer (shop_id, customer_id, email, email_key, first_name) overriding system value
select :shop, i, 'c' || i || '@customer.example', 'c' || i || '@customer.example', 'Claire'
from generate_series(1, :orders * 7 / 10) i;

-- `placed` grows with the number, as in a shop: files bring orders in the order of time.
insert into "order" (shop_id, order_id, external_id, customer_id, ordered_at, fulfilled_at, status, total, currency, items, locale,
    country, attributes, import_run_id, imported_at, updated_at) overriding system value
select :shop, i, 'A-' || i, 1 + floor(:orders * 0.7 * power(pg_temp.chance(i, 1), 1.6))::bigint, placed.at,
    case when pg_temp.chance(i, 2) < 0.92 then placed.at + interval '3 days' end,
    case when pg_temp.chance(i, 2) < 0.92 then 'fulfilled' when pg_temp.chance(i, 2) < 0.94 then 'open'
        when pg_temp.chance(i, 2) < 0.98 then 'cancelled' else 'refunded' end::order_status,
    (1000 + 20000 * pg_temp.chance(i, 3))::bigint, 'EUR', array['P-' || hashint8extended(i, 4) % 1000],
    case when pg_temp.chance(i, 5) < 0.7 then 'fr' else 'en' end,
    (array['FR', 'FR', 'FR', 'FR', 'BE', 'CH', 'DE', 'ES', 'IT', null])[1 + floor(10 * pg_temp.chance(i, 5))::int],
    jsonb_build_object('channel', case when pg_temp.chance(i, 6) < 0.5 then 'web' else 'app' end), 1, placed.at, placed.at
from generate_series(1, :orders) i
cross join lateral (
    select :'began'::date::timestamptz
        + interval '1 second' * floor((i - 1 + pg_temp.chance(i, 7)) * 3 * 365 * 86400 / :orders) as at
) as placed;

insert into survey_version (shop_id, survey, digest, questionnaire, created_at)
values (:shop, 'satisfaction', '\x00', '{"questions":[]}', :'began'), (:shop, 'nps', '\x01', '{"questions":[]}', :'began');

-- The first mail's number is the order's; reminders come after.
insert into invitation (shop_id, invitation_id, order_id, customer_id, survey, wave, survey_version_id, state, reason, due_at, decided_at,
    next_attempt_at, attempts, sent_at) overriding system value
select :shop, order_id + wave * :orders, order_id, customer_id, survey, wave, 1, state,
    case when state = 'skipped' then 'throttled'::decision_reason end,
    due, due + interval '1 hour', due, 1, case when state = 'sent' then due + interval '2 hours' end
from (
    select order_id, customer_id, wave, case when pg_temp.chance(order_id, 8) < 0.8 then 'satisfaction' else 'nps' end as survey,
        fulfilled_at + interval '7 days' + interval '5 days' * wave as due,
        case when wave = 1 then 'sent' when pg_temp.chance(order_id, 9) < 0.66 then 'sent' when pg_temp.chance(order_id, 9) < 0.67 then 'failed'
            when pg_temp.chance(order_id, 9) < 0.671 then 'unknown' else 'skipped' end::invitation_state as state
    from "order"
    cross join generate_series(0, 1) wave
    where shop_id = :shop and fulfilled_at is not null and (wave = 0 or pg_temp.chance(order_id, 9) < 0.3)
) as decided
where due < :'decided';

insert into attempt (shop_id, invitation_id, attempt, started_at, phase, outcome, code, text)
select :shop, invitation_id, 1, due_at + interval '2 hours', 'final', state::text::attempt_outcome,
    case state when 'sent' then 250 when 'failed' then 550 end, case state when 'sent' then '2.0.0 Ok' else '5.7.1 refused' end
from invitation
where shop_id = :shop and state in ('sent', 'failed', 'unknown');

insert into bounce (shop_id, invitation_id, digest, kind, reason, received_at)
select :shop, invitation_id, int8send(invitation_id), 'hard', 'no such mailbox', sent_at + interval '1 minute'
from invitation
where shop_id = :shop and state = 'sent' and wave = 0 and pg_temp.chance(invitation_id, 10) < 0.01;

-- Of those that were mailed and did not come back. A third answers the reminder.
insert into response (shop_id, response_id, order_id, survey, survey_version_id, invitation_id, revision, counted, via, verdict, suspicion,
    locale, answered_at, received_at) overriding system value
select :shop, order_id * 3 + part, order_id, survey, 1, invitation_id, part + 1, part = last, 'page',
    case when part < last and is_program then 'suspect' else 'human' end::verdict,
    case when part < last and is_program then 'too_fast' end::suspicion, 'fr', at, at
from (
    select invitation_id, order_id, survey, is_program,
        case when is_program or pg_temp.chance(order_id, 11) < 0.04 then 1 else 0 end as last, sent_at
    from (
        select invitation_id, order_id, survey, sent_at, pg_temp.chance(order_id, 11) < 0.02 as is_program
        from invitation
        where shop_id = :shop and wave = 0 and state = 'sent' and pg_temp.chance(invitation_id, 10) >= 0.01
          and pg_temp.chance(order_id, 12) < :answers / (:orders * 0.6)
    ) as asked
) as answered
cross join lateral generate_series(0, last) part
cross join lateral (
    select sent_at + interval '1 second' * floor(600 + 86400 * 8 * (part + pg_temp.chance(order_id, 13) * pg_temp.chance(order_id, 14))) as at
) as given
where at < :'ended';

insert into answer (shop_id, response_id, question, score, choice, body)
select :shop, response_id, said.*
from (select *, pg_temp.chance(response_id, 15) as mood, pg_temp.chance(response_id, 16) as zeal from response where shop_id = :shop) as r
cross join lateral (
    select 'recommend', null::smallint, case when mood < 0.84 then 'yes' else 'no' end, null::text where survey = 'satisfaction'
    union all
    select 'overall', 1 + floor(5 * sqrt(1 - mood))::smallint, null, null where survey = 'satisfaction' and zeal < 0.8
    union all
    select 'topic', null, (array['contact', 'returns', 'delivery', 'product', 'other'])[1 + floor(5 * zeal)::int], null
    where survey = 'satisfaction' and mood >= 0.84
    union all
    select 'nps', floor(11 * sqrt(1 - mood))::smallint, null, null where survey = 'nps'
    union all
    select 'improve', null, (array['contact', 'returns', 'delivery', 'product', 'other'])[1 + floor(5 * zeal)::int], null
    where survey = 'nps' and floor(11 * sqrt(1 - mood)) <= 6
    union all
    select 'comment', null, null, 'It came in time, and what was in it was what I had ordered: ' || response_id where zeal < 0.3
) as said;

insert into rating (shop_id, source, rated_on, score, scale, ratings, imported_at, updated_at)
select :shop, source, day, 4.4 + 0.4 * pg_temp.chance(n, 17), 5, 1000 + n, day, day
from generate_series(:'began'::timestamptz, :'ended'::timestamptz - interval '1 day', '1 day') with ordinality as d (day, n)
cross join unnest(array['fianet', 'guide']) as source;

set session_replication_role = origin;

-- Who comes after them is numbered after them.
select setval(pg_get_serial_sequence('customer', 'customer_id'), max(customer_id)) from customer \g /dev/null
select setval(pg_get_serial_sequence('"order"', 'order_id'), max(order_id)) from "order" \g /dev/null
select setval(pg_get_serial_sequence('invitation', 'invitation_id'), max(invitation_id)) from invitation \g /dev/null
select setval(pg_get_serial_sequence('response', 'response_id'), max(response_id)) from response \g /dev/null
