"""A pooler beside the app: pgbouncer as Debian packages it, in the mode that the inventory asks for.

Owns what `pooler` may be, and whose a pgbouncer is: one that somebody else has set up is neither replaced nor stopped.
The engine never goes through it, since locks and settings of its sessions would end in another session.
"""

from __future__ import annotations

from typing import Any

from pyinfra import host
from pyinfra.api import QuoteString, StringCommand, operation

from fleet.facts import Lines
from fleet.operations import Commands, refuse
from fleet.units import drop_in_path

MODES = ("session", "transaction")
UNIT = "pgbouncer.service"
FOLDER = "/etc/pgbouncer"
SETTINGS, USERS, AUTHORITY = f"{FOLDER}/pgbouncer.ini", f"{FOLDER}/userlist.txt", f"{FOLDER}/server-ca.crt"
OWNER = "postgres:postgres"  # as whom the unit of the package runs
MARK = "; Written by pg-rehearsal"

# Settings that are neither ours nor those that the package came with.
FOREIGN = """\
test -f "$1" || exit 0
head -n 1 "$1" | grep -qF "$2" && exit 0
came=$(dpkg-query -W -f='${Conffiles}\\n' pgbouncer | awk -v path="$1" '$1 == path {print $2}')
test "$(md5sum <"$1" | cut -d' ' -f1)" = "$came" || echo foreign
"""
OURS = 'head -n 1 "$1" | grep -qF "$2" && echo ours'
# By the package's SIGINT, pgbouncer would stop only once no client has a session: never, where the app keeps its
# connections and each keeps a session. By SIGTERM it stops at once, with an exit code of 1.
UNIT_SETTINGS = """\
[Unit]
StartLimitIntervalSec=0

[Service]
KillSignal=SIGTERM
SuccessExitStatus=1
Restart=always
RestartSec=1
LimitNOFILE=8192
NoNewPrivileges=yes
ProtectSystem=full
ProtectHome=yes
PrivateTmp=yes
"""
RESTART = f"systemctl restart {UNIT} || {{ journalctl -u {UNIT} -n 5 -o cat --no-pager >&2; exit 1; }}"


class PoolerError(RuntimeError):
    """The inventory asks for a pooler that there is not; says what there is."""


def wanted_mode(data: Any) -> str | None:
    """Return the mode that the inventory asks for; None is no pooler.

    >>> wanted_mode({"pooler": "session"}), wanted_mode({"pooler": ""}), wanted_mode({})
    ('session', None, None)

    Raises:
        PoolerError: there is no such mode.
    """
    mode = data.get("pooler")
    if not mode:
        return None
    if mode in MODES and data.get("env_kind") != "local":
        return str(mode)
    if mode in MODES:
        message = "`pooler` is not for the environment local, which installs no package; leave it out of the inventory"
        raise PoolerError(message)
    message = f"`pooler` is {mode!r}; it must be {' or '.join(MODES)}, or be left out: no pooler. Change the inventory"
    raise PoolerError(message)


def users(**passwords: str) -> str:
    r"""Return a file of users and passwords.

    >>> users(app='p"w')
    '"app" "p""w"\n'
    """
    pairs = ([side.replace('"', '""') for side in pair] for pair in passwords.items())
    return "".join(f'"{user}" "{password}"\n' for user, password in pairs)


@operation()
def unclaimed() -> Commands:
    """Refuse a host whose pgbouncer somebody else has set up."""
    if host.get_fact(Lines, script=FOREIGN, words=(SETTINGS, MARK)):
        yield refuse(
            f"{SETTINGS} was written by somebody else and is left alone; move it away, or leave `pooler` out of the "
            "inventory and let the app go on as it does"
        )
    else:
        host.noop(f"{SETTINGS} is ours to write")


@operation()
def enabled() -> Commands:
    """Let the pooler start with the host."""
    if host.get_fact(Lines, script='systemctl is-enabled "$1"', words=(UNIT,)) == ["enabled"]:
        host.noop(f"{UNIT} starts with the host")
        return
    yield StringCommand("systemctl", "enable", "--quiet", UNIT)


@operation()
def out_of_use() -> Commands:
    """Stop the pooler for good and remove what we wrote for it, if its settings are ours; the package stays."""
    if not host.get_fact(Lines, script=OURS, words=(SETTINGS, MARK)):
        host.noop("no pooler of ours")
        return
    # The settings go last: as long as they are there, a run that was killed is repeated by the next one.
    yield StringCommand("systemctl", "disable", "--now", "--quiet", UNIT)
    yield StringCommand("rm", "-f", *(QuoteString(path) for path in (USERS, AUTHORITY, drop_in_path(UNIT))))
    yield StringCommand("systemctl", "daemon-reload")
    yield StringCommand("rm", "-f", QuoteString(SETTINGS))
