-- $1 shop, $2 behind this response, $3 so many. $4 answers from before it, $5 those of programs from before it; but not what is published
-- and left the house at $6 or later. $7 only counts. What the shop replied goes with the words that it answers, as in an erasure: it may
-- repeat them, or name who wrote them.
with looked as materialized (
    select response_id, answered_at, verdict, display_name
    from response
    where shop_id = $1 and response_id > $2
    order by response_id
    limit $3
),
due as materialized (
    select l.response_id, l.display_name is not null as has_name, (
               select count(*) from answer a where a.shop_id = $1 and a.response_id = l.response_id and a.body <> ''
           ) as n_texts, (
               select count(*) from reply y where y.shop_id = $1 and y.response_id = l.response_id
           ) as n_replies
    from looked l
    where l.answered_at < case l.verdict when 'suspect' then greatest($4, $5::timestamptz) else $4 end
      and not exists (
          select from testimonial t
          where t.shop_id = $1 and t.response_id = l.response_id and t.state = 'approved' and t.published_at >= $6
      )
),
emptied as (
    update answer set body = ''
    from due
    where not $7::boolean and answer.shop_id = $1 and answer.response_id = due.response_id and due.n_texts > 0
      and answer.body <> ''
),
taken_down as (
    delete from reply y
    using due
    where not $7 and y.shop_id = $1 and y.response_id = due.response_id and due.n_replies > 0
),
unnamed as (
    update response set display_name = null
    from due
    where not $7 and response.shop_id = $1 and response.response_id = due.response_id and due.has_name
)
select (select count(*) from looked) as "n_looked!", (select max(response_id) from looked) as last, null::bigint as last_minor,
    coalesce(sum(n_texts + n_replies), 0)::bigint as "n!", count(*) filter (where has_name) as "n_names!"
from due
