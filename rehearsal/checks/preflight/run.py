"""Which act asks for which checks, and the checks of a whole plan.

Owns the one table (`ASKS`) that says what an act needs. A rollback asks for little: nobody is kept from it by what
only spoils the way forward.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Any

from rehearsal.catalog.findings import Facts, Finding
from rehearsal.checks.preflight.access import check_access, check_sight
from rehearsal.checks.preflight.attach import check_attach
from rehearsal.checks.preflight.catalogue import concerning, finding
from rehearsal.checks.preflight.key import check_key_column, check_operators
from rehearsal.checks.preflight.place import NOT_COPIED, NOT_SWITCHED, Place, places, read_rows
from rehearsal.checks.preflight.relations import check_dependents, check_references
from rehearsal.checks.preflight.rights import check_rights
from rehearsal.checks.preflight.server import OF_THE_DRILL, check_lock_slots, check_room, check_server, check_wal_files
from rehearsal.checks.preflight.standing import check_drop, check_log, check_names
from rehearsal.checks.preflight.statements import check_statements
from rehearsal.checks.preflight.table import check_table
from rehearsal.checks.preflight.trial import check_trial
from rehearsal.plan.model import Plan
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.switchover import state
from rehearsal.switchover.strategies.attach.layout import HistoryNames, plain


class Intent(StrEnum):
    """Something that a verb or a phase does to the tables of a plan."""

    MIGRATE = "migrate"
    SWITCHOVER = "switchover"
    ROLLBACK = "rollback"
    SPLIT = "split"
    CLEANUP = "cleanup"
    FIX = "fix"


class Ask(StrEnum):
    """A question that preflight answers: of the server, or of each table in the state that it is in."""

    ACCESS = "access"  # the role sees every row, owns what it changes
    SERVER = "server"
    ROOM = "room"
    SHAPE = "shape"  # everything that a table can be and that is not carried
    NAMES = "names"
    LOG = "log"
    DROP = "drop"
    STATEMENTS = "statements"
    TRIAL = "trial"


FORWARD = frozenset({Ask.ACCESS, Ask.SERVER, Ask.ROOM, Ask.SHAPE, Ask.NAMES, Ask.LOG, Ask.STATEMENTS, Ask.TRIAL})
ASKS: Mapping[Intent, frozenset[Ask]] = {
    Intent.MIGRATE: FORWARD,
    Intent.SWITCHOVER: FORWARD,
    Intent.ROLLBACK: frozenset({Ask.ACCESS, Ask.NAMES, Ask.LOG}),
    Intent.SPLIT: frozenset({Ask.ACCESS, Ask.SERVER, Ask.ROOM, Ask.TRIAL}),
    Intent.CLEANUP: frozenset({Ask.ACCESS, Ask.DROP}),
    Intent.FIX: frozenset({Ask.ACCESS}),
}
HIDDEN = ("policy-forced", "row-security")
NO_TABLE = "table-kind"
# A single verb makes no restore drill.
NOT_OF_VERBS = OF_THE_DRILL


def check_act(
    conn: Connection, files: SqlFiles, plan: Plan, act: Intent, *, free_bytes: int | None = None
) -> list[Finding]:
    """Return what stands against an act on the plan's tables, each in the state that it is in.

    Nothing is changed: what is tried (`trial`) is rolled back. Locks: ACCESS SHARE. A second call asks again.
    """
    asks = ASKS[act]
    here = places(conn, files, plan)
    findings = [found for place in here for found in _check_place(place, act)]
    if Ask.STATEMENTS in asks and any(place.state in NOT_SWITCHED for place in here):
        findings += check_statements(conn, files, plan)
    if Ask.SERVER in asks:
        server = _server(conn, files)
        findings += _eased(check_server(server))
        findings += _check_room(here, act, server, free_bytes)
    return findings


def run_preflight(
    conn: Connection, files: SqlFiles, plan: Plan, *, free_bytes: int | None = None, trial: bool = False
) -> list[Finding]:
    """Return all findings for the server and for each table of the plan; empty means ready.

    `free_bytes` is the room on the disk of the data, where it can be seen; with `trial`, what runs within the
    application's writes is tried on a scratch table, in a transaction that is rolled back.
    """
    server = _server(conn, files)
    findings = list(check_server(server))
    here = places(conn, files, plan)
    for place in here:
        access = list(check_access(place))
        findings += access
        if _is_hidden(access):
            continue
        if place.state in NOT_SWITCHED or place.swapped:
            findings += _check_shape(place, values=True)
        if any(found.id == NO_TABLE for found in findings):
            continue
        if place.state in NOT_SWITCHED:
            findings += check_names(place)
        if trial and place.state in NOT_COPIED and not any(found.severity == "blocker" for found in findings):
            findings += check_trial(place)
    findings += check_statements(conn, files, plan)
    return findings + _check_room(here, Intent.SWITCHOVER, server, free_bytes)


def _server(conn: Connection, files: SqlFiles) -> dict[str, Any]:
    return read_rows(conn, files, "server")[0]


def _eased(findings: Iterable[Finding]) -> Iterator[Finding]:
    for found in findings:
        if found.id not in NOT_OF_VERBS:
            yield finding("right-read-stats", found.subject, "single verb") if found.id == "right-read-stats" else found


def _check_place(place: Place, act: Intent) -> list[Finding]:
    """Return the findings of one table; what cannot be seen or does not exist is not asked further."""
    asks = ASKS[act]
    if act == Intent.ROLLBACK and place.plan.traits.mirrors and place.state not in state.UNUSED:
        return list(check_sight(place))  # flags go back: no table is changed
    findings = list(check_access(place)) if Ask.ACCESS in asks else []
    if _is_hidden(findings):
        return findings
    # Where nothing was swapped, a rollback has no name to take and no log to replay.
    skipped = {Ask.NAMES, Ask.LOG} if act == Intent.ROLLBACK and not place.swapped else set[Ask]()
    for ask, check in _CHECKS.items():
        if ask in asks - skipped:
            findings += check(place)
        if any(found.id == NO_TABLE for found in findings):
            return findings
    if Ask.TRIAL in asks and not any(found.severity == "blocker" for found in findings):
        findings += _trial(place, act)
    return findings


def _is_hidden(findings: list[Finding]) -> bool:
    """Return whether rows are hidden from the role: then reading them raises, and nothing more can be asked."""
    return any(found.id in HIDDEN for found in findings)


def _trial(place: Place, act: Intent) -> Iterator[Finding]:
    """Try what will run; to split an attached table's history, its rows are copied as a swap copies them."""
    if act != Intent.SPLIT:
        yield from check_trial(place) if place.state in NOT_COPIED else ()
        return
    table = place.table()
    if table is not None and place.state == state.ATTACHED:
        yield from check_operators(place.conn, place.files, place.spec, table)
        yield from check_trial(replace(place, plan=place.plan.model_copy(update={"strategy": "swap"})))


