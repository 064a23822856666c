"""Rolling flips of the routing flags, on real processes under a real process manager."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rehearsal.application.flags import Routing, read_routing, show_flags
from rehearsal.application.rollout import FlipResult, Rollout, set_flags
from tests.local.conftest import PLAN, ROOT, Local
from tests.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.long]
OFF, ON = Routing(reads=False, writes=False), Routing(reads=True, writes=True)


@pytest.fixture
def flags(place: Local) -> Iterator[Local]:
    """Both servers on legacy before the test, whatever the one before left."""
    if any(seen(place, number) != (OFF, OFF) for number in (1, 2)):
        assert set_flags(place.env, PLAN, reads=False, writes=False).ok
    yield place
    for path in (*place.base.glob("*.lies"), *place.base.glob("*.refuses")):
        path.unlink()


def seen(place: Local, number: int) -> tuple[Routing, Routing | None]:
    """Return the flags of a server's file and of its process, looked at without the code under test."""
    lines = (place.base / "apps" / f"app{number}.env").read_text().splitlines()
    file = Routing(reads="USE_PARTITIONED_TABLES=true" in lines, writes="ENABLE_PARTITION_ROUTING=true" in lines)
    return file, read_routing(place.env.app_servers[number - 1])[0]


def flip(place: Local, *, timeout_s: float = 10) -> FlipResult:
    return set_flags(place.env, PLAN, reads=True, writes=True, run=place.run, rollout=Rollout(timeout_s=timeout_s))


def test_a_flip_changes_what_differs_and_restarts_nobody_else(flags: Local) -> None:
    """On; on again; then one file is edited by hand, which shows as drift; and off again."""
    first, second = flip(flags), flip(flags)

    assert [server.server for server in first.servers] == ["@process/app1", "@process/app2"]
    assert (first.ok, [server.restarted for server in first.servers]) == (True, [True, True])
    assert (second.ok, [server.restarted for server in second.servers]) == (True, [False, False])
    assert [seen(flags, 1), seen(flags, 2)] == [(ON, ON)] * 2

    path = flags.base / "apps" / "app1.env"
    path.write_text(path.read_text().replace("USE_PARTITIONED_TABLES=true", "USE_PARTITIONED_TABLES=false"))
    drifted, other = show_flags(flags.env, PLAN)
    back = set_flags(flags.env, PLAN, reads=False, writes=False)

    assert (drifted.drift, drifted.file, drifted.process) == (True, Routing(reads=False, writes=True), ON)
    assert (other.drift, other.file, other.process) == (False, ON, ON)
    assert (back.ok, [server.restarted for server in back.servers]) == (True, [True, True])
    assert path.read_text().count("PORT=") == 1
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_server_that_refuses_the_new_flags_stops_the_flip_and_all_go_back(flags: Local) -> None:
    """The first server was flipped already: it is legacy again, and so is the broken one."""
    (flags.base / "app2.refuses").touch()

    result = flip(flags, timeout_s=3)

    assert (result.ok, result.reverted) == (False, True)
    assert result.error
    assert "@process/app2: not healthy within 3 s" in result.error
    assert "app2.log" in result.error
    assert [seen(flags, 1), seen(flags, 2)] == [(OFF, OFF)] * 2


def test_a_health_answer_with_another_routing_stops_the_flip_at_the_first_server(flags: Local) -> None:
    """Up is not enough: the process must say that it runs with the wanted flags. The second server is not touched."""
    (flags.base / "app1.lies").touch()

    result = flip(flags, timeout_s=3)

    assert [(server.server, server.reverted) for server in result.servers] == [("@process/app1", True)]
    assert "runs with reads legacy, writes legacy, wanted reads partitioned" in (result.error or "")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder like the project's with one plan, that of these tests."""
    for name in ("inventories", "sql"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans" / "hosts.toml").write_text(
        'name = "hosts"\nstrategy = "swap"\n[[tables]]\nname = "public.posts"\nkey = "created_at"\n'
    )
    return tmp_path


def command(project: Path, *words: str) -> subprocess.Popen[str]:
    """Start a verb as the command line does."""
    text = "import sys, pathlib; from rehearsal import cli; cli.ROOT = pathlib.Path(sys.argv[1]); "
    argv = [sys.executable, "-c", text + "sys.exit(cli.main(sys.argv[2:]))", str(project), *words, "--plan", "hosts"]
    return subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_flips_at_once_and_one_that_is_interrupted(flags: Local, project: Path) -> None:
    """The second is refused by name; after Ctrl-C each server's state is said, and the same command finishes."""
    words = ("flags-set", "--reads", "on", "--writes", "on", "--timeout", "3600")
    (flags.base / "app2.waits").touch()
    first = command(project, *words)
    try:
        half = [(ON, ON), (ON, None)]
        eventually(
            lambda: [seen(flags, 1), seen(flags, 2)],
            60,
            that=lambda servers: servers == half,
            unless=lambda: first.poll() is not None,
        )
        second = command(project, *words)
        said = second.communicate()[1]
        first.send_signal(signal.SIGINT)
        # Whoever stops a flip does not wait until the last server's time is up.
        out, err = first.communicate(timeout=60)
    finally:
        (flags.base / "app2.waits").unlink()
        first.kill()
        first.communicate()

    assert (second.returncode, "another run holds environment local: pid " in said) == (1, True), said
    assert "hosts-flags" in said
    assert first.returncode == 3, err
    assert re.search(
        r"^@process/app1 +reads partitioned, writes partitioned +reads partitioned, writes part", out, re.MULTILINE
    )
    assert re.search(r"^@process/app2 +reads partitioned, writes partitioned +unseen ", out, re.MULTILINE), out
    assert "to finish: `./inv flags.set --reads on --writes on`" in err

    third = command(project, *words)
    out, err = third.communicate()
    assert third.returncode == 0, out + err
    assert [seen(flags, 1), seen(flags, 2)] == [(ON, ON)] * 2

    shown = command(project, "flags-show")
    out = shown.communicate()[0]
    assert (shown.returncode, out.count("reads partitioned, writes partitioned")) == (0, 4), out
    path = flags.base / "apps" / "app2.env"
    path.write_text(path.read_text().replace("ENABLE_PARTITION_ROUTING=true", "ENABLE_PARTITION_ROUTING=false"))
    shown = command(project, "flags-show")
    out = shown.communicate()[0]
    assert (shown.returncode, "@process/app2: the file says reads partitioned, writes legacy" in out) == (1, True), out
