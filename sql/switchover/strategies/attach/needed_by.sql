-- What depends on partitions and is not theirs: views, foreign keys that point at one by itself, functions of its rows
with own as (
    select 'pg_class'::regclass as class, c.oid, c.oid as leaf from pg_catalog.pg_class as c where c.oid = any(%(leaves)s::oid[])
    union all
    select 'pg_class'::regclass, x.indexrelid, x.indrelid from pg_catalog.pg_index as x where x.indrelid = any(%(leaves)s::oid[])
    union all
    select 'pg_type'::regclass, t.oid, t.typrelid from pg_catalog.pg_type as t where t.typrelid = any(%(leaves)s::oid[])
), needed as (
    select distinct o.leaf, d.classid, d.objid, coalesce(v.oid, con.conrelid) as relation, con.conname
    from own as o
    join pg_catalog.pg_depend as d on d.refclassid = o.class and d.refobjid = o.oid and d.deptype = 'n'
    left join pg_catalog.pg_rewrite as r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid
    left join pg_catalog.pg_class as v on v.oid = r.ev_class
    left join pg_catalog.pg_constraint as con on d.classid = 'pg_constraint'::regclass and con.oid = d.objid
    left join pg_catalog.pg_trigger as g on d.classid = 'pg_trigger'::regclass and g.oid = d.objid
    left join pg_catalog.pg_policy as p on d.classid = 'pg_policy'::regclass and p.oid = d.objid
    left join pg_catalog.pg_attrdef as a on d.classid = 'pg_attrdef'::regclass and a.oid = d.objid
    where coalesce(v.oid, con.conrelid, g.tgrelid, p.polrelid, a.adrelid, 0) <> o.leaf
          and (con.oid is null or con.conparentid = 0)
          and not (d.classid = 'pg_class'::regclass and d.objid in (select oid from own))
)
select case when relation is null then pg_catalog.pg_describe_object(classid, objid, 0)
            when conname is null then 'view ' || relation::regclass::text
            else pg_catalog.format('foreign key %%I of %%s', conname, relation::regclass) end
       || ' on ' || leaf::regclass::text
from needed
order by 1
