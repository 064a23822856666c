"""The first plan of a table, written from what the table is like: TOML with the reasons as comments.

Owns `plans/NAME.toml` at its birth; it is never written again by us.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import tomlkit
from tomlkit.container import Container
from tomlkit.items import AoT, Table

from rehearsal.advisor.advise import Advice, advise, shown
from rehearsal.advisor.facts import read_table_facts
from rehearsal.catalog.findings import Finding
from rehearsal.catalog.tables import split_name
from rehearsal.checks.preflight import run_preflight
from rehearsal.errors import UsageError
from rehearsal.plan.file import load_plan
from rehearsal.plan.model import Plan, TableSpec
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles, quote_ident
from rehearsal.switchover.strategies.registry import STRATEGIES

MARKERS = ("text", "varchar")
CONTROLS = re.compile(r"[\x00-\x1f\x7f]+")


def plan_name(table: str) -> str:
    """Return a name for the plan of a table.

    >>> plan_name("public.Order Lines"), plan_name("x.2026")
    ('order_lines', 't_2026')
    """
    plain = re.sub(r"[^a-z0-9]+", "_", split_name(table)[1].lower()).strip("_")
    return plain if re.match(r"[a-z]", plain) else f"t_{plain}".rstrip("_")


def write_plan(
    conn: Connection, files: SqlFiles, table: str, folder: Path, *, name: str = "", free_bytes: int | None = None
) -> tuple[Path, Advice]:
    """Look at a live table and write its first plan; return where it is, and the advice.

    Reads the table only; locks: ACCESS SHARE.

    Raises:
        UsageError: there is a plan of that name; it is never overwritten.
        PreconditionError: there is no such table, or nothing to partition it by.
    """
    path = folder / f"{name or plan_name(table)}.toml"
    if path.exists():
        message = f"{path} already exists and is not overwritten; remove it, or give another --name"
        raise UsageError(message)
    advice = advise(read_table_facts(conn, files, split_name(table), free_bytes=free_bytes), datetime.now(UTC))
    text = render_plan(advice, path.stem, [])
    plan = Plan.model_validate(tomllib.loads(text))
    text = render_plan(advice, path.stem, run_preflight(conn, files, plan, free_bytes=free_bytes))
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as exc:
        message = f"cannot write {path}: {exc.strerror}"
        raise UsageError(message) from exc
    load_plan(path)
    return path, advice


def render_plan(advice: Advice, name: str, findings: Sequence[Finding]) -> str:
    """Return the text of the plan."""
    plan = tomlkit.document()
    _say(plan, *_head(advice, findings))
    plan.add(tomlkit.nl())
    _name(plan, advice, name)
    plan.add("tables", AoT([_table(advice)]))
    plan.add("queries", AoT([_query(advice.best.spec)]))
    return tomlkit.dumps(plan)


def _say(place: Container | Table, *lines: str) -> None:
    """Add comments; a name may hold any sign, and none may end the comment."""
    for line in lines:
        place.add(tomlkit.comment(CONTROLS.sub(" ", line)) if line else tomlkit.comment(""))


def _head(advice: Advice, findings: Sequence[Finding]) -> Iterator[str]:
    yield f"First plan of {advice.best.spec.name}, written from the live table. Every word may be changed."
    yield ""
    yield from _about(advice)
    if blockers := [finding for finding in findings if finding.severity == "blocker"]:
        yield ""
        yield "What would stop it just now, as preflight says; decide on each before a rehearsal:"
        yield from (f"  {finding.subject}: {finding.condition}; {finding.remedy}" for finding in blockers)


def _name(plan: Container, advice: Advice, name: str) -> None:
    spec = advice.best.spec
    plan.add("name", tomlkit.string(name))
    plan.add("title", tomlkit.string(f"{spec.name} by {spec.key}"))
    _say(plan, *advice.why)
    plan.add("strategy", tomlkit.string(advice.strategy))


def _about(advice: Advice) -> Iterator[str]:
    facts = advice.facts
    yield f"About {facts.rows:,} rows, {shown(facts.bytes)} and {shown(facts.index_bytes)} of indexes"
    writes = ", ".join(f"{count:,} {kind}" for kind, count in facts.writes.items())
    yield f"Writes since the statistics were reset: {writes}"
    yield f"Locks that the application could feel: {STRATEGIES[advice.strategy].locks}"
    free = "not to be seen from here" if facts.free_bytes is None else shown(facts.free_bytes)
    yield f"Room for a copy, its indexes and as much WAL again: about {shown(advice.room)}; free: {free}"
    if advice.seconds is None or facts.sample is None:
        yield "Time: withheld, since no sample could be copied"
        return
    sample = facts.sample
    total = ", ".join(f"{what} {_duration(seconds)}" for what, seconds in advice.seconds.items())
    share = f"{sample.percent:.3g} % of the blocks"
    yield f"Time, by a copy of {sample.rows:,} rows ({share}) in {sample.seconds:.2f} s and the ratios of"
    yield f"docs/benchmarks.md, without other load: {total}"


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.1f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7_200
        else f"{seconds / 3600:.1f} h"
    )


def _table(advice: Advice) -> Table:
    spec = advice.best.spec
    table = tomlkit.table()
    table.add("name", tomlkit.string(spec.name))
    _say(table, f"{spec.key} {'; '.join(advice.best.reasons)}")
    table.add("key", tomlkit.string(spec.key))
    _method(table, spec)
    if spec.method == "range":
        table.add("interval", tomlkit.string(spec.interval))
        table.add("premake", tomlkit.item(3).comment("partitions kept ready"))
    if spec.method != "hash":
        what = "for all other values" if spec.method == "list" else "must stay empty: a gate looks"
        table.add("default_partition", tomlkit.item(value=True).comment(what))
    _marker(table, advice)
    _say(table, *_decisions(advice), *_other_keys(advice))
    return table


def _method(table: Table, spec: TableSpec) -> None:
    if spec.method != "range":
        table.add("method", tomlkit.string(spec.method))
    if spec.modulus:
        table.add("modulus", tomlkit.item(spec.modulus))
    if spec.values:
        listed = tomlkit.inline_table()
        for name, values in spec.values.items():
            listed.add(name, tomlkit.item(values))
        table.add("values", listed)
    if spec.epoch:
        table.add("epoch", tomlkit.string(spec.epoch))


def _marker(into: Table, advice: Advice) -> None:
    table, spec = advice.facts.table, advice.best.spec
    used = {spec.key, *(name for index in table.indexes for name in index.key_columns)}
    free = [
        column.name
        for column in table.columns
        if column.type_name in MARKERS and not column.generated and column.name not in used
    ]
    if free:
        what = "the load writes its marks into it: choose a column that may hold any text"
        into.add("marker", tomlkit.string(free[0]).comment(what))
    else:
        _say(into, "marker: no column may hold any text, so writes of a load cannot be told apart in this table")


def _decisions(advice: Advice) -> Iterator[str]:
    """Yield the words that the plan needs to say, as comments: whoever takes away the sign has decided."""
    for index in advice.facts.table.indexes:
        if index.is_unique and not index.is_primary and advice.best.spec.key not in index.key_columns:
            yield f"Unique without the key; say what becomes of it: {index.name}"
            yield f'uniques = {{ {_key(index.name)} = "add-key" }}  # or "per-partition"'
    for foreign_key in advice.facts.table.referencing:
        yield f"A foreign key points at the table; say what becomes of it: {foreign_key.name}"
        yield f'references = {{ {_key(foreign_key.name)} = "composite" }}  # or "loose"'


def _key(name: str) -> str:
    return tomlkit.string(name).as_string()


def _other_keys(advice: Advice) -> Iterator[str]:
    for choice in advice.choices[1:4]:
        width = choice.spec.interval if choice.spec.method == "range" else choice.spec.method
        yield f"Another key would be {choice.spec.key} ({width}): {'; '.join(choice.reasons)}"


def _query(spec: TableSpec) -> Table:
    key = quote_ident(spec.key).replace("%", "%%")
    asked = f"{key} >= %(lower)s and {key} < %(upper)s" if spec.method == "range" else f"{key} = %(key)s"
    query = tomlkit.table()
    _say(query, "Your most frequent and your slowest queries belong here; this one only shows the form.")
    query.add("name", tomlkit.string("newest rows"))
    query.add("table", tomlkit.string(spec.name))
    query.add("sql", tomlkit.string("select count(*) from {table} where " + asked))  # noqa: S608 -- quoted
    if spec.method == "range":
        query.add("window", tomlkit.string(spec.interval if spec.interval.isdigit() else "7 days"))
    query.add(tomlkit.nl())
    _say(
        query,
        "Writers while all this goes on, without which there is no verdict: docs/howto/plan-for-your-own-table.md",
        "[[load.operations]]",
    )
    return query
