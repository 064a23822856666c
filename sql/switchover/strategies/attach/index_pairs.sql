-- Indexes of a partitioned table with those of one partition that belong to them, as they are called now
select p.relname as parent, c.relname as child, x.indisprimary as is_primary, pg_catalog.obj_description(p.oid, 'pg_class') as said
from pg_catalog.pg_index as x
join pg_catalog.pg_inherits as h on h.inhrelid = x.indexrelid
join pg_catalog.pg_class as c on c.oid = x.indexrelid
join pg_catalog.pg_class as p on p.oid = h.inhparent
where x.indrelid = %(history)s::oid
order by p.relname
