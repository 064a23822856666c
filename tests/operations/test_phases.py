"""A dry run of every phase of deploy.py, by the shipped inventories with their hosts made `@fake`: what would be done.

That the host layer does it, tests on hosts hold; here a task file that asks for data that no inventory has is found.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rehearsal.hosts.manifest import Change, write_manifest
from rehearsal.hosts.pyinfra import GROUPS, HostsResult, run_pyinfra
from rehearsal.plan.model import Plan, TableSpec
from tests.operations.conftest import ROOT

PLAN = Plan(name="hosts", strategy="swap", tables=[TableSpec(name="public.posts", key="created_at")])
PASSWORD = "unmistakable"
# Phase, inventory, data; `roles` has a task file of its own for a database that somebody else runs.
RUNS: list[tuple[str, str, dict[str, Any]]] = [
    ("hosts", "docker", {}),
    ("cluster", "local", {}),
    ("roles", "local", {"reset": True}),
    ("roles", "docker", {}),
    ("roles", "staging.example", {"db_managed": True}),
    ("migrate", "docker", {}),
    ("app", "local", {}),
    ("app", "docker", {}),
    ("app-log", "docker", {"log_sizes": {"@fake/app1": 7}}),
    ("flags", "docker", {"reads": True, "writes": False, "restart": ["@fake/app1"]}),
    ("flags", "docker", {"reads": True, "writes": False, "restart": ["@fake/app1"], "look": True}),
    ("flags-show", "staging.example", {}),
    ("db-log", "docker", {"log_since": 7, "log_pattern": "FATAL:"}),
    ("lifecycle", "docker", {}),
    ("lifecycle-job", "docker", {"job": "premake"}),
    ("lifecycle-show", "docker", {}),
]
# These look, and change nothing.
REPORTS = {"app-log", "db-log", "flags-show", "lifecycle-show"}
INVENTORY = """\
import runpy


def _faked(group):
    hosts, data = group if isinstance(group, tuple) else (group, {{}})
    pairs = ((host, {{}}) if isinstance(host, str) else host for host in hosts)
    answers = {{"said=$({{": ["USE_PARTITIONED_TABLES=true", "ENABLE_PARTITION_ROUTING=false", "seen"]}}
    own = {{"fake_delay": 0, "fake_delay_jitter": 0, "fake_responses": answers}}
    return [("@fake/" + name.rpartition("/")[2], {{**more, **own}}) for name, more in pairs], data


