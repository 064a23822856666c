"""How a table becomes the history partition of a parent: where history ends, which names move, which statements run.

Owns what the templates of this strategy are filled with; the form in which it is kept is in `detail`. Reads the
catalog and the newest key; writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from rehearsal.catalog.bounds import Bound, Interval, make_bounds
from rehearsal.catalog.keytypes import TIMES, as_utc, key_text
from rehearsal.catalog.tables import Name, Table
from rehearsal.errors import PreconditionError
from rehearsal.plan.model import TableSpec
from rehearsal.postgres.sqlfiles import SqlFiles, quote_ident, quote_idents, quote_literal
from rehearsal.switchover.detail import HistoryIndex, HistoryPrimary, LaterLeaf, Split
from rehearsal.switchover.names import Names, fit
from rehearsal.switchover.target.indexes import IndexPlan, index_rest, plan_indexes
from rehearsal.switchover.target.target import Shape

# From the validation on, a row at or after the end of history is refused until the cutover: keep well away from it.
HEADROOM = timedelta(days=1)
MARGIN = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class HistoryNames:
    """Names that only the strategy `attach` needs."""

    names: Names

    @property
    def history(self) -> Name:
        """The old table, once it is a partition."""
        return self.names.leaf("history")

    @property
    def bound(self) -> str:
        """Check that proves the bound of history, so that the cutover need not read the rows."""
        return fit(self.names.source[1], "_rehearsal_until")

    @property
    def key_index(self) -> str:
        """Unique index that becomes the primary key at the cutover: the partition key is in it."""
        return fit(self.names.source[1], "_rehearsal_key")

    @property
    def back_index(self) -> str:
        """Copy of the primary key: keeps it unique within history, and is the primary key after the rollback."""
        return fit(self.names.source[1], "_rehearsal_back")


def split_table(table: Table, spec: TableSpec, shape: Shape, newest: datetime | None, now: datetime) -> Split:
    """Decide where the history of a table ends, which partitions follow it, and what its indexes are called.

    History ends with the period that holds the newest key and the day after now, or where the plan says.

    Raises:
        PreconditionError: the plan's `history_until` is no bound, or lies too near or before the newest key.
    """
    column = table.column(spec.key)
    if column.type_name not in TIMES:
        message = f"key {spec.key} of {spec.name} is of type {column.type_name}, which strategy attach cannot bound"
        raise PreconditionError(message)
    end = choose_end(spec, newest, now)
    leaves = later_bounds(spec, column.type_name, end, now)
    extra = HistoryNames(shape.names)
    return Split(
        until=key_text(end, column.type_name),
        key_type=column.type_name,
        nullable=not column.not_null,
        leaves=tuple(LaterLeaf(leaf.suffix, str(leaf.lower), str(leaf.upper)) for leaf in leaves),
        primary=_primary(table, shape, extra),
        indexes=tuple(_index_names(table, shape, extra)),
        columns=shape.columns,
    )


def choose_end(spec: TableSpec, newest: datetime | None, now: datetime) -> datetime:
    """Return the instant at which history ends: a boundary of periods, safely ahead of now and of the newest key."""
    interval = Interval.parse(spec.interval)
    latest = max(as_utc(newest) if newest else now, now + HEADROOM)
    if spec.history_until is None:
        return interval.add(interval.floor(latest))
    end = datetime.strptime(spec.history_until, "%Y-%m-%d").replace(tzinfo=UTC)
    if interval.floor(end) != end or end <= latest:
        message = (
            f"history_until {spec.history_until} of {spec.name} must begin a period of {spec.interval} and lie after "
            f"{latest:%Y-%m-%d %H:%M} UTC (the newest key, and a day from now); leave it out to have it chosen"
        )
        raise PreconditionError(message)
    return end


def later_bounds(spec: TableSpec, key_type: str, end: datetime, now: datetime) -> tuple[Bound, ...]:
    """Return the partitions after history: one at least, and `premake` periods after that of now."""
    interval = Interval.parse(spec.interval)
    last = max(end, interval.add(interval.floor(now), spec.premake))
    return make_bounds(interval, key_type, end, last, now=end, premake=0)


def fine_bounds(spec: TableSpec, split: Split, oldest: datetime | None) -> tuple[Bound, ...]:
    """Return the partitions that history is split into; rows older than the first have one of their own."""
    last = as_utc(datetime.fromisoformat(split.until)) - timedelta(microseconds=1)
    return make_bounds(Interval.parse(spec.interval), split.key_type, oldest, None, now=last, premake=0)


def is_near(split: Split, now: datetime) -> bool:
    """Return whether now is so near to the end of history that rows could be refused before the cutover."""
    end = datetime.fromisoformat(split.until)
    return as_utc(end) - now < MARGIN


def _primary(table: Table, shape: Shape, extra: HistoryNames) -> HistoryPrimary:
    found = next((index for index in table.indexes if index.is_primary), None)
    if found is None:
        message = f"{'.'.join(table.name)} has no primary key any more, and attach needs one; add it again"
        raise PreconditionError(message)
    return HistoryPrimary(
        # A primary key that holds the partition key already stays as it is.
        swapped=shape.identity != shape.primary,
        source=found.constraint_name or found.name,
        history=fit(extra.history[1], "_pkey"),
        key_index=extra.key_index,
        back_index=extra.back_index,
        rest=index_rest(found, shape.primary),
        columns=list(shape.primary),
        identity=list(shape.identity),
        key_rest=index_rest(found, shape.identity),
        clustered=found.is_clustered,
    )


def _index_names(table: Table, shape: Shape, extra: HistoryNames) -> Iterable[HistoryIndex]:
    for plan in plan_indexes(plain(table, extra), shape):
        yield HistoryIndex(
            source=plan.source_name,
            target=plan.parent_name(shape.names.target),
            history=plan.leaf_name(extra.history),
            is_primary="yes" if plan.is_primary else "",
        )


def plain(table: Table, extra: HistoryNames) -> Table:
    """Return the table without the indexes and the check that the switchover itself has put on it."""
    ours = (extra.key_index, extra.back_index)
    return replace(
        table,
        indexes=tuple(index for index in table.indexes if index.name not in ours),
        constraints=tuple(constraint for constraint in table.constraints if constraint.name != extra.bound),
    )


def _index_statements(plan: IndexPlan, target: Name) -> list[str]:
    """Return what makes an index on the parent; its primary key is there already, with nothing but its columns."""
    name = plan.parent_name(target)
    made = plan.sql(target, name)
    if not plan.is_primary:
        return [made]
    if plan.constraint_sql == f"primary key ({quote_idents(plan.columns)})":
        return []
    return [f"alter table {quote_ident(target)} drop constraint {quote_ident(name)}", made]


def parent_statements(table: Table, shape: Shape) -> list[str]:
    """Return what the parent needs beside its own definition: indexes and foreign keys, as the table has them.

    The parent and its leaves are empty and nobody uses them, so that all of it is instant.
    """
    target = shape.names.target
    plans = plan_indexes(plain(table, HistoryNames(shape.names)), shape)
    texts = [text for plan in plans for text in _index_statements(plan, target)]
    for key in table.foreign_keys:
        name, place = quote_ident(key.name), quote_ident(target)
        texts.append(f"alter table {place} add constraint {name} {key.definition}")
        if key.comment:
            texts.append(f"comment on constraint {name} on {place} is {quote_literal(key.comment)}")
    return texts


@dataclass(frozen=True, slots=True)
class Statements:
    """Renders the statements of one table's split."""

    files: SqlFiles
    shape: Shape
    split: Split

    def render(self, step: str, **more: Any) -> str:
        """Return one step's SQL."""
        return self.files.render(f"switchover/strategies/attach/{step}.sql.j2", **{**self._values(), **more})

    def unique_index(self, table: Name, name: str) -> str:
        """Return the statement that builds the unique index of the new primary key, or the copy of the old one."""
        own = name == self.split.primary.key_index
        primary = self.split.primary
        rest = (primary.key_rest or f"using btree ({quote_idents(primary.identity)})") if own else primary.rest
        return self.files.render("switchover/strategies/attach/attach_index.sql.j2", index=name, table=table, rest=rest)

    def _values(self) -> dict[str, Any]:
        names, split = self.shape.names, self.split
        schema = names.source[0]
        extra = HistoryNames(names)
        triples = [
            {
                "source": (schema, index.source),
                "target": (schema, index.target),
                "history": (schema, index.history),
                "is_primary": index.is_primary,
            }
            for index in split.indexes
        ]
        return {
            "source": names.source,
            "of": names.source,
            "target": names.target,
            "history": extra.history,
            "bound": extra.bound,
            "key": self.shape.key,
            "key_type": split.key_type,
            "until": split.until,
            "nullable": split.nullable,
            "columns": split.columns,
            "primary": split.primary,
            "statistics": split.statistics,
            "parent_indexes": triples,
            # A primary key that changes gets its names from the constraints that are dropped and added.
            "indexes": [index for index in triples if not (index["is_primary"] and split.primary.swapped)],
        }
