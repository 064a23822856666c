"""The verbs of archives as people type them, by a role that owns the table and is no superuser."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rehearsal.postgres.connection import advisory_lock, connect
from tests.fix_verbs import Managed
from tests.postgres.lifecycle.test_verbs import OTHERS, PARTED

POLICY = (*OTHERS, "--retention", "3 months", "--hold", "0 days")
HELD = "select leaf from rehearsal.lifecycle_detached where state = 'held' order by leaf"


@pytest.fixture
def world(managed: Managed) -> Managed:
    """A table that others partitioned, seven months old; of what is past, three partitions are held."""
    managed.setup(sql_text=PARTED)
    managed.run("set timezone = 'UTC'")
    managed.done("lifecycle-adopt", *POLICY, "--archive")
    managed.done("lifecycle-retain")
    return managed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where archives go."""
    made = tmp_path / "shelf"
    made.mkdir()
    return made


def test_the_whole_way(world: Managed, folder: Path) -> None:
    """Retain waits, archive, again no change, check, retain drops, restore, again no change."""
    assert len(world.rows(HELD)) == 3
    assert "no change" in world.done("lifecycle-retain")
    looked = world.verb("lifecycle-status")
    assert (looked.code, "waits for its archive; run ./inv lifecycle.archive --plan managed" in looked.text) == (
        1,
        True,
    ), looked.text
    dry = world.done("lifecycle-archive", "--dry-run")
    assert "select rehearsal.lifecycle_close(" in dry
    assert list(folder.iterdir()) == []
    said = world.done("lifecycle-archive", "--to", str(folder))
    assert said.count("proven") == 3
    assert "no change" in world.done("lifecycle-archive", "--to", str(folder))
    assert "all archives that are noted are as proven" in world.done("lifecycle-archive", "--check")
    acts = [
        str(row[0])
        for row in world.rows("select act from rehearsal.lifecycle_history where act in ('close', 'archive')")
    ]
    assert sorted(acts) == ["archive"] * 3 + ["close"] * 3
    assert world.done("lifecycle-retain").count("): done") == 3
    assert world.rows(HELD) == []
    assert world.rows("select count(*) from rehearsal.lifecycle_archived") == [(3,)]
    manifest = str(next(folder.glob("public.t_1-*.json")))
    assert "restored" in world.done("lifecycle-restore", "--from", manifest)
    assert "no change" in world.done("lifecycle-restore", "--from", manifest)
    attached = world.done("lifecycle-restore", "--from", manifest, "--attach")
    assert "detaches it anew" in attached
    assert "no change" in world.done("lifecycle-restore", "--from", manifest, "--attach")


def test_a_flipped_bit_keeps_its_leaf_from_the_drop(world: Managed, folder: Path) -> None:
    """By the check, by the retention itself, and the next archive mends it."""
    world.done("lifecycle-archive", "--to", str(folder))
    damaged, other = sorted(folder.glob("*.parquet"))[:2]
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    said = world.verb("lifecycle-archive", "--check")
    assert (said.code, "counts as archived no more" in said.text) == (1, True), said.text
    assert world.done("lifecycle-archive", "--to", str(folder)).count("proven") == 1
    other.unlink()
    said = world.verb("lifecycle-retain")
    assert (said.code, "is not dropped" in said.text, said.text.count(": done")) == (1, True, 2), said.text
    assert len(world.rows(HELD)) == 1
    world.done("lifecycle-archive", "--to", str(folder))
    world.done("lifecycle-retain")
    assert world.rows(HELD) == []


def test_a_saved_decision_names_its_archive(world: Managed, folder: Path, tmp_path: Path) -> None:
    """One that was archived anew since is another decision."""
    world.done("lifecycle-archive", "--to", str(folder))
    decision = tmp_path / "retain.json"
    assert "lifecycle_require_archive" in world.done("lifecycle-retain", "--save", str(decision))
    world.run("update rehearsal.lifecycle_archived set sha256 = 'another'")
    said = world.verb("lifecycle-retain", "--apply", str(decision))
    assert (said.code, "has changed since" in said.text) == (1, True), said.text
    assert len(world.rows(HELD)) == 3


