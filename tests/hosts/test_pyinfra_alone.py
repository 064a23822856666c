"""pyinfra by itself on real hosts, as somebody types it: hosts in the wanted state, and no change the second time."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.hosts.conftest import ROOT, Hosts

# On each host something that is wanted is not there; the database of the default plan stays.
SPOILED = {
    "db": "runuser -u postgres -- psql -qc 'revoke pg_monitor from monitor'; rm -f /root/.pg-rehearsal.pgpass",
    "app1": "rm -f /etc/finance/app.env; systemctl stop finance",
    "monitor": "rm -f /etc/pg-rehearsal/exporter.env",
}
CHANGED = {"Write the password file of psql", "Let the monitor role read what it needs, and write nothing",
           "Write the app server's env file", "Start the app server",
           "Write how the database exporter logs in", "Start the database exporter"}  # fmt: skip
ROW = re.compile(
    r"^ +(?:tasks/\S+ \| )*(?P<name>\S.*?) {2,}\d+ +(?P<changed>\S+) +(?P<failed>\S+) +\S+ *$", re.MULTILINE
)


def run_alone() -> set[str]:
    """Return the names of the operations that changed something."""
    command = [sys.executable, "-m", "pyinfra", "-y", "inventories/docker.py", "deploy.py"]
    done = subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=600
    )
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    rows = [match for match in ROW.finditer(text[text.index("Results:") :]) if match["name"] != "Grand total"]
    assert len(rows) > 40, text
    return {match["name"] for match in rows if match["changed"] != "-"}


@pytest.mark.fault("s08")
def test_pyinfra_by_itself_brings_hosts_to_the_wanted_state(hosts: Hosts) -> None:
    """Without a word of data; what was spoiled is mended, and nothing else is touched."""
    for name, command in SPOILED.items():
        hosts.on(name).check_output(command)

    assert run_alone() == CHANGED
    hosts.wait_for_the_app()
    assert run_alone() == set()
