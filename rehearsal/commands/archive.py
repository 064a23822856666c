"""The verbs of archives, `lifecycle.archive` and `lifecycle.restore`; each returns an exit code."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from rehearsal.catalog.tables import dotted
from rehearsal.commands.lifecycle import asked, each, print_acts, worker_of
from rehearsal.commands.session import DONE, FAILED, Target
from rehearsal.errors import PreconditionError, UsageError
from rehearsal.lifecycle.archive import ARCHIVING, LeafArchiver, name_of
from rehearsal.lifecycle.manifest import ArchiveManifest, read_manifest, require_utf8
from rehearsal.lifecycle.noted import lose_faulty, read_dropped, read_objected
from rehearsal.lifecycle.policy import Policy
from rehearsal.lifecycle.reading import LeafAct, read_to_archive
from rehearsal.lifecycle.restore import Restorer, parent_proven
from rehearsal.postgres.connection import Connection, advisory_lock, scalar
from rehearsal.rehearse.context import Context


def archive(target: Target, to: str | None, *, check: bool = False, dry: bool = False) -> int:
    """Archive the held leaves that wait for it, after a look at the files of those that are archived already.

    A file that is not what was proven any more is named, its note taken back, and the leaf archived anew; `check`: it
    is not archived anew, the files of leaves that were dropped are looked at too, and the exit code is 1 unless every
    leaf has a proven archive. A held leaf that somebody altered is named, exit code 1. `dry`: print what would be done.
    A second run changes nothing. One leaf's trouble keeps no other from its archive.
    """
    folder = _folder(to, needed=not (check or dry))
    with asked(target, "lifecycle-archive", ARCHIVING) as (context, conn, policies):
        chosen = [policy for policy in policies if policy.archive]
        if not chosen:
            message = (
                f"the policy of no table of plan {context.plan.name} says that leaves are archived: run "
                "`./inv lifecycle.adopt --archive`, or set archive = true in the plan and adopt again"
            )
            raise PreconditionError(message)

        def work(policy: Policy) -> bool:
            if dry:
                print_acts(policy, read_to_archive(conn, policy.oid))
                return True
            with advisory_lock(conn, f"{ARCHIVING} {policy.table}"):
                return _archive(context, conn, policy, None if check else folder)

        worked = [each(context, policy, work) for policy in chosen]
        return DONE if all(worked) else FAILED


def _folder(to: str | None, *, needed: bool) -> Path | None:
    if to is None:
        if needed:
            message = "say where archives are written, as --to /srv/archive; --check needs no folder"
            raise UsageError(message)
        return None
    require_utf8("--to", to)
    path = Path(to)
    if not path.is_dir():
        message = f"--to {to}: there is no such folder; make it first, on a disk that outlives the database"
        raise UsageError(message)
    path = path.resolve()
    require_utf8("--to", str(path))
    return path


def _archive(context: Context, conn: Connection, policy: Policy, folder: Path | None) -> bool:
    """Look at the files of one table, and archive its leaves into the folder, if there is one."""
    lost = lose_faulty(conn, policy.oid)
    for leaf, why in lost.items():
        context.run.note(f"{policy.table}: {leaf} counts as archived no more: {why}")
    objected = read_objected(conn, policy.oid)
    for leaf, why in objected.items():
        context.run.note(
            f"{policy.table}: {leaf} is held, and neither archived nor dropped: {why}; drop or attach it by hand"
        )
    if folder is None:
        return _check(context, conn, policy) and not lost and not objected
    archiver = LeafArchiver(
        conn,
        context.files,
        policy,
        worker_of(context, conn, policy),
        folder,
        lambda said: context.run.note(f"{policy.table}: {said}"),
    )
    archiver.clear()
    acts = read_to_archive(conn, policy.oid)
    if not acts and not objected:
        context.run.note(f"{policy.table}: no change")
    worked = [each(context, policy, partial(_archive_leaf, archiver, act)) for act in acts]
    return all(worked) and not objected


def _check(context: Context, conn: Connection, policy: Policy) -> bool:
    """Say which held leaves have no proven archive, and which archives of dropped ones are not what was proven."""
    waiting = [act.leaf for act in read_to_archive(conn, policy.oid)]
    for leaf in waiting:
        context.run.note(f"{policy.table}: {leaf} is held and not archived; run without --check")
    damaged = 0
    for noted in read_dropped(conn, policy.oid):
        if why := noted.fault():
            damaged += 1
            context.run.note(f"{policy.table}: {noted.leaf} was dropped, and {why}; take both files from a backup")
    if not waiting and not damaged:
        context.run.note(f"{policy.table}: all archives that are noted are as proven")
    return not waiting and not damaged


def _archive_leaf(archiver: LeafArchiver, act: LeafAct, _: Policy) -> bool:
    return archiver.archive(act)


def restore(target: Target, source: str, *, attach: bool = False) -> int:
    """Make an archived leaf anew, as a table like its parent, and attach it if asked; a second run changes nothing."""
    require_utf8("--from", source)
    path = Path(source).resolve()
    manifest = read_manifest(path)
    with asked(target, "lifecycle-restore", ARCHIVING) as (context, conn, policies):
        policy = _policy_of(conn, policies, path, manifest)
        if policy is None:
            message = (
                f"{path} is of table {dotted(manifest.table)}, which plan {context.plan.name} does not look after: "
                "name its plan, or run `./inv lifecycle.adopt` first"
            )
            raise PreconditionError(message)
        tell, worker = context.run.note, worker_of(context, conn, policy)
        with advisory_lock(conn, f"{ARCHIVING} {policy.table}"):
            done = Restorer(conn, context.files, policy, worker, path, manifest, tell).restore(attach=attach)
        return DONE if done else FAILED


def _policy_of(conn: Connection, policies: list[Policy], path: Path, manifest: ArchiveManifest) -> Policy | None:
    """Return the policy of the table that an archive is of: by OID where that is noted and there, else by name."""
    parent = parent_proven(conn, path, manifest)
    if parent is not None and scalar(conn, "select exists (select from pg_catalog.pg_class where oid = %s)", [parent]):
        return next((known for known in policies if known.oid == parent), None)
    return next((known for known in policies if name_of(conn, known.oid) == manifest.table), None)
