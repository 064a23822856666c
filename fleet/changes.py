"""The manifest of changes, read on the side of the hosts.

Owns what is refused: a file that differs from its checksum, an applied change that differs from the manifest.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a manifest, with the text of its file; `body` is empty if the file cannot be read."""

    name: str
    file: str
    checksum: str
    transactional: bool
    body: str

    @property
    def is_as_listed(self) -> bool:
        """Whether the file has the checksum that the manifest lists."""
        return hashlib.sha256(self.body.encode()).hexdigest() == self.checksum


def read_changes(manifest: Path) -> tuple[Change, ...]:
    """Read the manifest and the files it lists, whose paths are relative to it."""
    listed = json.loads(manifest.read_text(encoding="utf-8"))["changes"]
    return tuple(
        Change(
            change["name"],
            change["file"],
            change["checksum"],
            change["transactional"],
            _body(manifest.parent / change["file"]),
        )
        for change in listed
    )


def _body(path: Path) -> str:
    return path.read_bytes().decode() if path.is_file() else ""


def find_refusals(changes: tuple[Change, ...], applied: dict[str, str]) -> list[str]:
    """Return why the manifest must not be applied, one reason a change; applied: name to checksum in the registry."""
    return [reason for change in changes if (reason := _refusal(change, applied.get(change.name)))]


def _refusal(change: Change, applied: str | None) -> str | None:
    if not change.is_as_listed:
        return f"change {change.name}: {change.file} is missing or differs from the manifest; render it again"
    if applied and applied != change.checksum:
        return (
            f"change {change.name} was edited after it was applied "
            f"(applied {applied[:12]}, now {change.checksum[:12]}); restore it, or add a new change"
        )
    return None
