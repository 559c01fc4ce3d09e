-- $1 shop, $2 surveys and $3 their questions, $4 as of, $5 from, $6 to, $7 whether suspect submissions count like people's, $8 whether
-- of each customer only the latest answer counts
with standing as (
    -- The counted revision, where it was given by then; before that, the latest one a person had given. With suspects, the latest of all.
    select distinct on (order_id, survey) order_id, response_id, survey, answered_at
    from response
    where shop_id = $1 and survey = any($2) and (verdict = 'human' or $7) and answered_at <= $4
    order by order_id, survey, (counted and not $7) desc, answered_at desc, revision desc
),
given as (
    select distinct on (case when $8 then o.customer_id else standing.response_id end)
        asked.survey, answer.score, answer.choice
    from unnest($2::text[], $3::text[]) as asked (survey, question)
    join standing on standing.survey = asked.survey
    join answer on answer.shop_id = $1 and answer.response_id = standing.response_id and answer.question = asked.question
    left join "order" o on $8 and o.shop_id = $1 and o.order_id = standing.order_id
    where ($5::timestamptz is null or standing.answered_at >= $5)
      and ($6::timestamptz is null or standing.answered_at < $6)
      and answer.body is null
    order by case when $8 then o.customer_id else standing.response_id end, standing.answered_at desc, standing.response_id desc
)
select survey as "survey!", score, choice, count(*) as "n!"
from given
group by survey, score, choice
