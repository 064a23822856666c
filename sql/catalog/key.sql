-- A partition key: its type below all domains, its name if it is PostgreSQL's own, and whether it can be listed or hashed
with recursive base (type, typmod) as (
    select a.atttypid, a.atttypmod
    from pg_catalog.pg_attribute as a
    where a.attrelid = %(oid)s::oid and a.attname = %(key)s and a.attnum > 0 and not a.attisdropped
    union all
    select t.typbasetype, t.typtypmod
    from base as b
    join pg_catalog.pg_type as t on t.oid = b.type
    where t.typtype = 'd'
), operators (method, input) as (
    select m.amname, c.opcintype
    from pg_catalog.pg_opclass as c
    join pg_catalog.pg_am as m on m.oid = c.opcmethod
    where c.opcdefault and m.amname in ('btree', 'hash')
), named as (
    select b.type, b.typmod, t.typname, t.typtype, t.typcategory, n.nspname
    from base as b
    join pg_catalog.pg_type as t on t.oid = b.type and t.typtype <> 'd'
    join pg_catalog.pg_namespace as n on n.oid = t.typnamespace
), able as (
    select o.method
    from operators as o, named as t
    where o.input = t.type
          or (t.typtype = 'e' and o.input = 'pg_catalog.anyenum'::regtype)
          or (t.typtype = 'b' and t.typcategory = 'A' and o.input = 'pg_catalog.anyarray'::regtype)
          or exists (select from pg_catalog.pg_cast as c
                     where c.castsource = t.type and c.casttarget = o.input and c.castmethod = 'b' and c.castcontext = 'i')
)
select pg_catalog.format_type(t.type, t.typmod),
       case when t.nspname = 'pg_catalog' then t.typname::text else '' end,
       exists (select from able where method = 'btree'), exists (select from able where method = 'hash'),
       coalesce((select l.collisdeterministic
                 from pg_catalog.pg_attribute as a
                 join pg_catalog.pg_collation as l on l.oid = a.attcollation
                 where a.attrelid = %(oid)s::oid and a.attname = %(key)s), true)
from named as t
