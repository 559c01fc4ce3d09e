-- $1 shop. The rows that wait and whose order has come; see match_order_id.sql and match_address.sql.
insert into found_aside (response_aside_id, survey, survey_version_id, order_id, locale, erased)
select w.response_aside_id, w.survey, w.survey_version_id, o.order_id, o.locale, c.erased_at is not null
from response_aside w
join "order" o on o.shop_id = $1 and o.external_id = w.order_external_id
join customer c on c.shop_id = $1 and c.customer_id = o.customer_id
where w.shop_id = $1
union all
select w.response_aside_id, w.survey, w.survey_version_id, o.order_id, o.locale, false
from response_aside w
join customer c on c.shop_id = $1 and c.email_key = w.email_key
cross join lateral (
    select order_id, locale
    from "order"
    where shop_id = $1 and customer_id = c.customer_id 
      and ordered_at <= w.answered_by and ordered_at > w.answered_at - interval '180 days'
    order by ordered_at desc, order_id desc
    limit 1
) o
where w.shop_id = $1 and w.order_external_id is null
