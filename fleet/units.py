"""systemd units, the firewall and archives of code on a host: operations that change nothing on their second run."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pyinfra import host
from pyinfra.api import QuoteString, StringCommand, operation

from fleet.delivery import file_to
from fleet.facts import FileState, Lines
from fleet.operations import Commands, private_file

UNIT = """\
systemctl show -P NeedDaemonReload "$1"
systemctl is-enabled "$1"
"""
RULES = "/etc/nftables.d/pg-rehearsal.nft"
# The rules that are loaded, without counters and handles, as they were when their file was applied.
LOADED = "nft list table inet pg_rehearsal | sha256sum; cat /run/pg-rehearsal.nft.sum"


@operation()
def unit(unit: str, text: str) -> Commands:
    """Write a unit, make systemd know it, and let it start with the host."""
    path = f"/etc/systemd/system/{unit}"
    have = host.get_fact(FileState, path=path)
    if not have or have["sha256"] != hashlib.sha256(text.encode()).hexdigest() or have["mode"] != "644":
        yield from private_file._inner(path=path, text=text, mode="644", owner="root:root")  # noqa: SLF001
    elif host.get_fact(Lines, script=UNIT, words=(unit,)) == ["no", "enabled"]:
        host.noop(f"{unit} is as wanted")
        return
    yield StringCommand("systemctl", "daemon-reload", "&&", "systemctl", "enable", "--quiet", QuoteString(unit))


def drop_in_path(unit: str) -> str:
    """Return the file that adds our settings to a unit of a package."""
    return f"/etc/systemd/system/{unit}.d/50-pg-rehearsal.conf"


@operation()
def drop_in(unit: str, text: str) -> Commands:
    """Add settings to a unit that a package brought, and make systemd know them."""
    yield from _known(unit, drop_in_path(unit), text)


@operation()
def unit_template(unit: str, text: str, instance: str) -> Commands:
    """Write a template of units, and make systemd know it; it answers for an instance only, so one is named."""
    yield from _known(unit.replace("@.", f"@{instance}."), f"/etc/systemd/system/{unit}", text)


def _known(unit: str, path: str, text: str) -> Commands:
    have = host.get_fact(FileState, path=path)
    if not have or have["sha256"] != hashlib.sha256(text.encode()).hexdigest() or have["mode"] != "644":
        yield from private_file._inner(path=path, text=text, mode="644", owner="root:root")  # noqa: SLF001
    elif host.get_fact(Lines, script='systemctl show -P NeedDaemonReload "$1"', words=(unit,)) == ["no"]:
        host.noop(f"{unit} has these settings")
        return
    yield StringCommand("systemctl", "daemon-reload")


# A timer that began before its file was written anew goes by the old times until it is restarted.
TIMER = """\
systemctl is-enabled "$1"; systemctl is-active "$1"
since=$(date -d "$(systemctl show --timestamp=us -P ActiveEnterTimestamp "$1")" +%s%N)
test "$(stat -c %.9Y "$2" | tr -d .)" -lt "$since" && echo present
"""


@operation()
def timer_on(unit: str) -> Commands:
    """Let a timer go on with its present file, now and after each start of the host."""
    template = f"/etc/systemd/system/{unit.partition('@')[0]}@.timer"
    if host.get_fact(Lines, script=TIMER, words=(unit, template)) == ["enabled", "active", "present"]:
        host.noop(f"{unit} is on")
        return
    yield StringCommand(
        "systemctl", "enable", "--quiet", QuoteString(unit), "&&", "systemctl", "restart", QuoteString(unit)
    )


@operation()
def timer_off(unit: str) -> Commands:
    """Stop a timer for good; a job of it that is at work ends by itself."""
    script = 'systemctl is-enabled "$1"; systemctl is-active "$1"; true'
    said = host.get_fact(Lines, script=script, words=(unit,))
    if "enabled" not in said and "active" not in said:
        host.noop(f"{unit} is off")
        return
    yield StringCommand("systemctl", "disable", "--now", "--quiet", QuoteString(unit))


# A job that is at work already is waited for, and then done anew: what is asked for is a run that begins after now.
JOB = """\
while test "$(systemctl is-active "$1")" = activating; do sleep 0.2; done
cursor=$(journalctl --quiet --lines 0 --show-cursor 2>/dev/null | sed -n 's/^-- cursor: //p')
systemctl start "$1" && exit 0
journalctl --quiet --unit "$1" ${cursor:+--after-cursor "$cursor"} --output cat --lines 20 >&2; exit 1
"""


@operation()
def job(unit: str) -> Commands:
    """Do what a timer does, once, and wait for it; what it said is the error if it fails."""
    yield StringCommand("sh", "-c", QuoteString(JOB), "sh", QuoteString(unit))


@operation()
def unpacked(archive: str, digest: str, folder: str) -> Commands:
    """Unpack an archive of this machine into `<folder>/<digest>`, and let `<folder>/current` be that."""
    current = host.get_fact(Lines, script='readlink "$1"', words=(f"{folder}/current",))
    if current == [digest]:
        host.noop(f"{folder} has the present release")
        return
    new = f"/root/.{digest}.tar.gz"
    yield file_to(new, Path(archive))
    script = (
        'set -eu; cd "$1"; rm -rf "./$2.new"; mkdir "./$2.new"; tar -xzf "$3" -C "./$2.new"; '
        'python3 -m compileall -q "./$2.new" >/dev/null || true; rm -rf "./$2"; mv "./$2.new" "./$2"; '
        'ln -sfn "$2" current.new; mv -fT current.new current; rm -f "$3"; '
        'find . -mindepth 1 -maxdepth 1 ! -name "$2" ! -name current -exec rm -rf {} +'
    )
    words = (folder, digest, new)
    yield StringCommand("mkdir", "-p", QuoteString(folder))
    yield StringCommand("sh", "-c", QuoteString(script), "sh", *(QuoteString(word) for word in words))


@operation()
def system_user(user: str, home: str = "/nonexistent") -> Commands:
    """Make a user of the system that nobody can log in as."""
    if host.get_fact(Lines, script='getent passwd "$1"', words=(user,)):
        host.noop(f"user {user} is there")
        return
    yield StringCommand(
        "useradd", "--system", "--user-group", "--no-create-home", "--home-dir", QuoteString(home),
        "--shell", "/usr/sbin/nologin", QuoteString(user),
    )  # fmt: skip


@operation()
def folder(path: str, mode: str, owner: str) -> Commands:
    """Make a folder with this mode and owner (USER:GROUP)."""
    have = host.get_fact(Lines, script='stat -c "%F %a %U:%G" "$1"', words=(path,))
    if have == [f"directory {mode} {owner}"]:
        host.noop(f"{path} is as wanted")
        return
    user, group = owner.split(":")
    yield StringCommand("install", "-d", "-m", mode, "-o", user, "-g", group, QuoteString(path))


@operation()
def firewall(text: str) -> Commands:
    """Write and load the rules of our own table, if they are valid; other tables, as Docker's, are left alone."""
    have = host.get_fact(FileState, path=RULES)
    same = have and have["sha256"] == hashlib.sha256(text.encode()).hexdigest()
    sums = host.get_fact(Lines, script=LOADED)
    if same and len(sums) == 2 and sums[0].split()[0] == sums[1].split()[0]:
        host.noop("the firewall is as wanted")
        return
    if not same:
        yield from private_file._inner(path=RULES, text=text, mode="640", owner="root:root")  # noqa: SLF001
    yield StringCommand("nft", "-c", "-f", RULES, "&&", "systemctl", "restart", "pg-rehearsal-firewall.service")
