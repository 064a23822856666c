"""The phase `backup`: a dump of the tables, and a drill that restores it."""

from __future__ import annotations

import shutil

from rehearsal.catalog.tables import dotted, split_name
from rehearsal.checks import backup as backups
from rehearsal.checks.scratch import scratch_name
from rehearsal.errors import CannotSee
from rehearsal.evidence.data import Dump, Grid, Seconds
from rehearsal.rehearse.context import Context
from rehearsal.rehearse.phase import Phase


def back_up(context: Context) -> None:
    """Dump the tables in one snapshot and restore them into a scratch database, which is compared and dropped."""
    tables = [split_name(spec.name) for spec in context.plan.tables]
    folder = context.env.backup_folder / context.run.name
    if folder.exists():
        shutil.rmtree(folder)
    made = backups.backup(context.env.database, context.files, tables, folder, context.env.client_bin)
    context.run.record(
        "backup",
        "dump",
        bool(made.content),
        f"{len(made.content)} tables, {made.bytes / 1e6:.0f} MB in {made.seconds:.1f} s, checksums "
        "written, made just now",
        Dump(
            folder.name,
            Grid.of(("table", "rows"), [(dotted(name), table.rows) for name, table in made.content.items()]),
        ),
    )
    name = scratch_name(context.plan.name)
    try:
        drill = backups.restore_drill(context.env.database, context.files, made, name, context.env.client_bin)
    except CannotSee as exc:
        # What follows does not stand on the drill; without it there is no GO.
        context.run.record("restore-drill", "restore", None, str(exc))
        return
    observed = "content equal" if drill.is_equal else "; ".join(drill.differences)
    context.run.record(
        "restore-drill",
        "restore",
        drill.is_equal,
        f"{len(drill.restored)} tables restored in {drill.restore_seconds:.1f} s with indexes and "
        f"foreign keys: {observed}",
        Seconds(drill.restore_seconds),
    )


PHASE = Phase("backup", "Backup and restore drill", "backup", back_up)
