"""Bring a host to a wanted state: pyinfra operations, each of which changes nothing on its second run.

Whether there is work is read from the host's state, never from what this run did before: a run that was killed
between two operations is repaired by the next one. A refusal is a failing command, since an exception in an operation
ends the run of every host.
"""

from __future__ import annotations

import hashlib
import shlex
import sys
from collections.abc import Callable, Generator, Iterable
from typing import Any

from pyinfra import host, state
from pyinfra.api import QuoteString, StringCommand, operation
from pyinfra.api.command import PyinfraCommand

from fleet.changes import Change, find_refusals
from fleet.delivery import lines_of, text_to
from fleet.facts import AppliedChanges, FileState, FlagState, JsonFact, Lines, PrivateRows, SqlRows, StaleService
from fleet.managers import manager_of
from fleet.passwords import PasswordError, resolve, scram_verifier, verifier_at
from fleet.psql import Session, ident, literal

Commands = Generator[PyinfraCommand, None, None]
Text = str | Callable[[], str]
LOCK_TIMEOUT_MS = 2_000
LOCK_TRIES = 15


def refuse(reason: str) -> StringCommand:
    """Return a command that fails with a reason."""
    return StringCommand("sh", "-c", QuoteString('printf "%s\\n" "$1" >&2; exit 1'), "sh", QuoteString(reason))


@operation()
def together() -> Commands:
    """Do nothing, or stop where a host has failed: what all hosts have begins once each is done with what is before."""
    if failed := sorted(host.name for host in state.failed_hosts):
        yield refuse(f"stopped, since {', '.join(failed)} failed; mend that and run again")
    else:
        host.noop("all hosts are here")


@operation()
def cluster(base: str, port: int, major: int | None = None) -> Commands:
    """Make a private throwaway cluster, and start it."""
    launcher = (sys.executable, "-m", "fleet.cluster")
    status = host.get_fact(JsonFact, words=(*launcher, "status", "--base", base))
    if status.get("running") and status.get("port") == port:
        host.noop(f"the cluster in {base} is up")
        return
    words = [*launcher, "start", "--base", base, "--port", str(port), *(["--major", str(major)] if major else [])]
    yield StringCommand(*(QuoteString(word) for word in words))


@operation()
def generated_password(path: str) -> Commands:
    """Make a password file that is not there yet; the password is made on the host and is in no command."""
    if host.get_fact(FileState, path=path):
        host.noop(f"{path} is there")
        return
    script = (
        'umask 077 && mkdir -p "$(dirname "$1")" && '
        '"$2" -c "import secrets; print(secrets.token_urlsafe(24))" >"$1.new" && mv -f "$1.new" "$1"'
    )
    yield StringCommand("sh", "-c", QuoteString(script), "sh", QuoteString(path), QuoteString(sys.executable))


@operation()
def private_file(path: str, text: Text, mode: str = "600", owner: str | None = None) -> Commands:
    """Write a file of lines that may hold secrets: never readable by others, replaced in one step.

    `owner` is USER:GROUP; without it the file is that of the user who logs in, or of root where sudo is used. A text
    with a password is best a function: it is called on the way to the host, once the password is there to be read.
    """
    try:
        text = lines_of(text if isinstance(text, str) else text())
    except PasswordError as exc:
        yield refuse(str(exc))
        return
    have = host.get_fact(FileState, path=path)
    same = have and have["sha256"] == hashlib.sha256(text.encode()).hexdigest() and have["mode"] == mode
    if same and owner in (None, f"{have['owner']}:{have['group']}"):
        host.noop(f"{path} is as wanted")
        return
    new = path + ".new"
    yield text_to(new, text)
    given = ["chown", QuoteString(owner), QuoteString(new), "&&"] if owner else []
    yield StringCommand(*given, "chmod", mode, QuoteString(new), "&&", "mv", "-f", QuoteString(new), QuoteString(path))


