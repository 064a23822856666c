"""What every phase has at hand, and the writers that go on through several phases."""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from psycopg import sql

from rehearsal.approval.approvals import Approval
from rehearsal.catalog.tables import Catalog, Name, Table, split_name
from rehearsal.environment import Environment
from rehearsal.evidence import Run
from rehearsal.load.driver import LoadProcess, ledger_folder
from rehearsal.load.lock_waits import VictimSampler
from rehearsal.load.settlement import Settlement, settle
from rehearsal.load.summary import LoadSummary
from rehearsal.load.tracks import Problem, error_problems, stall_problems, stalls
from rehearsal.plan.model import Plan, TableSpec
from rehearsal.postgres.connection import Connection, connect
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.switchover import state
from rehearsal.switchover.names import Names
from rehearsal.switchover.strategies.attach.layout import HistoryNames
from rehearsal.switchover.table import Switchover

# Kinds of operations that are named in one line of evidence.
SHOWN = 3


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line chose."""

    scale: float = 1.0
    yes: bool = False
    keep: bool = False
    reset: bool = True


@dataclass(slots=True)
class Context:
    """One rehearsal under way."""

    root: Path
    plan: Plan
    env: Environment
    run: Run
    files: SqlFiles
    fingerprint: str
    options: Options = field(default_factory=Options)
    plan_file: Path | None = None
    approval: Approval | None = None
    writers: Writers = field(init=False)

    def __post_init__(self) -> None:
        """Make the writers, which do not write yet."""
        self.writers = Writers(self)

    @property
    def folder_of_changes(self) -> Path:
        """Where rendered SQL and its manifest are written for the hosts to apply."""
        return self.root / "build" / f"{self.env.name}-{self.plan.name}"

    @property
    def anchor(self) -> date:
        """The day that generated data ends at: the day the run began, so that a resumed run makes the same rows."""
        return self.run.began.date()

    @contextmanager
    def session(self, role: str = "engine") -> Generator[Connection]:
        """Open a session on the plan's database as the migrating role."""
        with connect(self.env.database, role=role) as conn:
            yield conn

    def switchover(self, spec: TableSpec) -> Switchover:
        """Return the switchover of one table."""
        return Switchover(self.env.database, self.files, self.plan, spec, self.run)

    def pair(self, conn: Connection, spec: TableSpec) -> tuple[Table, Table]:
        """Return the unpartitioned and the partitioned table, whatever they are called just now.

        With strategy attach the unpartitioned one is the history partition: every row but those of later partitions.
        """
        names = Names(split_name(spec.name))
        found = state.read_migration(conn, names.source)
        catalog = Catalog(conn, self.files)
        if found.state in (state.ATTACHED, state.REGRAINED):
            return catalog.read(HistoryNames(names).history), catalog.read(names.source)
        if found.state == state.SWAPPED:
            return catalog.read(names.retired), catalog.read(names.source)
        return catalog.read(names.source), catalog.read(names.target)

    def source_now(self, conn: Connection, spec: TableSpec) -> Table:
        """Return the unpartitioned table, also before there is a twin."""
        name = split_name(spec.name)
        found = state.find_migration(conn, name)
        if found is None or found.strategy == "attach":
            return Catalog(conn, self.files).read(name)
        return self.pair(conn, spec)[0]

    def row_counts(self, stage: str) -> dict[str, int]:
        """Count the rows of both tables of each pair, log them as `row_counts.log` does, and return them."""
        counts: dict[str, int] = {}
        with self.session("row counts") as conn, conn.transaction():
            conn.execute("set transaction isolation level repeatable read, read only")
            for spec in self.plan.tables:
                for name in self.names_now(conn, spec):
                    counts[".".join(name)] = count_rows(conn, name)
        text = "".join(f"{stage:<24} {table:<50} {rows:>12,}\n" for table, rows in counts.items())
        self.run.append_text("row_counts.log", text)
        self.run.event("rows", stage=stage, counts=counts)
        return counts

    def names_now(self, conn: Connection, spec: TableSpec) -> list[Name]:
        """Return the names of the tables of a pair that exist just now, the live one first."""
        names = Names(split_name(spec.name))
        catalog = Catalog(conn, self.files)
        return [name for name in (names.source, names.target, names.retired) if catalog.find(name)]


def count_rows(conn: Connection, name: Name) -> int:
    """Count the rows of a table."""
    row = conn.execute(sql.SQL("select count(*) from {}").format(sql.Identifier(*name))).fetchone()
    return int(row[0]) if row else 0


