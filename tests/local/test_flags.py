"""Rolling flips of the routing flags, on real processes under a real process manager."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rehearsal.flags import FlipResult, Routing, read_routing, set_flags, show_flags
from tests.local.conftest import PLAN, Local

pytestmark = pytest.mark.slow
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
    return set_flags(place.env, PLAN, reads=True, writes=True, run=place.run, restart_timeout_s=timeout_s)


def test_a_flip_goes_server_by_server_and_a_second_one_restarts_nobody(flags: Local) -> None:
    """Each server has the flags in its file and in its process afterwards."""
    first, second = flip(flags), flip(flags)

    assert [one.server for one in first.servers] == ["@process/app1", "@process/app2"]
    assert (first.ok, [one.restarted for one in first.servers]) == (True, [True, True])
    assert (second.ok, [one.restarted for one in second.servers]) == (True, [False, False])
    assert [seen(flags, 1), seen(flags, 2)] == [(ON, ON)] * 2
    assert "PORT=" in (flags.base / "apps" / "app1.env").read_text()


def test_a_server_that_refuses_the_new_flags_stops_the_flip_and_all_go_back(flags: Local) -> None:
    """The first server was flipped already: it is legacy again, and so is the broken one."""
    (flags.base / "app2.refuses").touch()

    result = flip(flags, timeout_s=2)

    assert (result.ok, result.reverted) == (False, True)
    assert result.error
    assert "@process/app2: not healthy within 2 s" in result.error
    assert "app2.log" in result.error
    assert [seen(flags, 1), seen(flags, 2)] == [(OFF, OFF)] * 2


def test_a_health_answer_with_another_routing_stops_the_flip_at_the_first_server(flags: Local) -> None:
    """Up is not enough: the process must say that it runs with the wanted flags. The second server is not touched."""
    (flags.base / "app1.lies").touch()

    result = flip(flags, timeout_s=1)

    assert [(one.server, one.reverted) for one in result.servers] == [("@process/app1", True)]
    assert "runs with reads legacy, writes legacy, wanted reads partitioned" in (result.error or "")


def test_a_file_edited_by_hand_shows_as_drift_and_the_next_flip_repairs_it(flags: Local) -> None:
    """What the file says and what the process runs with are seen apart."""
    path = flags.base / "apps" / "app1.env"
    path.write_text(path.read_text().replace("USE_PARTITIONED_TABLES=false", "USE_PARTITIONED_TABLES=true"))

    drifted, other = show_flags(flags.env, PLAN)
    repaired = set_flags(flags.env, PLAN, reads=True, writes=False)

    assert (drifted.drift, drifted.file, drifted.process) == (True, Routing(reads=True, writes=False), OFF)
    assert (other.drift, other.file, other.process) == (False, OFF, OFF)
    assert [one.restarted for one in repaired.servers] == [True, True]
    assert not drifted.problem
