"""Commands for psql over TCP, as the right role. A password is in a 0600 file on the host, never in argv.

pyinfra's `_env` would not do: it becomes `sh -c "export PGPASSWORD=…"`, which every user of the host can read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from pyinfra.api import QuoteString, StringCommand

SEPARATOR = "\x1f"
# As in the engine's sessions, for the same reasons: see `rehearsal/postgres/pinned.py`, which is not imported here.
PINNED = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "lc_numeric": "C",
    "lc_time": "C",
    "xmloption": "content",
    "quote_all_identifiers": "off",
    "client_encoding": "UTF8",
    "search_path": "pg_catalog",
    "standard_conforming_strings": "on",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "gin_fuzzy_search_limit": "0",
    "check_function_bodies": "on",
    "client_min_messages": "notice",
    "row_security": "off",
    "role": "none",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    "synchronous_commit": "on",
    "default_tablespace": "",
    "temp_tablespaces": "",
    "default_table_access_method": "heap",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
}
# libpq sends these as parameters of their own, which beat PGOPTIONS, if the host's user has them.
PINNED_VARIABLES = {"PGTZ": "UTC", "PGDATESTYLE": "ISO, MDY", "PGCLIENTENCODING": "UTF8"}

# A change that cannot get its lock in time releases everything and asks again, a bounded number of times.
RETRYING = """\
body=$(mktemp) || exit 1; trap 'rm -f "$body" "$body.err"' EXIT; cat >"$body" || exit 1; try=1
while ! {psql} -f "$body" 2>"$body.err"; do
  if [ $try -ge {tries} ] || ! grep -qE ': +(55P03|40P01|40001): ' "$body.err"; then cat "$body.err" >&2; exit 1; fi
  try=$((try + 1)); sleep 0.$((try % 5 + 2))
done"""


@dataclass(frozen=True)
class Session:
    """Where and as whom psql connects; `run_as` is the user of the host who runs it, if not the one who logged in."""

    host: str
    port: int
    user: str
    database: str
    passfile: str
    psql: str = "psql"
    run_as: str | None = None

    def on(self, database: str) -> Session:
        """Return the same session on another database."""
        return replace(self, database=database)

    def command(self, *words: str) -> StringCommand:
        """Return a psql command that stops at the first error, reads no start-up file and never asks for a password."""
        base = [self.psql, "-XAtqw", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose"]
        place = ["-h", self.host, "-p", str(self.port), "-U", self.user, "-d", self.database]
        environment = [f"PGPASSFILE={self.passfile}", "PGCONNECT_TIMEOUT=10", "PGAPPNAME=pg-rehearsal hosts"]
        environment += [f"{name}={value}" for name, value in pinned_environ().items()]
        first = ["runuser", "-u", self.run_as, "--", "env"] if self.run_as else ["env"]
        return StringCommand(*(QuoteString(word) for word in (*first, *environment, *base, *place, *words)))

    def run(self, text: str) -> StringCommand:
        """Return a command that runs SQL given over standard input."""
        command = self.command("-f", "-")
        return StringCommand(*command.bits, _stdin=text)

    def run_with_retries(self, text: str, tries: int) -> StringCommand:
        """Return a command that runs SQL from standard input; after a lock failure again, `tries` times in all."""
        script = RETRYING.format(psql=self.command().get_raw_value(), tries=tries)
        return StringCommand(script, _stdin=text)


def pinned_environ() -> dict[str, str]:
    """Return the variables by which psql has the pinned settings; PGOPTIONS beats the defaults of role and database."""
    options = " ".join(f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in PINNED.items())
    return {"PGOPTIONS": options, **PINNED_VARIABLES}


def session(data: Any, role: str) -> Session:
    """Return the session of a role named by the inventory (`superuser`, `migrator`) on the plan's database."""
    return Session(
        host=(data.get("db_superuser_host") if role == "superuser" else None)
        or data.get("db_psql_host")
        or data.db_host,
        port=int(data.db_port),
        user=data.get(f"db_{role}"),
        database=database_name(data),
        passfile=data.passfile,
        psql=f"{data.get('db_bin')}/psql" if data.get("db_bin") else "psql",
        run_as=data.get("db_superuser_runs_as") if role == "superuser" else None,
    )


def database_name(data: Any) -> str:
    """Return the name of the plan's database."""
    name: str = data.db_name.format(plan=data.plan)
    return name


def ident(name: str) -> str:
    """Quote a name.

    >>> ident('we"ird')
    '"we""ird"'
    """
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    r"""Quote a value; right under any setting of standard_conforming_strings.

    >>> literal("it's"), literal("a\\b")
    ("'it''s'", " E'a\\\\b'")
    """
    quoted = "'" + value.replace("'", "''") + "'"
    return " E" + quoted.replace("\\", "\\\\") if "\\" in value else quoted
