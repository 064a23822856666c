"""The verbs of partitions after the switchover, `lifecycle.*`; each returns an exit code.

What is made or dropped is decided by the functions in the database (`sql/lifecycle/`), and done by
`rehearsal.lifecycle`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import psycopg

from rehearsal.catalog.keytypes import Epoch
from rehearsal.catalog.tables import Name, dotted, is_partitioned, split_name
from rehearsal.commands.session import DONE, FAILED, Target, keep_approval, opened
from rehearsal.errors import ConnectionLost, PreconditionError, RehearsalError, UsageError
from rehearsal.evidence.events import LockTaken
from rehearsal.lifecycle.code import install_code, require_code
from rehearsal.lifecycle.document import decision_of, read_decision, require_same
from rehearsal.lifecycle.noted import DropWatch
from rehearsal.lifecycle.policy import HOLD, Policy, Wish, find_policy, forget_policies, read_policies, write_policy
from rehearsal.lifecycle.reading import LeafAct, clock_objection, read_to_make, read_to_retire, read_troubles
from rehearsal.lifecycle.standing import Standing, read_standing
from rehearsal.lifecycle.work import RETIRING, Done, LeafWorker, note_end
from rehearsal.plan.model import TableSpec
from rehearsal.postgres.connection import Connection, advisory_lock, clear_error
from rehearsal.postgres.locks import LockPolicy
from rehearsal.rehearse.context import Context, require_mark
from rehearsal.switchover.names import Names

MAKING = "lifecycle.premake"
EVERY = re.compile(r"[1-9]\d*( (day|week|month|year)s?)?")


@dataclass(frozen=True, slots=True)
class Said:
    """What was typed about one table that others partitioned; None where nothing was."""

    table: str | None = None
    interval: str | None = None
    retention: str | None = None
    premake: int | None = None
    hold: str | None = None
    zone: str | None = None
    epoch: Epoch | None = None
    forget: bool = False
    archive: bool | None = None


# ---- adopt -------------------------------------------------------------------------------------------------------


def adopt(target: Target, said: Said) -> int:
    """Install the functions and write the policies: of the plan's tables, or of one that others partitioned.

    A second run changes nothing. Nothing is made or dropped by it.
    """
    _require_words(said)
    with opened(target, "lifecycle-adopt") as context, context.session("lifecycle.adopt") as conn:
        require_mark(context, conn)
        with conn.transaction():
            keep_approval(context, conn)
            if install_code(conn, context.files):
                context.run.note("the lifecycle functions are installed in schema rehearsal")
            if said.forget:
                return _forget(context, conn, said)
            for wish in _wishes(context, conn, said):
                changed = write_policy(conn, context.plan.name, wish)
                context.run.note(f"{dotted(wish.name)}: {'adopted' if changed else 'no change'}")
        for policy in read_policies(conn, context.plan.name):
            print(f"{policy.table}: {policy.text}")
    return DONE


def _forget(context: Context, conn: Connection, said: Said) -> int:
    gone = forget_policies(conn, context.plan.name, split_name(said.table) if said.table else None)
    context.run.note(f"forgotten: {', '.join(gone)}" if gone else "no change: no such policy")
    return DONE


def _require_words(said: Said) -> None:
    alone = {"interval": said.interval, "zone": said.zone, "epoch": said.epoch}
    if said.table is None:
        if typed := [f"--{name}" for name, value in alone.items() if value is not None]:
            message = f"{', '.join(typed)}: the plan says that of its tables; name another one by --table"
            raise UsageError(message)
    elif not re.fullmatch(r"[^.]+\..+", said.table):
        message = f"--table {said.table}: write it with its schema, as public.{said.table}"
        raise UsageError(message)
    elif said.interval is None and not said.forget:
        message = f"--table {said.table}: say how wide its partitions are, as --interval '1 month'"
        raise UsageError(message)
    for name, value in {"interval": said.interval, "retention": said.retention, "hold": said.hold}.items():
        if value is not None and not (HOLD if name == "hold" else EVERY).fullmatch(value):
            message = f"--{name} {value!r} is not one; write it as '1 month', '7 days', '1 year', or '1000000'"
            raise UsageError(message)
    if said.premake is not None and not 1 <= said.premake <= 400:
        message = f"--premake {said.premake}: from 1 to 400"
        raise UsageError(message)


def _wishes(context: Context, conn: Connection, said: Said) -> Iterator[Wish]:
    if said.table is None:
        for spec in context.plan.tables:
            if wish := _planned(context, conn, spec, said):
                yield wish
        return
    name = split_name(said.table)
    if not is_partitioned(conn, name):
        message = f"there is no partitioned table {dotted(name)} in database {context.env.database.name}"
        raise PreconditionError(message)
    yield Wish(
        name,
        said.interval or "",
        said.premake or 3,
        said.retention,
        said.hold or "7 days",
        zone=said.zone or "UTC",
        epoch=said.epoch,
        archive=_archives(conn, name, said, planned=False),
    )


def _planned(context: Context, conn: Connection, spec: TableSpec, said: Said) -> Wish | None:
    if spec.method != "range":
        context.run.note(f"{spec.name}: left out, since partitions of a {spec.method} have no age")
        return None
    names = Names(split_name(spec.name))
    found = next((name for name in (names.source, names.target) if is_partitioned(conn, name)), None)
    if found is None:
        message = f"table {spec.name} is not partitioned yet; run `./inv db.switchover` first"
        raise PreconditionError(message)
    premake = max(1, spec.premake if said.premake is None else said.premake)
    retention, hold = said.retention or spec.retention, said.hold or spec.hold
    archive = _archives(conn, found, said, planned=spec.archive)
    return Wish(found, spec.interval, premake, retention, hold, epoch=spec.epoch, archive=archive)


def _archives(conn: Connection, name: Name, said: Said, *, planned: bool) -> bool:
    """Return whether leaves are archived first: as the policy has it, where nothing was said and the plan does not ask.

    Adopting again, as after every update, must not let leaves be dropped that nobody archived.
    """
    if said.archive is not None:
        return said.archive
    before = find_policy(conn, name)
    return planned or (before is not None and before.archive)


# ---- status ------------------------------------------------------------------------------------------------------


def status(target: Target, *, as_json: bool = False) -> int:
    """Say how each adopted table stands; exit code 1 if something is wrong with one. Reads only."""
    shown = sys.stderr if as_json else None
    with asked(target, "lifecycle-status", "lifecycle.status", shown) as (context, conn, policies):
        found = [read_standing(conn, context.files, policy, _now()) for policy in policies]
        if as_json:
            print(json.dumps([asdict(standing) for standing in found], indent=2, default=str))
        else:
            print("\n".join(standing.text for standing in found))
        return FAILED if any(standing.wrong for standing in found) else DONE


# ---- premake and retain ------------------------------------------------------------------------------------------


def premake(target: Target, *, dry: bool = False) -> int:
    """Make the leaves that are due, each in a transaction of its own; a second run changes nothing.

    One table's trouble keeps no other from its leaves; exit code 1 if any had one, or has too few leaves ahead.
    """
    with asked(target, "lifecycle-premake", MAKING) as (context, conn, policies):
        worked = [each(context, policy, lambda policy: _premake(context, conn, policy, dry=dry)) for policy in policies]
        if not dry:
            _note_ends(conn, "premake", policies, worked)
        return DONE if all(worked) else FAILED


def _note_ends(conn: Connection, act: str, policies: list[Policy], worked: list[bool]) -> None:
    """Write down that a run ended for each table, and how: monitoring asks for that."""
    for policy, well in zip(policies, worked, strict=True):
        note_end(conn, policy.oid, act, well=well)


def each(context: Context, policy: Policy, work: Callable[[Policy], bool]) -> bool:
    """Do the work for one table; what is wrong there is said, and keeps no other table from its own."""
    try:
        return work(policy)
    except psycopg.Error as exc:
        error = clear_error(exc, policy.table)
        if isinstance(error, ConnectionLost):
            raise error from exc
        context.run.note(f"{policy.table}: {error}")
    except RehearsalError as exc:
        context.run.note(f"{policy.table}: {exc}")
    return False


def _premake(context: Context, conn: Connection, policy: Policy, *, dry: bool) -> bool:
    free = _name_bars(context, conn, policy, premake=True)
    if dry:
        print_acts(policy, read_to_make(conn, policy.oid))
        return free
    with advisory_lock(conn, f"{MAKING} {policy.table}"):
        acts = read_to_make(conn, policy.oid)
        done = worker_of(context, conn, policy).make(acts)
        standing: Standing = read_standing(conn, context.files, policy, _now())
    ready = standing.ready >= policy.premake
    if free and not ready:
        context.run.note(f"{policy.table}: {standing.ready} of {policy.premake} partitions are ready ahead")
        for found in standing.troubles:
            context.run.note(f"{policy.table}: {found.said}; {found.remedy}")
    # New leaves are there, whatever they lack; somebody has to look.
    for said in standing.differences if acts else []:
        context.run.note(f"{policy.table}: {said}")
    good = free and done and ready and not (acts and standing.differences)
    if good and not acts:
        context.run.note(f"{policy.table}: no change")
    return good


def retain(target: Target, *, dry: bool = False, save: str | None = None, apply: str | None = None) -> int:
    """Finish what is pending, drop what was held long enough, detach what is past its retention.

    `dry`: print the statements; `save`: write the decision to this file, and do nothing; `apply`: do what a file says,
    refused if anything would be decided otherwise now. A second run changes nothing. Exit code 1 if something bars it.
    """
    saved = read_decision(Path(apply)) if apply else None
    with asked(target, "lifecycle-retain", RETIRING) as (context, conn, policies):
        decided: dict[str, list[LeafAct]] = {}
        if dry or save or saved:
            decided = {policy.table: read_to_retire(conn, policy.oid, _now()) for policy in policies}
            if saved:
                require_same(saved, decision_of(conn, decided))
        if save:
            save_text(Path(save), decision_of(conn, decided).to_json())
            context.run.note(f"decided, and written to {save}; nothing was done")

        def work(policy: Policy) -> bool:
            free = policy.retention is None or _name_bars(context, conn, policy, premake=False)
            if dry or save:
                print_acts(policy, decided[policy.table])
                return free
            return _retain(context, conn, policy, decided[policy.table] if saved else None) and free

        worked = [each(context, policy, work) for policy in policies]
        if not (dry or save):
            _note_ends(conn, "retain", policies, worked)
        return DONE if all(worked) else FAILED


def save_text(path: Path, text: str) -> None:
    """Write a file that somebody named.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as exc:
        message = f"--save {path}: cannot be written: {exc.strerror}; nothing was done"
        raise UsageError(message) from exc


