-- $1 shop, $2 run. Events that are not there yet.
insert into order_event (shop_id, order_id, event, external_id, happened_at, import_run_id)
select $1, order_id, event, external_id, happened_at, $2
from staged_event
where order_id is not null
order by line
on conflict on constraint order_event_once_key do nothing
