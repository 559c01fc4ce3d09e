-- $1 shop, $2 survey. What is stored already, or stands further up in the same file, is not stored again.
delete from staged_response s
using (
    select line, row_number() over (
        partition by order_id, answered_at, external_id, display_name, consent_version, answers order by line) as n
    from staged_response
) repeated
where repeated.line = s.line
  and (repeated.n > 1 or exists (
      select
      from response r
      where r.shop_id = $1
        and r.order_id = s.order_id
        and r.survey = $2
        and r.answered_at = s.answered_at
        and r.external_id is not distinct from s.external_id
        and r.display_name is not distinct from s.display_name
        -- The wording that was agreed to is the one of the day it was first imported.
        and (r.consent_version is null) = (s.consent_version is null)
        and s.answers = (
            select jsonb_object_agg(a.question, coalesce(to_jsonb(a.score), to_jsonb(a.choice), to_jsonb(a.body)))
            from answer a
            where a.shop_id = $1 and a.response_id = r.response_id)))
