-- Which leaves are to be made, statement by statement: functions of schema rehearsal
-- lock: none; what the statements lock: SHARE UPDATE EXCLUSIVE on the table, SHARE ROW EXCLUSIVE on
--   tables that its foreign keys refer to, ACCESS EXCLUSIVE on a default partition, ms
-- second run: replaces the functions by themselves

-- An option as pg_class keeps it, with its value quoted.
create or replace function rehearsal.lifecycle_option(kept text) returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $$ select split_part(kept, '=', 1) || ' = ' || quote_literal(substr(kept, strpos(kept, '=') + 1)) $$;

-- What makes a new leaf like its sibling, but for what the table itself brings when it is attached.
create or replace function rehearsal.lifecycle_alike(leaf text, sibling oid) returns setof text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    c pg_class; g record; grantees text;
begin
    select * into c from pg_class where oid = sibling;
    if pg_get_userbyid(c.relowner) <> current_user and pg_has_role(c.relowner, 'MEMBER') then
        return next format('alter table %s owner to %I', leaf, pg_get_userbyid(c.relowner));
    end if;
    -- Default privileges of whoever makes the leaf are not those of its sibling.
    select string_agg(distinct case when x.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(x.grantee)) end, ', ')
    into grantees
    from pg_default_acl as d, aclexplode(d.defaclacl) as x
    where d.defaclobjtype = 'r' and d.defaclnamespace in (0, c.relnamespace) and d.defaclrole = current_user::regrole
          and x.grantee <> c.relowner;
    if grantees is not null then
        return next format('revoke all on %s from %s', leaf, grantees);
    end if;
    for g in
        select x.privilege_type, x.is_grantable, '' as col, x.grantee from aclexplode(c.relacl) as x where x.grantee <> c.relowner
        union all
        select x.privilege_type, x.is_grantable, format(' (%I)', a.attname), x.grantee
        from pg_attribute as a, aclexplode(a.attacl) as x where a.attrelid = sibling and not a.attisdropped and x.grantee <> c.relowner
        order by 4, 1, 3
    loop
        return next format('grant %s%s on %s to %s%s', g.privilege_type, g.col, leaf,
                           case when g.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(g.grantee)) end,
                           case when g.is_grantable then ' with grant option' else '' end);
    end loop;
    for g in select a.attname, a.attstattarget as target from pg_attribute as a
             where a.attrelid = sibling and a.attnum > 0 and not a.attisdropped and a.attstattarget >= 0 loop
        return next format('alter table %s alter column %I set statistics %s', leaf, g.attname, g.target);
    end loop;
    for g in select a.attname, (select string_agg(rehearsal.lifecycle_option(o), ', ') from unnest(a.attoptions) as o) as options
             from pg_attribute as a where a.attrelid = sibling and a.attnum > 0 and not a.attisdropped and a.attoptions is not null loop
        return next format('alter table %s alter column %I set (%s)', leaf, g.attname, g.options);
    end loop;
    if c.relrowsecurity then
        return next format('alter table %s enable row level security', leaf);
    end if;
    if c.relforcerowsecurity then
        return next format('alter table %s force row level security', leaf);
    end if;
    if c.relreplident in ('f', 'n') then
        return next format('alter table %s replica identity %s', leaf, case c.relreplident when 'f' then 'full' else 'nothing' end);
    end if;
    for g in select p.pubname, r.prqual, r.prrelid, r.prattrs from pg_publication_rel as r
             join pg_publication as p on p.oid = r.prpubid
             -- A publication of somebody else must not keep the leaf from being made: that it lacks it is said afterwards.
             where r.prrelid = sibling and pg_has_role(p.pubowner, 'MEMBER') order by 1 loop
        return next format('alter publication %I add table %s%s%s', g.pubname, leaf,
            ' (' || (select string_agg(quote_ident(a.attname), ', ' order by a.attnum) from pg_attribute as a
                     where a.attrelid = sibling and a.attnum = any (g.prattrs)) || ')',
            ' where (' || pg_get_expr(g.prqual, g.prrelid) || ')');
    end loop;
end
$$;

