"""A place for the real command: folder and ports that nobody else has."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.cluster import free_port
from tests.local.conftest import _two_free_ports
from tests.resilience.commands import ROOT, Place


@pytest.fixture
def place() -> Iterator[Place]:
    """An environment that does not exist yet; stopped and removed afterwards."""
    base = Path(tempfile.mkdtemp(prefix="pgr-command-"))
    base.chmod(0o711)
    ports = {"REHEARSAL_LOCAL_DB_PORT": str(free_port()), "REHEARSAL_LOCAL_APP_PORT": str(_two_free_ports())}
    yield Place(base, {"REHEARSAL_LOCAL_BASE": str(base), "REHEARSAL_RUNS": str(base / "runs"), **ports})
    subprocess.run([sys.executable, "-m", "fleet.local", "stop", "--base", str(base)], cwd=ROOT, check=True)
    shutil.rmtree(base, ignore_errors=True)
