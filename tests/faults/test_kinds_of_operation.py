"""A kind of operation that fails is NO-GO, however many others work: by kind, way and app server."""

from __future__ import annotations

import http.server
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rehearsal.environment import AppServer, Database
from rehearsal.evidence.run import Evidence, Run
from rehearsal.load.driver import ledger_folder
from rehearsal.load.record import OpClass, Recorder
from rehearsal.load.summary import summarize
from rehearsal.plan.model import Plan
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.rehearse import writers
from rehearsal.rehearse.context import Context
from rehearsal.report.numbers import read_numbers
from rehearsal.report.timeline import History
from rehearsal.verdict.decide import GateResult, GateState
from rehearsal.verdict.gates import GATES
from tests.fix_postgres import ROOT
from tests.load_world import SCHEMA, TABLE, make_environment
from tests.waiting import eventually

PATHS: dict[str, tuple[str, str, str]] = {
    "enter": ("insert", "POST", "/expenses"),
    "edit": ("update", "PATCH", "/expenses/{id}"),
    "strike": ("delete", "DELETE", "/expenses/{id}"),
    "look": ("read", "GET", "/expenses/{id}"),
}
RATES = {"enter": 40.0, "edit": 30.0, "strike": 8.0, "look": 20.0}
BODY = {"note": "{marker}", "at": "{key}"}


def make_plan(**limits: float) -> Plan:
    """Return a plan whose load goes by HTTP, and writes once more by SQL."""
    operations: list[dict[str, Any]] = [
        {"name": name, "action": action, "via": "http", "table": TABLE, "method": method, "path": path,
         "rate": RATES[name]} | ({"json": BODY} if method in ("POST", "PATCH") else {})
        for name, (action, method, path) in PATHS.items()
    ]  # fmt: skip
    operations.append(
        {"name": "import", "action": "insert", "via": "sql", "table": TABLE, "rate": 10.0,
         "sql": "insert into public.posts (at, body) values (%(key)s, %(marker)s) returning id"}
    )  # fmt: skip
    return Plan.model_validate(
        {
            "name": "small",
            "strategy": "dual-write",
            "tables": [{"name": TABLE, "key": "at", "marker": "body"}],
            "load": {"connections": 4, "operations": operations},
            "gates": {"max_stall_ms": 4_000, **limits},
        }
    )


# ── a whole load against real servers ───────────────────────────────────────────────────────────────────────────────


@dataclass
class App:
    """An app server that answers every request, but for those that it is told to refuse."""

    name: str
    refuses: str | None = None
    served: dict[str, int] = field(default_factory=dict[str, int])


def _handler(app: App, ids: Iterator[int]) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            app.served[self.command] = app.served.get(self.command, 0) + 1
            body = json.dumps({"id": next(ids)}).encode()
            self.send_response(503 if app.refuses == self.command else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else body)

        do_GET = do_POST = do_PATCH = do_DELETE = do_HEAD = answer  # noqa: N815 -- names of the base class

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- as above
            """Say nothing."""

    return Handler


