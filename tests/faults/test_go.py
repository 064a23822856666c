"""Which report stands for production, and which do not fit."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from rehearsal.approval import go
from rehearsal.approval.fingerprint import Fingerprint
from rehearsal.approval.signature import sign
from rehearsal.errors import PlanError
from rehearsal.evidence.run import Run
from rehearsal.plan.file import load_plan
from rehearsal.report.write import write_checksums
from tests.faults.fitting import PARTS, PLAN, WANTED, fitting, refusal
from tests.fix_production import Production

# What is odd about an otherwise fitting, signed GO, and the words that say so.
ODD: dict[str, tuple[dict[str, Any], str]] = {
    "kind local, 100,000 rows": (
        {"kind": "local"},
        "it is of kind local, the plan wants one of kind staging or docker",
    ),
    "kind production": ({"kind": "production"}, "it is of kind production"),
    "too few rows": (
        {"rows": {"public.t": 99_999}},
        "it rehearsed 99,999 rows of public.t, production has about 1,000,000",
    ),
    "no rows known": ({"rows": {}}, "it rehearsed 0 rows of public.t"),
    "rows of another table": ({"rows": {"public.u": 10_000_000}}, "it rehearsed 0 rows of public.t"),
    "an older server": ({"server": 140_020}, "its server was PostgreSQL 14, production's is PostgreSQL 15"),
    "a newer server": ({"server": 180_000}, "its server was PostgreSQL 18"),
    "no server known": ({"server": None}, "its server was not recorded"),
    "old": ({"ago": timedelta(days=14, hours=1)}, "it is 14 days old, the plan allows 14"),
    "of tomorrow": ({"ago": timedelta(days=-1)}, "it ends in the future"),
    "of another plan": ({"plan": PLAN.model_copy(update={"name": "other"})}, "it is of plan other"),
    "unsigned": ({"by": ""}, "is not signed"),
    "accepted NO-GO": ({"gates": {"ledger": False}}, "its verdict is NO-GO"),
    "accepted INCONCLUSIVE": ({"gates": {"ledger": None}}, "its verdict is INCONCLUSIVE"),
}


def an_odd_go(runs: Path, what: str) -> None:
    """One thing about a signed GO does not fit: it opens nothing, and the reason is said."""
    how, words = ODD[what]
    fitting(runs, **how)
    assert words in refusal(runs), f"opened by a GO with {what}: {refusal(runs)}"


@pytest.mark.fault("v08")
def test_a_fitting_go_stands_for_production(tmp_path: Path) -> None:
    """Witness: without anything odd it opens, from docker and for tables that grew smaller too."""
    fit: list[dict[str, Any]] = [{}, {"kind": "docker"}, {"rows": {"public.t": 10**9}}, {"ago": timedelta(days=13)}]
    for number, how in enumerate(fit):
        runs = tmp_path / str(number)
        fitting(runs, **how)
        assert refusal(runs) == ""


@pytest.mark.fault("v08")
@pytest.mark.parametrize("what", list(ODD))
def test_a_go_that_does_not_fit_opens_nothing(tmp_path: Path, what: str) -> None:
    an_odd_go(tmp_path / "runs", what)


@pytest.mark.fault("v08", mutant=True)
@pytest.mark.parametrize(
    ("rule", "what"),
    [
        ("_kind", "kind local, 100,000 rows"),
        ("_rows", "too few rows"),
        ("_server", "an older server"),
        ("_age", "of tomorrow"),
        ("_signed", "unsigned"),
    ],
)
def test_mutant_a_rule_that_nobody_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: str, what: str) -> None:
    monkeypatch.setattr(go, rule, lambda *_: iter(()))

    with pytest.raises((AssertionError, FileNotFoundError), match=r"opened by a GO|signature"):
        an_odd_go(tmp_path / "runs", what)


def a_local_go_in_production(production: Production) -> None:
    """The command line: a signed GO of kind local with far more rows than production has."""
    production.go(kind="local", rows={"public.t": 100_000})
    said = production.call("migrate")
    assert "it is of kind local" in said.text, f"a GO of kind local opened production: {said.text}"
    assert said.code == 1


@pytest.mark.fault("v08")
def test_a_local_go_opens_nothing_in_production(production: Production) -> None:
    a_local_go_in_production(production)


@pytest.mark.fault("v08", mutant=True)
def test_mutant_a_local_go_opens_production(production: Production, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(go, "_kind", lambda *_: iter(()))

    with pytest.raises(AssertionError, match="a GO of kind local opened production"):
        a_local_go_in_production(production)


@pytest.mark.fault("v08")
def test_rows_and_server_are_those_of_production(production: Production) -> None:
    """Production's own figures: 3,000 rows in one table, and its server; never analyzed means unknown."""
    with production.world.session() as conn:
        major = conn.info.server_version // 10_000
    production.go(rows={"public.t": 299})
    said = production.call("migrate")
    assert "it rehearsed 299 rows of public.t, production has about 3,000" in said.text, said.text
    production.go(name="other", server=(major - 1) * 10_000, ago=timedelta(minutes=30))
    said = production.call("migrate")
    assert f"its server was PostgreSQL {major - 1}, production's is PostgreSQL {major}" in said.text, said.text

    production.world.run("create table public.u (like public.t including all)")
    production.world.write_plan("swap", '[[tables]]\nname = "public.v"\nkey = "at"\ninterval = "1 month"')
    assert "run ANALYZE" in production.call("migrate").text
    production.world.write_plan("swap", '[[tables]]\nname = "public.u"\nkey = "at"\ninterval = "1 month"')
    production.go(name="both", ago=timedelta(minutes=20))
    said = production.call("migrate")
    assert said.code == 0, f"an empty table wants no rows: {said.text}"


