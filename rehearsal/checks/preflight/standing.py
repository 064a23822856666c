"""Preflight of what a switchover under way has to stand on: names that are free, logs that are written. Reads only."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from rehearsal.catalog.dependents import read_dependents
from rehearsal.catalog.findings import Finding
from rehearsal.catalog.keys import plan_bounds
from rehearsal.catalog.tables import Name, dotted, split_name
from rehearsal.checks.preflight.catalogue import finding
from rehearsal.checks.preflight.place import Place
from rehearsal.errors import RehearsalError
from rehearsal.postgres.connection import scalar
from rehearsal.switchover import state
from rehearsal.switchover.names import Names, fit
from rehearsal.switchover.strategies.registry import strategy_of

TAKEN = """
select array(
    select distinct l.schema || '.' || l.name
    from unnest(%s::text[], %s::text[]) as l (schema, name)
    join pg_catalog.pg_namespace as n on n.nspname = l.schema
    where exists (select from pg_catalog.pg_class as c where c.relnamespace = n.oid and c.relname = l.name)
          -- A table brings a type of its name; the array types that PostgreSQL makes step aside by themselves.
          or exists (select from pg_catalog.pg_type as t
                     where t.typnamespace = n.oid and t.typname = l.name
                           and not exists (select from pg_catalog.pg_type as e where e.typarray = t.oid))
    order by 1
)
"""

# Those that a switchover puts on a table that refers to the one that it swaps; they are carried by nobody.
STAND_INS = """
select t.tgname::text from pg_catalog.pg_trigger as t join pg_catalog.pg_proc as p on p.oid = t.tgfoid
where t.tgrelid = %s and not t.tgisinternal and p.pronamespace = pg_catalog.to_regnamespace('rehearsal')
      and (pg_catalog.starts_with(p.proname, 'loose_check_') or pg_catalog.starts_with(p.proname, 'reference_fill_'))
order by 1
"""


def check_names(place: Place) -> Iterator[Finding]:
    """Look whether the names that come next in this state are free, and nobody else's triggers on the table."""
    yield from check_stand_ins(place)
    names = _next_names(place)
    taken: list[str] = scalar(place.conn, TAKEN, [[name[0] for name in names], [name[1] for name in names]])
    for name in taken:
        yield finding("name-taken", place.spec.name, name=name)
    for other in _others(place):
        if Names(other).forward_log == place.names.forward_log:
            words = {"name": dotted(place.names.forward_log), "other": dotted(other)}
            yield finding("name-taken", place.spec.name, "shared", **words)


def check_stand_ins(place: Place) -> Iterator[Finding]:
    """Look whether triggers of another switchover stand for foreign keys of a table that is still to be switched."""
    table = place.table() if place.state is None or place.state in state.UNUSED else None
    for (name,) in place.conn.execute(STAND_INS, [table.oid]) if table else ():
        yield finding("foreign-key-replaced", place.spec.name, name=name)


def _others(place: Place) -> list[Name]:
    """Return the other tables of the plan, and those being switched, while this one is not: `a.b_c` and `a_b.c`."""
    if place.state is not None:
        return []
    planned = [split_name(spec.name) for spec in place.plan.tables]
    known = not scalar(place.conn, "select pg_catalog.to_regclass('rehearsal.migration') is null")
    rows = place.conn.execute("select source from rehearsal.migration").fetchall() if known else []
    others = [*planned, *(split_name(source) for (source,) in rows)]
    return sorted({other for other in others if other != place.names.source})


def _next_names(place: Place) -> list[Name]:
    names, now = place.names, place.state
    if now is None:
        more = [names.retired, *_leaf_names(place), *_index_names(place)] if place.plan.traits.copies else []
        return [names.target, *more]
    if place.plan.traits.exchanges:
        return [names.target] if now == state.SWAPPED else [names.retired, *_retired_indexes(place)]
    is_next = now == state.PREPARED and not place.plan.traits.copies and not _has_parent(place)
    return [names.target] if is_next else []


def _has_parent(place: Place) -> bool:
    return place.found is not None and state.is_done(place.conn, place.found.id, "parent")


def _index_names(place: Place) -> list[Name]:
    """Return the names that indexes of the target and, where tables are exchanged, of the retired one will have."""
    table = place.table()
    if table is None:
        return []
    primary = [index.name for index in table.indexes if index.is_primary]
    others = [index.name for index in table.indexes if not index.is_primary]
    on_target = [fit(place.names.target[1], "_pkey") for _ in primary] + [fit(name, "_partitioned") for name in others]
    return [*((table.name[0], name) for name in on_target), *_retired_indexes(place)]


def _retired_indexes(place: Place) -> list[Name]:
    table = place.table()
    if table is None or not place.plan.traits.exchanges:
        return []
    return [(table.name[0], fit(index.name, "_old")) for index in table.indexes]


def _leaf_names(place: Place) -> list[Name]:
    table = place.table()
    if table is None:
        return []
    try:
        bounds = plan_bounds(place.conn, place.files, place.spec, table, datetime.now(UTC))
    except RehearsalError:
        return []  # the checks of the key say why
    names = [place.names.leaf(bound.suffix) for bound in bounds]
    return [*names, place.names.default_leaf] if place.spec.default_partition else names


def check_log(place: Place) -> Iterator[Finding]:
    """Look whether the table that lags gets to know every write: its log, and the trigger that fills it."""
    now = place.state
    if place.found is None or now not in (state.COPYING, state.FOLLOWING, state.SWAPPED):
        return
    names = place.names
    log = names.reverse_log if now == state.SWAPPED else names.forward_log
    if scalar(place.conn, "select to_regclass(format('%%I.%%I', %s::text, %s::text)) is null", list(log)):
        yield finding("log-missing", place.spec.name, log=dotted(log))
        return
    capture = names.reverse_capture_trigger if now == state.SWAPPED else names.capture_trigger
    for trigger in strategy_of(place.plan).trigger_states(place.conn, place.files, names, place.found):
        if trigger.name == capture and trigger.wanted == "A" != trigger.found:
            yield finding("capture-off", dotted(trigger.table), name=trigger.name, found=trigger.found or "missing")


def check_drop(place: Place) -> Iterator[Finding]:
    """Look what depends on the table that a clean-up drops."""
    if place.state != state.SWAPPED:
        return
    table = place.table()
    if table is None:
        yield finding("retired-missing", place.spec.name, table=dotted(place.source))
        return
    for dependent in read_dependents(place.conn, place.files, table.oid, place.spec.key):
        if dependent.problem != "publication-all":
            yield finding("retired-in-use", dotted(place.source), what=dependent)
