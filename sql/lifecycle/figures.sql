-- What monitoring asks of adopted tables: a table of the last runs, and figures for those in pg_monitor, in schema rehearsal
-- lock: none on tables of the application; reads no row of them
-- second run: changes nothing, and replaces functions and views by themselves
create table if not exists rehearsal.lifecycle_ran (
    parent regclass not null references rehearsal.lifecycle_policy (parent) on delete cascade,
    act text not null check (act in ('premake', 'retain')),
    at timestamptz not null,
    ok boolean not null,
    succeeded_at timestamptz,
    primary key (parent, act)
);
comment on table rehearsal.lifecycle_ran is
    'When premake and retain last ran for a table, whether all was well, and when it last was; a run with nothing to do counts';

-- Note the end of a run. `whole` is false where another part of the same run follows, whose success is that of the whole.
create or replace function rehearsal.lifecycle_ended(of_table regclass, what text, well boolean, whole boolean default true)
returns void
language sql volatile set search_path = pg_catalog, pg_temp
as $$
    insert into rehearsal.lifecycle_ran as r (parent, act, at, ok, succeeded_at)
    select p.parent, what, n.at, well, case when well and whole then n.at end
    from rehearsal.lifecycle_policy as p, (select rehearsal.lifecycle_now()) as n (at) where p.parent = of_table
    on conflict (parent, act) do update
    set at = excluded.at, ok = excluded.ok, succeeded_at = coalesce(excluded.succeeded_at, r.succeeded_at)
$$;

-- Figures of one table by its leaves, read once. Keys that count know no present and whoever monitors reads no row: there
-- the leaves behind the last one that has pages or rows, by the statistics, are those ahead.
create or replace function rehearsal.lifecycle_figure(
    of_table regclass, moment timestamptz, out ahead bigint, out runway_days double precision, out lag_days double precision)
language plpgsql stable set search_path = pg_catalog, pg_temp set timezone = 'UTC'
as $$
declare
    k record; here numeric := rehearsal.lifecycle_place(moment); day constant numeric := 86400000000;
    cutoff numeric; last numeric; held numeric;
begin
    select * into strict k from rehearsal.lifecycle_key(of_table);
    if k.zone is null then
        select count(*) filter (where f.used_behind is null) into ahead
        from (
            select max(l.upper_at) filter (where c.relpages > 0 or c.reltuples > 0 or pg_stat_get_live_tuples(c.oid) > 0)
                       over (order by l.upper_at desc nulls first) as used_behind
            from rehearsal.lifecycle_leaves(of_table) as l join pg_class as c on c.oid = l.leaf_oid
            where not l.is_default and not l.is_pending) as f;
        return;
    end if;
    cutoff := rehearsal.lifecycle_cutoff(of_table, moment);
    with leaf as materialized (
        select * from rehearsal.lifecycle_leaves(of_table) as l where not l.is_default and not l.is_pending
    ), reached as (
        select l.*, max(coalesce(l.upper_at, 'Infinity')) over (
                   order by l.lower_at nulls first rows between unbounded preceding and 1 preceding) as before
        from leaf as l
    ), stretch as (
        -- Leaves without a gap between them.
        select r.*, count(*) filter (where r.lower_at > r.before) over (order by r.lower_at nulls first) as number
        from reached as r
    ), whole as (
        select coalesce(max(coalesce(s.upper_at, 'Infinity')), here) as reaches from stretch as s
        group by s.number
        having min(coalesce(s.lower_at, '-Infinity')) <= here and max(coalesce(s.upper_at, 'Infinity')) > here
    )
    select (select count(*) from leaf as l where l.lower_at > here),
           coalesce((select max(w.reaches) from whole as w) - here, 0) / day,
           (select max(coalesce(l.upper_at, 'Infinity')) from leaf as l),
           greatest(0, cutoff - (select min(l.upper_at) from leaf as l
                                 where l.upper_at < (select max(coalesce(m.upper_at, 'Infinity')) from leaf as m))) / day
    into ahead, runway_days, last, lag_days;
    if cutoff is null then
        lag_days := null;
        return;
    end if;
    -- What is detached and stays beyond its hold is late too, whatever keeps it.
    select max(extract(epoch from moment - (d.since + greatest(d.hold, p.hold))) / 86400) into held
    from rehearsal.lifecycle_detached as d join rehearsal.lifecycle_policy as p on p.parent = d.parent
    join pg_class as c on c.oid = d.leaf_oid and not c.relispartition
    where d.parent = of_table and d.state = 'held';
    lag_days := greatest(coalesce(lag_days, 0), held, 0);
