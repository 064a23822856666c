"""Data of evidence: the keys that a line has are the fields of a class, and each gate has its classes."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from rehearsal.evidence import data as seams
from rehearsal.evidence.data import (
    CARRIED,
    NOTHING,
    Baseline,
    Changes,
    Console,
    Data,
    Differences,
    Dump,
    Errors,
    Findings,
    Flipped,
    Found,
    Grid,
    Held,
    Injected,
    Listed,
    Nothing,
    Orphans,
    Outside,
    Parity,
    Printed,
    Problems,
    Reached,
    Reconciled,
    Repeated,
    RestoreSeconds,
    Seconds,
    Stall,
    Taken,
    TriggerFound,
    Unread,
    read_data,
)
from rehearsal.evidence.run import Run
from rehearsal.evidence.schema import lines_schema
from rehearsal.verdict.gates import GATES
from tests.json_schema import problems
from tests.played import play

ROOT = Path(__file__).resolve().parents[3]
GRID = Grid.of(("table", "rows"), [("public.t", 3)])
# Lines as versions before this one wrote them; the keys are a contract.
LINES: list[tuple[str, Data, str]] = [
    ("smoke", NOTHING, "{}"),
    (
        "preflight",
        Findings((Found("P1", "blocker", "t", "a", "b", "c"),)),
        (
            '{"findings": [{"id": "P1", "severity": "blocker", "subject": "t", "condition": "a", "effect": "b", '
            '"remedy": "c"}]}'
        ),
    ),
    ("preflight", Listed(GRID), '{"table": {"columns": ["table", "rows"], "rows": [["public.t", 3]]}}'),
    (
        "baseline",
        Baseline(5, "2025", "2026", 0, {"unit id": 2}, 80, 16, {"rows": 4, "oldest": None}, 5),
        (
            '{"rows": 5, "oldest": "2025", "newest": "2026", "null keys": 0, "distinct unit id": 2, "bytes": 80, '
            '"index bytes": 16, "figures": {"rows": 4, "oldest": null}, "upto": 5}'
        ),
    ),
    (
        "baseline",
        Baseline(5, "2025", "2026", 0, {}, 80, 16, {"rows": 4}, None, "id", (4, "99")),
        (
            '{"rows": 5, "oldest": "2025", "newest": "2026", "null keys": 0, "bytes": 80, "index bytes": 16, '
            '"figures": {"rows": 4}, "upto": null, "primary": "id", "untouched": [4, "99"]}'
        ),
    ),
    ("target-structure", Problems(("no index",)), '{"problems": ["no index"]}'),
    ("target-structure", Changes(6), '{"changes": 6}'),
    ("triggers-enabled", TriggerFound(None), '{"state": null}'),
    ("parity-before", Differences({"stale": 1}), '{"differences": {"stale": 1}}'),
    (
        "dry-run",
        Printed("d1", GRID),
        '{"digest": "d1", "table": {"columns": ["table", "rows"], "rows": [["public.t", 3]]}}',
    ),
    (
        "backup",
        Dump("run", GRID),
        '{"folder": "run", "table": {"columns": ["table", "rows"], "rows": [["public.t", 3]]}}',
    ),
    ("restore-drill", Seconds(1.5), '{"seconds": 1.5}'),
    ("switchover", Reached("swapped", 1.5), '{"state": "swapped", "seconds": 1.5}'),
    ("lock-budget", Held(41.3), '{"held_ms": 41.3}'),
    (
        "parity-after",
        Parity(1, 3, {"stale": 1}, 0.25, GRID),
        (
            '{"differing": 1, "rows": 3, "differences": {"stale": 1}, "seconds": 0.25, '
            '"table": {"columns": ["table", "rows"], "rows": [["public.t", 3]]}}'
        ),
    ),
    ("duplicates", Repeated(0), '{"sets": 0}'),
    ("orphans", Orphans(2), '{"orphans": 2}'),
    ("flags", Flipped(2.5, "reads legacy"), '{"seconds": 2.5, "wanted": "reads legacy"}'),
    ("dashboard", Console(("failed",)), '{"console": ["failed"]}'),
    (
        "load",
        Errors({"55P03": 2}, "create", GRID),
        (
            '{"errors": {"55P03": 2}, "worst": "create", '
            '"table": {"columns": ["table", "rows"], "rows": [["public.t", 3]]}}'
        ),
    ),
    (
        "ledger",
        Reconciled(1, 9, {"sql": 9}, ("public.t",), GRID, ({"missing": [{"id": 4}]},)),
        (
            '{"lost": 1, "acknowledged": 9, "by_source": {"sql": 9}, "relations": ["public.t"], '
            '"table": {"columns": ["table", "rows"], "rows": [["public.t", 3]]}, '
            '"examples": [{"missing": [{"id": 4}]}]}'
        ),
    ),
    (
        "availability",
        Stall(612.5, "writes", {"writes": 612.5}),
        '{"stall_ms": 612.5, "worst": "writes", "stalls": {"writes": 612.5}}',
    ),
    ("mismatch-found", Taken(50), '{"taken": 50}'),
    ("rollback", Injected(0.5), '{"injected_s": 0.5}'),
    ("rollback", Outside(200), '{"outside": 200}'),
    ("rollback-time", RestoreSeconds(17.5), '{"restore_s": 17.5}'),
]


@pytest.mark.parametrize(("gate", "data", "line"), LINES)
def test_a_line_has_the_keys_it_always_had(tmp_path: Path, gate: str, data: Data, line: str) -> None:
    """Written as before, and read as what was written."""
    run = Run.create(tmp_path, "local", "finance")
    made = run.record(gate, "t", passed=True, observed="seen", data=data)

    (kept,) = (run.folder / "evidence.jsonl").read_text(encoding="utf-8").splitlines()
    assert list(json.loads(kept)) == ["gate", "subject", "passed", "observed", "phase", "at", "data"]
    assert kept.endswith(f'"data": {line}}}')
    assert run.evidence() == [made]
    assert json.dumps(run.evidence()[0].data.to_json()) == line


def test_every_class_has_its_line() -> None:
    """A class that this table does not name could change its keys unseen."""
    assert {type(data) for _, data, _ in LINES} == {
        Nothing,
        *(kind for several in CARRIED.values() for kind in several),
    }


def test_a_later_version_and_an_earlier_one_are_read_as_far_as_known() -> None:
    """Keys that came later are left out; a line that lacks what was measured is kept as it is and measures nothing."""
    assert read_data("lock-budget", {"held_ms": 3, "mode": "x"}) == Held(3)
    assert read_data("ledger", {"lost": 0, "acknowledged": 4}) == Reconciled(0, 4)
    assert read_data("lock-budget", {"hold_ms": 3}) == Unread({"hold_ms": 3})
    assert read_data("gone", {"n": 1}) == Unread({"n": 1})
    assert read_data("gone", {}) is NOTHING


@pytest.mark.parametrize("gate", ["ledger", "smoke", "leger"])
def test_data_of_another_gate_is_refused_before_anything_is_written(tmp_path: Path, gate: str) -> None:
    """Nobody who judges the gate would look for it."""
    run = Run.create(tmp_path, "local", "finance")

    with pytest.raises(TypeError, match=f"evidence of {gate} carries no Held; name it in evidence/data.py"):
        run.record(gate, "t", passed=True, observed="seen", data=Held(3))

    assert list(run.folder.iterdir()) == []


def test_the_played_run_is_one_that_could_be_written(tmp_path: Path) -> None:
    """What stands for a run in other tests has no key that no writer writes."""
    assert [seen for seen in play(tmp_path / "run").evidence() if isinstance(seen.data, Unread)] == []


def test_the_schema_of_lines_is_current() -> None:
    """It is exported from the classes, never edited."""
    schema = json.loads((ROOT / "docs" / "evidence.schema.json").read_text(encoding="utf-8"))

    assert schema == lines_schema(), "write it again: python -m rehearsal.evidence > docs/evidence.schema.json"


def test_every_line_of_a_run_fits_the_schema(tmp_path: Path) -> None:
    """Those of a played run, and one of each class as it is written."""
    played, run, schema = play(tmp_path / "played"), Run.create(tmp_path, "local", "finance"), lines_schema()
    for gate, data, _ in LINES:
        run.record(gate, "t", passed=None, observed="seen", data=data)
    files = [of_run.folder / name for of_run in (played, run) for name in ("evidence.jsonl", "events.jsonl")]
    lines = [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]

    assert len(lines) > 100
    assert [found for line in lines for found in problems(line, schema, schema)] == []


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"gate": "lock-budget", "data": {"hold_ms": 3}}, "$: fits none"),
        ({"gate": "smoke", "data": {"held_ms": 3}}, "$: fits none"),
        ({"gate": "lock-budget", "data": {"held_ms": 3}, "passed": "yes"}, "$: fits none"),
    ],
)
def test_a_line_that_nobody_writes_does_not_fit(given: dict[str, object], fault: str) -> None:
    """The witness."""
    schema = lines_schema()
    line = {"subject": "t", "passed": True, "observed": "seen", "phase": "", "at": "", **given}

    assert [found[: len(fault)] for found in problems(line, schema, schema)] == [fault]


def written(root: Path) -> Iterator[tuple[str, str]]:
    """Yield gate and class wherever evidence is recorded with data; of a gate that is a variable, the class alone."""
    classes = {name for name, member in vars(seams).items() if isinstance(member, type) and issubclass(member, Data)}
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "record":
                gate = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else ""
                inner = [part for argument in node.args[4:] for part in ast.walk(argument)]
                names = {
                    node.func.id for node in inner if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
                }
                yield from ((str(gate), name) for name in names & classes)


def test_the_table_names_every_gate_that_has_data_and_no_stranger() -> None:
    """Whatever is recorded is named, whatever is named is recorded somewhere."""
    found = set(written(ROOT / "rehearsal"))
    named = {(gate, kind.__name__) for gate, several in CARRIED.items() for kind in several}
    by_variable = {(gate, name) for gate, name in named if ("", name) in found}

    assert set(CARRIED) <= {gate.id for gate in GATES}
    assert {(gate, name) for gate, name in found if gate} <= named
    assert named - by_variable - BY_NAME == {(gate, name) for gate, name in found if gate}
    assert by_variable == {("parity-after", "Parity")}


# Data that have a name before they are recorded.
BY_NAME = {
    ("baseline", "Baseline"),
    ("monitoring", "Listed"),
    ("source-scan", "Listed"),
}
