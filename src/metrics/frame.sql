-- The orders that were due to be asked about in the window, by what is known of each whether or not it was answered, and what was answered.
-- One row of an order for each survey.
--
-- $1 shop, $2 as of, $3 from, $4 to, $5 the first moments of the months. What is asked: $6 surveys, $7 questions of the recommendation,
-- $8 of the net promoter score, $9 of the satisfaction (null: the survey has no such question). $10 whether the window is most of what
-- there is: then everything is read once and joined, else each order's customer and answer are looked up. Which changes no figure.
with asked as (
    select * from unnest($6::text[], $7::text[], $8::text[], $9::text[]) as a (survey, recommendation, nps, csat)
),
due as (
    -- Who had cancelled or sent everything back before the mail was to go has nothing to say about it; who did so later is still a customer.
    select i.order_id, i.survey, width_bucket(i.due_at, $5::timestamptz[]) as month,
        i.state in ('sent', 'unknown') and coalesce(i.sent_at, i.decided_at) <= $2 as is_asked
    from invitation i
    where i.shop_id = $1 and i.wave = 0 and i.survey = any($6) and i.due_at <= $2 and i.decided_at <= $2
      and ($3::timestamptz is null or i.due_at >= $3)
      and ($4::timestamptz is null or i.due_at < $4)
      and (i.reason is null or i.reason not in ('cancelled', 'refunded'))
),
ordered as materialized (
    select due.*, coalesce(o.country, '') as country, o.total, o.currency,
        case
            when $10 then coalesce((o.ordered_at, o.order_id) > (first.ordered_at, first.order_id), false)
            -- As has_ordered_before, written out: a call for each order takes longer.
            else exists (
                select from "order" e
                where e.shop_id = $1 and e.customer_id = o.customer_id and e.status not in ('cancelled', 'refunded')
                  and e.ordered_at <= o.ordered_at and (e.ordered_at, e.order_id) < (o.ordered_at, o.order_id)
            )
        end as is_returning
    from due
    join "order" o on o.shop_id = $1 and o.order_id = due.order_id
    left join (
        select distinct on (customer_id) customer_id, ordered_at, order_id
        from "order"
        where $10 and shop_id = $1 and status not in ('cancelled', 'refunded')
        order by customer_id, ordered_at, order_id
    ) as first on $10 and first.customer_id = o.customer_id
),
standing as (
    select distinct on (r.order_id, r.survey) r.order_id, r.survey, r.response_id
    from response r
    where $10 and r.shop_id = $1 and r.survey = any($6) and r.verdict = 'human' and r.answered_at <= $2
    order by r.order_id, r.survey, r.counted desc, r.answered_at desc, r.revision desc
),
said as (
    select standing.order_id, standing.survey,
        max(coalesce(a.choice, a.score::text)) filter (where a.question = asked.recommendation) as recommendation,
        max(coalesce(a.choice, a.score::text)) filter (where a.question = asked.nps) as nps,
        max(coalesce(a.choice, a.score::text)) filter (where a.question = asked.csat) as csat
    from standing
    join asked on asked.survey = standing.survey
    join answer a on a.shop_id = $1 and a.response_id = standing.response_id and a.body is null
     and a.question in (asked.recommendation, asked.nps, asked.csat)
    group by standing.order_id, standing.survey
),
quartile as (
    select currency, percentile_disc(array[0.25, 0.5, 0.75]) within group (order by total) as of
    from ordered
    where total is not null and currency is not null
    group by currency
)
select ordered.survey as "survey!", country as "country!", is_returning as "is_returning!", month as "month!", is_asked as "is_asked!",
    -- From the smallest quarter of the baskets to the greatest, 1 to 4; 0: unknown.
    coalesce(
        1 + (total > quartile.of[1])::int + (total > quartile.of[2])::int + (total > quartile.of[3])::int, 0
    ) as "basket!",
    coalesce(said.recommendation, looked_up.recommendation) as recommendation, coalesce(said.nps, looked_up.nps) as nps,
    coalesce(said.csat, looked_up.csat) as csat, count(*) as "orders!"
from ordered
left join quartile on quartile.currency = ordered.currency
left join said on $10 and said.order_id = ordered.order_id and said.survey = ordered.survey
left join lateral (
    select max(coalesce(a.choice, a.score::text)) filter (where a.question = asked.recommendation) as recommendation,
        max(coalesce(a.choice, a.score::text)) filter (where a.question = asked.nps) as nps,
        max(coalesce(a.choice, a.score::text)) filter (where a.question = asked.csat) as csat
    from (
        select response_id from response r
        where r.shop_id = $1 and r.order_id = ordered.order_id and r.survey = ordered.survey and r.verdict = 'human' and r.answered_at <= $2
        order by r.counted desc, r.answered_at desc, r.revision desc
        limit 1
    ) as latest
    join answer a on a.shop_id = $1 and a.response_id = latest.response_id and a.body is null
    join asked on asked.survey = ordered.survey
    where not $10
) as looked_up on not $10
group by 1, 2, 3, 4, 5, 6, 7, 8, 9
