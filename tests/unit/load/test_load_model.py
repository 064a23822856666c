"""The pure parts of the load: schedule, keys, histogram, stalls, placeholders, what answers prove."""

from __future__ import annotations

import itertools
import json
import random
import uuid
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from rehearsal.errors import UsageError
from rehearsal.load.__main__ import Controls, main, obey
from rehearsal.load.arrivals import KeyChooser, merged
from rehearsal.load.clients import find_id, judge_answer
from rehearsal.load.config import KeyRange, LoadConfig, load_config
from rehearsal.load.histogram import Histogram, bucket_of, upper_of
from rehearsal.load.ledger import LedgerWriter, RowState, Write, allowed_states, finished_files
from rehearsal.load.record import Demand, OpClass, Recorder
from rehearsal.load.summary import summarize
from rehearsal.plan.model import Operation

INSERT = Operation(name="post", action="insert", via="http", table="public.posts", rate=50.0, path="/posts")
READ = Operation(name="look", action="read", via="http", table="public.posts", rate=25.0, path="/health")


def test_arrivals_follow_the_seed_and_the_rate() -> None:
    """The same seed gives the same schedule; the mean of the gaps is that of the rate."""
    first = list(itertools.islice(merged([INSERT, READ], "1:a"), 3_000))
    again = list(itertools.islice(merged([INSERT, READ], "1:a"), 3_000))
    other = list(itertools.islice(merged([INSERT, READ], "2:a"), 3_000))

    assert first == again != other
    assert first == sorted(first)
    assert 36 < first[-1][0] < 44  # 3,000 arrivals at 75 a second
    assert 0.6 < sum(1 for _, number in first if number == 0) / 3_000 < 0.73


@pytest.mark.parametrize(("key_type", "wanted"), [("timestamptz", datetime), ("timestamp", datetime), ("date", date)])
def test_keys_stay_in_their_range_and_visit_the_edges_of_months(key_type: str, wanted: type) -> None:
    """Month starts and the moments before are where a wrong bound shows."""
    lower = datetime.now(UTC) - timedelta(days=100)
    chooser = KeyChooser(KeyRange.model_validate({"base": key_type, "lower": lower}), random.Random(1))
    drawn = [chooser.draw() for _ in range(300)]
    keys = [key for key in drawn if isinstance(key, date)]

    assert len(keys) == len(drawn)
    assert all(isinstance(key, wanted) for key in keys)
    assert sum(1 for key in keys if key.day == 1) > 10
    assert all(lower.date() <= (key.date() if isinstance(key, datetime) else key) for key in keys)
    assert all(chooser.draw(other_than=key) != key for key in keys)
    assert {getattr(key, "tzinfo", None) for key in keys} == {UTC if key_type == "timestamptz" else None}


def test_move_finds_another_key_where_there_is_only_one() -> None:
    """A range of a single day still lets a row move, within the range if it can."""
    now = datetime.now(UTC)
    chooser = KeyChooser(KeyRange(base="date", lower=now.replace(hour=0)), random.Random(1))
    key = chooser.draw()

    assert chooser.draw(other_than=key) != key


def test_percentiles_are_within_one_percent_and_survive_a_merge() -> None:
    """Merged counts give the percentiles of all values."""
    rng = random.Random(3)
    values = [rng.expovariate(20) for _ in range(20_000)]
    halves = Histogram(), Histogram()
    for number, value in enumerate(values):
        halves[number % 2].add(value)
    halves[0].merge(halves[1].counts, halves[1].max_us)

    for share in (0.5, 0.9, 0.99):
        want = sorted(values)[int(share * len(values))] * 1e3
        assert halves[0].quantile_ms(share) == pytest.approx(want, rel=0.015)
    assert halves[0].max_ms == pytest.approx(max(values) * 1e3, abs=0.001)
    assert all(upper_of(bucket_of(value)) >= value for value in range(0, 200_000, 7))


