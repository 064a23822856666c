"""The verbs of archives, `lifecycle.archive` and `lifecycle.restore`; each returns an exit code."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from rehearsal.catalog.tables import dotted
from rehearsal.commands.lifecycle import asked, each, print_acts, worker_of
from rehearsal.commands.session import DONE, FAILED, Target
from rehearsal.errors import PreconditionError, UsageError
from rehearsal.lifecycle.archive import ARCHIVING, LeafArchiver, name_of
from rehearsal.lifecycle.manifest import read_manifest
from rehearsal.lifecycle.noted import lose_faulty
from rehearsal.lifecycle.policy import Policy
from rehearsal.lifecycle.reading import LeafAct, read_to_archive
from rehearsal.lifecycle.restore import Restorer
from rehearsal.postgres.connection import Connection, advisory_lock
from rehearsal.rehearse.context import Context


def archive(target: Target, to: str | None, *, check: bool = False, dry: bool = False) -> int:
    """Archive the held leaves that wait for it, after a look at the files of those that are archived already.

    A file that is not what was proven any more is named, its note taken back, and the leaf archived anew; `check`: it
    is not archived anew, and the exit code is 1. `dry`: print what would be done. A second run changes nothing. One
    leaf's trouble keeps no other from its archive.
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
    path = Path(to)
    if not path.is_dir():
        message = f"--to {to}: there is no such folder; make it first, on a disk that outlives the database"
        raise UsageError(message)
    return path.resolve()


def _archive(context: Context, conn: Connection, policy: Policy, folder: Path | None) -> bool:
    """Look at the files of one table, and archive its leaves into the folder, if there is one."""
    lost = lose_faulty(conn, policy.oid)
    for leaf, why in lost.items():
        context.run.note(f"{policy.table}: {leaf} counts as archived no more: {why}")
    if folder is None:
        context.run.note(
            f"{policy.table}: {'run without --check to archive it anew' if lost else 'all archives are as proven'}"
        )
        return not lost
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
    if not acts:
        context.run.note(f"{policy.table}: no change")
    worked = [each(context, policy, partial(_archive_leaf, archiver, act)) for act in acts]
    return all(worked)


def _archive_leaf(archiver: LeafArchiver, act: LeafAct, _: Policy) -> bool:
    return archiver.archive(act)


def restore(target: Target, source: str, *, attach: bool = False) -> int:
    """Make an archived leaf anew, as a table like its parent, and attach it if asked; a second run changes nothing."""
    path = Path(source).resolve()
    manifest = read_manifest(path)
    with asked(target, "lifecycle-restore", ARCHIVING) as (context, conn, policies):
        policy = next((known for known in policies if name_of(conn, known.oid) == manifest.table), None)
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
