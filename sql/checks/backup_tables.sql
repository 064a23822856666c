-- The given tables, those that their foreign keys reference, directly or not, and the partitions of all of them
with recursive wanted (oid) as (
    select unnest(%(oids)s::oid[])
    union
    select con.confrelid
    from wanted
    join pg_catalog.pg_constraint as con on con.conrelid = wanted.oid and con.contype = 'f'
), all_parts (oid) as (
    select oid from wanted
    union
    select tree.relid::oid
    from wanted
    cross join lateral pg_catalog.pg_partition_tree(wanted.oid::regclass) as tree
)
select n.nspname as schema, c.relname as name, c.relispartition as is_leaf
from all_parts
join pg_catalog.pg_class as c on c.oid = all_parts.oid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
order by n.nspname, c.relname
