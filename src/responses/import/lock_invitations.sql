-- $1 shop, $2 survey
select from invitation
where shop_id = $1 and survey = $2 and order_id in (select order_id from staged_response where invited)
order by invitation_id
for no key update
