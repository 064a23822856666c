"""Rolling flips over six hosts by real SSH: their order, their gates, and every way in which a host can fail."""

from __future__ import annotations

import re
from typing import Any

import pytest

from fleet.managers import manager_of
from rehearsal.application.flags import disagreements, show_flags
from rehearsal.application.rollout import FlipResult, Rollout, set_flags
from rehearsal.environment import AppServer
from rehearsal.errors import UsageError
from rehearsal.plan.model import Plan, TableSpec
from tests.fix_fleet import NAMES, OFF, ON, Fleet

pytestmark = pytest.mark.slow
PLAN = Plan(name="hosts", strategy="swap", tables=[TableSpec(name="public.posts", key="created_at")])


def flip(fleet: Fleet, *, on: bool = True, timeout_s: float = 20, plan: Plan = PLAN, **how: object) -> FlipResult:
    rollout = Rollout(timeout_s=timeout_s, **how)  # type: ignore[arg-type]  # values of a test
    return set_flags(fleet.env, plan, reads=on, writes=on, rollout=rollout)


def test_a_flip_goes_canary_first_then_batch_by_batch_and_is_not_repeated(fleet: Fleet) -> None:
    """One canary, then half of six at once; a second run restarts nobody; other lines and the mode stay."""
    pids = [server.pid for server in fleet.servers]

    first = flip(fleet, canary=1, batch="50%")
    after = [server.pid for server in fleet.servers]
    second = flip(fleet, canary=1, batch="50%")

    assert first.error is None
    assert [(server.server, server.batch) for server in first.servers] == [
        ("app1", 1), ("app2", 2), ("app3", 2), ("app4", 2), ("app5", 3), ("app6", 3),
    ]  # fmt: skip
    assert [server.restarted for server in first.servers] == [True] * 6
    assert fleet.seen == [(ON, ON)] * 6
    assert not set(pids) & set(after)
    assert (second.ok, [server.restarted for server in second.servers]) == (True, [False] * 6)
    assert [server.pid for server in fleet.servers] == after
    assert fleet[1].env_file.read_text().startswith("DATABASE_URL='postgresql://app:se%20cret@db/x'\nLAST=1\n")
    assert fleet[1].env_file.stat().st_mode & 0o777 == 0o640


def test_a_broken_server_in_the_middle_stops_the_flip_and_all_go_back(fleet: Fleet) -> None:
    """The third of six does not come up: three are back, three were never touched, and the report says which."""
    fleet[3].misbehave("refuses")
    pids = [server.pid for server in fleet.servers]

    result = flip(fleet, timeout_s=2)

    assert (result.ok, result.reverted) == (False, True)
    assert (result.error or "").startswith("app3: not healthy within 2 s: ConnectError")
    assert "app3.log" in (result.error or "")
    assert [(server.server, server.reverted) for server in result.servers] == [
        ("app1", True),
        ("app2", True),
        ("app3", True),
    ]
    assert result.untouched == ("app4", "app5", "app6")
    assert fleet.seen == [(OFF, OFF)] * 6
    assert [server.pid for server in fleet.servers][3:] == pids[3:]

    fleet[3].misbehave("refuses", stop=True)
    assert flip(fleet, batch="100%").ok
    assert fleet.seen == [(ON, ON)] * 6


def connections(fleet: Fleet) -> list[int]:
    """Return how often each host was logged in to."""
    logs = [(fleet.folder / f"{server.name}.sshd.log").read_text() for server in fleet.servers]
    return [text.count("Accepted publickey") for text in logs]


def test_a_flip_in_one_batch_needs_one_connection_to_each_server(fleet: Fleet) -> None:
    """It looks at all before it touches one all the same; one that does not come up sends all of them back."""
    fleet[3].misbehave("refuses")
    failed = flip(fleet, batch="100%", timeout_s=2)
    fleet[3].misbehave("refuses", stop=True)

    assert (failed.error or "").startswith("app3: not healthy within 2 s: ConnectError")
    assert [server.reverted for server in failed.servers] == [True] * 6
    assert fleet.seen == [(OFF, OFF)] * 6

    before = connections(fleet)
    result = flip(fleet, batch="100%")

    assert connections(fleet) == [count + 1 for count in before]
    assert (result.ok, [server.restarted for server in result.servers]) == (True, [True] * 6)
    assert [(server.before.file, server.before.process) for server in result.servers] == [(OFF, OFF)] * 6
    assert fleet.seen == [(ON, ON)] * 6


