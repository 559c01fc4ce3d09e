-- Who ordered again within so many days, by what they had said of an order of the window. Each customer counts once in each kind of
-- answer: with the first order of the window that was so answered; who answered none, with the first one that was asked about.
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
-- Apart, or each answer would be looked up once for each class of its survey.
given as materialized (
    select answered.*, a.question, coalesce(a.choice, a.score::text) as answer
    from answered
    join answer a on a.shop_id = $1 and a.response_id = answered.response_id and a.body is null
),
said as (
    select class.kind, class.class, given.customer_id, given.order_id, given.ordered_at
    from given
    join class on class.survey = given.survey and class.question = given.question and class.answer = given.answer
    union all
    select 'no_answer', 'no_answer', placed.customer_id, placed.order_id, placed.ordered_at
    from placed
    where exists (
        select from invitation i
        where i.shop_id = $1 and i.order_id = placed.order_id and i.wave = 0 and i.state = 'sent' and i.sent_at <= $2
    ) and not exists (select from answered where answered.customer_id = placed.customer_id)
),
first_said as (
    select distinct on (kind, customer_id) * from said order by kind, customer_id, ordered_at, order_id, class
)
select kind as "kind!", class as "class!", days as "days!", count(*) as "customers!",
    count(*) filter (where next_at <= first_said.ordered_at + make_interval(hours => 24 * days)) as "again!"
from (
    select first_said.*, (
        select e.ordered_at from "order" e
        where e.shop_id = $1 and e.customer_id = first_said.customer_id and e.status not in ('cancelled', 'refunded')
          and e.ordered_at >= first_said.ordered_at
          and (e.ordered_at, e.order_id) > (first_said.ordered_at, first_said.order_id)
        order by e.ordered_at
        limit 1
    ) as next_at
    from first_said
    offset 0 -- looked up once, and not for each of the horizons
) as first_said
cross join unnest($5::int[]) as horizon (days)
-- Only of whom the whole time is known.
where first_said.ordered_at + make_interval(hours => 24 * days) <= $2
group by kind, class, days
