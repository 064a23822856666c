"""What a cutover writes down of things that it renames or takes off, so that the rollback finds them.

Owns the keys of these parts of `rehearsal.migration.detail`; templates name them too.
"""

from __future__ import annotations

from dataclasses import dataclass

from rehearsal.catalog.tables import Name


@dataclass(frozen=True, slots=True)
class KeptKey:
    """A foreign key of the table while it is off."""

    name: str
    definition: str
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class IndexNames:
    """The names of an index: as the source's, as the target's if it has one, as the retired table's."""

    source: Name
    target: Name | None
    retired: Name


@dataclass(frozen=True, slots=True)
class StatisticsNames:
    """The names of a statistics object: as the source's, the target's, the retired table's, and history's.

    An earlier version swapped without the last.
    """

    source: Name
    target: Name
    retired: Name
    history: Name | None = None
