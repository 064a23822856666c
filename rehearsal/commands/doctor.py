"""The verb `doctor`: the troubles that the playbook's troubleshooting page knows, found by themselves.

Trigger off, rows that differ, an index missing, statistics missing, an operation left half way; with `partitions` and
`waits` the symptoms of the runbook that the database can tell. Owns which repairs are safe enough for `--fix`.
"""

from __future__ import annotations

from psycopg import sql

from rehearsal.catalog.tables import Table, split_name
from rehearsal.checks.inspection import inspect
from rehearsal.commands.session import DONE, FAILED, Target, alone, opened
from rehearsal.commands.symptoms.partitions import examine_partitions, unattended
from rehearsal.commands.symptoms.trouble import Trouble
from rehearsal.commands.symptoms.waits import examine_log, examine_waits
from rehearsal.errors import UsageError
from rehearsal.plan.model import TableSpec
from rehearsal.postgres.connection import Connection
from rehearsal.rehearse.context import Context
from rehearsal.rehearse.readiness import Intent, require_ready
from rehearsal.switchover import state
from rehearsal.switchover.repair import enable_triggers, resync, target_leads
from rehearsal.switchover.table import Switchover
from rehearsal.switchover.target.indexes import IndexBuilder


def examine(context: Context, conn: Connection, *, fix: bool, leads: str | None = None) -> list[Trouble]:
    """Return all troubles of all tables of the plan; with `fix`, perform the safe remedies first to last.

    `leads`: which of two mirrored tables, source or target, the application writes, where no app server says so.
    A second run after a fix finds nothing. Locks as in `repair`.
    """
    # Whoever looks further waits behind the same lock.
    if waiting := examine_waits(context, conn):
        return waiting
    troubles: list[Trouble] = []
    for spec in context.plan.tables:
        troubles += _examine_one(context, conn, spec, fix=fix, leads=leads)
    return troubles + examine_partitions(context, conn, fix=fix)


def _examine_one(context: Context, conn: Connection, spec: TableSpec, *, fix: bool, leads: str | None) -> list[Trouble]:
    found = state.find_migration(conn, split_name(spec.name))
    if found is None and state.is_ended(conn, split_name(spec.name)):
        return []
    if found is None:
        return [Trouble(spec.name, "no partitioned target", "run `./inv db.migrate`")]
    work = context.switchover(spec)
    troubles = _triggers(conn, work, fix=fix)
    if unfinished := work.unfinished(conn):
        troubles.append(Trouble(spec.name, unfinished.trouble, unfinished.remedy))
    troubles += examine_log(conn, work, fix=fix)
    if found.state in (state.PREPARED, state.COPYING, state.READY):
        return troubles
    if work.keeps_two(conn):
        troubles += _rows(context, conn, work, fix=fix, said=leads)
    troubles += _structure(context, conn, work, fix=fix)
    return troubles + _statistics(context, conn, spec, fix=fix)


def _triggers(conn: Connection, work: Switchover, *, fix: bool) -> list[Trouble]:
    wrong = [trigger for trigger in work.trigger_states(conn) if trigger.found != trigger.wanted]
    mended = set(enable_triggers(conn, work)) if fix and wrong else set[str]()
    return [
        Trouble(
            ".".join(trigger.table),
            f"trigger {trigger.name} is {trigger.found or 'missing'}, wanted {trigger.wanted}",
            "put it into that state" if trigger.found else "make it again",
            trigger.name in mended,
        )
        for trigger in wrong
    ]


def _rows(context: Context, conn: Connection, work: Switchover, *, fix: bool, said: str | None) -> list[Trouble]:
    report = work.compare(conn, self_test=False)
    if not report.unexplained:
        return []
    leads = target_leads(conn, work, context.env.app_servers)
    if leads is None and said and not context.env.app_servers:
        leads = said == "target"
    brought = resync(conn, work, target_leads=leads) if fix and leads is not None else 0
    kinds = ", ".join(f"{kind} {count}" for kind, count in report.differences.items() if count)
    return [
        Trouble(
            work.spec.name,
            f"{report.unexplained} rows differ ({kinds})",
            "re-sync them from the table that leads" if leads is not None else _who_leads(context),
            brought > 0,
        )
    ]


