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
       parent.inhparent is not null as is_attached,
       -- From USING on, without the predicate: a name may itself say USING or WHERE.
       pg_catalog.left(d.tail, pg_catalog.length(d.tail) - pg_catalog.length(coalesce(' WHERE ' || d.predicate, ''))) as tail,
       d.predicate,
       array(
           select a.attname::text
           from unnest(x.indkey::smallint[]) with ordinality as k (attnum, position)
           join pg_catalog.pg_attribute as a on a.attrelid = x.indrelid and a.attnum = k.attnum
           where k.position > x.indnkeyatts
           order by k.position
       ) as included,
       coalesce(i.reloptions, '{}') as options, s.spcname as tablespace,
       case when con.condeferred then 'deferrable initially deferred' when con.condeferrable then 'deferrable' else '' end as deferrable,
       x.indisclustered as is_clustered
from pg_catalog.pg_index as x
join pg_catalog.pg_class as i on i.oid = x.indexrelid
join pg_catalog.pg_am as am on am.oid = i.relam
join pg_catalog.pg_class as c on c.oid = x.indrelid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
left join pg_catalog.pg_tablespace as s on s.oid = i.reltablespace
left join pg_catalog.pg_constraint as con on con.conindid = x.indexrelid and con.conrelid = x.indrelid and con.contype in ('p', 'u', 'x')
left join pg_catalog.pg_inherits as parent on parent.inhrelid = x.indexrelid
cross join lateral (
    select pg_catalog.substr(pg_catalog.pg_get_indexdef(x.indexrelid), 1 + pg_catalog.length(pg_catalog.format(
               'CREATE %%sINDEX %%I ON %%s%%I.%%I ', case when x.indisunique then 'UNIQUE ' else '' end, i.relname,
               case when i.relkind = 'I' then 'ONLY ' else '' end, n.nspname, c.relname))) as tail,
           pg_catalog.pg_get_expr(x.indpred, x.indrelid) as predicate
) as d
where x.indrelid = %(oid)s::oid
order by x.indisprimary desc, i.relname
