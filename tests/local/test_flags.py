"""Rolling flips of the routing flags, on real processes under a real process manager."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rehearsal.flags import Routing, read_routing, show_flags
from rehearsal.flip import FlipResult, Rollout, set_flags
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
    return set_flags(place.env, PLAN, reads=True, writes=True, run=place.run, rollout=Rollout(timeout_s=timeout_s))


def test_a_flip_changes_what_differs_and_restarts_nobody_else(flags: Local) -> None:
    """On; on again; then one file is edited by hand, which shows as drift; and off again."""
    first, second = flip(flags), flip(flags)

    assert [one.server for one in first.servers] == ["@process/app1", "@process/app2"]
    assert (first.ok, [one.restarted for one in first.servers]) == (True, [True, True])
    assert (second.ok, [one.restarted for one in second.servers]) == (True, [False, False])
    assert [seen(flags, 1), seen(flags, 2)] == [(ON, ON)] * 2

    path = flags.base / "apps" / "app1.env"
    path.write_text(path.read_text().replace("USE_PARTITIONED_TABLES=true", "USE_PARTITIONED_TABLES=false"))
    drifted, other = show_flags(flags.env, PLAN)
    back = set_flags(flags.env, PLAN, reads=False, writes=False)

    assert (drifted.drift, drifted.file, drifted.process) == (True, Routing(reads=False, writes=True), ON)
    assert (other.drift, other.file, other.process) == (False, ON, ON)
    assert (back.ok, [one.restarted for one in back.servers]) == (True, [True, True])
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

    assert [(one.server, one.reverted) for one in result.servers] == [("@process/app1", True)]
    assert "runs with reads legacy, writes legacy, wanted reads partitioned" in (result.error or "")