def the_evidence_says_otherwise(runs: Path, gate: str, passed: bool | None) -> None:
    """The report says GO and is signed with its files; what was seen is no GO."""
    folder = fitting(runs, by="")
    run = Run(folder)
    run.phase = "load"
    run.record(gate, "added later", passed, "seen after the report was written")
    write_checksums(folder)
    sign(folder, "K. Sato")
    assert "judged again from its evidence it is" in refusal(runs), "opened by report.json alone"


@pytest.mark.fault("v08")
@pytest.mark.parametrize(("gate", "passed"), [("ledger", False), ("availability", None), ("a gate of nobody", False)])
def test_the_gates_are_judged_again(tmp_path: Path, gate: str, passed: bool | None) -> None:
    the_evidence_says_otherwise(tmp_path / "runs", gate, passed)


@pytest.mark.fault("v08", mutant=True)
def test_mutant_the_report_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(go, "_judged_again", lambda *_: iter(()))

    with pytest.raises(AssertionError, match=r"opened by report\.json alone"):
        the_evidence_says_otherwise(tmp_path / "runs", "ledger", passed=False)


@pytest.mark.fault("v08")
@pytest.mark.parametrize(
    "line", ["{", "[]", '{"gate": 1}', '{"gate": [], "subject": "a", "passed": true, "observed": ""}']
)
def test_evidence_that_cannot_be_read_opens_nothing(tmp_path: Path, line: str) -> None:
    folder = fitting(tmp_path / "runs", by="")
    with (folder / "evidence.jsonl").open("a") as file:
        file.write(f"{line}\n")
    write_checksums(folder)
    sign(folder, "K. Sato")

    assert "its evidence cannot be read" in refusal(tmp_path / "runs")


def a_later_verdict(runs: Path, **how: Any) -> str:
    """A signed GO, and another verdict of the same fingerprint half an hour later; return the refusal."""
    fitting(runs)
    fitting(runs, name="later", ago=timedelta(minutes=30), **how)
    return refusal(runs)