def _shape_now(place: Place) -> Iterator[Finding]:
    if place.state in NOT_SWITCHED:
        yield from _check_shape(place, values=place.state in NOT_COPIED)


_CHECKS: Mapping[Ask, Callable[[Place], Iterator[Finding]]] = {
    Ask.SHAPE: _shape_now,
    Ask.NAMES: check_names,
    Ask.LOG: check_log,
    Ask.DROP: check_drop,
}


def _check_shape(place: Place, *, values: bool) -> Iterator[Finding]:
    facts = _facts(place)
    if facts is None:
        yield finding("table-missing", place.spec.name)
        return
    findings = list(concerning(place.plan.strategy, _of_table(place, facts, values=values)))
    # What is no ordinary table is asked nothing more: the answers would be about something else.
    yield from [found for found in findings if found.id == NO_TABLE] or findings


def _of_table(place: Place, facts: Facts, *, values: bool) -> Iterator[Finding]:
    """Return everything that any strategy could mind about a table."""
    yield from check_table(facts)
    yield from check_attach(place.conn, place.files, facts)
    yield from check_dependents(place.conn, place.files, facts)
    yield from check_references(place.conn, place.files, facts)
    yield from check_rights(place, facts)
    yield from check_key_column(place.conn, place.files, facts, values=values)


def _facts(place: Place) -> Facts | None:
    table = place.table()
    if table is None:
        return None
    row = place.row("table", oid=table.oid)
    if not place.plan.traits.copies:
        table = plain(table, HistoryNames(place.names))
    return Facts(place.plan, place.spec, table, row)


def _check_room(here: list[Place], act: Intent, server: Mapping[str, Any], free: int | None) -> list[Finding]:
    """Look whether what is still to be copied, and what is built, has room."""
    need = leaves = 0
    for place in here:
        copied = act == Intent.SWITCHOVER and place.plan.traits.copies and place.state not in NOT_COPIED
        table = place.table()
        if table is None or copied:
            continue
        bytes_now = place.row("table", oid=table.oid)["total_bytes"]
        # With attach no row is copied before its history is split: two more indexes at most are built.
        need += bytes_now // (1 if place.plan.traits.copies or act == Intent.SPLIT else 8)
        leaves += 30 * (1 + len(table.indexes))
    return [*check_room(need, free), *check_wal_files(need, server), *check_lock_slots(leaves, server)]
