"""Production as a person at a terminal sees it: the environment `managed` with the kind and the mark of production."""

from __future__ import annotations

import contextlib
import io
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rehearsal import cli
from rehearsal.approval.fingerprint import Fingerprint
from rehearsal.commands import flags, hosts, plan, provision, session
from rehearsal.hosts.inventory import load_environment
from rehearsal.plan.file import find_plan, load_plan
from rehearsal.plan.model import Plan
from rehearsal.postgres.connection import connect
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.rehearse import run, servers
from rehearsal.rehearse.context import fingerprint_of
from tests.fix_verbs import PASSWORD, Managed, Said
from tests.signed import rehearsed

TRACES = """
select 'relation', n.nspname || '.' || c.relname || c.relkind::text from pg_class as c
join pg_namespace as n on n.oid = c.relnamespace where n.nspname in ('public', 'rehearsal')
union all select 'trigger', tgname from pg_trigger
union all select 'mark', kind from rehearsal.environment_mark
union all select 'pause', plan from rehearsal.pause
union all select 'approval', verb || run from rehearsal.approval
union all select 'change', name from rehearsal.change
union all select 'state', source || state from rehearsal.migration
order by 1, 2
"""


class Terminal(io.StringIO):
    """A terminal on which somebody types."""

    def isatty(self) -> bool:
        """Return that it is one."""
        return True


@dataclass(frozen=True)
class Production:
    """The world of `managed`, marked production, and what a person does there."""

    world: Managed
    monkeypatch: pytest.MonkeyPatch

    @property
    def runs(self) -> Path:
        """Folder of all runs."""
        return self.world.root / "runs"

    @property
    def plan(self) -> Plan:
        """The plan as it is now."""
        return load_plan(find_plan("managed", self.world.root))

    @property
    def fingerprint(self) -> Fingerprint:
        """Fingerprint as it is now."""
        return fingerprint_of(self.plan, SqlFiles(self.world.root / "sql"))

    def go(self, **how: Any) -> Path:
        """Sign a rehearsal of the plan as it is now, on the server that production has; `how` says what is odd."""
        with connect(self.world.mig) as conn:
            fitting = {"rows": {"public.t": 3_000}, "server": conn.info.server_version}
        how = {"fingerprint": self.fingerprint, **fitting, **how}
        return rehearsed(self.runs, self.plan, how.pop("fingerprint"), **how)

    def call(self, name: str, *words: str, typed: str | None = "managed") -> Said:
        """Run a verb at a terminal where `typed` is answered to what it asks; without a terminal if that is None."""
        said = io.StringIO()
        self.monkeypatch.setattr("sys.stdin", io.StringIO() if typed is None else Terminal(f"{typed}\n" * 2))
        where = ["--env", "managed"] + ([] if name == "plan-new" else ["--plan", "managed"])
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                code = cli.main([name, *where, *words])
            except SystemExit as exc:
                code = int(exc.code or 0)
        return Said(code, said.getvalue())

    def traces(self) -> list[tuple[object, ...]]:
        """Return everything that a verb could have left in the database, but for rows of the application."""
        return self.world.rows(TRACES)

    def approvals(self) -> list[tuple[object, ...]]:
        """Return verb, rehearsal, warning and emergency of what was opened."""
        return self.world.rows("select verb, rehearsed_as, warning, emergency from rehearsal.approval order by id")

    def forget_runs(self) -> None:
        """Lose the folder of all runs."""
        shutil.rmtree(self.runs)


@pytest.fixture
def production(managed: Managed, monkeypatch: pytest.MonkeyPatch) -> Production:
    """Production with one table of 3,000 rows, whose statistics are known; nothing is migrated."""
    managed.setup()
    managed.run("update rehearsal.environment_mark set kind = 'production'; analyze public.t")
    # What `db.provision` leaves of the password; whole provisioning takes seconds.
    passwords = managed.root / "pgpass"
    passwords.write_text(f"*:*:*:{managed.mig.user}:{PASSWORD}\n")
    passwords.chmod(0o600)
    inventory = managed.root / "inventories" / "managed.py"
    inventory.write_text(inventory.read_text().replace("'env_kind': 'staging'", "'env_kind': 'production'"))
    _read_once(monkeypatch)
    return Production(managed, monkeypatch)


def _read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what the child process read of the inventory: a test calls dozens of verbs."""
    known: dict[tuple[object, ...], Any] = {}

    def load(name: str, plan: str, root: Path, *, secrets: bool = True) -> Any:
        key = (name, plan, root, secrets)
        if key not in known:
            known[key] = load_environment(name, plan, root, secrets=secrets)
        return known[key]

    for module in (session, provision, flags, hosts, servers, run, plan):
        monkeypatch.setattr(module, "load_environment", load)
