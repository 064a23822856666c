"""For every gate a defect that is really there: NO-GO (or INCONCLUSIVE where nothing could be seen), and its name."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from rehearsal.verdict.decide import GateState, Outcome
from rehearsal.verdict.gates import GATES
from tests.mutants import defects
from tests.mutants.defects import READINGS, REFUSE, RETIRED, REVENUES, SLOW, SWALLOW, Defect
from tests.mutants.worlds import Scene, Worlds

pytestmark = [pytest.mark.slow, pytest.mark.alone]

# Evidence of these needs what this machine has not; see the tests that are named.
ELSEWHERE = {
    "script-reviewed": "required on hosts only",
    "monitoring": "required on hosts only; its mutants, against a real Prometheus: tests/monitoring/test_alerts.py",
    "orphans": "needs a plan with a loosened foreign key: tests/postgres/switchover/test_references.py",
    "dashboard": "needs a browser: tests/postgres/application/test_smoke.py",
}

ROWS = Scene("sensor_readings", "rows", "preflight")
MAKE_ROWS = Scene("sensor_readings", "rows", "data")
BASELINE = Scene("sensor_readings", "twins", "baseline")
TRIGGER_TESTS = Scene("sensor_readings", "twins", "trigger-tests")
BEFORE = Scene("sensor_readings", "twins", "parity-before")
DRY_RUN = Scene("sensor_readings", "twins", "dry-run")
BACKUP = Scene("sensor_readings", "twins", "backup")
SWITCH = Scene("sensor_readings", "twins", "switchover", edits=(("max_lock_hold_ms = 2000", "max_lock_hold_ms = 800"),))
IMPATIENT = Scene(
    "sensor_readings",
    "twins",
    "switchover",
    edits=(("[copy]", "[locks]\ntimeout_ms = 20\nmax_timeout_ms = 40\nattempts = 3\n\n[copy]"),),
)
AFTER = Scene("sensor_readings", "switched", "parity-after")
QUERIES = Scene("sensor_readings", "switched", "queries")
LOAD = Scene("sensor_readings", "switched", "load", edits=(("max_stall_ms = 4000", "max_stall_ms = 1500"),))
SMOKE = Scene("sensor_readings", "switched", "smoke", app=True)
LIFECYCLE = Scene("sensor_readings", "switched", "lifecycle")
ROLLBACK = Scene("sensor_readings", "switched", "rollback", app=True)
SOAK = Scene("sensor_readings", "switched", "soak", app=True)
FORWARD = Scene("sensor_readings", "switched", "forward-again", app=True)
FINANCE = Scene("hospitality", "switched", "switchover")
FINANCE_AFTER = Scene("hospitality", "switched", "parity-after")
FINANCE_SMOKE = Scene("hospitality", "switched", "smoke", app=True)
FLAGS_ON = Scene("hospitality", "switched", "flags-on", app=True)
HISTORY = Scene("sensor_readings_attach", "switched", "history")
LOAD_HISTORY = Scene("sensor_readings_attach", "switched", "load")
FORWARD_HISTORY = Scene("sensor_readings_attach", "switched", "forward-again", app=True)
WAY_BACK = Scene("sensor_readings_attach", "switched", "rollback", app=True)


@dataclass(frozen=True)
class Mutant:
    """A defect, where it is put in, and the gate that must see it; `edits` are defects of the plan itself."""

    name: str
    gate: str
    scene: Scene
    defect: Defect = defects.nothing_else
    outcome: Outcome = Outcome.NO_GO
    edits: tuple[tuple[str, str], ...] = ()


UNSEEN = Outcome.INCONCLUSIVE
do, behind = defects.statements, defects.behind_the_triggers
BACK, END = defects.BACK
RECENT = f"select id from {READINGS} where source like 'lg:%' order by id limit 5"
OLD = f"select id from {READINGS} where source = 'synthetic' order by id limit 5"

MUTANTS = [
    Mutant("wrong mark", "environment-mark", ROWS, do("update rehearsal.environment_mark set kind = 'staging'")),
    Mutant("no mark", "environment-mark", ROWS, do("delete from rehearsal.environment_mark")),
    Mutant("no pg_dump", "tools", ROWS, defects.tool("pg_dump", "")),
    Mutant("old pg_dump", "tools", ROWS, defects.tool("pg_dump", "echo pg_dump '(PostgreSQL) 9.6.1'")),
    Mutant("unique without key", "preflight", ROWS, do(f"create unique index on {READINGS} (id, unit_id)")),
    Mutant(
        "months off",
        "data-distribution",
        MAKE_ROWS,
        do(
            f"insert into {READINGS} (unit_id, device_id, temperature, recorded_at) select 1, 1, 4, "
            "date_trunc('month', now()) - interval '4 months' + n * interval '1 minute' from generate_series(1, 2000) n"
        ),
    ),
    Mutant("empty table", "baseline", BASELINE, do(f"delete from {READINGS}")),
    Mutant("capture that forgets deletes", "trigger-tests", TRIGGER_TESTS, defects.FORGETS_DELETES),
    Mutant(
        "stray row in the twin",
        "parity-before",
        BEFORE,
        behind(
            f"{READINGS}_partitioned",
            f"insert into {READINGS}_partitioned (id, unit_id, device_id, temperature, recorded_at) "
            "values (-1, 1, 1, 4, now())",
        ),
    ),
    Mutant("catalog changes", "dry-run", DRY_RUN, defects.catalog_changes),
    Mutant(
        "dump that fails", "backup", BACKUP, defects.tool("pg_dump", '[ "$1" = --version ] && exec {real} "$@"; exit 1')
    ),
    Mutant(
        "dump without rows",
        "restore-drill",
        BACKUP,
        defects.tool(
            "pg_dump", '[ "$1" = --version ] && exec {real} "$@"; exec {real} "$@" "--exclude-table-data=*.*readings"'
        ),
    ),
    Mutant("open transaction", "switchover", IMPATIENT, defects.held_by_a_sleeper),
    Mutant(
        "lock held too long",
        "lock-budget",
        SWITCH,
        do(
            SLOW,
            "create event trigger slow on ddl_command_end when tag in ('ALTER SEQUENCE') "
            "execute function public.slow()",
        ),
    ),
    Mutant("lost insert", "parity-after", AFTER, behind(RETIRED, f"delete from {RETIRED} where id in ({OLD})")),
    Mutant(
        "lost acknowledged insert", "ledger", AFTER, behind(READINGS, f"delete from {READINGS} where id in ({RECENT})")
    ),
    Mutant("lost insert in counts", "counts", AFTER, behind(READINGS, f"delete from {READINGS} where id % 40 = 0")),
    Mutant(
        "stale row",
        "parity-after",
        AFTER,
        behind(READINGS, f"update {READINGS} set temperature = temperature + 0.01 where id in ({OLD})"),
    ),
    Mutant(
        "lost update of the load",
        "ledger",
        AFTER,
        do(
            SWALLOW,
            f"create trigger zz before update on {READINGS} for each row when (new.source like 'lg:%') "
            "execute function public.swallow()",
            f"alter table {READINGS} enable always trigger zz",
        ),
    ),
    Mutant("lost delete", "parity-after", AFTER, defects.deletes_undone),
    Mutant("lost delete in the ledger", "ledger", AFTER, defects.deletes_undone),
    Mutant("parity that sees nothing", "parity-after", AFTER, defects.BLIND),
    Mutant("parity that does not look closer", "parity-after", AFTER, defects.DIM),
    Mutant(
        "row in the default partition",
        "default-empty",
        AFTER,
        do(
            f"insert into {READINGS} (unit_id, device_id, temperature, recorded_at) values (1, 1, 4, '2091-01-01')",
        ),
    ),
    Mutant(
        "id that repeats in another partition",
        "duplicates",
        AFTER,
        do(
            f"insert into {READINGS} (id, unit_id, device_id, temperature, recorded_at) select id, unit_id, device_id, "
            f"temperature, recorded_at + interval '40 days' from {READINGS} where id in ({OLD})"
        ),
    ),
    Mutant("rows deleted on both sides", "stats-unchanged", AFTER, do(f"delete from {READINGS} where id in ({OLD})")),
    Mutant("leaf without index", "target-structure", AFTER, defects.leaf_without_index),
    Mutant("index gone", "target-structure", AFTER, do("drop index public.sensor_readings_device")),
    Mutant("grant gone", "definition", AFTER, do(f"revoke delete on {READINGS} from current_user")),
    Mutant("default gone", "definition", AFTER, do(f"alter table {READINGS} alter source drop default")),
    Mutant(
        "statistics target gone on the twin",
        "definition",
        FINANCE_AFTER,
        do(f"alter table {REVENUES} alter amount_cents set statistics 400"),
    ),
    Mutant(
        "way back that leaves something",
        "definition",
        ROLLBACK,
        defects.edited(BACK, END, f"alter table {READINGS} alter source set statistics 400;\n{END}"),
    ),
    Mutant(
        "sync trigger off",
        "triggers-enabled",
        FINANCE,
        do(f"alter table {REVENUES} disable trigger sync_to_partitioned_revenues"),
    ),
    Mutant("flags differ", "flags", FLAGS_ON, defects.flags_differ),
    Mutant(
        "app error",
        "smoke",
        SMOKE,
        do(
            REFUSE,
            f"create trigger zz before update on {READINGS} for each row when (new.source like '%smoke corrected') "
            "execute function public.refuse()",
        ),
    ),
    Mutant("app server gone", "smoke", SMOKE, defects.server_is_gone),
    Mutant(
        "errors in the log",
        "app-logs",
        SMOKE,
        do(
            REFUSE,
            f"create trigger zz before update on {READINGS} for each row when (new.source like '%smoke corrected') "
            "execute function public.refuse()",
        ),
    ),
    Mutant(
        "row made in one table only",
        "sync",
        FINANCE_SMOKE,
        do(f"alter table {REVENUES} disable trigger sync_to_partitioned_revenues"),
    ),
    Mutant(
        "nobody uses the table",
        "source-scan",
        SMOKE,
        edits=((r"'\bsensor_readings\b', '\bsensorReadings\b'", r"'\bno_such_table\b'"),),
    ),
    Mutant(
        "query that cannot be pruned",
        "query-pruning",
        QUERIES,
        edits=(
            ("recorded_at >= %(lower)s and", "recorded_at + interval '0' >= %(lower)s and"),
            ("recorded_at < %(upper)s", "recorded_at + interval '0' < %(upper)s"),
        ),
    ),
    Mutant("query without its index", "query-speed", QUERIES, do("drop index public.sensor_readings_recorded")),
    Mutant("too few writes", "load", LOAD, outcome=UNSEEN, edits=(("min_writes = 5", "min_writes = 5000"),)),
    Mutant("table locked", "availability", LOAD, defects.locked_for_a_while),
    Mutant("generator that cannot keep up", "generator", LOAD, outcome=UNSEEN, edits=(("rate = 25", "rate = 9000"),)),
    Mutant("mismatch that is not found", "mismatch-found", ROLLBACK, defects.DIM),
    Mutant(
        "writes that do nothing",
        "mismatch-found",
        ROLLBACK,
        do(f"create rule zz as on update to {RETIRED} do instead nothing"),
        UNSEEN,
    ),
    Mutant(
        "old table that refuses writes",
        "rollback",
        ROLLBACK,
        defects.both(
            do(REFUSE),
            defects.edited(
                BACK,
                END,
                f"create trigger zz before insert on {READINGS} for each row when (new.source like '%smoke') "
                f"execute function public.refuse();\n{END}",
            ),
        ),
    ),
    Mutant(
        "old table that was altered",
        "rollback",
        ROLLBACK,
        do(f"alter table {RETIRED} alter source set statistics 400"),
    ),
    Mutant("slow way back", "rollback-time", ROLLBACK, edits=(("rollback_max_s = 3600", "rollback_max_s = 0.01"),)),
    Mutant(
        "new table that refuses writes",
        "forward-again",
        FORWARD,
        do(
            REFUSE,
            f"create trigger zz before insert on {READINGS} for each row when (new.source like '%smoke') "
            "execute function public.refuse()",
        ),
    ),
    Mutant("lost row in the soak", "soak", SOAK, behind(READINGS, f"delete from {READINGS} where id in ({RECENT})")),
    Mutant("error in the log of the soak", "soak", SOAK, defects.error_in_the_log),
    Mutant("session ended by the server in the soak", "soak", SOAK, defects.fatal_in_the_log),
    Mutant("gap before a new leaf", "lifecycle", LIFECYCLE, defects.GAP),
    Mutant("leaf without its index", "lifecycle", LIFECYCLE, defects.UNLIKE_ITS_SIBLING),
    Mutant("retention that takes a leaf too many", "lifecycle", LIFECYCLE, defects.GREEDY),
    Mutant("row of history gone", "history-unchanged", HISTORY, do(f"delete from {READINGS} where id in ({OLD})")),
    Mutant(
        "row of history changed",
        "history-unchanged",
        HISTORY,
        do(f"update {READINGS} set temperature = temperature + 0.01 where id in ({OLD})"),
    ),
    Mutant(
        "row of history gone after the load",
        "history-unchanged",
        LOAD_HISTORY,
        do(f"delete from {READINGS} where id in ({OLD})"),
    ),
    Mutant(
        "row of history gone at the end",
        "forward-again",
        FORWARD_HISTORY,
        do(f"delete from {READINGS} where id in ({OLD})"),
    ),
    Mutant(
        "index that a later partition lacks",
        "target-structure",
        HISTORY,
        do("create index on public.sensor_readings_history (battery)"),
    ),
    Mutant(
        "way back that leaves rows behind",
        "rollback",
        WAY_BACK,
        do(
            SWALLOW,
            "create trigger zz before insert on public.sensor_readings_history for each row "
            "when (new.source like '%witness%') execute function public.swallow()",
        ),
    ),
    Mutant(
        "content that cannot be told apart",
        "mismatch-found",
        WAY_BACK,
        do(
            SWALLOW,
            f"create trigger zz before update on {READINGS} for each row "
            "when (old.source like '%witness%') execute function public.swallow()",
        ),
        UNSEEN,
    ),
    Mutant("digest that is blind", "mismatch-found", WAY_BACK, defects.BLIND_TO_ITSELF),
    Mutant("file edited meanwhile", "fingerprint", ROWS, defects.file_edited),
]


# One mutant of each gate runs always; its further ones are left to the tests of hours, but for those whose rule has no
# other test by a whole rehearsal.
FIRST = {mutant.gate: mutant for mutant in reversed(MUTANTS)}
IN_CI = {
    "content that cannot be told apart",
    "digest that is blind",
    "lost delete",
    "old table that was altered",
}


def marks_of(mutant: Mutant) -> list[pytest.MarkDecorator]:
    """Return the tier that a mutant belongs to."""
    if FIRST[mutant.gate] is mutant:
        return []
    return [pytest.mark.long if mutant.name in IN_CI else pytest.mark.hours]


PARAMETERS = [pytest.param(mutant, id=mutant.name.replace(" ", "-"), marks=marks_of(mutant)) for mutant in MUTANTS]


@pytest.mark.parametrize("mutant", PARAMETERS)
def test_a_defect_is_no_go_and_the_report_names_its_gate(worlds: Worlds, mutant: Mutant) -> None:
    """Without the defect the gate passes in the same phase; with it the gate fails, and so does the run."""
    assert worlds.witness(mutant.scene)[mutant.gate] is GateState.PASSED

    scene = Scene(**{**vars(mutant.scene), "edits": (*mutant.scene.edits, *mutant.edits)})
    with worlds.open(scene) as world, mutant.defect(world):
        verdict = world.play(scene.phase)
        report = world.report

    found = {gate.gate.id: gate for gate in verdict.gates}[mutant.gate]
    wanted = GateState.FAILED if mutant.outcome is Outcome.NO_GO else GateState.UNSEEN
    assert found.state is wanted, (found.reason, verdict.reasons)
    assert verdict.outcome is not Outcome.GO
    assert mutant.outcome is UNSEEN or verdict.outcome is Outcome.NO_GO
    assert f"**Verdict: {verdict.outcome}**" in report
    assert f"- {mutant.gate}: " in report.split("\n## ")[0], report[:3000]


def test_every_gate_has_a_mutant_or_a_reason() -> None:
    """A gate that nothing was put into is a gate that may be blind."""
    gates = {gate.id for gate in GATES}

    assert {mutant.name for mutant in MUTANTS} >= IN_CI
    assert gates - {mutant.gate for mutant in MUTANTS} == set(ELSEWHERE)
    assert {mutant.gate for mutant in MUTANTS} <= gates
