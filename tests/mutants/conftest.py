"""The worlds of the session."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.cluster import Cluster
from rehearsal.environment import Database
from tests.mutants.worlds import Worlds


@pytest.fixture(scope="session")
def worlds(server: Database, cluster: Cluster, template: str, tmp_path_factory: pytest.TempPathFactory) -> Worlds:
    """Worlds to put defects into."""
    return Worlds(server, Path(cluster.facts()["bin"]), tmp_path_factory.mktemp("mutants"), template)
