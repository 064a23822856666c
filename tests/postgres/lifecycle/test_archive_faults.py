"""What goes wrong with an archive: a kill, a damaged file, a full disk; nothing counts as archived that is not."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest

from rehearsal.environment import Database
from rehearsal.errors import StepFailed, UsageError
from rehearsal.lifecycle.content import read_content
from rehearsal.lifecycle.manifest import read_manifest
from rehearsal.lifecycle.noted import DropWatch, read_noted
from rehearsal.lifecycle.reading import LeafAct
from rehearsal.postgres.connection import scalar
from tests.fix_postgres import ROOT
from tests.postgres.lifecycle.archived import LATER, Shelf
from tests.postgres.lifecycle.kept import Kept
from tests.postgres.lifecycle.test_retain import YEAR

KILLED = -9
# Each third point, before and after one in turns; all of them take minutes.
STRIDE = 3
SCRATCH = "select count(*) from pg_class where relname like 'lifecycle_proof%'"
# More than one block (rehearsal.lifecycle.parquet.BLOCK_BYTES) at both sizes.
WIDE = """
insert into public.t (at, v, wide)
select '2026-0{month}-01+00'::timestamptz + n * interval '1 second', n, repeat(md5(n::text), 7)
from generate_series(1, {rows}) as n
"""
# Ten times the rows are 130 MiB more of values; what allocators keep differs by some 25 MiB from run to run.
MEMORY_KIB = 64 * 1024


@pytest.fixture
def shelf(kept: Kept, tmp_path: Path) -> Shelf:
    """Three leaves that are held, of one row each."""
    folder = tmp_path / "archive"
    folder.mkdir()
    shelf = Shelf(kept, folder)
    shelf.hold()
    return shelf


def child(database: Database, *words: object) -> subprocess.CompletedProcess[str]:
    """Let a process of its own archive or restore."""
    command = [sys.executable, "-m", "tests.postgres.lifecycle.dying", *map(str, words)]
    said = json.dumps(asdict(database))
    return subprocess.run(command, input=said, capture_output=True, text=True, check=False, cwd=ROOT)


def lives(database: Database, *words: object) -> Iterator[int]:
    """Let processes die at point after point, until one reaches the end."""
    for point in count(1, STRIDE):
        done = child(database, *words, point)
        if done.returncode == 0:
            return
        assert done.returncode == KILLED, done.stderr
        yield point


def require_honest(shelf: Shelf) -> None:
    """What is noted is proven: its files are whole, and have the rows of the leaf."""
    for noted in read_noted(shelf.kept.conn, shelf.kept.policy.oid):
        assert noted.fault() is None
        manifest = read_manifest(Path(noted.manifest))
        content = read_content(shelf.kept.conn, shelf.kept.files, manifest.leaf)
        assert (content.rows, content.digest) == (manifest.rows, manifest.digest)
    counts = "select array[(select count(*) from public.t_first), (select count(*) from public.t_m2)]"
    assert scalar(shelf.kept.conn, counts) == [1, 1]


def test_killed_anywhere_the_next_run_completes_it(shelf: Shelf, database: Database) -> None:
    """A life dies at each third point, and what is noted then is true; the last one archives all and leaves nothing."""
    died = 0
    for _ in lives(database, "archive", "all", shelf.folder):
        died += 1
        require_honest(shelf)
    assert died > 10
    require_honest(shelf)
    assert shelf.waiting() == []
    assert scalar(shelf.kept.conn, SCRATCH) == 0
    assert len(list(shelf.folder.iterdir())) == 6
    assert len(shelf.drop()) == 3


def test_a_killed_restore_leaves_nothing_and_the_next_completes_it(shelf: Shelf, database: Database) -> None:
    """The table comes with its rows or not at all."""
    shelf.archive()
    shelf.drop()
    manifest = shelf.manifest()
    died = 0
    for _ in lives(database, "restore", manifest, shelf.folder):
        died += 1
        if scalar(shelf.kept.conn, "select to_regclass('public.t_first') is not null"):
            assert scalar(shelf.kept.conn, "select count(*) from public.t_first") == 1
    assert died > 3
    assert scalar(shelf.kept.conn, "select count(*) from public.t where at < '2026-02-01+00'") == 1
    assert shelf.restorer(manifest).restore(attach=True)
    assert "no change" in shelf.told[-1]


@pytest.mark.parametrize("suffix", [".parquet", ".json"])
@pytest.mark.parametrize("place", [0, 0.5, 1])
def test_a_flipped_bit_is_found_before_the_drop(shelf: Shelf, suffix: str, place: float) -> None:
    """The note is taken back, with the reason in the history; the leaf waits, and is archived anew."""
    shelf.archive()
    path = shelf.manifest().with_suffix(suffix)
    text = bytearray(path.read_bytes())
    text[round(place * (len(text) - 1))] ^= 1
    path.write_bytes(text)
    assert "is not what was proven" in shelf.lost()["public.t_first"]
    assert shelf.lost() == {}
    shelf.kept.pass_to(LATER)
    assert {act.leaf for act in shelf.kept.to_retire()} == {"public.t_m2", "public.t_m3"}
    lost = "select said from rehearsal.lifecycle_history where act = 'archive-lost'"
    assert "SHA-256" in scalar(shelf.kept.conn, lost)
    assert shelf.archive() == 1
    assert len(shelf.drop()) == 3


@pytest.mark.parametrize("how", ["gone", "cut", "empty", "other"])
def test_a_file_that_is_not_there_or_another_is_found(shelf: Shelf, how: str) -> None:
    """A missing one, one that was cut short, and that of another leaf."""
    shelf.archive()
    path = shelf.manifest().with_suffix(".parquet")
    if how == "gone":
        path.unlink()
    else:
        other = shelf.manifest(("public", "t_m2")).with_suffix(".parquet").read_bytes()
        path.write_bytes({"cut": path.read_bytes()[:-10], "empty": b"", "other": other}[how])
    assert list(shelf.lost()) == ["public.t_first"]
    assert shelf.archive() == 1


@pytest.mark.parametrize("how", ["gone", "other"])
def test_a_file_that_goes_while_the_drop_waits_keeps_its_leaf(shelf: Shelf, how: str) -> None:
    """It is looked at once more under the lock; the leaves after it go all the same."""
    shelf.archive()
    path = shelf.manifest().with_suffix(".parquet")
    shelf.kept.pass_to(LATER)
    acts = shelf.kept.to_retire()
    plain = DropWatch(shelf.kept.conn, shelf.kept.policy.oid)

    def watch(act: LeafAct) -> Callable[[], None] | None:
        looked = plain(act)
        if act.leaf == "public.t_first":
            path.unlink() if how == "gone" else path.write_bytes(path.read_bytes())
        return looked

    assert not shelf.kept.worker.retire(acts, watch)
    assert "was changed while the lock was waited for" in str([done.failure for done in shelf.kept.told])
    assert [leaf.leaf for leaf in shelf.kept.standing().held] == ["public.t_first"]
    assert shelf.kept.worker.retire(shelf.kept.to_retire(), plain) is (how == "other")


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond so many bytes: the system refuses the write as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def require_nothing_done(shelf: Shelf) -> None:
    """No note, no file, no drop."""
    assert scalar(shelf.kept.conn, "select count(*) from rehearsal.lifecycle_archived") == 0
    assert scalar(shelf.kept.conn, SCRATCH) == 0
    shelf.kept.pass_to(LATER)
    assert shelf.kept.to_retire() == []


@pytest.mark.parametrize("size", [0, 100, 1_000])
def test_a_full_disk_is_said_and_nothing_is_half_done(shelf: Shelf, size: int) -> None:
    """In one sentence, with the folder; the file goes."""
    with (
        room_for(size),
        pytest.raises(StepFailed, match="File too large; it is not noted as archived, so nothing is dropped"),
    ):
        shelf.archive()
    assert list(shelf.folder.iterdir()) == []
    require_nothing_done(shelf)
    assert shelf.archive() == 3


def test_a_folder_that_went_away_is_said(shelf: Shelf) -> None:
    """As a disk of the network that is not mounted any more."""
    shelf.folder.rmdir()
    with pytest.raises(StepFailed, match="No such file or directory; it is not noted"):
        shelf.archive()
    require_nothing_done(shelf)


@pytest.mark.parametrize("kind", ["symlink", "hard link", "pipe"])
def test_a_file_in_the_place_of_ours_is_not_written_through(shelf: Shelf, tmp_path: Path, kind: str) -> None:
    """A link that somebody put there leads nowhere, and a pipe is not waited for."""
    shelf.archive()
    target = tmp_path / "precious"
    target.write_text("precious")
    path = shelf.manifest().with_suffix(".parquet")
    part = path.with_name(f".{path.name}.part")
    if kind == "pipe":
        os.mkfifo(part)
    else:
        (part.symlink_to if kind == "symlink" else part.hardlink_to)(target)
    path.unlink()
    shelf.lost()
    assert shelf.archive() == 1
    assert target.read_text() == "precious"


@pytest.mark.parametrize("damaged", [False, True])
def test_an_archive_of_other_rows_is_not_replaced(shelf: Shelf, *, damaged: bool) -> None:
    """As after a database was put back to an earlier time: names and OIDs are the same, the rows are not."""
    shelf.archive()
    first = shelf.manifest()
    files = {path: path.read_bytes() for path in (first, first.with_suffix(".parquet"))}
    if damaged:
        first.write_text("not json")
        files[first] = b"not json"
    put_back = "delete from rehearsal.lifecycle_archived where leaf = 'public.t_first'"
    for _ in range(2):  # the second one is of the very same rows
        shelf.kept.run_sql(f"{put_back}; alter table public.t_first disable trigger all; update public.t_first set v=7")
        shelf.kept.run_sql(
            "update rehearsal.lifecycle_detached as d "
            "set row_version = (select xmin::text from pg_class where oid = d.leaf_oid)"
        )
        assert shelf.archive() == 1
        assert shelf.manifest().name == f"{first.stem}-2.json"
        assert {path: path.read_bytes() for path in files} == files
    assert len(list(shelf.folder.iterdir())) == 8


def test_what_a_killed_run_left_in_the_database_goes(shelf: Shelf) -> None:
    """Its scratch table, whatever is in it."""
    shelf.kept.run_sql(f"create unlogged table rehearsal.lifecycle_proof_{shelf.kept.policy.oid} as select 1 as x")
    shelf.archiver.clear()
    assert scalar(shelf.kept.conn, SCRATCH) == 0


WRONG = ["", "{}", "[1]", "\x00", '{"version": 1}', "not json"]


@pytest.mark.parametrize("text", WRONG)
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    """In one sentence, by name."""
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"is no manifest that lifecycle\.archive wrote"):
        read_manifest(path)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("version", 2, "version 2"),
        ("file", "../x", "not beside it"),
        ("file", "x\0y", "not beside it"),
        ("leaf", ["public", "a\0b"], "no database has"),
        ("leaf_oid", 10**40, "no database has"),
        ("upper", "\0", "no database has"),
    ],
)
def test_a_manifest_of_another_kind_is_refused(shelf: Shelf, key: str, value: object, said: str) -> None:
    """A later version, and one that leads out of its folder."""
    shelf.archive()
    path = shelf.manifest()
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(UsageError, match=said):
        read_manifest(path)


def test_memory_does_not_grow_with_rows(kept: Kept, database: Database, tmp_path: Path) -> None:
    """Resident memory of whoever archives, and of whoever restores, at 50,000 rows and at ten times as many."""
    shelf = Shelf(kept, tmp_path)
    kept.setup(YEAR + "alter table public.t add column wide text")
    for month, rows in ((1, 50_000), (2, 500_000), (6, 1)):
        kept.run_sql(WIDE.format(month=month, rows=rows))
    kept.pass_to(kept.now.replace(month=6))
    kept.adopt(retention="3 months", archive=True)
    kept.retain()
    archived = [int(child(database, "archive", f"public.{leaf}", tmp_path, 0).stdout) for leaf in ("t_first", "t_m2")]
    shelf.archive()
    assert shelf.read(("public", "t_m2")).rows == 500_000
    kept.pass_to(kept.now + timedelta(days=9))
    assert len(kept.retain()) == 2
    paths = [shelf.manifest(("public", leaf)) for leaf in ("t_first", "t_m2")]
    restored = [int(child(database, "restore", path, tmp_path, 0).stdout) for path in paths]
    figures = f"archive {archived} KiB, restore {restored} KiB"
    assert archived[1] - archived[0] < MEMORY_KIB, figures
    assert restored[1] - restored[0] < MEMORY_KIB, figures
