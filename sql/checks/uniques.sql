-- Unique indexes of a table as sets of expressions that must not repeat, the partition key left out of none of them
select i.relname as name, x.indisprimary as is_primary,
       array(
           select pg_catalog.pg_get_indexdef(x.indexrelid, n, false)
           from pg_catalog.generate_series(1, x.indnkeyatts) as n order by n
       ) as expressions,
       pg_catalog.pg_get_expr(x.indpred, x.indrelid) as predicate,
       pg_catalog.strpos(pg_catalog.pg_get_indexdef(x.indexrelid), ' NULLS NOT DISTINCT') > 0 as nulls_repeat,
       exists (
           select from pg_catalog.unnest(x.indkey::smallint[]) with ordinality as k (attnum, position)
           join pg_catalog.pg_attribute as a on a.attrelid = x.indrelid and a.attnum = k.attnum
           where k.position <= x.indnkeyatts and a.attname = %(key)s
       ) as has_key
from pg_catalog.pg_index as x
join pg_catalog.pg_class as i on i.oid = x.indexrelid
where x.indrelid = %(oid)s::oid and x.indisunique and x.indisvalid
order by x.indisprimary desc, i.relname
