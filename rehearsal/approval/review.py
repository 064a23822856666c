"""A second person's review of what is going to run: a name, a date and the fingerprint that was read.

Owns `runs/reviews/<fingerprint>.json`. A review holds for one fingerprint: any change of plan, SQL or
tool needs another.
"""

from __future__ import annotations

import getpass
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from rehearsal.errors import UsageError

FOLDER = "reviews"


@dataclass(frozen=True, slots=True)
class Review:
    """One review. `entered_by` is the user of the machine who wrote it down."""

    plan: str
    fingerprint: str
    by: str
    at: str
    entered_by: str
    note: str = ""


def write_review(runs: Path, plan: str, fingerprint: str, by: str, note: str = "") -> Review:
    """Write down who reviewed this fingerprint; a second review replaces the first one.

    Raises:
        UsageError: no name.
    """
    if not by.strip():
        message = "a review needs a reviewer's name: --by NAME"
        raise UsageError(message)
    at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    review = Review(plan, fingerprint, by.strip(), at, getpass.getuser(), note)
    path = _path(runs, fingerprint)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".new").write_text(json.dumps(asdict(review), ensure_ascii=False) + "\n", encoding="utf-8")
    path.with_suffix(".new").replace(path)
    return review


def find_review(runs: Path, plan: str, fingerprint: str) -> Review | None:
    """Return the review of this plan in this very state; None if there is none, or its file is not one of ours."""
    try:
        review = Review(**json.loads(_path(runs, fingerprint).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return review if (review.plan, review.fingerprint) == (plan, fingerprint) and review.by else None


def _path(runs: Path, fingerprint: str) -> Path:
    return runs / FOLDER / f"{fingerprint}.json"
