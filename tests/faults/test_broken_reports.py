"""Broken reports beside the one that stands for production: named, left out, in nobody's way."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from rehearsal.approval import go
from rehearsal.report.model import Report
from tests.faults.fitting import WANTED, fitting, refusal
from tests.fix_production import Production

BrokenBy = Callable[[Path], object]


def edited(change: Mapping[str, object]) -> BrokenBy:
    """Return what writes the report of the fitting run again, with other values."""

    def work(path: Path) -> None:
        fit = next(path.parent.parent.glob("*-go/report.json"))
        path.write_text(json.dumps(json.loads(fit.read_text()) | change))

    return work


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _sparse(path: Path) -> None:
    path.write_text("{")
    os.truncate(path, go.MAX_BYTES + 1)


def _unreadable(path: Path) -> None:
    path.write_text("{")  # the superuser reads it, and finds this
    path.chmod(0)


BROKEN: dict[str, BrokenBy] = {
    "a brace": lambda path: path.write_text("{"),
    "nothing": lambda path: path.write_text(""),
    "no keys": lambda path: path.write_text("{}"),
    "a list": lambda path: path.write_text("[]"),
    "null": lambda path: path.write_text("null"),
    "a number too large": lambda path: path.write_text("1e999"),
    "deep": lambda path: path.write_text("[" * 100_000),
    "not UTF-8": lambda path: path.write_bytes(b'{"plan": "\xff\xfe"}'),
    "zeros": lambda path: path.write_bytes(b"\0" * 100),
    "a null verdict": edited({"verdict": None}),
    "a verdict of another word": edited(
        {"verdict": {"outcome": "go", "exit_code": 0, "reasons": [], "not_rehearsed": []}}
    ),
    "a plan that is a number": edited({"plan": 7}),
    "a key too many": edited({"another": 1}),
    "another version": edited({"version": 2}),
    "a folder": lambda path: path.mkdir(),
    "a fifo": _fifo,
    "a link to nowhere": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "huge": _sparse,
    "unreadable": _unreadable,
}


def broken_beside(runs: Path, work: BrokenBy) -> None:
    """A fitting GO, and the broken report of a later run: that run is named and left out, the GO stands."""
    fit = fitting(runs)
    other = runs / "20991231T235959Z-staging-other"
    other.mkdir()
    work(other / "report.json")

    try:
        found = go.find_go(runs, WANTED)
    except Exception as exc:
        raise AssertionError(f"another run's report is in the way: {exc!r}") from exc

    assert found.report.run == fit.name
    assert [told.partition(": ")[0] for told in found.left_out] == [other.name]
    (fit / "report.json").rename(fit / "gone.json")
    assert other.name in refusal(runs), "the run is not named"


@pytest.mark.fault("s03")
@pytest.mark.parametrize("what", list(BROKEN))
def test_a_broken_report_of_another_run_is_named_and_left_out(tmp_path: Path, what: str) -> None:
    broken_beside(tmp_path / "runs", BROKEN[what])


@pytest.mark.fault("s03", mutant=True)
@pytest.mark.parametrize("what", ["a brace", "no keys", "not UTF-8", "a folder"])
def test_mutant_reports_that_are_read_as_if_all_were_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def read(path: Path) -> Report:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        assert value["verdict"]["outcome"]
        return Report.model_construct(**value)

    monkeypatch.setattr(go, "read_report", read)

    with pytest.raises(AssertionError, match="in the way"):
        broken_beside(tmp_path / "runs", BROKEN[what])


def a_brace_beside_production(production: Production) -> None:
    """The command line itself, and what it says."""
    production.go()
    other = production.runs / "20991231T235959Z-staging-other"
    other.mkdir()
    (other / "report.json").write_text("{")

    try:
        said = production.call("migrate")
    except ValueError as exc:
        raise AssertionError(f"a traceback: {exc!r}") from exc

    assert said.code == 0, said.text
    assert f"left out, since it cannot be read: {other.name}: report.json is no report" in said.text


@pytest.mark.fault("s03")
def test_migrate_in_production_with_a_broken_report_beside(production: Production) -> None:
    a_brace_beside_production(production)


@pytest.mark.fault("s03", mutant=True)
def test_mutant_migrate_ends_in_a_traceback(production: Production, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: Path) -> Report:
        return Report(**json.loads(path.read_text(encoding="utf-8")))

    monkeypatch.setattr(go, "read_report", read)

    with pytest.raises(AssertionError, match="a traceback"):
        a_brace_beside_production(production)


@pytest.mark.fault("s03")
@pytest.mark.parametrize("name", ["signature.json", "MANIFEST.sha256", "evidence.jsonl", "events.jsonl", "report.html"])
@pytest.mark.parametrize("work", ["folder", "brace", "gone", "not UTF-8"])
def test_any_other_file_of_the_run_that_is_broken_closes_it(tmp_path: Path, name: str, work: str) -> None:
    path = fitting(tmp_path / "runs") / name
    path.unlink()
    if work == "folder":
        path.mkdir()
    elif work != "gone":
        path.write_bytes(b"{" if work == "brace" else b"\xff\xfe")

    assert "it does not verify" in refusal(tmp_path / "runs")


@pytest.mark.fault("s03")
def test_a_run_whose_name_cannot_be_written_is_named(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    fitting(runs)
    odd = os.fsencode(runs) + b"/\xff\xfe-odd"
    os.mkdir(odd)  # noqa: PTH102 -- a name that is no text
    with open(odd + b"/report.json", "wb") as file:  # noqa: PTH123
        file.write(b"{")

    left_out = go.find_go(runs, WANTED).left_out

    assert left_out[0].startswith("\\xff\\xfe-odd: "), left_out
    assert left_out[0].encode()
