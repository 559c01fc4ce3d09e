-- $1 shop, $2 run, $3 now. Orders that are not there yet.
insert into "order" (
    shop_id, external_id, customer_id, ordered_at, fulfilled_at, status, total, currency, items, locale, country,
    attributes, consent, import_run_id, imported_at, updated_at)
select $1, s.external_id, c.customer_id, s.ordered_at, s.fulfilled_at, s.status, s.total, s.currency, s.items,
       s.locale, s.country, s.attributes, s.consent, $2, $3, $3
from staged_order s
join customer c on c.shop_id = $1 and c.email_key = s.email_key
where not exists (select from known_order k where k.line = s.line)
