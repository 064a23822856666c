"""The runbook of a GO: its commands run as they are printed, and what was not measured is said."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from rehearsal.plan.file import find_plan, load_plan
from rehearsal.postgres.connection import connect
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.rehearse.context import fingerprint_of
from tests.fix_verbs import Managed
from tests.signed import rehearsed

STABLE = 'stable_days = 0\nname = "managed"'
# What people do, or hosts that this world has not.
BY_HAND = ("plan.review", "db.provision")


def went(world: Managed, **how: object) -> Path:
    """Make a GO of the plan as it is now."""
    plan = load_plan(find_plan("managed", world.root))
    with connect(world.mig) as conn:
        fitting = {"rows": {"public.t": 3_000}, "server": conn.info.server_version}
    fingerprint = fingerprint_of(plan, SqlFiles(world.root / "sql"))
    return rehearsed(world.root / "runs", plan, fingerprint, **{**fitting, **how})  # type: ignore[arg-type]


def written(world: Managed, *words: str) -> str:
    """Write the runbook of the newest run and return its Markdown."""
    said = world.plain("runbook", "--for", "managed", *words)
    assert said.code == 0, said.text
    (path,) = (world.root / "runbooks").glob("*/runbook.md")
    page = path.with_suffix(".html").read_text()
    assert "<h1>Runbook" in page
    assert "http" not in page.replace("http-equiv", "")
    return path.read_text()


def test_its_commands_run_as_printed_and_end_cleaned_up(managed: Managed) -> None:
    """None retyped: switched, watched, looked after, cleaned up."""
    managed.setup(rows=3_000, plan='retention = "10 years"')
    path = managed.root / "plans" / "managed.toml"
    path.write_text(path.read_text().replace('name = "managed"', STABLE, 1))
    went(managed)
    text = written(managed)
    timetable = text.split("\n## Timetable")[1].split("\n## Stop")[0]
    commands = [shlex.split(line) for line in re.findall(r"```sh\n\./inv (.*)\n```", timetable)]
    assert len(commands) > 8
    for verb, *words in commands:
        if verb not in BY_HAND:
            said = managed.plain(verb, *words, "--yes")
            assert said.code == 0, (verb, said.text)
    assert managed.rows("select relkind from pg_class where oid = 'public.t'::regclass") == [("p",)]
    assert managed.rows("select count(*) from rehearsal.migration") == [(0,)]
    assert managed.rows("select to_regclass('public.t_old')") == [(None,)]


def test_what_was_not_measured_is_a_named_blank(managed: Managed) -> None:
    """And one run has no interval."""
    managed.setup()
    went(managed)
    text = written(managed)
    assert "**not measured**: twins did not run in this rehearsal" in text
    assert "an interval of the times: one run has none" in text
    plan = load_plan(find_plan("managed", managed.root))
    assert f"Fingerprint `{fingerprint_of(plan, SqlFiles(managed.root / 'sql'))[:16]}`" in text


def test_it_is_refused_for_another_plan_than_was_rehearsed(managed: Managed) -> None:
    """Times of other steps are guesses."""
    managed.setup()
    went(managed)
    managed.write_plan("swap", "premake = 7")
    said = managed.plain("runbook")
    assert (said.code, "rehearse again" in said.text) == (1, True)


@pytest.mark.parametrize(("words", "code", "said"), [((), 2, "no report"), (("--run", "nowhere"), 2, "nowhere")])
def test_without_a_run_it_says_so(managed: Managed, words: tuple[str, ...], code: int, said: str) -> None:
    """One line, no traceback."""
    managed.setup()
    found = managed.plain("runbook", *words)
    assert (found.code, said in found.text) == (code, True), found.text
