"""The phase `provision`: throwaway hosts are brought to a fresh state; others are left as they are."""

from __future__ import annotations

from rehearsal.application.flags import wait_for_servers
from rehearsal.hosts.pyinfra import run_pyinfra
from rehearsal.rehearse.changes import migrate_schema
from rehearsal.rehearse.context import Context
from rehearsal.rehearse.phase import Phase


def provision(context: Context) -> None:
    """Bring throwaway hosts to a fresh state; others are provisioned by their own command, and only checked here."""
    if not context.env.is_throwaway:
        context.run.note("not a throwaway environment: hosts stay as they are")
        return
    run_pyinfra(context.env.inventory, "roles", plan=context.plan, run=context.run, data={"reset": True})
    migrate_schema(context)
    run_pyinfra(context.env.inventory, "app", plan=context.plan, run=context.run, data={"reset": True})
    wait_for_servers(context.env)


PHASE = Phase("provision", "Provision hosts", "tools", provision)
