-- One number of every catalog row that makes two tables and their partitions, by row version: cheap enough under a lock.
-- Whatever DDL touches them, there and back again included, gives another one; ANALYZE and VACUUM do not.
-- Not pg_partition_tree: it takes a lock of every partition, and would wait for whoever holds one.
with recursive rel (oid) as (
    select pg_catalog.unnest(array[%(parted)s::oid, %(plain)s::oid])
    union
    select i.inhrelid from rel join pg_catalog.pg_inherits as i on i.inhparent = rel.oid
), line (what, oid, version) as (
    select 1, c.oid, c.xmin from pg_catalog.pg_class as c join rel on rel.oid = c.oid
    union all
    select 2, a.attrelid, a.xmin from pg_catalog.pg_attribute as a join rel on rel.oid = a.attrelid where a.attnum > 0
    union all
    select 3, d.oid, d.xmin from pg_catalog.pg_attrdef as d join rel on rel.oid = d.adrelid
    union all
    select 4, c.oid, c.xmin from pg_catalog.pg_constraint as c join rel on rel.oid = c.conrelid
    union all
    select 5, x.indexrelid, x.xmin from pg_catalog.pg_index as x join rel on rel.oid = x.indrelid
    union all
    select 6, t.oid, t.xmin from pg_catalog.pg_trigger as t join rel on rel.oid = t.tgrelid
    union all
    select 7, p.oid, p.xmin from pg_catalog.pg_policy as p join rel on rel.oid = p.polrelid
    union all
    select 8, i.inhrelid, i.xmin from pg_catalog.pg_inherits as i where i.inhparent = %(parted)s::oid
    union all
    select 9, s.oid, s.xmin from pg_catalog.pg_statistic_ext as s where s.stxrelid in (%(parted)s::oid, %(plain)s::oid)
    union all
    select 10, r.oid, r.xmin from pg_catalog.pg_rewrite as r where r.ev_class in (%(parted)s::oid, %(plain)s::oid)
    union all
    select 11, d.objoid, d.xmin from pg_catalog.pg_description as d
    where d.classoid = 'pg_catalog.pg_class'::regclass and d.objoid in (%(parted)s::oid, %(plain)s::oid)
    union all
    select 12, c.oid, c.xmin from pg_catalog.pg_index as x join pg_catalog.pg_class as c on c.oid = x.indexrelid
    where x.indrelid in (%(parted)s::oid, %(plain)s::oid)
    union all
    select 13, p.oid, p.xmin from pg_catalog.pg_trigger as t join pg_catalog.pg_proc as p on p.oid = t.tgfoid
    where t.tgrelid in (%(parted)s::oid, %(plain)s::oid) and not t.tgisinternal
)
select pg_catalog.format('%%s %%s', count(*), sum(pg_catalog.hashint8extended((what::bigint << 40) + oid::bigint, version::text::bigint)))
from line
