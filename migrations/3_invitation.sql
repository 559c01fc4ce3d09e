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
    'skipped',    -- decided against; `reason` says why, as for the last three
    'queued',     -- to be mailed
    'claimed',    -- a sender holds it under a lease; no final dot was written
    'in_data',    -- committed before the final dot: from here on the relay may have it
    'sent',       -- the relay answered 2xx
    'deferred',   -- the relay said later; due again at `next_attempt_at`
    'failed',     -- the relay said no
    'unknown',    -- nobody can know whether the relay has it; never sent again by itself
    'expired',    -- waited longer than the survey's max_lateness
    'cancelled',  -- while it waited the order was cancelled, refunded or changed, the customer answered or withdrew the consent
    'suppressed'  -- while it waited the customer opted out or was erased
);

-- Why an order is not asked, or not any more.
create type decision_reason as enum (
    'cancelled', 'refunded', 'no_address', 'bad_address', 'unsubscribed', 'suppressed', 'no_consent', 'too_late', 'answered',
    'already_asked', 'not_sampled', 'throttled', 'over_cap', 'order_changed'
);

-- One row per order, survey and wave (0 is the first mail, 1 and more are reminders): the decision and its fate. No foreign keys: the
-- statements that decide insert what they have just read, orders and customers are never deleted, and three checks a row would cost a
-- third of the time of a decision about a month's orders.
create table invitation (
    shop_id           int not null,
    invitation_id     bigint generated always as identity,
    order_id          bigint not null,
    customer_id       bigint not null,
    survey            text not null,
    wave              smallint not null,
    survey_version_id bigint not null,
    state             invitation_state not null,
    reason            decision_reason,
    due_at            timestamptz not null,
    decided_at        timestamptz not null,
    next_attempt_at   timestamptz not null,
    attempts          smallint not null default 0,
    message_id        text, -- fixed by the first attempt, the same in every later one
    claimed_by        text,
    fence             bigint not null default 0, -- grows with every claim; a sender whose fence is old cannot write
    lease_until       timestamptz, -- the database's clock
    sent_at           timestamptz,
    remind_at         timestamptz, -- when the next wave is to be decided; null: there is none, or it is decided
    primary key (shop_id, invitation_id),
    -- No customer is asked twice for the same order and wave: the database refuses.
    constraint invitation_once_key unique (shop_id, order_id, survey, wave),
    constraint invitation_given_up_has_reason check (
        (state in ('skipped', 'expired', 'cancelled', 'suppressed')) = (reason is not null)
    ),
    constraint invitation_sent_has_time check ((state = 'sent') <= (sent_at is not null))
);
-- The outbox: what waits, is in a sender's hands or unknown. With what it is counted and throttled by, so that years of unknown mails, which
-- lie all over the table, are not read again by every run.
create index invitation_open_idx on invitation (shop_id, survey, next_attempt_at, invitation_id)
    include (customer_id, order_id, wave, state)
    where state in ('queued', 'deferred', 'claimed', 'in_data', 'unknown');
-- The reminders that become due.
create index invitation_remind_idx on invitation (shop_id, survey, remind_at) where remind_at is not null;
-- The throttle asks who was mailed lately, or may have been. In the order of time, so that a new row lies beside the last one: an index by
-- customer would cost more than all the others together. Plain columns, so that the table need not be read.
create index invitation_mailed_idx on invitation (shop_id, sent_at) include (customer_id) where wave = 0 and state = 'sent';
create index invitation_perhaps_mailed_idx on invitation (shop_id, decided_at) include (customer_id, reason, due_at)
    where wave = 0 and (state = 'unknown' or reason = 'already_asked');

-- How far a survey has decided, so that a run looks at what is new and not at the whole history: every order that was due by `due_until`
-- and was written by an import up to `import_run_id` has its decision. Another rule starts from the beginning.
create table decided_until (
    shop_id       int not null references shop,
    survey        text not null,
    rule          text not null, -- trigger and delays, by which an order becomes due
    due_until     timestamptz not null,
    import_run_id bigint not null,
    day           date not null, -- in the shop's zone: the day that `n_asked` counts
    n_asked       int not null, -- first mails decided on that day, for the cap
    primary key (shop_id, survey)
);

create type attempt_outcome as enum ('sent', 'deferred', 'failed', 'unknown');

