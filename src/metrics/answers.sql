-- $1 shop, $2 surveys and $3 their questions, $4 as of, $5 from, $6 to, $7 whether suspect submissions count like people's, $8 whether
-- of each customer only the latest answer counts
with standing as (
    -- The counted revision, where it was given by then. Almost every order has that one and no other, so these are not sorted.
    select order_id, response_id, survey, answered_at
    from response
    where not $7 and shop_id = $1 and survey = any($2) and counted and answered_at <= $4
    union all
    -- Before that, the latest one a person had given.
    (
        select distinct on (order_id, survey) order_id, response_id, survey, answered_at
        from response
        where not $7 and shop_id = $1 and survey = any($2) and not counted and verdict = 'human' and answered_at <= $4 and not exists (
            select from response better
            where better.shop_id = $1 and better.order_id = response.order_id and better.survey = response.survey and better.counted
                and better.answered_at <= $4
        )
        order by order_id, survey, answered_at desc, revision desc
    )
    union all
    -- With suspects, the latest of all.
    (
        select distinct on (order_id, survey) order_id, response_id, survey, answered_at
        from response
        where $7 and shop_id = $1 and survey = any($2) and answered_at <= $4
        order by order_id, survey, answered_at desc, revision desc
    )
),
given as not materialized (
    select standing.survey, answer.score, answer.choice, standing.order_id, standing.response_id, standing.answered_at
    from standing
    -- Not a join with the questions, which would be planned as if next to nothing were left of the answers.
    join answer on answer.shop_id = $1 and answer.response_id = standing.response_id and answer.question = any($3)
        and answer.question = ($3::text[])[array_position($2::text[], standing.survey)]
    where ($5::timestamptz is null or standing.answered_at >= $5)
      and ($6::timestamptz is null or standing.answered_at < $6)
      and answer.body is null
),
taken as (
    select survey, score, choice from given where not $8
    union all
    (
        select distinct on (o.customer_id) given.survey, given.score, given.choice
        from given
        join "order" o on o.shop_id = $1 and o.order_id = given.order_id
        where $8
        order by o.customer_id, given.answered_at desc, given.response_id desc
    )
)
select survey as "survey!", score, choice, count(*) as "n!"
from taken
group by survey, score, choice
