-- What there is so and so many of in each bucket of time, and of each value of a segment.
--
-- $1 shop, $2 the first moments of the buckets, which lie side by side, $3 the first moment after the last, $4 as of. By which answers the
-- unhappy are known, a row for each answer that a question may get: $5 survey, $6 the question's position, $7 its key, $8 the answer, $9
-- whether it is an unhappy one. Questions of type choice: $10 survey, $11 key. $12 the segment, $13 the name of an attribute.
--
-- Nothing is joined to the buckets, and segments are taken apart only when everything is counted: so one plan serves a day and a history.
with mail as not materialized (
    select width_bucket(placed_at, $2::timestamptz[]) as n, invitation_id, order_id, survey, wave, state
    from invitation
    cross join lateral (select coalesce(sent_at, decided_at) as placed_at) as placed
    where shop_id = $1 and state in ('sent', 'unknown', 'failed')
      and placed_at >= ($2::timestamptz[])[1] and placed_at < $3 and placed_at <= $4
),
-- The answer belongs to the order and survey: it may have come through the link of a reminder. Who answered was reached, whatever came back.
answered as not materialized (
    select mail.*
    from mail
    where wave = 0 and exists (
        select from response r
        where r.shop_id = $1 and r.order_id = mail.order_id and r.survey = mail.survey
          and r.invitation_id is not null and r.verdict = 'human' and r.answered_at <= $4
    )
),
lost as not materialized (
    select mail.*
    from mail
    where wave = 0 and state = 'sent' and exists (
        select from bounce b
        where b.shop_id = $1 and b.invitation_id = mail.invitation_id and b.kind = 'hard' and b.received_at <= $4
    ) and not exists (
        select from response r
        where r.shop_id = $1 and r.order_id = mail.order_id and r.survey = mail.survey
          and r.invitation_id is not null and r.verdict = 'human' and r.answered_at <= $4
    )
),
-- Who changed an answer has a second revision; all others need no comparing.
given as (
    select r.order_id, r.survey, r.response_id, r.revision, r.counted, r.verdict, r.answered_at, exists (
        select from response later
        where later.shop_id = $1 and later.order_id = r.order_id and later.survey = r.survey and later.revision > 1
    ) as is_contested
    from response r
    where r.shop_id = $1 and r.answered_at >= ($2::timestamptz[])[1] and r.answered_at < $3 and r.answered_at <= $4
    offset 0 -- asked once, though it is needed twice
),
-- Of an order and survey, the counted revision, where it was given by then; before that, the latest one a person had given. With
-- suspects, the latest of all.
standing as (
    select given.*,
        verdict = 'human' and (not is_contested or not exists (
            select from response better
            where better.shop_id = $1 and better.order_id = given.order_id and better.survey = given.survey
              and better.verdict = 'human' and better.answered_at <= $4
              and (better.counted, better.answered_at, better.revision) > (given.counted, given.answered_at, given.revision)
        )) as is_a_persons,
        not is_contested or not exists (
            select from response later
            where later.shop_id = $1 and later.order_id = given.order_id and later.survey = given.survey and later.answered_at <= $4
              and (later.answered_at, later.revision) > (given.answered_at, given.revision)
        ) as is_the_latest
    from given
    offset 0
),
placed as materialized (
    select width_bucket(answered_at, $2::timestamptz[]) as n, survey, response_id, is_a_persons, is_the_latest,
        order_segment(
            $12, $13, o.country, o.locale, o.items, o.attributes,
            has_ordered_before($1, o.customer_id, o.ordered_at, o.order_id)
        ) as segments
    from standing
    left join "order" o on $12 <> 'none' and o.shop_id = $1 and o.order_id = standing.order_id
    where is_a_persons or is_the_latest
),
-- The first of the signs that was answered says it.
unhappy as materialized (
    select n, placed.survey, placed.response_id, segments
    from placed
    join answer a on a.shop_id = $1 and a.response_id = placed.response_id
    join unnest($5::text[], $6::int[], $7::text[], $8::text[], $9::boolean[]) as sign (survey, position, question, answer, is_unhappy)
        on sign.survey = placed.survey
    where is_a_persons and sign.is_unhappy and sign.question = a.question and sign.answer = coalesce(a.choice, a.score::text)
      and (sign.position = 0 or not exists (
          select from unnest($5::text[], $6::int[], $7::text[], $8::text[]) as earlier (survey, position, question, answer)
          join answer b on b.shop_id = $1 and b.response_id = placed.response_id and b.question = earlier.question
           and coalesce(b.choice, b.score::text) = earlier.answer
          where earlier.survey = placed.survey and earlier.position < sign.position
      ))
)
select n as "n!", segment as "segment!", fact::metric_fact as "fact!: Fact", survey as "survey!", question as "question!",
    value as "value!", sum(of_it)::bigint as "count!"
