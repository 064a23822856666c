-- Leaves of a partitioned table with their bounds, in the order of the bounds' text
select c.oid::bigint as oid, n.nspname as schema, c.relname as name,
       pg_catalog.pg_get_expr(c.relpartbound, c.oid) as bound, c.relpages::bigint as pages,
       c.reltuples::bigint as estimated_rows, i.inhdetachpending as detach_pending
from pg_catalog.pg_inherits as i
join pg_catalog.pg_class as c on c.oid = i.inhrelid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where i.inhparent = %(oid)s::oid and c.relispartition
order by pg_catalog.pg_get_expr(c.relpartbound, c.oid)
