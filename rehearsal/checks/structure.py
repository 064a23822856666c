"""Whether a partitioned target has everything that its source has: leaves, indexes, keys, checks, rights.

Owns the comparison of two tables as the catalog describes them. Pure: reads no rows, so whether DEFAULT is empty is
said by parity (`ParityReport.in_default`).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rehearsal.catalog.ddl import bare_check, index_shape
from rehearsal.catalog.definition import Same, as_text
from rehearsal.catalog.tables import Column, Constraint, Index, Table, dotted
from rehearsal.postgres.sqlfiles import quote_ident

Bounds = Sequence[tuple[str | None, ...]]


@dataclass(frozen=True, slots=True)
class StructureCheck:
    """One check of the structure; `problems` is empty when it passed, `observed` says what was looked at."""

    check: str
    observed: str
    problems: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class Compared:
    """A source, its partitioned target with all its leaves, and the bounds that the leaves should have."""

    source: Table
    target: Table
    leaves: Sequence[Table]
    key: str
    bounds: Bounds
    method: str = "range"
    per_partition: frozenset[str] = frozenset()
    spare: Bounds = ()
    same: Same = as_text


def check_structure(
    source: Table,
    target: Table,
    leaves: Sequence[Table],
    key: str,
    bounds: Bounds,
    *,
    method: str = "range",
    per_partition: frozenset[str] = frozenset(),
    spare: Bounds = (),
    same: Same = as_text,
) -> list[StructureCheck]:
    """Compare a source with its partitioned target; `leaves` are the target's partitions, read one by one.

    `bounds` are the expected [lower, upper), as text in UTC, in order, or the sorted values of a list, or modulus and
    remainder of a hash; the sets are compared, not the counts; a leaf of `spare` may be there or not.
    `per_partition` names the source's unique indexes that stand on the leaves alone, without the key. `same` says
    whether two texts of an expression mean the same.
    """
    compared = Compared(source, target, leaves, key, bounds, method, per_partition, spare, same)
    observed = {
        "partitions": f"{len(target.partitions)} partitions, {len(bounds)} expected",
        "columns": f"{len(source.columns)} columns",
        "indexes": f"{len(source.indexes)} indexes on the target and on each of {len(leaves)} partitions",
        "foreign keys": f"{len(source.foreign_keys)} foreign keys",
        "checks": f"{len(_checks(source))} checks",
        "rights": f"owner {source.owner}, {len(source.acl or ())} grants",
    }
    return [StructureCheck(name, observed[name], tuple(check(compared))) for name, check in CHECKS.items()]


def _partitions(compared: Compared) -> Iterator[str]:
    wanted = f"{compared.method.upper()} ({_quoted_key(compared)})"
    if compared.target.partition_key != wanted:
        yield f"partitioned by {compared.target.partition_key} instead of {wanted}"
    bounded = [partition for partition in compared.target.partitions if not partition.is_default]
    found = {partition.limits for partition in bounded}
    show = SHOWN[compared.method]
    yield from (f"no partition {show(bound)}" for bound in compared.bounds if bound not in found)
    known = {*compared.bounds, *compared.spare}
    yield from (
        f"{partition.name[1]} {show(partition.limits)} is not expected"
        for partition in bounded
        if partition.limits not in known
    )
    yield from (
        f"{partition.name[1]} is being detached" for partition in compared.target.partitions if partition.detach_pending
    )
    if compared.method == "range":
        yield from _gaps(compared.bounds)
    missing = {partition.name for partition in compared.target.partitions}.symmetric_difference(
        leaf.name for leaf in compared.leaves
    )
    yield from (f"{dotted(name)} was not looked at" for name in sorted(missing))


def _gaps(bounds: Bounds) -> Iterator[str]:
    for before, after in itertools.pairwise(bounds):
        if before[1] != after[0]:
            yield f"expected bounds have a gap or overlap between {before[1]} and {after[0]}"


SHOWN: dict[str, Callable[[tuple[str | None, ...]], str]] = {
    "range": lambda bound: f"from {bound[0] or 'MINVALUE'} to {bound[1] or 'MAXVALUE'}",
    "list": lambda bound: f"in ({', '.join(value or 'NULL' for value in bound)})",
    "hash": lambda bound: f"with modulus {bound[0]}, remainder {bound[-1]}",
}


def _columns(compared: Compared) -> Iterator[str]:
    for table in (compared.target, *compared.leaves):
        columns = {column.name: column for column in table.columns}
        for column in compared.source.columns:
            found = columns.get(column.name)
            said = [*_unlike(column, found, compared.key)]
            # Defaults of a leaf do not count: rows come in through the parent.
            said += _other_default(compared, column, found) if found and table is compared.target else ()
            yield from (f"{dotted(table.name)}: column {column.name} {difference}" for difference in said)
        extra = set(columns) - {column.name for column in compared.source.columns}
        yield from (f"{dotted(table.name)}: column {name} is not in the source" for name in sorted(extra))


def _unlike(ours: Column, theirs: Column | None, key: str) -> Iterator[str]:
    if theirs is None:
        yield "is missing"
        return
    if (ours.type, ours.generated) != (theirs.type, theirs.generated):
        yield f"is {theirs.type} instead of {ours.type}"
    # The partition key becomes part of the primary key, so it may be NOT NULL in the target only.
    if ours.not_null != theirs.not_null and not (ours.name == key and theirs.not_null):
        yield f"is {'NOT NULL' if theirs.not_null else 'nullable'} in the target only"


def _other_default(compared: Compared, ours: Column, theirs: Column) -> Iterator[str]:
    # An identity becomes a default that draws from the same sequence, or comes with the name (gate `definition`).
    facet, kind = ("generated", f"{KINDS[ours.generated]} ") if ours.generated else ("default", "")
    texts = [default and kind + default for default in (ours.default_sql, theirs.default_sql)]
    if not ours.identity and not compared.same(f"column {quote_ident(ours.name)}", facet, *texts):
        yield f"has default {theirs.default_sql} instead of {ours.default_sql}"


KINDS = {"s": "stored", "v": "virtual"}


def _indexes(compared: Compared) -> Iterator[str]:
    for table in (compared.target, *compared.leaves):
        there = {index_shape(index) for index in table.indexes if index.is_valid}
        for index in compared.source.indexes:
            alone = index.name in compared.per_partition
            if alone and table is compared.target:
                continue
            wanted = index_shape(index) if alone else _wanted_shape(index, compared)
            if wanted not in there and not _means_one(compared, there, wanted):
                yield f"{dotted(table.name)}: nothing valid like {index.name} ({wanted})"


def _means_one(compared: Compared, there: Iterable[str], wanted: str) -> bool:
    """Whether an index that is there is, to the server, the one that is wanted."""
    return any(compared.same('index "like it"', "definition", _full(shape), _full(wanted)) for shape in there)


def _full(shape: str) -> str:
    unique = "unique " if shape.startswith("unique ") else ""
    return f"{unique}USING {shape.removeprefix('unique ')}"


def _wanted_shape(index: Index, compared: Compared) -> str:
    needs_key = index.is_unique and compared.key not in index.key_columns
    return index_shape(index, with_key=_quoted_key(compared) if needs_key else None)


def _quoted_key(compared: Compared) -> str:
    """Return the key as PostgreSQL writes it; as we would, where the source has lost the column."""
    return next(
        (column.quoted for column in compared.source.columns if column.name == compared.key), quote_ident(compared.key)
    )


def _foreign_keys(compared: Compared) -> Iterator[str]:
    yield from _constraints(compared, lambda table: table.foreign_keys)


def _check_constraints(compared: Compared) -> Iterator[str]:
    yield from _constraints(compared, _checks)


def _checks(table: Table) -> tuple[Constraint, ...]:
    checks = (constraint for constraint in table.constraints if constraint.kind == "c")
    return tuple(dataclasses.replace(check, definition=bare_check(check.definition)) for check in checks)


def _constraints(compared: Compared, of: Callable[[Table], tuple[Constraint, ...]]) -> Iterator[str]:
    for table in (compared.target, *compared.leaves):
        there = {constraint.definition.removesuffix(" NOT VALID"): constraint for constraint in of(table)}
        for constraint in of(compared.source):
            found = there.get(constraint.definition.removesuffix(" NOT VALID")) or _alike(compared, constraint, there)
            if found is None:
                yield f"{dotted(table.name)}: nothing like {constraint.name} ({constraint.definition})"
            elif constraint.is_validated and not found.is_validated:
                yield f"{dotted(table.name)}: {found.name} is not validated"


def _alike(compared: Compared, wanted: Constraint, there: Mapping[str, Constraint]) -> Constraint | None:
    text = wanted.definition.removesuffix(" NOT VALID")
    subject = 'check "like it"' if wanted.kind == "c" else "foreign key"
    found = (constraint for said, constraint in there.items() if compared.same(subject, "definition", text, said))
    return next(found, None)


def _rights(compared: Compared) -> Iterator[str]:
    source, target = compared.source, compared.target
    if source.owner != target.owner:
        yield f"owner is {target.owner} instead of {source.owner}"
    own = {f"{source.owner}={rights}" for rights in ("arwdDxt", "arwdDxtm")}
    ours, theirs = ({grant.partition("/")[0] for grant in table.acl or ()} - own for table in (source, target))
    if ours != theirs:
        yield f"grants are {', '.join(sorted(theirs)) or 'none'} instead of {', '.join(sorted(ours)) or 'none'}"
    if source.row_security != target.row_security:
        yield f"row security is {'on' if target.row_security else 'off'} on the target only"
    if source.comment != target.comment:
        yield f"comment is {target.comment!r} instead of {source.comment!r}"


CHECKS: dict[str, Callable[[Compared], Iterator[str]]] = {
    "partitions": _partitions,
    "columns": _columns,
    "indexes": _indexes,
    "foreign keys": _foreign_keys,
    "checks": _check_constraints,
    "rights": _rights,
}
