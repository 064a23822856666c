"""Runs phases in order: begins, ends and skips them, resumes a run, and turns trouble into evidence.

Owns `rehearsal.run` and `rehearsal.phase`. A phase that ended is not repeated by `--resume`; every phase bears being
repeated, since it may have been killed at its last statement.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass

import psycopg

from rehearsal.errors import CannotSee, RehearsalError, SqlFileError, UsageError
from rehearsal.evidence.events import PhaseFinished, PhaseSkipped, PhaseStarted
from rehearsal.postgres.connection import connect, scalar
from rehearsal.rehearse.context import Context, hold_lock
from rehearsal.rehearse.phase import Phase, StopHere, index_of


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
                stack.enter_context(hold_lock(self.context))
            for number, phase in enumerate(self.phases[: last + 1]):
                if self._is_finished(phase) and (self.start is None or number < first):
                    self.context.run.tell(PhaseSkipped(phase.title, phase.name, "done before"))
                    continue
                if self.start is not None and number < first:
                    self.context.run.tell(PhaseSkipped(phase.title, phase.name, "left out by --from"))
                    continue
                try:
                    self._run_one(phase, number + 1)
                except StopHere:
                    return True
            return last == len(self.phases) - 1

    def _run_one(self, phase: Phase, number: int) -> None:
        run = self.context.run
        run.phase = phase.name
        run.tell(PhaseStarted(phase.title, phase.name, number, len(self.phases)))
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
            run.tell(PhaseFinished(phase.title, phase.name, round(time.monotonic() - started, 3), ok))
        self._supersede(phase)
        self._write_end(phase)

    def _supersede(self, phase: Phase) -> None:
        """Say of a phase that failed before and was repeated that it came to its end now."""
        run = self.context.run
        earlier = (
            item
            for item in run.evidence()
            if (item.gate, item.subject, item.phase) == (phase.gate, phase.name, phase.name)
        )
        if any(item.passed is not True for item in earlier):
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
