"""Sign and verify: an edit anywhere in the run's folder shows."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from rehearsal.approval.signature import sign, verify_signature
from rehearsal.errors import PreconditionError, UsageError
from rehearsal.evidence.run import Run
from rehearsal.report import write_report
from rehearsal.report.write import MANIFEST, SIGNATURE, list_files
from tests.played import ENVIRONMENT, FINGERPRINT, PLAN, play

WHEN = "2026-02-02T09:30:00Z"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run whose report is a GO."""
    run = play(tmp_path / "20260201T020000Z-staging-hospitality")
    write_report(run, PLAN, ENVIRONMENT, FINGERPRINT)
    return run.folder


@pytest.fixture
def refused(tmp_path: Path) -> Path:
    """A run whose report is a NO-GO."""
    run = play(tmp_path / "20260201T030000Z-staging-hospitality", mutate={"ledger": False})
    write_report(run, PLAN, ENVIRONMENT, FINGERPRINT)
    return run.folder


def test_signed_report_verifies_and_shows_name_date_and_fingerprint(folder: Path) -> None:
    signature = sign(folder, "K. Sato", WHEN)

    assert verify_signature(folder) == []
    assert signature.fingerprint == FINGERPRINT
    for page in ("report.md", "report.html"):
        text = (folder / page).read_text(encoding="utf-8")
        assert "K. Sato" in text
        assert WHEN in text
        assert signature.report_sha256 in text
    subprocess.run(["sha256sum", "--check", "--quiet", "MANIFEST.sha256"], cwd=folder, check=True)


def test_rendering_again_keeps_the_signature(folder: Path) -> None:
    """Nothing changed, so every byte is the same and the signature holds."""
    sign(folder, "K. Sato", WHEN)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    write_report(Run(folder), PLAN, ENVIRONMENT, FINGERPRINT)

    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert verify_signature(folder) == []


def test_one_flipped_bit_in_any_file_is_found(folder: Path) -> None:
    """Mutants: report, pages, evidence, events, attachments, latency, manifest and the signature itself."""
    sign(folder, "K. Sato", WHEN)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert {path.relative_to(folder).as_posix() for path in files} == {*list_files(folder), MANIFEST, SIGNATURE}
    assert {"report.json", "report.md", "report.html", "evidence.jsonl", "events.jsonl"} <= set(list_files(folder))
    for path in files:
        good = path.read_bytes()
        for place in {0, len(good) // 2, len(good) - 1}:
            path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
            assert verify_signature(folder), f"{path.name} at {place}"
        path.write_bytes(good)
    assert verify_signature(folder) == []


@pytest.mark.parametrize("field", ["by", "at", "fingerprint", "outcome", "accept"])
def test_well_formed_lie_in_the_signature_is_found(folder: Path, field: str) -> None:
    sign(folder, "K. Sato", WHEN)
    path = folder / "signature.json"
    lie = json.loads(path.read_text(encoding="utf-8")) | {field: "NO-GO"}
    path.write_text(json.dumps(lie), encoding="utf-8")

    assert "signature.json was edited" in verify_signature(folder)


def test_removed_and_added_files_are_found(folder: Path) -> None:
    sign(folder, "K. Sato", WHEN)
    (folder / "dry_run.log").rename(folder / "dry_run.txt")

    assert verify_signature(folder) == ["dry_run.log is missing", "dry_run.txt was added"]


def test_changed_evidence_takes_the_signature_off_the_page(folder: Path) -> None:
    """A report that is rendered anew from other evidence says that its signature does not hold."""
    sign(folder, "K. Sato", WHEN)
    (folder / "notes.md").write_text("one more thing", encoding="utf-8")
    run = Run(folder)

    write_report(run, PLAN, ENVIRONMENT, FINGERPRINT)

    assert "this signature does not hold" in (folder / "report.md").read_text(encoding="utf-8")
    assert "report.json was edited" in verify_signature(folder)
    with pytest.raises(UsageError, match=r"move .* away"):
        sign(folder, "A. Other", WHEN)


def test_only_a_go_is_signed_unless_a_reason_is_printed(refused: Path) -> None:
    with pytest.raises(UsageError, match="verdict is NO-GO"):
        sign(refused, "K. Sato", WHEN)
    assert not (refused / "signature.json").exists()

    sign(refused, "K. Sato", WHEN, accept="known defect 17, no writes on Sundays")

    assert verify_signature(refused) == []
    assert "known defect 17" in (refused / "report.md").read_text(encoding="utf-8")


def test_edited_run_is_not_signed(folder: Path) -> None:
    with (folder / "evidence.jsonl").open("a", encoding="utf-8") as file:
        file.write("\n")

    with pytest.raises(PreconditionError, match=r"evidence\.jsonl was edited"):
        sign(folder, "K. Sato", WHEN)


@pytest.mark.parametrize(("by", "when", "match"), [("  ", WHEN, "--by NAME"), ("K", "yesterday", "not a date")])
def test_name_and_date_are_checked(folder: Path, by: str, when: str, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        sign(folder, by, when)


def test_second_signature_is_refused(folder: Path) -> None:
    sign(folder, "K. Sato", WHEN)

    with pytest.raises(UsageError, match="signed already; its signature holds"):
        sign(folder, "A. Other", WHEN)


def test_unsigned_and_empty_folders_are_named(folder: Path, tmp_path: Path) -> None:
    assert verify_signature(folder) == [f"{folder.name} is not signed, its files are as they were written"]
    (folder / "row_counts.log").write_text("other\n")
    assert verify_signature(folder)[0] == f"{folder.name} is not signed"
    assert [line.rpartition(" was ")[0] for line in verify_signature(folder)[1:]] == ["row_counts.log"]
    with pytest.raises(PreconditionError, match="render it first"):
        sign(tmp_path, "K. Sato", WHEN)