def test_two_at_once_one_works_and_the_other_says_who(world: Managed, folder: Path) -> None:
    """As with retain."""
    with connect(world.mig, role="lifecycle.archive") as other, advisory_lock(other, "lifecycle.archive public.t"):
        said = world.verb("lifecycle-archive", "--to", str(folder))
    assert (said.code, "another run holds lifecycle.archive public.t" in said.text) == (1, True), said.text
    assert list(folder.iterdir()) == []


def test_one_leaf_that_is_barred_keeps_no_other_from_its_archive(world: Managed, folder: Path) -> None:
    """A reader who locked it is named, the others are archived; the next run does the rest."""
    world.write_plan("swap", "[locks]\nattempts = 3")
    with world.session("superuser") as other, other.transaction():
        other.execute(
            "lock table public.t_0 in share update exclusive mode; lock table public.t_0 in row exclusive mode"
        )
        said = world.verb("lifecycle-archive", "--to", str(folder))
    assert (said.code, said.text.count("proven"), "could not acquire lock" in said.text) == (1, 2, True), said.text
    assert world.done("lifecycle-archive", "--to", str(folder)).count("proven") == 1


def test_a_policy_without_archive_is_said(world: Managed, folder: Path) -> None:
    """With the command that says otherwise; retention goes on as before."""
    world.done("lifecycle-adopt", *POLICY, "--no-archive")
    said = world.verb("lifecycle-archive", "--to", str(folder))
    assert (said.code, "lifecycle.adopt --archive" in said.text) == (1, True), said.text
    assert world.done("lifecycle-retain").count("): done") == 3


WRONG = [
    (("lifecycle-archive",), 2, "as --to /srv/archive"),
    (("lifecycle-archive", "--to", "/nonexistent/folder"), 2, "there is no such folder"),
    (("lifecycle-archive", "--to", "x\0y"), 2, "no UTF-8 text"),
    (("lifecycle-archive", "--to", os.fsdecode(b"/tmp/\xff")), 2, "no UTF-8 text"),
    (("lifecycle-restore", "--from", "x\0y"), 2, "no UTF-8 text"),
    (("lifecycle-restore", "--from", os.fsdecode(b"/tmp/\xff")), 2, "no UTF-8 text"),
    (("lifecycle-archive", "--check", "--dry-run"), 2, "give one of them"),
    (("lifecycle-adopt", *POLICY, "--archive", "--no-archive"), 2, "give one of them"),
    (("lifecycle-restore",), 2, "--from"),
    (("lifecycle-restore", "--from", "/nonexistent.json"), 2, "cannot be read"),
    (("lifecycle-restore", "--from", "/"), 2, "cannot be read"),
]


@pytest.mark.parametrize(("words", "code", "said"), WRONG)
def test_wrong_words_are_told_clearly(world: Managed, words: tuple[str, ...], code: int, said: str) -> None:
    """One line, the exit code, no traceback, nothing done."""
    found = world.verb(*words)
    assert (found.code, said in found.text) == (code, True), found.text
    assert "Traceback" not in found.text
    assert world.rows("select count(*) from rehearsal.lifecycle_archived") == [(0,)]


def test_a_manifest_of_a_table_that_nobody_looks_after_is_refused(world: Managed, folder: Path) -> None:
    """The plan is named."""
    world.done("lifecycle-archive", "--to", str(folder))
    world.run(
        "create table public.a_first (like public.t) partition by range (at); "
        "create table public.a_0 partition of public.a_first for values from ('2026-01-01+00') to ('2026-02-01+00')"
    )
    world.done("lifecycle-adopt", "--table", "public.a_first", "--interval", "1 month")
    world.done("lifecycle-adopt", "--forget", "--table", "public.t")
    said = world.verb("lifecycle-restore", "--from", str(next(folder.glob("*.json"))))
    assert (said.code, "is of table public.t, which plan managed does not look after" in said.text) == (1, True), (
        said.text
    )


