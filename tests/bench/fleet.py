"""Flip the flags of many app servers: ours and Ansible, the same work on the same hosts, in turns within one run.

    python -m tests.bench.fleet [SERVERS] [ROUNDS]        needs sshd and root; Ansible comes into a venv of its own

The work of both: two flags in an env file, replaced in one step; a restart where they changed; each server's health
must report the wanted routing before the next batch. Hosts are an sshd and an app each, on ports of this machine, so
what runs on the hosts costs the same processors as what runs here; that is as true for the one as for the other.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rehearsal.application.rollout import Rollout, set_flags
from rehearsal.hosts.inventory import _read_inventory  # pyright: ignore[reportPrivateUsage]
from rehearsal.hosts.pyinfra import PROJECT
from rehearsal.plan.model import Plan, TableSpec
from tests.fix_fleet import NAMES, OFF, ON, Fleet, running_fleet

PLAN = Plan(name="hosts", strategy="swap", tables=[TableSpec(name="public.posts", key="created_at")])
BATCHES = ("100%", "25%")
ANSIBLE_CFG = """\
[defaults]
forks = 50
host_key_checking = true
retry_files_enabled = false
interpreter_python = {python}
stdout_callback = default
[ssh_connection]
pipelining = true
ssh_args = -C -o ControlMaster=auto -o ControlPersist=60s -o UserKnownHostsFile={folder}/known_hosts
control_path_dir = {folder}/cp
"""
PLAYBOOK = """\
- hosts: app
  gather_facts: false
  serial: "{{ batch }}"
  max_fail_percentage: 0
  tasks:
    - name: Set the routing flags
      ansible.builtin.replace:
        path: "{{ env_file }}"
        regexp: '^(REGEXP)=.*$'
        replace: '\\1={{ wanted }}'
      notify: Restart the app server
    - ansible.builtin.meta: flush_handlers
    - name: Ask its health
      ansible.builtin.uri:
        url: "{{ app_url }}/health"
      delegate_to: localhost
      register: health
      until: health.json is defined and health.json.routing.reads == side and health.json.routing.writes == side
      retries: 100
      delay: 0
  handlers:
    - name: Restart the app server
      ansible.builtin.command: "{{ app_restart }}"
"""


@dataclass(frozen=True)
class Measured:
    """One run: wall time, processor time here (without what runs on the hosts), commands on the hosts."""

    seconds: float
    cpu: float
    commands: int


def commands_so_far(fleet: Fleet) -> int:
    """Return how many commands the hosts' sshds have started, all together."""
    logs = [(fleet.folder / f"{server.name}.sshd.log").read_text() for server in fleet.servers]
    return sum(text.count("Starting session: ") for text in logs)


def measure(fleet: Fleet, work: Callable[[], None]) -> Measured:
    """Run something once."""
    before, commands, usage = time.monotonic(), commands_so_far(fleet), resource.getrusage(resource.RUSAGE_CHILDREN)
    work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime
    return Measured(time.monotonic() - before, cpu, commands_so_far(fleet) - commands)


def ours(fleet: Fleet, batch: str, *, on: bool) -> Callable[[], None]:
    """Return the flip by this project, in a process of its own as the command line is one."""
    path = fleet.folder / "env.pickle"
    path.write_bytes(pickle.dumps(fleet.env))
    words = [sys.executable, "-m", "tests.bench.fleet", "--flip", str(path), batch, "on" if on else "off"]
    return lambda: run(words, {})


def run(words: list[str], variables: dict[str, str]) -> None:
    """Run a command; what it says is shown only if it fails."""
    done = subprocess.run(
        words, cwd=PROJECT, env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(words)} failed:\n{(done.stdout + done.stderr)[-4000:]}")


def flip(path: str, batch: str, word: str) -> int:
    """Flip as `flags.set` does, reading the inventory first; the database's lock is not part of the comparison."""
    env = pickle.loads(Path(path).read_bytes())  # noqa: S301 -- written by the run that started this
    _read_inventory(env.inventory, PROJECT)
    result = set_flags(env, PLAN, reads=word == "on", writes=word == "on", rollout=Rollout(batch=batch))
    print(result.error or "done")
    return 0 if result.ok else 1


