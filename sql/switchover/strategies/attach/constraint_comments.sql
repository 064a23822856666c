-- Constraints of history with another comment than that on the partitioned table, which is the one that people know
select coalesce(i.relname, c.conname) as name, p.contype = 'p' as is_primary, pg_catalog.obj_description(p.oid, 'pg_constraint') as said
from pg_catalog.pg_constraint as p
join pg_catalog.pg_constraint as c on c.conrelid = %(history)s::oid and c.contype = p.contype
left join pg_catalog.pg_class as i on i.oid = p.conindid and p.contype in ('p', 'u', 'x')
left join pg_catalog.pg_attribute as ours on p.contype = 'n' and (ours.attrelid, ours.attnum) = (p.conrelid, p.conkey[1])
left join pg_catalog.pg_attribute as theirs on p.contype = 'n' and (theirs.attrelid, theirs.attnum) = (c.conrelid, c.conkey[1])
where p.conrelid = %(parent)s::oid
  and (c.conparentid = p.oid or (p.contype = 'c' and c.conname = p.conname) or ours.attname = theirs.attname)
  and pg_catalog.obj_description(c.oid, 'pg_constraint') is distinct from pg_catalog.obj_description(p.oid, 'pg_constraint')
order by 1
