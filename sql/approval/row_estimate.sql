-- About how many rows a table has, with all its partitions, by statistics; null where nobody ever counted any.
-- Nothing is read of the table: its pages now, times the rows a page that it had when it was last counted
with recursive tree as (
    select to_regclass(%(table)s)::oid as oid
    union all
    select i.inhrelid from tree join pg_catalog.pg_inherits as i on i.inhparent = tree.oid
),
leaf as (
    select c.oid, greatest(c.reltuples, 0)::float8 as counted, greatest(c.relpages, 0) as pages,
           pg_catalog.pg_stat_get_live_tuples(c.oid) as live,
           pg_catalog.pg_relation_size(c.oid) / current_setting('block_size')::bigint as pages_now
    from tree join pg_catalog.pg_class as c on c.oid = tree.oid
    where c.relkind in ('r', 'f', 'm')
)
select case when bool_or(pages_now > 0 and counted = 0 and live = 0) then null
            else sum(case when pages_now = 0 then 0
                          when pages > 0 and counted > 0 then greatest(counted / pages * pages_now, live)
                          else live end) end::bigint as rows
from leaf
