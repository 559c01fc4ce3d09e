-- $1 shop, $2 run, $3 now, $4 the columns the file has. Orders that are there and differ (find_known.sql says in what).
update "order" o
set customer_id = c.customer_id,
    ordered_at = s.ordered_at,
    fulfilled_at = case when 'fulfilled_at' = any ($4) then s.fulfilled_at else o.fulfilled_at end,
    status = case when 'status' = any ($4) or o.status = 'open' then s.status else o.status end,
    total = case when 'total' = any ($4) then s.total else o.total end,
    currency = case when 'currency' = any ($4) then s.currency else o.currency end,
    items = case when 'items' = any ($4) then s.items else o.items end,
    locale = case when 'locale' = any ($4) then s.locale else o.locale end,
    country = case when 'country' = any ($4) then s.country else o.country end,
    attributes = case when 'attributes' = any ($4) then s.attributes else o.attributes end,
    consent = case when 'consent' = any ($4) then s.consent else o.consent end,
    import_run_id = $2,
    updated_at = $3
from known_order k
join staged_order s on s.line = k.line
join customer c on c.shop_id = $1 and c.email_key = s.email_key
where o.shop_id = $1 and o.order_id = k.order_id and k.order_differs
