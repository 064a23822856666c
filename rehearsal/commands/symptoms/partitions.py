"""What `doctor` finds of partitions, and which of it is safe to mend: nothing is detached or dropped.

Owns which troubles of `rehearsal.lifecycle_troubles` are mended by finishing or by making, and from when on a
retention that was not done is one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from psycopg import sql

from rehearsal.catalog.tables import Catalog, Name, Partition, dotted, is_partitioned, split_name
from rehearsal.commands.lifecycle import MAKING, worker_of
from rehearsal.commands.symptoms.trouble import Trouble
from rehearsal.errors import PreconditionError
from rehearsal.lifecycle.code import install_code, is_current, is_installed
from rehearsal.lifecycle.policy import Policy, find_policy, read_policies
from rehearsal.lifecycle.reading import LeafAct, LeafTrouble, count_expired, read_to_make, read_to_retire
from rehearsal.lifecycle.standing import Standing, read_standing
from rehearsal.lifecycle.work import RETIRING
from rehearsal.postgres.connection import Connection, advisory_lock, scalar
from rehearsal.rehearse.context import Context
from rehearsal.switchover import state
from rehearsal.switchover.names import Names

# Premake takes a left check off before anything else, and makes what is missing.
BY_MAKING = ("runway", "runway-short", "check-left")
BY_FINISHING = ("pending-detach",)
# What the clean-up is waited for is as it should be in the stable days.
EXPECTED = ("partner",)
# A clock that retains daily has done so by then.
LATE = timedelta(days=2)
PENDING = (
    "DETACH CONCURRENTLY of %s was interrupted: its rows are not in the table any more",
    "alter table %s detach partition %s finalize",
)
FILLED = "default partition %s has rows"
MOVE = "rows came for which there was no partition; move them before a partition for them can be attached"


def examine_partitions(context: Context, conn: Connection, *, fix: bool) -> list[Trouble]:
    """Return what is wrong with the partitions of the plan's tables; with `fix`, make and finish what is due.

    Locks: as `lifecycle.premake`; none that anybody waits for where nothing is mended. A second run finds nothing.
    """
    policies = read_policies(conn, context.plan.name) if is_installed(conn) else []
    troubles = list(_code(context, conn, fix=fix)) if policies else []
    if all(trouble.fixed for trouble in troubles):
        troubles += [trouble for policy in policies for trouble in _of_policy(context, conn, policy, fix=fix)]
    looked_after = {policy.oid for policy in policies}
    return troubles + [
        trouble for name in _others(context, conn) for trouble in _bare(context, conn, name, looked_after)
    ]


def unattended(context: Context, conn: Connection) -> list[str]:
    """Return a hint for each table that is partitioned for good and whose partitions nobody was told to look after."""
    names = [split_name(spec.name) for spec in context.plan.tables if spec.method == "range"]
    ended = [name for source in names if (name := state.find_ended(conn, source))]
    known = is_installed(conn)
    return [
        f"{dotted(name)}: nobody was told to look after its partitions: `./inv lifecycle.adopt`"
        for name in ended
        if not (known and find_policy(conn, name))
    ]


def runner_time() -> datetime:
    """Return the time of whoever runs this, which must agree with the server's."""
    return datetime.now(UTC)


def _code(context: Context, conn: Connection, *, fix: bool) -> Iterator[Trouble]:
    if is_current(conn, context.files):
        return
    # In production their text is what was agreed to; there it changes by an adoption, with its GO.
    may = fix and context.env.kind != "production"
    if may:
        with conn.transaction():
            install_code(conn, context.files)
    said = "the lifecycle functions there are those of another version"
    yield Trouble("schema rehearsal", said, "run `./inv lifecycle.adopt`, which installs this version's", may)


