"""`db.verify`: compare every pair of tables, and say where the rows of an attached table are. Changes nothing."""

from __future__ import annotations

from rehearsal.catalog.tables import split_name
from rehearsal.checks.duplicates import Duplicates, find_duplicates
from rehearsal.commands.database import DONE, FAILED, UNSEEN, Target, opened
from rehearsal.postgres.connection import Connection
from rehearsal.rehearse.context import Context
from rehearsal.switchover import state
from rehearsal.switchover.parity import ParityReport, compare, parity_text
from rehearsal.switchover.strategies.attach.prepare import Preparation


def verify(target: Target) -> int:
    """Compare every pair exactly, under whatever load there is; prints the parity report, and values that repeat."""
    with opened(target, "verify") as context, context.session("verify") as conn:
        reports: list[ParityReport] = []
        codes: list[int] = []
        repeated: list[Duplicates] = []
        if not context.plan.traits.copies:
            return look_at_history(context, conn)
        for spec in context.plan.tables:
            keylog = context.switchover(spec).log_now(conn)
            source, target_ = context.pair(conn, spec)
            report = compare(context.env.database, context.files, source, target_, spec.key, keylog=keylog)
            reports.append(report)
            codes.append(judge(context, spec.name, state.read_migration(conn, split_name(spec.name)).state, report))
            repeated += [one for one in find_duplicates(conn, context.files, source, target_, spec.key) if one.sets]
        print(parity_text(reports))
        for one in repeated:
            print(f"duplicates: {one.name}: {one.text()}")
        codes += [FAILED] * bool(repeated)
        return next((code for code in (FAILED, UNSEEN) if code in codes), DONE)


def look_at_history(context: Context, conn: Connection) -> int:
    """Say where the rows are. They are in one place each, so there is nothing to compare but primary keys."""
    for spec in context.plan.tables:
        found = state.read_migration(conn, split_name(spec.name))
        if found.state not in (state.ATTACHED, state.REGRAINED):
            print(f"{spec.name}: {found.state}; every row is in the table itself")
            continue
        attached = Preparation(context.switchover(spec)).attached(conn)
        attached.refuse_duplicates(conn)
        print(f"{spec.name}: {attached.told(conn)}, no primary key twice")
    return DONE


def judge(context: Context, table: str, found: str, report: ParityReport) -> int:
    """Return the exit code of one comparison. Before its copy has ended, a twin may lack rows and hold no wrong one."""
    copied = found not in (state.PREPARED, state.COPYING)
    wrong = sum(count for kind, count in report.differences.items() if kind != "missing")
    if report.self_test is False or (not report.has_explanation if copied else wrong):
        return FAILED
    if not copied:
        text = f"{table} is {found}: its twin may lack rows until `invoke db.switchover` has copied them"
        context.run.event("note", text=text)
    return UNSEEN if report.self_test is None or not copied else DONE
