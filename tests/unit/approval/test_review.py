"""Reviews: bound to a fingerprint, by a name."""

from __future__ import annotations

from pathlib import Path

import pytest

from rehearsal.approval.review import find_review, write_review
from rehearsal.errors import UsageError


def test_a_review_holds_for_its_fingerprint_and_plan_only(tmp_path: Path) -> None:
    written = write_review(tmp_path, "hospitality", "a" * 64, "Ada Lovelace", "read dry_run.log")

    assert find_review(tmp_path, "hospitality", "a" * 64) == written
    assert find_review(tmp_path, "hospitality", "b" * 64) is None
    assert find_review(tmp_path, "sensor_readings", "a" * 64) is None


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"plan": "hospitality"}'])
def test_a_file_that_is_no_review_is_none(tmp_path: Path, text: str) -> None:
    write_review(tmp_path, "hospitality", "a" * 64, "Ada")
    (tmp_path / "reviews" / f"{'a' * 64}.json").write_text(text)

    assert find_review(tmp_path, "hospitality", "a" * 64) is None


def test_a_review_needs_a_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--by NAME"):
        write_review(tmp_path, "hospitality", "a" * 64, "  ")