def test_stall_lasts_from_the_first_unserved_arrival_to_the_next_success() -> None:
    """Nobody who asks, no stall; a failure serves nobody; a skipped arrival never asked."""
    demand = Demand()
    demand.arrive(10.0)
    assert demand.succeed(10.5) == (10.0, 10.5)
    demand.arrive(20.0)
    demand.leave(failed=True)
    demand.arrive(21.0)
    assert demand.succeed(21.1) == (20.0, 21.1)
    demand.arrive(30.0)
    demand.leave(failed=False)
    demand.arrive(40.0)
    demand.arrive(40.2)
    assert demand.succeed(40.3) == (40.0, 40.3)
    assert demand.succeed(43.0) == (40.3, 43.0)


def test_stall_that_nothing_ended_is_in_the_summary(tmp_path: Path) -> None:
    """A load that stops while nobody is served says so, and drops nothing in silence."""
    recorder = Recorder(tmp_path / "0001.latency.jsonl", "r", "s")
    kind = OpClass("post", "insert", "http", "app1")
    for number in range(40):
        recorder.offered(kind, 100.0 + number / 10)
    recorder.done(kind, scheduled=100.0, at=100.2, outcome="ok", code="200", missing=False)
    recorder.end(105.0, reason="told", unsent=39, unfinished=0)

    got = summarize(tmp_path)

    assert got.stall_ms == pytest.approx(4_800, abs=1)
    assert got.servers["app1"].stall_ms == got.stall_ms
    assert got.operations["post"].max_ms == pytest.approx(200, abs=1)
    assert not got.honest
    assert "39 of 40" in got.reasons[0]
    assert summarize(tmp_path, 101.0, 102.0).stall_ms == pytest.approx(1_000, abs=1)


def test_late_generator_is_not_honest(tmp_path: Path) -> None:
    """Operations that started late although a worker was free say nothing about the application."""
    recorder = Recorder(tmp_path / "0001.latency.jsonl", "r", "s")
    kind = OpClass("post", "insert", "http", "app1")
    recorder.offered(kind, 100.0)
    recorder.started(0.4)
    recorder.done(kind, scheduled=100.0, at=100.5, outcome="ok", code="200", missing=False)
    recorder.end(101.0, reason="told", unsent=0, unfinished=0)

    got = summarize(tmp_path)

    assert not got.honest
    assert "workers were free" in got.reasons[0]


@pytest.mark.parametrize(
    ("status", "action", "outcome", "missing"),
    [
        (201, "insert", "ok", False),
        (409, "insert", "failed", False),
        (404, "update", "failed", True),
        (404, "insert", "failed", False),
        (503, "move", "unknown", False),
        (503, "read", "failed", False),
        (302, "delete", "failed", False),
    ],
)
def test_what_an_answer_proves(status: int, action: str, outcome: str, *, missing: bool) -> None:
    operation = INSERT.model_copy(update={"action": action})
    got = judge_answer(operation, httpx.Response(status, json={"id": 5}))
    assert (got.outcome, got.missing) == (outcome, missing)


@pytest.mark.parametrize(
    ("body", "want"),
    [
        (b'{"id": 5}', 5),
        (b'{"result": {"data": {"json": {"id": "a-b"}}}}', "a-b"),
        (b'{"data": {"name": "x"}}', None),
        (b"[1]", None),
        (b"not json", None),
    ],
)
def test_id_of_a_new_row_is_found_where_servers_put_it(body: bytes, want: object) -> None:
    assert find_id(httpx.Response(200, content=body)) == want


def write(version: int, action: str, outcome: str | None, key: str = "k") -> Write:
    return Write(
        file=1,
        seq=version,
        segment="s",
        subject=1,
        op="o",
        action=action,  # type: ignore[arg-type]  # parametrized
        via="http",
        server=None,
        table="t",
        version=version,
        key=key,
        scheduled=0,
        started=0,
        outcome=outcome,  # type: ignore[arg-type]  # parametrized
    )


