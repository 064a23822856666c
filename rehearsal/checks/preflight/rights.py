"""Preflight of rights that are needed late, when a copy has run for hours: what is made anew in the role's name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rehearsal.catalog.findings import Facts, Finding
from rehearsal.checks.preflight.place import Place
from rehearsal.postgres.sqlfiles import quote_ident


def check_rights(place: Place, facts: Facts) -> Iterator[Finding]:
    """Look at functions of triggers, tables that are referred to, and statistics of other owners."""
    role = quote_ident(place.conn.info.user)
    for row in place.rows("preflight_rights", oid=facts.table.oid):
        condition, effect, remedy = _words(row, role)
        yield Finding(f"right-{row['kind']}", "blocker", facts.spec.name, condition, effect, remedy)


def _words(row: dict[str, Any], role: str) -> tuple[str, str, str]:
    name, owner = row["name"], row["more"]
    if row["kind"] == "trigger-function":
        effect = "its trigger cannot be made on the partitioned table"
        return f"no right to execute {name}", effect, f"grant execute on function {name} to {role}"
    if row["kind"] == "referenced":
        effect = "the foreign key to it cannot be made anew"
        return f"no right to refer to {name}, or to lock it", effect, f"grant references, update on {name} to {role}"
    effect = "they can be neither made anew nor renamed"
    return f"statistics {name} are owned by {owner}", effect, f"grant {quote_ident(owner)} to {role}"
