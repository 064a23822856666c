-- What bars the making or the dropping of leaves, or will soon: functions of schema rehearsal
-- lock: none on tables of the application
-- second run: replaces the functions by themselves

-- Why retention must not trust the clock; NULL if server, runner, history and newest key agree within an interval.
create or replace function rehearsal.lifecycle_clock(of_table regclass, moment timestamptz, runner timestamptz) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp set timezone = 'UTC'
as $$
declare
    k record; last timestamptz; newest numeric; here numeric := rehearsal.lifecycle_place(moment);
    ahead numeric; behind numeric;
begin
    select * into k from rehearsal.lifecycle_key(of_table);
    if k.zone is null then
        return null;  -- keys that count know no present
    end if;
    ahead := rehearsal.lifecycle_step(here, k.every, 1, k.zone);
    behind := rehearsal.lifecycle_step(here, k.every, -1, k.zone);
    if rehearsal.lifecycle_place(runner) not between behind and ahead then
        return format('the server says %s, the runner %s', moment, runner);
    end if;
    select max(h.at) into last from rehearsal.lifecycle_history as h where h.parent = of_table::text;
    if rehearsal.lifecycle_place(last) > ahead then
        return format('the server says %s, and the last act in rehearsal.lifecycle_history was at %s', moment, last);
    end if;
    -- Rows of the future (bookings) say nothing of the present.
    execute format('select rehearsal.lifecycle_place_of(%1$L, %2$L,
                           (select %3$I::text from %4$s where %3$I < %5$L::%1$I order by %3$I desc limit 1))',
                   k.base, k.epoch, k.key, of_table, rehearsal.lifecycle_bound(k.base, k.epoch, ahead))
        into newest;
    if newest is null or newest < behind then
        return format('the server says %s, and the newest key before that is %s', moment,
                      coalesce(rehearsal.lifecycle_bound(k.base, k.epoch, newest), 'none'));
    end if;
    return null;
end
$$;

-- One row a trouble: its id, whether it bars premake or retention, what is so, and what to do.
create or replace function rehearsal.lifecycle_troubles(of_table regclass, moment timestamptz)
returns table (id text, bars_premake boolean, bars_retain boolean, said text, remedy text)
language plpgsql stable set search_path = pg_catalog, pg_temp set timezone = 'UTC'
as $$
declare
    p rehearsal.lifecycle_policy; k record; here numeric := rehearsal.lifecycle_place(moment);
    cutoff numeric; found text; number bigint; last record; filled boolean;