from (
    select width_bucket(o.ordered_at, $2::timestamptz[]) as n, order_segment(
            $12, $13, o.country, o.locale, o.items, o.attributes,
            has_ordered_before($1, o.customer_id, o.ordered_at, o.order_id)
        ) as segments, 'orders' as fact, '' as survey, '' as question, '' as value, count(*) as of_it
    from "order" o
    where o.shop_id = $1 and o.status not in ('cancelled', 'refunded')
      and o.ordered_at >= ($2::timestamptz[])[1] and o.ordered_at < $3 and o.ordered_at <= $4
    group by 1, 2
    union all
    select mails.n, mails.segments, tally.fact, '', '', '', tally.of_it
    from (
        select mail.n, order_segment(
                $12, $13, o.country, o.locale, o.items, o.attributes,
                has_ordered_before($1, o.customer_id, o.ordered_at, o.order_id)
            ) as segments,
            count(*) filter (where state = 'sent') as mails_sent,
            count(*) filter (where wave = 0) as first_mails,
            count(*) filter (where wave = 0 and state = 'unknown') as unknown,
            count(*) filter (where wave = 0 and state = 'sent') as accepted
        from mail
        left join "order" o on $12 <> 'none' and o.shop_id = $1 and o.order_id = mail.order_id
        group by 1, 2
    ) as mails
    cross join lateral (values
        ('mails_sent', mails_sent), ('first_mails', first_mails), ('first_mails_unknown', unknown), ('first_mails_reached', accepted)
    ) as tally (fact, of_it)
    union all
    select answers.n, answers.segments, tally.fact, '', '', '', tally.of_it
    from (
        select answered.n, order_segment(
                $12, $13, o.country, o.locale, o.items, o.attributes,
                has_ordered_before($1, o.customer_id, o.ordered_at, o.order_id)
            ) as segments,
            count(*) as complete, count(*) filter (where state = 'sent') as accepted
        from answered
        left join "order" o on $12 <> 'none' and o.shop_id = $1 and o.order_id = answered.order_id
        group by 1, 2
    ) as answers
    cross join lateral (values ('first_mails_complete', complete), ('first_mails_answered', accepted)) as tally (fact, of_it)
    union all
    select lost.n, order_segment(
            $12, $13, o.country, o.locale, o.items, o.attributes,
            has_ordered_before($1, o.customer_id, o.ordered_at, o.order_id)
        ), 'first_mails_reached', '', '', '', -count(*)
    from lost
    left join "order" o on $12 <> 'none' and o.shop_id = $1 and o.order_id = lost.order_id
    group by 1, 2
    union all
    select n, segments, 'answers', survey, '', '', count(*) from placed where is_a_persons group by n, segments, survey
    union all
    -- An erased text is an empty one, and was a comment.
    select n, segments, 'comments', survey, '', '', count(*)
    from placed
    where is_a_persons and exists (
        select from answer a where a.shop_id = $1 and a.response_id = placed.response_id and a.body is not null
    )
    group by n, segments, survey
    union all
    select said.n, said.segments, tally.fact, said.survey, said.question, said.value, tally.of_it
    from (
        select n, segments, survey, question, value,
            count(*) filter (where is_a_persons) as of_people, count(*) filter (where is_the_latest) as of_all
        from (
            select placed.*, a.question, coalesce(a.choice, a.score::text) as value
            from placed
            join answer a on a.shop_id = $1 and a.response_id = placed.response_id and a.body is null
            offset 0 -- of what is one table the database takes it that there are fewer groups than rows, and does not sort
        ) as answer
        group by n, segments, survey, question, value
    ) as said
    cross join lateral (values ('answer', of_people), ('answer_with_suspects', of_all)) as tally (fact, of_it)
    union all
    select n, segments, 'unhappy', survey, '', '', count(*) from unhappy group by n, segments, survey
    union all
    select u.n, u.segments, 'topic', u.survey, a.question, a.choice, count(*)
    from unhappy u
    join answer a on a.shop_id = $1 and a.response_id = u.response_id and a.choice is not null
    where (u.survey, a.question) in (select * from unnest($10::text[], $11::text[]))
    group by u.n, u.segments, u.survey, a.question, a.choice
) as counted
cross join lateral unnest(coalesce(segments, array[''])) as segment
group by n, segment, fact, survey, question, value
having sum(of_it) > 0
