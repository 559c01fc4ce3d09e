-- $1 shop, $2 survey, $3 those of orders with an invitation, or the others
update staged_response s
set revision = n.revision
from (
    select t.line,
           row_number() over (partition by t.order_id order by t.line) + coalesce((
               select max(r.revision) from response r
               where r.shop_id = $1 and r.order_id = t.order_id and r.survey = $2 and r.revision > 0), 0) as revision
    from staged_response t
    where t.invited = $3
) n
where n.line = s.line
