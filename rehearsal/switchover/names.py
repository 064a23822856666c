"""Names of everything that a migration makes, derived from the name of its source table. Pure."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from rehearsal.catalog.tables import STATE_SCHEMA, Name, dotted
from rehearsal.postgres.sqlfiles import checksum

LIMIT = 63


def fit(base: str, suffix: str = "", prefix: str = "") -> str:
    """Join a name's parts within PostgreSQL's 63 bytes; what is cut off is replaced by a hash of the whole.

    >>> fit("revenues", "_partitioned")
    'revenues_partitioned'
    >>> len(fit("é" * 40, "_y2026m02").encode()) <= 63
    True
    """
    whole = f"{prefix}{base}{suffix}"
    if len(whole.encode()) <= LIMIT:
        return whole
    tag = "_" + hashlib.sha256(whole.encode()).hexdigest()[:8]
    room = LIMIT - len((prefix + suffix + tag).encode())
    return prefix + base.encode()[:room].decode(errors="ignore") + tag + suffix


@dataclass(frozen=True, slots=True)
class Names:
    """Names around one source table, as they are before any switchover."""

    source: Name

    @property
    def target(self) -> Name:
        """The partitioned target."""
        return self.source[0], fit(self.source[1], "_partitioned")

    @property
    def retired(self) -> Name:
        """The source after a swap."""
        return self.source[0], fit(self.source[1], "_old")

    def leaf(self, suffix: str) -> Name:
        """Return the name of a leaf."""
        return self.source[0], fit(self.source[1], f"_{suffix}")

    @property
    def default_leaf(self) -> Name:
        """The DEFAULT partition."""
        return self.leaf("default")

    @property
    def _base(self) -> str:
        return "_".join(self.source)

    @property
    def forward_log(self) -> Name:
        """Keys written on the source that the target has yet to follow."""
        return STATE_SCHEMA, fit(self._base, prefix="log_forward_")

    @property
    def reverse_log(self) -> Name:
        """Keys written on the target, after a swap, that the retired table has yet to follow."""
        return STATE_SCHEMA, fit(self._base, prefix="log_reverse_")

    def function(self, role: str) -> Name:
        """Return the name of a trigger function: `capture_forward`, `sync_to_partitioned`, ..."""
        return STATE_SCHEMA, fit(self._base, prefix=f"{role}_")

    @property
    def sync_trigger(self) -> str:
        """Synchronous mirror, source to target, as the playbook names it."""
        return fit(self.source[1], prefix="sync_to_partitioned_")

    @property
    def reverse_sync_trigger(self) -> str:
        """Synchronous mirror, target to source."""
        return fit(self.source[1], prefix="sync_from_partitioned_")

    @property
    def capture_trigger(self) -> str:
        """Change log of the source."""
        return fit(self.source[1], prefix="rehearsal_capture_")

    @property
    def reverse_capture_trigger(self) -> str:
        """Change log of the target."""
        return fit(self.source[1], prefix="rehearsal_capture_back_")

    @property
    def fence_trigger(self) -> str:
        """Refuses writes through a snapshot from before an exchange."""
        return fit(self.source[1], prefix="rehearsal_snapshot_guard_")

    @property
    def truncate_trigger(self) -> str:
        """Refuses TRUNCATE, which row triggers do not see."""
        return fit(self.source[1], prefix="rehearsal_no_truncate_")

    @property
    def partition_trigger(self) -> str:
        """Refuses writes to a partition by its name, after the rollback of a swap."""
        return fit(self.source[1], prefix="rehearsal_rolled_back_")


def trigger_names(names: Names) -> list[str]:
    """Return the names of the triggers by which one table follows the other."""
    return [
        names.capture_trigger,
        names.reverse_capture_trigger,
        names.sync_trigger,
        names.reverse_sync_trigger,
        names.truncate_trigger,
    ]


def change_name(name: Name) -> str:
    """Return the part of a change's name, and of its file's, that stands for a table.

    >>> change_name(("public", "revenues"))
    'revenues'
    >>> change_name(("public", "We/ird"))
    'we_ird_6244cac5'
    """
    if name[0] == "public" and re.fullmatch(r"[a-z0-9_]+", name[1]):
        return name[1]
    plain = re.sub(r"[^a-z0-9]+", "_", name[1].lower()).strip("_")
    return f"{plain}_{checksum(dotted(name))[:8]}".lstrip("_")
