"""Preflight of what the application says: statements that a partitioned table refuses, or answers in another way.

Looks into pg_stat_statements; what it cannot see is counted and said.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import sql

from rehearsal.catalog.findings import Finding
from rehearsal.catalog.statements import statements_view
from rehearsal.catalog.tables import Name, split_name
from rehearsal.catalog.words import Word, has_run, has_word, names_table, read_words
from rehearsal.checks.preflight.catalogue import ENTRY, finding
from rehearsal.plan.model import Plan, TableSpec
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.switchover.names import Names

SHOWN = 160
SYSTEM_COLUMNS = ("xmin", "xmax", "cmin", "cmax")
# What pg_dump says of every table; of a partitioned one it says it of each partition.
DUMP = re.compile(r"COPY \S+(?: \(.*\))? TO stdout;?", re.DOTALL)
# Statements of our own; those within trigger functions are recognised by what only they write.
OURS = re.compile(r"rehearsal|overriding system value", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SeenStatements:
    """The statements of this database, and what was not seen of them."""

    texts: tuple[str, ...]
    unseen: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RiskyUse:
    """One way of naming a table that partitioning changes; `is_used` gets the words and the partition key."""

    id: str
    is_used: Callable[[Sequence[Word], str], bool]
    of_insert: bool = False

    def is_seen(self, words: Sequence[Word], spec: TableSpec) -> bool:
        """Return whether a statement uses the planned table in this way."""
        name = split_name(spec.name)
        if self.of_insert:
            before = has_run(words, "on", "conflict")
            return inserts_into(words[:before], name) and self.is_used(words, spec.key)
        return any(names_table(words, *table) for table in (name, Names(name).target)) and self.is_used(words, spec.key)


def inserts_into(words: Sequence[Word], name: Name) -> bool:
    """Return whether the last INSERT among these words writes to the table."""
    places = [place for place in range(len(words)) if has_run(words[place : place + 2], "insert", "into")]
    return bool(places) and names_table(words[places[-1] + 2 : places[-1] + 5], *name, only_first=True)


def check_statements(conn: Connection, files: SqlFiles, plan: Plan) -> Iterator[Finding]:
    """Return each use of a planned table that partitioning changes, with its statement, and what was not seen."""
    seen = read_statements(conn, files.headers())
    for reason in seen.unseen:
        yield finding("statements-unseen", "pg_stat_statements", what=reason)
    for text in seen.texts:
        words = read_words(text)
        for spec in plan.tables:
            yield from _uses(words, text, spec)


def _uses(words: Sequence[Word], text: str, spec: TableSpec) -> Iterator[Finding]:
    for use in USES:
        if use.is_seen(words, spec):
            shown = " ".join(text.split())
            found = finding(use.id, spec.name, statement=f"{shown[:SHOWN]}{'…' * (len(shown) > SHOWN)}")
            is_accepted = use.id in spec.accepted and ENTRY[use.id].may_accept
            yield replace(found, remedy="accepted in the plan") if is_accepted else found


def read_statements(conn: Connection, headers: frozenset[str]) -> SeenStatements:
    """Read pg_stat_statements as far as it is there and may be read; `headers` are those of statements of ours."""
    view = statements_view(conn)
    if view is None:
        return SeenStatements((), ("it is not loaded (shared_preload_libraries), or not created in this database",))
    query = sql.SQL(
        "select distinct query from {} "
        "where dbid = (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database())"
    ).format(view)
    hidden = sql.SQL("select count(*) from {} where query = '<insufficient privilege>'").format(view)
    forgotten = sql.SQL("select dealloc from {}").format(statements_view(conn, "pg_stat_statements_info") or view)
    try:
        with conn.transaction():
            texts = tuple(text for (text,) in conn.execute(query) if text and not _is_ours(text, headers))
            counts = [scalar(conn, statement) for statement in (hidden, forgotten)]
    except psycopg.Error as exc:
        return SeenStatements((), (f"it cannot be read: {exc.sqlstate}: {exc.diag.message_primary}",))
    return SeenStatements(texts, tuple(_unseen(*counts)))


def _is_ours(text: str, headers: frozenset[str]) -> bool:
    first = text.lstrip().partition("\n")[0].strip()
    return bool(first in headers or OURS.search(text) or DUMP.fullmatch(text.strip()))


def _unseen(hidden: Any, forgotten: Any) -> Iterator[str]:
    if hidden:
        yield f"{hidden} statements of other roles are hidden: the role lacks privilege pg_read_all_stats"
    if forgotten:
        yield f"it was full and has forgotten its rarest statements {forgotten} times"


def _changes(words: Sequence[Word]) -> bool:
    return has_word(words, "delete", "update", "merge")


def _without_target(words: Sequence[Word], _key: str) -> bool:
    after = has_run(words, "on", "conflict")
    return bool(after) and words[after : after + 1] == (Word("do"),)


def conflict_columns(words: Sequence[Word]) -> set[str]:
    """Return the names that the target of ON CONFLICT holds; empty where it has none."""
    after = has_run(words, "on", "conflict")
    if not after or words[after : after + 1] != (Word("("),):
        return set()
    depth, names = 0, set[str]()
    for word in words[after:]:
        depth += {"(": 1, ")": -1}.get(word.text, 0)
        names.add(word.text)
        if not depth:
            break
    return names - {"(", ")", ","}


def _target_lacks_key(words: Sequence[Word], key: str) -> bool:
    columns = conflict_columns(words)
    return bool(columns) and key not in columns


def _copies_out(words: Sequence[Word], _key: str) -> bool:
    # COPY (SELECT …) TO goes on.
    return words[:1] == (Word("copy"),) and words[1:2] != (Word("("),) and has_run(words, "to") > 0


USES: tuple[RiskyUse, ...] = (
    RiskyUse("on-conflict-target", _target_lacks_key, of_insert=True),
    RiskyUse("on-conflict-any", _without_target, of_insert=True),
    RiskyUse(
        "on-conflict-constraint",
        lambda words, _: has_run(words, "on", "conflict", "on", "constraint") > 0,
        of_insert=True,
    ),
    RiskyUse("ctid-write", lambda words, _: has_word(words, "ctid") and _changes(words)),
    RiskyUse("ctid-read", lambda words, _: has_word(words, "ctid") and not _changes(words)),
    RiskyUse("system-column", lambda words, _: has_word(words, *SYSTEM_COLUMNS)),
    RiskyUse("copy-to", _copies_out),
    RiskyUse("only", lambda words, _: has_word(words, "only") and _only(words)),
    RiskyUse("tableoid", lambda words, _: has_word(words, "tableoid")),
)


def _only(words: Sequence[Word]) -> bool:
    return any(has_run(words, before, "only") for before in ("from", "update", "join", "into", "using", "table"))
