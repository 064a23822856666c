-- Which held leaves wait for their archive, how one is closed to writers, what is noted of a proven archive: functions of schema rehearsal
-- lock: none; what the statements lock: SHARE ROW EXCLUSIVE on the held leaf to close it, ms; ACCESS EXCLUSIVE on it and on tables
--   that its foreign keys refer to, ms, where one of them would write to the leaf
-- second run: replaces the functions by themselves

create or replace function rehearsal.lifecycle_refuse_write() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception using
        errcode = 'object_not_in_prerequisite_state',
        message = format('table %I.%I is closed to writers: it was detached by its retention and is archived before it is dropped',
                         tg_table_schema, tg_table_name),
        hint = 'It can be read until it is dropped; write to the table that it was a partition of';
end
$$;

-- What closes a leaf, as one text that is another once somebody has dropped, disabled or made it anew; NULL: it is not closed.
-- One trigger is for each row: statements on a table that the leaf inherits from fire no other. Both fire for replicas too.
create or replace function rehearsal.lifecycle_closing(held oid) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select string_agg(format('%s/%s', t.oid, t.xmin), ' ' order by t.tgname) from pg_trigger as t
    where t.tgrelid = held and t.tgname in ('rehearsal_closed', 'rehearsal_closed_row') and t.tgenabled = 'A'
          and t.tgfoid = 'rehearsal.lifecycle_refuse_write()'::regprocedure
    having count(*) = 2
$$;

-- Whether the archive that is noted of a leaf is proven and of the leaf as it is: closed ever since.
create or replace function rehearsal.lifecycle_proven(held oid) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select exists (
        select from rehearsal.lifecycle_archived as a join rehearsal.lifecycle_detached as d on d.leaf_oid = a.leaf_oid
        where a.leaf_oid = held and d.state = 'held' and a.row_version = d.row_version
              and a.closing = rehearsal.lifecycle_closing(held))
$$;

-- Foreign keys of a leaf that would write to it when the row that they refer to is deleted or gets another key.
create or replace function rehearsal.lifecycle_writing_keys(held oid) returns setof name
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select conname from pg_constraint
    where conrelid = held and contype = 'f' and (confdeltype in ('c', 'n', 'd') or confupdtype in ('c', 'n', 'd')) order by conname
$$;

