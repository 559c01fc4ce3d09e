-- [2] Who is asked, and what became of the asking.

-- The questionnaire as it was when it was asked. An answer belongs to a version; changing a survey in jobs.toml starts a new one.
create table survey_version (
    shop_id           int not null references shop,
    survey_version_id bigint generated always as identity,
    survey            text not null,
    digest            bytea not null, -- SHA-256 of the questionnaire
    questionnaire     jsonb not null,
    created_at        timestamptz not null,
    primary key (shop_id, survey_version_id),
    constraint survey_version_digest_key unique (shop_id, survey, digest)
);

create type invitation_state as enum (
    'skipped',    -- decided against; `skip_reason` says why
    'queued',     -- to be mailed
    'claimed',    -- a sender holds it under a lease; no final dot was written
    'in_data',    -- committed before the final dot: from here on the relay may have it
    'sent',       -- the relay answered 2xx
    'deferred',   -- the relay said later; due again at `next_attempt_at`
    'failed',     -- the relay said no
    'unknown',    -- nobody can know whether the relay has it; never sent again by itself
    'expired',    -- waited longer than the survey's max_lateness
    'cancelled',  -- the order was cancelled or refunded while it waited
    'suppressed'  -- the customer opted out while it waited
);

create type skip_reason as enum (
    'cancelled', 'refunded', 'erased', 'unsubscribed', 'suppressed', 'too_late', 'not_sampled', 'throttled'
);

-- One row per order, survey and wave (0 is the first mail): the decision and its fate.
create table invitation (
    shop_id           int not null,
    invitation_id     bigint generated always as identity,
    order_id          bigint not null,
    customer_id       bigint not null,
    survey            text not null,
    wave              smallint not null,
    survey_version_id bigint not null,
    state             invitation_state not null,
    skip_reason       skip_reason,
    due_at            timestamptz not null,
    decided_at        timestamptz not null,
    next_attempt_at   timestamptz not null,
    attempts          smallint not null default 0,
    message_id        text, -- fixed by the first attempt, the same in every later one
    claimed_by        text,
    fence             bigint not null default 0, -- grows with every claim; a sender whose fence is old cannot write
    lease_until       timestamptz, -- the database's clock
    sent_at           timestamptz,
    primary key (shop_id, invitation_id),
    -- No customer is asked twice for the same order and wave: the database refuses.
    constraint invitation_once_key unique (shop_id, order_id, survey, wave),
    foreign key (shop_id, order_id) references "order",
    foreign key (shop_id, customer_id) references customer,
    foreign key (shop_id, survey_version_id) references survey_version,
    constraint invitation_skipped_has_reason check ((state = 'skipped') = (skip_reason is not null)),
    constraint invitation_sent_has_time check ((state = 'sent') <= (sent_at is not null))
);
-- The outbox: what waits or is in a sender's hands.
create index invitation_open_idx on invitation (shop_id, survey, next_attempt_at, invitation_id)
    where state in ('queued', 'deferred', 'claimed', 'in_data', 'unknown');
-- The throttle asks when a customer was last asked.
create index invitation_customer_idx on invitation (shop_id, customer_id, decided_at) where state <> 'skipped';

-- How far a survey has decided, so that a run looks at what is new and not at the whole history: every order that was due by `due_until`
-- and was written by an import up to `import_run_id` has its decision. Another trigger or delay starts from the beginning.
create table decided_until (
    shop_id       int not null references shop,
    survey        text not null,
    trigger       text not null,
    delay         interval not null,
    due_until     timestamptz not null,
    import_run_id bigint not null,
    primary key (shop_id, survey)
);

create type attempt_outcome as enum ('sent', 'deferred', 'failed', 'unknown');

-- One row per try, written with the outcome. The relay's text is kept without addresses.
create table attempt (
    shop_id       int not null,
    invitation_id bigint not null,
    attempt       smallint not null,
    started_at    timestamptz not null,
    phase         text not null, -- connect, greeting, mail, rcpt, data, body, final
    outcome       attempt_outcome not null,
    code          smallint, -- SMTP reply code
    enhanced_code text, -- RFC 3463
    text          text not null,
    primary key (shop_id, invitation_id, attempt),
    foreign key (shop_id, invitation_id) references invitation
);

create type suppression_reason as enum ('unsubscribed', 'bounced', 'manual');

-- The do-not-contact list: SHA-256 of the address in lower case, so that it outlives an erasure without keeping the address.
create table suppression (
    shop_id      int not null references shop,
    address_hash bytea not null,
    reason       suppression_reason not null,
    created_at   timestamptz not null,
    primary key (shop_id, address_hash)
);