-- Indexes that the sibling has by itself, and the index that is its replica identity: after the table has brought its own.
create or replace function rehearsal.lifecycle_indexes(leaf text, sibling oid) returns setof text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    g record;
begin
    for g in
        select i.relname, x.indisunique, substr(d.whole, strpos(d.whole, d.head) + length(d.head)) as tail
        from pg_index as x join pg_class as i on i.oid = x.indexrelid
        join pg_class as c on c.oid = x.indrelid
        cross join lateral (
            select pg_get_indexdef(i.oid), format('INDEX %I ON %s.%I', i.relname, c.relnamespace::regnamespace, c.relname)
        ) as d (whole, head)
        where x.indrelid = sibling and x.indisvalid and not exists (select from pg_inherits where inhrelid = i.oid)
              and not exists (select from pg_constraint where conindid = i.oid and contype in ('p', 'u', 'x'))
        order by i.relname
    loop
        return next format('create %sindex on %s%s', case when g.indisunique then 'unique ' else '' end, leaf, g.tail);
    end loop;
    -- What is unique in each partition alone.
    for g in select pg_get_constraintdef(c.oid) as definition from pg_constraint as c
             where c.conrelid = sibling and c.contype in ('p', 'u', 'x') and c.conparentid = 0
                   and not exists (select from pg_inherits where inhrelid = c.conindid) order by c.conname loop
        return next format('alter table %s add %s', leaf, g.definition);
    end loop;
    for g in
        select pi.relname from pg_index as x join pg_inherits as h on h.inhrelid = x.indexrelid
        join pg_class as pi on pi.oid = h.inhparent where x.indrelid = sibling and x.indisreplident
    loop
        return next format('select rehearsal.lifecycle_replica_identity(%L, %L)', leaf, g.relname);
    end loop;
end
$$;

-- Let a leaf be identified by its part of an index of the table.
create or replace function rehearsal.lifecycle_replica_identity(leaf text, parent_index name) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    execute (select format('alter table %s replica identity using index %I', leaf, i.relname)
             from pg_index as x join pg_class as i on i.oid = x.indexrelid join pg_inherits as h on h.inhrelid = i.oid
             join pg_class as pi on pi.oid = h.inhparent and pi.relname = parent_index
             where x.indrelid = leaf::regclass);
end
$$;

-- One row a transaction. `mode`: locked (within the lock budget), plain (blocks nobody), alone (bears no transaction).
create or replace function rehearsal.lifecycle_to_make(of_table regclass, moment timestamptz)
returns table (act text, mode text, leaf text, leaf_oid oid, lower text, upper text, statements text[], undo text[])
language plpgsql stable set search_path = pg_catalog, pg_temp set timezone = 'UTC'
as $$
declare
    p rehearsal.lifecycle_policy; k record; c pg_class; sib pg_class; spare record;
    here numeric := rehearsal.lifecycle_place(moment); cutoff numeric; start numeric; until_at numeric; ahead bigint;
    parent text; title text; number integer; qualified text; made text[]; bounds text; range text;
    filled boolean; checked boolean := false; bookings boolean; small constant bigint := 8 * 1024 * 1024;
