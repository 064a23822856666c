"""Preflight of rights that are needed late, when a copy has run for hours: what is made anew in the role's name."""

from __future__ import annotations

from collections.abc import Iterator

from rehearsal.catalog.findings import Facts, Finding
from rehearsal.checks.preflight.catalogue import finding
from rehearsal.checks.preflight.place import Place
from rehearsal.postgres.sqlfiles import quote_ident

RIGHTS = {
    "trigger-function": "right-trigger-function",
    "referenced": "right-referenced",
    "statistics": "right-statistics",
}


def check_rights(place: Place, facts: Facts) -> Iterator[Finding]:
    """Look at functions of triggers, tables that are referred to, and statistics of other owners."""
    for row in place.rows("rights", oid=facts.table.oid):
        owner = row["more"] or ""
        words = {"name": row["name"], "role": quote_ident(place.conn.info.user), "owner_name": quote_ident(owner)}
        yield finding(RIGHTS[row["kind"]], facts.spec.name, owner=owner, **words)
