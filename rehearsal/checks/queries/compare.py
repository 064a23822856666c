"""The plan's queries on the source and on the partitioned table: time, buffers, indexes, and pruning by numbers.

Owns the judgement of speed (on the bounds of an interval, never on one number) and of pruning (leaves executed
against leaves expected, which are computed from the bounds in the catalog). Reads only.
"""

from __future__ import annotations

import random
import re
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from rehearsal.catalog.keytypes import Epoch
from rehearsal.catalog.tables import Table, split_name
from rehearsal.checks.queries.plans import QueryPlan, read_query_plan
from rehearsal.checks.queries.ranges import Range, expected_leaves, key_of, read_range
from rehearsal.environment import Database
from rehearsal.errors import PlanError
from rehearsal.plan.model import Query, TableSpec
from rehearsal.postgres.connection import Connection, connect, scalar
from rehearsal.postgres.sqlfiles import SqlFiles, as_query, quote_ident

WARM_UP = 3
RESAMPLES = 2_000
MORE_RUNS = 4
Tables = Mapping[str, tuple[Table, Table]]


@dataclass(frozen=True, slots=True)
class Confidence:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class QueryResult:
    """One query on both sides. A judgement is None when the plan does not ask for it.

    `speedup` is 1 - after / before: 0.5 means half the time, a negative one that the query became slower.
    """

    name: str
    table: str
    lower: str | None
    upper: str | None
    runs: int
    before_ms: float
    after_ms: float
    speedup: Confidence
    slower_ms: Confidence
    before: QueryPlan
    after: QueryPlan
    leaves: int
    expected: frozenset[str]
    locked: int
    pruning_ok: bool | None
    index_ok: bool | None
    speed_ok: bool | None
    speed_asked: bool
    key: str | None = None


def compare_queries(
    database: Database,
    files: SqlFiles,
    queries: Sequence[Query],
    tables: Tables,
    *,
    specs: Sequence[TableSpec] = (),
    runs: int = 15,
    seed: int = 1,
) -> list[QueryResult]:
    """Run each query on both tables, alternating in random order, warm, in read-only transactions.

    `tables` maps the planned name to the source and the partitioned table. In a query's text `{revenues}` stands for
    the planned table of that name, %(lower)s and %(upper)s for the range of keys [lower, upper) that the plan asks for,
    %(key)s for the newest key. `specs` say what integers count that are keys.

    Raises:
        PlanError: a query names a table that is not planned, or cannot be run as it is written.
        CannotSee: the source is empty, so there is no range to ask for.
    """
    with connect(database, role="query comparison") as conn:
        schemas = dict.fromkeys([split_name(name)[0] for name in tables] + ["public"])
        conn.execute(sql.SQL("set search_path = {}").format(sql.SQL(", ").join(map(sql.Identifier, schemas))))
        conn.execute("set default_transaction_read_only = on")
        conn.execute("set row_security = on")  # what a policy costs, it costs the application too
        dice = random.Random(seed)  # noqa: S311 -- an order that can be repeated, not a secret
        epochs: dict[str, Epoch | None] = {spec.name: spec.epoch for spec in specs}
        return [
            _compare_one(conn, files, query, tables, epochs.get(query.table), runs=runs, dice=dice) for query in queries
        ]


def _compare_one(
    conn: Connection,
    files: SqlFiles,
    query: Query,
    tables: Tables,
    epoch: Epoch | None,
    *,
    runs: int,
    dice: random.Random,
) -> QueryResult:
    if query.table not in tables:
        message = f"query {query.name}: table {query.table} is not planned; planned are: {', '.join(tables)}"
        raise PlanError(message)
    source, target = tables[query.table]
    key = key_of(target)
    asked = read_range(conn, files, query, source, key, epoch)
    texts = [_text(query, {name: pair[side] for name, pair in tables.items()}) for side in (0, 1)]
    try:
        plans = [_explain(conn, files, text, asked, side) for text, side in zip(texts, (source, target), strict=True)]
        before, after = _time_until_clear(conn, query, texts, asked, runs, dice)
    except (psycopg.ProgrammingError, psycopg.DataError) as exc:
        message = f"query {query.name} cannot be run as it is written: {' '.join(str(exc).split())}"
        raise PlanError(message) from exc
    except psycopg.errors.ReadOnlySqlTransaction as exc:
        message = f"query {query.name} writes; only queries that read are compared: {exc.diag.message_primary}"
        raise PlanError(message) from exc
    (plan_before, _), (plan_after, locked) = plans
    speedup, slower = intervals(before, after, dice)
    expected = expected_leaves(conn, files, source, target, key, asked)
    return QueryResult(
        name=query.name,
        table=query.table,
        lower=asked.lower_text,
        upper=asked.upper_text,
        runs=len(before),
        before_ms=statistics.median(before),
        after_ms=statistics.median(after),
        speedup=speedup,
        slower_ms=slower,
        before=plan_before,
        after=plan_after,
        leaves=len(target.partitions),
        expected=expected,
        locked=locked,
        pruning_ok=is_pruned(plan_after, expected) if query.pruned else None,
        index_ok=bool(plan_after.indexes) and not plan_after.scanned_whole if query.index else None,
        speed_ok=is_fast(query, speedup, slower),
        speed_asked=has_limit(query),
        key=asked.key_text,
    )


