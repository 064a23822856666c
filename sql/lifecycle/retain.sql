-- Which leaves are to be detached, and which of those that were are to be dropped: functions of schema rehearsal
-- lock: none; what the statements lock: SHARE UPDATE EXCLUSIVE on the table for DETACH CONCURRENTLY; beside a default partition
--   ACCESS EXCLUSIVE on the table, the default partition and the leaf, ms; ACCESS EXCLUSIVE on the leaf that is dropped
--   and, for ms, on tables that its foreign keys refer to
-- second run: replaces the functions by themselves

-- Why a held leaf must not be dropped: it is not what was detached, or is in use again. NULL: nothing blocks it.
create or replace function rehearsal.lifecycle_objection(held oid) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select case
        when c.oid is null then 'it is gone'
        when format('%s.%I', c.relnamespace::regnamespace, c.relname) <> d.leaf
            then format('it is called %s.%I now', c.relnamespace::regnamespace, c.relname)
        when d.system_identifier <> (select system_identifier from pg_control_system()) then 'it was detached in another cluster'
        when c.relispartition or exists (select from pg_inherits where inhrelid = c.oid) then 'it is attached again'
        when c.relkind <> 'r' then 'it is no ordinary table any more'
        when c.xmin::text <> d.row_version then 'it was altered since, or attached and detached by somebody else'
        end
    from rehearsal.lifecycle_detached as d left join pg_class as c on c.oid = d.leaf_oid
    where d.leaf_oid = held
$$;

-- Whether a note is to be withdrawn: the leaf is gone, attached again, or (noted only) is not to be detached any more.
create or replace function rehearsal.lifecycle_withdrawn(noted oid) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select case d.state
        when 'held' then c.oid is null or c.relispartition
        when 'refused' then not coalesce(c.relispartition, false)
            or not exists (select from rehearsal.lifecycle_expired(d.parent, rehearsal.lifecycle_now()) as e
                           where e.leaf_oid = d.leaf_oid)
        when 'detaching' then c.oid is null or (
            coalesce(c.relispartition, false)
            and not exists (select from pg_inherits as i where i.inhrelid = c.oid and i.inhdetachpending)
            and not exists (select from rehearsal.lifecycle_expired(d.parent, rehearsal.lifecycle_now()) as e
                            where e.leaf_oid = d.leaf_oid))
        else false end
    from rehearsal.lifecycle_detached as d left join pg_class as c on c.oid = d.leaf_oid
    where d.leaf_oid = noted
$$;

-- Held leaves that will be neither archived nor dropped, and why.
create or replace function rehearsal.lifecycle_objected(of_table regclass) returns table (leaf text, objection text)
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select d.leaf, o.objection
    from rehearsal.lifecycle_detached as d cross join lateral (select rehearsal.lifecycle_objection(d.leaf_oid)) as o (objection)
    where d.parent = of_table and d.state = 'held' and o.objection is not null and not rehearsal.lifecycle_withdrawn(d.leaf_oid)
    order by d.since, d.leaf_oid
$$;

-- Whether a held leaf may go by the policy of now: past the retention still, and held as long as then or now was said.
create or replace function rehearsal.lifecycle_may_drop(held oid, moment timestamptz) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select coalesce((
        select d.state = 'held' and d.since + greatest(d.hold, p.hold) <= moment
               and rehearsal.lifecycle_place_of(k.base, k.epoch, d.upper) <= rehearsal.lifecycle_cutoff(d.parent, moment)
        from rehearsal.lifecycle_detached as d
        join rehearsal.lifecycle_policy as p on p.parent = d.parent and p.retention is not null
        cross join lateral rehearsal.lifecycle_key(d.parent) as k
        where d.leaf_oid = held), false)
$$;

-- Whether the policy says that a leaf is archived before its drop, and that is not proven.
create or replace function rehearsal.lifecycle_archive_waits(held oid) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select coalesce((
        select p.archive and not rehearsal.lifecycle_proven(d.leaf_oid)
        from rehearsal.lifecycle_detached as d join rehearsal.lifecycle_policy as p on p.parent = d.parent
        where d.leaf_oid = held), false)
