-- $1 behind this run, $2 so many. Rows of the ledger that ended before $3. What they say together stays in the tally; so do the last row of
-- each job, trigger and state, the last occurrence of its schedule, by which the next is planned, and what a letter from $4 on refers to. $5
-- only counts.
with looked as materialized (
    select job_run_id, job, trigger, state, scheduled_for, finished_at
    from job_run
    where job_run_id > $1
    order by job_run_id
    limit $2
),
-- Once for each job: on the way to it may lie all that was run by hand since.
planned as materialized (
    select job, (select max(r.scheduled_for) from job_run r where r.job = j.job and r.trigger = 'schedule') as last
    from (select distinct job from looked) j
),
due as materialized (
    select job_run_id, job, trigger, state, scheduled_for
    from looked l
    -- Where the clock was ahead, an occurrence is later than its end. It stays, or all that is due up to then would count as settled.
    where finished_at < $3
      and scheduled_for < $3
      and not exists (select from job_tally t where t.last_run = l.job_run_id)
      and not exists (select from report_delivery d where d.job_run_id = l.job_run_id and d.begun_at >= $4)
      and (trigger <> 'schedule' or scheduled_for < (select p.last from planned p where p.job = l.job))
),
noted as (
    update job_tally t
    set gone_until = greatest(t.gone_until, gone.until)
    from (select job, trigger, state, max(scheduled_for) as until from due group by job, trigger, state) as gone
    where not $5::boolean and (t.job, t.trigger, t.state) = (gone.job, gone.trigger, gone.state)
),
gone as (
    delete from job_run r
    using due
    where not $5::boolean and r.job_run_id = due.job_run_id and r.state <> 'running'
)
select (select count(*) from looked) as "n_looked!", (select max(job_run_id) from looked) as last, null::bigint as last_minor,
    count(*) as "n!", 0::bigint as "n_names!"
from due
