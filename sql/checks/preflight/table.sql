-- Facts about one table that can stop a switchover; catalogs only
select c.relkind::text as kind, c.relispartition as is_partition, c.relpersistence::text as persistence,
       c.relforcerowsecurity as is_forced,
       (select r.rolsuper or r.rolbypassrls from pg_catalog.pg_roles as r where r.rolname = current_user) as bypasses_policies,
       pg_catalog.current_setting('server_version_num')::int as version,
       array(select p.polname::text from pg_catalog.pg_policy as p
             where p.polrelid = c.oid
                   and coalesce(p.polqual::text, '') || coalesce(p.polwithcheck::text, '') like '%%:relid ' || c.oid || ' %%') as own_policies,
       array(
           select pg_catalog.jsonb_build_object('name', t.tgname, 'is_row', t.tgtype & 1 = 1, 'on_update', t.tgtype & 16 = 16, 'is_before', t.tgtype & 2 = 2,
                                                'has_transition_tables', t.tgoldtable is not null or t.tgnewtable is not null)
           from pg_catalog.pg_trigger as t join pg_catalog.pg_proc as p on p.oid = t.tgfoid
           where t.tgrelid = c.oid and not t.tgisinternal and p.pronamespace is distinct from pg_catalog.to_regnamespace('rehearsal')
           order by t.tgname
       ) as own_triggers,
       array(select con.conname::text from pg_catalog.pg_constraint as con
             where con.conrelid = c.oid and con.contype = 'n' and not con.convalidated) as not_null_not_valid,
       array(select c.reloftype::regtype::text where c.reloftype <> 0) as of_type,
       array(select l.provider from pg_catalog.pg_seclabel as l
             where l.classoid = 'pg_catalog.pg_class'::regclass and l.objoid = c.oid) as labels,
       exists (select from pg_catalog.pg_inherits as i where i.inhrelid = c.oid or i.inhparent = c.oid) as is_inherited,
       pg_catalog.pg_has_role(c.relowner, 'USAGE') as is_owner,
       pg_catalog.has_schema_privilege(c.relnamespace, 'CREATE') as may_create,
       pg_catalog.age(c.relfrozenxid)::bigint as frozen_age,
       (
           -- Of the table and its TOAST, by transactions and by multixacts: how near the forced vacuum is; 1 is there.
           select max(greatest(
               pg_catalog.age(one.relfrozenxid)::float8 / least(
                   pg_catalog.current_setting('autovacuum_freeze_max_age')::float8,
                   (select o.option_value from pg_catalog.pg_options_to_table(one.reloptions) as o
                    where o.option_name = 'autovacuum_freeze_max_age')::float8
               ),
               pg_catalog.mxid_age(one.relminmxid)::float8
               / pg_catalog.current_setting('autovacuum_multixact_freeze_max_age')::float8
           ))
           from pg_catalog.pg_class as one where one.oid in (c.oid, c.reltoastrelid)
       ) as wraparound_share,
       exists (
           select from pg_catalog.pg_stat_activity as a
           join pg_catalog.pg_locks as l on l.pid = a.pid and l.relation = c.oid
           where a.backend_type = 'autovacuum worker' and a.query like '%%(to prevent wraparound)'
       ) as wraparound_vacuum,
       pg_catalog.pg_total_relation_size(c.oid) as total_bytes,
       array(
           select con.conname::text from pg_catalog.pg_constraint as con
           where con.conrelid = c.oid and con.contype = 'x'
       ) as exclusions
from pg_catalog.pg_class as c
where c.oid = %(oid)s::oid
