-- $1 shop, $2 state or null, $3 changed since or null (what never left is always among them), $4 also those of another state that have left
-- before, $5 this one or null, $6 only what still waits, $7 how long what was published stays so, or null, $8 now, $9 at most so many or null
select t.response_id as "id: ResponseId",
       t.state as "state: TestimonialState",
       t.reject_reason as "reject_reason: RejectReason",
       t.by_rules,
       t.decided_at,
       t.published_at,
       r.counted,
       r.verdict = 'human' as "human!",
       r.survey_version_id as "version: SurveyVersionId",
       r.locale,
       r.answered_at,
       r.received_at,
       r.consent_version,
       r.display_name as given_name,
       -- An imported answer is named as its file says, or not at all: no page has told its author how.
       coalesce(r.display_name_rule, case when r.via = 'import' then
           case when r.display_name is null then 'anonymous' else 'as_given' end::display_name_rule end) as "agreed_names: DisplayName",
       o.external_id as "order",
       o.status as "order_status: OrderStatus",
       o.ordered_at,
       o.fulfilled_at,
       o.country,
       o.items,
       o.customer_id as "customer: CustomerId",
       c.first_name,
       c.last_name,
       c.erased_at is not null as "erased!",
       changed.at as "changed_at!",
       exists (
           select from invitation i
           where i.shop_id = r.shop_id and i.invitation_id = r.invitation_id and i.customer_id <> o.customer_id
       ) as "of_another!",
       coalesce(a.questions, '{}') as "questions!",
       coalesce(a.scores, '{}') as "scores!: Vec<Option<i16>>",
       coalesce(a.choices, '{}') as "choices!: Vec<Option<String>>",
       coalesce(a.bodies, '{}') as "bodies!: Vec<Option<String>>",
       said.body as "reply?",
       said.replied_at as "replied_at?",
       said.revision as "reply_revision?"
from testimonial t
join response r using (shop_id, response_id)
join "order" o using (shop_id, order_id)
join customer c using (shop_id, customer_id)
cross join lateral (
    select array_agg(question) as questions, array_agg(score) as scores,
           array_agg(choice) as choices, array_agg(body) as bodies
    from answer
    where answer.shop_id = t.shop_id and answer.response_id = t.response_id
) as a
left join (
    select distinct on (response_id) response_id, body, replied_at, revision
    from reply
    where shop_id = $1
    order by response_id, revision desc
) said on said.response_id = t.response_id
cross join lateral (
    select greatest(t.decided_at, r.received_at, c.erased_at, o.updated_at, said.replied_at, case when not r.counted then (
        select max(later.received_at)
        from response later
        where later.shop_id = r.shop_id and later.order_id = r.order_id and later.survey = r.survey and later.counted
    ) end, case when t.published_at + $7::interval <= $8::timestamptz then t.published_at + $7 end) as at
) as changed
where t.shop_id = $1
  and ($2::testimonial_state is null or t.state = $2 or ($4 and t.published_at is not null))
  and ($3::timestamptz is null or t.published_at is null or changed.at >= $3)
  and ($5::bigint is null or t.response_id = $5)
  and (not $6 or t.state = 'pending' or t.state = 'approved' and t.published_at is null)
order by t.response_id
limit $9
