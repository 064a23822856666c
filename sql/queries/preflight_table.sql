-- Facts about one table that can stop a switchover; catalogs only
select c.relkind::text as kind, c.relispartition as is_partition, c.relpersistence::text as persistence,
       c.relrowsecurity or exists (select from pg_catalog.pg_policy as p where p.polrelid = c.oid) as has_policies,
       c.relreplident::text as replica_identity,
       exists (select from pg_catalog.pg_inherits as i where i.inhrelid = c.oid or i.inhparent = c.oid) as is_inherited,
       pg_catalog.pg_has_role(c.relowner, 'USAGE') as is_owner,
       pg_catalog.has_schema_privilege(c.relnamespace, 'CREATE') as may_create,
       pg_catalog.age(c.relfrozenxid)::bigint as frozen_age,
       pg_catalog.current_setting('autovacuum_freeze_max_age')::bigint as freeze_max_age,
       pg_catalog.pg_total_relation_size(c.oid) as total_bytes,
       array(
           select a.attname::text from pg_catalog.pg_attribute as a
           where a.attrelid = c.oid and a.attacl is not null and not a.attisdropped
       ) as column_grants,
       array(
           select con.conname::text from pg_catalog.pg_constraint as con
           where con.conrelid = c.oid and con.contype = 'x'
       ) as exclusions
from pg_catalog.pg_class as c
where c.oid = %(oid)s::oid
