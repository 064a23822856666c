-- Columns of a table, dropped ones left out. A default names no column, so it needs no table to be printed by: with one,
-- PostgreSQL looks at all columns for each of them, 0.1 s for 300
select a.attname as name, pg_catalog.quote_ident(a.attname) as quoted,
       pg_catalog.format_type(a.atttypid, a.atttypmod) as type,
       a.attnotnull as not_null,
       pg_catalog.pg_get_expr(d.adbin, case when a.attgenerated = '' then 0 else d.adrelid end) as default_sql,
       a.attgenerated::text as generated, a.attidentity::text as identity,
       t.typname as type_name, t.typtype::text as type_kind,
       pg_catalog.pg_get_serial_sequence(pg_catalog.format('%%I.%%I', n.nspname, c.relname), a.attname) as sequence,
       case when l.collname <> 'default' then pg_catalog.format('%%I.%%I', ln.nspname, l.collname) end as collation
from pg_catalog.pg_attribute as a
join pg_catalog.pg_class as c on c.oid = a.attrelid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
join pg_catalog.pg_type as t on t.oid = a.atttypid
left join pg_catalog.pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
left join pg_catalog.pg_collation as l on l.oid = a.attcollation
left join pg_catalog.pg_namespace as ln on ln.oid = l.collnamespace
where a.attrelid = %(oid)s::oid and a.attnum > 0 and not a.attisdropped
order by a.attnum
