"""What a comparison found, as values and as text that diffs well.

Owns the form of `pre_migration_parity.txt` and `post_migration_parity.txt`. Must not know databases.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rehearsal.catalog.tables import Name, dotted
from rehearsal.switchover.parity.drill import KINDS, RowDifference


@dataclass(frozen=True, slots=True)
class LeafParity:
    """Rows and digests of one leaf on both sides."""

    name: str
    source_count: int
    target_count: int
    source_digest: int
    target_digest: int

    @property
    def equal(self) -> bool:
        """Whether both sides hold the same rows, as far as count and digest tell."""
        return (self.source_count, self.source_digest) == (self.target_count, self.target_digest)


@dataclass(frozen=True, slots=True)
class ParityReport:
    """What one comparison saw in one snapshot.

    `differences` counts by class; `unexplained` are those that no entry of the change log announces. `self_test` is
    None when it was not asked for or not possible; `self_test_note` says which classes it saw, or why there is none.
    """

    source: Name
    target: Name
    snapshot: str
    leaves: tuple[LeafParity, ...]
    differences: dict[str, int]
    explained: int
    unexplained: int
    examples: tuple[RowDifference, ...]
    in_default: int
    null_keys: int
    self_test: bool | None
    self_test_note: str
    seconds: float

    @property
    def source_count(self) -> int:
        """Rows of the source."""
        return sum(leaf.source_count for leaf in self.leaves)

    @property
    def target_count(self) -> int:
        """Rows of the target."""
        return sum(leaf.target_count for leaf in self.leaves)

    @property
    def is_equal(self) -> bool:
        """Whether both hold the same rows in the right leaves, and none in DEFAULT."""
        return all(leaf.equal for leaf in self.leaves) and not self.differences and not self.in_default

    @property
    def has_explanation(self) -> bool:
        """Whether the target is equal, or lags behind by keys that are all in the log."""
        return not self.unexplained and not self.in_default

    def text(self) -> str:
        """Return the report for people: the same rows give the same text, so that before and after can be diffed."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        yield f"table {dotted(self.source)}"
        yield f"  target {dotted(self.target)}"
        matches = "MATCH" if self.is_equal else "MISMATCH"
        yield f"  {matches} rows {self.source_count} in source, {self.target_count} in target"
        width = max((len(leaf.name) for leaf in self.leaves), default=0)
        for leaf in self.leaves:
            yield (
                f"  {'MATCH   ' if leaf.equal else 'MISMATCH'} {leaf.name:<{width}} "
                f"source {leaf.source_count:>12} target {leaf.target_count:>12}"
            )
        yield f"  rows in DEFAULT: {self.in_default}, null keys: {self.null_keys}"
        yield f"  differences: {_counts(self.differences)}"
        yield f"  explained by the change log: {self.explained}, unexplained: {self.unexplained}"
        yield f"  self-test: {_said(self.self_test)} ({self.self_test_note})"
        yield from _examples(self.examples)


def parity_text(reports: Iterable[ParityReport]) -> str:
    """Join the reports of several tables."""
    return "\n".join(report.text() for report in reports)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{counts[kind]} {kind} ({KINDS[kind]})" for kind in KINDS if counts.get(kind)) or "none"


def _said(passed: bool | None) -> str:  # noqa: FBT001 -- a value that is shown, not a switch
    return {True: "PASS", False: "FAIL", None: "NOT DONE"}[passed]


def _examples(examples: Iterable[RowDifference]) -> Iterator[str]:
    for difference in examples:
        explained = ", in the change log" if difference.explained else ""
        identity = ", ".join(str(value) for value in difference.identity)
        yield f"  {difference.kind} {identity} in {difference.leaf}{explained}"
        yield f"    source {_image(difference.source_row)}"
        yield f"    target {_image(difference.target_row)}"


def _image(row: dict[str, object] | None) -> str:
    return "-" if row is None else json.dumps(row, ensure_ascii=False, default=str)
