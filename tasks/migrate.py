"""Every change of the manifest, in order, each with its row in the registry."""

from pathlib import Path

from pyinfra import host

from fleet import operations
from fleet.changes import read_changes
from fleet.facts import AppliedChanges
from fleet.psql import session

migrator = session(host.data, "migrator")
changes = read_changes(Path(host.data.manifest))
applied = host.get_fact(AppliedChanges, session=migrator)

operations.marked(name="Check that the database belongs to the environment", session=migrator, kind=host.data.env_kind)
operations.changes_unedited(name="Check that no change was edited", session=migrator, changes=changes)
for change in changes:
    operations.change(
        name=f"Apply change {change.name}",
        session=migrator,
        change=change,
        applied=applied,
        lock_timeout_ms=int(host.data.get("lock_timeout_ms") or operations.LOCK_TIMEOUT_MS),
    )
