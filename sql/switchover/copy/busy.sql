-- Sessions at work that are not ours; one that waits for a lock, a client or a clock uses no core
-- lock: none that anybody waits for
select count(*)::int
from pg_catalog.pg_stat_activity as a
where a.state = 'active' and a.backend_type = 'client backend' and a.pid <> pg_catalog.pg_backend_pid()
      and coalesce(a.wait_event_type, '') not in ('Lock', 'Client', 'Timeout', 'Activity')
      and (a.application_name not like 'pg-rehearsal %' or a.application_name = 'pg-rehearsal load')