def _who_leads(context: Context) -> str:
    if context.env.app_servers:
        return "app servers differ or do not say where they write: set one routing first (`./inv flags.set`)"
    return (
        "the inventory has no app server to ask where the application writes: say it, `./inv doctor --fix --leads "
        "source` or `--leads target`"
    )


def _structure(context: Context, conn: Connection, work: Switchover, *, fix: bool) -> list[Trouble]:
    source, target = context.pair(conn, work.spec)
    wrong = [finding for finding in inspect(conn, context.files, work.spec, source, target) if not finding.passed]
    if state.read_migration(conn, work.names.source).state == state.FOLLOWING:
        # They come with the exchange, and a rollback takes them off again.
        wrong = [finding for finding in wrong if finding.check != "foreign keys"]
    # Built with nobody in the way only while the application does not use the target.
    unused = state.read_migration(conn, work.names.source).state in state.UNUSED
    rebuild = fix and unused and any(finding.check == "indexes" for finding in wrong)
    if rebuild:
        database, shape = context.env.database, work.shape(conn)
        IndexBuilder(database, context.files, shape, 1, lambda _done, _total: None).run()
    return [
        Trouble(
            work.spec.name,
            f"{finding.check}: {problem}",
            _remedy(finding.check, unused=unused),
            fixed=rebuild and finding.check == "indexes",
        )
        for finding in wrong
        for problem in finding.problems
    ]


def _remedy(check: str, *, unused: bool) -> str:
    if check != "indexes":
        return "compare with the source, then make it as it is there"
    if unused:
        return "build it"
    return (
        "the application writes the table: `create index concurrently` on each partition, then on the table by ATTACH"
    )


NEVER_ANALYZED = """
select c.relname from pg_catalog.pg_class as c join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where c.oid = any(%s::oid[]) and not exists (
    -- The view, since only superusers may read the table below it.
    select from pg_catalog.pg_stats as s where (s.schemaname, s.tablename) = (n.nspname, c.relname))
"""


def _statistics(context: Context, conn: Connection, spec: TableSpec, *, fix: bool) -> list[Trouble]:
    _, target = context.pair(conn, spec)
    filled = [leaf.oid for leaf in target.partitions if leaf.pages > 0]
    missing = [row[0] for row in conn.execute(NEVER_ANALYZED, [[target.oid, *filled]])]
    if missing and fix:
        _analyze(conn, target)
    return [Trouble(name, "never analyzed, so its query plans are guesses", f"analyze {name}", fix) for name in missing]


def _analyze(conn: Connection, target: Table) -> None:
    conn.execute(sql.SQL("analyze {}").format(sql.Identifier(*target.name)))


def doctor(target: Target, *, fix: bool, leads: str | None = None) -> int:
    """Look for the known troubles, name each remedy, and with `fix` perform those that are safe.

    Raises:
        UsageError: `leads` is said although app servers can be asked.
    """
    if leads and not fix:
        message = "--leads says from which table to bring rows, so it needs --fix"
        raise UsageError(message)
    with opened(target, "doctor") as context:
        if leads and context.env.app_servers:
            message = (
                f"--leads {leads}: the app servers of {context.env.name} are asked where they write; set their routing "
                "by `./inv flags.set`. Nothing was changed"
            )
            raise UsageError(message)
        with alone(context) as conn:
            if fix:
                require_ready(context, conn, Intent.FIX)
            findings = examine(context, conn, fix=fix, leads=leads)
            hints = unattended(context, conn)
        for finding in findings:
            done = "  [done]" if finding.fixed else ""
            print(f"{finding.subject}: {finding.trouble}\n    remedy: {finding.remedy}{done}")
        if not findings:
            print("nothing found")
        for hint in hints:
            print(f"hint: {hint}")
        return DONE if all(finding.fixed for finding in findings) else FAILED
