"""Jobs of pg_cron that make and drop partitions: what they are, and how they come and go.

Owns their names and times. They are made as the migrating role, which they run as. What is detached CONCURRENTLY
becomes a job of its own, for a minute (`sql/lifecycle/cron.sql`).
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from rehearsal.errors import PreconditionError
from rehearsal.postgres.connection import Connection, scalar

# Times are GMT, as pg_cron takes them.
JOBS: Mapping[str, tuple[str, str]] = {
    "pg-lifecycle premake": ("10 0 * * *", "call rehearsal.lifecycle_run('premake')"),
    "pg-lifecycle retain": ("40 2 * * *", "call rehearsal.lifecycle_run('retain')"),
    "pg-lifecycle dispatch": ("41-59 2 * * *", "select rehearsal.lifecycle_dispatch()"),
    "pg-lifecycle finish": ("0 3 * * *", "call rehearsal.lifecycle_run('finish')"),
    "pg-lifecycle swept": ("1 3 * * *", "select rehearsal.lifecycle_dispatch()"),
}
READ = """
select jobname, schedule, command, active from cron.job
where jobname = any(%s) and username = current_user and database = pg_catalog.current_database()
"""
THERE = "select exists (select from pg_catalog.pg_extension where extname = 'pg_cron')"
ALL = """
select jobid, jobname from cron.job
where pg_catalog.starts_with(jobname, %s) and username = current_user
      and database = pg_catalog.current_database()
"""


@dataclass(frozen=True, slots=True)
class CronJobs:
    """The jobs of one database; the session is the migrating role's."""

    conn: Connection

    def require(self) -> None:
        """Refuse a database where pg_cron keeps no jobs, or not for this role.

        Raises:
            PreconditionError: says what is missing, as the statement that gives it.
        """
        database, role = self.conn.info.dbname, self.conn.info.user
        if not scalar(self.conn, THERE):
            message = (
                f"pg_cron keeps no jobs in database {database}: preload it (shared_preload_libraries = 'pg_cron', "
                f"cron.database_name = '{database}'), restart, and run `create extension pg_cron` there as a superuser"
            )
            raise PreconditionError(message)
        if not scalar(self.conn, "select pg_catalog.has_schema_privilege('cron', 'usage')"):
            message = f'role {role} may make no jobs: run `grant usage on schema cron to "{role}"` as a superuser'
            raise PreconditionError(message)

    def there(self) -> list[str]:
        """Return the names of all jobs of ours."""
        with self._own_rows():
            return [str(row[1]) for row in self.conn.execute(ALL, ["pg-lifecycle "])]

    def missing(self) -> list[str]:
        """Return the names of jobs that are not there as they must be."""
        with self._own_rows():
            rows = self.conn.execute(READ, [list(JOBS)]).fetchall()
        found = {name: (schedule, command) for name, schedule, command, active in rows if active}
        return [name for name, wanted in JOBS.items() if found.get(name) != wanted]

    def bring(self) -> list[str]:
        """Make the jobs that are missing, all or none; return their names."""
        with self._own_rows():
            names = self.missing()
            for name in names:
                # Anew: what was made inactive stays so when it is scheduled again, and alter_job is not for everybody.
                self._unschedule(name)
                self.conn.execute("select cron.schedule(%s, %s, %s)", [name, *JOBS[name]])
        return names

    def remove(self) -> int:
        """Take all jobs away, of single detachments too; return how many there were."""
        with self._own_rows():
            return self._unschedule("pg-lifecycle ")

    def _unschedule(self, prefix: str) -> int:
        jobs = [row[0] for row in self.conn.execute(ALL, [prefix])]
        for job in jobs:
            self.conn.execute("select cron.unschedule(%s::bigint)", [job])
        return len(jobs)

    @contextmanager
    def _own_rows(self) -> Generator[None]:
        """Let the policy of pg_cron filter, which shows each role its own jobs; sessions of ours refuse policies."""
        with self.conn.transaction():
            self.conn.execute("set local row_security = on")
            yield
