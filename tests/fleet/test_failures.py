"""What can go wrong with a host: each time a clear message, a known state of all, and a second run that ends it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rehearsal.application.flags import show_flags
from rehearsal.application.rollout import FlipResult
from rehearsal.environment import Database
from rehearsal.errors import CannotSee
from rehearsal.plan.model import Smoke
from tests.fix_fleet import NAMES, OFF, ON, Fleet
from tests.fleet.relay import Relay
from tests.fleet.test_flip import PLAN, flip

pytestmark = pytest.mark.slow


def rest_is_as_it_was(fleet: Fleet, pids: list[str]) -> bool:
    return fleet.seen == [(OFF, OFF)] * len(fleet.servers) and [server.pid for server in fleet.servers] == pids


def wrong_key(fleet: Fleet) -> str:
    fleet[4].extra["ssh_key"] = str(fleet.folder / "app1.hostkey")
    return "Authentication error"


def changed_host(fleet: Fleet) -> str:
    fleet[4].extra["ssh_port"] = fleet[5].ssh_port
    lines = (fleet.folder / "known_hosts").read_text().splitlines()
    four, five = (f"[127.0.0.1]:{fleet[number].ssh_port} " for number in (4, 5))
    key = next(line for line in lines if line.startswith(four)).removeprefix(four)
    own = fleet.folder / "known_hosts_4"
    own.write_text(f"{five}{key}\n")
    fleet[4].extra["ssh_known_hosts_file"] = str(own)
    return "does not match"


def unknown_host(fleet: Fleet) -> str:
    own = fleet.folder / "known_hosts_none"
    own.write_text("")
    fleet[4].extra["ssh_known_hosts_file"] = str(own)
    return "No host key for"


def host_down(fleet: Fleet) -> str:
    fleet[4].stop_sshd()
    return "Could not connect"


def wrong_sudo(fleet: Fleet) -> str:
    fleet[4].extra.update(_sudo=True, _sudo_user="nosuchuser")
    return "check _sudo, _sudo_user"


def no_env_file(fleet: Fleet) -> str:
    fleet[4].extra["env_file"] = str(fleet.folder / "none.env")
    return "No such file or directory"


@pytest.mark.parametrize("defect", [host_down, wrong_key, changed_host, unknown_host, wrong_sudo, no_env_file])
def test_a_host_that_cannot_be_looked_at_stops_a_flip_before_anything_is_touched(fleet: Fleet, defect: Any) -> None:
    """The message names the server and why; nobody was restarted; the others are seen all the same."""
    pids = [server.pid for server in fleet.servers]
    extra, files = dict(fleet[4].extra), fleet[4].env_file
    said = defect(fleet)

    with pytest.raises(CannotSee, match=r"cannot read the flags of app4: .*nothing was changed") as caught:
        flip(fleet, batch="100%")

    assert said in str(caught.value)
    assert caught.value.exit_code == 3
    fleet[4].extra = extra
    assert fleet[4].env_file == files
    assert rest_is_as_it_was(fleet, pids)


def test_flags_that_came_with_an_error_are_named_and_nobody_keeps_new_ones(fleet: Fleet) -> None:
    """Its command printed them and failed, later than all others were seen: this server is named, not the first."""
    now = f"sleep 1; cat {shlex.quote(str(fleet[4].env_file))}; echo cut off; exit 1"
    fleet[4].extra["app_flags_now"] = f"sh -c {shlex.quote(now)}"

    result = flip(fleet, batch="100%", timeout_s=5)

    assert failed_at(result, "app4", "cannot read the flags: cut off")
    assert fleet.seen == [(OFF, OFF)] * 6


def test_a_server_that_is_left_out_does_not_stop_the_others(fleet: Fleet) -> None:
    """The host is down; the limit names the rest; later the same flip without a limit does what is left."""
    fleet[4].stop_sshd()

    part = flip(fleet, batch="100%", limit=("app[123]", "app5", "app6"))
    fleet[4].start_sshd()
    whole = flip(fleet, batch="100%")

    assert (part.ok, len(part.servers)) == (True, 5)
    assert [server.server for server in whole.servers if server.restarted] == ["app4"]
    assert fleet.seen == [(ON, ON)] * 6


def failed_at(result: FlipResult, server: str, *said: str) -> bool:
    error = result.error or ""
    return error.startswith(f"{server}: ") and all(part in error for part in said) and result.reverted is True


def test_a_health_answer_that_lies_stops_the_flip(fleet: Fleet) -> None:
    """Up is not enough: it must say that it runs with the wanted flags; so must the answer be its own."""
    fleet[2].misbehave("lies")
    lying = flip(fleet, batch="3", timeout_s=1)
    fleet[2].misbehave("lies", stop=True)

    assert failed_at(lying, "app2", "it runs with reads legacy, writes legacy, wanted reads partitioned")
    assert fleet.seen == [(OFF, OFF)] * 6

    five = replace(fleet.env.app_servers[4], url=fleet[6].url)
    problem = show_flags(fleet.env, PLAN, [five])[0].problem
    assert problem == f"{fleet[6].url} is answered by 'app6', not by 'app5'; correct `app_url` in the inventory"


@pytest.mark.parametrize("batch", ["3", "100%"])
def test_a_full_disk_leaves_the_env_file_whole(fleet: Fleet, batch: str) -> None:
    """The file system of one env file is full: its flags are as they were, the others go back, and room mends it."""
    with full_disk(fleet) as filler:
        before = fleet[2].env_file.read_bytes()
        result = flip(fleet, batch=batch, timeout_s=5)

        assert failed_at(result, "app2", "No space left on device", "writing the flags failed, exit code 1")
        assert fleet[2].env_file.read_bytes() == before
        assert [path.name for path in fleet[2].env_file.parent.iterdir() if path != filler] == ["app2.env"]
        assert fleet.seen == [(OFF, OFF)] * 6

        filler.unlink()
        assert flip(fleet, batch="100%").ok
        assert fleet.seen == [(ON, ON)] * 6


@contextmanager
def full_disk(fleet: Fleet) -> Iterator[Path]:
    """Put the env file of the second server on a file system without a free block."""
    folder = fleet.folder / "small"
    folder.mkdir(exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", str(folder)], check=False).returncode:
        pytest.skip("may not mount a file system here")
    try:
        fleet[2].extra["env_file"] = str(folder / "app2.env")
        fleet[2].write_flags(OFF)
        fleet[2].write_restart()
        filler = folder / "filler"
        subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=4k"], stderr=subprocess.DEVNULL, check=False)
        yield filler
    finally:
        fleet[2].stop_app()
        subprocess.run(["umount", str(folder)], check=True)


def test_a_host_that_goes_down_in_the_middle_is_named_and_the_others_go_back(fleet: Fleet) -> None:
    """Its sshd ends while another server is drained: what became of it is said to be unseen, never assumed."""
    sshd = fleet[4].sshd
    assert sshd is not None
    fleet[3].extra["app_drain"] = ["kill", str(sshd.pid)]

    result = flip(fleet, batch="3", timeout_s=5)
    sshd.wait(timeout=10)

    assert (result.error or "").startswith("app4: "), result.error
    assert "Could not connect" in (result.error or "")
    assert {server.server: server.reverted for server in result.servers} == {
        "app1": True, "app2": True, "app3": True, "app4": False, "app5": True, "app6": True
    }  # fmt: skip
    assert "the rollback failed too" in (result.servers[3].error or "")
    assert fleet.seen == [(OFF, OFF)] * 6

    del fleet[3].extra["app_drain"]
    fleet[4].start_sshd()
    assert flip(fleet, batch="100%").ok
    assert fleet.seen == [(ON, ON)] * 6


def test_an_app_that_dies_after_its_turn_stops_the_next_batch(fleet: Fleet) -> None:
    """Probes go to every flipped server, not to the last batch alone; a hook ends the first one's process."""
    fleet[4].extra["app_undrain"] = f"sh -c 'cd {fleet.folder}; mkdir once && kill -9 $(cat app1.pid) || true'"

    result = flip(fleet, batch="3", timeout_s=5)

    # What the first one meets depends on how far the death has come.
    assert "error rate after batch 2: 3 of 18 probe requests failed, first: app1 /health: " in (result.error or "")
    assert "before the rollout 0 of 18" in (result.error or "")
    assert result.reverted is True
    assert fleet.seen == [(OFF, OFF)] * 6


