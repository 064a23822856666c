"""The catalogue of findings: everything that preflight can say, as data.

Owns the texts, and which strategies a finding concerns. A check yields `finding(id, subject, words)` and knows no text;
pages for people are made of the same entries (`explain`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from rehearsal.catalog.findings import Finding
from rehearsal.checks.preflight.catalogue.attach import ATTACH_ENTRIES
from rehearsal.checks.preflight.catalogue.dependents import DEPENDENT_ENTRIES
from rehearsal.checks.preflight.catalogue.entry import Entry, Example, Says, Shown
from rehearsal.checks.preflight.catalogue.key import KEY_ENTRIES
from rehearsal.checks.preflight.catalogue.place import PLACE_ENTRIES
from rehearsal.checks.preflight.catalogue.references import REFERENCE_ENTRIES
from rehearsal.checks.preflight.catalogue.rights import RIGHT_ENTRIES
from rehearsal.checks.preflight.catalogue.server import SERVER_ENTRIES
from rehearsal.checks.preflight.catalogue.statements import STATEMENT_ENTRIES
from rehearsal.checks.preflight.catalogue.table import TABLE_ENTRIES

__all__ = ["ENTRIES", "ENTRY", "Entry", "Example", "Says", "Shown", "concerning", "concerns", "finding"]

ENTRIES: tuple[Entry, ...] = (
    *SERVER_ENTRIES,
    *RIGHT_ENTRIES,
    *PLACE_ENTRIES,
    *TABLE_ENTRIES,
    *KEY_ENTRIES,
    *DEPENDENT_ENTRIES,
    *REFERENCE_ENTRIES,
    *ATTACH_ENTRIES,
    *STATEMENT_ENTRIES,
)
ENTRY: Mapping[str, Entry] = {entry.id: entry for entry in ENTRIES}


def finding(identifier: str, subject: str, *cases: str, **words: object) -> Finding:
    """Return a finding with the texts of the first of these cases that has its own, filled with the words."""
    says = ENTRY[identifier].said(*cases)
    texts = (text.format_map(words) for text in (says.condition, says.effect, says.remedy))
    return Finding(identifier, says.severity, subject, *texts)


def concerns(identifier: str, strategy: str) -> bool:
    """Return whether a kind of finding means anything for a strategy."""
    return strategy in ENTRY[identifier].strategies


def concerning(strategy: str, findings: Iterable[Finding]) -> Iterator[Finding]:
    """Return those findings that mean something for a strategy."""
    return (found for found in findings if concerns(found.id, strategy))