class Ansible:
    """Ansible in a virtual environment of its own, with the settings that its users take for speed."""

    def __init__(self, fleet: Fleet) -> None:
        self.folder = fleet.folder / "ansible"
        (self.folder / "cp").mkdir(parents=True)
        self._venv = Path(tempfile.gettempdir()) / f"pg-rehearsal-ansible-{os.getuid()}"
        if not (self._venv / "bin" / "ansible-playbook").exists():
            run([sys.executable, "-m", "venv", str(self._venv)], {})
            run([str(self._venv / "bin" / "pip"), "install", "--quiet", "ansible-core"], {})
        (self.folder / "known_hosts").write_bytes((fleet.folder / "known_hosts").read_bytes())
        text = ANSIBLE_CFG.format(python=sys.executable, folder=self.folder)
        (self.folder / "ansible.cfg").write_text(text)
        (self.folder / "flip.yml").write_text(PLAYBOOK.replace("REGEXP", "|".join(NAMES)))
        hosts = {
            server.name: {
                "ansible_host": "127.0.0.1",
                "ansible_port": server.ssh_port,
                "ansible_ssh_private_key_file": server.data["ssh_key"],
                **{key: server.data[key] for key in ("env_file", "app_url", "app_restart")},
            }
            for server in fleet.servers
        }
        (self.folder / "hosts.json").write_text(json.dumps({"app": {"hosts": hosts}}))

    @property
    def version(self) -> str:
        """Version of ansible-core."""
        words = [str(self._venv / "bin" / "ansible-playbook"), "--version"]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()[0]

    def flip(self, batch: str, *, on: bool) -> Callable[[], None]:
        """Return the flip by a playbook."""
        values = json.dumps(
            {"batch": batch, "wanted": "true" if on else "false", "side": "partitioned" if on else "legacy"}
        )
        book = str(self._venv / "bin" / "ansible-playbook")
        inventory, path = str(self.folder / "hosts.json"), str(self.folder / "flip.yml")
        words = [book, "-i", inventory, path, "-e", values]
        return lambda: run(words, {"ANSIBLE_CONFIG": str(self.folder / "ansible.cfg")})


def verbose(fleet: Fleet) -> None:
    """Make the hosts log each command, which is how commands are counted for both."""
    for server in fleet.servers:
        server.stop_sshd()
        server.verbose = True
        server.start_sshd()


def main(servers: int = 50, rounds: int = 2) -> int:
    """Measure both in turns, and print the table of the medians."""
    seen: dict[tuple[str, str, str], list[Measured]] = {}
    with running_fleet(servers) as fleet:
        verbose(fleet)
        ansible = Ansible(fleet)
        print(f"{servers} servers, {rounds} rounds, {os.cpu_count()} processors, {ansible.version}", flush=True)
        for number in range(rounds):
            for batch in BATCHES:
                ways = [("ours", lambda on, b=batch: ours(fleet, b, on=on)),
                        ("ansible", lambda on, b=batch: ansible.flip(b, on=on))]  # fmt: skip
                for name, way in ways if number % 2 == 0 else reversed(ways):
                    for what, on in (("flip", True), ("again", True), ("back", False)):
                        got = measure(fleet, way(on))
                        assert fleet.seen == [(ON, ON) if on else (OFF, OFF)] * servers
                        seen.setdefault((batch, what, name), []).append(got)
                        print(f"{batch:>5} {what:<6} {name:<8} {got}", flush=True)
    show(seen)
    return 0


def show(seen: dict[tuple[str, str, str], list[Measured]]) -> None:
    """Print the medians, ready for docs/benchmarks.md."""
    print("\n| batch | run | ours s | Ansible s | ratio | ours CPU s | Ansible CPU s | commands, ours | Ansible |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for batch, what in dict.fromkeys((batch, what) for batch, what, _ in seen):
        mine, theirs = (
            Measured(*(statistics.median(getattr(measured, name) for measured in seen[batch, what, who])
                       for name in ("seconds", "cpu", "commands")))
            for who in ("ours", "ansible")
        )  # fmt: skip
        cells = [f"{mine.seconds:.1f}", f"{theirs.seconds:.1f}", f"{theirs.seconds / mine.seconds:.1f}",
                 f"{mine.cpu:.1f}", f"{theirs.cpu:.1f}", f"{mine.commands:.0f}", f"{theirs.commands:.0f}"]  # fmt: skip
        print(f"| {batch} | {what} | {' | '.join(cells)} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--flip"]:
        sys.exit(flip(*sys.argv[2:5]))
    sys.exit(main(*(int(word) for word in sys.argv[1:3])))