def test_requests_that_fail_with_the_new_routing_stop_the_flip_after_the_canary(fleet: Fleet) -> None:
    """Health is well, the plan's own request is not: one server had it, five never."""
    fleet[1].misbehave("errs")
    plan = PLAN.model_copy(update={"smoke": [Smoke(name="report", path="/report")]})
    told = flip(fleet, canary=1, batch="100%", plan=plan)

    assert told.error == (
        "error rate after batch 1: 3 of 3 probe requests failed, first: app1 /report: status 500 instead of 200; "
        "before the rollout 0 of 3 probe requests failed"
    )
    assert (told.reverted, len(told.untouched)) == (True, 5)
    assert fleet.seen == [(OFF, OFF)] * 6


def test_hooks_surround_each_turn_and_a_failing_one_stops_the_flip(fleet: Fleet) -> None:
    """Drained before the restart, back after health, and back too where the flip before was killed in between."""
    log, pids = fleet.folder / "hooks", [server.pid for server in fleet.servers]
    for server in fleet.servers:
        server.extra["app_drain"] = ["sh", "-c", f"echo drain {{server}} >>{log}"]
        server.extra["app_undrain"] = f"sh -c 'echo undrain {{server}} {{host}} {{url}} >>{log}'"
    assert flip(fleet, batch="100%", limit=("app1",)).ok
    assert flip(fleet, batch="100%", limit=("app1",)).ok
    back = f"undrain app1 app1 {fleet[1].url}"
    assert log.read_text().splitlines() == ["drain app1", back, back]

    fleet[3].extra["app_drain"] = ["sh", "-c", "echo the balancer does not know app3 >&2; exit 7"]
    result = flip(fleet, batch="2", timeout_s=5)
    assert result.error == "app3: app_drain exited with status 7: the balancer does not know app3"
    assert [(server.server, server.restarted) for server in result.servers if server.reverted] == [
        ("app2", True),
        ("app3", False),
        ("app4", False),
    ]
    assert fleet[4].pid == pids[3]
    assert fleet.seen == [(ON, ON), *[(OFF, OFF)] * 5]
    log.unlink()


