"""The dashboard is what its code writes, and every line of every panel has series in a real Prometheus."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fleet.dashboard import dashboard_json
from rehearsal.lifecycle.policy import Wish, write_policy
from rehearsal.postgres.connection import connect
from tests.fix_postgres import ROOT
from tests.monitoring.watched import WITHIN_S, Watched, run_sql
from tests.waiting import eventually

KEPT = ROOT / "templates" / "dashboards" / "partitions.json"


def test_the_dashboard_is_as_its_code_writes_it() -> None:
    """Else: `python -m fleet.dashboard > templates/dashboards/partitions.json`."""
    assert KEPT.read_text(encoding="utf-8") == dashboard_json()


@pytest.mark.slow
def test_every_line_of_every_panel_has_series(watched: Watched) -> None:
    """Grafana itself is not asked: its variables are put in as it would do for all databases and tables."""
    run_sql(
        watched.database,
        "create table public.shown (id int generated always as identity, at timestamptz) partition by range (at)",
        "create table public.shown_1 partition of public.shown for values from ('2026-01-01+0') to ('2026-02-01+0')",
        "create table rehearsal.log_forward_public_shown (id bigint)",
    )
    with connect(watched.database) as conn, conn.transaction():
        write_policy(conn, "watched", Wish(("public", "shown"), "1 month", 3, "1 month"))
    document: dict[str, Any] = json.loads(KEPT.read_text(encoding="utf-8"))
    expressions = [target["expr"] for panel in document["panels"] for target in panel["targets"]]
    assert len(expressions) > len(document["panels"]) > 10
    for text in expressions:
        asked = text.replace("$database", ".*").replace("$table", ".*")
        assert "$" not in asked
        eventually(lambda asked=asked: watched.ask(asked), WITHIN_S, pause=0.2)  # type: ignore[misc]
