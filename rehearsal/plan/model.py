"""The plan file: which tables change shape, how, and what must hold. Typed, strict, pure.

Owns the schema of `plans/*.toml`. Must not know databases, hosts or files other than the plan.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from rehearsal.plan.strategies import TRAITS, StrategyName, Traits

Interval = Annotated[str, Field(pattern=r"^\d+ (day|week|month|year)s?$")]
# Of a partition: a time, or a number of values where the key is an integer.
Width = Annotated[str, Field(pattern=r"^[1-9]\d*( (day|week|month|year)s?)?$")]


class PlanSection(BaseModel):
    """A part of a plan; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class TableSpec(PlanSection):
    """One table that becomes partitioned."""

    name: str = Field(description="schema-qualified name of the table", pattern=r"^[^.]+\..+$")
    key: str = Field(description="column that the table is partitioned by")
    method: Literal["range", "list", "hash"] = "range"
    interval: Width = Field(default="1 month", description="range: width of a partition, '1 month' or '1000000'")
    epoch: Literal["s", "ms", "us"] | None = Field(default=None, description="range: an integer key counts these")
    values: dict[str, list[str | int]] = Field(
        default_factory=dict[str, list[str | int]], description="list: end of a partition's name -> its values"
    )
    modulus: int | None = Field(default=None, ge=2, le=1024, description="hash: number of partitions")
    premake: int = Field(default=3, ge=0, le=60, description="partitions kept ready after the current one")
    retention: Interval | None = Field(default=None, description="age at which a partition is detached (lifecycle)")
    hold: Interval = Field(default="7 days", description="how long a detached partition is kept before it is dropped")
    archive: bool = Field(
        default=False,
        description="a detached partition is dropped only after its archive is proven (lifecycle.archive)",
    )
    default_partition: bool = Field(
        default=False, description="a DEFAULT partition; it must stay empty, but for a list"
    )
    history_until: str | None = Field(
        default=None,
        pattern=r"^\d{4}-\d{2}-\d{2}$",
        description="attach: day at which history ends; chosen if it is left out",
    )
    marker: str | None = Field(default=None, description="text column that the load writes its marks into")
    uniques: dict[str, Literal["add-key", "per-partition"]] = Field(
        default_factory=dict[str, Literal["add-key", "per-partition"]],
        description="decision for each unique index without the key: name -> what becomes of it",
    )
    references: dict[str, Literal["composite", "loose"]] = Field(
        default_factory=dict[str, Literal["composite", "loose"]],
        description="decision for each foreign key that points at the table: name -> what becomes of it",
    )
    after_cleanup: Literal["keeps_name", "takes_name"] = Field(
        default="keeps_name",
        description="dual-write: name of the target once the source is dropped; its own, or the source's, while a view "
        "has its own, which bears no COPY, ON CONFLICT ON CONSTRAINT, ctid, nor MERGE before PostgreSQL 17",
    )
    accepted: list[str] = Field(
        default_factory=list[str], description="differences of the definition, before and after, that are wanted"
    )


class Flags(PlanSection):
    """Names of the environment flags that route the application."""

    reads: str
    writes: str


class Copy(PlanSection):
    """How rows are copied."""

    workers: int = Field(default=2, ge=1, le=64)
    chunk_rows: int = Field(default=50_000, ge=100, le=5_000_000, description="most rows of a chunk, estimated")
    chunk_mb: int = Field(default=16, ge=1, le=1_024, description="most megabytes of a chunk, TOAST included")
    chunk_s: float = Field(default=1.0, gt=0, le=60, description="seconds that a chunk should take; its size follows")
    chunk_timeout_s: float = Field(default=30.0, gt=0, description="a chunk that takes longer is tried again at half")
    chunk_attempts: int = Field(default=12, ge=1, le=100, description="failures in a row before the copy gives up")
    drain_batch: int = Field(default=2_000, ge=1, le=1_000_000)
    drain_until: int = Field(default=200, ge=0, description="keys left in the change log before the lock is requested")


