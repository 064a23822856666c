-- What the server has counted of a table that is about to go, and the rows written to the partitions of the one that stays
select coalesce(s.seq_scan, 0)::bigint as seq_scans, coalesce(s.idx_scan, 0)::bigint as other_scans,
       c.relpages::bigint as pages,
       (select d.stats_reset::text from pg_catalog.pg_stat_database as d where d.datname = current_database()) as since,
       exists (select from pg_catalog.pg_constraint as k where k.contype = 'f' and k.confrelid = c.oid) as referred,
       exists (select from pg_catalog.pg_depend as d
               where d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid = c.oid
                     and (d.classid in ('pg_catalog.pg_rewrite'::regclass, 'pg_catalog.pg_proc'::regclass)
                          or exists (select from pg_catalog.pg_policy as b
                                     where d.classid = 'pg_catalog.pg_policy'::regclass and b.oid = d.objid and b.polrelid <> c.oid))
       ) as viewed,
       (select coalesce(sum(p.n_tup_ins + p.n_tup_upd + p.n_tup_del), 0)::bigint
        from pg_catalog.pg_partition_tree(pg_catalog.to_regclass(%(staying)s)) as t
        join pg_catalog.pg_stat_all_tables as p on p.relid = t.relid) as written
from pg_catalog.pg_class as c
left join pg_catalog.pg_stat_all_tables as s on s.relid = c.oid
where c.oid = pg_catalog.to_regclass(%(going)s)