class Writers:
    """The load of a run: started by the first phase that wants it, marked by each, stopped by one that does not."""

    def __init__(self, context: Context) -> None:
        self._context = context
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
            number = len(list(ledger_folder(self._context.run).glob("*.latency.jsonl")))
            segment = f"{number:02d}-{re.sub(r'[^a-z-]', '-', phase)}"
            context = self._context
            self._victims = VictimSampler(context.env.database, context.run).start()
            self._rate = rate
            self._load = LoadProcess(context.env, context.plan, context.run, segment, rate=rate, failover=True).start()
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
            self._context.run.event("victims", **report.to_dict())
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

    def settle(self, phase: str, relations: Sequence[tuple[TableSpec, Sequence[Name]]]) -> Settlement:
        """Settle all acknowledged writes of the run in these relations now, under load, and record it."""
        context = self._context
        tables = {spec.name: list(names) for spec, names in relations}
        with context.session("settle") as conn:
            settled = settle(conn, context.plan, ledger_folder(context.run), tables, context.run.name)
        total = sum(sum(counts.values()) for counts in settled.acknowledged.values())
        rows = [
            [table, action, count, *_by_relation(settled, table)]
            for table, counts in settled.acknowledged.items()
            for action, count in counts.items()
        ]
        context.run.record(
            "ledger",
            phase,
            settled.is_clean if total else None,
            f"{settled.lost} of {total:,} acknowledged writes lost, {settled.unknown} with unknown end"
            + ("" if settled.is_clean else f"; {_worst(settled)}"),
            lost=settled.lost,
            acknowledged=total,
            by_source=settled.by_source,
            relations=[one.relation for one in settled.relations],
            table={"columns": ["table", "action", "acknowledged", "lost", "unexplained"], "rows": rows},
            examples=[] if settled.is_clean else [one.examples for one in settled.relations],
        )
        return settled

    def _judge(self, summary: LoadSummary) -> None:
        run, plan = self._context.run, self._context.plan
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
            errors=summary.writes.errors,
            worst=str(kinds[0]) if kinds else "",
            table=_classes(summary),
        )
        longest, stall_ms = stalls(summary, plan.load.operations)[0]
        late = stall_problems(summary, limits, plan.load.operations)
        run.record(
            "availability",
            segment,
            _availability(summary, kinds, limits.max_stall_ms, late=bool(late)) if attempted else None,
            f"longest time without success {stall_ms:.0f} ms, of {longest} (limit {limits.max_stall_ms:.0f} ms)"
            + _worst_kinds(kinds),
            stall_ms=stall_ms,
            worst=longest,
            stalls=summary.stalls,
        )
        lag = f"requests started {summary.lag_p99_ms:.1f} ms late at p99, generator at {summary.cpu:.0%} of a core"
        run.record("generator", segment, True if summary.honest else None, "; ".join([lag, *summary.reasons]))


def _verdict(within: bool, kinds: Sequence[Problem]) -> bool | None:  # noqa: FBT001
    """Return False if the whole or a kind is over its limit, None if a kind was not seen, else True."""
    if not within or any(one.passed is False for one in kinds):
        return False
    return None if kinds else True


def _availability(summary: LoadSummary, kinds: Sequence[Problem], limit_ms: float, *, late: bool) -> bool | None:
    """Return whether nobody was kept waiting; a generator that is later than the limit itself tells nothing of it."""
    if late and summary.lag_p99_ms > limit_ms and not any(problem.passed is False for problem in kinds):
        return None
    return _verdict(not late, kinds)


def _worst_kinds(problems: Sequence[Problem]) -> str:
    """Name the worst, and how many more there are."""
    shown = "".join(f"; {one}" for one in problems[:SHOWN])
    return shown + (f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else "")


def _by_relation(settled: Settlement, table: str) -> tuple[int, int]:
    of_table = [one for one in settled.relations if one.table == table]
    lost = sum(one.lost for one in of_table)
    return lost, sum(sum(one.counts.values()) for one in of_table) - lost


def _worst(settled: Settlement) -> str:
    found = [
        f"{kind} {count} in {one.relation}" for one in settled.relations for kind, count in one.counts.items() if count
    ]
    return ", ".join([*found, *([f"missing {settled.missing}"] if settled.missing else [])])


def _classes(summary: LoadSummary) -> dict[str, list[object]]:
    columns = ["operation", "offered", "acknowledged", "failed", "unknown", "p50 ms", "p99 ms", "max ms"]
    rows: list[object] = [
        [
            name,
            one.offered,
            one.ok,
            one.failed,
            one.unknown,
            round(one.p50_ms, 1),
            round(one.p99_ms, 1),
            round(one.max_ms, 1),
        ]
        for name, one in sorted({**summary.operations, **summary.servers, **summary.phases}.items())
    ]
    return {"columns": list(columns), "rows": rows}