begin
    select l.leaf_oid, l.leaf_oid::regclass::text as name, pg_relation_size(l.leaf_oid) as bytes into spare
    from rehearsal.lifecycle_leaves(of_table) as l where l.is_default;
    if exists (select from pg_constraint where conrelid = spare.leaf_oid and conname = 'rehearsal_lifecycle') then
        -- Left by a run that was killed: it refuses rows, so it goes whatever bars the rest.
        return query select 'default-check-off', 'locked', spare.name, spare.leaf_oid, null::text, null::text, array[
            format('alter table %s drop constraint if exists rehearsal_lifecycle', spare.name)], array[]::text[];
    end if;
    if exists (select from rehearsal.lifecycle_troubles(of_table, moment) as t where t.bars_premake) then
        return;
    end if;
    select * into p from rehearsal.lifecycle_policy as l where l.parent = of_table;
    select * into k from rehearsal.lifecycle_key(of_table);
    select * into c from pg_class where oid = of_table;
    select * into sib from pg_class where oid = rehearsal.lifecycle_sibling(of_table);
    parent := format('%s.%I', c.relnamespace::regnamespace, c.relname);
    select max(l.upper_at), count(*) filter (where l.lower_at > here) into start, ahead
    from rehearsal.lifecycle_leaves(of_table) as l where not l.is_default and not l.is_pending;
    if k.zone is null then
        -- Keys that count know no present: so many after the newest key.
        ahead := rehearsal.lifecycle_ready(of_table, moment);
        here := rehearsal.lifecycle_newest(of_table);
    end if;
    -- A runner that was away catches up, but makes no leaf that retention would drop at once.
    cutoff := rehearsal.lifecycle_cutoff(of_table, moment);
    while cutoff is not null and rehearsal.lifecycle_step(start, k.every, 1, k.zone) <= least(cutoff, here) loop
        start := rehearsal.lifecycle_step(start, k.every, 1, k.zone);
    end loop;

    -- Where the application writes rows of coming periods, a check would refuse some of them.
    execute format('select exists (select from %s where %I >= %L)', parent, k.key,
                   rehearsal.lifecycle_bound(k.base, k.epoch, rehearsal.lifecycle_step(here, k.every, 1, k.zone))) into bookings;

    while ahead < p.premake loop
        until_at := rehearsal.lifecycle_step(start, k.every, 1, k.zone);
        act := 'premake'; mode := 'locked'; leaf_oid := null;
        lower := rehearsal.lifecycle_bound(k.base, k.epoch, start);
        upper := rehearsal.lifecycle_bound(k.base, k.epoch, until_at);
        exit when lower is null;
        title := rehearsal.lifecycle_fit(c.relname, '_' || rehearsal.lifecycle_suffix(start, k.every, k.zone));
        number := 1;
        -- A name may be taken, by a leaf that is held or by anything else: it says nothing of bounds.
        while exists (select from pg_class where relname = title and relnamespace = c.relnamespace)
              or exists (select from pg_type where typname = title and typnamespace = c.relnamespace) loop
            number := number + 1;
            title := rehearsal.lifecycle_fit(c.relname, '_' || rehearsal.lifecycle_suffix(start, k.every, k.zone) || '_' || number);
        end loop;
        qualified := format('%s.%I', c.relnamespace::regnamespace, title);
        leaf := qualified;
        bounds := format('from (%L) to (%s)', lower, coalesce(quote_literal(upper), 'maxvalue'));
        made := array[format(
            'create table %s (like %s including defaults including constraints including generated including storage '
            'including compression including comments)%s%s%s', qualified, parent,
            ' using ' || (select quote_ident(amname) from pg_am where oid = sib.relam),
            ' with (' || (select string_agg(rehearsal.lifecycle_option(o), ', ') from (
                select unnest(sib.reloptions) union all
                select 'toast.' || unnest(t.reloptions) from pg_class as t where t.oid = sib.reltoastrelid) as s (o)) || ')',
            ' tablespace ' || (select quote_ident(spcname) from pg_tablespace where oid = sib.reltablespace))];
        made := made || array(select rehearsal.lifecycle_alike(qualified, sib.oid));
        range := format('%I >= %L%s', k.key, lower, coalesce(format(' and %I < %L', k.key, upper), ''));
        if spare.bytes > 0 then
            execute format('select exists (select from %s where %s)', spare.name, range) into filled;
            -- Rows are never hidden: they have to be moved first.
            exit when filled;
        end if;
        -- A large default partition is not read under the lock of ATTACH: a check says beforehand what it would look for.
        -- Meanwhile the check refuses rows of that range, so it is not used where rows may be coming just now.
        checked := spare.bytes > small and start > here and not bookings;
        undo := array[]::text[];
        if checked then
            undo := array[format('alter table %s drop constraint if exists rehearsal_lifecycle', spare.name)];
            return query select 'default-check', 'locked', spare.name, spare.leaf_oid, here_lower, here_upper, undo || format(
                'alter table %s add constraint rehearsal_lifecycle check (%I < %L%s) not valid', spare.name, k.key, here_lower,
                coalesce(format(' or %I >= %L', k.key, here_upper), '')), undo
            from (values (lower, upper)) as v (here_lower, here_upper);
            return query select 'default-validate', 'plain', spare.name, spare.leaf_oid, v.a, v.b,
                array[format('alter table %s validate constraint rehearsal_lifecycle', spare.name)], undo
            from (values (lower, upper)) as v (a, b);
        end if;
        made := made || format('alter table %s attach partition %s for values %s', parent, qualified, bounds);
        if checked then
            made := made || undo;
        end if;
        made := made || array(select rehearsal.lifecycle_indexes(qualified, sib.oid));
        statements := made || format(
            'insert into rehearsal.lifecycle_history (parent, act, leaf, leaf_oid, lower, upper, at) values '
            '(%L, ''premake'', %L, %2$L::regclass::oid, %s, %s, rehearsal.lifecycle_now())',
            of_table::text, qualified, quote_nullable(lower), quote_nullable(upper));
        return next;
        ahead := ahead + (start > here)::int;
        start := until_at;
        exit when upper is null;
    end loop;
end
$$;
