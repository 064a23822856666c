"""The report: built from evidence and events, rendered four ways, always the same from the same folder."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from rehearsal.evidence.run import Run
from rehearsal.report import build_report, report_schema, write_report
from rehearsal.report.chapters import CHAPTERS
from rehearsal.report.model import Report
from rehearsal.verdict.decide import Outcome, decide_run
from rehearsal.verdict.gates import GATES
from tests.json_schema import problems
from tests.played import ENVIRONMENT, FINGERPRINT, PLAN, START, Player, play

SCHEMA = Path(__file__).resolve().parents[3] / "docs" / "report.schema.json"
NASTY = '<script>alert(1)</script> | `x` [y](z) \x07 & "q"'
VOID = {"wbr", "meta", "col", "br", "rect", "line", "polyline"}


def read(run: Run, kind: str = "staging") -> Report:
    """Write the report of a run and read report.json."""
    write_report(run, PLAN, ENVIRONMENT | {"kind": kind}, FINGERPRINT)
    return Report.model_validate_json((run.folder / "report.json").read_bytes())


def number(report: Report, name: str) -> tuple[float | None, str]:
    """Return value and tone of one of the five numbers."""
    found = next(number for number in report.numbers if number.id == name)
    return found.value, found.tone


class Balance(HTMLParser):
    """Collects tags and checks that they nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: D102 -- of the library
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in {"href", "src"}]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: D102
        self.tags.add(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:  # noqa: D102
        if tag not in VOID:
            assert self.open.pop() == tag


def test_every_gate_has_exactly_one_chapter() -> None:
    shown = [name for chapter in CHAPTERS for name in chapter.gates]

    assert sorted(shown) == sorted(gate.id for gate in GATES)


def test_go_report_has_the_five_numbers_with_their_witnesses(tmp_path: Path) -> None:
    report = read(play(tmp_path / "run"))

    assert report.verdict.outcome == "GO"
    assert [(number.text, number.note) for number in report.numbers] == [
        ("0", "of 5,900 acknowledged"),
        ("0", "of 1,071,388 compared"),
        ("612 ms", "limit 2.0 s"),
        ("41 ms", "limit 2.0 s"),
        ("12.6 s", "limit 60 min"),
    ]
    assert {number.tone for number in report.numbers} == {"good"}
    assert report.estimate.startswith("19 minutes for 100 million rows")
    assert report.issues == ["lock barrier took 2 attempts"]


def test_number_that_nobody_measured_is_not_zero(tmp_path: Path) -> None:
    """Mutant: without the ledger's evidence there is no zero to show, and no GO."""
    report = read(play(tmp_path / "run", without="ledger"))

    assert report.verdict.outcome == "INCONCLUSIVE"
    assert number(report, "lost") == (None, "unknown")
    assert "ledger (unseen): no evidence was recorded" in report.issues


@pytest.mark.parametrize(("passed", "tone"), [(False, "bad"), (None, "unknown")])
def test_number_of_a_gate_that_did_not_pass_is_never_good(tmp_path: Path, passed: bool | None, tone: str) -> None:
    report = read(play(tmp_path / "run", mutate={"ledger": passed}))

    assert number(report, "lost") == (0, tone)


def test_lost_writes_are_those_of_the_worst_reconciliation(tmp_path: Path) -> None:
    player = Player(tmp_path / "run")
    for phase, lost in (("load", 0), ("rollback", 3)):
        with player.phase(phase, phase, 1):
            player.evidence("ledger", "posts", lost == 0, f"{lost} lost", lost=lost, acknowledged=10)

    report = read(player.run)

    assert report.verdict.outcome == "NO-GO"
    assert number(report, "lost") == (3, "bad")
    assert report.verdict.reasons[0] == "ledger: posts: 3 lost"


def test_report_json_fits_its_schema_and_the_schema_is_current(tmp_path: Path) -> None:
    """The validator shares nothing with the models (mutants: a missing, an unknown and a mistyped field)."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    assert schema == report_schema(), "write it again: python -m rehearsal.report > docs/report.schema.json"
    for kind in ("staging", "local"):
        value = read(play(tmp_path / kind), kind).model_dump(mode="json")
        assert problems(value, schema, schema) == []
        assert problems({**value, "version": 2}, schema, schema)
        assert problems({**value, "stray": 1}, schema, schema)
        assert problems({name: part for name, part in value.items() if name != "verdict"}, schema, schema)
        assert problems({**value, "duration_s": "long"}, schema, schema)


def test_same_folder_gives_the_same_bytes(tmp_path: Path) -> None:
    run = play(tmp_path / "a" / "run")
    shutil.copytree(run.folder, tmp_path / "b" / "run")
    copy = Run(tmp_path / "b" / "run")
    read(run)
    read(run)
    read(copy)

    for name in ("report.md", "report.json", "report.html", "report.junit.xml", "MANIFEST.sha256"):
        assert (run.folder / name).read_bytes() == (copy.folder / name).read_bytes(), name


def test_manifest_names_every_file_with_its_checksum(tmp_path: Path) -> None:
    run = play(tmp_path / "run")
    read(run)

    lines = (run.folder / "MANIFEST.sha256").read_text(encoding="utf-8").splitlines()
    listed = {name: checksum for checksum, name in (line.split("  ") for line in lines)}
    there = {path.relative_to(run.folder).as_posix() for path in run.folder.rglob("*") if path.is_file()}
    assert listed.keys() == there - {"MANIFEST.sha256"}
    assert all(hashlib.sha256((run.folder / n).read_bytes()).hexdigest() == want for n, want in listed.items())


def test_html_is_one_whole_file_without_script_or_network(tmp_path: Path) -> None:
    run = play(tmp_path / "run")
    read(run)
    text = (run.folder / "report.html").read_text(encoding="utf-8")

    page = Balance()
    page.feed(text)
    assert page.open == []
    assert page.tags.isdisjoint({"script", "link", "img", "iframe", "object"})
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert not any(re.match(r"\w+:|//", link) for link in page.links)
    assert "@import" not in text
    assert "url(" not in text
    assert text.count("<svg") == 4
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_everything_from_outside_is_escaped(tmp_path: Path) -> None:
    """Names, observations, table cells, events, notes: none becomes markup, a table cell or broken XML."""
    player = Player(tmp_path / "run")
    with player.phase("switchover", NASTY, 1):
        grid = {"columns": ["partition", NASTY], "rows": [[NASTY, 1]]}
        player.evidence("parity-after", NASTY, passed=False, observed=NASTY, table=grid, other=NASTY)
        player.event("lock", table=NASTY, what=NASTY, attempts=2, waited_ms=1, held_ms=1, blockers=[NASTY])
        for done in (1, 2):
            player.event("progress", what=NASTY, done=done, total=2, unit=NASTY)
            player.second += 0.3
    (player.run.folder / "notes.md").write_text(f"# Verdict: GO\n{NASTY}", encoding="utf-8")
    (player.run.folder / "a'b<c>.log").write_text("", encoding="utf-8")
    read(player.run)

    html = (player.run.folder / "report.html").read_text(encoding="utf-8")
    markdown = (player.run.folder / "report.md").read_text(encoding="utf-8")
    assert "<script>" not in html + markdown
    assert "&lt;script&gt;" in html
    page = Balance()
    page.feed(html)
    assert page.open == []
    assert "\n# Verdict" not in markdown
    row = next(line for line in markdown.splitlines() if line.startswith("| failed | parity-after"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 5
    suite = ET.fromstring((player.run.folder / "report.junit.xml").read_text(encoding="utf-8"))  # noqa: S314 -- ours
    assert "<script>" in "".join(suite.itertext())


def test_secrets_are_hidden_everywhere(tmp_path: Path) -> None:
    run = play(tmp_path / "run")
    read(run)

    for name in ("report.md", "report.json", "report.html", "report.junit.xml"):
        text = (run.folder / name).read_text(encoding="utf-8")
        assert "hunter2" not in text
        assert "db1.example" in text or name == "report.junit.xml"


def test_junit_counts_failed_unseen_and_excused_gates(tmp_path: Path) -> None:
    """A gate that nobody saw is an error: CI must not go green on it."""
    run = play(tmp_path / "run", mutate={"ledger": False, "generator": None}, without="dashboard")
    read(run, "local")

    suite = ET.parse(run.folder / "report.junit.xml").getroot()  # noqa: S314 -- ours
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "43",
        "failures": "1",
        "errors": "1",
        "skipped": "3",
    }
    by_name = {case.get("name"): [child.tag for child in case] for case in suite}
    assert by_name["ledger"] == ["failure"]
    assert by_name["generator"] == ["error"]
    assert by_name["dashboard"] == ["skipped"]
    assert by_name["parity-after"] == ["system-out"]


def test_notes_of_the_team_are_kept_across_renders(tmp_path: Path) -> None:
    run = play(tmp_path / "run")
    (run.folder / "notes.md").write_text("Warm the cache first.\n", encoding="utf-8")

    for _ in range(2):
        assert read(run).lessons.notes == "Warm the cache first."
        assert "> Warm the cache first." in (run.folder / "report.md").read_text(encoding="utf-8")


def test_killed_and_resumed_phase_is_two_attempts_in_the_timeline(tmp_path: Path) -> None:
    player = Player(tmp_path / "run")
    player.run.phase = "switchover"
    player.event("phase-started", title="Switchover", name="switchover")
    player.second = 5
    player.run.phase = ""
    player.event("phase-skipped", name="preflight", title="Preflight", reason="left out by --from")
    player.event("phase-skipped", name="switchover", title="Switchover", reason="done before")
    with player.phase("switchover", "Switchover", 7):
        pass

    spans = [(span.phase, span.start_s, span.seconds, span.state) for span in read(player.run).timeline]

    assert ("switchover", 0, 5, "interrupted") in spans
    assert ("switchover", 5, 7, "ok") in spans
    assert ("preflight", 5, 0, "skipped") in spans
    assert any("switchover interrupted after 5.0 s" in issue for issue in read(player.run).issues)


def test_latency_is_the_slowest_kind_and_a_torn_line_is_left_out(tmp_path: Path) -> None:
    """The load's own form: seconds since 1970, a line a kind of request, other lines between."""
    player = Player(tmp_path / "run")
    player.event("note", text="begin")
    at = int(START.timestamp()) + 3
    for op, p99 in (("insert", 9.5), ("read", 4.0)):
        player.write("load/0001.latency.jsonl", t="second", second=at, op=op, p50_ms=1.0, p99_ms=p99)
    player.write("load/0001.latency.jsonl", t="end", at=at)
    player.run.append_text("load/0001.latency.jsonl", '{"t": "second", "sec')

    assert [(second.at_s, second.p50_ms, second.p99_ms) for second in read(player.run).latency] == [(3.0, 1.0, 9.5)]


def test_run_without_anything_is_inconclusive_and_still_has_a_report(tmp_path: Path) -> None:
    player = Player(tmp_path / "run")

    report = read(player.run)

    assert report.verdict.outcome == "INCONCLUSIVE"
    assert report.verdict.exit_code == 3
    assert report.estimate.startswith("withheld")
    assert all(number.value is None for number in report.numbers)


def test_estimate_is_withheld_for_a_copy_too_small_to_judge_by(tmp_path: Path) -> None:
    player = Player(tmp_path / "run")
    for done in (0, 500):
        player.event("progress", what="copy posts", done=done, total=500, unit="rows")
        player.second += 2

    assert read(player.run).estimate == "withheld: 500 rows in 2.0 s are too few to judge a long copy by"


def test_time_in_a_pause_does_not_count_in_the_estimate(tmp_path: Path) -> None:
    """A copy of a million rows in 10 s, paused for an hour amid them: 100 million take 17 minutes."""
    player = Player(tmp_path / "run")
    player.event("progress", what="copy posts", done=0, total=1_000_000, unit="rows")
    player.second += 5
    player.event("pace", what="copy of posts", text="paused", paused=True)
    player.second += 3600
    player.event("pace", what="copy of posts", text="goes on", paused=False)
    player.second += 5
    player.event("progress", what="copy posts", done=1_000_000, total=1_000_000, unit="rows")

    report = read(player.run)
    assert report.estimate.startswith("17 minutes for 100 million rows at 100,000 rows a second")


def test_next_steps_follow_verdict_and_environment(tmp_path: Path) -> None:
    def steps(name: str, kind: str, **result: bool | None) -> str:
        return " ".join(read(play(tmp_path / name, mutate=dict(result)), kind).next_steps)

    assert "rehearse on docker or staging" in steps("a", "local")
    assert "run production with the same fingerprint within 14 days" in steps("b", "staging")
    assert "put right what failed" in steps("c", "staging", ledger=False)
    assert "missing evidence is never a GO" in steps("d", "staging", generator=None)


def test_unknown_data_becomes_tables(tmp_path: Path) -> None:
    """Lists of objects, objects and plain values each have their form; long tables say what is left out."""
    player = Player(tmp_path / "run")
    data: dict[str, Any] = {
        "found": [{"id": "P1", "remedy": "x"}, {"id": "P2", "where": "y"}],
        "errors": {"55P03": 2},
        "seconds": 1.5,
        "empty": [],
    }
    with player.phase("preflight", "Preflight", 1):
        player.evidence("preflight", "posts", passed=True, observed="seen", **data)
        player.evidence(
            "smoke", "all", passed=True, observed="seen", table={"columns": ["n"], "rows": [[n] for n in range(1000)]}
        )

    report = read(player.run)

    tables = {gate.id: gate.tables for gate in report.gates}
    assert [(table.title, table.columns, table.rows) for table in tables["preflight"]] == [
        ("found", ["id", "remedy", "where"], [["P1", "x", None], ["P2", None, "y"]]),
        ("errors", ["of", "value"], [["55P03", 2]]),
        ("measured", ["subject", "seconds"], [["posts", 1.5]]),
    ]
    assert (len(tables["smoke"][0].rows), tables["smoke"][0].omitted) == (300, 700)
    assert "and 980 more rows" in (player.run.folder / "report.md").read_text(encoding="utf-8")
    assert "and 700 more rows" in (player.run.folder / "report.html").read_text(encoding="utf-8")


def test_build_report_is_pure(tmp_path: Path) -> None:
    """Building writes nothing into the folder."""
    run = play(tmp_path / "run")
    before = sorted(run.folder.rglob("*"))
    verdict = decide_run(run.evidence(), kind="staging", plan=PLAN)

    report = build_report(run, plan=PLAN, environment=ENVIRONMENT, fingerprint=FINGERPRINT, verdict=verdict)

    assert verdict.outcome is Outcome.GO
    assert report.fingerprint == FINGERPRINT
    assert sorted(run.folder.rglob("*")) == before
