"""`db.status` in every state: where a table is, and that what it says comes next is what there is to do."""

from __future__ import annotations

import contextlib
import io
import json

import pytest

from rehearsal import cli
from rehearsal.commands.status import JOURNEY
from rehearsal.postgres.connection import advisory_lock, connect
from rehearsal.switchover import state
from tests.fix_verbs import Managed

STATES = {getattr(state, name) for name in dir(state) if name.isupper() and isinstance(getattr(state, name), str)}

FLAGS = '[flags]\nreads = "R"\nwrites = "W"'


def stage(world: Managed) -> dict[str, str]:
    """Return what it says of the table for programs."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        assert cli.main(["db.status", "--plan", "managed", "--env", "managed", "--json"]) == 0, err.getvalue()
    table: dict[str, str] = json.loads(out.getvalue())["tables"][0]
    return table


def test_every_state_has_its_sentence() -> None:
    """A state that is added has to be said."""
    assert set(JOURNEY) == STATES


@pytest.mark.parametrize(
    ("strategy", "way"),
    [
        ("swap", ["not begun", "migrate", "prepared", "switchover", "swapped", "rollback", "following"]),
        ("dual-write", ["not begun", "migrate", "prepared", "switchover", "mirrored"]),
        ("attach", ["not begun", "migrate", "prepared", "switchover", "attached", "rollback", "prepared"]),
    ],
)
def test_it_follows_the_journey_and_changes_nothing(managed: Managed, strategy: str, way: list[str]) -> None:
    """What it names as next is a verb that does something there."""
    managed.setup(strategy=strategy, plan=FLAGS if strategy == "dual-write" else "")
    for before, verb, after in zip(way[::2], way[1::2], way[2::2], strict=False):
        assert stage(managed)["state"] == before
        assert f"db.{verb}" in stage(managed)["next"]
        managed.done(verb)
        assert stage(managed)["state"] == after
    said = managed.done("status")
    assert f"public.t: {way[-1]} since " in said
    assert "next: " in said


def test_stable_days_and_the_log_are_said(managed: Managed) -> None:
    """From when on the clean-up is open, and how large what waits for it has become."""
    managed.setup()
    managed.done("migrate")
    managed.done("switchover")
    managed.run("insert into public.t values (99999, now(), 1)")
    said = managed.done("status")
    assert "`./inv db.cleanup` ends that, from " in said
    assert "change log rehearsal.log_reverse_public_t: 0." in said
    managed.run("update rehearsal.migration set changed_at = now() - interval '400 days'")
    assert "ends that, now" in managed.done("status")
    managed.done("cleanup")
    assert "public.t: ended" in managed.done("status")


def test_who_is_at_work_and_who_paused_is_said(managed: Managed) -> None:
    """By name, and it does not wait for them."""
    managed.setup()
    assert "nobody is at work" in managed.done("status")
    managed.done("pause", "--reason", "freeze")
    with connect(managed.mig, role="run x") as other, advisory_lock(other, f"database {managed.mig.name}"):
        said = managed.done("status")
    assert "at work: pid" in said
    assert "pg-rehearsal run x" in said
    assert "freeze; `./inv db.resume`" in said
