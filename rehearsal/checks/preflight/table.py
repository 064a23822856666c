"""Preflight of a table as it is before it is switched: what cannot be carried, by name. Reads only."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rehearsal.catalog.findings import Facts, Finding
from rehearsal.checks.duplicates import unknown_decisions, without_key
from rehearsal.checks.preflight.catalogue import concerns, finding


def _not_plain(facts: Facts) -> Iterator[Finding]:
    kinds = {"p": "partitioned already", "f": "a foreign table", "v": "a view", "m": "a materialized view"}
    what = kinds.get(facts.table.kind)
    if facts.row["is_inherited"] or facts.row["is_partition"]:
        what = what or "part of an inheritance tree"
    if facts.row["persistence"] != "p":
        what = what or "not logged"
    if what:
        yield finding("table-kind", facts.spec.name, what=what)


def _no_primary_key(facts: Facts) -> Iterator[Finding]:
    if not facts.table.primary_key:
        yield finding("no-primary-key", facts.spec.name)


def _unique_without_key(facts: Facts) -> Iterator[Finding]:
    spec, strategy = facts.spec, facts.plan.strategy
    for index in without_key(facts.table, spec.key):
        if index.constraint_sql and index.constraint_sql.startswith("EXCLUDE"):
            continue
        subject, decision = f"{spec.name} {index.name}", spec.uniques.get(index.name)
        if decision and concerns("unique-weakened", strategy):
            yield finding("unique-weakened", subject, key=spec.key, decision=decision)
        else:
            yield finding("unique-without-key", subject, strategy, key=spec.key, index=index.name)
    for name in unknown_decisions(facts.table, spec):
        yield finding("unique-unknown", spec.name, name=name)


def _invalid_index(facts: Facts) -> Iterator[Finding]:
    for index in facts.table.indexes:
        if not index.is_valid:
            yield finding("invalid-index", index.name)


def _identity(facts: Facts) -> Iterator[Finding]:
    """The mirror back of dual-write has to write every column of a row that is there already."""
    for column in facts.table.columns:
        if column.identity == "a" and column.name not in facts.table.primary_key:
            yield finding("identity-outside-key", f"{facts.spec.name}.{column.name}")


def _triggers(facts: Facts) -> Iterator[Finding]:
    """Triggers of the application fire on the table that has the name; with two tables in use they would fire twice."""
    for trigger in facts.row["own_triggers"]:
        subject = f"{facts.spec.name}: trigger {trigger['name']}"
        yield finding("trigger-twice", subject)
        if trigger["has_transition_tables"] and trigger["is_row"]:
            yield finding("trigger-transition", subject)
        elif trigger["is_row"] and trigger["is_before"]:
            yield finding("trigger-moves-row", subject)
        elif trigger["is_row"] and trigger["on_update"]:
            yield finding("trigger-key-move", subject)


def _policies(facts: Facts) -> Iterator[Finding]:
    for name in facts.row["own_policies"]:
        yield finding("policy-self", f"{facts.spec.name}: policy {name}")


def _constraints(facts: Facts) -> Iterator[Finding]:
    name = facts.spec.name
    for foreign_key in facts.table.foreign_keys:
        if not foreign_key.is_validated:
            yield finding("foreign-key-not-valid", f"{name}: {foreign_key.name}")
    for index in facts.table.indexes:
        if "WITHOUT OVERLAPS" in (index.constraint_sql or ""):
            yield finding("temporal-key", f"{name}: {index.name}")
        if index.is_primary and index.deferrable:
            yield finding("primary-key-deferrable", name)
    for constraint in facts.row["not_null_not_valid"]:
        yield finding("not-null-not-valid", f"{name}: {constraint}")


def _not_carried(facts: Facts) -> Iterator[Finding]:
    name, row = facts.spec.name, facts.row
    for exclusion in row["exclusions"] if row["version"] < 170000 else ():
        yield finding("not-carried-exclusion", name, name=exclusion)
    for type_name in row["of_type"]:
        yield finding("not-carried-type", name, name=type_name)
    for label in row["labels"]:
        yield finding("not-carried-security-label", name, name=label)


def _wraparound(facts: Facts) -> Iterator[Finding]:
    share, vacuum = facts.row["wraparound_share"], facts.row["wraparound_vacuum"]
    if vacuum or (share or 0) > 0.9:
        seen = "a vacuum to prevent wraparound is at it" if vacuum else f"{share:.0%} of the age that forces a vacuum"
        yield finding("wraparound", facts.spec.name, seen=seen, age=f"{facts.row['frozen_age']:,}")


CHECKS: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    _not_plain,
    _no_primary_key,
    _unique_without_key,
    _invalid_index,
    _identity,
    _triggers,
    _policies,
    _constraints,
    _not_carried,
    _wraparound,
)


def check_table(facts: Facts) -> Iterator[Finding]:
    """Return everything about a table, by itself, that is not carried."""
    for check in CHECKS:
        yield from check(facts)
