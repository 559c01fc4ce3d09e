-- What there is so and so many of in each bucket of time, and of each value of a segment.
--
-- $1 shop, $2 the first moments of the buckets and $3 the first moments after them (in order; they do not overlap), $4 as of. By which
-- answers the unhappy are known, a row for each answer that a question may get: $5 survey, $6 the question's position, $7 its key, $8 the
-- answer, $9 whether it is an unhappy one. Questions of type choice: $10 survey, $11 key. $12 the segment, $13 the name of an attribute.
with bucket as (
    select n::int, starts_at, ends_at
    from unnest($2::timestamptz[], $3::timestamptz[]) with ordinality as b (starts_at, ends_at, n)
),
sign as (
    select * from unnest($5::text[], $6::int[], $7::text[], $8::text[], $9::boolean[])
        as s (survey, position, question, answer, is_unhappy)
),
ordered as (
    select b.n, o.*
    from bucket b
    join "order" o on o.shop_id = $1 and o.ordered_at >= b.starts_at and o.ordered_at < b.ends_at and o.ordered_at <= $4
    where o.status not in ('cancelled', 'refunded')
),
-- An answer belongs to the order and survey: it may have come through the link of a reminder. Who answered was reached, whatever came back.
mailed as materialized (
    select n, order_id, wave, state, is_answered, not is_answered and exists (
               select from bounce
               where bounce.shop_id = $1 and bounce.invitation_id = mail.invitation_id and kind = 'hard' and received_at <= $4
           ) as came_back
    from (
        select b.n, i.order_id, i.invitation_id, i.wave, i.state, i.wave = 0 and exists (
                   select from response r
                   where r.shop_id = $1 and r.order_id = i.order_id and r.survey = i.survey
                     and r.invitation_id is not null and r.verdict = 'human' and r.answered_at <= $4
               ) as is_answered
        from bucket b
        join invitation i on i.shop_id = $1 and i.state in ('sent', 'unknown', 'failed') and coalesce(i.sent_at, i.decided_at) <= $4
         and coalesce(i.sent_at, i.decided_at) >= b.starts_at and coalesce(i.sent_at, i.decided_at) < b.ends_at
        offset 0 -- looks for the answer once, not for each figure
    ) as mail
),
-- Of an order and survey, the counted revision, where it was given by then; before that, the latest one a person had given. With
-- suspects, the latest of all.
near as (
    select distinct r.order_id, r.survey
    from bucket b
    join response r on r.shop_id = $1 and r.answered_at >= b.starts_at and r.answered_at < b.ends_at and r.answered_at <= $4
),
standing as (
    select distinct on (with_suspects, r.order_id, r.survey)
        with_suspects, r.order_id, r.survey, r.response_id, r.answered_at
    from near
    join response r on r.shop_id = $1 and r.order_id = near.order_id and r.survey = near.survey and r.answered_at <= $4
    cross join (values (false), (true)) as whose (with_suspects)
    where r.verdict = 'human' or with_suspects
    order by with_suspects, r.order_id, r.survey, (r.counted and not with_suspects) desc, r.answered_at desc, r.revision desc
),
placed as (
    select width_bucket(answered_at, $2::timestamptz[]) as n, with_suspects, order_id, survey, response_id
    from standing
    where answered_at < ($3::timestamptz[])[width_bucket(answered_at, $2::timestamptz[])]
),
segmented as materialized (
    select placed.n, placed.with_suspects, placed.survey, placed.response_id, segment.value as segment
    from placed
    left join "order" o on $12 <> 'none' and o.shop_id = $1 and o.order_id = placed.order_id
    cross join lateral unnest(order_segment(
        $12, $13, o.country, o.locale, o.items, o.attributes,
        has_ordered_before($1, o.customer_id, o.ordered_at, o.order_id)
    )) as segment (value)
),
-- The first of the signs that was answered says it.
unhappy as materialized (
    select n, survey, response_id, segment
    from segmented
    where not with_suspects and (
        select sign.is_unhappy
        from sign
        join answer a on a.shop_id = $1 and a.response_id = segmented.response_id and a.question = sign.question
         and coalesce(a.choice, a.score::text) = sign.answer
        where sign.survey = segmented.survey
        order by sign.position
        limit 1
    )
)
select n as "n!", segment as "segment!", fact::metric_fact as "fact!: Fact", survey as "survey!", question as "question!",
    value as "value!", sum(of_it)::bigint as "count!"
from (
    select ordered.n, segment.value as segment, 'orders' as fact, '' as survey, '' as question, '' as value, count(*) as of_it
    from ordered
    cross join lateral unnest(order_segment(
        $12, $13, ordered.country, ordered.locale, ordered.items, ordered.attributes,
        has_ordered_before($1, ordered.customer_id, ordered.ordered_at, ordered.order_id)
    )) as segment (value)
    group by ordered.n, segment.value
    union all
    select mail.n, mail.segment, tally.fact, '', '', '', tally.of_it
    from (
        select mailed.n, segment.value as segment,
            count(*) filter (where state = 'sent') as mails_sent,
            count(*) filter (where wave = 0) as first_mails,
            count(*) filter (where wave = 0 and is_answered) as complete,
            count(*) filter (where wave = 0 and state = 'unknown') as unknown,
            count(*) filter (where wave = 0 and state = 'sent' and not came_back) as reached,
            count(*) filter (where wave = 0 and state = 'sent' and is_answered) as answered
        from mailed
        left join "order" o on $12 <> 'none' and o.shop_id = $1 and o.order_id = mailed.order_id
        cross join lateral unnest(order_segment(
            $12, $13, o.country, o.locale, o.items, o.attributes,
            has_ordered_before($1, o.customer_id, o.ordered_at, o.order_id)
        )) as segment (value)
        group by mailed.n, segment.value
    ) as mail
    cross join lateral (values
        ('mails_sent', mails_sent), ('first_mails', first_mails), ('first_mails_complete', complete),
        ('first_mails_unknown', unknown), ('first_mails_reached', reached), ('first_mails_answered', answered)
    ) as tally (fact, of_it)
    where tally.of_it > 0
    union all
    select n, segment, 'answers', survey, '', '', count(*) from segmented where not with_suspects group by n, segment, survey
    union all
    -- An erased text is an empty one, and was a comment.
    select s.n, s.segment, 'comments', s.survey, '', '', count(distinct s.response_id)
    from segmented s
    join answer a on a.shop_id = $1 and a.response_id = s.response_id and a.body is not null
    where not s.with_suspects
    group by s.n, s.segment, s.survey
    union all
    select s.n, s.segment, case when s.with_suspects then 'answer_with_suspects' else 'answer' end, s.survey, a.question,
        coalesce(a.choice, a.score::text), count(*)
    from segmented s
    join answer a on a.shop_id = $1 and a.response_id = s.response_id and a.body is null
    group by s.n, s.segment, s.with_suspects, s.survey, a.question, coalesce(a.choice, a.score::text)
    union all
    select n, segment, 'unhappy', survey, '', '', count(*) from unhappy group by n, segment, survey
    union all
    select u.n, u.segment, 'topic', u.survey, a.question, a.choice, count(*)
    from unhappy u
    join unnest($10::text[], $11::text[]) as topic (survey, question) on topic.survey = u.survey
    join answer a on a.shop_id = $1 and a.response_id = u.response_id and a.question = topic.question and a.choice is not null
    group by u.n, u.segment, u.survey, a.question, a.choice
) as fact
group by n, segment, fact, survey, question, value