-- One row per try, written with the outcome. The relay's text is kept without addresses.
create table attempt (
    shop_id       int not null,
    invitation_id bigint not null,
    attempt       smallint not null,
    started_at    timestamptz not null,
    phase         text not null, -- connect, auth, mail, rcpt, data, body, final
    outcome       attempt_outcome not null,
    code          smallint, -- SMTP reply code
    enhanced_code text, -- RFC 3463
    text          text not null,
    primary key (shop_id, invitation_id, attempt),
    foreign key (shop_id, invitation_id) references invitation
);
-- Whether a relay's refusal says that the address does not take mail (RFC 3463); anything else is about us or the mail.
create function is_address_fault(enhanced_code text) returns boolean language sql immutable
return coalesce(enhanced_code in ('5.1.1', '5.1.2', '5.1.3', '5.1.6', '5.1.10', '5.2.1'), false);
-- The brakes look at the latest tries.
create index attempt_recent_idx on attempt (shop_id, started_at);
-- The latest tries at which a relay took or refused a mail, the latest first. They are read from the index in its order, whatever the
-- statistics say: with those of an hour in which little was mailed, every look would read and sort all that was ever mailed.
create function latest_attempts(shop int, since timestamptz, n bigint)
returns table (started_at timestamptz, outcome attempt_outcome, code smallint, enhanced_code text) language sql stable
set enable_sort = off set enable_bitmapscan = off set enable_seqscan = off
begin atomic
    select started_at, outcome, code, enhanced_code from attempt
    where shop_id = shop and started_at > since and outcome in ('sent', 'failed')
    order by started_at desc
    limit n;
end;

create type suppression_reason as enum ('unsubscribed', 'bounced', 'complained', 'manual', 'erased');

-- The do-not-contact list: SHA-256 of the address in lower case, so that it outlives an erasure without keeping the address.
-- Shop 0 is every shop, those that come later too; therefore `shop_id` is no foreign key here.
create table suppression (
    shop_id      int not null,
    address_hash bytea not null,
    reason       suppression_reason not null,
    created_at   timestamptz not null,
    primary key (shop_id, address_hash)
);

-- What came back by mail about a mail of ours.
create type bounce_kind as enum (
    'hard',       -- the address does not take mail; it is suppressed
    'soft',       -- not now
    'delayed',    -- still being tried; says nothing yet
    'complaint',  -- the recipient called the mail spam; the address is suppressed
    'auto_reply', -- a vacation note and the like
    'other'
);

create table bounce (
    shop_id       int not null,
    bounce_id     bigint generated always as identity,
    invitation_id bigint not null,
    digest        bytea not null, -- SHA-256 of the message, so that a message that is read again counts once
    kind          bounce_kind not null,
    status        text, -- RFC 3463
    reason        text not null, -- in the reporter's words, without addresses
    received_at   timestamptz not null,
    primary key (shop_id, bounce_id),
    constraint bounce_digest_key unique (shop_id, digest),
    foreign key (shop_id, invitation_id) references invitation
);
create index bounce_invitation_idx on bounce (shop_id, invitation_id);
create index bounce_received_idx on bounce (shop_id, received_at);

-- What is known of a relay, for all who send through it: the breaker and the rate.
create table relay (
    relay           text primary key, -- host:port
    n_faults        int not null default 0, -- in a row
    failing_since   timestamptz, -- when the first of these was
    last_fault      text, -- without addresses
    next_probe_at   timestamptz, -- the breaker is open, and then one connection tries one mail; null: it is closed
    probe_after     interval, -- the pause before the next probe; doubles with each that fails
    rate_per_minute float8, -- what it was set to when the relay said "too many"; null: what jobs.toml says
    full_rate       float8, -- what it was before, and grows back to
    rate_changed_at timestamptz, -- the database's clock, as for the tokens
    tokens          float8 not null default 1, -- mails that may leave now
    refilled_at     timestamptz not null default clock_timestamp(),
    constraint relay_open_is_complete check (
        (next_probe_at is null) = (probe_after is null) and (next_probe_at is null or failing_since is not null)
    ),
    constraint relay_rate_is_complete check (num_nulls(rate_per_minute, full_rate, rate_changed_at) in (0, 3))
);

-- Which database this is. A restored or copied one does not send until somebody says that it is the one (`afterword adopt`).
create table installation (
    is_only     boolean primary key default true constraint installation_is_only check (is_only),
    fingerprint text not null, -- server and database, as the server names them
    mark        bigint not null, -- grows with every run that sends; a copy lies outside the database, and is never ahead of it
    adopted_at  timestamptz not null,
    asked_until timestamptz -- orders that were due by then may have been asked by a past that was lost with a restore
);
