-- [3] What came back. Append-only: a changed answer is a new revision, and at most one revision counts.

create type response_via as enum ('page', 'import');
create type verdict as enum ('human', 'suspect');

-- How authors are named; see [testimonials] display_name in jobs.toml.
create type display_name_rule as enum ('first_name_initial', 'first_name', 'anonymous', 'as_given');

create table response (
    shop_id           int not null,
    response_id       bigint generated always as identity,
    order_id          bigint not null,
    survey            text not null,
    survey_version_id bigint not null,
    invitation_id     bigint, -- null: came by file, no mail of ours
    revision          int not null, -- 1, 2, … per order and survey, in the order of arrival
    counted           boolean not null,
    via               response_via not null,
    verdict           verdict not null,
    external_id       text, -- the other tool's id, of an imported answer
    locale            text not null,
    answered_at       timestamptz not null, -- when the customer answered
    received_at       timestamptz not null, -- when we stored it
    consent_version   text, -- which wording of the consent was agreed to; null: no consent to publish
    display_name      text, -- the name the author wants to appear under, if one was given
    display_name_rule display_name_rule, -- how the page said the author would be named when the consent was given; null: no page said
    primary key (shop_id, response_id),
    constraint response_revision_key unique (shop_id, order_id, survey, revision),
    foreign key (shop_id, order_id) references "order",
    foreign key (shop_id, survey_version_id) references survey_version,
    foreign key (shop_id, invitation_id) references invitation,
    constraint response_only_people_count check (not counted or verdict = 'human')
);
-- At most one answer counts per order and survey: the database refuses a second.
create unique index response_counted_key on response (shop_id, order_id, survey) where counted;
create index response_answered_idx on response (shop_id, survey, answered_at) where counted;

create table answer (
    shop_id     int not null,
    response_id bigint not null,
    question    text not null, -- its key in the questionnaire of the response's version
    score       smallint, -- rating (1 to 5), nps (0 to 10)
    choice      text, -- recommend (yes, no), choice
    body        text, -- text; kept as it was written
    primary key (shop_id, response_id, question),
    foreign key (shop_id, response_id) references response,
    constraint answer_has_one_value check (num_nonnulls(score, choice, body) = 1)
);

-- Why a mail must not leave, or must not be followed by a reminder, as things stand now; null: nothing is against it. Who waits, who is
-- about to be mailed and who is to be reminded are judged by this one view. What depends on the survey's rules or on the moment is not in
-- it: whether a delivery and a consent are demanded, and whether it is too late.
create view obstacle as
select i.shop_id, i.invitation_id, o.ordered_at, o.fulfilled_at, o.country, o.consent,
    case
        when o.status = 'cancelled' then 'cancelled'
        when o.status = 'refunded' then 'refunded'
        when o.customer_id <> i.customer_id then 'order_changed'
        when c.email is null then 'no_address'
        when 'unsubscribed' in (s.reason, everywhere.reason) then 'unsubscribed'
        when coalesce(s.reason, everywhere.reason) is not null then 'suppressed'
        when exists (
            select from response r
            where r.shop_id = i.shop_id and r.order_id = i.order_id and r.survey = i.survey and r.counted
        ) then 'answered'
    end::decision_reason as reason
from invitation i
join "order" o using (shop_id, order_id)
join customer c on c.shop_id = i.shop_id and c.customer_id = i.customer_id
left join suppression s on s.shop_id = i.shop_id and s.address_hash = sha256(convert_to(c.email_key, 'UTF8'))
left join suppression everywhere
    on everywhere.shop_id = 0 and everywhere.address_hash = sha256(convert_to(c.email_key, 'UTF8'));
