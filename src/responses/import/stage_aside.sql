-- $1 shop, $2 survey, $3 its version. What was found, as if it had just been read.
insert into staged_response (
    line, "row", order_external_id, email_key, answered_at, answered_by, external_id, display_name, consent_version, answers, order_id, locale, erased)
select w.response_aside_id, w."row", w.order_external_id, w.email_key, w.answered_at, w.answered_by, w.external_id, w.display_name, w.consent_version,
       w.answers, f.order_id, f.locale, f.erased
from found_aside f
join response_aside w on w.shop_id = $1 and w.response_aside_id = f.response_aside_id
where f.survey = $2 and f.survey_version_id = $3