@operation()
def sql(session: Session, unless: str, text: str, refuse_if: tuple[str, str] | None = None) -> Commands:
    """Run SQL unless a query says (by a row with `t`) that its work is done.

    `refuse_if` is a query and a reason: if the query answers with a row, its first column ends the reason.
    """
    if refuse_if and (rows := host.get_fact(SqlRows, session=session, query=refuse_if[0])):
        yield refuse(f"{refuse_if[1]}: {rows[0][0]}")
    elif host.get_fact(SqlRows, session=session, query=unless) == [["t"]]:
        host.noop("done before")
    else:
        yield session.run(text)


@operation()
def can(session: Session, wanted: dict[str, str]) -> Commands:
    """Refuse a session that cannot be had, or for which a condition does not hold; names all that do not."""
    parts = " union all ".join(f"select {literal(name)} where not ({condition})" for name, condition in wanted.items())
    rows = host.get_fact(SqlRows, session=session, query=f"select 'seen' union all {parts}")
    if rows == [["seen"]]:
        host.noop(f"{session.user} can do what it must")
    elif rows:
        yield refuse(f"on {session.database} as {session.user} this does not hold: {'; '.join(r[0] for r in rows[1:])}")
    else:
        # On the server, so that psql says why no session could be had.
        yield session.run("select 1;")


# What is said of a password must not reach the server's log or the statistics of statements either.
UNSEEN = (
    "set log_statement = 'none'; set log_min_duration_statement = -1; set log_min_error_statement = 'panic';\n"
    "set pg_stat_statements.track = 'none';\n"
)


@operation()
def role(session: Session, role: str, password: dict[str, Any], attributes: str = "login") -> Commands:
    """Make a role that logs in with the password of a reference, by its SCRAM verifier: the password does not travel.

    A verifier is as good as a password to whoever can try many: it is in no argument and no output either.
    """
    try:
        secret = resolve(password)
    except PasswordError as exc:
        yield refuse(str(exc))
        return
    costs = host.get_fact(
        SqlRows,
        session=session,
        query=(
            "select pg_catalog.split_part(rolpassword, '$', 2) from pg_catalog.pg_authid"
            f" where rolname = {literal(role)} and rolcanlogin"
        ),
    )
    wanted = verifier_at(costs[0][0], secret) if costs else ""
    if wanted and _has_verifier(session, role, wanted):
        host.noop(f"role {role} has this password")
        return
    yield session.run(
        f"{UNSEEN}select pg_catalog.format('create role %I', {literal(role)}) where not exists\n"
        f"    (select from pg_catalog.pg_roles where rolname = {literal(role)})\n\\gexec\n"
        f"alter role {ident(role)} {attributes} password {literal(scram_verifier(secret))};\n"
    )


def _has_verifier(session: Session, role: str, verifier: str) -> bool:
    question = f"select rolpassword = {literal(verifier)} from pg_catalog.pg_authid where rolname = {literal(role)};\n"
    return host.get_fact(PrivateRows, session=session, _stdin=UNSEEN + question) == [["t"]]


@operation()
def database(session: Session, database: str, owner: str) -> Commands:
    """Make a database of this owner; `session` is one on a maintenance database."""
    query = f"select 't' from pg_catalog.pg_database where datname = {literal(database)}"
    if host.get_fact(SqlRows, session=session, query=query):
        host.noop(f"database {database} is there")
        return
    yield session.run(f"create database {ident(database)} owner {ident(owner)} template template0 encoding 'UTF8';")


