"""Small rehearsals, brought up to a point once and cloned for each mutant: real database, real phases, real app."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from psycopg import sql

from rehearsal.environment import AppServer, Database, Environment
from rehearsal.evidence.run import Run
from rehearsal.plan.file import load_plan
from rehearsal.postgres.connection import Connection, connect
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.rehearse.context import Context, fingerprint_of
from rehearsal.rehearse.order import PHASES
from rehearsal.rehearse.phase import choose
from rehearsal.rehearse.run import run_phases
from rehearsal.rehearse.runner import Runner
from rehearsal.verdict.decide import GateState, Outcome, Verdict
from tests.fix_app import AppServer as RunningApp
from tests.fix_app import running_app
from tests.fix_tables import deploy

ROOT = Path(__file__).resolve().parent.parent.parent
SHARE = {"sensor_readings": 0.02, "sensor_readings_attach": 0.02, "hospitality": 0.01}
# Of each write by SQL: a second has enough of them, and all of them together leave the machine time for the rest.
RATE = {"sensor_readings": 25, "sensor_readings_attach": 25, "hospitality": 8}
INVENTORY = """
app = ([("@process/app1", {{"env_file": {env_file!r}}})], {{"app_manager": "none", "app_server": "app1", "base": "/"}})
"""


@dataclass(frozen=True)
class Scene:
    """Where a mutant is put in: the plan, how far its rehearsal is, and the phase that must see it.

    `edits` change the text of the plan, for the run without the defect too; `app` is whether an app server runs.
    """

    plan: str
    stage: str
    phase: str
    app: bool = False
    edits: tuple[tuple[str, str], ...] = ()


def blocks(text: str) -> Iterator[str]:
    """Return the parts of a plan file, each with the header that it begins with; sub-tables stay with theirs."""
    part: list[str] = []
    for line in text.splitlines(keepends=True):
        if line.startswith("[") and not line.startswith("[data.tables."):
            yield "".join(part)
            part = []
        part.append(line)
    yield "".join(part)


def smaller(part: str, share: float) -> str:
    """Return a part of a plan with a share of its rows; months of few rows vary more."""
    if "scaled = true" not in part and not part.startswith("[gates]"):
        return part

    def number(match: re.Match[str]) -> str:
        width = {"month_min": 0.6, "month_max": 1.4}.get(match[1], 1.0)
        return f"{match[1]} = {round(int(match[2].replace('_', '')) * share * width)}"

    return re.sub(r"^(rows|month_min|month_max|min_rows) = ([0-9_]+)", number, part, flags=re.MULTILINE)


def small_plan(name: str, text: str) -> str:
    """Return a plan file with the load by SQL alone, two queries and no page that needs a browser."""
    kept: list[str] = []
    queries = 0
    for part in blocks(text):
        if part.startswith("[[queries]]"):
            queries += 1
        if (part.startswith("[[queries]]") and queries > 1) or part.startswith("[dashboard]"):
            continue
        if part.startswith("[[load.operations]]"):
            if 'via = "http"' in part or 'action = "read"' in part:
                continue
            rate = next(line for line in part.splitlines() if line.startswith("rate = "))
            kept.append(part.replace(rate, f"rate = {RATE[name]}"))
            continue
        kept.append(smaller(part, SHARE[name]))
    small = "".join(kept)
    for old, new in (("duration_s = 20", "duration_s = 2"), ("max_stall_ms = 2000", "max_stall_ms = 4000")):
        assert old in small, old
        small = small.replace(old, new)
    return small


@dataclass
class World:
    """One rehearsal under way, all of it its own."""

    context: Context
    folder: Path
    app: RunningApp | None = None

    @property
    def root(self) -> Path:
        """The project of this world: its plans and SQL."""
        return self.context.root

    def session(self) -> Connection:
        """Open a session of a stranger."""
        return connect(self.context.env.database, role="stranger")

    def execute(self, *statements: str) -> None:
        """Run statements as a stranger."""
        with self.session() as conn:
            for statement in statements:
                conn.execute(statement.encode())

    def play(self, phase: str) -> Verdict:
        """Run one phase as the command does, and write the report."""
        phases = choose(PHASES, self.context.plan.strategy)
        return run_phases(self.context, Runner(self.context, phases, start=phase, until=phase))

    @property
    def report(self) -> str:
        """The report as Markdown."""
        return (self.context.run.folder / "report.md").read_text()


@dataclass
class Worlds:
    """Makes worlds: each stage of each plan is built once, as a template database and a folder."""

    server: Database
    client_bin: Path
    folder: Path
    template: str
    _stages: dict[tuple[str, str], tuple[str, Path]] = field(default_factory=dict)
    _witnesses: dict[Scene, dict[str, GateState]] = field(default_factory=dict)
    _number: int = 0

    def witness(self, scene: Scene) -> dict[str, GateState]:
        """Return the state of each gate after the phase without a defect."""
        if scene not in self._witnesses:
            with self.open(scene) as world:
                verdict = world.play(scene.phase)
            assert verdict.outcome is not Outcome.NO_GO, verdict.reasons
            self._witnesses[scene] = {gate.gate.id: gate.state for gate in verdict.gates}
        return self._witnesses[scene]

    @contextmanager
    def open(self, scene: Scene) -> Iterator[World]:
        """Open a world at that stage; its database and its processes end with the block."""
        template, run = self._stage(scene.plan, scene.stage)
        self._number += 1
        name, folder = f"mutant_{self._number}", self.folder / f"mutant-{self._number}"
        shutil.copytree(run, folder / "runs" / run.name)
        with self._database(name, template), ExitStack() as stack:
            world = self._world(scene.plan, name, folder, run.name, scene.edits)
            if scene.app:
                env = world.context.env
                on = scene.phase == "flags-on"
                flags = {"USE_PARTITIONED_TABLES": str(on).lower(), "ENABLE_PARTITION_ROUTING": str(on).lower()}
                server = stack.enter_context(running_app(env.app_database, folder, "app1", flags))
                world.app = server
                (folder / "app1.env").write_text("".join(f"{flag}={value}\n" for flag, value in flags.items()))
                servers = (AppServer("@process/app1", server.url, str(server.log)),)
                world.context = replace(world.context, env=replace(env, app_servers=servers))
            try:
                yield world
            finally:
                world.context.writers.abandon()

    def _stage(self, plan: str, stage: str) -> tuple[str, Path]:
        if (plan, stage) not in self._stages:
            self._stages[plan, stage] = self._build(plan, stage)
        return self._stages[plan, stage]

    def _build(self, plan: str, stage: str) -> tuple[str, Path]:
        name, folder = f"stage_{plan}_{stage}", self.folder / f"{plan}-{stage}"
        before = {"rows": None, "twins": "rows", "switched": "twins"}[stage]
        template, run = self._stage(plan, before) if before else (self.template, None)
        if run is None:
            run = Run.create(folder / "runs", "local", plan).folder
        else:
            shutil.copytree(run, folder / "runs" / run.name)
        self._make(name, template)
        world = self._world(plan, name, folder, run.name)
        BUILD[stage](world)
        return name, folder / "runs" / run.name

    def _world(
        self, plan_name: str, database: str, folder: Path, run: str, edits: tuple[tuple[str, str], ...] = ()
    ) -> World:
        root = folder / "project"
        shutil.copytree(ROOT / "sql", root / "sql")
        (root / "plans").mkdir()
        (root / "example_app").symlink_to(ROOT / "example_app")
        text = small_plan(plan_name, (ROOT / "plans" / f"{plan_name}.toml").read_text())
        for old, new in edits:
            assert old in text, old
            text = text.replace(old, new)
        (root / "plans" / f"{plan_name}.toml").write_text(text)
        plan, files = load_plan(root / "plans" / f"{plan_name}.toml"), SqlFiles(root / "sql")
        inventory = folder / "inventory.py"
        inventory.write_text(INVENTORY.format(env_file=str(folder / "app1.env")))
        where = replace(self.server, name=database)
        env = Environment(
            name="local",
            kind="local",
            inventory=inventory,
            database=where,
            app_database=where,
            database_host="@process/db",
            app_servers=(),
            backup_folder=folder / "backups",
            admin_email="root@localhost",
            client_bin=self.client_bin,
        )
        context = Context(root, plan, env, Run.open(folder / "runs", run), files, fingerprint_of(plan, files))
        return World(context, folder)

    def _make(self, name: str, template: str) -> None:
        with connect(self.server) as conn:
            statement = sql.SQL("create database {} template {}")
            conn.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))

    @contextmanager
    def _database(self, name: str, template: str) -> Iterator[None]:
        self._make(name, template)
        try:
            yield
        finally:
            with connect(self.server) as conn:
                conn.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def build_rows(world: World) -> None:
    """Schema, mark and rows."""
    context = world.context
    with context.session() as conn:
        for migration in context.plan.app_schema.migrations:
            conn.execute(context.files.query(f"migrations/{migration}"))
        conn.execute("insert into rehearsal.environment_mark (kind) values ('local')")
    must_not_fail(world, "data")
    world.execute("vacuum analyze")


def build_targets(world: World) -> None:
    """Baseline, then twins and triggers as the registry would apply them."""
    must_not_fail(world, "baseline")
    with world.context.session() as conn:
        deploy(conn, world.context.files, world.context.plan)


def build_switched(world: World) -> None:
    """Dump and restore, then the switchover under writers, with a ledger of what they were acknowledged."""
    must_not_fail(world, "backup")
    must_not_fail(world, "switchover")
    world.execute("vacuum analyze")


def must_not_fail(world: World, phase: str) -> None:
    """Run a phase that a stage is made of."""
    verdict = world.play(phase)
    assert verdict.outcome is not Outcome.NO_GO, verdict.reasons


BUILD: dict[str, Callable[[World], None]] = {"rows": build_rows, "twins": build_targets, "switched": build_switched}