-- Close a held leaf to writers until it is dropped, in the caller's transaction, which has locked it. Foreign keys that would
-- write to it go: the application's deletes would be refused by a table that it does not know any more.
create or replace function rehearsal.lifecycle_close(held oid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    d rehearsal.lifecycle_detached; objection text := rehearsal.lifecycle_objection(held); closer name; key name; taken text;
begin
    select * into d from rehearsal.lifecycle_detached where leaf_oid = held;
    if d.state is distinct from 'held' or objection is not null then
        raise exception 'leaf % will not be archived: %', coalesce(d.leaf, held::text), coalesce(objection, 'it is not held any more');
    end if;
    for closer in select tgname from pg_trigger where tgrelid = held and tgname in ('rehearsal_closed', 'rehearsal_closed_row') loop
        execute format('drop trigger %I on %s', closer, d.leaf);
    end loop;
    execute format('create trigger rehearsal_closed before insert or update or delete or truncate on %s '
                   'for each statement execute function rehearsal.lifecycle_refuse_write()', d.leaf);
    execute format('create trigger rehearsal_closed_row before insert or update or delete on %s '
                   'for each row execute function rehearsal.lifecycle_refuse_write()', d.leaf);
    execute format('alter table %s enable always trigger rehearsal_closed, enable always trigger rehearsal_closed_row', d.leaf);
    for key in select k from rehearsal.lifecycle_writing_keys(held) as k loop
        taken := concat_ws(', ', taken, key);
        execute format('alter table %s drop constraint %I', d.leaf, key);
    end loop;
    -- A trigger changes the leaf's row in pg_class, which tells from what others altered.
    update rehearsal.lifecycle_detached set row_version = (select xmin::text from pg_class where oid = held) where leaf_oid = held;
    insert into rehearsal.lifecycle_history (parent, act, leaf, leaf_oid, lower, upper, said, at)
    values (d.parent::text, 'close', d.leaf, held, d.lower, d.upper, 'foreign keys taken off: ' || taken, rehearsal.lifecycle_now());
end
$$;

-- One row a held leaf that waits for its archive, with the statements that close it; none where it is closed already.
create or replace function rehearsal.lifecycle_to_archive(of_table regclass)
returns table (act text, mode text, leaf text, leaf_oid oid, lower text, upper text, statements text[])
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select 'close', 'locked', d.leaf, d.leaf_oid, d.lower, d.upper,
           case when rehearsal.lifecycle_closing(d.leaf_oid) is not null
                     and not exists (select from rehearsal.lifecycle_writing_keys(d.leaf_oid)) then '{}'::text[]
                else array[
                    format('lock table %s in %s mode', d.leaf, case
                        when exists (select from rehearsal.lifecycle_writing_keys(d.leaf_oid))
                             or exists (select from pg_trigger as t where t.tgrelid = d.leaf_oid and t.tgname like 'rehearsal\_closed%')
                        then 'access exclusive' else 'share row exclusive' end),
                    format('select rehearsal.lifecycle_close(%s)', d.leaf_oid)] end
    from rehearsal.lifecycle_detached as d join rehearsal.lifecycle_policy as p on p.parent = d.parent and p.archive
    where d.parent = of_table and d.state = 'held' and rehearsal.lifecycle_objection(d.leaf_oid) is null
          and not rehearsal.lifecycle_proven(d.leaf_oid)
    order by d.since, d.leaf_oid;
end
$$;

-- By OID, which table the leaf of a noted archive was of.
create or replace function rehearsal.lifecycle_archived_of(held oid) returns oid
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select coalesce(a.parent_oid, d.parent::oid, to_regclass(a.parent)::oid)
    from rehearsal.lifecycle_archived as a left join rehearsal.lifecycle_detached as d on d.leaf_oid = a.leaf_oid
    where a.leaf_oid = held
$$;

-- Note that the archive of a leaf is proven, unless the leaf was open to writers since `closed_by` was seen.
create or replace function rehearsal.lifecycle_note_archive(
    held oid, closed_by text, number_of_rows bigint, row_digest text, manifest_path text, manifest_sum text, file_sum text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    d rehearsal.lifecycle_detached; objection text := rehearsal.lifecycle_objection(held);
begin
    select * into d from rehearsal.lifecycle_detached where leaf_oid = held for update;
    if d.state is distinct from 'held' or objection is not null then
        raise exception 'leaf % is not archived: %', coalesce(d.leaf, held::text), coalesce(objection, 'it is not held any more');
    elsif closed_by is null or rehearsal.lifecycle_closing(held) is distinct from closed_by then
        raise exception 'leaf % is not archived: it was opened to writers meanwhile', d.leaf;
    end if;
    insert into rehearsal.lifecycle_archived (leaf_oid, leaf, parent, lower, upper, rows, digest, manifest, manifest_sha256, sha256,
                                              closing, row_version, archived_at, parent_oid)
    values (held, d.leaf, d.parent::text, d.lower, d.upper, number_of_rows, row_digest, manifest_path, manifest_sum, file_sum,
            closed_by, d.row_version, rehearsal.lifecycle_now(), d.parent::oid)
    on conflict (leaf_oid) do update set leaf = excluded.leaf, parent = excluded.parent, lower = excluded.lower, upper = excluded.upper,
        rows = excluded.rows, digest = excluded.digest, manifest = excluded.manifest, manifest_sha256 = excluded.manifest_sha256,
        sha256 = excluded.sha256, closing = excluded.closing, row_version = excluded.row_version,
        archived_at = excluded.archived_at, parent_oid = excluded.parent_oid, archived_by = session_user;
    insert into rehearsal.lifecycle_history (parent, act, leaf, leaf_oid, lower, upper, said, at)
    values (d.parent::text, 'archive', d.leaf, held, d.lower, d.upper,
            format('%s rows in %s, SHA-256 %s', number_of_rows, manifest_path, file_sum), rehearsal.lifecycle_now());
end
$$;

-- Take back the note of an archive that is not what was proven any more: its leaf waits again.
create or replace function rehearsal.lifecycle_lose_archive(held oid, file_sum text, why text) returns void
language sql volatile set search_path = pg_catalog, pg_temp
as $$
    with gone as (delete from rehearsal.lifecycle_archived where leaf_oid = held and sha256 = file_sum returning *)
    insert into rehearsal.lifecycle_history (parent, act, leaf, leaf_oid, lower, upper, said, at)
    select g.parent, 'archive-lost', g.leaf, g.leaf_oid, g.lower, g.upper, why, rehearsal.lifecycle_now() from gone as g
$$;

-- Refuse unless the noted archive is the one that the drop was decided for.
create or replace function rehearsal.lifecycle_require_archive(held oid, file_sum text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    if not rehearsal.lifecycle_proven(held)
       or not exists (select from rehearsal.lifecycle_archived where leaf_oid = held and sha256 = file_sum) then
        raise exception 'leaf % will not be dropped: its archive is not the one that was noted when that was decided',
            (select leaf from rehearsal.lifecycle_detached where leaf_oid = held);
    end if;
end
$$;

-- Leaves of a table that have keys of a range which is to be attached; NULL bounds are no limit.
create or replace function rehearsal.lifecycle_overlaps(of_table regclass, lower text, upper text) returns setof text
language sql stable set search_path = pg_catalog, pg_temp set timezone = 'UTC' set datestyle = 'ISO, MDY'
as $$
    select format('%s.%I', quote_ident(l.schema), l.name)
    from rehearsal.lifecycle_key(of_table) as k
    cross join lateral rehearsal.lifecycle_leaves(of_table) as l
    -- OFFSET: as constants they would be read as each kind of key when the query is planned.
    cross join (select lifecycle_overlaps.lower, lifecycle_overlaps.upper offset 0) as g (lower, upper)
    cross join lateral (select rehearsal.lifecycle_place_of(k.base, k.epoch, g.lower),
                               rehearsal.lifecycle_place_of(k.base, k.epoch, g.upper)) as b (lower_at, upper_at)
    where not l.is_default and coalesce(l.lower_at < b.upper_at, true) and coalesce(b.lower_at < l.upper_at, true)
    order by l.lower_at nulls first
$$;

-- What makes a leaf anew as a table like its parent, before its rows come.
create or replace function rehearsal.lifecycle_remade(of_table regclass, leaf text) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select format('create table %s (like %s.%I including defaults including constraints including generated including storage '
                  'including compression including comments including indexes)', leaf, c.relnamespace::regnamespace, c.relname)
    from pg_class as c where c.oid = of_table
$$;

-- What takes off a new table the rights that default privileges gave to others: nobody but its owner reads it.
create or replace function rehearsal.lifecycle_private(made oid) returns setof text
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select format('revoke all on %s from %s', made::regclass,
                  string_agg(distinct case when x.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(x.grantee)) end, ', '))
    from pg_class as c cross join lateral aclexplode(c.relacl) as x
    where c.oid = made and x.grantee <> c.relowner having count(*) > 0
$$;

-- What goes between a table that was remade and its rows: rights of others, and constraints that the parent has not proven, which
-- rows of before may break.
create or replace function rehearsal.lifecycle_loading(of_table regclass, leaf text) returns setof text
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select rehearsal.lifecycle_private(leaf::regclass)
    union all
    select format('alter table %s drop constraint if exists %I', leaf, o.conname) from pg_constraint as o
    where o.conrelid = of_table and o.contype in ('c', 'n') and not o.convalidated
$$;

-- What comes after the rows: those constraints as the parent has them, and its row security.
create or replace function rehearsal.lifecycle_loaded(of_table regclass, leaf text) returns setof text
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select format('alter table %s add constraint %I %s', leaf, o.conname, pg_get_constraintdef(o.oid)) from pg_constraint as o
    where o.conrelid = of_table and o.contype in ('c', 'n') and not o.convalidated
    union all
    select format('alter table %s enable row level security', leaf) from pg_class where oid = of_table and relrowsecurity
    union all
    select format('alter table %s force row level security', leaf) from pg_class where oid = of_table and relforcerowsecurity
$$;

-- What attaches a table that was remade, one row a transaction: all that ATTACH would look for in rows is said by constraints first.
create or replace function rehearsal.lifecycle_to_reattach(of_table regclass, leaf text, lower text, upper text)
returns table (act text, mode text, leaf_name text, leaf_oid oid, lower_bound text, upper_bound text, statements text[])
language plpgsql stable set search_path = pg_catalog, pg_temp set timezone = 'UTC'
as $$
declare
    k record; g record; c pg_class; sibling oid := rehearsal.lifecycle_sibling(of_table); remade oid := leaf::regclass;
begin
    select * into k from rehearsal.lifecycle_key(of_table);
    select * into c from pg_class where oid = of_table;
    return query select 'bounds', 'plain', leaf, remade, lower, upper, array[
        format('alter table %s drop constraint if exists rehearsal_bounds', leaf),
        format('alter table %s add constraint rehearsal_bounds check (%s)', leaf, concat_ws(' and ',
            format('%I is not null', k.key),
            case when lower is not null then format('%I >= %L', k.key, lower) end,
            case when upper is not null then format('%I < %L', k.key, upper) end))];
    for g in select o.conname, pg_get_constraintdef(o.oid) as definition from pg_constraint as o
             where o.conrelid = of_table and o.contype = 'f' and o.conparentid = 0
                   and not exists (select from pg_constraint as own where own.conrelid = remade and own.conname = o.conname
                                   and own.contype = 'f' and own.convalidated)
             order by o.conname loop
        return query select 'foreign-key', 'locked', leaf, remade, lower, upper, array[
            format('alter table %s drop constraint if exists %I', leaf, g.conname),
            format('alter table %s add constraint %I %s not valid', leaf, g.conname, regexp_replace(g.definition, ' NOT VALID$', ''))];
        return query select 'validate', 'plain', leaf, remade, lower, upper, array[
            format('alter table %s validate constraint %I', leaf, g.conname)];
    end loop;
    -- One that was held anew is closed to writers.
    return query select 'reattach', 'locked', leaf, remade, lower, upper,
        array(select format('drop trigger %I on %s', t.tgname, leaf) from pg_trigger as t
              where t.tgrelid = remade and t.tgfoid = 'rehearsal.lifecycle_refuse_write()'::regprocedure order by t.tgname)
        || array(select s from rehearsal.lifecycle_alike(leaf, sibling) as s where sibling is not null)
        || format('alter table %s.%I attach partition %s for values from (%s) to (%s)', c.relnamespace::regnamespace, c.relname, leaf,
                  coalesce(quote_literal(lower), 'minvalue'), coalesce(quote_literal(upper), 'maxvalue'))
        || format('alter table %s drop constraint rehearsal_bounds', leaf)
        || format('delete from rehearsal.lifecycle_detached where leaf_oid = %s', remade)
        || array(select s from rehearsal.lifecycle_indexes(leaf, sibling) as s where s like 'select %')
        || format('insert into rehearsal.lifecycle_history (parent, act, leaf, leaf_oid, lower, upper, at) values '
                  '(%L, ''reattach'', %L, %s, %s, %s, rehearsal.lifecycle_now())',
                  of_table::text, leaf, remade, quote_nullable(lower), quote_nullable(upper));
end
$$;
