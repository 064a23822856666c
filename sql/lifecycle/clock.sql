-- What a clock without Python calls: procedures of schema rehearsal that do what the functions decide
-- lock: as the statements of lifecycle_to_make and lifecycle_to_retire, each in a transaction of its own, within 40 attempts
-- second run: replaces the procedures by themselves

-- Statements that bear no transaction, for whoever sends them one by one (\gexec of psql, a job of pg_cron): what is pending
-- first, then what was noted as to be detached.
create or replace function rehearsal.lifecycle_queue() returns setof text
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select format('alter table %s detach partition %s.%I %s', f.parent, quote_ident(f.schema), f.name,
                  case when f.is_pending then 'finalize' else 'concurrently' end)
    from (
        select l.parent, l.most, f.*, row_number() over (partition by l.parent order by f.is_pending desc, f.upper_at) as place
        from rehearsal.lifecycle_policy as l
        cross join lateral rehearsal.lifecycle_leaves(l.parent) as f
        left join rehearsal.lifecycle_detached as d on d.leaf_oid = f.leaf_oid and d.state = 'detaching'
        where f.is_pending
              or (d.leaf_oid is not null
                  and exists (select from rehearsal.lifecycle_expired(l.parent, rehearsal.lifecycle_now()) as e
                              where e.leaf_oid = f.leaf_oid)
                  and not exists (select from rehearsal.lifecycle_leaves(l.parent) as o where o.is_default)
                  and not exists (select from rehearsal.lifecycle_troubles(l.parent, rehearsal.lifecycle_now()) as t
                                  where t.bars_retain))
    ) as f
    where f.is_pending or f.place <= f.most
    order by f.parent::text, f.place
$$;

-- Whether another session works at the same for a table, and who; NULL if the lock is ours now.
create or replace function rehearsal.lifecycle_held_by(lock_name text) returns text
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
    number bigint := hashtextextended(lock_name, 0);
begin
    if pg_try_advisory_lock(number) then
        return null;
    end if;
    return coalesce((
        select format('another run holds %s: pid %s (%s)', lock_name, a.pid, a.application_name)
        from pg_locks as l join pg_stat_activity as a using (pid)
        where l.locktype = 'advisory' and l.granted and l.objsubid = 1
              and l.database = (select oid from pg_database where datname = current_database())
              and (l.classid::bigint << 32) | l.objid::bigint = number
        limit 1), format('another run held %s just now', lock_name));
end
$$;

-- End a retention that waits for old transactions: ATTACH would wait behind it. The next retention finishes it.
create or replace function rehearsal.lifecycle_end_retention(of_table regclass) returns void
language sql volatile set search_path = pg_catalog, pg_temp
as $$
    select pg_cancel_backend(l.pid) from pg_locks as l join pg_stat_activity as a on a.pid = l.pid
    where l.relation = of_table and l.granted and l.pid <> pg_backend_pid()
          and l.database = (select oid from pg_database where datname = current_database())
          and (a.application_name = 'pg-rehearsal lifecycle.retain'
               -- A job of pg_cron is called otherwise.
               or a.query ~ '^alter table .* detach partition .* (concurrently|finalize)$')
$$;

-- What a run has to complain of in the end: what bars it, too few leaves ahead, clocks that disagree, or what was noted and
-- could not be detached.
create or replace function rehearsal.lifecycle_bars(of_table regclass, what text, runner timestamptz) returns text[]
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select array(
        select format('%s: %s; %s', of_table, t.said, t.remedy)
        from rehearsal.lifecycle_troubles(of_table, rehearsal.lifecycle_now()) as t
        where case what when 'premake' then t.bars_premake or t.id like 'runway%' when 'retain' then t.bars_retain
              else t.bars_retain or t.id = 'pending-detach' end
        union all
        select format('%s: %s', of_table, c.said)
        from rehearsal.lifecycle_policy as p,
             lateral rehearsal.lifecycle_clock(of_table, rehearsal.lifecycle_now(), runner) as c (said)
        where p.parent = of_table and p.retention is not null and what <> 'premake' and c.said is not null
        union all
        select format('%s: %s could not be detached', of_table, d.leaf) from rehearsal.lifecycle_detached as d
        where d.parent = of_table and d.state = 'detaching' and what = 'finish'
              and exists (select from pg_inherits where inhrelid = d.leaf_oid))
$$;

-- Do the statements of one act in a transaction of their own; `why` is NULL afterwards if they were done.
create or replace procedure rehearsal.lifecycle_do(
    of_table regclass, statements jsonb, makes boolean, attempts integer, in out why text)
language plpgsql
as $$
declare
    said text; attempt integer := 0;
