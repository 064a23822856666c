"""Preflight of what the role sees and may do: every row of every table that is touched, and their definitions.

Asked by each act in each state: policies are added, and rights taken away, between any two verbs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rehearsal.catalog.findings import Finding
from rehearsal.catalog.tables import Name, dotted
from rehearsal.checks.preflight.catalogue import finding
from rehearsal.checks.preflight.place import Place
from rehearsal.postgres.sqlfiles import quote_ident


def check_access(place: Place) -> Iterator[Finding]:
    """Look at row security, ownership, and the right to make tables, for every relation that the table has now."""
    rows = _relations(place)
    yield from (found for row in rows for found in _row_security(row))
    yield from (found for row in rows for found in _ownership(row))
    schemas = dict.fromkeys(row["schema"] for row in rows if row["is_ours"] and not row["may_create"])
    for schema in schemas:
        yield finding("right-create", place.spec.name, schema=schema)


def check_sight(place: Place) -> Iterator[Finding]:
    """Look at row security alone."""
    yield from (found for row in _relations(place) for found in _row_security(row))


def _relations(place: Place) -> list[dict[str, Any]]:
    names: list[Name] = [*place.relations, *sorted(place.children)]
    schemas, tables = [name[0] for name in names], [name[1] for name in names]
    rows = place.rows("access", schemas=schemas, names=tables)
    # Only an exchange of names touches tables that refer to this one.
    return [row for row in rows if row["is_ours"] or place.plan.traits.exchanges]


def _row_security(row: dict[str, Any]) -> Iterator[Finding]:
    if not row["is_filtered"]:
        return
    name, role = (row["schema"], row["name"]), row["role"]
    forced = row["is_forced"] and row["is_owner"]
    words = {"role": role, "role_name": quote_ident(role), "table": quote_ident(name)}
    yield finding("policy-forced" if forced else "row-security", dotted(name), **words)


def _ownership(row: dict[str, Any]) -> Iterator[Finding]:
    name = (row["schema"], row["name"])
    if row["is_ours"] and not row["is_owner"]:
        words = {"owner_name": quote_ident(row["owner"]), "role_name": quote_ident(row["role"])}
        yield finding("right-owner", dotted(name), owner=row["owner"], **words)
