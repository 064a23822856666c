-- Indexes of the leaves, with the parent's index that has adopted each
select p.relname as parent, c.relname as "table", i.relname as index
from pg_catalog.pg_index as x
join pg_catalog.pg_inherits as h on h.inhparent = x.indexrelid
join pg_catalog.pg_class as p on p.oid = x.indexrelid
join pg_catalog.pg_class as i on i.oid = h.inhrelid
join pg_catalog.pg_index as l on l.indexrelid = i.oid
join pg_catalog.pg_class as c on c.oid = l.indrelid
where x.indrelid = %(oid)s::oid
order by p.relname, c.relname
