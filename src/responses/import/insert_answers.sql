-- $1 shop, $2 survey, $3 the questions whose answers are texts
insert into answer (shop_id, response_id, question, score, choice, body)
select $1, r.response_id, a.key,
       case when jsonb_typeof(a.value) = 'number' then (a.value #>> '{}')::smallint end,
       case when jsonb_typeof(a.value) = 'string' and a.key <> all ($3) then a.value #>> '{}' end,
       case when jsonb_typeof(a.value) = 'string' and a.key = any ($3) then a.value #>> '{}' end
from staged_response s
join response r on r.shop_id = $1 and r.order_id = s.order_id and r.survey = $2 and r.revision = s.revision
cross join lateral jsonb_each(s.answers) a
