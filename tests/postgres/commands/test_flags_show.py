"""`flags.show` where there is nobody to ask: it says so, and what it ends with tells what that means."""

from __future__ import annotations

import pytest

from tests.fix_verbs import Managed

FLAGS = '[flags]\nreads = "USE_PARTITIONED"\nwrites = "ENABLE_PARTITIONED"\n'


@pytest.fixture
def flagged(managed: Managed) -> Managed:
    """A plan whose flags decide, on an environment that has no app server."""
    managed.write_plan("dual-write", FLAGS)
    return managed


def test_a_plan_without_flags_and_no_app_server_is_nothing_to_show(managed: Managed) -> None:
    """Nothing could disagree, so it is done; no empty table is printed."""
    managed.write_plan("swap")

    said = managed.verb("flags-show")

    wanted = "nothing to show: plan managed has no routing flags, and environment managed no app server\n"
    assert (said.code, said.text) == (0, wanted)


def test_flags_that_nobody_can_be_asked_for_were_not_seen(flagged: Managed) -> None:
    """As `flags.set` says it: an inventory that lacks its app servers must not look like a fleet that agrees."""
    said = flagged.verb("flags-show")

    assert said.code == 3, said.text
    assert said.text.startswith("error: the environment managed has no app server; add one to the group `app` of ")
