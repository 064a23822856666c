-- What jobs of pg_cron call, where the extension is in this database: DETACH CONCURRENTLY bears no function, so each is a job
-- lock: none
-- second run: changes nothing

-- Make a job of each statement of the queue, which pg_cron runs within a minute, and take those away that are done.
create or replace function rehearsal.lifecycle_dispatch() returns void
-- Each role sees its own jobs by a policy of pg_cron.
language plpgsql volatile set search_path = pg_catalog, pg_temp set row_security = on
as $$
declare
    wanted text[] := array(select q from rehearsal.lifecycle_queue() as q); job record; statement text;
begin
    for job in
        select j.jobid, j.command from cron.job as j
        where starts_with(j.jobname, 'pg-lifecycle detach ') and j.database = current_database() and j.username = current_user
              -- One that waits for an old transaction is at work still; beside it the same would only fail.
              and not exists (select from pg_stat_activity as a where a.state = 'active' and a.query = j.command)
    loop
        if job.command <> all (wanted) then
            perform cron.unschedule(job.jobid);
        end if;
    end loop;
    foreach statement in array wanted loop
        if not exists (select from cron.job as j where j.command = statement and j.username = current_user) then
            perform cron.schedule('pg-lifecycle detach ' || md5(statement), '* * * * *', statement);
        end if;
    end loop;
end
$$;
