"""The SQL steps: each header says what it locks, and what a second run does."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rehearsal.catalog.tables import Catalog, Name, Table
from rehearsal.environment import Database
from rehearsal.evidence.run import Run
from rehearsal.postgres.connection import Connection, connect, scalar
from rehearsal.postgres.sqlfiles import SqlFiles, as_query, quote_ident
from rehearsal.switchover.changes import render_changes
from rehearsal.switchover.copy.copier import chunk_sql
from rehearsal.switchover.copy.replay import Replay, forward_of, purge_sql
from rehearsal.switchover.detail import Split
from rehearsal.switchover.dryrun import catalog_digest
from rehearsal.switchover.outdated import Outdated
from rehearsal.switchover.repair import resync_sql
from rehearsal.switchover.strategies.attach.prepare import Preparation
from rehearsal.switchover.strategies.attach.split import HistorySplit
from rehearsal.switchover.strategies.attach.unsplit import SplitBack
from rehearsal.switchover.strategies.dual_write.cutover import Cutover
from rehearsal.switchover.strategies.dual_write.keep import TargetStays
from rehearsal.switchover.strategies.swap.exchange import Exchange
from rehearsal.switchover.table import Switchover
from rehearsal.switchover.target.composite import Composite
from rehearsal.switchover.target.indexes import carry_sql
from rehearsal.switchover.target.references import Reference, key_values
from rehearsal.switchover.target.removal import removal_sql
from rehearsal.switchover.target.target import clear_target_sql, mirror_values_of
from tests.fix_tables import NOW, deploy, make_plan, make_switchover, names_of
from tests.waiting import eventually

SQL = Path(__file__).resolve().parents[3] / "sql"
# A step says in its header what a second run does; any other text only reads, or is a part of one.
STEPS = {
    path.name.removesuffix(".sql.j2"): path for path in SQL.rglob("*.sql.j2") if "\n-- second run: " in path.read_text()
}
MODES = (
    "ACCESS SHARE",
    "ROW SHARE",
    "ROW EXCLUSIVE",
    "SHARE UPDATE EXCLUSIVE",
    "SHARE",
    "SHARE ROW EXCLUSIVE",
    "EXCLUSIVE",
    "ACCESS EXCLUSIVE",
)
# Longest first, or SHARE would be read out of ACCESS SHARE.
CLAIM = re.compile(rf"({'|'.join(sorted(MODES, key=len, reverse=True))}) on (.*?)(?=[A-Z]{{4}}|$)")
HELD = """
select lower(regexp_replace(replace(mode, 'Lock', ''), '([a-z])([A-Z])', '\\1 \\2', 'g'))
from pg_catalog.pg_locks where pid = pg_backend_pid() and granted and relation = %s::oid
"""


def claims(step: str, *nouns: str) -> str | None:
    """Return the mode that a header claims for the table that it calls by one of these nouns."""
    header = re.search(r"^-- lock: (.*)$", STEPS[step].read_text(), re.MULTILINE)
    assert header, f"{step} does not say what it locks"
    found = [mode for mode, tables in CLAIM.findall(header[1]) if any(noun in tables for noun in nouns)]
    return found[0] if found else None


def arrays(conn: Connection, replay: Replay) -> list[list[str]]:
    """Return keys as the replay hands them on."""
    row = conn.execute(as_query(replay.take_sql(10))).fetchone()
    assert row
    return list(row[:-1])


Render = Callable[[Switchover, Connection], str]


def _exchange(work: Switchover, conn: Connection) -> Exchange:
    return Exchange(work.files, work.plan, work.shape(conn), 1)


def _plain(step: str) -> Render:
    return lambda work, conn: work.files.render(
        str(STEPS[step].relative_to(SQL)), **mirror_values_of(work.shape(conn), mirrors=work.plan.traits.mirrors)
    )


def _swap(work: Switchover, conn: Connection) -> str:
    catalog = Catalog(conn, work.files)
    source, target = catalog.read(work.names.source), catalog.read(work.names.target)
    exchange = _exchange(work, conn)
    return exchange.swap_sql(conn, source, target, exchange.moves(conn, source))


def _swap_back(work: Switchover, conn: Connection) -> str:
    exchange = _exchange(work, conn)
    live = Catalog(conn, work.files).read(work.names.source)
    return exchange.roll_back_sql(conn, exchange.moves(conn, live))


CHILD = Reference(
    "fk", "public", "child", "r", False, ["event"], ["id"], "c", "a", "s", True, False, False, True, "", True, []
)


def _loose(step: str) -> Render:
    def render(work: Switchover, conn: Connection) -> str:
        source = work.names.source
        first = scalar(conn, "select to_regclass('public.child') is null")
        conn.execute("create table if not exists public.child (event bigint)")
        if step == "loose_off" and first:
            conn.execute(as_query(work.files.render("switchover/target/loosen.sql.j2", **key_values(CHILD, source))))
        return work.files.render(f"switchover/target/{step}.sql.j2", **key_values(CHILD, source))

    return render


def _composite(step: str) -> Render:
    def render(work: Switchover, conn: Connection) -> str:
        composite = Composite(work.files, CHILD, work.names.source, work.spec.key)
        first = scalar(conn, "select to_regclass('public.child') is null")
        conn.execute("create table if not exists public.child (event bigint)")
        if step == "composite_fill" and first:
            conn.execute(as_query(composite.prepare_sql("timestamptz")))
            conn.execute("alter table public.child disable trigger user")
            conn.execute("insert into public.child values (7)")
        if step == "composite_undo" and first:
            conn.execute(as_query(composite.prepare_sql("timestamptz")))
        texts = {"composite": composite.prepare_sql("timestamptz"), "composite_undo": composite.undo_sql()}
        return texts.get(step) or composite.fill_sql(0, 10)

    return render


def _carry(work: Switchover, conn: Connection) -> str:
    catalog = Catalog(conn, work.files)
    source, target = catalog.read(work.names.source), catalog.read(work.names.target)
    return carry_sql(conn, work.files, work.shape(conn), source, target)


def _registry(part: str) -> Render:
    def render(work: Switchover, conn: Connection) -> str:
        return next(
            change.body for change in render_changes(conn, work.files, work.plan, NOW) if change.name.endswith(part)
        )

    return render


def _outdated(work: Switchover) -> Outdated:
    return Outdated(work)


# Each step: what its header calls the source, in which state of the table it runs, and how it is made.
def _target(work: Switchover, conn: Connection) -> Table:
    return Catalog(conn, work.files).read(work.names.target)


CASES: dict[str, tuple[str, str, Render]] = {
    "target": ("source", "bare", _registry("target")),
    "mirror": ("source", "target", _registry("mirror")),
    "capture_on": ("source", "deployed", _plain("capture_on")),
    "capture_off": ("source", "deployed", _plain("capture_off")),
    "clear_target": (
        "source",
        "deployed",
        lambda work, conn: clear_target_sql(work.files, Catalog(conn, work.files).read(work.names.target)),
    ),
    "copy_chunk": (
        "source",
        "deployed",
        lambda work, conn: chunk_sql(work.files, work.shape(conn), work.names.source, work.names.target, 0, 1),
    ),
    "replay_take": ("source", "deployed", lambda work, conn: forward_of(work.files, work.shape(conn)).take_sql(10)),
    "replay_put": ("source", "deployed", lambda work, conn: forward_of(work.files, work.shape(conn)).put_sql()),
    "replay_surplus": (
        "source",
        "deployed",
        lambda work, conn: forward_of(work.files, work.shape(conn)).surplus_sql(),
    ),
    "refresh_target": ("source", "deployed", lambda work, conn: _outdated(work).refresh_sql(conn)),
    "remove_target": ("source", "deployed", lambda work, _: removal_sql(work)),
    "purge": (
        "source",
        "deployed",
        lambda work, conn: purge_sql(work.files, work.shape(conn), work.names.forward_log, work.names.target),
    ),
    "resync": ("both tables", "deployed", lambda work, conn: resync_sql(forward_of(work.files, work.shape(conn)))),
    "carry": ("source", "following", _carry),
    "swap": ("source", "following", _swap),
    "fence_on": ("fenced table", "following", lambda work, conn: _exchange(work, conn).fence.on_sql("1")),
    "fence_off": (
        "fenced table",
        "fenced",
        lambda work, conn: _exchange(work, conn).fence.off_sql(work.names.source),
    ),
    "swap_back": ("partitioned table", "swapped", _swap_back),
    "guard_on": ("source", "following", lambda work, conn: _exchange(work, conn).guard.on_sql(_target(work, conn))),
    "guard_off": ("source", "guarded", lambda work, conn: _exchange(work, conn).guard.off_sql(_target(work, conn))),
    "loosen": ("referenced", "deployed", _loose("loosen")),
    "composite": ("referenced", "deployed", _composite("composite")),
    "composite_fill": ("referenced", "deployed", _composite("composite_fill")),
    "composite_undo": ("referenced", "deployed", _composite("composite_undo")),
    "loose_off": ("referenced", "deployed", _loose("loose_off")),
    "sync_on": (
        "source",
        "deployed",
        lambda work, conn: Cutover(work.files, work.shape(conn), 1).sync_on_sql(),
    ),
}


def _stays(work: Switchover, conn: Connection) -> tuple[str, str]:
    stays = TargetStays(work)
    return stays.statements(conn, stays.read(conn))


def _attach(step: str) -> Render:
    return lambda work, conn: Preparation(work).statements(conn).render(step)


def _cut_over(work: Switchover, conn: Connection) -> str:
    return Preparation(work).attached(conn).cut_over_sql(Catalog(conn, work.files).read(work.names.source))


def _way_back(work: Switchover, conn: Connection) -> str:
    return Preparation(work).attached(conn).roll_back_sql(conn, Catalog(conn, work.files).read(work.names.source))


def _split_of(work: Switchover) -> HistorySplit:
    return HistorySplit(work)


def _split(work: Switchover, conn: Connection) -> Split:
    return Preparation(work).statements(conn).split


def _check(work: Switchover, conn: Connection) -> str:
    return _split_of(work).check_sql(_split_of(work).fine(conn)[0], _split(work, conn))


def _unique_index(work: Switchover, conn: Connection) -> str:
    return Preparation(work).statements(conn).unique_index(work.names.source, Preparation(work).extra.key_index)


def _split_back(work: Switchover, conn: Connection) -> str:
    back = SplitBack(work, Preparation(work).statements(conn))
    back.prove_bound(conn)
    parent = Catalog(conn, work.files).read(work.names.source)
    return back.sql(parent, back.fine(conn, parent))


CASES |= {
    "keep_target": ("source", "swapped", lambda work, conn: _stays(work, conn)[0]),
    "drop_source": ("source", "swapped", lambda work, conn: ";\n".join(_stays(work, conn))),
    "attach_register": ("source", "bare", _registry("attach_register")),
    "attach_index": ("source", "parent", _unique_index),
    "attach_bound": ("source", "parent", _attach("attach_bound")),
    "attach_validate": ("source", "bound", _attach("attach_validate")),
    "attach_not_null": ("source", "bound", _attach("attach_not_null")),
    "attach": ("source", "ready", _cut_over),
    "attach_undo": ("source", "ready", _attach("attach_undo")),
    "attach_back": ("partitioned table", "attached", _way_back),
    "split_check": ("source", "fine", _check),
    "split_back": ("partitioned table", "regrained", _split_back),
    "split": ("partitioned table", "split", lambda work, conn: _split_of(work).exchange_sql(conn)),
}
OUTSIDE_TRANSACTIONS = {"attach_index"}


@pytest.fixture
def work(database: Database, sql_files: SqlFiles, run: Run, request: pytest.FixtureRequest) -> Switchover:
    """The switchover that the step belongs to."""
    step: str = request.param
    swaps = any(word in step for word in ("swap", "fence", "guard"))
    strategy = "attach" if step.startswith(("attach", "split")) else "swap" if swaps else "dual-write"
    return make_switchover(database, sql_files, make_plan(strategy), run)


def bring(work: Switchover, conn: Connection, wanted: str) -> None:
    """Bring the table into the state in which a step runs."""
    if wanted == "target":
        conn.execute(as_query(_registry("target")(work, conn)))
    elif wanted != "bare":
        deploy(conn, work.files, work.plan)
    if wanted == "fenced":
        conn.execute(as_query(_exchange(work, conn).fence.on_sql("1")))
    if wanted == "guarded":
        conn.execute(as_query(_exchange(work, conn).guard.on_sql(_target(work, conn))))
    if not work.plan.traits.copies:
        bring_to_history(work, conn, wanted)
    if wanted in ("following", "swapped"):
        work.prepare()
    if wanted == "swapped":
        work.switch()


def bring_to_history(work: Switchover, conn: Connection, wanted: str) -> None:
    """Bring a table of the strategy attach into the state in which a step runs."""
    if wanted in ("parent", "bound"):
        conn.execute('alter table public."We""ird Events" alter "Created At" drop not null')
        steps = {step.name: step for step in Preparation(work).steps(conn, work.migration(conn).id)}
        steps["parent"].work()
        if wanted == "bound":
            steps["bound"].work()
    if wanted in ("ready", "attached", "fine", "split", "regrained"):
        work.prepare()
    if wanted in ("attached", "fine", "split", "regrained"):
        work.switch()
    if wanted == "fine":
        conn.execute(as_query(_split_of(work).target_sql(conn, _split(work, conn))[0]))
    if wanted == "regrained":
        _split_of(work).split()
    if wanted == "split":
        split = _split_of(work)
        split.make_target(conn, _split(work, conn))
        split.copy()
        split.check_bounds(conn, _split(work, conn))


def test_every_step_has_a_case() -> None:
    """A new step cannot be forgotten here."""
    assert set(CASES) == set(STEPS)


@pytest.mark.parametrize("work", [step for step in CASES if step not in OUTSIDE_TRANSACTIONS], indirect=True)
def test_header_names_the_strongest_lock_on_the_source(
    conn: Connection, events: Name, work: Switchover, request: pytest.FixtureRequest
) -> None:
    """What the header says is what pg_locks shows when the step has run."""
    step: str = request.node.callspec.params["work"]
    noun, wanted, render = CASES[step]
    bring(work, conn, wanted)
    text, names = render(work, conn), names_of(events)
    keys = arrays(conn, forward_of(work.files, work.shape(conn))) if step in {"replay_put", "replay_surplus"} else None

    source = scalar(conn, "select to_regclass(%s)::oid", [quote_ident(names.source)])

    with conn.transaction(force_rollback=True):
        conn.execute(as_query(text), keys)
        held = {row[0].upper() for row in conn.execute(HELD, [source])}

    assert max(held, key=MODES.index, default=None) == claims(step, noun)


@pytest.mark.parametrize("work", OUTSIDE_TRANSACTIONS, indirect=True)
def test_header_names_the_lock_of_a_step_outside_transactions(
    database: Database, conn: Connection, events: Name, work: Switchover, request: pytest.FixtureRequest
) -> None:
    """It waits for an open transaction, so that its locks can be looked at; the writer itself does not wait."""
    step: str = request.node.callspec.params["work"]
    noun, wanted, render = CASES[step]
    bring(work, conn, wanted)
    text, source = render(work, conn), scalar(conn, "select to_regclass(%s)::oid", [quote_ident(events)])
    theirs = (
        "select mode from pg_catalog.pg_locks where granted and relation = %s::oid and pid = (select pid from "
        "pg_catalog.pg_stat_activity where application_name = 'pg-rehearsal builder')"
    )
    with (
        ThreadPoolExecutor(1) as pool,
        connect(database, autocommit=False) as writer,
        connect(database, role="builder") as builder,
    ):
        writer.execute('update public."We""ird Events" set note = note where id = 7')
        built = pool.submit(builder.execute, as_query(text))
        modes = eventually(lambda: conn.execute(theirs, [source]).fetchall(), 60, unless=built.done, pause=0.001)
        writer.execute('update public."We""ird Events" set note = note where id = 8')
        writer.commit()
        built.result(60)

    held = {re.sub("([a-z])([A-Z])", r"\1 \2", mode[:-4]).upper() for (mode,) in modes}
    assert held == {claims(step, noun)}


TWICE = [step for step in CASES if "second run: changes nothing" in STEPS[step].read_text()]


@pytest.mark.parametrize("work", TWICE, indirect=True)
@pytest.mark.usefixtures("events")
def test_a_second_run_changes_nothing_where_the_header_says_so(
    conn: Connection, sql_files: SqlFiles, work: Switchover, request: pytest.FixtureRequest
) -> None:
    """The first run is the witness: it does change something."""
    step: str = request.node.callspec.params["work"]
    _, wanted, render = CASES[step]
    bring(work, conn, wanted)
    if step == "capture_off":
        conn.execute(as_query(_plain("capture_on")(work, conn)))
    # Row counters are told late, at the latest before the first look.
    flush = "select pg_stat_force_next_flush()" if conn.info.server_version >= 150000 else "select 1"
    conn.execute(flush)
    seen = [catalog_digest(conn, sql_files)]
    for _ in range(2):
        conn.execute(as_query(render(work, conn)))
        conn.execute(flush)
        seen.append(catalog_digest(conn, sql_files))

    assert seen[0] != seen[1] == seen[2]
