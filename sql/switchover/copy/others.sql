-- Whether anybody but us has done something within the last second, on any database of the server
-- lock: none that anybody waits for
select exists (
    select from pg_catalog.pg_stat_activity as a
    where a.backend_type = 'client backend' and a.pid <> pg_catalog.pg_backend_pid()
          and (a.state = 'active' or a.state_change > clock_timestamp() - interval '1 second')
          and (a.application_name not like 'pg-rehearsal %' or a.application_name = 'pg-rehearsal load')
)
