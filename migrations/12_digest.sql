-- What the shop's own people were told each day about how it went.

create table digest (
    digest_id       bigint generated always as identity primary key,
    from_at         timestamptz not null,
    until_at        timestamptz not null,
    last_run        bigint not null, -- up to which row of the ledger it tells
    open_runs       bigint[] not null, -- those that had not ended by then, for the next one
    is_good         boolean not null,
    contents        jsonb not null, -- figures, and reasons without addresses
    is_told         boolean not null default false, -- somebody has got it, or nobody is to; otherwise the next one tells it again
    heartbeat_at    timestamptz, -- when the dead man's switch was told that all is well
    heartbeat_fault text, -- why it could not be told
    constraint digest_heart_beats_on_good_days check (heartbeat_at is null or is_good)
);