_groups = runpy.run_path({path!r})
database, app, monitor, clock = (
    _faked(_groups.get(group, [])) for group in ("database", "app", "monitor", "clock")
)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with all that the inventories point at on this machine, which a dry run leaves as it is."""
    base = tmp_path / "base"
    for name in ("tls/server.key", "tls/server.crt", "tls/ca.crt", "cluster/superuser.password"):
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_text(PASSWORD)
    (base / "secrets").mkdir()
    for name in ("migrator", "app", "monitor", "parity", "rehearsal"):
        (base / "secrets" / f"{name}.password").write_text(PASSWORD)
    (base / "app").mkdir()
    (base / "app" / "bundle.json").write_text('{"archive": "/nowhere/app.tar.gz", "digest": "abc"}')
    (tmp_path / "inventories").mkdir()
    (tmp_path / "inventories" / "group_data").symlink_to(ROOT / "inventories" / "group_data")
    write_manifest(base, "hosts_docker", [Change("hosts/001", "select 1;")])
    monkeypatch.setenv("REHEARSAL_LOCAL_BASE", str(base))
    # Given ports, or the inventory would look for free ones and write them down.
    monkeypatch.setenv("REHEARSAL_LOCAL_DB_PORT", "25571")
    monkeypatch.setenv("REHEARSAL_LOCAL_APP_PORT", "28271")
    monkeypatch.setenv("REHEARSAL_DOCKER_BASE", str(base))
    monkeypatch.setenv("REHEARSAL_DOCKER_SUBNET", "10.213.7.0/24")
    monkeypatch.setenv("REHEARSAL_MIGRATOR_PASSWORD", PASSWORD)
    before = {path: path.stat().st_mtime_ns for path in base.rglob("*")}
    yield tmp_path
    assert {path: path.stat().st_mtime_ns for path in base.rglob("*")} == before


def dry_run(folder: Path, phase: str, inventory: str, data: dict[str, Any]) -> HostsResult:
    """Ask what a phase would do; raises if pyinfra does not end with 0, or a host is missing."""
    path = folder / "inventories" / f"{inventory}.py"
    path.write_text(INVENTORY.format(path=str(ROOT / "inventories" / f"{inventory}.py")))
    manifest = next((folder / "base").rglob("manifest.json"))
    data = {**data, "manifest": str(manifest)} if phase == "migrate" else data
    return run_pyinfra(path, phase, plan=PLAN, data=data, dry=True)


def is_sentence(name: str) -> bool:
    """Whether an operation has a name of its own, not that of its function; no value of a host stands in it."""
    return bool(re.match(r"[A-Z][a-z]+ \S", name)) and PASSWORD not in name


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(("phase", "inventory", "data"), RUNS)
def test_a_phase_plans_by_name_and_does_nothing(folder: Path, phase: str, inventory: str, data: dict[str, Any]) -> None:
    """Every host of its groups has something to do, or to report; nothing ran; no password is in what is said."""
    result = dry_run(folder, phase, inventory, data)

    assert (result.returncode, result.failed, result.operations) == (0, (), ())
    assert [name for _, name in result.planned if not is_sentence(name)] == []
    assert PASSWORD not in result.log
    assert {host for host, _ in result.planned} == (set() if phase in REPORTS else set(result.expected))
    assert set(result.would_change) <= set(result.planned)
    assert bool(result.would_change) != (phase in REPORTS)
    if phase in REPORTS:
        assert set(result.reports) == set(result.expected)
    if phase == "flags":
        # The other server has these flags: were it planned for, it would be for a refusal.
        assert {host for host, _ in result.would_change} == {"@fake/app1"}
        assert set(result.reports) == (set(result.expected) if data.get("look") else set())
    if phase == "flags-show":
        assert {report["problem"] for report in result.reports.values()} == {None}


def constants(path: Path) -> set[str]:
    """Return the texts in a Python file."""
    return {
        node.value
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def phases() -> set[str]:
    """Return the phases of deploy.py: keys of its table, and what it compares a phase with."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / "deploy.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Dict):
            found |= {str(key.value) for key in node.keys if isinstance(key, ast.Constant)}
        elif isinstance(node, ast.Compare) and ast.unparse(node.left) == "phase":
            found |= {
                part.value
                for part in node.comparators
                if isinstance(part, ast.Constant) and isinstance(part.value, str)
            }
    return found


def test_every_phase_has_a_dry_run_and_is_known_to_the_engine() -> None:
    """Completeness: a new phase needs a line in `RUNS`; a new task file belongs to a phase."""
    assert phases() == {phase for phase, _, _ in RUNS} == set(GROUPS)
    task_files = {f"tasks/{path.name}" for path in (ROOT / "tasks").glob("*.py")}
    used = set().union(*(constants(path) for path in (ROOT / "deploy.py", *(ROOT / "tasks").glob("*.py"))))
    assert task_files <= used


def test_every_operation_and_fact_of_ours_is_tried_here() -> None:
    """Completeness: a new one needs a test of what it decides, or of what it reads."""
    defined: set[str] = set()
    for path in (ROOT / "fleet").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_operation = isinstance(node, ast.FunctionDef) and any(
                ast.unparse(decorator) == "operation()" for decorator in node.decorator_list
            )
            is_fact = isinstance(node, ast.ClassDef) and any("FactBase" in ast.unparse(base) for base in node.bases)
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and (is_operation or is_fact):
                defined.add(f"{path.stem}.{node.name}")
    tried = set().union(*(constants(path) for path in Path(__file__).parent.glob("test_*.py")))

    assert len(defined) > 20
    assert sorted(defined - tried) == []
