-- Relations of a partitioned table that this transaction has locked: parent, leaves and their indexes
with leaves as (
    select %(oid)s::oid as relid
    union
    select relid::oid from pg_catalog.pg_partition_tree(%(oid)s::oid::regclass)
)
select count(distinct l.relation)
from pg_catalog.pg_locks as l
where l.pid = pg_catalog.pg_backend_pid() and l.locktype = 'relation' and l.granted
      and (l.relation in (select relid from leaves)
           or l.relation in (select x.indexrelid from pg_catalog.pg_index as x where x.indrelid in (select relid from leaves)))