begin
    loop
        attempt := attempt + 1;
        begin
            perform pg_catalog.set_config(
                'lock_timeout', (least(1000, 150 * 1.3 ^ (attempt - 1)))::integer::text, true);
            for said in select pg_catalog.jsonb_array_elements_text(statements) loop
                execute said;
            end loop;
            why := null;
        exception
            when lock_not_available or deadlock_detected or serialization_failure then
                why := sqlerrm;
            when others then
                why := sqlerrm;
                attempt := attempts;
        end;
        commit;
        exit when why is null or attempt >= attempts;
        if makes then
            perform rehearsal.lifecycle_end_retention(of_table);
        end if;
        perform pg_catalog.pg_sleep((0.5 + pg_catalog.random() / 2) * least(2, 0.05 * 1.5 ^ (attempt - 1)));
    end loop;
end
$$;

-- Make what is due (`what` is premake); note, finish and drop what is due (retain); or finish only what was noted, and say what
-- could not be (finish). Fails at its end, when all that can be done is done and committed, with everything that was not.
-- `runner` is the time of whoever calls, `attempts` are those of a lock.
create or replace procedure rehearsal.lifecycle_run(what text, runner timestamptz default null, attempts integer default 40)
language plpgsql
as $$
declare
    tables regclass[]; one regclass; acts jsonb; act jsonb; why text; failed text[] := '{}'; gone text[]; name text;
    before integer; well boolean;
begin
    if what not in ('premake', 'retain', 'finish') then
        raise exception 'lifecycle_run does premake, retain or finish, not %', what;
    end if;
    -- What is read under a lock must not be older than the lock. It holds from the next transaction on.
    perform pg_catalog.set_config('default_transaction_isolation', 'read committed', false);
    perform pg_catalog.set_config('default_transaction_read_only', 'off', false);
    perform pg_catalog.set_config('synchronous_commit', 'on', false);
    commit;
    if pg_catalog.current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'lifecycle_run works in transactions that are read committed, and this is %',
            pg_catalog.current_setting('transaction_isolation');
    end if;
    perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', false);
    perform pg_catalog.set_config('timezone', 'UTC', false);
    perform pg_catalog.set_config('row_security', 'off', false);
    perform pg_catalog.set_config('quote_all_identifiers', 'off', false);
    perform pg_catalog.set_config('standard_conforming_strings', 'on', false);
    tables := array(select l.parent from rehearsal.lifecycle_policy as l order by l.parent::text);
    foreach one in array tables loop
        name := format('lifecycle.%s %s', case what when 'premake' then what else 'retain' end, one);
        why := rehearsal.lifecycle_held_by(name);
        if why is not null then
            failed := failed || why;
            continue;
        end if;
        before := cardinality(failed);
        begin
            if what = 'premake' then
                acts := (select coalesce(jsonb_agg(to_jsonb(m)), '[]')
                         from rehearsal.lifecycle_to_make(one, rehearsal.lifecycle_now()) as m);
            else
                -- What bears no transaction is in lifecycle_queue, and what follows it comes when that is done.
                acts := (with due as (select * from rehearsal.lifecycle_to_retire(
                                          one, rehearsal.lifecycle_now(), coalesce(runner, clock_timestamp())))
                         select coalesce(jsonb_agg(to_jsonb(r)), '[]') from due as r
                         where case when r.act in ('detach', 'detaching') then what = 'retain' and r.mode <> 'alone'
                               else not exists (select from due as a where a.leaf_oid = r.leaf_oid and a.mode = 'alone') end);
            end if;
        exception when others then
            -- What is wrong with one table keeps no other from its leaves.
            acts := '[]';
            failed := failed || format('%s: %s', one, sqlerrm);
        end;
        commit;
        gone := '{}';
        for act in select jsonb_array_elements(acts) loop
            continue when act ->> 'leaf' = any (gone);
            call rehearsal.lifecycle_do(one, act -> 'statements', what = 'premake', attempts, why);
            if why is not null then
                failed := failed || format('%s %s: %s', act ->> 'act', act ->> 'leaf', why);
                gone := gone || (act ->> 'leaf');
                if jsonb_array_length(coalesce(act -> 'undo', '[]')) > 0 then
                    call rehearsal.lifecycle_do(one, act -> 'undo', false, attempts, why);
                end if;
                exit when what = 'premake';
            end if;
        end loop;
        begin
            failed := failed || rehearsal.lifecycle_bars(one, what, coalesce(runner, clock_timestamp()));
            if what = 'finish' then
                perform rehearsal.lifecycle_refused(d.leaf_oid) from rehearsal.lifecycle_detached as d
                where d.parent = one and d.state = 'detaching';
            end if;
        exception when others then
            failed := failed || format('%s: %s', one, sqlerrm);
        end;
        -- Of a retention both parts must be well.
        well := cardinality(failed) = before and (what <> 'finish' or coalesce((
            select r.ok from rehearsal.lifecycle_ran as r where r.parent = one and r.act = 'retain'), false));
        perform rehearsal.lifecycle_ended(one, case what when 'premake' then what else 'retain' end, well, what <> 'retain');
        -- What is raised in the end must not take it back.
        commit;
        perform pg_advisory_unlock(hashtextextended(name, 0));
    end loop;
    if failed <> '{}' then
        raise exception using message = 'lifecycle ' || what || ': ' || array_to_string(failed, E'\n');
    end if;
end
$$;