$$;

create or replace function rehearsal.lifecycle_require_held(held oid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    objection text := rehearsal.lifecycle_objection(held);
begin
    if objection is not null then
        raise exception 'leaf % will not be dropped: %', (select leaf from rehearsal.lifecycle_detached where leaf_oid = held), objection;
    elsif not rehearsal.lifecycle_may_drop(held, rehearsal.lifecycle_now()) then
        raise exception 'leaf % is not to be dropped any more', (select leaf from rehearsal.lifecycle_detached where leaf_oid = held);
    elsif rehearsal.lifecycle_archive_waits(held) then
        raise exception 'leaf % will not be dropped: it waits for its archive', (select leaf from rehearsal.lifecycle_detached where leaf_oid = held);
    end if;
end
$$;

-- Refuse unless a leaf is the partition that was meant: by OID, name and bounds.
create or replace function rehearsal.lifecycle_require_leaf(of_table regclass, leaf text, meant oid, lower text, upper text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (
        select from rehearsal.lifecycle_leaves(of_table) as l
        where l.leaf_oid = meant and format('%s.%I', quote_ident(l.schema), l.name) = leaf
              and l.lower is not distinct from lifecycle_require_leaf.lower
              and l.upper is not distinct from lifecycle_require_leaf.upper
    ) then
        raise exception 'leaf % (OID %) of % is not what it was when its detachment was decided', leaf, meant, of_table;
    end if;
end
$$;

-- Note that a leaf is about to be detached, with the checks that it has.
create or replace function rehearsal.lifecycle_detaching(of_table regclass, leaf text, meant oid, lower text, upper text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    perform rehearsal.lifecycle_require_leaf(of_table, leaf, meant, lower, upper);
    insert into rehearsal.lifecycle_detached (leaf_oid, leaf, parent, lower, upper, checks, state, since, hold, system_identifier)
    select meant, leaf, of_table, lower, upper,
           array(select conname from pg_constraint where conrelid = meant and contype = 'c'),
           'detaching', rehearsal.lifecycle_now(), p.hold, (select s.system_identifier from pg_control_system() as s)
    from rehearsal.lifecycle_policy as p where p.parent = of_table
    on conflict (leaf_oid) do update set state = 'detaching', since = excluded.since, lower = excluded.lower, upper = excluded.upper,
        leaf = excluded.leaf, parent = excluded.parent, checks = excluded.checks, hold = excluded.hold,
        system_identifier = excluded.system_identifier;
end
$$;

-- Note that a leaf is detached, and take off the check that DETACH CONCURRENTLY left on it.
create or replace function rehearsal.lifecycle_held(of_table regclass, meant oid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    d rehearsal.lifecycle_detached; left_over name;
begin
    select * into d from rehearsal.lifecycle_detached where leaf_oid = meant;
    if d is null or d.state <> 'detaching' then
        -- Somebody else began it: it is finished, and never dropped by us.
        delete from rehearsal.lifecycle_detached where leaf_oid = meant;
        insert into rehearsal.lifecycle_history (parent, act, leaf, leaf_oid, at)
        values (of_table::text, 'finalize', meant::regclass::text, meant, rehearsal.lifecycle_now());
        return;
    elsif exists (select from pg_inherits where inhrelid = meant) then
        raise exception 'leaf % is still attached', d.leaf;
    end if;
    for left_over in
        select o.conname from pg_constraint as o
        -- That of DETACH CONCURRENTLY is of the key alone.
        join pg_partitioned_table as p on p.partrelid = d.parent
        join pg_attribute as k on k.attrelid = p.partrelid and k.attnum = p.partattrs[0]
        join pg_attribute as a on a.attrelid = meant and a.attname = k.attname
        where o.conrelid = meant and o.contype = 'c' and o.conislocal and o.coninhcount = 0 and o.conname <> all (d.checks)
              and o.conkey = array[a.attnum]
    loop
        execute format('alter table %s drop constraint %I', meant::regclass, left_over);
    end loop;
    update rehearsal.lifecycle_detached set state = 'held', since = rehearsal.lifecycle_now(),
           row_version = (select xmin::text from pg_class where oid = meant)
    where leaf_oid = meant;
    insert into rehearsal.lifecycle_history (parent, act, leaf, leaf_oid, lower, upper, at)
    values (of_table::text, 'detach', d.leaf, meant, d.lower, d.upper, rehearsal.lifecycle_now());
end
$$;

-- Note that a detachment did not come about: whoever detaches the leaf from now on is somebody else.
create or replace function rehearsal.lifecycle_refused(meant oid) returns void
language sql volatile set search_path = pg_catalog, pg_temp
as $$
    update rehearsal.lifecycle_detached set state = 'refused'
    where leaf_oid = meant and state = 'detaching'
          and exists (select from pg_inherits where inhrelid = meant and not inhdetachpending)
$$;

create or replace function rehearsal.lifecycle_dropped(meant oid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    update rehearsal.lifecycle_detached set state = 'dropped' where leaf_oid = meant;
    insert into rehearsal.lifecycle_history (parent, act, leaf, leaf_oid, lower, upper, at)
    select d.parent::text, 'drop', d.leaf, d.leaf_oid, d.lower, d.upper, rehearsal.lifecycle_now()
    from rehearsal.lifecycle_detached as d where d.leaf_oid = meant;
end
$$;

-- One row a transaction; see lifecycle_to_make for `mode`. What is pending is finished first, then what was held is dropped.
create or replace function rehearsal.lifecycle_to_retire(of_table regclass, moment timestamptz, runner timestamptz)
returns table (act text, mode text, leaf text, leaf_oid oid, lower text, upper text, statements text[])
language plpgsql stable set search_path = pg_catalog, pg_temp set timezone = 'UTC'
as $$
declare
    p rehearsal.lifecycle_policy; found record; parent text; has_default boolean;
begin
    select * into p from rehearsal.lifecycle_policy as l where l.parent = of_table;
    select format('%s.%I', c.relnamespace::regnamespace, c.relname) into parent from pg_class as c where c.oid = of_table;
    for found in select d.* from rehearsal.lifecycle_detached as d
                 where d.parent = of_table and d.state <> 'dropped' and rehearsal.lifecycle_withdrawn(d.leaf_oid) loop
        return query select 'withdraw', 'plain', found.leaf, found.leaf_oid, found.lower, found.upper, array[
            format('delete from rehearsal.lifecycle_detached where leaf_oid = %s and rehearsal.lifecycle_withdrawn(leaf_oid)',
                   found.leaf_oid)];
    end loop;
    for found in select l.leaf_oid, format('%s.%I', quote_ident(l.schema), l.name) as leaf, l.lower, l.upper
                 from rehearsal.lifecycle_leaves(of_table) as l where l.is_pending loop
        return query select 'finalize', 'alone', found.leaf, found.leaf_oid, found.lower, found.upper, array[
            format('alter table %s detach partition %s finalize', parent, found.leaf)];
        return query select 'detached', 'locked', found.leaf, found.leaf_oid, found.lower, found.upper, array[
            format('select rehearsal.lifecycle_held(%L, %s)', of_table, found.leaf_oid)];
    end loop;
    -- Detached, and killed before that was noted.
    for found in select d.* from rehearsal.lifecycle_detached as d join pg_class as c on c.oid = d.leaf_oid
                 where d.parent = of_table and d.state = 'detaching'
                       and not exists (select from pg_inherits where inhrelid = d.leaf_oid) loop
        return query select 'detached', 'locked', found.leaf, found.leaf_oid, found.lower, found.upper, array[
            format('select rehearsal.lifecycle_held(%L, %s)', of_table, found.leaf_oid)];
    end loop;
    -- Closed for its archive, and attached again by somebody.
    for found in select l.leaf_oid, format('%s.%I', quote_ident(l.schema), l.name) as leaf, l.lower, l.upper,
                        array(select format('drop trigger %I on %s.%I', t.tgname, quote_ident(l.schema), l.name)
                              from pg_trigger as t join pg_proc as f on f.oid = t.tgfoid
                              where t.tgrelid = l.leaf_oid and f.proname = 'lifecycle_refuse_write'
                                    and f.pronamespace = 'rehearsal'::regnamespace order by t.tgname) as openers
                 from rehearsal.lifecycle_leaves(of_table) as l where not l.is_pending loop
        if found.openers <> '{}' then
            return query select 'open', 'locked', found.leaf, found.leaf_oid, found.lower, found.upper, found.openers;
        end if;
    end loop;
    if p.retention is null
       or exists (select from rehearsal.lifecycle_troubles(of_table, moment) as t where t.bars_retain)
       or rehearsal.lifecycle_clock(of_table, moment, runner) is not null then
        return;
    end if;
    for found in select d.* from rehearsal.lifecycle_detached as d
                 where d.parent = of_table and d.state = 'held' and rehearsal.lifecycle_may_drop(d.leaf_oid, moment)
                       and rehearsal.lifecycle_objection(d.leaf_oid) is null
                       and not rehearsal.lifecycle_archive_waits(d.leaf_oid)
                 order by d.since, d.leaf_oid loop
        return query select 'drop', 'locked', found.leaf, found.leaf_oid, found.lower, found.upper, array[
            format('lock table %s in access exclusive mode', found.leaf),
            format('select rehearsal.lifecycle_require_held(%s)', found.leaf_oid)]
            -- Which archive was noted is part of the decision.
            || array(select format('select rehearsal.lifecycle_require_archive(%s, %L)', a.leaf_oid, a.sha256)
                     from rehearsal.lifecycle_archived as a where p.archive and a.leaf_oid = found.leaf_oid)
            || array[
            format('drop table %s', found.leaf),
            format('select rehearsal.lifecycle_dropped(%s)', found.leaf_oid)];
    end loop;
    has_default := exists (select from rehearsal.lifecycle_leaves(of_table) as l where l.is_default);
    -- Those that were tried before and refused come last: they must not keep others from going.
    for found in select e.* from rehearsal.lifecycle_expired(of_table, moment) with ordinality as e
                 left join rehearsal.lifecycle_detached as d on d.leaf_oid = e.leaf_oid and d.state in ('detaching', 'refused')
                 order by d.leaf_oid is not null, e.ordinality limit p.most loop
        if has_default then
            -- DETACH CONCURRENTLY is refused beside a default partition; this one reads no row.
            return query select 'detach', 'locked', found.leaf, found.leaf_oid, found.lower, found.upper, array[
                format('select rehearsal.lifecycle_detaching(%L, %L, %s, %L, %L)', of_table, found.leaf, found.leaf_oid, found.lower, found.upper),
                format('alter table %s detach partition %s', parent, found.leaf),
                format('select rehearsal.lifecycle_held(%L, %s)', of_table, found.leaf_oid)];
        else
            return query select 'detaching', 'plain', found.leaf, found.leaf_oid, found.lower, found.upper, array[
                format('select rehearsal.lifecycle_detaching(%L, %L, %s, %L, %L)', of_table, found.leaf, found.leaf_oid, found.lower, found.upper)];
            return query select 'detach', 'alone', found.leaf, found.leaf_oid, found.lower, found.upper, array[
                format('alter table %s detach partition %s concurrently', parent, found.leaf)];
            return query select 'detached', 'locked', found.leaf, found.leaf_oid, found.lower, found.upper, array[
                format('select rehearsal.lifecycle_held(%L, %s)', of_table, found.leaf_oid)];
        end if;
    end loop;
end
$$;