end
$$;

-- Figures of all adopted tables. A table that cannot be judged says so, and keeps no other from being seen.
create or replace function rehearsal.lifecycle_figures()
returns table (parent text, wanted integer, ahead bigint, runway_days double precision, lag_days double precision, held bigint,
               premake_age_s double precision, retain_age_s double precision, premake_failed integer, retain_failed integer,
               unclear integer)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    p rehearsal.lifecycle_policy; moment timestamptz := rehearsal.lifecycle_now();
begin
    for p in select * from rehearsal.lifecycle_policy as l order by l.parent::oid loop
        select format('%I.%I', n.nspname, c.relname) into parent
        from pg_class as c join pg_namespace as n on n.oid = c.relnamespace where c.oid = p.parent;
        parent := coalesce(parent, p.parent::text);
        wanted := p.premake;
        ahead := null; runway_days := null; lag_days := null; unclear := 0;
        begin
            select f.ahead, f.runway_days, f.lag_days into ahead, runway_days, lag_days
            from rehearsal.lifecycle_figure(p.parent, moment) as f;
        exception when others then
            unclear := 1;
        end;
        held := (select count(*) from rehearsal.lifecycle_detached as d where d.parent = p.parent and d.state = 'held');
        premake_age_s := (select extract(epoch from moment - coalesce(max(r.succeeded_at), p.adopted_at))
                          from rehearsal.lifecycle_ran as r where r.parent = p.parent and r.act = 'premake');
        premake_failed := (select count(*) from rehearsal.lifecycle_ran as r
                           where r.parent = p.parent and r.act = 'premake' and not r.ok);
        retain_age_s := null; retain_failed := null;
        if p.retention is not null then
            retain_age_s := (select extract(epoch from moment - coalesce(max(r.succeeded_at), p.adopted_at))
                             from rehearsal.lifecycle_ran as r where r.parent = p.parent and r.act = 'retain');
            retain_failed := (select count(*) from rehearsal.lifecycle_ran as r
                              where r.parent = p.parent and r.act = 'retain' and not r.ok);
        end if;
        return next;
    end loop;
end
$$;

-- How far sequences of adopted tables are used up: of what the sequence, and the column that it fills, can hold. Only whoever
-- owns a sequence sees where it is, so this one function runs as its owner; it takes nothing, and tells percentages.
create or replace function rehearsal.lifecycle_sequences() returns table (parent text, sequence text, used_percent double precision)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
    select format('%I.%I', pn.nspname, p.relname), format('%I.%I', sn.nspname, s.relname),
           coalesce(100 * (q.last_value - q.start_value)::numeric / nullif(
               case when q.increment_by > 0 then least(q.max_value, t.most) else greatest(q.min_value, -t.most - 1) end
               - q.start_value, 0), 0)::double precision
    from rehearsal.lifecycle_policy as l
    join pg_class as p on p.oid = l.parent
    join pg_namespace as pn on pn.oid = p.relnamespace
    join pg_depend as d on d.refclassid = 'pg_class'::regclass and d.refobjid = p.oid and d.classid = 'pg_class'::regclass
        and d.deptype in ('a', 'i')
    join pg_class as s on s.oid = d.objid and s.relkind = 'S'
    join pg_namespace as sn on sn.oid = s.relnamespace
    join pg_sequences as q on q.schemaname = sn.nspname and q.sequencename = s.relname and not q.cycle
    join pg_attribute as a on a.attrelid = p.oid and a.attnum = d.refobjsubid
    cross join lateral (select case a.atttypid when 'int2'::regtype then 32767 when 'int4'::regtype then 2147483647
                               else 9223372036854775807 end) as t (most)
    where has_sequence_privilege(s.oid, 'select, usage')
$$;

-- As whoever monitors: the figures are read by functions of its own rights, but for the one above.
revoke all on function rehearsal.lifecycle_sequences() from public;
grant execute on function rehearsal.lifecycle_sequences() to pg_monitor;
grant usage on schema rehearsal to pg_monitor;
grant select on rehearsal.lifecycle_policy, rehearsal.lifecycle_detached, rehearsal.lifecycle_ran to pg_monitor;