class Pace(PlanSection):
    """How far the copy and the index builds step back for the application, and when they stop."""

    mode: Literal["gentle", "full"] = Field(
        default="gentle", description="full: never slowed down; limits that stop the copy and pauses still hold"
    )
    cores: int | None = Field(default=None, ge=1, description="cores of the server, where it does not tell them")
    busy: float = Field(default=1.0, gt=0, description="slower above so many sessions at work a core, ours included")
    probe_factor: float = Field(
        default=2.0, gt=1, description="slower when a lookup takes so many times its quiet time"
    )
    probe_floor_ms: float = Field(default=5.0, ge=0, description="a lookup below this never slows the copy down")
    max_replica_lag_s: float = Field(default=10.0, gt=0, description="slower above this lag of any standby")
    max_wal_mb_s: float | None = Field(default=None, gt=0, description="slower above this rate of WAL, all writers")
    max_archive_queue: int = Field(default=64, ge=1, description="slower above so many WAL files to be archived")
    stop_replica_lag_s: float = Field(default=600.0, gt=0, description="stops above this lag of any standby")
    stop_archive_queue: int = Field(default=2_000, ge=1, description="stops above so many WAL files to be archived")
    stop_slot_gb: float = Field(default=64.0, gt=0, description="stops when a slot holds back more WAL than this")
    stop_free_gb: float = Field(default=2.0, ge=0, description="stops below this room on the disk, where it is seen")
    stop_xmin_age: int = Field(
        default=500_000_000, ge=1, description="stops when the oldest snapshot is so many transactions old"
    )


class Locks(PlanSection):
    """Budget of one lock that blocks the application."""

    timeout_ms: int = Field(default=150, ge=1, le=60_000, description="lock_timeout of the first attempt")
    max_timeout_ms: int = Field(default=1_000, ge=1, le=60_000)
    hold_ms: int = Field(default=2_000, ge=10, description="statement_timeout while the lock is held")
    attempts: int = Field(default=40, ge=1, le=1_000)
    budget_s: float = Field(default=120.0, gt=0)


class Schema(PlanSection):
    """Schema of the application, applied on throwaway environments only."""

    migrations: list[str] = Field(default_factory=list, description="files under sql/migrations, in order")


class PlanColumn(PlanSection):
    """How the values of one generated column are made; a pure function of (seed, row number)."""

    kind: Literal[
        "sequence", "integer", "decimal", "choice", "timestamp", "date", "offset", "reference", "text", "expression"
    ]
    min: float | None = None
    max: float | None = None
    scale: int = 2
    values: list[Any] | None = None
    start: str | None = Field(default=None, description="timestamp or date: interval before the end, as '12 months'")
    column: str | None = Field(default=None, description="offset: the column that this one follows")
    table: str | None = Field(default=None, description="reference: the table whose ids are drawn")
    template: str | None = Field(default=None, description="text: '{n}' is the row number")
    sql: str | None = Field(default=None, description="expression over n (row number) and h(k) (k-th hash, 0..1)")
    null_fraction: float = Field(default=0.0, ge=0, le=1)


class DataTable(PlanSection):
    """One table that is filled with generated rows."""

    name: str
    rows: int = Field(ge=0)
    scaled: bool = Field(default=False, description="whether --rows scales this table")
    columns: dict[str, PlanColumn]
    month_min: int | None = Field(default=None, description="least rows in each full month, at the planned size")
    month_max: int | None = None


class PlanData(PlanSection):
    """Production-like rows, made on the server from a seed."""

    seed: int = 1
    tables: list[DataTable] = Field(default_factory=list[DataTable])


class Query(PlanSection):
    """A query that is compared on the source and on the partitioned table."""

    name: str
    sql: str = Field(description="{table} names stand in braces, parameters as %(lower)s and %(upper)s, or %(key)s")
    table: str = Field(description="the planned table that decides which partitions are expected")
    window: str | None = Field(default=None, description="range that ends at the newest key: '7 days', '100000'")
    month: int | None = Field(default=None, description="a whole month, counted back from the newest one: 8")
    min_speedup: float | None = Field(default=None, description="0.5 means: takes at most half the time")
    max_slowdown: float | None = Field(default=0.5, description="0.5 means: may take half as long again")
    slack_ms: float = Field(default=1.0, ge=0, description="a slowdown below this many ms never counts")
    pruned: bool = Field(default=True, description="whether only the expected partitions may be executed")
    index: bool = Field(default=False, description="whether the partitioned side must use an index")


