-- $1 shop, $2 run, $3 survey, $4 its version, $5 now, $6 and $7 the columns of order and address. What waits already is not kept
-- twice, and nobody is brought back who was erased.
insert into response_aside (
    shop_id, import_run_id, line, "column", "row", survey, survey_version_id, order_external_id, email_key, answered_at, answered_by, external_id,
    display_name, consent_version, answers, digest, kept_at)
select distinct on (digest) $1, $2, line, case when order_external_id is null then $7 else $6 end, "row", $3, $4, order_external_id,
    email_key, answered_at, answered_by, external_id, display_name, consent_version, answers, digest, $5
from (
    -- The wording that was agreed to is the one of the day it was first imported, and does not tell two answers apart.
    select *, sha256(convert_to(jsonb_build_array(order_external_id, email_key, extract(epoch from answered_at), external_id,
        display_name, consent_version is not null, answers)::text, 'UTF8')) as digest
    from staged_response
    where order_id is null and not names_erased($1, "row")
) unmatched
order by digest, line
on conflict on constraint response_aside_digest_key do nothing
