-- Sequences that columns of a table own, and the values that both stand at; only where the column holds numbers
select a.attname as "column", n.nspname as schema, s.relname as name, d.deptype = 'i' as is_identity,
       q.seqtypid::regtype::text as type, q.seqstart as start, q.seqincrement as increment, q.seqmin as min, q.seqmax as max,
       q.seqcache as cache, q.seqcycle as cycle, s.relpersistence::text as persistence,
       pg_catalog.obj_description(s.oid, 'pg_class') as comment,
       pg_catalog.format_type(a.atttypid, a.atttypmod) as column_type,
       a.atttypid in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype) as holds_numbers,
       array(
           select pg_catalog.jsonb_build_object(
               'privileges', string_agg(lower(x.privilege_type), ', ' order by x.privilege_type),
               'grantee', case when x.grantee = 0 then 'public' else pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(x.grantee)) end,
               'grantable', x.is_grantable)
           from pg_catalog.aclexplode(s.relacl) as x
           group by x.grantee, x.is_grantable
           order by x.grantee, x.is_grantable
       ) as grants
from pg_catalog.pg_attribute as a
join pg_catalog.pg_depend as d on d.refclassid = 'pg_class'::regclass and d.refobjid = a.attrelid and d.refobjsubid = a.attnum
                                  and d.classid = 'pg_class'::regclass and d.deptype in ('a', 'i')
join pg_catalog.pg_class as s on s.oid = d.objid and s.relkind = 'S'
join pg_catalog.pg_namespace as n on n.oid = s.relnamespace
join pg_catalog.pg_sequence as q on q.seqrelid = s.oid
where a.attrelid = %(oid)s::oid and not a.attisdropped
order by a.attnum, s.relname
