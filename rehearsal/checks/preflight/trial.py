"""Preflight by trial: what will run within the application's writes runs once, on a scratch table of the same shape.

Triggers, copy and replay see no schema but pg_catalog, so a check that calls a function without its schema, a type
whose operators lie elsewhere, a missing right, would make every write of the application fail. One transaction, rolled
back whatever happens: some rows of the table are written, changed and deleted in a pair beside it. No trigger, default
or sequence of the application takes part.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
from psycopg import sql

from rehearsal.catalog.findings import Finding
from rehearsal.catalog.tables import Table
from rehearsal.checks.preflight.catalogue import finding
from rehearsal.checks.preflight.place import Place
from rehearsal.postgres.sqlfiles import as_query
from rehearsal.switchover.copy.replay import EVERYTHING, Replay, purge_sql
from rehearsal.switchover.names import Names, fit
from rehearsal.switchover.target.target import Shape, mirror_values_of

ROWS = 20
LONGEST_MS = 10_000
# Classes of errors that say something of rows, resources or who else is at work, and nothing of the definition.
UNCLEAR = ("08", "22", "23", "40", "53", "55", "57", "58")


def check_trial(place: Place) -> Iterator[Finding]:
    """Write to a scratch pair through the triggers of the plan's strategy; nothing stays.

    Locks: ACCESS SHARE on the table.
    """
    table = place.table()
    if table is None or table.kind != "r" or not table.primary_key or _lacks_key(place, table):
        return
    step = ["the pair"]
    try:
        with place.conn.transaction(force_rollback=True):
            for name in ("lock_timeout", "statement_timeout"):
                place.conn.execute(sql.SQL("set local {} = {}").format(sql.Identifier(name), LONGEST_MS))
            _try(place, table, step)
    except psycopg.Error as exc:
        yield _finding(place, step[0], exc)


def _lacks_key(place: Place, table: Table) -> bool:
    return place.spec.key not in {column.name for column in table.columns}


def _finding(place: Place, step: str, exc: psycopg.Error) -> Finding:
    reason = " ".join(str(exc.diag.message_primary or exc).split())
    where = " ".join((exc.diag.context or "").split())
    told = f"{exc.sqlstate}: {reason}" + (f" (in {where[:200]})" if where else "")
    is_unclear = (exc.sqlstate or "").startswith(UNCLEAR)
    return finding("trial-unclear" if is_unclear else "trial", place.spec.name, step=step, reason=told)


def _try(place: Place, table: Table, step: list[str]) -> None:
    names = Names((table.name[0], fit(table.name[1], prefix="rehearsal_trial_")))
    shape = Shape.of(table, place.spec.key, names)
    make_pair(place, table, shape)
    if place.plan.traits.copies:
        step[0] = "making the triggers"
        _make_triggers(place, shape)
    for step[0], text in _writes(place):
        if text is None:
            _replay(place, shape)
        else:
            place.conn.execute(as_query(text).format(**_parts(place, table, shape)))


def _writes(place: Place) -> Iterator[tuple[str, str | None]]:
    """Yield each write with what it is; None stands for the replay of the log."""
    insert = "insert into {s} ({c}) overriding system value select {c} from only {live} limit {n}"
    yield "an insert", insert
    yield "an update", "update {s} set {x} = {x}"
    if place.plan.traits.copies:
        yield "replaying the log", None
    if place.plan.traits.mirrors:
        yield "an update of the partitioned table", "update {t} set {x} = {x}"
        yield "a delete of the partitioned table", "delete from {t}"
        yield "an insert", insert
    yield "a delete", "delete from {s}"


def _make_triggers(place: Place, shape: Shape) -> None:
    values = mirror_values_of(shape, mirrors=place.plan.traits.mirrors)
    texts = [place.files.render("switchover/target/mirror.sql.j2", **values)]
    if place.plan.traits.mirrors:
        texts.append(place.files.render("switchover/strategies/dual_write/sync_on.sql.j2", **values))
    for text in texts:
        place.conn.execute(as_query(text))
    trigger = sql.Identifier(shape.names.capture_trigger)
    query = sql.SQL("alter table {} enable always trigger {}")
    place.conn.execute(query.format(sql.Identifier(*shape.names.source), trigger))


def _replay(place: Place, shape: Shape) -> None:
    names = shape.names
    place.conn.execute(as_query(purge_sql(place.files, shape, names.forward_log, names.target)))
    Replay(place.files, shape, names.forward_log, names.source, names.target).batch(place.conn, EVERYTHING)


PAIR = (
    "create table {s} (like {live} including all excluding indexes excluding constraints excluding identity)",
    "alter table {s} add primary key ({p})",
    "create table {t} (like {s} including defaults including generated) partition by {m} ({k})",
    "create table {leaf} partition of {t} {bound}",
    "alter table {t} add primary key ({i})",
)


def make_pair(place: Place, table: Table, shape: Shape) -> None:
    """Make source and target side by side, with the checks that hold for every row; one leaf takes all of them."""
    parts = _parts(place, table, shape)
    for text in PAIR:
        place.conn.execute(as_query(text).format(**parts))
    for statement in _evaluated(table):
        for side in ("s", "t"):
            place.conn.execute(sql.SQL(" ").join([statement[0], parts[side], statement[1]]))


def _evaluated(table: Table) -> Iterator[tuple[sql.Composable, sql.Composable]]:
    """Yield what a write evaluates, checks and indexes, as statements in two halves: the table stands between them."""
    for index in table.indexes:
        if index.has_expressions or index.predicate:
            # Not unique: a partitioned table could not have it.
            where = f" where {index.predicate}" if index.predicate else ""
            yield sql.SQL("create index on"), as_query(index.tail + where)
    for constraint in table.constraints:
        if constraint.kind == "c" and constraint.is_validated:
            name = sql.SQL("add constraint {} ").format(sql.Identifier(constraint.name))
            # NO INHERIT would be refused on the partitioned table; a real target has it on its leaves.
            yield sql.SQL("alter table"), name + as_query(constraint.definition.removesuffix(" NO INHERIT"))


def _parts(place: Place, table: Table, shape: Shape) -> dict[str, sql.Composable]:
    names, spec = shape.names, place.spec
    whole = "for values with (modulus 1, remainder 0)" if spec.method == "hash" else "default"
    return {
        "s": sql.Identifier(*names.source),
        "t": sql.Identifier(*names.target),
        "live": sql.Identifier(*table.name),
        "leaf": sql.Identifier(*names.default_leaf),
        "c": sql.SQL(", ").join(sql.Identifier(column) for column in shape.columns),
        "p": sql.SQL(", ").join(sql.Identifier(column) for column in shape.primary),
        "i": sql.SQL(", ").join(sql.Identifier(column) for column in shape.identity),
        "k": sql.Identifier(spec.key),
        "x": sql.Identifier(shape.columns[-1]),
        "n": sql.Literal(ROWS),
        "m": as_query(spec.method),
        "bound": as_query(whole),
    }
