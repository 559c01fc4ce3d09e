-- $1 shop, $2 survey. Ids in the order of the rows, and until it is settled what is counted, a number that the page never gives.
update staged_response s
set response_id = n.response_id,
    revision = -n.n,
    invited = exists (select from invitation i where i.shop_id = $1 and i.order_id = s.order_id and i.survey = $2)
from (
    select line, nextval('response_response_id_seq') as response_id, n
    from (select line, row_number() over (order by line)::int as n from staged_response order by line) in_order
) n
where n.line = s.line
