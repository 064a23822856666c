"""PostgreSQL as Debian packages it: clusters, drop-in settings, access rules. Operations and facts.

Must not know which roles or databases there are. Facts look as the user `postgres`, by the socket; a server that is
not there yet says nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from pyinfra import host
from pyinfra.api import FactBase, QuoteString, StringCommand, operation

from fleet.facts import FileState, Lines, SqlRows
from fleet.operations import Commands, private_file, refuse
from fleet.psql import Session, literal

SOCKET = "/var/run/postgresql"
CREATION = ("--data-checksums", "--locale=C.UTF-8", "--encoding=UTF8", "--auth-local=peer", "--auth-host=scram-sha-256")

# What a running server has not taken in yet: a file that is newer than its last reload, a setting that needs a restart.
PENDING = """\
unit=$1; shift
systemctl is-active --quiet "$unit" || { echo restart; exit 0; }
ask() { runuser -u postgres -- psql -XAtqw -d postgres -c "$1"; }
loaded=$(ask 'select extract(epoch from pg_conf_load_time())') || exit 0
for file in "$@"; do
  stat -c %.9Y "$file" | awk -v loaded="$loaded" '$1 > loaded {exit 1}' || { echo reload; break; }
done
test "$(ask 'select count(*) from pg_settings where pending_restart')" = 0 || echo restart
"""
# An error in the new rules is found before the server reads them; the old ones are put back, and nothing has changed.
HBA = """\
set -eu
cp -p "$1" "$1.before"; mv -f "$1.new" "$1"
wrong=$(runuser -u postgres -- psql -XAtqw -d postgres -c \
  "select format('line %s: %s', line_number, error) from pg_hba_file_rules where error is not null") || wrong=unseen
if [ "$wrong" ]; then mv -f "$1.before" "$1"; echo "these access rules are wrong: $wrong" >&2; exit 1; fi
rm -f "$1.before"
"""


class Clusters(FactBase[dict[str, str]]):
    """Clusters of the host: `15/main` to its state, `online` or `down`."""

    default = dict

    def command(self) -> str:
        """Return the command."""
        return "pg_lsclusters -h 2>/dev/null || true"

    def process(self, output: Iterable[str]) -> dict[str, str]:
        """Return name to state."""
        rows = (line.split() for line in output)
        return {f"{row[0]}/{row[1]}": row[3].partition(",")[0] for row in rows if len(row) > 3}


def administrator(database: str = "postgres") -> Session:
    """Return a session as the superuser by the socket, which only the user `postgres` of the host can have."""
    return Session(SOCKET, 5432, "postgres", database, "/dev/null", run_as="postgres")


@operation()
def debian_cluster(major: int, cluster: str = "main") -> Commands:
    """Make a cluster with checksums and a locale that does not depend on who makes it, and start it."""
    state = host.get_fact(Clusters).get(f"{major}/{cluster}")
    if state == "online":
        host.noop(f"the cluster {major}/{cluster} is up")
    elif state is None:
        yield StringCommand("pg_createcluster", str(major), cluster, "--start", "--", *CREATION)
    else:
        yield StringCommand("systemctl", "start", f"postgresql@{major}-{cluster}")


@operation()
def access_rules(path: str, text: str) -> Commands:
    """Replace pg_hba.conf, once the server has found no error in the new one; it is not reloaded here."""
    have = host.get_fact(FileState, path=path)
    if have and have["sha256"] == hashlib.sha256(text.encode()).hexdigest():
        host.noop(f"{path} is as wanted")
        return
    yield from private_file._inner(path=path + ".new", text=text, mode="640", owner="postgres:postgres")  # noqa: SLF001
    yield StringCommand("sh", "-c", QuoteString(HBA), "sh", QuoteString(path))


@operation()
def converged(major: int, files: tuple[str, ...], cluster: str = "main") -> Commands:
    """Let the server take in its files: restarted only where a setting needs it, reloaded otherwise."""
    unit = f"postgresql@{major}-{cluster}"
    pending = host.get_fact(Lines, script=PENDING, words=(unit, *files))
    if not pending:
        host.noop("the server runs with its present settings")
        return
    # What a reload finds out (that a setting needs a restart) is known only after it.
    script = (
        'systemctl is-active --quiet "$1" || exec systemctl start "$1"; systemctl reload "$1"; sleep 0.5; '
        'test "$(runuser -u postgres -- psql -XAtqw -d postgres -c '
        '\'select count(*) from pg_settings where pending_restart\')" = 0 || systemctl restart "$1"'
    )
    yield StringCommand("sh", "-c", QuoteString(script), "sh", unit)


@operation()
def settings_in_force(path: str) -> Commands:
    """Fail if the server does not read this file, or if a setting is wrong or still waits for a restart."""
    query = (
        f"select 'the server does not read ' || {literal(path)} || '; is include_dir set in its postgresql.conf?'"
        f" where not exists (select from pg_file_settings where sourcefile = {literal(path)})"
        " union all select name || ': ' || error from pg_file_settings where error is not null"
        " union all select name || ' waits for a restart' from pg_settings where pending_restart"
        # Proves that it was looked at: a server that does not answer says nothing.
        " union all select 'seen'"
    )
    rows = [row[0] for row in host.get_fact(SqlRows, session=administrator(), query=query)]
    if rows == ["seen"]:
        host.noop("all settings are in force")
    else:
        yield refuse("; ".join(row for row in rows if row != "seen") or "the server does not answer on its socket")
