-- $1 the questions whose answers are texts
insert into staged_answer (response_id, question, score, choice, body)
select s.response_id, a.key,
       case when jsonb_typeof(a.value) = 'number' then (a.value #>> '{}')::smallint end,
       case when jsonb_typeof(a.value) = 'string' and a.key <> all ($1) then a.value #>> '{}' end,
       case when jsonb_typeof(a.value) = 'string' and a.key = any ($1) then a.value #>> '{}' end
from staged_response s
cross join lateral jsonb_each(s.answers) a
