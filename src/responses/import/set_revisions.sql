-- $1 shop. See prepare.sql.
update response r
set revision = s.revision
from staged_response s
where s.invited and r.shop_id = $1 and r.response_id = s.response_id
