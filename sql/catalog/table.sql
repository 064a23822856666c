-- One table: what it is, who owns it, how big it is
select c.oid::bigint as oid, n.nspname as schema, c.relname as name, c.relkind::text as kind,
       pg_catalog.pg_get_userbyid(c.relowner) as owner,
       c.relacl::text[] as acl, c.reloptions as options, c.relrowsecurity as row_security,
       c.relreplident::text as replica_identity, c.relpersistence::text as persistence,
       pg_catalog.obj_description(c.oid, 'pg_class') as comment,
       pg_catalog.pg_get_partkeydef(c.oid) as partition_key,
       c.relpages::bigint as pages, c.reltuples::bigint as estimated_rows
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where n.nspname = %(schema)s and c.relname = %(name)s and c.relkind in ('r', 'p', 'f', 'v', 'm')
