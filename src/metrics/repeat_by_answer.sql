-- Who ordered again within so many days, by what they had said. Each customer counts with the first order of the window that was asked
-- about, by what was said of that one, and from the moment it was placed, whatever came later: were the silent those who never answered, who
-- comes back would have another chance to answer and so leave them, and those who stay would seem not to come back.
-- $1 shop, $2 as of, $3 from, $4 to, $5 days; the classes of answers: $6 kind, $7 class, $8 survey, $9 question, $10 answer
with class as (
    select * from unnest($6::text[], $7::text[], $8::text[], $9::text[], $10::text[]) as c (kind, class, survey, question, answer)
),
placed as (
    select order_id, customer_id, ordered_at
    from "order"
    where shop_id = $1 and status not in ('cancelled', 'refunded') and ordered_at <= $2
      and ($3::timestamptz is null or ordered_at >= $3)
      and ($4::timestamptz is null or ordered_at < $4)
),
answered as materialized (
    select distinct on (r.order_id, r.survey) placed.*, r.survey, r.response_id
    from placed
    join response r on r.shop_id = $1 and r.order_id = placed.order_id and r.verdict = 'human' and r.answered_at <= $2
    order by r.order_id, r.survey, r.counted desc, r.answered_at desc, r.revision desc
),
asked_first as (
    select distinct on (customer_id) *
    from (
        select placed.*
        from placed
        where exists (
            select from invitation i
            where i.shop_id = $1 and i.order_id = placed.order_id and i.wave = 0 and i.state = 'sent' and i.sent_at <= $2
        )
        union all
        -- Who answers without a mail of ours was asked elsewhere.
        select order_id, customer_id, ordered_at from answered
    ) as asked
    order by customer_id, ordered_at, order_id
),
-- What came next is looked up once, and not for each kind and horizon.
watched as materialized (
    select asked_first.*, (
        select e.ordered_at from "order" e
        where e.shop_id = $1 and e.customer_id = asked_first.customer_id and e.status not in ('cancelled', 'refunded')
          and e.ordered_at >= asked_first.ordered_at
          and (e.ordered_at, e.order_id) > (asked_first.ordered_at, asked_first.order_id)
        order by e.ordered_at
        limit 1
    ) as next_at
    from asked_first
),
-- Apart, or each answer would be looked up once for each class of its survey.
given as materialized (
    select watched.*, answered.survey, a.question, coalesce(a.choice, a.score::text) as answer
    from watched
    join answered using (order_id)
    join answer a on a.shop_id = $1 and a.response_id = answered.response_id and a.body is null
),
said as (
    -- Where two surveys ask the same, the customer counts once.
    select distinct on (class.kind, given.order_id) class.kind, class.class, given.ordered_at, given.next_at
    from given
    join class on class.survey = given.survey and class.question = given.question and class.answer = given.answer
    order by class.kind, given.order_id, class.class
),
spoken as (
    select * from said
    union all
    select 'no_answer', 'no_answer', ordered_at, next_at
    from watched
    where not exists (select from answered where answered.order_id = watched.order_id)
)
select kind as "kind!", class as "class!", days as "days!", count(*) as "customers!",
    count(*) filter (where next_at <= ordered_at + make_interval(hours => 24 * days)) as "again!"
from spoken
cross join unnest($5::int[]) as horizon (days)
-- Only of whom the whole time is known.
where ordered_at + make_interval(hours => 24 * days) <= $2
group by kind, class, days
