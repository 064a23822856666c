-- Facts about the server and the role that can stop a switchover
select current_setting('server_version_num')::int as version,
       current_setting('server_version') as version_text,
       pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE') as may_read_stats,
       (select r.rolcreatedb or r.rolsuper from pg_catalog.pg_roles as r where r.rolname = current_user) as may_create_database,
       current_setting('max_locks_per_transaction')::int as max_locks,
       current_setting('max_connections')::int as max_connections,
       pg_catalog.pg_size_bytes(current_setting('min_wal_size')) as min_wal_bytes,
       pg_catalog.pg_size_bytes(current_setting('max_wal_size')) as max_wal_bytes,
       pg_catalog.pg_is_in_recovery() as is_standby,
       current_setting('server_encoding') as encoding,
       array(
           select format('pid %%s (%%s, %%s, open for %%s)', a.pid, a.application_name, a.state,
                         date_trunc('second', clock_timestamp() - a.xact_start))
           from pg_catalog.pg_stat_activity as a
           where a.datname = current_database() and a.pid <> pg_backend_pid()
                 and a.xact_start < clock_timestamp() - interval '5 minutes'
       ) as old_transactions,
       array(select p.gid from pg_catalog.pg_prepared_xacts as p where p.database = current_database()) as prepared
