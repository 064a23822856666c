-- Sessions of others that may use a table that is about to go: by a lock that no mirror takes, or by the text of a statement
-- that began since it is watched and that has the name in it somewhere
-- One look at the locks: of two, a session that ends between them has its lock on the table and none on the view.
with locks as materialized (
    select l.pid, l.relation, l.mode from pg_catalog.pg_locks as l
    where l.locktype = 'relation'
          and l.database = (select d.oid from pg_catalog.pg_database as d where d.datname = current_database())
)
select pg_catalog.format('pid %%s (%%s, %%s): ', a.pid, a.application_name, a.usename) as who, a.query as text, q.holds
from pg_catalog.pg_stat_activity as a
cross join lateral (
    select exists (select from locks as l
         where l.pid = a.pid and l.relation = pg_catalog.to_regclass(%(going)s)::oid
               -- Mirrors write (ROW EXCLUSIVE), keys look up rows (ROW SHARE).
               and l.mode not in ('RowExclusiveLock', 'RowShareLock'))
      -- Whoever reads a view of it goes along with the view.
      and not exists (
         select from locks as v
         join pg_catalog.pg_rewrite as r on r.ev_class = v.relation
         join pg_catalog.pg_depend as d on d.classid = 'pg_catalog.pg_rewrite'::regclass and d.objid = r.oid
              and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid = pg_catalog.to_regclass(%(going)s)::oid
         where v.pid = a.pid) as holds
) as q
where a.datname = current_database() and a.pid <> pg_catalog.pg_backend_pid() and a.backend_type = 'client backend'
      and not pg_catalog.starts_with(a.application_name, 'pg-rehearsal')
      and (q.holds or (a.query_start >= %(began)s and pg_catalog.strpos(pg_catalog.lower(a.query), pg_catalog.lower(%(name)s)) > 0))
order by a.pid
