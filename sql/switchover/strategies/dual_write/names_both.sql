-- Views, rules, functions and policies that name both tables of a pair: one text cannot name them once there is one
with pointer as (
    select d.classid, d.objid, d.refobjid from pg_catalog.pg_depend as d where d.refclassid = 'pg_catalog.pg_class'::regclass
    union
    select 'pg_catalog.pg_rewrite'::regclass, r.oid, r.ev_class from pg_catalog.pg_rewrite as r
)
select pg_catalog.replace(pg_catalog.pg_describe_object(p.classid, p.objid, 0), 'rule _RETURN on ', '')
from pointer as p
where p.refobjid in (%(source)s::oid, %(target)s::oid)
      and p.classid in ('pg_catalog.pg_rewrite'::regclass, 'pg_catalog.pg_proc'::regclass, 'pg_catalog.pg_policy'::regclass)
group by p.classid, p.objid
having count(distinct p.refobjid) = 2
order by 1
