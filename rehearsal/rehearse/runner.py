"""Runs phases in order: begins, ends and skips them, resumes a run, and turns trouble into evidence.

Owns `rehearsal.run` and `rehearsal.phase`. A phase that ended is not repeated by `--resume`; every phase bears being
repeated, since it may have been killed at its last statement.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import psycopg

from rehearsal.environment import Database, Environment
from rehearsal.errors import CannotSee, RehearsalError, SqlFileError, UsageError
from rehearsal.plan.strategies import STRATEGIES
from rehearsal.postgres.connection import advisory_lock, connect, scalar
from rehearsal.rehearse.context import Context


class StopHere(Exception):
    """A gate failed on which nothing may be built: the run goes straight to its report."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One stage of a rehearsal. `gate` takes the evidence when the phase fails before it could record any."""

    name: str
    title: str
    gate: str
    work: Callable[[Context], None]
    strategies: frozenset[str] = STRATEGIES


def choose(phases: Sequence[Phase], plan_strategy: str) -> tuple[Phase, ...]:
    """Return the phases of a strategy."""
    return tuple(phase for phase in phases if plan_strategy in phase.strategies)


def index_of(phases: Sequence[Phase], name: str) -> int:
    """Return the position of a phase.

    Raises:
        UsageError: there is none of that name; names the nearest and all others.
    """
    names = [phase.name for phase in phases]
    if name in names:
        return names.index(name)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    message = f"no phase {name!r}{hint} There are: {', '.join(names)}"
    raise UsageError(message)


@dataclass(slots=True)
class Runner:
    """One pass over the phases of a run."""

    context: Context
    phases: tuple[Phase, ...]
    start: str | None = None
    until: str | None = None

    def run(self) -> bool:
        """Run what is left to do; return whether the run came to its end (a failed gate is an end as well).

        Holds the advisory lock of the database all the time, so that a second run is refused by name.
        """
        first = index_of(self.phases, self.start) if self.start else 0
        last = index_of(self.phases, self.until) if self.until else len(self.phases) - 1
        with ExitStack() as stack:
            if self.context.env.database.password or not self.context.env.is_throwaway:
                stack.enter_context(self._lock())
            for number, phase in enumerate(self.phases[: last + 1]):
                if self._is_finished(phase) and (self.start is None or number < first):
                    self.context.run.event("phase-skipped", title=phase.title, name=phase.name, reason="done before")
                    continue
                if self.start is not None and number < first:
                    self.context.run.event(
                        "phase-skipped", title=phase.title, name=phase.name, reason="left out by --from"
                    )
                    continue
                try:
                    self._run_one(phase, number + 1)
                except StopHere:
                    return True
            return last == len(self.phases) - 1

    def _lock(self) -> ExitStack:
        """Take the advisory lock in a database that the run does not drop."""
        stack = ExitStack()
        conn = stack.enter_context(connect(lock_database(self.context.env), role=f"run {self.context.run.name}"))
        stack.enter_context(advisory_lock(conn, lock_key(self.context.env)))
        return stack

    def _run_one(self, phase: Phase, number: int) -> None:
        run = self.context.run
        run.phase = phase.name
        run.event("phase-started", title=phase.title, name=phase.name, number=number, of=len(self.phases))
        self._write_begin(phase)
        started = time.monotonic()
        ok = False
        try:
            phase.work(self.context)
            ok = True
        except StopHere:
            raise
        except CannotSee as exc:
            run.record(phase.gate, phase.name, None, str(exc))
            raise StopHere from exc
        except (UsageError, SqlFileError):
            raise
        except RehearsalError as exc:
            run.record(phase.gate, phase.name, False, str(exc))
            raise StopHere from exc
        except psycopg.Error as exc:
            run.record(
                phase.gate, phase.name, False, f"{exc.sqlstate or 'connection lost'}: {' '.join(str(exc).split())}"
            )
            raise StopHere from exc
        finally:
            run.event(
                "phase-finished",
                title=phase.title,
                name=phase.name,
                seconds=round(time.monotonic() - started, 3),
                ok=ok,
            )
        self._supersede(phase)
        self._write_end(phase)

    def _supersede(self, phase: Phase) -> None:
        """Say of a phase that failed before and was repeated that it came to its end now."""
        run = self.context.run
        earlier = (
            one for one in run.evidence() if (one.gate, one.subject, one.phase) == (phase.gate, phase.name, phase.name)
        )
        if any(one.passed is not True for one in earlier):
            run.record(phase.gate, phase.name, True, "the phase was repeated and came to its end")

    def _is_finished(self, phase: Phase) -> bool:
        query = "select finished_at is not null from rehearsal.phase where run = %s and name = %s"
        row = self._ask(query, [self.context.run.name, phase.name])
        return bool(row)

    def _write_begin(self, phase: Phase) -> None:
        run, plan = self.context.run.name, self.context.plan.name
        self._ask(
            "with run as (insert into rehearsal.run (name, plan, environment, fingerprint) values (%s, %s, %s, %s) "
            "on conflict (name) do update set finished_at = null returning name) "
            "insert into rehearsal.phase (run, name) select name, %s from run "
            "on conflict (run, name) do update set started_at = now(), finished_at = null returning true",
            [run, plan, self.context.env.name, self.context.fingerprint, phase.name],
        )

    def _write_end(self, phase: Phase) -> None:
        self._write_begin(phase)
        self._ask(
            "update rehearsal.phase set finished_at = now() where run = %s and name = %s returning true",
            [self.context.run.name, phase.name],
        )

    def _ask(self, query: str, values: list[str]) -> object:
        """Run a statement on the state tables; None while the database is not there yet (before `provision`)."""
        try:
            with connect(self.context.env.database, role="run state") as conn:
                if scalar(conn, "select to_regclass('rehearsal.phase') is null"):
                    return None
                row = conn.execute(query.encode(), values).fetchone()
                return row[0] if row else None
        except RehearsalError:
            if self.context.env.is_throwaway:
                return None
            raise


def lock_database(env: Environment) -> Database:
    """Return where the advisory lock of a run is held: beside a database that the run makes anew, else in it."""
    return replace(env.database, name="postgres") if env.is_throwaway else env.database


def lock_key(env: Environment) -> str:
    """Return what a run holds alone: a database, or a throwaway environment with its app servers as a whole."""
    return f"environment {env.name}" if env.is_throwaway else f"database {env.database.name}"
