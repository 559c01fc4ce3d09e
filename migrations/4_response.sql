-- [3] What came back. Append-only: a changed answer is a new revision, and at most one revision counts.

create type response_via as enum ('page', 'import');
create type verdict as enum ('human', 'suspect');

-- Why a submission is taken for a program's.
create type suspicion as enum (
    'trapped',           -- the field that nobody can see was filled in
    'proof_missing',     -- the form was not fetched before it was sent
    'proof_foreign',     -- the proof is not ours, or of another invitation or form
    'proof_reused',      -- the form had been sent before, with something else in it
    'proof_stale',       -- the form was too old
    'too_fast',          -- sent sooner than a person can read the form
    'unconfirmed',       -- sent once more, without the tick of a person
    'too_early',         -- sent sooner than a person can have read the mail
    'scanner_agent',     -- the program says that it is a scanner
    'probed',            -- HEAD or OPTIONS on a link of the mail, in the same visit
    'many_links',        -- several links of the mail opened within seconds
    'different_answers', -- another answer was sent within seconds
    'other_answer'       -- would change the answer that counts, by another link of the mail
);

-- How authors are named; see [testimonials] display_name in jobs.toml.
create type display_name_rule as enum ('first_name_initial', 'first_name', 'anonymous', 'as_given');

-- No foreign keys to orders, versions and invitations, as for invitations: the statements that write insert what they have just read and
-- hold, none of it is ever deleted, and the checks would cost as much as the row; the one of the version would make all writers lock the
-- same row.
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
    suspicion         suspicion, -- why it is suspect
    form_nonce        bigint, -- which form was sent, so that it is known when it is sent again; null: none of ours
    external_id       text, -- the other tool's id, of an imported answer
    locale            text not null,
    answered_at       timestamptz not null, -- when the customer answered
    received_at       timestamptz not null, -- when we stored it
    consent_version   text, -- which wording of the consent was agreed to; null: no consent to publish
    display_name      text, -- the name the author wants to appear under, if one was given
    display_name_rule display_name_rule, -- how the page said the author would be named when the consent was given; null: no page said
    primary key (shop_id, response_id),
    constraint response_revision_key unique (shop_id, order_id, survey, revision),
    constraint response_only_people_count check (not counted or verdict = 'human'),
    constraint response_suspicion_is_of_suspects check (suspicion is null or verdict = 'suspect')
);
-- At most one answer counts per order and survey: the database refuses a second.
create unique index response_counted_key on response (shop_id, order_id, survey) where counted;
-- Few are sent more than once, and figures have to know which.
create index response_later_idx on response (shop_id, order_id, survey) where revision > 1;

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

create type hit_method as enum ('get', 'head', 'options', 'post', 'other');
create type hit_page as enum ('survey', 'thanks', 'withdrawal', 'unsubscribe');
create type agent_family as enum ('browser', 'phone', 'scanner', 'tool', 'none', 'other');

-- Who opened which link, with what kind of program. A note about a visit, by which scanners are told from people: it is no answer and no
-- state, and one that is lost changes nothing. No address, and not what the program calls itself. No foreign key: notes are written in
-- bulk, and each is of a link that we made.
create table hit (
    shop_id       int not null,
    invitation_id bigint not null,
    hit_id        bigint generated always as identity,
    at            timestamptz not null,
    method        hit_method not null,
    page          hit_page not null,
    answer        text, -- the answer that the link carries, as 'recommend=yes'
    agent         agent_family not null,
    primary key (shop_id, invitation_id, hit_id)
);
-- How many notes about an invitation were not kept, because there are enough.
create table hit_dropped (
    shop_id       int not null,
    invitation_id bigint not null,
    n             bigint not null,
    primary key (shop_id, invitation_id)
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