def test_a_network_cut_between_app_and_database_during_the_flip_goes_back(fleet: Fleet, database: Database) -> None:
    """The real app, its database behind a relay: cut when the server is drained, mended when it is drained again."""
    with Relay(database.host, database.port) as relay:
        server = fleet[2]
        server.command = (sys.executable, "-m", "example_app")
        server.extra["app_drain"] = [
            "sh",
            "-c",
            f"cd {relay.cut_file.parent}; rm cut || test -e once || touch cut once",
        ]
        server.write_restart()
        url = f"postgresql://{database.user}:{database.password}@127.0.0.1:{relay.port}/{database.name}"
        lines = [f"DATABASE_URL={shlex.quote(url)}", f"PORT={server.app_port}", "SERVER_NAME=app2"]
        server.env_file.write_text("\n".join([*lines, *(f"{name}=false" for name in NAMES)]) + "\n")
        server.stop_app()
        server.start_app()

        result = flip(fleet, batch="2", timeout_s=8)

        assert (result.error or "").startswith("app2: not healthy within 8 s: 503"), result.error
        assert "database does not answer" in (result.error or "")
        assert flip(fleet, batch="100%", timeout_s=60).ok
        assert [file for file, _ in fleet.seen] == [ON] * 6
        server.stop_app()


def test_ports_hops_and_configured_hosts_are_reached(fleet: Fleet) -> None:
    """A jump host in an SSH configuration: the third server is reached through the first one."""
    config = fleet.folder / "hop_config"
    known = f"UserKnownHostsFile {fleet.folder}/known_hosts\n  StrictHostKeyChecking yes\n"
    config.write_text(
        f"Host bastion\n  HostName 127.0.0.1\n  Port {fleet[1].ssh_port}\n  User {os.environ.get('USER', 'root')}\n"
        f"  IdentityFile {fleet.folder}/key\n  {known}Host inner\n  HostName 127.0.0.1\n  ProxyJump bastion\n  {known}"
    )
    fleet[3].extra.update(ssh_hostname="inner", ssh_config_file=str(config))
    log = fleet.folder / "app1.sshd.log"
    before = log.read_text().count("Accepted publickey")

    assert flip(fleet, batch="100%", limit=("app3",)).ok

    assert log.read_text().count("Accepted publickey") > before
    assert fleet[3].file == ON
