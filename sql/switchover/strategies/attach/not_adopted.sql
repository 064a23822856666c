-- Foreign keys and indexes of a partition that its parent does not have; one index is the partition's own
select con.conname as name
from pg_catalog.pg_constraint as con
where con.conrelid = %(oid)s::oid and con.contype = 'f' and con.conparentid = 0
union all
select i.relname
from pg_catalog.pg_index as x
join pg_catalog.pg_class as i on i.oid = x.indexrelid
where x.indrelid = %(oid)s::oid and i.relname <> %(own)s
      and not exists (select from pg_catalog.pg_inherits as h where h.inhrelid = x.indexrelid)
