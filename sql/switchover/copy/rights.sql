-- What the role may see of the server
-- lock: none that anybody waits for
select pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE') as activity,
       current_setting('archive_mode') <> 'off' as archives,
       pg_catalog.has_function_privilege('pg_catalog.pg_ls_archive_statusdir()', 'EXECUTE') as archive_queue,
       pg_catalog.has_function_privilege('pg_catalog.pg_read_file(text, bigint, bigint, boolean)', 'EXECUTE')
       and pg_catalog.pg_has_role('pg_read_server_files', 'USAGE') as files,
       pg_catalog.pg_has_role('pg_read_all_settings', 'USAGE') as settings,
       extract(epoch from pg_catalog.pg_postmaster_start_time())::float8 as started,
       current_setting('port')::int as port
