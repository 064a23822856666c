"""What a table is, apart from its rows: every fact of the catalog in a normal form, and the difference of two of them.

Owns the machine diff: read before a switchover, kept in `rehearsal.migration`, compared after it and after the way
back. A fact is (subject, facet, text), such as `index "x"`, `definition`, `btree (id)`. Reads only; takes no lock but
ACCESS SHARE, on the table itself for the largest value that its sequence has to be beyond.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from psycopg import sql
from psycopg.rows import dict_row

from rehearsal.catalog.tables import Table
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import SqlFiles, quote_ident

Facts = Mapping[str, str]
Definition = Mapping[str, Facts]
# Subject, facet, and the two texts of the fact.
Same = Callable[[str, str, str | None, str | None], bool]


def as_text(_subject: str, _facet: str, left: str | None, right: str | None) -> bool:
    """Compare two texts of a fact sign by sign; `readback` knows how to ask the server."""
    return left == right


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference; `reason` says who wants it: the strategy, or the plan. None: nobody, and the gate fails."""

    subject: str
    facet: str
    before: str | None
    after: str | None
    reason: str | None = None

    @property
    def id(self) -> str:
        """What stands in `accepted` of the plan's table if this difference is wanted.

        >>> Difference('index foo', '', 'btree (id)', None).id
        'index foo: missing after'
        """
        if not self.facet:
            return f"{self.subject}: {'missing' if self.after is None else 'only there'} after"
        return f"{self.subject}: {self.facet}: {self.before or 'none'} -> {self.after or 'none'}"


def columns_apart(accepted: Iterable[str]) -> frozenset[str]:
    """Return the columns that one of two tables may have alone, as the plan's table accepts them.

    >>> sorted(columns_apart(['column "z": only there after', 'column "a ""b": missing after', 'index "y": x after']))
    ['a "b', 'z']
    """
    found = (re.fullmatch(r'column "((?:[^"]|"")+)": (?:only there|missing) after', said) for said in accepted)
    return frozenset(match[1].replace('""', '"') for match in found if match)


def read_definition(conn: Connection, files: SqlFiles, table: Table) -> dict[str, dict[str, str]]:
    """Return all facts of the table, by subject and facet."""
    facts = read_facts(conn, files, table)
    for sequence in read_sequences(conn, files, table):
        if sequence["holds_numbers"]:
            facts[f"sequence of column {quote_ident(sequence['column'])}"]["next value"] = _next_value(
                conn, table, sequence
            )
    return facts


def read_facts(conn: Connection, files: SqlFiles, table: Table) -> dict[str, dict[str, str]]:
    """Return the facts that stand in the catalog alone: no row of the table is read."""
    facts: dict[str, dict[str, str]] = {}
    for subject, facet, said in conn.execute(files.query("catalog/definition.sql"), {"oid": table.oid}):
        facts.setdefault(subject, {})[facet] = said
    return facts


def read_sequences(conn: Connection, files: SqlFiles, table: Table) -> list[dict[str, Any]]:
    """Return the sequences that columns of the table own, identity or not, with all that has to be carried."""
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(files.query("catalog/sequences.sql"), {"oid": table.oid}).fetchall()


def _next_value(conn: Connection, table: Table, sequence: Mapping[str, Any]) -> str:
    """Say whether the sequence is beyond every value; values are read first, for writers draw before they insert."""
    values = sql.SQL("select {most}({column})::numeric from {table}").format(
        most=sql.SQL("max" if sequence["increment"] > 0 else "min"),
        column=sql.Identifier(sequence["column"]),
        table=sql.Identifier(*table.name),
    )
    last = scalar(conn, values)
    following = sql.SQL("select last_value + case when is_called then {step} else 0 end from {sequence}").format(
        step=sql.Literal(sequence["increment"]), sequence=sql.Identifier(sequence["schema"], sequence["name"])
    )
    drawn = scalar(conn, following)
    beyond = last is None or (drawn > last if sequence["increment"] > 0 else drawn < last)
    return "beyond every value" if beyond else "NOT beyond every value: an insert may collide"


def differences(
    before: Definition,
    after: Definition,
    expected: Definition | None = None,
    reasons: Mapping[str, str] | None = None,
    accepted: Collection[str] = (),
    same: Same = as_text,
) -> list[Difference]:
    """Return every difference of two definitions.

    `expected` is what the strategy makes of `before`, with its reason for each subject that it touches: a difference
    that leads exactly there has that reason, and one that should be there and is not is a difference too. One whose
    id is in `accepted` has the plan for its reason. `same` says whether two texts of a fact mean the same.
    """
    wanted = expected if expected is not None else before
    unwanted = {(difference.subject, difference.facet): difference for difference in _differences(wanted, after, same)}
    found = {(difference.subject, difference.facet): difference for difference in _differences(before, after, same)}
    result: list[Difference] = []
    for place, difference in sorted({**unwanted, **found}.items()):
        reason = None if place in unwanted else (reasons or {}).get(difference.subject)
        reason = "accepted in the plan" if reason is None and difference.id in accepted else reason
        result.append(replace(difference, reason=reason))
    return result


def _differences(before: Definition, after: Definition, same: Same) -> Iterator[Difference]:
    for subject in sorted({*before, *after}):
        ours, theirs = before.get(subject), after.get(subject)
        if ours is None or theirs is None:
            yield Difference(subject, "", _shown(ours), _shown(theirs))
            continue
        for facet in sorted({*ours, *theirs}):
            if not same(subject, facet, ours.get(facet), theirs.get(facet)):
                yield Difference(subject, facet, ours.get(facet), theirs.get(facet))


def _shown(facts: Facts | None) -> str | None:
    return None if facts is None else "; ".join(f"{facet}: {said}" for facet, said in sorted(facts.items()))