def _retain(context: Context, conn: Connection, policy: Policy, decided: list[LeafAct] | None) -> bool:
    with advisory_lock(conn, f"{RETIRING} {policy.table}"):
        acts = read_to_retire(conn, policy.oid, _now())
        if decided is not None and acts != decided:
            message = f"table {policy.table} has changed while another run was waited for; save it again"
            raise PreconditionError(message)
        if not acts:
            context.run.note(f"{policy.table}: no change")
        return worker_of(context, conn, policy).retire(acts, DropWatch(conn, policy.oid) if policy.archive else None)


def _name_bars(context: Context, conn: Connection, policy: Policy, *, premake: bool) -> bool:
    """Say what bars the run for a table; return whether nothing does."""
    troubles = [found for found in read_troubles(conn, policy.oid) if found.bars_premake or not premake]
    barring = [found for found in troubles if (found.bars_premake if premake else found.bars_retain)]
    for found in barring:
        context.run.note(f"{policy.table}: {found.said}; {found.remedy}")
    clock = None if premake or barring else clock_objection(conn, policy.oid, _now())
    if clock:
        context.run.note(
            f"{policy.table}: {clock}. They differ by more than an interval, and nothing is dropped by a clock that "
            "may be wrong: correct it; where the table rests, drop its partitions by hand"
        )
    return not barring and not clock


