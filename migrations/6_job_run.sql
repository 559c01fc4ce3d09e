-- The ledger of the jobs. One row per occurrence decides who runs it; the scheduler's memory never does.

create type job_trigger as enum ('schedule', 'hand');
create type job_run_state as enum ('running', 'done', 'partial', 'failed', 'skipped', 'interrupted');

create table job_run (
    job_run_id    bigint generated always as identity primary key,
    job           text not null,
    scheduled_for timestamptz not null, -- of a run by hand: when it was asked for
    trigger       job_trigger not null,
    state         job_run_state not null,
    attempt       integer not null default 1, -- grows when an interrupted run is taken over: the fence
    reason        text, -- why it was skipped, how it failed
    owner         text not null, -- host and process that runs it
    lease_until   timestamptz, -- the database's clock; past it, the owner counts as dead
    started_at    timestamptz not null,
    finished_at   timestamptz,
    report        jsonb,
    -- Whichever of several instances comes first has the occurrence; the others are refused here.
    constraint job_run_occurrence_key unique (job, scheduled_for),
    constraint job_run_finished_unless_running check ((state = 'running') = (finished_at is null)),
    constraint job_run_running_has_lease check ((state = 'running') = (lease_until is not null))
);
-- A job runs once at a time, as a fact of the database.
create unique index job_run_running_key on job_run (job) where state = 'running';
create index job_run_recent_idx on job_run (job, started_at desc);

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