def test_a_plan_says_that_partitions_are_archived(managed: Managed) -> None:
    """And --no-archive otherwise."""
    managed.setup(rows=4_000, plan='retention = "3 months"\narchive = true')
    managed.done("migrate")
    managed.done("switchover")
    assert "archived and dropped after 3 months" in managed.done("lifecycle-adopt")
    assert "partitions archived" not in managed.done("lifecycle-adopt", "--no-archive")
    assert managed.rows("select archive from rehearsal.lifecycle_policy") == [(False,)]


def test_adopting_again_keeps_the_archive(world: Managed) -> None:
    """Only --no-archive switches it off; what is held goes on waiting."""
    world.done("lifecycle-adopt", *POLICY)
    world.done("lifecycle-adopt", *OTHERS, "--retention", "4 months", "--hold", "0 days")
    assert "no change" in world.done("lifecycle-retain")
    assert len(world.rows(HELD)) == 3
    world.done("lifecycle-adopt", *POLICY, "--no-archive")
    world.done("lifecycle-adopt", *POLICY)
    assert world.rows("select archive from rehearsal.lifecycle_policy") == [(False,)]


def test_adopting_a_plan_again_keeps_the_archive(managed: Managed) -> None:
    """As every update of the program asks for it."""
    managed.setup(rows=4_000, plan='retention = "3 months"')
    managed.done("migrate")
    managed.done("switchover")
    managed.done("lifecycle-adopt", "--archive")
    managed.done("lifecycle-adopt")
    assert managed.rows("select archive from rehearsal.lifecycle_policy") == [(True,)]


def test_a_check_sees_what_is_not_archived_and_what_was_lost_since_the_drop(world: Managed, folder: Path) -> None:
    """As often as it is asked; the note of a dropped leaf stays, so that the file of a backup is known again."""
    assert world.verb("lifecycle-archive", "--check").text.count("is held and not archived") == 3
    world.done("lifecycle-archive", "--to", str(folder))
    victim = min(folder.glob("*.parquet"))
    victim.unlink()
    for _ in range(2):
        said = world.verb("lifecycle-archive", "--check")
        assert (said.code, "is held and not archived" in said.text, "are as proven" in said.text) == (1, True, False)
    world.done("lifecycle-archive", "--to", str(folder))
    world.done("lifecycle-retain")
    assert "are as proven" in world.done("lifecycle-archive", "--check")
    kept = victim.read_bytes()
    victim.write_bytes(kept[:-1])
    for _ in range(2):
        said = world.verb("lifecycle-archive", "--check")
        assert (said.code, "was dropped, and" in said.text, "are as proven" in said.text) == (1, True, False), said.text
    victim.write_bytes(kept)
    world.done("lifecycle-archive", "--check")


def test_a_held_leaf_that_was_altered_is_named(world: Managed, folder: Path) -> None:
    """By the archive and by its check; the others are archived."""
    world.run("grant select on public.t_0 to public")
    world.run("vacuum full public.t_1")
    for words in (("--to", str(folder)), ("--check",)):
        said = world.verb("lifecycle-archive", *words)
        found = [f"{leaf} is held, and neither archived" in said.text for leaf in ("public.t_0", "public.t_1")]
        assert (said.code, found) == (1, [True, True]), said.text
    assert world.rows("select leaf from rehearsal.lifecycle_archived") == [("public.t_2",)]


def test_a_table_that_was_renamed_gets_its_partition_back(world: Managed, folder: Path) -> None:
    """Its OID is noted; another table that has the old name by now does not get it."""
    world.done("lifecycle-archive", "--to", str(folder))
    world.done("lifecycle-retain")
    world.run("alter table public.t rename to t_new; create table public.t (like public.t_new) partition by range (at)")
    manifest = str(next(folder.glob("public.t_1-*.json")))
    assert "restored" in world.done("lifecycle-restore", "--from", manifest, "--attach")
    found = "select inhparent::regclass::text from pg_inherits where inhrelid = 'public.t_1'::regclass"
    assert world.rows(found) == [("public.t_new",)]
