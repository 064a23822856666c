"""The writers of a run: the load that goes on through several phases, and the ledger of what it was acknowledged.

Owns what is said of a load, and when its ledger is reconciled. Must not know which phase asks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rehearsal.catalog.tables import Name, split_name
from rehearsal.environment import Environment
from rehearsal.evidence.data import Errors, Grid, Reconciled, Stall
from rehearsal.evidence.run import Run
from rehearsal.load.driver import LoadProcess, ledger_folder
from rehearsal.load.lock_waits import VictimSampler
from rehearsal.load.reconciliation import Reconciliation, reconcile
from rehearsal.load.summary import LoadSummary
from rehearsal.load.tracks import Problem, error_problems, stall_problems, stalls
from rehearsal.plan.model import Plan, TableSpec
from rehearsal.postgres.connection import Connection, connect
from rehearsal.switchover import state
from rehearsal.switchover.names import Names

# Kinds of operations that are named in one line of evidence.
SHOWN = 3
Relations = Sequence[tuple[TableSpec, Sequence[Name]]]


class Writers:
    """The load of a run: started by the first phase that wants it, marked by each, stopped by one that does not."""

    def __init__(self, env: Environment, plan: Plan, run: Run) -> None:
        self._env = env
        self._plan = plan
        self._run = run
        self._load: LoadProcess | None = None
        self._victims: VictimSampler | None = None
        self._rate = 1.0

    @property
    def at_work(self) -> bool:
        """Whether writers are at work just now."""
        return self._load is not None and self._load.is_alive()

    def ensure(self, phase: str, *, rate: float = 1.0) -> None:
        """Let writers be at work in this phase."""
        if not self.at_work:
            self.stop()
            number = len(list(ledger_folder(self._run).glob("*.latency.jsonl")))
            segment = f"{number:02d}-{re.sub(r'[^a-z-]', '-', phase)}"
            self._victims = VictimSampler(self._env.database, self._run).start()
            self._rate = rate
            self._load = LoadProcess(self._env, self._plan, self._run, segment, rate=rate, failover=True).start()
        if self._load and self._victims:
            self._load.mark(phase)
            self._victims.mark(phase)

    def stop(self) -> LoadSummary | None:
        """End the writers, judge what the load felt, and return it; None if there were none."""
        load, victims = self._load, self._victims
        self._load = self._victims = None
        if load is None:
            return None
        summary = load.stop()
        if victims:
            report = victims.stop()
            self._run.tell(report.to_event())
        self._judge(summary)
        return summary

    def abandon(self) -> None:
        """End the writers without a judgement: the run was interrupted."""
        load, victims = self._load, self._victims
        self._load = self._victims = None
        if load:
            load.stop()
        if victims:
            victims.stop()

    def reconcile(self, phase: str, relations: Relations | None = None) -> Reconciliation:
        """Reconcile all acknowledged writes of the run now, under load, and record it.

        Looks into those relations that must have every write just now, if it is not told others.
        """
        with connect(self._env.database, role="reconcile") as conn:
            wanted = reconciled_relations(conn, self._plan) if relations is None else relations
            tables = {spec.name: list(names) for spec, names in wanted}
            reconciled = reconcile(conn, self._plan, ledger_folder(self._run), tables, self._run.name)
        total = sum(sum(counts.values()) for counts in reconciled.acknowledged.values())
        rows = [
            (table, action, count, *_by_relation(reconciled, table))
            for table, counts in reconciled.acknowledged.items()
            for action, count in counts.items()
        ]
        self._run.record(
            "ledger",
            phase,
            reconciled.is_clean if total else None,
            f"{reconciled.lost} of {total:,} acknowledged writes lost, {reconciled.unknown} with unknown end"
            + ("" if reconciled.is_clean else f"; {_worst(reconciled)}"),
            Reconciled(
                lost=reconciled.lost,
                acknowledged=total,
                by_source=reconciled.by_source,
                relations=tuple(relation.relation for relation in reconciled.relations),
                table=Grid.of(("table", "action", "acknowledged", "lost", "unexplained"), rows),
                examples=()
                if reconciled.is_clean
                else tuple(dict(relation.examples) for relation in reconciled.relations),
            ),
        )
        return reconciled

    def _judge(self, summary: LoadSummary) -> None:
        run, plan = self._run, self._plan
        limits, segment = plan.gates, run.phase
        attempted = summary.writes.ok + summary.writes.failed + summary.writes.unknown
        within = attempted > 0 and summary.writes.error_rate <= limits.max_error_rate
        kinds = error_problems(summary, limits, plan.load.operations, self._rate)
        run.record(
            "load",
            segment,
            _verdict(within, kinds) if attempted else None,
            f"{summary.writes.ok:,} of {attempted:,} writes acknowledged, {summary.writes.error_rate:.2%} not "
            f"(limit {limits.max_error_rate:.0%}); p99 {summary.writes.p99_ms:.0f} ms from the scheduled time"
            + _worst_kinds(kinds),
            Errors(summary.writes.errors, str(kinds[0]) if kinds else "", _classes(summary)),
        )
        longest, stall_ms = stalls(summary, plan.load.operations)[0]
        late = stall_problems(summary, limits, plan.load.operations)
        run.record(
            "availability",
            segment,
            _availability(summary, kinds, limits.max_stall_ms, late=bool(late)) if attempted else None,
            f"longest time without success {stall_ms:.0f} ms, of {longest} (limit {limits.max_stall_ms:.0f} ms)"
            + _worst_kinds(kinds),
            Stall(stall_ms, longest, summary.stalls),
        )
        lag = f"requests started {summary.lag_p99_ms:.1f} ms late at p99, generator at {summary.cpu:.0%} of a core"
        run.record("generator", segment, True if summary.honest else None, "; ".join([lag, *summary.reasons]))


def _verdict(within: bool, kinds: Sequence[Problem]) -> bool | None:  # noqa: FBT001
    """Return False if the whole or a kind is over its limit, None if a kind was not seen, else True."""
    if not within or any(kind.passed is False for kind in kinds):
        return False
    return None if kinds else True


def _availability(summary: LoadSummary, kinds: Sequence[Problem], limit_ms: float, *, late: bool) -> bool | None:
    """Return whether nobody was kept waiting; a generator that is later than the limit itself tells nothing of it."""
    if late and summary.lag_p99_ms > limit_ms and not any(problem.passed is False for problem in kinds):
        return None
    return _verdict(not late, kinds)


def _worst_kinds(problems: Sequence[Problem]) -> str:
    """Name the worst, and how many more there are."""
    shown = "".join(f"; {problem}" for problem in problems[:SHOWN])
    return shown + (f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else "")


def _by_relation(reconciled: Reconciliation, table: str) -> tuple[int, int]:
    of_table = [relation for relation in reconciled.relations if relation.table == table]
    lost = sum(relation.lost for relation in of_table)
    return lost, sum(sum(relation.counts.values()) for relation in of_table) - lost


def _worst(reconciled: Reconciliation) -> str:
    found = [
        f"{kind} {count} in {relation.relation}"
        for relation in reconciled.relations
        for kind, count in relation.counts.items()
        if count
    ]
    return ", ".join([*found, *([f"missing {reconciled.missing}"] if reconciled.missing else [])])


def _classes(summary: LoadSummary) -> Grid:
    columns = ("operation", "offered", "acknowledged", "failed", "unknown", "p50 ms", "p99 ms", "max ms")
    rows = [
        (
            name,
            track.offered,
            track.ok,
            track.failed,
            track.unknown,
            round(track.p50_ms, 1),
            round(track.p99_ms, 1),
            round(track.max_ms, 1),
        )
        for name, track in sorted({**summary.operations, **summary.servers, **summary.phases}.items())
    ]
    return Grid.of(columns, rows)


def reconciled_relations(conn: Connection, plan: Plan) -> Relations:
    """Return the relations that must have every acknowledged write just now."""
    relations: list[tuple[TableSpec, Sequence[Name]]] = []
    for spec in plan.tables:
        names = Names(split_name(spec.name))
        mirrored = state.read_migration(conn, names.source).state == state.MIRRORED
        relations.append((spec, [names.source, names.target] if mirrored else [names.source]))
    return relations
