"""What a person sees: plain lines into a pipe, the live view on a real pseudo-terminal."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rehearsal.evidence.events import Event, read_event
from rehearsal.terminal.views import Live, Plain, make_terminal
from rehearsal.verdict.decide import decide_run
from tests.played import PLAN, play

REPORT = Path("runs/x/report.html")
KINDS = [
    "phase-started",
    "phase-finished",
    "phase-skipped",
    "progress",
    "evidence",
    "lock",
    "step",
    "operation",
    "hosts",
    "note",
]
VALUES = st.one_of(st.none(), st.booleans(), st.floats(), st.text(), st.lists(st.integers()), st.integers())
NAMES = [
    "number",
    "of",
    "hosts",
    "ms",
    "attempts",
    "result",
    "title",
    "seconds",
    "ok",
    "reason",
    "what",
    "done",
    "total",
    "unit",
    "gate",
    "subject",
    "passed",
    "observed",
]


def event(kind: str, at: str = "2026-02-01T02:00:00Z", **fields: Any) -> Event:
    """Return an event of a phase."""
    return read_event({"kind": kind, "at": at, "phase": "switchover", "fields": fields})


def show_all(tmp_path: Path, **result: bool | None) -> str:
    """Return a whole played run as plain lines."""
    run = play(tmp_path / "run", mutate=dict(result))
    stream = io.StringIO()
    with make_terminal(stream) as terminal:
        for event in run.events():
            terminal(event)
        terminal.show_verdict(decide_run(run.evidence(), kind="staging", plan=PLAN), REPORT)
    return stream.getvalue()


def test_plain_lines_say_phases_gates_and_the_verdict(tmp_path: Path) -> None:
    """One line a gate result; no colour and no control code."""
    text = show_all(tmp_path, ledger=False, generator=None)

    assert "Switchover\n" in text
    assert "  ok (38.5 s)\n" in text
    assert "  FAILED ledger: public.revenues: " in text
    assert "  UNSEEN generator: lag: " in text
    assert "lock for barrier: granted after 188 ms and 2 attempts, blocked by pid 4711 pg_dump; held 41 ms" in text
    assert "  report: runs/x/report.html\n  open:   ./inv report.open --run x\n" in text
    assert text.endswith("  why:    ./inv explain ledger\n")
    assert "verdict: NO-GO\n  ledger: " in text
    assert not any(character < " " and character != "\n" for character in text)


def test_plain_progress_tells_rate_and_time_left_but_not_every_step(tmp_path: Path) -> None:
    lines = [line for line in show_all(tmp_path).splitlines() if "copy public.revenues:" in line]

    assert 2 <= len(lines) <= 5
    assert any("/s, " in line and line.endswith(" s left") for line in lines)
    assert "100 % of 1,071,200 rows" in lines[-1]


def test_text_from_a_log_cannot_draw_on_the_terminal() -> None:
    stream = io.StringIO()

    Plain(stream)(
        event("evidence", gate="app-logs", subject="app1", passed=False, observed="\x1b[2Joops\r\nverdict: GO")
    )

    assert stream.getvalue() == "  FAILED app-logs: app1:  [2Joops verdict: GO\n"


def test_plain_survives_an_encoding_that_lacks_a_sign_and_a_reader_that_is_gone() -> None:
    raw = io.BytesIO()
    narrow = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    Plain(narrow)(event("note", text="off → on"))
    assert raw.getvalue() == b"  off ? on\n"

    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="utf-8", closefd=False) as gone:
        terminal = Plain(gone)
        terminal(event("note", text="nobody reads this"))
        terminal(event("note", text="nor this"))
        with pytest.raises(BrokenPipeError, match="Broken pipe"):
            gone.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)
    os.close(writer)


def test_what_passed_is_one_line_a_gate_and_what_did_not_is_said_at_once() -> None:
    """Twenty equal results are one line at the end of their phase; the bad one among them came first, in full."""
    stream = io.StringIO()
    terminal = Plain(stream)

    terminal(event("phase-started", title="Triggers", name="trigger-tests", number=6, of=17))
    for number in range(20):
        terminal(event("evidence", gate="smoke", subject=f"@process/app{number}", passed=number != 7, observed="200"))
    terminal(event("operation", host="@process/db", operation="Make the role", ok=True, changed=True, seconds=0.1))
    before_the_end = stream.getvalue()
    terminal(event("hosts", of="roles", hosts=["@process/db"], operations=14, changed=9, failed=0, seconds=9.1))
    terminal(event("phase-finished", title="Triggers", name="trigger-tests", ok=True, seconds=1.0))

    assert before_the_end == "6/17 Triggers\n  FAILED smoke: app7: 200\n"
    assert stream.getvalue().removeprefix(before_the_end).splitlines() == [
        "  hosts, roles: 14 operations on db, 9 changed something, 9.1 s",
        "  passed smoke: 19 of 20 checks",
        "  ok (1.0 s)",
    ]


def test_an_interrupted_phase_still_says_what_passed_and_a_failed_operation_is_shown() -> None:
    stream = io.StringIO()

    with contextlib.suppress(KeyboardInterrupt), Plain(stream) as terminal:
        terminal(
            event("operation", host="@process/db", operation="Make the role", ok=False, changed=False, seconds=0.1)
        )
        terminal(event("evidence", gate="tools", subject="psql", passed=True, observed="15.18"))
        raise KeyboardInterrupt

    assert stream.getvalue() == "  db: Make the role: FAILED\n  passed tools: psql: 15.18\n"


def test_short_work_needs_no_progress_and_a_go_says_how_to_sign(tmp_path: Path) -> None:
    """A bar for something that takes a second is noise; the commands after the verdict name their run."""
    stream = io.StringIO()
    terminal = Plain(stream)

    for second, done in ((0, 0), (1, 50), (2, 100)):
        terminal(event("progress", f"2026-02-01T02:00:0{second}Z", what="copy", done=done, total=100, unit="rows"))

    assert stream.getvalue() == ""
    assert 'sign:   ./inv report.sign --run x --by "YOUR NAME"' in show_all(tmp_path)


@settings(deadline=None)
@given(st.sampled_from([*KINDS, "never-heard-of"]), st.dictionaries(st.sampled_from(NAMES), VALUES), st.text())
def test_no_event_can_stop_the_run(kind: str, fields: dict[str, Any], at: str) -> None:
    """Unknown kinds are left out; odd values are shown as they are."""
    strange = read_event({"kind": kind, "at": at, "phase": "", "fields": fields})
    stream = io.StringIO()

    Plain(stream)(strange)
    Live(io.StringIO())(strange)

    assert stream.getvalue() == "" or kind != "never-heard-of"


def read_to_end(leader: int, into: bytearray) -> None:
    """Read a pseudo-terminal until its other side is closed, which is an error there."""
    with contextlib.suppress(OSError):
        while chunk := os.read(leader, 65_536):
            into.extend(chunk)


def test_live_view_on_a_terminal_shows_bar_gates_and_panel_and_leaves_the_cursor(tmp_path: Path) -> None:
    run = play(tmp_path / "run")
    leader, follower = pty.openpty()
    seen = bytearray()
    reader = threading.Thread(target=read_to_end, args=(leader, seen), daemon=True)
    reader.start()
    with os.fdopen(follower, "w", encoding="utf-8") as stream:
        terminal = make_terminal(stream)
        assert isinstance(terminal, Live)
        with terminal:
            for event in run.events():
                if event.phase == "switchover":
                    terminal(event)
                    terminal._display.refresh()
            terminal.show_verdict(decide_run(run.evidence(), kind="staging", plan=PLAN), REPORT)
    reader.join(5)
    os.close(leader)

    text = seen.decode(errors="replace")
    assert "copy public.revenues" in text
    assert "lock-budget: barrier" in text
    assert "GO" in text
    assert "runs/x/report.html" in text
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l")
