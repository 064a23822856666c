-- What throttles the copy: one row; what the role lacks the privilege to see is null
-- lock: none that anybody waits for
select
    (select max(extract(epoch from r.replay_lag))::float8
     from pg_catalog.pg_stat_replication as r where r.state = 'streaming') as replica_lag_s,
    (select max(pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), s.restart_lsn))::float8
     from pg_catalog.pg_replication_slots as s where s.restart_lsn is not null) as slot_bytes,
    pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), '0/0')::float8 as wal_position,
    extract(epoch from clock_timestamp())::float8 as at,
    greatest(
        (select max(pg_catalog.age(a.backend_xmin)) from pg_catalog.pg_stat_activity as a
         where a.pid <> pg_catalog.pg_backend_pid()),
        (select max(greatest(pg_catalog.age(s.xmin), pg_catalog.age(s.catalog_xmin)))
         from pg_catalog.pg_replication_slots as s)
    )::bigint as xmin_age
