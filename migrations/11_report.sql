-- [4] Who was sent which report.

create type report_delivery_state as enum (
    'in_data', -- committed before the final dot; of a run that has ended: nobody knows
    'sent',    -- the relay's 2xx
    'failed',  -- the relay refused, or did not take it; the same run may try again
    'unknown'  -- the relay did not answer the final dot
);

-- One row per run of the job and recipient, written before the mail leaves: nobody gets the report of an occurrence twice, and what cannot
-- be known is not sent again. The next occurrence has a report of its own.
create table report_delivery (
    job_run_id     bigint not null, -- no foreign key: `purge` lets go of a run only when it has let go of its letters
    recipient_hash bytea not null, -- SHA-256 of the address in lower case
    job            text not null, -- its name in jobs.toml
    shops          text[] not null, -- the keys of the shops that the report is about
    as_of          timestamptz not null, -- the moment that it is about: the next report says what has changed since the last that arrived
    state          report_delivery_state not null,
    message_id     text not null,
    begun_at       timestamptz not null,
    settled_at     timestamptz,
    fault          text, -- what went wrong, without addresses
    primary key (job_run_id, recipient_hash),
    constraint report_delivery_settled_unless_in_data check ((state = 'in_data') = (settled_at is null))
);
