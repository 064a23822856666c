-- Foreign keys that point at a table, its own among them; clones on partitions are left out
select con.conname as name, n.nspname as schema, c.relname as "table", c.relkind::text as kind,
       con.conrelid = con.confrelid as is_own,
       array(
           select a.attname::text from unnest(con.conkey) with ordinality as k (attnum, position)
           join pg_catalog.pg_attribute as a on a.attrelid = con.conrelid and a.attnum = k.attnum order by k.position
       ) as columns,
       array(
           select a.attname::text from unnest(con.confkey) with ordinality as k (attnum, position)
           join pg_catalog.pg_attribute as a on a.attrelid = con.confrelid and a.attnum = k.attnum order by k.position
       ) as referenced,
       con.confdeltype::text as on_delete, con.confupdtype::text as on_update, con.confmatchtype::text as match,
       exists (
           select from pg_catalog.pg_index as x where x.indexrelid = con.conindid and x.indisprimary
       ) as is_primary,
       con.condeferrable as deferrable, con.condeferred as deferred, con.convalidated as validated,
       pg_catalog.regexp_replace(pg_catalog.pg_get_constraintdef(con.oid), ' NOT VALID$', '') as definition,
       pg_catalog.pg_has_role(c.relowner, 'USAGE') as is_owner,
       array(
           select a.attname::text from pg_catalog.pg_attribute as a
           where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped order by a.attnum
       ) as has
from pg_catalog.pg_constraint as con
join pg_catalog.pg_class as c on c.oid = con.conrelid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where con.confrelid = %(oid)s::oid and con.contype = 'f' and con.conparentid = 0
order by n.nspname, c.relname, con.conname