def test_model_allows_the_last_certain_state_and_what_may_have_followed() -> None:
    """Acknowledged is certain; later writes under way may or may not be there; refused ones may not."""
    history = [write(1, "insert", "ok"), write(2, "update", "failed"), write(3, "move", "ok", "m")]
    assert allowed_states(history, {(1, 1), (1, 3)}).states == (RowState(3, "m"),)
    assert allowed_states([*history, write(4, "delete", None)], {(1, 1), (1, 3)}).states == (RowState(3, "m"), None)
    assert allowed_states(history, {(1, 1)}).states == (RowState(1, "k"), RowState(3, "m"))
    assert allowed_states(history, {(1, 1)}, {(1, 3)}).states == (RowState(1, "k"),)
    assert allowed_states([write(1, "insert", "unknown")], set()).states == (None, RowState(1, "k"))


def test_lock_on_a_ledger_tells_whether_its_writer_lives(tmp_path: Path) -> None:
    """Rows of a generator that lives are its own."""
    first = LedgerWriter.claim(tmp_path, "r", "a")
    second = LedgerWriter.claim(tmp_path, "r", "b")
    assert finished_files(tmp_path) == []
    assert first.first_subject != second.first_subject
    first.close()
    assert finished_files(tmp_path) == [first.path]
    second.close()


def test_configuration_is_removed_once_read_and_never_shown(tmp_path: Path) -> None:
    """It holds a password: it does not stay, and no error or repr shows it."""
    config = LoadConfig(
        run="r",
        segment="s",
        folder=tmp_path,
        conninfo={"password": "hush-hush"},
        operations=[INSERT.model_copy(update={"body": {"a": "{key}"}})],
        keys={},
    )
    path = tmp_path / "config.json"
    path.write_text(config.dump())
    assert "hush-hush" not in repr(config)
    assert load_config(path) == config
    assert not path.exists()

    path.write_text('{"conninfo": "hush-hush"}')
    with pytest.raises(UsageError, match="is wrong") as caught:
        load_config(path)
    assert "hush-hush" not in str(caught.value)
    with pytest.raises(UsageError, match="cannot read"):
        load_config(path)


def test_command_line_refuses_what_is_no_configuration(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The status line says why, and the exit code is that of a usage error."""
    assert main(["--config", str(tmp_path / "none.json")]) == 2
    status = json.loads(capfd.readouterr().out)
    assert status["status"] == "error"
    assert "none.json" in status["message"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"cmd": "stop"}', "told"),
        ("stop", "told"),
        ('{"cmd": "dance"}', "unknown command 'dance'"),
        ("{", "not a command: '{'"),
    ],
)
def test_line_that_is_no_command_ends_the_load(line: str, reason: str) -> None:
    """Nothing that was said is ignored."""
    told: list[str] = []
    obey(Controls(told.append, lambda phase, _: told.append(phase)), line)
    assert told == [reason]


def test_mark_is_passed_on() -> None:
    told: list[str] = []
    obey(Controls(told.append, lambda phase, _: told.append(phase)), '{"cmd": "mark", "phase": "swap", "at": 1.5}')
    assert told == ["swap"]


def test_keys_that_tell_no_time_are_drawn_from_those_that_have_a_place() -> None:
    """Numbers between two ends, listed values, uuids of the wanted version; epochs count what they shall."""

    def draw(**wanted: object) -> set[object]:
        chooser = KeyChooser(KeyRange.model_validate(wanted), random.Random(1))
        return {chooser.draw() for _ in range(200)}

    lower = datetime.now(UTC) - timedelta(days=100)
    assert draw(how="number", base="int8", numbers=(-1, 2)) == {-1, 0, 1, 2}
    assert draw(how="choice", base="text", choices=("de", "fr")) == {"de", "fr"}
    assert {uuid.UUID(str(key)).version for key in draw(how="fresh", base="uuid")} == {4}
    v7 = draw(base="uuid", lower=lower)
    assert {uuid.UUID(str(key)).int >> 76 & 0xF for key in v7} == {7}
    assert min(uuid.UUID(str(key)).int >> 80 for key in v7) >= lower.timestamp() * 1_000
    assert min(map(str, draw(base="int8", epoch="ms", lower=lower))) >= str(int(lower.timestamp() * 1_000))
