"""What a migration and its steps remember beside their state: `detail` of `rehearsal.migration` and `rehearsal.step`.

Owns the keys there. They are only ever added to: a row of an earlier version has fewer, one of a later version more,
and both are read as far as they are known.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from rehearsal.catalog.bounds import Decided
from rehearsal.errors import PreconditionError
from rehearsal.switchover.kept import IndexNames, KeptKey, StatisticsNames
from rehearsal.switchover.target.references import Reference

VERSION = 1


class Kept(BaseModel):
    """An object of JSON: what was not given is not written, so an update leaves the rest of a row as it is."""

    model_config = ConfigDict(extra="ignore", frozen=True, coerce_numbers_to_str=True)

    def to_json(self) -> dict[str, object]:
        """Return what was given."""
        return self.model_dump(mode="json", exclude_unset=True)


@dataclass(frozen=True, slots=True)
class LaterLeaf:
    """A partition after history."""

    suffix: str
    lower: str
    upper: str


@dataclass(frozen=True, slots=True)
class HistoryIndex:
    """The names of an index: as the table's, as the parent's, as history's; `is_primary` is `yes` or empty."""

    source: str
    target: str
    history: str
    is_primary: str


@dataclass(frozen=True, slots=True)
class HistoryPrimary:
    """The primary key of a table that becomes history, and what replaces it; `swapped`: the partition key joins it.

    `rest` and `key_rest`: the old one and the new one, from USING on. An earlier version left the second empty, and the
    new key then has no options, no included columns and the default tablespace. `clustered`: CLUSTER goes by the old.
    """

    swapped: bool
    source: str
    history: str
    key_index: str
    back_index: str
    rest: str
    columns: list[str]
    identity: list[str]
    key_rest: str = ""
    clustered: bool = False


@dataclass(frozen=True, slots=True)
class Split:
    """Where history ends and what follows; decided once a cycle and kept in `rehearsal.migration.detail`.

    A table that an earlier version attached has no `statistics` here: they kept their names.
    """

    until: str
    key_type: str
    nullable: bool
    leaves: tuple[LaterLeaf, ...]
    primary: HistoryPrimary
    indexes: tuple[HistoryIndex, ...]
    columns: tuple[str, ...]
    statistics: tuple[StatisticsNames, ...] = ()

    @property
    def bounds(self) -> list[tuple[str | None, str | None]]:
        """Bounds of all partitions, history first; it has no lower one, so that no row is too old."""
        return [(None, self.until), *((leaf.lower, leaf.upper) for leaf in self.leaves)]

    @classmethod
    def of_detail(cls, detail: Detail) -> Split:
        """Return the split of a table that is prepared or attached.

        Raises:
            PreconditionError: nothing was decided yet.
        """
        if detail.attach is None:
            message = "this table's history has no end yet; run `./inv db.switchover` first"
            raise PreconditionError(message)
        return detail.attach


class Detail(Kept):
    """What a migration remembers: how its target was decided, what the table was, what a cutover took off or renamed.

    `guard` is the transaction of the last cutover while its snapshot fence is on; `fine` are the partitions that
    history was split into; `rolled_back`: what follows was the table once. A row without a version was written before
    there was one, and has the same keys.
    """

    version: int = VERSION
    leaves: Decided | None = None
    definition: dict[str, dict[str, str]] | None = None
    attach: Split | None = None
    foreign_keys: tuple[KeptKey, ...] | None = None
    indexes: tuple[IndexNames, ...] = ()
    statistics: tuple[StatisticsNames, ...] = ()
    references: tuple[Reference, ...] = ()
    guard: str | None = None
    fine: tuple[str, ...] = ()
    rolled_back: bool = False

    def to_json(self) -> dict[str, object]:
        """Return what was given, with the version; nothing if nothing was."""
        given = self.model_dump(mode="json", exclude_unset=True)
        return {**given, "version": VERSION} if given else {}


class StepDetail(Kept):
    """What a step remembers: the transaction of the cutover, the end of history, how many chunks were planned."""

    barrier: str | None = None
    until: str | None = None
    chunks: int | None = None


UNCHANGED = Detail()
NO_DETAIL = StepDetail()