@operation()
def dropped_database(session: Session, database: str, kind: str) -> Commands:
    """Drop the database of a throwaway environment; refused where the database carries the mark of another kind."""
    if kind not in {"local", "docker"}:
        yield refuse(
            f"database {database} of an environment of kind {kind} is never dropped; only local and docker are"
        )
        return
    there = f"select 't' from pg_catalog.pg_database where datname = {literal(database)}"
    if not host.get_fact(SqlRows, session=session, query=there):
        host.noop(f"there is no database {database}")
        return
    marks = host.get_fact(SqlRows, session=session.on(database), query="select kind from rehearsal.environment_mark")
    if marks and marks[0][0] != kind:
        yield refuse(f"database {database} is marked {marks[0][0]}, the inventory says {kind}; it is not dropped")
        return
    yield session.run(f"drop database {ident(database)} with (force);")


@operation()
def marked(session: Session, kind: str) -> Commands:
    """Refuse a database that does not carry the mark of the inventory's kind of environment."""
    if host.get_fact(SqlRows, session=session, query="select kind from rehearsal.environment_mark") == [[kind]]:
        host.noop(f"database {session.database} is marked {kind}")
        return
    reason = literal(
        f"database {session.database} is not marked {kind}, which is what the inventory says; "
        "nothing was written; mark it with `./inv db.provision`, or use the inventory that belongs to it"
    )
    # On the server, so that a server that cannot be reached says that instead.
    yield session.run(f"do $$ begin raise exception using message = {reason}; end $$;")


@operation()
def changes_unedited(session: Session, changes: tuple[Change, ...]) -> Commands:
    """Refuse, before any change runs, a manifest with an edited file or an edited applied change."""
    reasons = find_refusals(changes, host.get_fact(AppliedChanges, session=session))
    if reasons:
        yield refuse("\n".join(reasons))
    else:
        host.noop("no change was edited")


@operation()
def change(
    session: Session, change: Change, applied: dict[str, str], lock_timeout_ms: int = LOCK_TIMEOUT_MS
) -> Commands:
    """Apply a change in one transaction with its row in the registry, asking for locks a bounded number of times."""
    if change.name in applied:
        host.noop(f"{change.name} was applied before")
        return
    registered = (
        "insert into rehearsal.change (name, checksum, body)\n"
        f"values ({literal(change.name)}, {literal(change.checksum)}, {literal(change.body)});\n"
    )
    # A psql that was killed must not leave its statement running on the server.
    watched = "set client_connection_check_interval = '500ms';\n"
    if not change.transactional:
        yield session.run(f"{watched}set lock_timeout = '{lock_timeout_ms}ms';\n{change.body}\n{registered}")
        return
    # The row goes first: of two that apply the same change at once, the second waits here and then fails on the key.
    # The check at the end fails for a body that ended the transaction, which the lexer of the manifest may have missed.
    text = (
        f"{watched}begin;\nset local lock_timeout = '{lock_timeout_ms}ms';\n"
        f"{registered}select pg_catalog.pg_current_xact_id()::text as change_xid \\gset\n{change.body}\n;\n"
        "select 1 / (pg_catalog.pg_current_xact_id()::text = :'change_xid')::int as one_transaction \\gset\n"
        "commit;\n"
    )
    yield session.run_with_retries(text, LOCK_TRIES)


# `set -e` does nothing in a list with `||`, hence the trap. The new file is made beside the old one and gets its mode
# and owner before its contents; a link stays a link.
STEPS = """\
set -e
new= step='writing the flags'
trap 'code=$?; test -z "$new" || rm -f "$new"; test "$code" -eq 0 || echo "$step failed, exit code $code" >&2' EXIT
"""
WRITE_FLAGS = """\
file=$(readlink -f "$1"); names=$2; shift 2
new=$file.new
cp -p "$file" "$new"
grep -vE "^($names)=" "$file" >"$new" || test "$?" -eq 1
printf '%s\\n' "$@" >>"$new"
mv -f "$new" "$file"
new=
"""


def flags_source(data: Any) -> str:
    """Return the shell text that prints the flags of a server: its own command, or its env file."""
    return str(data.get("app_flags_now") or f"cat {shlex.quote(data.env_file)}")


