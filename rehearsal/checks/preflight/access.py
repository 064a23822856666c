"""Preflight of what the role sees and may do: every row of every table that is touched, and their definitions.

Asked by each act in each state: policies are added, and rights taken away, between any two verbs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rehearsal.catalog.findings import Finding
from rehearsal.catalog.tables import Name, dotted
from rehearsal.checks.preflight.place import Place
from rehearsal.postgres.sqlfiles import quote_ident


def check_access(place: Place) -> Iterator[Finding]:
    """Look at row security, ownership, and the right to make tables, for every relation that the table has now."""
    rows = _relations(place)
    yield from (one for row in rows for one in _row_security(row))
    yield from (one for row in rows for one in _ownership(row))
    schemas = dict.fromkeys(row["schema"] for row in rows if row["is_ours"] and not row["may_create"])
    for schema in schemas:
        yield Finding("right-create", "blocker", place.spec.name, f"no right to create in {schema}", "tables can be "
                      "neither made nor renamed there", f"grant create on schema {schema}")  # fmt: skip


def check_sight(place: Place) -> Iterator[Finding]:
    """Look at row security alone."""
    yield from (one for row in _relations(place) for one in _row_security(row))


def _relations(place: Place) -> list[dict[str, Any]]:
    names: list[Name] = [*place.relations, *sorted(place.children)]
    schemas, tables = [one[0] for one in names], [one[1] for one in names]
    rows = place.rows("preflight_access", schemas=schemas, names=tables)
    # Only a swap touches tables that refer to this one.
    return [row for row in rows if row["is_ours"] or place.plan.strategy == "swap"]


def _row_security(row: dict[str, Any]) -> Iterator[Finding]:
    if not row["is_filtered"]:
        return
    name, role = (row["schema"], row["name"]), row["role"]
    forced = row["is_forced"] and row["is_owner"]
    condition = "row security is forced on the owner too" if forced else f"row security is active for role {role}"
    relax = f", or, as the owner: alter table {quote_ident(name)} no force row level security" if forced else ""
    yield Finding("policy-forced" if forced else "row-security", "blocker", dotted(name), condition,
                  f"role {role} would see, copy, compare and keep only the rows that policies show it",
                  f"as superuser: alter role {quote_ident(role)} bypassrls{relax}")  # fmt: skip


def _ownership(row: dict[str, Any]) -> Iterator[Finding]:
    name = (row["schema"], row["name"])
    if row["is_ours"] and not row["is_owner"]:
        yield Finding("right-owner", "blocker", dotted(name), f"owned by {row['owner']}", "triggers, renames and drops "
                      "are refused", f"grant {quote_ident(row['owner'])} to {quote_ident(row['role'])}")  # fmt: skip
