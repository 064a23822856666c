-- Indexes of a table with the constraint that each one backs
select i.relname as name, pg_catalog.pg_get_indexdef(x.indexrelid) as definition,
       x.indisunique as is_unique, x.indisprimary as is_primary, x.indisvalid as is_valid,
       am.amname as method, con.conname as constraint_name,
       pg_catalog.pg_get_constraintdef(con.oid) as constraint_sql,
       array(
           select a.attname::text
           from unnest(x.indkey::smallint[]) with ordinality as k (attnum, position)
           join pg_catalog.pg_attribute as a on a.attrelid = x.indrelid and a.attnum = k.attnum
           where k.position <= x.indnkeyatts
           order by k.position
       ) as key_columns,
       x.indexprs is not null as has_expressions,
       parent.inhparent is not null as is_attached
from pg_catalog.pg_index as x
join pg_catalog.pg_class as i on i.oid = x.indexrelid
join pg_catalog.pg_am as am on am.oid = i.relam
left join pg_catalog.pg_constraint as con on con.conindid = x.indexrelid and con.contype in ('p', 'u', 'x')
left join pg_catalog.pg_inherits as parent on parent.inhrelid = x.indexrelid
where x.indrelid = %(oid)s::oid
order by x.indisprimary desc, i.relname
