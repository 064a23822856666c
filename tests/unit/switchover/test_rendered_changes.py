"""Changes that an earlier version applied: a template in other words is no edit, any other template is."""

from __future__ import annotations

from pathlib import Path

from rehearsal.postgres.sqlfiles import checksum
from rehearsal.switchover.changes import SAYS_THE_SAME, fits

SQL = Path(__file__).resolve().parents[3] / "sql"
SPEC = "public.t by day, 1 day, swap"


def test_what_says_the_same_leads_to_the_templates_of_today() -> None:
    """A template that is edited without its checksum here would refuse every database that is migrated already."""
    today = {checksum(path.read_text(encoding="utf-8")) for path in SQL.rglob("*.sql.j2")}
    assert set(SAYS_THE_SAME.values()) <= today
    assert not SAYS_THE_SAME.keys() & today


def test_an_earlier_wording_fits_and_another_template_does_not() -> None:
    """The witness is a checksum that was never released."""
    for earlier, now in SAYS_THE_SAME.items():
        assert fits(f"-- rendered from steps/a.sql.j2, sha256 {earlier}, {SPEC}\nselect 1;", now, SPEC)
        assert not fits(f"-- rendered from steps/a.sql.j2, sha256 {'0' * 64}, {SPEC}\nselect 1;", now, SPEC)
