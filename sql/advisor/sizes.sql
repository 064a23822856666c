-- How big a table is, and how busy since the statistics were reset
select greatest(c.reltuples, 0)::bigint as rows, pg_catalog.pg_table_size(c.oid) as bytes,
       pg_catalog.pg_indexes_size(c.oid) as index_bytes,
       pg_catalog.pg_relation_size(c.oid) / current_setting('block_size')::bigint as blocks,
       coalesce(s.n_tup_ins, 0) as inserted, coalesce(s.n_tup_upd, 0) as updated, coalesce(s.n_tup_del, 0) as deleted
from pg_catalog.pg_class as c
left join pg_catalog.pg_stat_all_tables as s on s.relid = c.oid
where c.oid = %(oid)s::oid