LATER: dict[str, tuple[dict[str, Any], str]] = {
    "signed NO-GO": ({"gates": {"ledger": False}}, "is NO-GO"),
    "unsigned NO-GO": ({"gates": {"ledger": False}, "by": ""}, "is NO-GO"),
    "NO-GO on local": ({"gates": {"ledger": False}, "by": "", "kind": "local"}, "is NO-GO"),
    "INCONCLUSIVE": ({"gates": {"ledger": None}, "by": ""}, "is INCONCLUSIVE"),
    "INCONCLUSIVE on local": ({"gates": {"ledger": None}, "by": "", "kind": "local"}, ""),
    "unsigned GO": ({"by": ""}, ""),
    "GO on local": ({"kind": "local"}, ""),
    "NO-GO of another fingerprint": ({"gates": {"ledger": False}, "fingerprint": "1" * 64}, ""),
    "NO-GO of another plan": ({"gates": {"ledger": False}, "plan": PLAN.model_copy(update={"name": "other"})}, ""),
}


@pytest.mark.fault("v08")
@pytest.mark.parametrize("what", list(LATER))
def test_the_newest_verdict_of_a_fingerprint_wins(tmp_path: Path, what: str) -> None:
    how, words = LATER[what]
    said = a_later_verdict(tmp_path / "runs", **how)
    assert said == "" if not words else f"a later verdict of the same fingerprint {words}" in said, said


@pytest.mark.fault("v08")
def test_a_newer_go_opens_again(tmp_path: Path) -> None:
    a_later_verdict(tmp_path, gates={"ledger": False})
    fitting(tmp_path, name="newest", ago=timedelta(minutes=1))

    assert go.find_go(tmp_path, WANTED).report.run.endswith("newest")


@pytest.mark.fault("v08", mutant=True)
def test_mutant_an_older_go_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(go, "closed_by", lambda *_: None)

    with pytest.raises(AssertionError, match="assert False"):
        test_the_newest_verdict_of_a_fingerprint_wins(tmp_path, "unsigned NO-GO")


NO_TIMES = [
    "",
    "yesterday",
    "2026-02-01",
    "2026-02-01T02:00:00",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-23:59",
    "2026-13-01T00:00:00Z",
]
NO_DEMANDS = [
    'go_kinds = ["local"]',
    'go_kinds = ["production"]',
    "go_kinds = []",
    "go_min_rows_share = 0",
    "go_min_rows_share = 1.1",
]


@pytest.mark.fault("s03")
@pytest.mark.parametrize("finished", NO_TIMES)
def test_an_end_that_is_no_time_opens_nothing(tmp_path: Path, finished: str) -> None:
    """And beside a fitting GO it is in nobody's way, if it is no NO-GO itself."""
    runs = tmp_path / "runs"
    path = fitting(runs) / "report.json"
    good = path.read_text()
    path.write_text(json.dumps(json.loads(good) | {"finished": finished}))
    assert refusal(runs)

    fitting(runs, name="another", ago=timedelta(minutes=5))
    assert refusal(runs) == ""


@pytest.mark.fault("v08")
@pytest.mark.parametrize("line", NO_DEMANDS)
def test_a_plan_cannot_ask_for_less_than_something(tmp_path: Path, line: str) -> None:
    path = tmp_path / "managed.toml"
    path.write_text(
        f'name = "managed"\nstrategy = "swap"\n{line}\n'
        '[[tables]]\nname = "public.t"\nkey = "at"\ninterval = "1 month"\n'
    )

    with pytest.raises(PlanError, match="go_"):
        load_plan(path)


@pytest.mark.fault("v08")
def test_what_a_plan_asks_for_decides(tmp_path: Path) -> None:
    fitting(tmp_path, kind="docker", rows={"public.t": 1_000})
    lax = PLAN.model_copy(update={"go_min_rows_share": 0.001})
    strict = lax.model_copy(update={"go_kinds": ["staging"]})

    assert refusal(tmp_path, replace(WANTED, plan=lax)) == ""
    assert "the plan wants one of kind staging" in refusal(tmp_path, replace(WANTED, plan=strict))


@pytest.mark.fault("v07")
@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("plan", "another is the plan"),
        ("sql", "another is the SQL"),
        ("templates", "another is the templates"),
        ("code", "another is the code of the tool"),
        ("lock", "another is the lock of its libraries"),
    ],
)
def test_a_fingerprint_that_differs_says_where(tmp_path: Path, part: str, words: str) -> None:
    fitting(tmp_path, fingerprint=Fingerprint.of(PARTS | {part: "other"}))

    assert words in refusal(tmp_path)
