"""The phase `lifecycle`: leaves made ahead under writers, and a retention on a scratch table of the same shape."""

from __future__ import annotations

from rehearsal.lifecycle.code import install_code
from rehearsal.plan.model import TableSpec
from rehearsal.rehearse.clockwork import rehearse_clock
from rehearsal.rehearse.context import Context
from rehearsal.rehearse.looked_after import Care, Seen, clear_leftovers
from rehearsal.rehearse.phase import Phase


def look_after(context: Context) -> None:
    """Rehearse premake and retention of each table; the functions are installed, no policy is left."""
    context.writers.ensure("lifecycle")
    logs: list[str] = []
    with context.session("lifecycle") as conn:
        with conn.transaction():
            install_code(conn, context.files)
        clear_leftovers(conn)
        cares = [Care(context, conn, spec, context.pair(conn, spec)[1]) for spec in ranges(context)]
        seen = [(f"{care.spec.name} {what}", found) for care in cares for what, found in look_after_one(care)]
        seen += rehearse_clock(context, cares)
        for subject, found in seen:
            context.run.record("lifecycle", subject, found.passed, found.observed)
            logs.append(f"-- {subject}\n{found.log}")
        clear_leftovers(conn)
    context.run.attach("lifecycle.log", "\n".join(logs))


def ranges(context: Context) -> list[TableSpec]:
    """Return the tables whose partitions have an age; of others nothing is made or dropped."""
    for spec in context.plan.tables:
        if spec.method != "range":
            context.run.record("lifecycle", spec.name, True, f"partitions of a {spec.method} have no age")
    return [spec for spec in context.plan.tables if spec.method == "range"]


def look_after_one(care: Care) -> list[tuple[str, Seen]]:
    """Make a leaf of the real table, and drop leaves of a scratch one, where keys tell the time."""
    return [("premake", care.premake()), *([("retention", care.retain())] if care.key.tells_time else [])]


PHASE = Phase("lifecycle", "Partition lifecycle", "lifecycle", look_after)