def worker_of(context: Context, conn: Connection, policy: Policy) -> LeafWorker:
    """Return whoever does the acts of one table; what becomes of each is said and kept in the run."""

    def tell(done: Done) -> None:
        context.run.note(f"{policy.table}: {done.act.text}: {done.failure or 'done'}")
        if done.report:
            cost = done.report
            context.run.tell(
                LockTaken(policy.table, done.act.text, cost.attempts, cost.waited_ms, cost.held_ms, cost.blockers)
            )

    return LeafWorker(conn, policy, LockPolicy(**context.plan.locks.model_dump()), tell)


@contextmanager
def asked(
    target: Target, verb: str, role: str, shown: TextIO | None = None
) -> Generator[tuple[Context, Connection, list[Policy]]]:
    """Open a context and a session, and yield them with the plan's policies.

    Raises:
        PreconditionError: nothing is adopted for the plan, or by another version.
    """
    with opened(target, verb, shown=shown) as context, context.session(role) as conn:
        require_mark(context, conn)
        require_code(conn, context.files)
        policies = read_policies(conn, context.plan.name)
        if not policies:
            message = f"no table of plan {context.plan.name} is adopted: run `./inv lifecycle.adopt` first"
            raise PreconditionError(message)
        yield context, conn, policies


def print_acts(policy: Policy, acts: list[LeafAct]) -> None:
    """Print the statements of acts, a transaction each."""
    print(f"-- {policy.table}: {policy.text}")
    if not acts:
        print("-- nothing to do")
    for act in acts:
        alone = act.mode == "alone"
        lines = [f"{text};" for text in act.statements]
        print("\n".join([f"-- {act.text}", *lines] if alone else [f"-- {act.text}", "begin;", *lines, "commit;"]))


def _now() -> datetime:
    return datetime.now(UTC)