def is_pruned(plan: QueryPlan, expected: frozenset[str]) -> bool:
    """Whether the expected leaves were executed and no other; a LIMIT may stop before some of them."""
    return plan.executed <= expected <= (plan.executed | plan.skipped)


def has_limit(query: Query) -> bool:
    """Whether the plan asks for a speed at all."""
    return query.min_speedup is not None or query.max_slowdown is not None


def is_fast(query: Query, speedup: Confidence, slower_ms: Confidence) -> bool | None:
    """Judge a speed: True if the worse ends of the intervals hold, False if not even the better ones do.

    None in between: the runs were too few or the machine too noisy to tell. Also None if the plan has no limit.
    """
    if not has_limit(query):
        return None
    if _holds(query, speedup.low, slower_ms.high):
        return True
    return None if _holds(query, speedup.high, slower_ms.low) else False


def _holds(query: Query, speedup: float, slower_ms: float) -> bool:
    enough = query.min_speedup is None or speedup >= query.min_speedup
    return enough and (query.max_slowdown is None or -speedup <= query.max_slowdown or slower_ms <= query.slack_ms)


def speed_text(speedup: Confidence, slower_ms: Confidence, slack_ms: float) -> str:
    """Say how a speed changed; a slow-down in milliseconds, since three times nearly nothing is nearly nothing.

    >>> speed_text(Confidence(0.5, 0.4, 0.6), Confidence(-2, -3, -1), 1)
    'speed-up 50% (95 % interval 40% to 60%)'
    >>> speed_text(Confidence(-1.65, -1.78, -1.47), Confidence(0.49, 0.45, 0.53), 1)
    'slower by 0.49 ms (95 % interval 0.45 to 0.53 ms); the plan lets less than 1 ms pass'
    """
    if speedup.value >= 0:
        return f"speed-up {speedup.value:.0%} (95 % interval {speedup.low:.0%} to {speedup.high:.0%})"
    text = f"slower by {slower_ms.value:.2f} ms (95 % interval {slower_ms.low:.2f} to {slower_ms.high:.2f} ms)"
    return f"{text}; the plan lets less than {slack_ms:g} ms pass" if slower_ms.high <= slack_ms else text


def intervals(before: Sequence[float], after: Sequence[float], dice: random.Random) -> tuple[Confidence, Confidence]:
    """Return speed-up and milliseconds lost, each with its 95 % percentile bootstrap interval.

    Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13; runs that were made one after the
    other are drawn together, so that what slowed both does not widen the interval.
    """
    pairs = list(zip(before, after, strict=True))
    draws = [_figures(dice.choices(pairs, k=len(pairs))) for _ in range(RESAMPLES)]
    return tuple(  # type: ignore[return-value]  # two figures, hence two intervals
        Confidence(value, *_middle(sorted(draw[n] for draw in draws))) for n, value in enumerate(_figures(pairs))
    )


