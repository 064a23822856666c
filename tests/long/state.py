"""What came of each slice: remembered under `build/` for this very tree, kept in `docs/long-runs.md` for readers."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "long-runs.md"
BUILD = ROOT / "build" / "long"
HEAD = """\
# Long runs

What `./inv test --long` said last of each of its slices, which writes this page. Two cores; durations are those of the
machine. `+` behind a commit: with changes that were not committed.

| slice | date | commit | duration | outcome | figures |
| --- | --- | --- | --- | --- | --- |
"""


@dataclass(frozen=True)
class Outcome:
    """What came of one slice."""

    name: str
    date: str
    commit: str
    seconds: int
    passed: bool
    figures: str

    @property
    def row(self) -> str:
        """The row of the page."""
        duration = f"{self.seconds // 3600}:{self.seconds // 60 % 60:02}:{self.seconds % 60:02}"
        outcome = "passed" if self.passed else "**failed**"
        cells = (self.name, self.date, self.commit, duration, outcome, self.figures.replace("|", "\\|"))
        return f"| {' | '.join(cells)} |"


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def commit() -> str:
    """Return the short name of the commit, with a plus where files differ from it."""
    return _git("rev-parse", "--short", "HEAD").strip() + ("+" if _git("status", "--porcelain") else "")


def tree() -> str:
    """Return a digest of all files but prose: a commit of the page itself asks for nothing again."""
    digest = hashlib.sha256()
    for name in sorted(_git("ls-files", "-co", "--exclude-standard").splitlines()):
        path = ROOT / name
        if path.suffix != ".md" and path.is_file():
            digest.update(f"{name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


class Progress:
    """The slices of one tree that came to an end, in a file; read anew by a second run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        self.outcomes = {line["name"]: Outcome(**line) for line in map(json.loads, text.splitlines())}

    def passed(self, name: str) -> bool:
        """Return whether a slice has passed; one that failed is run again."""
        return name in self.outcomes and self.outcomes[name].passed

    def add(self, outcome: Outcome) -> None:
        """Remember what came of a slice; the last word counts."""
        self.outcomes[outcome.name] = outcome
        lines = "".join(json.dumps(asdict(outcome)) + "\n" for outcome in self.outcomes.values())
        _replace(self.path, lines)


def write_page(page: Path, outcome: Outcome, names: Iterable[str]) -> None:
    """Put the row of a slice in; rows of other slices stay, those of slices that are no more (not in `names`) go."""
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    rows = {line[2:].split(" | ")[0]: line for line in text.splitlines() if line.startswith("| ")}
    rows[outcome.name] = outcome.row
    _replace(page, HEAD + "".join(f"{rows[name]}\n" for name in names if name in rows))


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)