class Smoke(PlanSection):
    """A request that every app server must answer well."""

    name: str
    method: Literal["GET", "POST", "PATCH", "DELETE"] = "GET"
    path: str
    body: dict[str, Any] | None = Field(default=None, alias="json")
    status: int = 200
    expect: dict[str, Any] = Field(default_factory=dict, description="parts that the JSON answer must have")
    contains: str | None = Field(default=None, description="text that the answer must have")
    creates: str | None = Field(default=None, description="table that gets the row whose id is answered")
    save: dict[str, str] = Field(default_factory=dict, description="values kept for later requests: name -> answer key")
    max_seconds: float = Field(default=2.0, gt=0)


class Operation(PlanSection):
    """One kind of write (or read) of the load, with its rate."""

    name: str
    action: Literal["insert", "update", "delete", "move", "read"]
    via: Literal["sql", "http"]
    table: str
    rate: float = Field(gt=0, description="arrivals a second, Poisson")
    sql: str | None = Field(default=None, description="values as %(id)s, %(key)s, %(marker)s; insert returns id")
    method: Literal["GET", "POST", "PATCH", "DELETE"] | None = None
    path: str | None = Field(default=None, description="{id} and {key} are filled in")
    body: dict[str, Any] | None = Field(default=None, alias="json", description="'{marker}', '{key}' are filled in")


class Load(PlanSection):
    """Open-loop load while the switchover goes on."""

    duration_s: float = Field(default=20.0, gt=0, description="length of the load phase")
    connections: int = Field(default=8, ge=1)
    seed: int = 1
    operations: list[Operation] = Field(default_factory=list[Operation])


class Dashboard(PlanSection):
    """A page that a real browser must render without console errors."""

    path: str
    selector: str = Field(description="CSS selector that must match once the charts are drawn")
    max_seconds: float = 10.0


class Command(PlanSection):
    """A command that must end with 0, such as the application's own integration tests."""

    name: str
    argv: list[str] = Field(
        min_length=1, description="program and arguments; '{url}' is an app server, '{python}' ours"
    )
    max_seconds: float = Field(default=300.0, gt=0)


class SourceScan(PlanSection):
    """Where the application's code is searched for uses of the tables."""

    paths: list[str] = Field(default_factory=list[str])
    patterns: list[str] = Field(default_factory=list[str])


class GateLimits(PlanSection):
    """Thresholds; the defaults are the playbooks' criteria."""

    min_rows: int = Field(default=1, description="rows the planned tables have together, at the planned size")
    rollback_max_s: float = Field(default=3600.0, gt=0)
    max_stall_ms: float = Field(
        default=2_000.0, description="longest time without success: writes, reads, each kind of operation"
    )
    max_error_rate: float = Field(default=0.02, description="failed over all attempted: writes, each kind of operation")
    min_writes: int = Field(default=5, description="acknowledged writes of each action at each reconciliation")
    backup_max_age_h: float = 24.0
    max_lock_hold_ms: float = 2_000.0


class Plan(PlanSection):
    """A whole plan."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    title: str = ""
    strategy: StrategyName
    report_max_age_days: int = Field(default=14, ge=0)
    go_kinds: list[Literal["docker", "staging"]] = Field(
        default=["staging", "docker"],
        min_length=1,
        description="kinds of environments whose GO opens production; one on local never does",
    )
    go_min_rows_share: float = Field(
        default=0.1, gt=0, le=1, description="rows that a rehearsal must have had, as a share of production's, by table"
    )
    stable_days: int = Field(default=7, ge=0)
    unused_s: float = Field(
        default=30.0, ge=1, description="dual-write: seconds for which nobody may use the source before it is dropped"
    )
    soak_s: float = Field(
        default=7_200.0, ge=120, description="seconds of load after the last switch; on local 15, on docker 120"
    )
    tables: list[TableSpec] = Field(min_length=1)
    flags: Flags | None = None
    copying: Copy = Field(default_factory=Copy, alias="copy")
    pace: Pace = Field(default_factory=Pace)
    locks: Locks = Field(default_factory=Locks)
    app_schema: Schema = Field(default_factory=Schema, alias="schema")
    data: PlanData = Field(default_factory=PlanData)
    queries: list[Query] = Field(default_factory=list[Query])
    smoke: list[Smoke] = Field(default_factory=list[Smoke])
    load: Load = Field(default_factory=Load)
    commands: list[Command] = Field(default_factory=list[Command])
    dashboard: Dashboard | None = None
    source_scan: SourceScan = Field(default_factory=SourceScan)
    gates: GateLimits = Field(default_factory=GateLimits)

    @property
    def traits(self) -> Traits:
        """What the strategy does with a table."""
        return TRAITS[self.strategy]
