-- $1 shop, $2 survey, $3 its version, $4 the shop's locale, $5 now. Which of them count is settled afterwards.
insert into response (
    shop_id, response_id, order_id, survey, survey_version_id, revision, counted, via, verdict, external_id, locale, answered_at,
    received_at, consent_version, display_name)
overriding system value
select $1, s.response_id, s.order_id, $2, $3, s.revision, false, 'import', 'human', s.external_id, coalesce(s.locale, $4),
       s.answered_at, $5, s.consent_version, s.display_name
from staged_response s
order by s.line
