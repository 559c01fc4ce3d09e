-- [5] Which answers may be shown. A row exists for every answer of a person who consented to publication and wrote something.

create type testimonial_state as enum ('pending', 'approved', 'rejected');

create type reject_reason as enum (
    'no_experience',   -- not about an experience with this shop
    'unlawful',        -- unlawful or insulting content
    'personal_data',   -- contact data or other people's data
    'promotional',     -- advertising, links, spam
    'contradictory',   -- score and words contradict each other
    'unintelligible',  -- cannot be understood
    'author_request'   -- the author asked for it
);

create table testimonial (
    shop_id       int not null,
    response_id   bigint not null,
    state         testimonial_state not null,
    reject_reason reject_reason,
    decided_at    timestamptz,
    published_at  timestamptz, -- when it first left in an export
    primary key (shop_id, response_id),
    foreign key (shop_id, response_id) references response,
    constraint testimonial_rejected_has_reason check ((state = 'rejected') = (reject_reason is not null)),
    constraint testimonial_decided_has_time check ((state <> 'pending') = (decided_at is not null))
);
-- The export reads the approved ones in the order of their numbers, however many there are.
create index testimonial_state_idx on testimonial (shop_id, state, response_id);

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