def look_at_flags(data: Any, names: Iterable[str]) -> dict[str, Any]:
    """Return what a flip has to know of the current host, by one command.

    Raises:
        ValueError: its app manager is unknown, or lacks a key.
    """
    return host.get_fact(FlagState, source=flags_source(data), names=tuple(sorted(names)), stale=manager_of(data).stale)


@operation()
def routing_flags(
    data: Any, flags: dict[str, bool], *, restart: bool = False, seen: dict[str, Any] | None = None
) -> Commands:
    """Set flags of a server where they are kept, and restart its app if it runs with others; one fact, one command.

    A file is replaced in one step, and every other line of it stays. The app is restarted if a flag changed, if
    `restart` says that it answers with other flags, or if its manager knows that it is older than its env file.
    `seen` is what the look at it found, where this run looked already.
    """
    try:
        manager = manager_of(data)
        have = seen or look_at_flags(data, flags)
    except ValueError as exc:
        yield refuse(str(exc))
        return
    wanted = {name: "true" if value else "false" for name, value in flags.items()}
    if have["problem"]:
        yield refuse(f"cannot read the flags: {have['problem']}; deploy the app first")
    elif have["flags"] == wanted and not restart and not have["stale"]:
        host.noop("the app runs with these flags")
    else:
        yield _flip(data, {} if have["flags"] == wanted else wanted, manager.restart)


def _flip(data: Any, flags: dict[str, str], restart: str) -> StringCommand:
    """Return the command that writes these flags, if any, and then restarts; it says which of the two failed."""
    lines = [f"{name}={value}" for name, value in sorted(flags.items())]
    words = ("sh", data.env_file, "|".join(sorted(flags)), *lines) if data.get("env_file") else ("sh",)
    write = WRITE_FLAGS
    if command := data.get("app_flags_set"):
        write = f"( {str(command).replace('{flags}', ' '.join(shlex.quote(line) for line in lines))}\n)\n"
    script = f"{STEPS}{write if flags else ''}step='restarting the app'\n( {restart}\n)\n"
    return StringCommand("sh", "-c", *(QuoteString(word) for word in (script, *words)))


@operation()
def supervisor(base: str) -> Commands:
    """Start the process manager of `local`, if it is down, and make it know the programs as they are configured."""
    manager = (sys.executable, "-m", "fleet.local")
    if host.get_fact(JsonFact, words=(*manager, "status", "--base", base)).get("current"):
        host.noop("the process manager is up")
        return
    yield StringCommand(*(QuoteString(word) for word in (*manager, "start", "--base", base)))


@operation()
def program(base: str, program: str) -> Commands:
    """Run a program under the process manager; restart it if its files are not those that it was started with."""
    manager = (sys.executable, "-m", "fleet.local")
    status = host.get_fact(JsonFact, words=(*manager, "status", "--base", base, "--program", program))
    if status.get("programs", {}).get(program, {}).get("current"):
        host.noop(f"{program} runs with its present files")
        return
    words = (*manager, "restart", "--base", base, "--program", program)
    yield StringCommand(*(QuoteString(word) for word in words))


@operation()
def service(unit: str, env_file: str, restart: str | None = None, files: tuple[str, ...] = ()) -> Commands:
    """Restart a systemd unit that is down or runs with an older env file; `restart` replaces the usual command.

    `files` are further files that the unit reads once, at its start.
    """
    if not host.get_fact(StaleService, unit=unit, env_file=env_file, files=files):
        host.noop(f"{unit} runs with its present files")
        return
    yield StringCommand(restart) if restart else StringCommand("systemctl", "restart", QuoteString(unit))


@operation()
def gone(paths: tuple[str, ...]) -> Commands:
    """Remove files, those that are there."""
    script = 'for file in "$@"; do test ! -e "$file" || echo "$file"; done'
    if there := host.get_fact(Lines, script=script, words=paths):
        yield StringCommand("rm", "-f", "--", *(QuoteString(path) for path in there))
    else:
        host.noop("none of them is there")
