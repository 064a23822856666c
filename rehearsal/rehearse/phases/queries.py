"""The phase `queries`: the plan's queries on both sides, without other load."""

from __future__ import annotations

from rehearsal.checks.queries.compare import QueryResult, compare_queries, performance_results_text, speed_text
from rehearsal.evidence.data import Grid, Listed
from rehearsal.rehearse.context import Context
from rehearsal.rehearse.phase import Phase

COLUMNS = (
    "query",
    "before ms",
    "after ms",
    "speed-up",
    "low",
    "high",
    "planned",
    "executed",
    "expected",
    "locked",
)


def compare_speed(context: Context) -> None:
    """Compare the plan's queries on both sides, without other load."""
    context.writers.stop()
    if not context.plan.queries:
        return
    with context.session("queries") as conn:
        tables = {spec.name: context.pair(conn, spec) for spec in context.plan.tables}
    specs = context.plan.tables
    results = compare_queries(context.env.database, context.files, context.plan.queries, tables, specs=specs)
    context.run.attach("performance_results.txt", performance_results_text(results))
    for result in results:
        record_query(context, result)


def record_query(context: Context, one: QueryResult) -> None:
    """Record speed and pruning of one query."""
    slack_ms = {query.name: query.slack_ms for query in context.plan.queries}[one.name]
    observed = f"{one.before_ms:.2f} -> {one.after_ms:.2f} ms, {speed_text(one.speedup, one.slower_ms, slack_ms)}"
    # None means that the plan does not ask for it: then there is nothing to judge, only something to show.
    speed = one.speed_ok if one.speed_asked else True
    if speed is None:
        observed = f"{observed}; {one.runs} runs do not tell whether the limit holds"
    speed = False if one.index_ok is False else speed
    if not speed and context.scale < 1:
        speed, observed = None, f"{observed}; with fewer rows than planned this is not judged"
    context.run.record("query-speed", one.name, speed, observed, Listed(as_grid(one)))
    pruning = (
        f"{len(one.after.executed)} of {one.leaves} partitions executed, {len(one.expected)} expected, "
        f"{one.locked} relations locked"
    )
    if one.pruning_ok is not None:
        context.run.record("query-pruning", one.name, one.pruning_ok, pruning)


def as_grid(result: QueryResult) -> Grid:
    """Return one query as a table of one row."""
    low, high = result.speedup.low, result.speedup.high
    row = (
        result.name,
        round(result.before_ms, 2),
        round(result.after_ms, 2),
        f"{result.speedup.value:.0%}",
        f"{low:.0%}",
        f"{high:.0%}",
        len(result.after.planned),
        len(result.after.executed),
        len(result.expected),
        result.locked,
    )
    return Grid.of(COLUMNS, [row])


PHASE = Phase("queries", "Query comparison", "query-speed", compare_speed)
