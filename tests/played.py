"""A played run: events, evidence and latency as a rehearsal leaves them, at times that never change."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rehearsal.evidence.run import Run
from rehearsal.plan.model import Dashboard, DataTable, Plan, PlanData, Query, Smoke, SourceScan, TableSpec

START = datetime(2026, 2, 1, 2, 0, tzinfo=UTC)
FINGERPRINT = "7f83b1657ff1fc53b92dc18148a1d65dfc2d4b1fa3d677284addd200126d9069"
ENVIRONMENT: dict[str, Any] = {
    "name": "staging",
    "kind": "staging",
    "database": {"host": "db1.example", "name": "finance", "user": "migrator", "password": "hunter2"},
    "app_servers": ["app1", "app2"],
    "admin_url": "https://ops:hunter2@grafana.example/d/partitions",
    "server_version": "15.14",
}
PLAN = Plan(
    name="hospitality",
    title="Hospitality finance tables",
    strategy="dual-write",
    tables=[TableSpec(name="public.revenues", key="occurred_at", default_partition=True)],
    data=PlanData(tables=[DataTable(name="public.revenues", rows=1_000_000, columns={}, month_min=80_000)]),
    queries=[Query(name="daily report", sql="select 1", table="public.revenues")],
    smoke=[Smoke(name="create revenue", method="POST", path="/revenues", creates="public.revenues")],
    dashboard=Dashboard(path="/units/1", selector="svg"),
    source_scan=SourceScan(paths=["example_app"]),
)
PHASES = [
    ("preflight", "Preflight", 3.2), ("baseline", "Baseline", 2.1), ("data", "Data", 21.4), ("target", "Target", 1.7),
    ("triggers", "Trigger tests", 6.3), ("parity-before", "Parity before", 2.2), ("dry-run", "Dry run", 1.9),
    ("backup", "Backup and restore drill", 31.0), ("switchover", "Switchover", 38.5),
    ("parity-after", "Parity after", 7.4), ("flags", "Flags on", 9.8), ("smoke", "Smoke", 4.1),
    ("queries", "Queries before and after", 16.0), ("load", "Load", 20.0), ("rollback", "Rollback", 12.6),
    ("forward", "Forward again", 11.2),
]  # fmt: skip
MONTHS = [f"revenues_y{2025 + month // 12}m{month % 12 + 1:02}" for month in range(13)]
PARTITIONS = [[name, 71_000 + index * 1_900, 71_000 + index * 1_900, True] for index, name in enumerate(MONTHS)]
PARITY = {"columns": ["partition", "source rows", "partitioned rows", "equal"], "rows": PARTITIONS}
QUERY_ROWS = [
    ["daily report", 48.2, 3.9, 0.919, 0.902, 0.931, 1, 1, 1, "revenues_y2026m01_occurred_at_idx"],
    ["last 7 days", 45.2, 6.1, 0.865, 0.841, 0.88, 1, 1, 1, "revenues_y2026m01_occurred_at_idx"],
    ["by property, no key", 12.4, 14.9, -0.2, -0.31, -0.12, 13, 13, 13, None],
]
QUERY_COLUMNS = ["query", "before_ms", "after_ms", "speedup", "low", "high", "planned", "executed", "locked", "index"]

DRY_RUN = {
    "columns": ["table", "act", "strongest lock", "seconds, estimated"],
    "rows": [
        ["public.revenues", "copy", "none", "12.10"],
        ["public.revenues", "barrier", "SHARE ROW EXCLUSIVE", "0.10"],
    ],
}
LEDGER = {
    "columns": ["table", "action", "acknowledged", "lost", "unexplained"],
    "rows": [
        ["public.revenues", "insert", 2210, 0, 0], ["public.revenues", "update", 1102, 0, 0],
        ["public.revenues", "delete", 402, 0, 0], ["public.revenues", "move", 406, 0, 0],
    ],
}  # fmt: skip

# gate, subject, observed, phase, data
SEEN: list[tuple[str, str, str, str, dict[str, Any]]] = [
    ("environment-mark", "finance", "mark staging, inventory staging", "preflight", {}),
    ("tools", "pg_dump", "15.14, server 15.14", "preflight", {}),
    ("preflight", "public.revenues", "0 findings against the plan, 2 hints", "preflight", {}),
    ("script-reviewed", "dry_run.log", "reviewed by K. Sato for this fingerprint", "preflight", {}),
    ("monitoring", "partition rules", "6 rules load, dashboard answers 200", "preflight", {}),
    ("baseline", "public.revenues", "1,071,200 rows, 148 MB", "baseline", {
     "rows": 1_071_200, "oldest": "2025-01-01", "newest": "2025-12-31", "null keys": 0, "distinct property_id": 40,
     "bytes": 155_189_248, "index bytes": 61_000_192, "figures": {"rows": 1_071_200}, "upto": 1_071_200}),
    ("data-distribution", "public.revenues", "12 full months, 80,112 to 93,900 rows", "data", {}),
    ("target-structure", "public.revenues_partitioned", "17 partitions, 3 indexes each", "target",
     {"problems": []}),
    ("definition", "public.revenues after the switch", "no difference that nobody wants; 3 wanted", "parity-after", {}),
    ("default-empty", "revenues_default", "0 rows", "parity-after", {}),
    ("triggers-enabled", "sync_to_partitioned_revenues", "ENABLE ALWAYS", "triggers", {}),
    ("trigger-tests", "public.revenues", "12 of 12 passed", "triggers", {}),
    ("parity-before", "public.revenues", "target is empty", "parity-before", {}),
    ("dry-run", "catalog", "equal before and after, 41 statements", "dry-run", {"digest": "5f3a", "table": DRY_RUN}),
    ("backup", "finance.dump", "121 MB, checksum holds", "backup",
     {"folder": "finance", "table": {"columns": ["table", "rows"], "rows": [["public.revenues", 1_071_200]]}}),
    ("restore-drill", "finance.dump", "restored in 17.9 s, content equal", "backup", {"seconds": 17.9}),
    ("switchover", "public.revenues", "copied, drained, synchronous", "switchover", {}),
    ("lock-budget", "barrier", "held 41 ms, granted at attempt 2", "switchover", {"held_ms": 41.3}),
    ("counts", "public.revenues", "1,071,214 = 1,071,214", "switchover", {}),
    ("parity-after", "public.revenues", "0 of 1,071,388 rows differ, 4 of 4 corruptions seen", "parity-after",
     {"rows": 1_071_388, "differing": 0, "table": PARITY}),
    ("duplicates", "public.revenues revenues_pkey", "no value of id repeats", "parity-after", {}),
    ("stats-unchanged", "public.revenues", "rows, oldest, newest, properties equal", "parity-after", {}),
    ("mismatch-found", "public.revenues", "stale row put in, reported as stale", "parity-after", {}),
    ("flags", "app1", "on in 2.1 s, healthy", "flags", {"seconds": 2.1, "wanted": "reads and writes partitioned"}),
    ("flags", "app2", "on in 2.3 s, healthy", "flags", {"seconds": 2.3, "wanted": "reads and writes partitioned"}),
    ("smoke", "create revenue on app1", "201 in 14 ms", "smoke", {}),
    ("smoke", "create revenue on app2", "201 in 12 ms", "smoke", {}),
    ("app-logs", "app1", "no new errors in 1,204 lines", "smoke", {}),
    ("sync", "revenues 1071389", "equal on both sides", "smoke", {}),
    ("dashboard", "/units/1", "drawn in 0.8 s, console clean", "smoke", {}),
    ("source-scan", "example_app", "11 places, all known", "smoke", {}),
    ("query-speed", "all queries", "3 of 3 within their limits", "queries",
     {"table": {"columns": QUERY_COLUMNS, "rows": QUERY_ROWS}}),
    ("query-pruning", "daily report", "1 of 1 expected partitions", "queries", {}),
    ("load", "all", "1,211 acknowledged, 0.2 % failed", "load", {}),
    ("ledger", "public.revenues", "0 of 4,120 acknowledged writes lost", "load",
     {"lost": 0, "acknowledged": 4120, "by_source": {"sql": 3020, "app1": 1100}, "relations": ["public.revenues"],
      "table": LEDGER, "examples": []}),
    ("ledger", "public.revenues", "0 of 5,900 acknowledged writes lost", "rollback", {"lost": 0, "acknowledged": 5900}),
    ("availability", "update via app2", "longest time without success 612 ms", "load", {"stall_ms": 612.4}),
    ("generator", "lag", "p99 0.8 ms late, 100 % of the offered", "load", {}),
    ("rollback", "public.revenues", "old table equal, app healthy", "rollback", {}),
    ("lifecycle", "public.revenues premake", "1 made under writers", "load", {}),
    ("rollback-time", "detection to healthy", "12.6 s", "rollback", {"seconds": 12.6}),
    ("forward-again", "public.revenues", "0 rows differ", "forward", {}),
    ("soak", "length", "15 s of 15 s asked", "forward", {}),
    ("fingerprint", "plan and SQL", "unchanged", "forward", {}),
]  # fmt: skip


class Player:
    """Writes the streams of a run with times of its own."""

    def __init__(self, folder: Path, start: datetime = START) -> None:
        folder.mkdir(parents=True)
        self.run = Run(folder)
        self.start = start
        self.second = 0.0

    def at(self) -> str:
        """Return the played time."""
        return (self.start + timedelta(seconds=self.second)).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def write(self, name: str, **line: Any) -> None:
        """Append one line to a stream."""
        path = self.run.folder / name
        path.parent.mkdir(exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def event(self, kind: str, **fields: Any) -> None:
        """Append an event."""
        self.write("events.jsonl", kind=kind, at=self.at(), phase=self.run.phase, fields=fields)

    def evidence(self, gate: str, subject: str, passed: bool | None, observed: str, **data: Any) -> None:
        """Append evidence and its event."""
        self.write(
            "evidence.jsonl", gate=gate, subject=subject, passed=passed, observed=observed, phase=self.run.phase,
            at=self.at(), data=data,
        )  # fmt: skip
        self.event("evidence", gate=gate, subject=subject, passed=passed, observed=observed)

    @contextmanager
    def phase(self, name: str, title: str, seconds: float) -> Iterator[None]:
        """Play one phase."""
        self.run.phase, end = name, self.second + seconds
        self.event("phase-started", title=title, name=name)
        yield
        self.second = end
        self.event("phase-finished", title=title, name=name, seconds=seconds, ok=True)
        self.run.phase = ""

    def copy(self) -> None:
        """Play the copy's progress, row counts, steps and locks."""
        for share in range(21):
            self.event("progress", what="copy public.revenues", done=share * 53_560, total=1_071_200, unit="rows")
            self.second += 0.6
        self.event(
            "rows", stage="after copy", counts={"public.revenues": 1_071_200, "public.revenues_partitioned": 1_071_200}
        )
        for name, took in (("copy", 12_100), ("indexes", 6_300), ("drain", 900), ("barrier", 41)):
            self.event("step", table="public.revenues", name=name, ms=took)
        blockers = ["pid 4711 pg_dump"]
        cost = {"attempts": 2, "waited_ms": 188.0, "held_ms": 41.3, "blockers": blockers}
        self.event("lock", table="public.revenues", what="barrier", **cost)

    def latency(self, start: float, end: float) -> None:
        """Play one latency line a second."""
        for second in range(int(start), int(end)):
            bump = 340 if abs(second - start - 27) < 1 else 60 if second % 31 == 0 else 0
            wave = 2 + math.sin(second / 5)
            at = (self.start + timedelta(seconds=second)).isoformat()
            self.write(
                "load/latency.jsonl", at=at, op="update", p50_ms=round(wave, 2), p99_ms=round(wave * 6 + bump, 2)
            )


def play(
    folder: Path,
    *,
    mutate: dict[str, bool | None] | None = None,
    without: str = "",
    start: datetime = START,
    facts: Sequence[tuple[str, dict[str, Any]]] = (),
    rows: Mapping[str, int] | None = None,
) -> Run:
    """Play a whole run; `mutate` gives gates another result, `without` leaves one gate's evidence out.

    `facts` are events of its beginning, `rows` the rows of each table at the baseline.
    """
    player = Player(folder, start)
    changed = mutate or {}
    for kind, fields in facts:
        player.event(kind, **fields)
    for name, title, seconds in PHASES:
        with player.phase(name, title, seconds):
            if name == "switchover":
                player.copy()
            for table, count in (rows or {}).items() if name == "baseline" else ():
                player.evidence("baseline", table, passed=True, observed=f"{count:,} rows", rows=count)
            for gate, subject, observed, phase, data in SEEN:
                if phase == name and gate != without:
                    player.evidence(gate, subject, changed.get(gate, True), observed, **data)
    player.latency(82, 190)
    player.run.attach("dry_run.log", "begin;\n")
    player.run.attach("row_counts.log", "after copy 1071200\n")
    return player.run
