-- [5] Which answers may be shown. A row exists for every answer of a person who consented to publication and wrote something.

create type testimonial_state as enum (
    'pending',   -- nobody has decided yet
    'approved',
    'rejected',  -- by the shop, for one of the reasons below
    'withdrawn'  -- by its author; nobody can approve it again
);

-- Why words may be refused: the grounds that ISO 20488 and the French consumer code (D111-18) know. A low score is none.
create type reject_reason as enum (
    'no_experience',   -- not about an experience with this shop
    'unlawful',        -- unlawful or insulting content
    'personal_data',   -- contact data or other people's data
    'promotional',     -- advertising, links, spam
    'contradictory',   -- score and words contradict each other
    'unintelligible'   -- cannot be understood
);

create table testimonial (
    shop_id       int not null,
    response_id   bigint not null,
    state         testimonial_state not null,
    reject_reason reject_reason,
    decided_at    timestamptz,
    by_rules      boolean not null default false, -- approved because no rule flagged it, and jobs.toml says that this is enough
    published_at  timestamptz, -- when it first left in an export
    primary key (shop_id, response_id),
    foreign key (shop_id, response_id) references response,
    constraint testimonial_rejected_has_reason check ((state = 'rejected') = (reject_reason is not null)),
    constraint testimonial_decided_has_time check ((state <> 'pending') = (decided_at is not null)),
    constraint testimonial_rules_only_approve check (not by_rules or state = 'approved')
);
-- The export reads the approved ones in the order of their numbers, however many there are.
create index testimonial_state_idx on testimonial (shop_id, state, response_id);
-- Few wait, however many are published.
create index testimonial_waiting_idx on testimonial (shop_id, response_id) where state in ('pending', 'approved') and published_at is null;

-- What the shop answers to an author, in public. Append-only: the latest revision stands. It belongs to the words it answers, and stays with
-- them when their author writes others.
create table reply (
    shop_id     int not null,
    response_id bigint not null,
    revision    int not null, -- 1, 2, … per testimonial
    body        text, -- as it was written; null: the reply was taken down
    replied_at  timestamptz not null,
    primary key (shop_id, response_id, revision),
    foreign key (shop_id, response_id) references testimonial,
    constraint reply_has_words check (body <> '')
);

create type rejection_state as enum (
    'queued',
    'in_data',   -- committed before the final dot
    'sent',      -- the relay said 2xx
    'failed',    -- given up
    'unknown',   -- nobody can know; it is not sent again
    'cancelled', -- somebody decided otherwise before it left
    'unmailable' -- the author may not or cannot be written to; fault says why
);

-- Authors are told why their words are not published: a row for each reason, written in the transaction that rejects.
create table rejection (
    shop_id       int not null,
    response_id   bigint not null,
    reason        reject_reason not null,
    state         rejection_state not null default 'queued',
    queued_at     timestamptz not null,
    attempts      smallint not null default 0,
    next_try_at   timestamptz not null,
    claimed_by    text,
    lease_until   timestamptz, -- the database's clock
    settled_at    timestamptz,
    fault         text, -- what went wrong last, without addresses
    primary key (shop_id, response_id, reason), -- nobody is told the same twice
    foreign key (shop_id, response_id) references testimonial
);
create index rejection_open_idx on rejection (shop_id, next_try_at) where state in ('queued', 'in_data');

-- Why such a mail must not leave, as things stand now; null: nothing is against it. `moot`: there is nothing to tell any more. Who is about
-- to be told is judged by this one view, when the mail is taken up and once more before its final dot.
create view rejection_obstacle as
select j.shop_id, j.response_id, j.reason,
    t.state <> 'rejected' or t.reject_reason <> j.reason or not r.counted as moot,
    case
        when c.email is null then 'the customer was erased'
        when i.customer_id <> o.customer_id then 'the order is another customer''s now'
        when exists (
            select from suppression s
            where s.shop_id in (0, j.shop_id) and s.address_hash = sha256(convert_to(c.email_key, 'UTF8'))
        ) then 'the customer may not be written to'
    end as unmailable
from rejection j
join testimonial t using (shop_id, response_id)
join response r using (shop_id, response_id)
join "order" o using (shop_id, order_id)
join customer c on c.shop_id = o.shop_id and c.customer_id = o.customer_id
left join invitation i on i.shop_id = r.shop_id and i.invitation_id = r.invitation_id;

-- What left, when, and how much of it.
create table export_run (
    shop_id       int not null references shop,
    export_run_id bigint generated always as identity,
    kind          text not null,
    format        text not null,
    n_rows        bigint not null,
    destination   text not null, -- the file, - for standard output, or who has taken it: access <name>
    created_at    timestamptz not null,
    primary key (shop_id, export_run_id)
);
