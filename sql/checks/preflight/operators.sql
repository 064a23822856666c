-- Columns of the primary key to be whose equality is not pg_catalog's "=": PostgreSQL's own sessions find no other
with recursive ours as (
    -- The primary key names its operator classes; the partition key gets the default one of its type.
    select a.attname, a.atttypid, x.indclass[k.position - 1] as class
    from pg_catalog.pg_index as x
    cross join lateral unnest(x.indkey::int2[]) with ordinality as k (attnum, position)
    join pg_catalog.pg_attribute as a on a.attrelid = x.indrelid and a.attnum = k.attnum
    where x.indrelid = %(oid)s::oid and x.indisprimary and k.position <= x.indnkeyatts
    union all
    select a.attname, a.atttypid, null
    from pg_catalog.pg_attribute as a
    where a.attrelid = %(oid)s::oid and a.attname = %(key)s and a.attnum > 0 and not a.attisdropped
), based (attname, shown, base, class) as (
    select attname, atttypid, atttypid, class from ours
    union all
    select b.attname, b.shown, t.typbasetype, b.class
    from based as b join pg_catalog.pg_type as t on t.oid = b.base and t.typtype = 'd'
), classes as (
    select b.attname, b.shown, coalesce(b.class, (
        select c.oid from pg_catalog.pg_opclass as c join pg_catalog.pg_am as m on m.oid = c.opcmethod
        where m.amname = 'btree' and c.opcdefault and c.opcintype = b.base
    )) as class
    from based as b join pg_catalog.pg_type as t on t.oid = b.base and t.typtype <> 'd'
)
select distinct c.attname, pg_catalog.format_type(c.shown, null), pg_catalog.format('%%I.%%s', n.nspname, o.oprname)
from classes as c
join pg_catalog.pg_opclass as k on k.oid = c.class
join pg_catalog.pg_amop as p on p.amopfamily = k.opcfamily and p.amopstrategy = 3
                                and p.amoplefttype = k.opcintype and p.amoprighttype = k.opcintype
join pg_catalog.pg_operator as o on o.oid = p.amopopr
join pg_catalog.pg_namespace as n on n.oid = o.oprnamespace
where n.nspname <> 'pg_catalog' or o.oprname <> '='
order by 1
