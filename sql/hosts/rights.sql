-- What a rehearsal needs and the server does not give yet, a row each: kind, statement, what for. Reads only, as any role.
-- psql variables: migrator, app, tables (a JSON list of names), strategy, kind (of environment). Kinds of rows, in this order:
--   right     the migrating role lacks it; whoever administers the server can give it by this statement
--   owner     likewise, but it is for people to decide
--   wanted    the engine does without, or part of the rehearsal cannot be seen or done; no service need give it
--   seen      the last row: proves that it was looked at
select current_setting('server_version_num')::int >= 150000 as can_grant \gset
with plan_table as (
    select c.oid, c.relowner, c.relnamespace, format('%I.%I', n.nspname, c.relname) as label
    from json_array_elements_text(:'tables'::json) as named (name)
    join pg_catalog.pg_class as c on c.oid = pg_catalog.to_regclass(named.name)
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
),
place as (
    select distinct n.oid, n.nspname
    from json_array_elements_text(:'tables'::json) as named (name)
    join pg_catalog.pg_namespace as n
        on n.nspname = case when named.name like '%.%' then split_part(named.name, '.', 1) else 'public' end
),
-- What belongs to a role that the migrating one must be able to be: the plan's tables and their statistics; and, since a swap
-- alone touches them, tables that point at those of the plan.
altered (relowner, what, label) as (
    select t.relowner, 'table', t.label from plan_table as t
    union
    select c.relowner, 'table', format('%I.%I', n.nspname, c.relname)
    from pg_catalog.pg_constraint as k
    join plan_table as t on t.oid = k.confrelid
    join pg_catalog.pg_class as c on c.oid = k.conrelid
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    where k.contype = 'f' and k.conparentid = 0 and :'strategy' = 'swap'
    union
    select s.stxowner, 'statistics', format('%I.%I', n.nspname, s.stxname)
    from pg_catalog.pg_statistic_ext as s
    join plan_table as t on t.oid = s.stxrelid
    join pg_catalog.pg_namespace as n on n.oid = s.stxnamespace
),
-- A role that is not there yet has no right, and may have none that nobody should give.
role as (
    select r.oid, :'migrator'::name as rolname, coalesce(r.rolsuper, false) as rolsuper,
           coalesce(r.rolinherit, true) as rolinherit, coalesce(r.rolcreatedb, true) as rolcreatedb,
           current_setting('server_version_num')::int as version
    from (select 1) as one left join pg_catalog.pg_roles as r on r.rolname = :'migrator'
),
-- Usable: its rights without SET ROLE, and objects can be given to it.
owner as (
    select o.rolname, o.rolsuper, string_agg(a.label, ', ' order by a.what desc, a.label) as labels, a.relowner
    from altered as a
    cross join role as m
    join pg_catalog.pg_roles as o on o.oid = a.relowner
    where not m.rolsuper and a.relowner is distinct from m.oid
          and not coalesce(
              pg_has_role(m.oid, a.relowner, 'usage')
              and pg_has_role(m.oid, a.relowner, case when m.version >= 160000 then 'set' else 'member' end), false)
    group by o.rolname, o.rolsuper, a.relowner
),
-- What is made anew refers to these, and belongs to others: tables that foreign keys point at, functions of triggers.
referred as (
    select c.oid, c.relowner, c.relnamespace, format('%I.%I', n.nspname, c.relname) as label
    from pg_catalog.pg_constraint as k
    join plan_table as t on t.oid = k.conrelid
    join pg_catalog.pg_class as c on c.oid = k.confrelid
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    where k.contype = 'f' and k.confrelid <> k.conrelid
),
called as (
    select p.oid, p.proowner, p.pronamespace, p.oid::regprocedure::text as label
    from pg_catalog.pg_trigger as g
    join plan_table as t on t.oid = g.tgrelid
    join pg_catalog.pg_proc as p on p.oid = g.tgfoid
    where not g.tgisinternal
),
preload as (
    select (select s.setting from pg_catalog.pg_settings as s where s.name = 'shared_preload_libraries') as libraries
),
missing (rank, kind, statement, reason) as (
    select 1, 'right', format('create role %I login;', :'app'), 'the application has a role; give it its password'
    where not exists (select from pg_catalog.pg_roles where rolname = :'app')
    union all
    select 2, 'right', format('grant connect, create on database %I to %I;', current_database(), m.rolname),
           'it makes the schema `rehearsal`, where the state of the tool is'
    from role as m
    where not has_database_privilege(m.oid, current_database(), 'connect')
          or not has_database_privilege(m.oid, current_database(), 'create')
    union all
    select 3, 'right', format('grant usage, create on schema %I to %I;', p.nspname, m.rolname),
           'it makes the partitioned tables there'
    from role as m cross join place as p
    where not has_schema_privilege(m.oid, p.oid, 'usage') or not has_schema_privilege(m.oid, p.oid, 'create')
    union all
    select 4, 'right', format('grant usage on schema %I to %I;', p.nspname, a.rolname), 'the application works there'
    from pg_catalog.pg_roles as a cross join place as p
    where a.rolname = :'app' and not has_schema_privilege(a.oid, p.oid, 'usage')
    union all
    select 5, 'right', format('alter role %I inherit;', m.rolname), 'without it, what is granted to it has no effect'
    from role as m where not m.rolinherit and not m.rolsuper
    union all
    select 6, case when o.rolsuper then 'owner' else 'right' end,
           case when o.rolsuper
                then (select string_agg(format('alter %s %s owner to %I;', a.what, a.label, m.rolname), ' '
                                        order by a.what desc, a.label)
                      from altered as a where a.relowner = o.relowner)
                else format('grant %I to %I%s;', o.rolname, m.rolname,
                            case when m.version >= 160000 then ' with inherit true, set true' else '' end) end,
           format('owns %s; triggers and renames are for the owner', o.labels)
           || case when o.rolsuper then ', and nobody should be given a superuser''s rights' else '' end
    from owner as o cross join role as m
    union all
    select distinct 7, 'right', format('grant create on schema %I to %I;', p.nspname, o.rolname),
           'the partitioned tables will be owned as their sources are'
    from plan_table as t
    join place as p on p.oid = t.relnamespace
    join pg_catalog.pg_roles as o on o.oid = t.relowner
    cross join role as m
    where t.relowner <> m.oid and not has_schema_privilege(o.oid, p.oid, 'create')
    union all
    -- Without UPDATE no foreign key can be made: its table is locked in a mode that REFERENCES alone does not allow.
    select distinct 8, 'right', format('grant references, update on %s to %I;', r.label, m.rolname),
           'foreign keys of the partitioned tables point at it'
    from referred as r
    cross join role as m
    where not (has_any_column_privilege(m.oid, r.oid, 'references')
               and has_table_privilege(m.oid, r.oid, 'update, delete, truncate'))
          -- With the owner's rights it has this too.
          and not exists (select from owner as o where o.relowner = r.relowner and not o.rolsuper)
    union all
    select distinct 8, 'right', format('grant execute on function %s to %I;', f.label, m.rolname),
           'triggers of the partitioned tables call it'
    from called as f
    cross join role as m
    where not has_function_privilege(m.oid, f.oid, 'execute')
          and not exists (select from owner as o where o.relowner = f.proowner and not o.rolsuper)
    union all
    select 8, 'right', format('grant usage on schema %I to %I;', n.nspname, m.rolname),
           'what the partitioned tables refer to is there'
    from (select relnamespace from referred union select pronamespace from called) as s (oid)
    join pg_catalog.pg_namespace as n on n.oid = s.oid
    cross join role as m
    where not has_schema_privilege(m.oid, n.oid, 'usage') and n.oid not in (select p.oid from place as p)
    union all
    -- A single verb is only slower to say who is in its way: where nothing is rehearsed, it is no reason to refuse.
    select 9, case when :'kind' = 'production' or pg_has_role(m.oid, 'pg_read_all_stats', 'usage') then 'wanted' else 'right' end,
           format('grant pg_monitor to %I%s;', m.rolname, case when m.version >= 160000 then ' with inherit true' else '' end),
           case when pg_has_role(m.oid, 'pg_read_all_stats', 'usage')
                then 'without it, WAL that waits to be archived is not seen' else 'it must see who waits for whom' end
    from role as m
    where not m.rolsuper and not pg_has_role(m.oid, 'pg_monitor', 'usage')
\if :can_grant
    union all
    -- No service need give these. Before PostgreSQL 15 a superuser alone has them, and there is nothing to grant.
    select 10, 'wanted', format('grant set on parameter %s to %I;', one.name, m.rolname), one.reason
    from role as m
    cross join (values ('session_replication_role', 'without it, that triggers fire for the replica role is read, not tried'),
                       ('deadlock_timeout', 'without it, autovacuum yields a second later to a lock')) as one (name, reason)
    where not has_parameter_privilege(m.oid, one.name, 'set')
\endif
    union all
    select 11, 'wanted', format('alter role %I createdb;', m.rolname), 'without it the backup is not restored for a test, and there is no GO'
    from role as m where not m.rolcreatedb and not m.rolsuper
    union all
    -- Each library quoted by itself: a list in one pair of quotes is one library, and the server would not start.
    select 12, 'wanted',
           case when p.libraries is null then 'show shared_preload_libraries;' else
           'alter system set shared_preload_libraries = '
           || (select string_agg(quote_literal(btrim(one.name)), ', ' order by one.place)
               from string_to_table(p.libraries || ', pg_stat_statements', ',') with ordinality as one (name, place)
               where btrim(one.name) <> '')
           || ';' end,
           case when p.libraries is null then 'this role lacks the privilege to see it; pg_stat_statements must be among them: '
                else 'then restart the server, or set it as the service has it; ' end
           || 'without it, statements of the application are not seen, those included that a partitioned table would refuse'
    from preload as p where coalesce(p.libraries, '') !~ '\mpg_stat_statements\M'
    union all
    select 13, 'wanted', 'create extension pg_stat_statements;', 'the statements are to be had in this database'
    from pg_catalog.pg_available_extensions as e
    where e.name = 'pg_stat_statements' and e.installed_version is null
    union all
    select 99, 'seen', '', ''
)
select kind, statement, reason from missing order by rank, statement;
