-- $1 shop, $2 run, $3 now, $4 the columns the file has. Orders that are there and differ.
update "order" o
set customer_id = w.customer_id, ordered_at = w.ordered_at, fulfilled_at = w.fulfilled_at, status = w.status,
    total = w.total, currency = w.currency, items = w.items, locale = w.locale, country = w.country,
    attributes = w.attributes, consent = w.consent, import_run_id = $2, updated_at = $3
from (
    select o.order_id, c.customer_id, s.ordered_at,
           case when 'fulfilled_at' = any ($4) then s.fulfilled_at else o.fulfilled_at end as fulfilled_at,
           -- Without a word for it, a delivery date makes an open order a fulfilled one and changes nothing else.
           case when 'status' = any ($4) or o.status = 'open' then s.status else o.status end as status,
           case when 'total' = any ($4) then s.total else o.total end as total,
           case when 'currency' = any ($4) then s.currency else o.currency end as currency,
           case when 'items' = any ($4) then s.items else o.items end as items,
           case when 'locale' = any ($4) then s.locale else o.locale end as locale,
           case when 'country' = any ($4) then s.country else o.country end as country,
           case when 'attributes' = any ($4) then s.attributes else o.attributes end as attributes,
           case when 'consent' = any ($4) then s.consent else o.consent end as consent
    from known_order k
    join staged_order s on s.line = k.line
    join "order" o on o.shop_id = $1 and o.order_id = k.order_id
    join customer c on c.shop_id = $1 and c.email_key = s.email_key
) w
where o.shop_id = $1
  and o.order_id = w.order_id
  and (o.customer_id, o.ordered_at, o.fulfilled_at, o.status, o.total, o.currency, o.items, o.locale, o.country, o.attributes, o.consent)
      is distinct from
      (w.customer_id, w.ordered_at, w.fulfilled_at, w.status, w.total, w.currency, w.items, w.locale, w.country, w.attributes, w.consent)
