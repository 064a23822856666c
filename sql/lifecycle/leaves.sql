-- What the catalog says of a partitioned table and its leaves, and what is wrong with it: functions of schema rehearsal
-- lock: none on tables of the application
-- second run: replaces the functions by themselves

-- The key of a table: column, its type below all domains, whether the policy counts; no row if there is not one range key.
create or replace function rehearsal.lifecycle_key(of_table regclass)
returns table (key name, base text, epoch text, every text, zone text, policy_zone text)
language sql stable set search_path = pg_catalog, pg_temp
as $$
    with recursive type (oid) as (
        select a.atttypid from pg_partitioned_table as p
        join pg_attribute as a on a.attrelid = p.partrelid and a.attnum = p.partattrs[0]
        where p.partrelid = of_table
        union all
        select t.typbasetype from type join pg_type as t on t.oid = type.oid where t.typtype = 'd'
    )
    select a.attname, t.typname::text, l.epoch, l.every,
           case when l.every ~ '^[0-9]+$' then null else l.zone end, l.zone
    from pg_partitioned_table as p
    join pg_attribute as a on a.attrelid = p.partrelid and a.attnum = p.partattrs[0]
    join type on true
    join pg_type as t on t.oid = type.oid and t.typtype <> 'd' and t.typnamespace = 'pg_catalog'::regnamespace
    join rehearsal.lifecycle_policy as l on l.parent = p.partrelid
    where p.partrelid = of_table and p.partstrat = 'r' and p.partnatts = 1
$$;

-- Leaves with their real bounds, never by names; `lower_at` and `upper_at` are places, NULL without a limit.
create or replace function rehearsal.lifecycle_leaves(of_table regclass)
returns table (leaf_oid oid, schema name, name name, lower text, upper text, lower_at numeric, upper_at numeric,
               is_default boolean, is_pending boolean, is_parted boolean)
language sql stable set search_path = pg_catalog, pg_temp set timezone = 'UTC' set datestyle = 'ISO, MDY'
as $$
    select c.oid, n.nspname, c.relname, b.lower, b.upper,
           rehearsal.lifecycle_place_of(k.base, k.epoch, b.lower), rehearsal.lifecycle_place_of(k.base, k.epoch, b.upper),
           d.bound = 'DEFAULT', i.inhdetachpending, c.relkind = 'p'
    from rehearsal.lifecycle_key(of_table) as k
    join pg_inherits as i on i.inhparent = of_table
    join pg_class as c on c.oid = i.inhrelid
    join pg_namespace as n on n.oid = c.relnamespace
    -- Named without its table, which PostgreSQL 17 and later would lock.
    cross join lateral (select pg_get_expr(c.relpartbound, 0)) as d (bound)
    cross join lateral (
        select substring(d.bound, '^FOR VALUES FROM \(''?(.*?)''?\) TO \('),
               substring(d.bound, '\) TO \(''?(.*?)''?\)$')
        offset 0  -- once a leaf: pulled up, it would be searched anew for every mention
    ) as t (lower, upper)
    cross join lateral (
        select case when t.lower not in ('MINVALUE', 'MAXVALUE') then t.lower end,
               case when t.upper not in ('MINVALUE', 'MAXVALUE') then t.upper end
        offset 0
    ) as b (lower, upper)
$$;

-- The newest leaf of the policy's width, of which new ones are made alike; if there is none, the newest with two bounds.
create or replace function rehearsal.lifecycle_sibling(of_table regclass) returns oid
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select l.leaf_oid from rehearsal.lifecycle_key(of_table) as k, rehearsal.lifecycle_leaves(of_table) as l
    where not l.is_default and not l.is_parted and not l.is_pending and l.upper_at is not null
    order by l.lower_at is not null and rehearsal.lifecycle_step(l.lower_at, k.every, 1, k.zone) = l.upper_at desc,
             l.upper_at desc
    limit 1
$$;