@contextmanager
def serving(*apps: App) -> Iterator[list[AppServer]]:
    """Serve for the block; ids come from one sequence."""
    ids = itertools.count(1)
    servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(app, ids)) for app in apps]
    threads = [threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield [
            AppServer(app.name, f"http://127.0.0.1:{server.server_port}")
            for app, server in zip(apps, servers, strict=True)
        ]
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()


def judged(context: Context) -> dict[str, Evidence]:
    """Return the evidence that the writers' judgement left, by gate."""
    return {seen.gate: seen for seen in context.run.evidence()}


def a_load_fails_by_name(database: Database, run: Run, files: SqlFiles, refuses: dict[str, str], named: str) -> None:
    """A load in which servers refuse one method ends NO-GO, and the kind is named in both gates."""
    apps = [App(name, refuses.get(name)) for name in ("app1", "app2")]
    with serving(*apps) as servers:
        context = Context(ROOT, make_plan(), make_environment(database, *servers), run, files, "none")
        context.run.phase = "load"
        context.writers.ensure("load")
        try:
            eventually(lambda: all(app.served.get(app.refuses or "GET", 0) > 12 for app in apps), 60)
        finally:
            context.writers.stop()
    for gate in ("load", "availability"):
        found = judged(context)[gate]
        assert found.passed is False, found.observed
        assert named in found.observed, found.observed


@pytest.mark.fault("v01")
@pytest.mark.parametrize(
    ("refuses", "named"),
    [
        ({"app1": "DELETE", "app2": "DELETE"}, "strike by HTTP: none of"),
        ({"app1": "GET", "app2": "GET"}, "look by HTTP: none of"),
        ({"app2": "PATCH"}, "edit by HTTP on app2: "),
    ],
)
def test_a_kind_that_always_fails_is_no_go_and_named(
    database: Database, conn: Connection, sql_files: SqlFiles, run: Run, refuses: dict[str, str], named: str
) -> None:
    """An app that answers 503 to one kind of request, at all servers or at one."""
    conn.execute(SCHEMA)
    a_load_fails_by_name(database, run, sql_files, refuses, named)


@pytest.mark.fault("v01", mutant=True)
def test_judged_by_all_writes_together_it_is_go(
    database: Database, conn: Connection, sql_files: SqlFiles, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old behaviour: one rate of errors and one stall, of all writes."""
    conn.execute(SCHEMA)
    put_back(monkeypatch)

    with pytest.raises(AssertionError, match="writes acknowledged"):
        a_load_fails_by_name(database, run, sql_files, {"app1": "GET", "app2": "GET"}, "look by HTTP")


def put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing but the writes as a whole be judged."""
    monkeypatch.setattr(writers, "error_problems", lambda *_: [])
    monkeypatch.setattr(writers, "stall_problems", lambda *_: [])
    monkeypatch.setattr(writers, "stalls", lambda summary, _: [("writes", summary.stall_ms)])


# ── the rules, on loads that are told second by second ──────────────────────────────────────────────────────────────

Fails = Callable[[str, str | None, str, int], str | None]
SERVERS = ("app1", "app2")
USUAL = {"enter": 4, "edit": 4, "strike": 1, "look": 4, "import": 2}


def tell(folder: Path, fails: Fails, *, seconds: int = 60, rates: dict[str, int] | None = None) -> None:
    """Write what a generator would: each kind so often a second, at each server; half of the time is the switchover."""
    recorder = Recorder(folder / "0001.latency.jsonl", "r", "s")
    for second in range(seconds):
        phase = "load" if second < seconds // 2 else "switchover"
        if second in (0, seconds // 2):
            recorder.mark(phase, float(second))
        for at, op, number in sorted(
            (second + number / rate, op, number) for op, rate in (rates or USUAL).items() for number in range(rate)
        ):
            action, via = ("insert", "sql") if op == "import" else (PATHS[op][0], "http")
            server = SERVERS[(second + number) % 2] if via == "http" else None
            kind, code = OpClass(op, action, via, server), fails(op, server, phase, second)
            recorder.offered(kind, at)
            outcome = "failed" if code else "ok"
            recorder.done(kind, scheduled=at, at=at + 0.01, outcome=outcome, code=code, missing=False)
    recorder.end(float(seconds), reason="told", unsent=0, unfinished=0)


def judge(run: Run, files: SqlFiles, plan: Plan) -> dict[str, Evidence]:
    """Judge what was told, as the writers do at the end of a segment."""
    context = Context(ROOT, plan, make_environment(Database("", 0, "", "")), run, files, "none")
    run.phase = "load"
    context.writers._judge(summarize(ledger_folder(run)))
    return judged(context)


def fails_by_name(run: Run, files: SqlFiles, fails: Fails, gates: dict[str, str]) -> None:
    """The gates say NO-GO, and each names the kind."""
    ledger_folder(run).mkdir(parents=True)
    tell(ledger_folder(run), fails)
    found = judge(run, files, make_plan())
    for gate, named in gates.items():
        assert found[gate].passed is False, found[gate].observed
        assert named in found[gate].observed, found[gate].observed


CASES: dict[str, tuple[Fails, dict[str, str]]] = {
    "one kind, always": (
        lambda op, _server, _phase, _second: "503" if op == "strike" else None,
        {"load": "strike by HTTP: none of 60 acknowledged (503 ×60)", "availability": "of strike by HTTP"},
    ),
    "reads of one kind": (
        lambda op, _server, _phase, _second: "500" if op == "look" else None,
        {"load": "look by HTTP: none of 240", "availability": "look by HTTP: none of 240"},
    ),
    "one server of two, one kind": (
        lambda op, server, _phase, _second: "503" if (op, server) == ("edit", "app2") else None,
        {"load": "edit by HTTP on app2: 120 of 120 failed", "availability": "of edit by HTTP on app2"},
    ),
    "one way of writing a table": (
        lambda op, _server, _phase, _second: "42501" if op == "import" else None,
        {"load": "import by SQL: none of 120", "availability": "of import by SQL"},
    ),
    "one phase only": (
        lambda op, _server, phase, second: "503" if op == "strike" and phase == "switchover" and second < 45 else None,
        {"load": "in phase switchover: ", "availability": "of strike by HTTP"},
    ),
    "each third time": (
        lambda op, _server, _phase, second: "503" if op == "edit" and second % 3 == 0 else None,
        {"load": "edit by HTTP: 80 of 240 failed"},
    ),
    "refused by design, but for ever": (
        lambda op, _server, _phase, _second: "40001" if op == "import" else None,
        {"load": "import by SQL: none of 120", "availability": "of import by SQL"},
    ),
}


@pytest.mark.fault("v01")
@pytest.mark.parametrize("case", list(CASES))
def test_no_kind_hides_among_the_others(run: Run, sql_files: SqlFiles, case: str) -> None:
    fails_by_name(run, sql_files, *CASES[case])


@pytest.mark.fault("v01", mutant=True)
@pytest.mark.parametrize("case", ["reads of one kind", "one kind, always"])
def test_by_the_old_rules_they_hide(run: Run, sql_files: SqlFiles, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put_back(monkeypatch)

    with pytest.raises(AssertionError):
        fails_by_name(run, sql_files, *CASES[case])


def nothing(_op: str, _server: str | None, _phase: str, _second: int) -> None:
    """Fail never."""


HARMLESS: dict[str, tuple[Fails, dict[str, int] | None]] = {
    "nothing fails": (nothing, None),
    "a restart takes one request of each kind with it": (
        lambda _op, server, _phase, second: "ReadError" if server == "app1" and second == 40 else None,
        {"enter": 2, "edit": 2, "strike": 2, "look": 2, "import": 2},
    ),
    "writes through old snapshots are refused at the exchange": (
        lambda op, _server, phase, second: "40001" if op == "import" and phase == "switchover" and second == 31
        else None,
        {"enter": 20, "edit": 20, "strike": 1, "look": 4, "import": 1},
    ),
    "one failure of a kind that is rarely asked for": (
        lambda op, _server, _phase, second: "503" if op == "strike" and second == 20 else None,
        {"enter": 9, "edit": 9, "strike": 1, "look": 4, "import": 2},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", list(HARMLESS))
def test_what_a_low_rate_makes_of_one_failure_is_no_alarm(run: Run, sql_files: SqlFiles, case: str) -> None:
    """Few samples and long gaps between them are neither a rate of errors nor a stall."""
    fails, rates = HARMLESS[case]
    ledger_folder(run).mkdir(parents=True)
    tell(ledger_folder(run), fails, rates=rates)
    found = judge(run, sql_files, make_plan(max_stall_ms=900))
    assert found["load"].passed is True, found["load"].observed
    assert found["availability"].passed is True, found["availability"].observed


def test_a_kind_that_was_due_and_never_sent_was_not_seen(run: Run, sql_files: SqlFiles) -> None:
    """Not NO-GO: nobody asked; not GO either."""
    ledger_folder(run).mkdir(parents=True)
    tell(ledger_folder(run), nothing, rates={"enter": 4, "edit": 4, "look": 4, "import": 2})
    found = judge(run, sql_files, make_plan())
    assert found["load"].passed is None
    assert "strike by HTTP: never sent" in found["load"].observed


def test_page_one_names_the_kind(run: Run, sql_files: SqlFiles) -> None:
    """The number is the worst of all kinds, and says whose it is."""
    ledger_folder(run).mkdir(parents=True)
    tell(ledger_folder(run), CASES["one kind, always"][0])
    evidence = tuple(judge(run, sql_files, make_plan()).values())
    gate = next(gate for gate in GATES if gate.id == "availability")
    results = [GateResult(gate, GateState.FAILED, "", evidence)]
    numbers = {number.id: number for number in read_numbers(results, History((), run.folder), make_plan())}
    assert numbers["stall"].value == pytest.approx(60_000, abs=10)
    assert numbers["stall"].note == "strike by HTTP; limit 4.0 s"
    assert numbers["stall"].tone == "bad"