def _of_policy(context: Context, conn: Connection, policy: Policy, *, fix: bool) -> Iterator[Trouble]:
    before = _standing(context, conn, policy)
    found = [trouble for trouble in before.troubles if trouble.id not in EXPECTED]
    after = _standing(context, conn, policy) if fix and _mend(context, conn, policy, found) else before
    left = {(trouble.id, trouble.said) for trouble in after.troubles}
    for trouble in found:
        yield Trouble(policy.table, trouble.said, trouble.remedy, (trouble.id, trouble.said) not in left)
    remedy = "give it what its sibling has: premake makes partitions like the newest one"
    yield from (Trouble(policy.table, said, remedy) for said in after.differences)
    yield from _retention(conn, policy, after)


def _standing(context: Context, conn: Connection, policy: Policy) -> Standing:
    return read_standing(conn, context.files, policy, runner_time())


def _mend(context: Context, conn: Connection, policy: Policy, found: Sequence[LeafTrouble]) -> bool:
    """Finish and make what is due; return whether anything was tried. Somebody else at the same is left to it."""
    ids, done = {trouble.id for trouble in found}, False
    try:
        if ids & {*BY_FINISHING}:
            with advisory_lock(conn, f"{RETIRING} {policy.table}"):
                done = worker_of(context, conn, policy).retire(_finishing(conn, policy)) or done
        if ids & {*BY_MAKING}:
            with advisory_lock(conn, f"{MAKING} {policy.table}"):
                done = worker_of(context, conn, policy).make(read_to_make(conn, policy.oid)) or done
    except PreconditionError as exc:
        context.run.note(f"{policy.table}: {exc}")
    return done


def _finishing(conn: Connection, policy: Policy) -> list[LeafAct]:
    """Return the acts that end what was begun: nothing is detached anew, nothing dropped."""
    acts = read_to_retire(conn, policy.oid, runner_time())
    pending = {act.leaf_oid for act in acts if act.act == "finalize"}
    return [act for act in acts if act.leaf_oid in pending and act.act in ("finalize", "detached")]


def _retention(conn: Connection, policy: Policy, standing: Standing) -> Iterator[Trouble]:
    if policy.retention is None or any(trouble.bars_retain for trouble in standing.troubles):
        return
    now = scalar(conn, "select rehearsal.lifecycle_now()")
    remedy = "run `./inv lifecycle.retain`, and see why it did not run"
    if late := count_expired(conn, policy.oid, now - LATE):
        if standing.clock:
            remedy = f"nothing is dropped by a clock that may be wrong ({standing.clock}): correct it"
        yield Trouble(policy.table, f"{late} partitions are past their retention for {LATE.days} days and more", remedy)
    for held in standing.held:
        if held.objection is None and held.until < now - LATE:
            yield Trouble(
                policy.table, f"{held.leaf} is held since {held.since:%Y-%m-%d}, longer than its hold", remedy
            )


# ---- tables that nobody looks after ------------------------------------------------------------------------------


def _others(context: Context, conn: Connection) -> Iterator[Name]:
    for spec in context.plan.tables:
        names = Names(split_name(spec.name))
        yield from (name for name in (names.source, names.target) if is_partitioned(conn, name))


def _bare(context: Context, conn: Connection, name: Name, looked_after: set[int]) -> Iterator[Trouble]:
    """Return what the catalog says of a table without a policy: a detachment that stands still, a default with rows."""
    table = Catalog(conn, context.files).read(name)
    if table.oid in looked_after:
        return
    for leaf in table.partitions:
        if leaf.detach_pending:
            remedy = PENDING[1] % (dotted(name), dotted(leaf.name))
            yield Trouble(dotted(name), PENDING[0] % dotted(leaf.name), remedy)
        elif leaf.is_default and _is_ranged(context, name) and _has_rows(conn, leaf):
            yield Trouble(dotted(name), FILLED % dotted(leaf.name), MOVE)


def _is_ranged(context: Context, name: Name) -> bool:
    specs = {split_name(spec.name): spec for spec in context.plan.tables}
    return all(spec.method == "range" for source, spec in specs.items() if name in (source, Names(source).target))


def _has_rows(conn: Connection, leaf: Partition) -> bool:
    query = sql.SQL("select exists (select from {})").format(sql.Identifier(*leaf.name))
    return bool(scalar(conn, query))