-- Keys that count: the newest one that has a partition with bounds, since one wrong key in the default partition must neither
-- make partitions nor let any go. In an empty table, where the first partition begins.
create or replace function rehearsal.lifecycle_newest(of_table regclass) returns numeric
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    k record; low numeric; high numeric; newest numeric;
begin
    select * into k from rehearsal.lifecycle_key(of_table);
    select min(coalesce(l.lower_at, l.upper_at - 1)), max(l.upper_at) into low, high
    from rehearsal.lifecycle_leaves(of_table) as l where not l.is_default and not l.is_pending;
    execute format('select %1$I::numeric from %2$s where %1$I < %3$L order by %1$I desc limit 1', k.key, of_table, high) into newest;
    return coalesce(newest, low);
end
$$;

-- Below this place every row is to go; NULL without a retention. Keys that count: so many before the newest key.
create or replace function rehearsal.lifecycle_cutoff(of_table regclass, moment timestamptz) returns numeric
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    keep text := (select retention from rehearsal.lifecycle_policy where parent = of_table);
    k record;
begin
    select * into k from rehearsal.lifecycle_key(of_table);
    if keep is null then
        return null;
    elsif k.zone is not null then
        return rehearsal.lifecycle_step(rehearsal.lifecycle_place(moment), keep, -1, k.zone);
    end if;
    return rehearsal.lifecycle_newest(of_table) - keep::numeric;
end
$$;

-- Whether triggers of a switchover, or one that is not cleaned up, still write another table beside this one.
create or replace function rehearsal.lifecycle_partner(of_table regclass) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select coalesce(
        (select format('a switchover of %s is not cleaned up (state %s)', m.source, m.state)
         from rehearsal.migration as m, pg_class as c join pg_namespace as n on n.oid = c.relnamespace
         where c.oid = of_table and m.source in (
             n.nspname || '.' || c.relname,
             n.nspname || '.' || regexp_replace(c.relname, '_partitioned$', ''),
             '"' || replace(n.nspname, '"', '""') || '".' || c.relname)
         limit 1),
        (select format('trigger %I of pg-rehearsal is on it', t.tgname)
         from pg_trigger as t join pg_proc as p on p.oid = t.tgfoid
         where p.pronamespace = 'rehearsal'::regnamespace and t.tgparentid = 0
               -- Of a leaf that was closed for its archive and attached again: the next retention opens it.
               and p.proname <> 'lifecycle_refuse_write'
               and t.tgrelid in (select of_table union select leaf_oid from rehearsal.lifecycle_leaves(of_table))
         limit 1))
$$;

-- Where pg_partman serves a table: NULL where it does not.
create or replace function rehearsal.lifecycle_manager(of_table regclass) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    config regclass; served boolean;
    called text := (select n.nspname || '.' || c.relname from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
                    where c.oid = of_table);
begin
    for config in
        select c.oid from pg_class as c join pg_extension as e on e.extname = 'pg_partman'
        where c.relnamespace = e.extnamespace and c.relname = 'part_config'
    loop
        execute format('select exists (select from %s where parent_table = $1)', config) into served using called;
        if served then
            return format('pg_partman serves it (%s)', config);
        end if;
    end loop;
    return null;
end
$$;

-- How many leaves are ahead: of now, or of the newest key where keys count.
create or replace function rehearsal.lifecycle_ready(of_table regclass, moment timestamptz) returns integer
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    k record; here numeric := rehearsal.lifecycle_place(moment);
begin
    select * into k from rehearsal.lifecycle_key(of_table);
    if k.zone is null then
        here := rehearsal.lifecycle_newest(of_table);
    end if;
    return (select count(*) from rehearsal.lifecycle_leaves(of_table) as l
            where not l.is_default and not l.is_pending and l.lower_at > here);
end
$$;

-- Leaves that are wholly past the cutoff, oldest first; the last one of a table is never among them.
create or replace function rehearsal.lifecycle_expired(of_table regclass, moment timestamptz)
returns table (leaf_oid oid, leaf text, lower text, upper text)
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select l.leaf_oid, format('%s.%I', quote_ident(l.schema), l.name), l.lower, l.upper
    from rehearsal.lifecycle_leaves(of_table) as l
    where not l.is_default and not l.is_pending and l.upper_at <= rehearsal.lifecycle_cutoff(of_table, moment)
          and exists (select from rehearsal.lifecycle_leaves(of_table) as n
                      where not n.is_default and not n.is_pending and (n.upper_at is null or n.upper_at > l.upper_at))
    order by l.upper_at
$$;
