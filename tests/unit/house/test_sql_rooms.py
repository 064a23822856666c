"""SQL texts lie below `sql/` where those who use them lie below `rehearsal/`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
# The registry is a contract of engine and hosts, `hosts` is read by both, `migrations` belong to plans.
ELSEWHERE = ("registry.sql", "hosts", "migrations")


def misplaced(sql: Path, package: Path) -> Iterator[str]:
    """Yield texts that nobody in their own room uses, or that nobody uses at all."""
    for path in sorted(file for file in sql.rglob("*") if file.is_file()):
        name = path.relative_to(sql)
        if name.parts[0] in ELSEWHERE:
            continue
        users = [*(package / name.parent).glob("*.py"), *(sql / name.parent).glob("*.j2")]
        # A module that renders several texts of its room names them without folder and suffix.
        words = (name.name, f'"{name.name.partition(".")[0]}"', f'"{name.as_posix().partition(".")[0]}"')
        if not any(word in user.read_text(encoding="utf-8") for user in users for word in words):
            yield name.as_posix()


def test_every_text_lies_with_its_user() -> None:
    """A room holds its code and its SQL."""
    assert list(misplaced(ROOT / "sql", ROOT / "rehearsal")) == []


def test_a_text_in_another_room_is_found(tmp_path: Path) -> None:
    """The witness: a text whose user lies next door, and one that nobody uses."""
    for folder in ("sql/catalog", "sql/checks", "rehearsal/catalog", "rehearsal/checks"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "sql/checks/a.sql").write_text("select 1")
    (tmp_path / "sql/catalog/b.sql").write_text("select 1")
    (tmp_path / "rehearsal/catalog/a.py").write_text('files.query("checks/a.sql")', encoding="utf-8")
    assert list(misplaced(tmp_path / "sql", tmp_path / "rehearsal")) == ["catalog/b.sql", "checks/a.sql"]
