-- Revisions ($1 to $14, one array a column) with their answers ($15 to $19; $15 is the place of the revision, from 1), and what waits for
-- approval as a testimonial.
with kept as (
    select *
    from unnest(
        $1::int[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::int[], $7::suspicion[], $8::bigint[], $9::text[],
        $10::timestamptz[], $11::text[], $12::text[], $13::display_name_rule[], $14::boolean[]
    ) with ordinality as k (
        shop_id, order_id, survey, survey_version_id, invitation_id, revision, suspicion, form_nonce, locale, sent_at, consent_version,
        display_name, display_name_rule, is_testimonial, n
    )
), stored as (
    insert into response (
        shop_id, order_id, survey, survey_version_id, invitation_id, revision, counted, via, verdict, suspicion, form_nonce, locale,
        answered_at, received_at, consent_version, display_name, display_name_rule
    )
    select shop_id, order_id, survey, survey_version_id, invitation_id, revision, suspicion is null, 'page',
        case when suspicion is null then 'human' else 'suspect' end::verdict, suspicion, form_nonce, locale, sent_at, sent_at,
        consent_version, display_name, display_name_rule
    from kept
    returning shop_id, response_id, order_id, survey, revision
), answered as (
    insert into answer (shop_id, response_id, question, score, choice, body)
    select stored.shop_id, stored.response_id, a.question, a.score, a.choice, a.body
    from unnest($15::bigint[], $16::text[], $17::smallint[], $18::text[], $19::text[]) as a (n, question, score, choice, body)
    join kept using (n)
    join stored using (shop_id, order_id, survey, revision)
)
insert into testimonial (shop_id, response_id, state)
select stored.shop_id, stored.response_id, 'pending'
from kept
join stored using (shop_id, order_id, survey, revision)
where kept.is_testimonial
