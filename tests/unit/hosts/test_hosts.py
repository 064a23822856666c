"""How a run of pyinfra is judged, and what a wrong environment is told. No host is needed to be wrong."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from rehearsal.application.flags import Routing, ServerFlags
from rehearsal.application.rollout import FlipResult, ServerFlip
from rehearsal.errors import UsageError
from rehearsal.evidence.run import Run
from rehearsal.hosts.inventory import find_inventory, load_environment
from rehearsal.hosts.pyinfra import HostsResult, OperationResult, run_pyinfra
from rehearsal.plan.model import Plan, TableSpec
from rehearsal.rehearse.phase import StopHere
from rehearsal.rehearse.routing import require_flip

PLAN = Plan(name="hosts", strategy="swap", tables=[TableSpec(name="public.posts", key="created_at")])
GOOD = OperationResult("db", "Make the role", ok=True, changed=True, seconds=0.1)
BAD = OperationResult("db", "Make the role", ok=False, changed=False, seconds=0.1, stderr="psql: error: no\nroute\n")


def result(**values: object) -> HostsResult:
    """Return a run that went well, but for the given values."""
    well: dict[str, object] = {
        "phase": "roles",
        "returncode": 0,
        "seconds": 1.0,
        "expected": ("db",),
        "failed": (),
        "operations": (GOOD,),
        "reports": {},
        "planned": (("db", GOOD.name),),
        "would_change": (),
    }
    return HostsResult(**{**well, **values})  # type: ignore[arg-type]  # values of a test


def test_a_good_run_is_a_success_and_counts_what_changed() -> None:
    """The witness for the failures below."""
    assert (result().ok, result().reason, result().changed) == (True, None, 1)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"operations": (GOOD, BAD)}, "db: make the role failed: psql: error: no | route"),
        ({"failed": ("db",)}, "no connection to db"),
        (
            {"returncode": 1, "log": "--> Connecting\nfleet.passwords.PasswordError: no file\n"},
            "in the phase roles: no file",
        ),
        ({"expected": (), "planned": (), "operations": ()}, "no host did anything in the phase roles"),
        ({"planned": (), "operations": ()}, "no host did anything in the phase roles"),
        ({"timed_out": True, "returncode": -1}, "took longer than its 1 s"),
    ],
)
def test_each_way_to_fail_is_a_failure_with_its_reason(values: dict[str, object], reason: str) -> None:
    """The exit code alone would call half of these a success."""
    broken = result(**values)

    assert not broken.ok
    assert reason in (broken.reason or "")


def test_an_unknown_environment_is_told_the_nearest_and_all_known() -> None:
    """The example inventory is not an environment."""
    with pytest.raises(UsageError, match=r"no environment 'locla'; did you mean 'local'\? there are .*local"):
        find_inventory("locla")
    with pytest.raises(UsageError, match="there are"):
        find_inventory("staging.example")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"pooler": "statement"}, "is 'statement'; it must be session or transaction, or be left out"),
        ({"pooler": "session", "env_kind": "local"}, "is not for the environment local"),
        ({"pooler": "session", "db_sslmode": "verify-full"}, "needs `db_sslrootcert`, since `db_sslmode` is verify"),
        ({"pooler": "transaction", "db_sslmode": "require"}, None),
        ({"pooler": ""}, None),
        ({}, None),
    ],
)
def test_a_pooler_that_cannot_be_had_is_refused_when_the_inventory_is_read(
    tmp_path: Path, values: dict[str, str], told: str | None
) -> None:
    """Before any host is asked; without a pooler, or with one that can be had, the environment is read."""
    (tmp_path / "inventories").mkdir()
    everywhere = {
        "env_kind": "staging",
        "db_host": "db1",
        "db_port": 5432,
        "db_name": "finance",
        "db_migrator": "rehearsal",
        "db_app_role": "app",
        "backup_dir": str(tmp_path),
        "admin_email": "dba@example.org",
        "app_url": "http://app1:8000",
    }
    text = f"database = (['db1'], {everywhere!r})\napp = (['app1'], {everywhere | values!r})\n"
    (tmp_path / "inventories" / "mine.py").write_text(text)
    if told is None:
        assert load_environment("mine", "hosts", tmp_path, secrets=False).app_servers[0].name == "app1"
        return
    with pytest.raises(UsageError, match=r"`pooler` of app1 in the inventory .*mine\.py") as caught:
        load_environment("mine", "hosts", tmp_path, secrets=False)
    assert told in str(caught.value)


def test_an_unknown_phase_is_told_all_known(tmp_path: Path) -> None:
    """Nothing is started."""
    with pytest.raises(UsageError, match=r"unknown phase 'rolls'.*roles"):
        run_pyinfra(tmp_path / "none.py", "rolls", plan=PLAN)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("app = []\n", "has 0 hosts in the group `database`"),
        (
            'database = [("@process/db", {"db_host": "127.0.0.1"})]\n',
            "does not say `db_migrator_password` for @process/db",
        ),
        ("database = 1 / 0\n", "cannot read the inventory.*division by zero"),
    ],
)
def test_a_wrong_inventory_names_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    """Each message names the file and the key."""
    (tmp_path / "inventories").mkdir()
    (tmp_path / "inventories" / "odd.py").write_text(text)

    with pytest.raises(UsageError, match=rf"(?s){message}"):
        load_environment("odd", "hosts", tmp_path)


def test_what_was_not_seen_is_neither_drift_nor_a_success() -> None:
    """None stays None; one server that is not back is enough to say so."""
    on, off = Routing(reads=True, writes=True), Routing(reads=False, writes=False)
    unseen = ServerFlags("app1", on, None)
    flips = (ServerFlip("app1", unseen, reverted=True), ServerFlip("app2", unseen, reverted=False))

    assert (unseen.drift, ServerFlags("app1", on, off).drift, ServerFlags("app1", on, on).drift) == (None, True, False)
    assert FlipResult(on, flips).reverted is None
    assert FlipResult(on, flips, "app2: broken").reverted is False
    assert str(Routing(reads=True, writes=False)) == "reads partitioned, writes legacy"


def test_a_flip_that_the_error_rate_stopped_fails_the_gate_though_no_server_did(tmp_path: Path) -> None:
    """What was put back and what was not touched are failures too: none of them has the wanted flags."""
    on, off = Routing(reads=True, writes=True), Routing(reads=False, writes=False)
    flags = ServerFlags("app1", off, off)
    flip = FlipResult(on, (ServerFlip("app1", flags, flags, reverted=True),), "error rate after batch 1", ("app2",))
    run = Run.create(tmp_path, "local", "flags")

    with pytest.raises(StopHere):
        require_flip(SimpleNamespace(run=run), flip)  # type: ignore[arg-type]  # only the run is asked

    seen = [(seen.gate, seen.subject, seen.passed) for seen in run.evidence()]
    assert seen == [("flags", name, False) for name in ("app1", "app2", "the fleet")]
