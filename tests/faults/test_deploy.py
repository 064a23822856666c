"""pyinfra by itself, as somebody types it: `pyinfra inventories/docker.py deploy.py`, without a word of data."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.operations.conftest import ROOT
from tests.operations.test_phases import INVENTORY, PASSWORD, folder

__all__ = ["folder"]
# What stands last before what, for all hosts: packages, then roles, then the app.
ORDER = {
    "docker": ("Install PostgreSQL", "Wait until all hosts", "Make the role of the app", "Wait until the database",
               "Start the app server"),
    "local": ("Start the private database cluster", "Make the password of the app role", "Make the role of the app",
              "Wait until the database", "Start the app server"),
    "staging.example": ("Wait until all hosts", "Make the role of the app", "Mark the database",
                        "Wait until the database", "Start the app server"),
}  # fmt: skip
# As it was, in the lines that matter.
OLD = """\
from pyinfra import host, local

if host.data.phase == "roles":
    local.include("tasks/roles.py")
"""


def pyinfra(place: Path, inventory: str, *words: str, deploy: str = "deploy.py", cwd: Path = ROOT) -> str:
    """Return what a dry run of an inventory says, its hosts made `@fake`."""
    path = place / "inventories" / f"{inventory}.py"
    path.write_text(INVENTORY.format(path=str(ROOT / "inventories" / f"{inventory}.py")))
    # `staging.example` takes one password from `pass`, which nobody has here.
    data = ["--data", 'db_superuser_password={"env": "REHEARSAL_MIGRATOR_PASSWORD"}'] if "staging" in inventory else []
    command = [sys.executable, "-m", "pyinfra", "--dry", str(path), deploy, *data, *words]
    done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    text = done.stdout + done.stderr
    assert PASSWORD not in text
    assert done.returncode == 0, text
    return text


def wanted_state(text: str, order: tuple[str, ...]) -> None:
    """Fail unless these operations are planned, in this order."""
    places = [text.find(name, text.find("Detected changes")) for name in order]
    assert places == sorted(places), text
    assert -1 not in places, text


@pytest.mark.fault("s08")
@pytest.mark.slow
@pytest.mark.parametrize(
    "inventory",
    [inventory if inventory == "docker" else pytest.param(inventory, marks=pytest.mark.hours) for inventory in ORDER],
)
def test_without_data_hosts_are_brought_to_the_wanted_state(folder: Path, inventory: str) -> None:
    """Every shipped inventory; a dry run from nothing says all of it, and nobody's password."""
    wanted_state(pyinfra(folder, inventory), ORDER[inventory])


@pytest.mark.fault("s08", mutant=True)
def test_a_deploy_file_that_wants_a_phase_is_caught(folder: Path) -> None:
    """As it was: an AttributeError of pyinfra's."""
    (folder / "old.py").write_text(OLD)
    with pytest.raises(AssertionError, match="has no data `phase`"):
        wanted_state(pyinfra(folder, "local", deploy=str(folder / "old.py")), ORDER["local"])


@pytest.mark.fault("s08")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--data", "phase=roels"], "unknown phase 'roels'; there are hosts, cluster, roles, "),
        (["--data", "env_kind=production"], "production is changed by `./inv db.provision`"),
        pytest.param(
            ["--data", "plan=../../x"],
            "no plan '../../x'; there are hospitality, sensor_readings",
            marks=pytest.mark.hours,
        ),
        pytest.param(["--data", "plan=nope"], "no plan 'nope'; there are ", marks=pytest.mark.hours),
        (["--data", "_sudo_password=x"], "would be in the host's process list; let @fake/"),
    ],
)
def test_what_cannot_be_meant_is_said_in_one_line(folder: Path, words: list[str], said: str) -> None:
    """And nothing is done; a plan's name is no path."""
    with pytest.raises(AssertionError) as caught:
        pyinfra(folder, "local", *words)
    assert said in str(caught.value)
    assert "Traceback" not in str(caught.value)
