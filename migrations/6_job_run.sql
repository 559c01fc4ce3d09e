-- The ledger of the jobs. One row per occurrence decides who runs it; the scheduler's memory never does.

create type job_trigger as enum ('schedule', 'hand', 'request');
create type job_run_state as enum ('running', 'done', 'partial', 'failed', 'skipped', 'interrupted');

create table job_run (
    job_run_id    bigint generated always as identity primary key,
    job           text not null,
    scheduled_for timestamptz not null, -- of a run by hand or on request: when it was asked for
    trigger       job_trigger not null,
    asked_by      text, -- the access ([[access]] of jobs.toml) that asked for it over HTTP
    request_key   text, -- by which that access tells a request that it sends again from a new one
    state         job_run_state not null,
    attempt       integer not null default 1, -- grows when an interrupted run is taken over: the fence
    reason        text, -- why it was skipped, how it failed
    n_occurrences integer not null default 1, -- how many it stands for: of those that were skipped in a row, a long absence leaves one row
    first_for     timestamptz, -- the first of these; null: it stands for itself
    owner         text not null, -- the process that runs it, on which machine, and its hold (src/process.rs)
    lease_until   timestamptz, -- the database's clock; past it, the owner counts as dead
    started_at    timestamptz not null,
    finished_at   timestamptz,
    progress      jsonb, -- how far it was at its last sign of life
    report        jsonb,
    -- Whichever of several instances comes first has the occurrence; the others are refused here.
    constraint job_run_occurrence_key unique (job, scheduled_for),
    -- A request that is sent again finds the run that it began.
    constraint job_run_request_key unique (job, asked_by, request_key),
    constraint job_run_asked_by_if_requested check ((trigger = 'request') = (asked_by is not null)),
    constraint job_run_finished_unless_running check ((state = 'running') = (finished_at is null)),
    constraint job_run_only_skips_are_many check (n_occurrences = 1 or n_occurrences > 1 and state = 'skipped'),
    constraint job_run_many_have_a_first check ((n_occurrences > 1) = (first_for is not null)),
    constraint job_run_running_has_lease check ((state = 'running') = (lease_until is not null))
);
-- A job runs once at a time, as a fact of the database.
create unique index job_run_running_key on job_run (job) where state = 'running';
create index job_run_recent_idx on job_run (job, started_at desc);
create index job_run_started_idx on job_run (started_at desc);

-- What the rows say together, so that nobody has to read them all, and `purge` can let go of old ones: a row for each job, trigger and
-- state. Every end counts: an occurrence that was interrupted and begun anew is counted again when it ends, so that nothing falls.
create table job_tally (
    job        text not null,
    trigger    job_trigger not null,
    state      job_run_state not null,
    n          bigint not null, -- occurrences that ended so
    seconds    double precision not null, -- how long they took together
    last_run   bigint not null, -- the row of the last of them, which stays
    last_at    timestamptz not null, -- when it ended
    gone_until timestamptz, -- the latest occurrence whose row was let go of: what was due up to then is settled
    primary key (job, trigger, state)
);

create function tally_job_run() returns trigger language plpgsql as $$
begin
    insert into job_tally as t (job, trigger, state, n, seconds, last_run, last_at)
    values (new.job, new.trigger, new.state, new.n_occurrences,
        -- A clock that was set back during the run makes no sum fall.
        greatest(0, extract(epoch from new.finished_at - new.started_at)), new.job_run_id, new.finished_at)
    on conflict (job, trigger, state) do update
    set n = t.n + excluded.n, seconds = t.seconds + excluded.seconds, last_run = excluded.last_run,
        last_at = excluded.last_at;
    return null;
end $$;

create trigger tally_inserted after insert on job_run
for each row when (new.state <> 'running') execute function tally_job_run();
create trigger tally_settled after update of state on job_run
for each row when (new.state <> 'running' and new.state <> old.state) execute function tally_job_run();

-- When a job's schedule was first seen as it is now. Catching up never goes further back, so that a changed schedule invents no past runs.
create table job_schedule (
    job        text primary key,
    schedule   text not null,
    timezone   text not null,
    since      timestamptz not null
);

-- A job that does not run until somebody says so: paused by hand, or by a brake of its own. The row stays when it is resumed, because
-- the brakes look only at what happened since.
create table job_pause (
    job        text primary key,
    reason     text not null,
    paused_at  timestamptz not null,
    resumed_at timestamptz -- null: it is paused
);
