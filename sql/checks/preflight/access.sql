-- Relations that a switchover reads or writes just now, their partitions among them, and what the role is to each
with recursive named as (
    select c.oid, n.nspname || '.' || c.relname as name, true as is_ours
    from unnest(%(schemas)s::text[], %(names)s::text[]) as l (schema, name)
    join pg_catalog.pg_namespace as n on n.nspname = l.schema
    join pg_catalog.pg_class as c on c.relnamespace = n.oid and c.relname = l.name and c.relkind in ('r', 'p')
), trees as (
    select oid, is_ours from named
    union
    select i.inhrelid, t.is_ours from trees as t join pg_catalog.pg_inherits as i on i.inhparent = t.oid
), referring as (
    select con.conrelid from pg_catalog.pg_constraint as con join named on con.confrelid = named.oid
    where con.contype = 'f' and con.conparentid = 0
)
select n.nspname as schema, c.relname as name, pg_catalog.pg_get_userbyid(c.relowner) as owner,
       pg_catalog.pg_has_role(c.relowner, 'USAGE') as is_owner,
       -- Who asks is the migrating role: superusers and BYPASSRLS never, an owner and its members only where it is forced.
       c.relrowsecurity and pg_catalog.row_security_active(c.oid) as is_filtered, c.relforcerowsecurity as is_forced,
       pg_catalog.has_schema_privilege(c.relnamespace, 'CREATE') as may_create,
       one.is_ours, current_user as role
from (
    select oid, is_ours from trees union select conrelid, false from referring where conrelid not in (select oid from trees)
) as one
join pg_catalog.pg_class as c on c.oid = one.oid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
order by one.is_ours desc, 1, 2
