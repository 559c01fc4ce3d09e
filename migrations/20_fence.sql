-- The fence of the jobs. A run that was taken for dead (its program was stopped for longer than its lease, or did not end when its time was
-- over) may still be there, and must not write any more. Connections of a run say which run of the ledger they work for, in the setting
-- `afterword.job_run` ("<job_run_id>/<attempt>"); connections without it belong to no run and are not asked.

-- Refuses a run that is over, and keeps the next run of the same job from beginning before this transaction has ended: `claim` in
-- src/jobs/ledger.rs takes the same lock exclusively. So no write of one run comes after the beginning of the next.
create function hold_fence() returns void language plpgsql as $$
declare
    mine text[] := string_to_array(nullif(current_setting('afterword.job_run', true), ''), '/');
begin
    if mine is null then
        return;
    end if;
    perform pg_advisory_xact_lock_shared(hashtext('job'), hashtext(job)) from job_run where job_run_id = mine[1]::bigint;
    -- A statement of its own, so that it sees what was committed while the lock was waited for. A transaction with one snapshot for all
    -- of its statements calls this function first.
    perform from job_run where job_run_id = mine[1]::bigint and attempt = mine[2]::integer and state = 'running';
    if not found then
        raise exception 'run % is over, and may not write any more', mine[1] using errcode = 'AW001';
    end if;
end $$;

create function hold_fence_of_write() returns trigger language plpgsql as $$
begin
    perform hold_fence();
    return null;
end $$;

-- Every table but the ledger itself, and sqlx's own. A table that comes later has this trigger from the migration that makes it; a test
-- looks for those that have not.
do $$
declare
    name text;
begin
    for name in
        select relname from pg_class
        where relnamespace = current_schema()::regnamespace and relkind in ('r', 'p')
            and relname not in ('job_run', 'job_tally', 'job_schedule', 'job_pause', '_sqlx_migrations')
    loop
        execute format(
            'create trigger fence before insert or update or delete or truncate on %I for each statement '
            'when (current_setting(''afterword.job_run'', true) <> '''') execute function hold_fence_of_write()',
            name
        );
    end loop;
end $$;
