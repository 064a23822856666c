"""The whole command, killed, interrupted and run twice at once."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

from tests.resilience.commands import Place, end

pytestmark = [pytest.mark.long, pytest.mark.alone]
REHEARSE = ("rehearse", "--plan", "sensor_readings")
DATA_GATES = {"parity-after", "ledger", "counts", "mismatch-found", "forward-again", "rollback"}
# What a busy machine does, and that the rows are few, is no matter of kills.
ELSE = {"query-speed", "generator", "load", "availability", "baseline"}


def copying(event: dict[str, Any]) -> bool:
    """Whether a chunk was copied."""
    return event["kind"] == "progress" and str(event["fields"]["what"]).startswith("copy ")


def swapping(event: dict[str, Any]) -> bool:
    """Whether the swap is the next thing to come."""
    return bool(event["kind"] == "step" and event["fields"]["name"] == "statistics")


def test_killed_in_the_copy_and_at_the_swap_it_ends_with_exact_parity(place: Place) -> None:
    """Killed twice, gone on twice; a second rehearsal meanwhile is refused by name and disturbs nothing."""
    with place.started(*REHEARSE, "--rows", "60000") as child:
        place.await_event(child, copying)
        assert end(child, signal.SIGKILL)[0] == -signal.SIGKILL
    run, before = place.newest().name, len(place.events())

    with place.started(*REHEARSE, "--rows", "60000", "--resume", run) as child:
        place.await_event(child, swapping, after=before)
        assert end(child, signal.SIGKILL)[0] == -signal.SIGKILL

    with place.started(*REHEARSE, "--rows", "60000", "--resume", run) as child:
        again = len(place.events())
        place.await_event(child, lambda event: event["kind"] == "phase-started", after=again)
        second = place.run("rehearse", "--plan", "hospitality", REHEARSAL_RUNS=str(place.base / "other"))
        said, _ = child.communicate(timeout=600)

    assert second.returncode == 1, second
    assert "another run holds environment local: pid" in second.stderr
    assert run in second.stderr
    report = json.loads((place.runs / run / "report.json").read_text())
    states = {gate["id"]: gate["state"] for gate in report["gates"]}
    assert {states[gate] for gate in DATA_GATES} == {"passed"}, said
    verdict = report["verdict"]
    assert {name for name, state in states.items() if state in {"failed", "unseen"}} <= ELSE, verdict["reasons"]
    assert child.returncode == {"GO": 0, "NO-GO": 1, "INCONCLUSIVE": 3}[verdict["outcome"]], said
    skipped = [event["fields"]["name"] for event in place.events() if event["kind"] == "phase-skipped"]
    assert "data" in skipped


# The command takes both in the same way; CI has the one that people send.
@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGINT, id="SIGINT"),
        pytest.param(signal.SIGTERM, id="SIGTERM", marks=pytest.mark.hours),
    ],
)
def test_interrupted_in_the_copy_it_stops_everything_and_goes_on(place: Place, number: signal.Signals) -> None:
    """Exit code 3, no process left, the state kept; `--resume` ends the switchover."""
    until = ("--rows", "100000", "--until", "switchover")
    with place.started(*REHEARSE, *until) as child:
        place.await_event(child, copying)
        assert place.processes(), "there was something to stop"
        code, said = end(child, number)

    assert code == 3, said
    assert place.processes() == []
    run = place.newest().name
    assert f"--resume {run}" in said

    done = place.run(*REHEARSE, *until, "--resume", run)

    steps = [event["fields"]["name"] for event in place.events() if event["kind"] == "step"]
    # A step that is done in the database may have died before it could say so: its event proves nothing here.
    assert steps.count("plan-copy") == 1, "the copy went on where it was"
    evidence = [json.loads(line) for line in (place.newest() / "evidence.jsonl").read_text().splitlines()]
    for gate in ("switchover", "ledger"):
        assert [seen["passed"] for seen in evidence if seen["gate"] == gate] == [True], done.stdout
    assert not [seen for seen in evidence if seen["passed"] is False]
    assert done.returncode == 3, "a rehearsal that did not come to its end is inconclusive"
    assert place.processes() == []
