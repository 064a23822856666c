"""The phase `lifecycle`: leaves made ahead under writers, and a retention on a scratch table of the same shape."""

from __future__ import annotations

from rehearsal.lifecycle.code import install_code
from rehearsal.rehearse.context import Context
from rehearsal.rehearse.looked_after import Care, clear_leftovers
from rehearsal.rehearse.phase import Phase


def look_after(context: Context) -> None:
    """Rehearse premake and retention of each table; the functions are installed, no policy is left."""
    context.writers.ensure("lifecycle")
    logs: list[str] = []
    with context.session("lifecycle") as conn:
        with conn.transaction():
            install_code(conn, context.files)
        clear_leftovers(conn)
        for spec in context.plan.tables:
            if spec.method != "range":
                context.run.record("lifecycle", spec.name, True, f"partitions of a {spec.method} have no age")
                continue
            care = Care(context, conn, spec, context.pair(conn, spec)[1])
            seen = [("premake", care.premake())]
            if care.key.tells_time:
                seen.append(("retention", care.retain()))
            for what, found in seen:
                context.run.record("lifecycle", f"{spec.name} {what}", found.passed, found.observed)
                logs.append(f"-- {spec.name}: {what}\n{found.log}")
        clear_leftovers(conn)
    context.run.attach("lifecycle.log", "\n".join(logs))


PHASE = Phase("lifecycle", "Partition lifecycle", "lifecycle", look_after)
