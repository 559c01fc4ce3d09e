-- Revisions ($1 to $15 and $22, one array a column), their answers ($16 to $21), and what waits for approval as a testimonial. The numbers were
-- drawn before, so that nothing has to be joined.
with kept as (
    select *
    from unnest(
        $1::bigint[], $2::int[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::int[], $8::suspicion[], $9::bigint[],
        $10::text[], $11::timestamptz[], $12::text[], $13::text[], $14::display_name_rule[], $15::boolean[], $22::timestamptz[]
    ) as k (
        response_id, shop_id, order_id, survey, survey_version_id, invitation_id, revision, suspicion, form_nonce, locale, sent_at,
        consent_version, display_name, display_name_rule, is_testimonial,
        answered_at
    )
), stored as (
    insert into response (
        shop_id, response_id, order_id, survey, survey_version_id, invitation_id, revision, counted, via, verdict, suspicion, form_nonce,
        locale, answered_at, received_at, consent_version, display_name, display_name_rule
    ) overriding system value
    select shop_id, response_id, order_id, survey, survey_version_id, invitation_id, revision, suspicion is null, 'page',
        case when suspicion is null then 'human' else 'suspect' end::verdict, suspicion, form_nonce, locale, answered_at, sent_at,
        consent_version, display_name, display_name_rule
    from kept
), waiting as (
    insert into testimonial (shop_id, response_id, state)
    select shop_id, response_id, 'pending' from kept where is_testimonial
)
insert into answer (shop_id, response_id, question, score, choice, body)
select * from unnest($16::int[], $17::bigint[], $18::text[], $19::smallint[], $20::text[], $21::text[])
