"""Changes of the schema, handed to the hosts' registry."""

from __future__ import annotations

from rehearsal.hosts.manifest import Change, write_manifest
from rehearsal.hosts.pyinfra import run_pyinfra
from rehearsal.rehearse.context import Context


def migrate_schema(context: Context) -> int:
    """Apply the application's own schema, which only throwaway environments lack; return how much changed."""
    return apply_changes(context, schema_changes(context))


def schema_changes(context: Context) -> list[Change]:
    """Return the migrations of the application, as the plan names them."""
    return [
        Change(name.removesuffix(".sql"), context.files.text(f"migrations/{name}"))
        for name in context.plan.app_schema.migrations
    ]


def apply_changes(context: Context, changes: list[Change]) -> int:
    """Hand changes to the hosts' registry and let pyinfra apply them; return how many operations changed something."""
    folder = context.root / "build" / f"{context.env.name}-{context.plan.name}"
    manifest = write_manifest(folder, context.env.database.name, changes)
    data = {"manifest": str(manifest), "lock_timeout_ms": context.plan.locks.max_timeout_ms}
    result = run_pyinfra(context.env.inventory, "migrate", plan=context.plan, run=context.run, data=data)
    return result.changed