def test_servers_that_differ_among_themselves_are_looked_at_first(fleet: Fleet) -> None:
    """One has the flags already, one in its file only: the first is left alone, the second is restarted."""
    fleet[1].write_flags(ON)
    fleet[1].start_app()
    fleet[2].write_flags(ON)
    pids = [server.pid for server in fleet.servers]

    result = flip(fleet, batch="100%")

    assert (result.ok, [server.restarted for server in result.servers]) == (True, [False, *[True] * 5])
    assert (result.servers[1].before.file, result.servers[1].before.process) == (ON, OFF)
    assert fleet[1].pid == pids[0]
    assert fleet.seen == [(ON, ON)] * 6


def test_show_names_drift_in_file_process_inventory_and_fleet(fleet: Fleet) -> None:
    """A file edited by hand, a server that runs alone with other flags, and an inventory that wants something else."""
    assert disagreements(show_flags(fleet.env, PLAN)) == []

    fleet[2].write_flags(ON)  # its process was not restarted
    fleet[5].write_flags(ON)
    fleet[5].start_app()
    fleet[6].extra["app_flags"] = {"reads": "on", "writes": "on"}
    found = disagreements(show_flags(fleet.env, PLAN))

    assert found[0].startswith(
        "app2: the file says reads partitioned, writes partitioned, the process runs with reads leg"
    )
    assert found[1] == "app6: the inventory wants reads partitioned, writes partitioned"
    assert "legacy as app1" in found[2]
    assert "partitioned as app5" in found[2]
    assert len(found) == 3


def test_flags_that_are_kept_elsewhere_are_read_and_set_by_commands(fleet: Fleet) -> None:
    """No env file is named: a command prints the flags, another one sets them, and a failing one is quoted."""
    store, app = fleet.folder / "store", fleet[1].env_file
    store.write_text("".join(f"{name}=false\n" for name in NAMES))
    fleet[1].extra.update(
        env_file=None,
        app_flags_now=f"cat {store}",
        app_flags_set=f"printf '%s\\n' {{flags}} >{store} && cp {store} {app}",
    )
    assert flip(fleet, limit=("app1",)).ok
    assert store.read_text().splitlines() == [f"{name}=true" for name in sorted(NAMES)]
    assert fleet.seen[0] == (ON, ON)

    fleet[1].extra["app_flags_set"] = "echo the store is read-only >&2; exit 3"
    result = flip(fleet, on=False, limit=("app1",), timeout_s=5)
    assert "the store is read-only" in (result.error or "")
    assert "writing the flags failed, exit code 3" in (result.error or "")
    assert (result.reverted, fleet.seen[0]) == (True, (ON, ON))
    store.unlink()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            {"app_manager": "upstart"},
            "app_manager is 'upstart'; it must be one of systemd, supervisord, docker, command",
        ),
        ({"app_manager": "command"}, "does not say how to restart the app (app_restart)"),
        ({"app_manager": "docker", "env_file": "/e"}, "does not say `app_container`"),
    ],
)
def test_a_manager_that_cannot_be_is_refused_by_what_it_lacks(data: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        manager_of(data)


@pytest.mark.parametrize(
    ("batch", "canary", "sizes"),
    [
        ("1", 0, [1] * 7),
        ("25%", 0, [1] * 7),
        ("3", 1, [1, 3, 3]),
        ("50%", 2, [2, 3, 2]),
        ("100%", 0, [7]),
        ("9", 9, [7]),
    ],
)
def test_batches_never_exceed_what_was_asked(batch: str, canary: int, sizes: list[int]) -> None:
    servers = [AppServer(f"app{n}", f"http://app{n}") for n in range(7)]
    batches = Rollout(canary=canary, batch=batch).batches(servers)
    assert [len(batch) for batch in batches] == sizes
    assert [server for part in batches for server in part] == servers


@pytest.mark.parametrize("how", [{"batch": "0"}, {"batch": "101%"}, {"batch": "a"}, {"canary": -1}, {"limit": ("x*",)}])
def test_a_rollout_that_cannot_be_is_a_usage_error(how: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"--(batch|limit)"):
        Rollout(**how).batches([AppServer("app1", "http://app1")])