def _figures(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    before, after = (statistics.median(side) for side in zip(*pairs, strict=True))
    return 1 - after / before, after - before


def _middle(values: Sequence[float]) -> tuple[float, float]:
    return values[int(len(values) * 0.025)], values[int(len(values) * 0.975) - 1]


PLACEHOLDER = re.compile(r"(?<!')\{([a-z_][\w.]*)\}")


def _text(query: Query, tables: Mapping[str, Table]) -> str:
    """Put the quoted names of one side's tables in; `{table}` is the query's own."""
    names = {"table": tables[query.table].name} | {
        bare: table.name for planned, table in tables.items() for bare in (planned, split_name(planned)[1])
    }

    def quoted(match: re.Match[str]) -> str:
        if match[1] not in names:
            message = f"query {query.name}: {{{match[1]}}} is not a planned table; planned are: {', '.join(tables)}"
            raise PlanError(message)
        return quote_ident(names[match[1]]).replace("%", "%%")

    return PLACEHOLDER.sub(quoted, query.sql)


def _run(conn: Connection, text: str, asked: Range) -> list[Any]:
    # Literals, as a plan-time pruning wants them: a parameter of the protocol would prune at start-up only.
    cursor = psycopg.ClientCursor(conn)
    return cursor.execute(as_query(text), {"lower": asked.lower, "upper": asked.upper, "key": asked.key}).fetchall()


def _explain(conn: Connection, files: SqlFiles, text: str, asked: Range, table: Table) -> tuple[QueryPlan, int]:
    """Return the query plan and how many relations of the table its transaction had locked."""
    options = "analyze, verbose, buffers, settings, format json"
    for _ in range(WARM_UP):
        _run(conn, text, asked)
    with conn.transaction():
        ((explained,),) = _run(conn, f"explain ({options}) {text}", asked)
        locked = scalar(conn, files.query("checks/queries/relation_locks.sql"), {"oid": table.oid})
    relations = {part.name: part.name[1] for part in table.partitions} or {table.name: table.name[1]}
    return read_query_plan(explained[0], relations), locked


def _time_until_clear(
    conn: Connection, query: Query, texts: Sequence[str], asked: Range, runs: int, dice: random.Random
) -> tuple[list[float], list[float]]:
    """Time both sides, more often as long as the intervals do not tell whether the limits hold."""
    before, after = _time_both(conn, texts, asked, runs, dice)
    while (
        has_limit(query) and len(before) < runs * MORE_RUNS and is_fast(query, *intervals(before, after, dice)) is None
    ):
        more = _time_both(conn, texts, asked, runs, dice)
        before, after = before + more[0], after + more[1]
    return before, after


def _time_both(
    conn: Connection, texts: Sequence[str], asked: Range, runs: int, dice: random.Random
) -> tuple[list[float], list[float]]:
    """Time both sides in turns, in random order, so that neither gets the better part of a noisy machine."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs):
        for side in dice.sample((0, 1), 2):
            started = time.perf_counter()
            _run(conn, texts[side], asked)
            times[side].append((time.perf_counter() - started) * 1e3)
    return times


def performance_results_text(results: Iterable[QueryResult]) -> str:
    """Return `performance_results.txt`."""
    return "\n".join("\n".join(_lines(result)) for result in results) + "\n"


def _lines(result: QueryResult) -> Iterator[str]:
    speedup, after = result.speedup, result.after
    keys = f"key {result.key}" if result.key else f"keys [{result.lower or 'first'}, {result.upper or 'last'})"
    yield f"query {result.name} on {result.table}, {keys}"
    yield (
        f"  time    before {result.before_ms:.2f} ms, after {result.after_ms:.2f} ms (median of {result.runs}); "
        f"speed-up {_percent(speedup.value)}, 95 % interval {_percent(speedup.low)} to {_percent(speedup.high)}: "
        f"{'NOT CLEAR' if result.speed_asked and result.speed_ok is None else _said(result.speed_ok)}"
    )
    yield f"  buffers before {result.before.buffers}, after {after.buffers}; planning after {after.planning_ms:.2f} ms"
    yield f"  indexes before {_names(result.before.indexes)}; after {_names(after.indexes)}: {_said(result.index_ok)}"
    yield (
        f"  pruning {len(result.expected)} of {result.leaves} partitions expected, {len(after.planned)} planned, "
        f"{after.removed} removed at start-up, {len(after.executed)} executed, {result.locked} relations locked: "
        f"{_said(result.pruning_ok)}"
    )
    yield f"          expected {_names(result.expected)}; executed {_names(after.executed)}"


def _percent(share: float) -> str:
    return f"{round(share * 100)} %"


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _said(passed: bool | None) -> str:  # noqa: FBT001 -- a value that is shown, not a switch
    return {True: "PASS", False: "FAIL", None: "not judged"}[passed]
