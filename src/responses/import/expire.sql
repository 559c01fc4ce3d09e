-- $1 shop, $2 kept before then, $3 and $4 the reasons: of a row that names an order, of one that names an address. They become rejects of
-- the run that read them.
with expired as (
    delete from response_aside
    where shop_id = $1 and kept_at < $2
    returning import_run_id, line, "column", "row", case when order_external_id is null then $4::text else $3::text end as reason
),
recorded as (
    insert into import_reject (shop_id, import_run_id, line, "column", reason, "row")
    select $1, import_run_id, line, "column", reason, "row"
    from expired e
    where exists (select from import_run r where r.shop_id = $1 and r.import_run_id = e.import_run_id)
)
select line, "column", reason as "reason!", count(*) over () as "n!"
from expired
order by import_run_id, line
limit 20