begin
    select * into p from rehearsal.lifecycle_policy where parent = of_table;
    if not exists (select from pg_partitioned_table where partrelid = of_table) then
        return query select 'not-partitioned', true, true, 'there is no partitioned table of this name any more',
                            'adopt it again, or forget it by lifecycle.adopt --forget';
        return;
    end if;
    select * into k from rehearsal.lifecycle_key(of_table);
    if k.key is null then
        return query select 'key', true, true, 'it is not partitioned by ranges of one column of a type of PostgreSQL''s own',
                            'lifecycle makes and drops ranges of one column only';
        return;
    elsif (k.base in ('date', 'timestamp') and p.zone <> 'UTC') then
        return query select 'zone', true, true, format('its key is a %s, which has no time zone', k.base), 'adopt it with UTC';
        return;
    elsif k.base not in ('timestamptz', 'timestamp', 'date', 'uuid', 'int2', 'int4', 'int8')
          or (k.zone is null) <> (k.base like 'int_' and k.epoch is null) then
        return query select 'interval', true, true, format('an interval of %s does not fit a key of type %s', p.every, k.base),
                            'adopt it with an interval that fits: 1 month, or a number for keys that count';
        return;
    end if;
    if p.retention is not null and (p.retention ~ '^[0-9]+$') <> (k.zone is null) then
        return query select 'retention', false, true,
            format('a retention of %s does not fit a key of type %s', p.retention, k.base),
            'adopt it with a retention that fits: 24 months, or a number for keys that count';
    end if;
    if exists (select from rehearsal.lifecycle_leaves(of_table) as l where l.is_parted) then
        return query select 'second-level', true, true, 'its partitions are partitioned themselves',
                            'lifecycle makes and drops one level only';
        return;
    end if;

    found := rehearsal.lifecycle_manager(of_table);
    if found is not null then
        return query select 'other-manager', true, true, found, 'take it out of there first: two managers make the same leaves';
    end if;
    select l.name, l.lower, l.upper, l.lower_at, l.upper_at into last from rehearsal.lifecycle_leaves(of_table) as l
    where not l.is_default and not l.is_pending order by l.upper_at desc nulls first limit 1;
    if last is null then
        return query select 'no-leaf', true, true, 'it has no partition with bounds', 'make the first one by hand, as they shall be';
        return;
    elsif last.upper_at is null then
        return query select 'unbounded', true, false, format('the last partition, %s, has no upper bound', last.name),
                            'detach it and attach it with an upper bound; nothing can be made behind it';
    elsif last.lower_at is not null and rehearsal.lifecycle_step(last.lower_at, k.every, 1, k.zone) <> last.upper_at then
        return query select 'uneven', true, true,
            format('the last partition, %s, reaches from %s to %s, which is not %s in zone %s', last.name, last.lower, last.upper,
                   p.every, coalesce(k.zone, 'none')),
            'adopt the table with the interval and the time zone that its partitions have';
    elsif last.lower_at is null and rehearsal.lifecycle_floor(last.upper_at, k.every, k.zone) <> last.upper_at then
        return query select 'uneven', true, true,
            format('the only partition, %s, ends at %s, where no period of %s begins', last.name, last.upper, p.every),
            'make the next partition by hand, as they shall be';
    elsif k.zone is not null and p.every ~ '(month|year)'
          and extract(day from rehearsal.lifecycle_moment(last.upper_at) at time zone k.zone) > 28 then
        return query select 'uneven', true, true, format('the last partition ends at %s: months from there are uneven', last.upper),
                            'make the next partition by hand, so that it ends on a day up to the 28th';
    end if;

    if exists (select from rehearsal.lifecycle_leaves(of_table) as l
               join pg_constraint as o on o.conrelid = l.leaf_oid and o.conname = 'rehearsal_lifecycle' where l.is_default) then
        return query select 'check-left', false, false,
            'a check of a premake that broke off is on the default partition: rows of that period are refused',
            'run lifecycle.premake at once: it takes the check off first';
    end if;
    if exists (select from rehearsal.lifecycle_policy as l where l.parent = of_table and l.retention is not null
               and (l.retention ~ '^[0-9]+$') <> (k.zone is null)) then
        return;
    end if;
    cutoff := rehearsal.lifecycle_cutoff(of_table, moment);
    for found in
        select format('no partition takes keys from %s to %s', b.upper, b.next)
        from (select l.upper, l.upper_at, lead(l.lower) over w as next, lead(l.lower_at) over w as next_at
              from rehearsal.lifecycle_leaves(of_table) as l where not l.is_default
              window w as (order by l.lower_at nulls first)) as b
        where b.next_at > b.upper_at and (cutoff is null or b.next_at > cutoff)
    loop
        return query select 'gap', false, false, found, 'make a partition for it by hand, and move its rows out of the default one';
    end loop;

    for found in select l.name from rehearsal.lifecycle_leaves(of_table) as l where l.is_pending loop
        return query select 'pending-detach', false, false,
                            format('DETACH CONCURRENTLY of %s was interrupted: its rows are not in the table any more', found),
                            'lifecycle.retain finishes it first';
    end loop;

    number := rehearsal.lifecycle_ready(of_table, moment);
    if number < p.premake and last.upper_at is not null then
        return query select case when number = 0 then 'runway-short' else 'runway' end, false, false,
                            format('%s of %s partitions are ready ahead; the last one ends at %s', number, p.premake, last.upper),
                            'run lifecycle.premake, and see why it did not run';
    end if;
    for found in select l.leaf_oid::regclass::text from rehearsal.lifecycle_leaves(of_table) as l where l.is_default loop
        execute format('select exists (select from %s)', found) into filled;
        if filled then
            return query select 'default-rows', false, false, format('default partition %s has rows', found),
                                'rows came for which there was no partition; move them before a partition for them can be attached';
        end if;
    end loop;

    if p.retention is null then
        return;
    end if;
    found := rehearsal.lifecycle_partner(of_table);
    if found is not null then
        return query select 'partner', false, true, found, 'nothing is dropped until ./inv db.cleanup has ended it';
    end if;
    for found in
        select format('%s reaches from %s to %s, beyond the cutoff of %s', l.name, coalesce(l.lower, 'minvalue'), coalesce(l.upper, 'maxvalue'),
                      rehearsal.lifecycle_bound(k.base, k.epoch, cutoff))
        from rehearsal.lifecycle_leaves(of_table) as l
        where not l.is_default and coalesce(l.lower_at < cutoff, true) and coalesce(l.upper_at > cutoff, true)
              and (l.lower_at is null or l.upper_at is null
                   or rehearsal.lifecycle_step(l.lower_at, k.every, 1, k.zone) < l.upper_at)
    loop
        return query select 'spans-cutoff', false, false, found,
                            'rows past their retention stay until it is split: ./inv db.split, where the plan attached it';
    end loop;
    for found in
        select format('%s, detached at %s', d.leaf, d.since) from rehearsal.lifecycle_detached as d
        where d.parent = of_table and d.state = 'held'
              and rehearsal.lifecycle_objection(d.leaf_oid) is not null
              -- What is gone, or in use again, is taken off the list by the next retention.
              and not rehearsal.lifecycle_withdrawn(d.leaf_oid)
    loop
        return query select 'held-changed', false, false, format('%s is not what it was: it will not be dropped', found),
                            'look at it, and drop it by hand, or attach it again';
    end loop;
    for found in
        select format('%s, detached at %s, is past its hold and waits for its archive', d.leaf, d.since)
        from rehearsal.lifecycle_detached as d
        where d.parent = of_table and d.state = 'held' and rehearsal.lifecycle_may_drop(d.leaf_oid, moment)
              and rehearsal.lifecycle_objection(d.leaf_oid) is null and rehearsal.lifecycle_archive_waits(d.leaf_oid)
        order by d.since, d.leaf_oid
    loop
        return query select 'archive-waits', false, false, found,
                            format('run ./inv lifecycle.archive --plan %s --to FOLDER; it is dropped once its archive is proven', p.plan);
    end loop;
end
$$;
