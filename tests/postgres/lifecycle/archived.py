"""Tables of which leaves are held, and an archive of them, as the tests of archives have them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from rehearsal.lifecycle.archive import LeafArchiver
from rehearsal.lifecycle.manifest import ArchiveManifest, read_manifest
from rehearsal.lifecycle.noted import lose_faulty
from rehearsal.lifecycle.reading import read_to_archive
from rehearsal.lifecycle.restore import Restorer
from rehearsal.postgres.connection import scalar
from rehearsal.postgres.sqlfiles import quote_ident
from tests.postgres.lifecycle.kept import Kept
from tests.postgres.lifecycle.test_retain import JULY, YEAR, past

LATER = JULY + timedelta(days=9)
FIRST = ("public", "t_first")


@dataclass
class Shelf:
    """A kept table whose policy says that leaves are archived, and the folder for that."""

    kept: Kept
    folder: Path
    told: list[str] = field(default_factory=list[str])

    def hold(self, text: str = YEAR, **how: Any) -> None:
        """Make the table of `past` with three leaves detached and held."""
        past(self.kept, text, **{"archive": True, **how})
        self.kept.retain()

    @property
    def archiver(self) -> LeafArchiver:
        """Whoever archives."""
        return LeafArchiver(
            self.kept.conn, self.kept.files, self.kept.policy, self.kept.worker, self.folder, self.told.append
        )

    def waiting(self) -> list[str]:
        """Return the leaves that wait for their archive."""
        return [act.leaf for act in read_to_archive(self.kept.conn, self.kept.policy.oid)]

    def archive(self) -> int:
        """Archive what waits; all of it must be archived. Return how many leaves that were."""
        acts = read_to_archive(self.kept.conn, self.kept.policy.oid)
        for act in acts:
            assert self.archiver.archive(act), self.kept.told[-1].failure
        assert self.waiting() == []
        return len(acts)

    def lost(self) -> dict[str, str]:
        """Take back the notes of files that are not what was proven."""
        return lose_faulty(self.kept.conn, self.kept.policy.oid)

    def manifest(self, leaf: tuple[str, str] = FIRST) -> Path:
        """Return the manifest of a leaf, as it is noted."""
        query = "select manifest from rehearsal.lifecycle_archived where leaf = %s"
        name = ".".join(part if part.islower() else quote_ident(part) for part in leaf)
        return Path(scalar(self.kept.conn, query, [name]))

    def read(self, leaf: tuple[str, str] = FIRST) -> ArchiveManifest:
        """Return what the manifest of a leaf says."""
        return read_manifest(self.manifest(leaf))

    def restorer(self, path: Path) -> Restorer:
        """Whoever restores."""
        kept = self.kept
        return Restorer(kept.conn, kept.files, kept.policy, kept.worker, path, read_manifest(path), self.told.append)

    def drop(self) -> list[str]:
        """Let the hold pass, and drop what is due; return what went."""
        self.kept.pass_to(LATER)
        return [act.leaf for act in self.kept.retain() if act.act == "drop"]
