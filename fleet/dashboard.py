"""The dashboard of partitions as code: what Grafana imports is written from here, never by hand.

python -m fleet.dashboard > templates/dashboards/partitions.json
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

from grafana_foundation_sdk.builders.common import VizLegendOptions, VizTooltipOptions
from grafana_foundation_sdk.builders.dashboard import Dashboard, DatasourceVariable, QueryVariable
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.timeseries import Panel
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DataSourceRef

SOURCE = DataSourceRef(type_val="prometheus", uid="${source}")
# Chosen by whoever looks; `.*` is all.
CHOSEN = 'datname=~"$database",parent=~"$table"'


@dataclass(frozen=True, slots=True)
class Figure:
    """One panel: its title, unit, what it says, and expressions by their legends."""

    title: str
    unit: str
    said: str
    lines: dict[str, str]


FIGURES = (
    Figure("Alerts", "none", "Alerts that are firing", {"{{alertname}} {{parent}}": 'ALERTS{alertstate="firing"}'}),
    Figure(
        "Runway",
        "d",
        "Days from now for which there is a partition",
        {"{{parent}}": f"pg_rehearsal_partitions_runway_days{{{CHOSEN}}}"},
    ),
    Figure(
        "Partitions ahead",
        "none",
        "Partitions that are ready, and those that the policy wants",
        {
            "{{parent}}": f"pg_rehearsal_lifecycle_ahead{{{CHOSEN}}}",
            "{{parent}} wanted": f"pg_rehearsal_lifecycle_wanted{{{CHOSEN}}}",
        },
    ),
    Figure(
        "Rows in DEFAULT partitions",
        "none",
        "Rows for which there was no partition",
        {"{{parent}}": f"pg_rehearsal_partitions_default_rows{{{CHOSEN}}}"},
    ),
    Figure(
        "Retention lag",
        "d",
        "Days by which the oldest partition is past its retention, or its hold",
        {"{{parent}}": f"pg_rehearsal_lifecycle_lag_days{{{CHOSEN}}}"},
    ),
    Figure(
        "Since the jobs last ended well",
        "s",
        "A run that has nothing to do counts",
        {
            "premake {{parent}}": f"pg_rehearsal_lifecycle_premake_age_s{{{CHOSEN}}}",
            "retain {{parent}}": f"pg_rehearsal_lifecycle_retain_age_s{{{CHOSEN}}}",
        },
    ),
    Figure(
        "Bytes",
        "bytes",
        "With indexes and TOAST, and of TOAST alone, by the last vacuum or analyze",
        {
            "{{parent}}": f"pg_rehearsal_partitions_bytes{{{CHOSEN}}}",
            "{{parent}} TOAST": f"pg_rehearsal_partitions_toast_bytes{{{CHOSEN}}}",
            "{{parent}} DEFAULT": f"pg_rehearsal_partitions_default_bytes{{{CHOSEN}}}",
        },
    ),
    Figure(
        "Rows",
        "none",
        "As the last vacuum or analyze estimated",
        {"{{parent}}": f"pg_rehearsal_partitions_rows{{{CHOSEN}}}"},
    ),
    Figure(
        "Partitions",
        "none",
        "Attached, detached and kept, and with a DETACH that is not finished",
        {
            "{{parent}}": f"pg_rehearsal_partitions_leaves{{{CHOSEN}}}",
            "{{parent}} held": f"pg_rehearsal_lifecycle_held{{{CHOSEN}}}",
            "{{parent}} pending": f"pg_rehearsal_partitions_pending_detach{{{CHOSEN}}}",
        },
    ),
    Figure(
        "Sequences",
        "percent",
        "How far they are used up",
        {"{{sequence}}": f"pg_rehearsal_sequences_used_percent{{{CHOSEN}}}"},
    ),
    Figure(
        "Change logs",
        "none",
        "Keys that a switchover has not replayed",
        {"{{log}}": 'pg_rehearsal_change_log_rows{datname=~"$database"}'},
    ),
    Figure(
        "Waits for locks",
        "s",
        "The longest wait",
        {"{{datname}}": 'pg_rehearsal_waits_longest_s{datname=~"$database"}'},
    ),
    Figure("Targets", "none", "1 where Prometheus gets an answer", {"{{job}} {{instance}}": "up"}),
)


def panels() -> Iterator[Panel]:
    """Yield a panel for each figure."""
    for figure in FIGURES:
        panel = Panel().title(figure.title).description(figure.said).unit(figure.unit).datasource(SOURCE)
        panel.legend(VizLegendOptions().show_legend(True)).tooltip(VizTooltipOptions())
        for number, (legend, expression) in enumerate(figure.lines.items()):
            query = Dataquery().expr(expression).legend_format(legend).ref_id("ABC"[number]).datasource(SOURCE)
            panel.with_target(query)
        yield panel.span(8).height(8).min(0)


def dashboard_json() -> str:
    """Return the dashboard as Grafana imports it."""
    made = (
        Dashboard("Partitions")
        .uid("pg-rehearsal-partitions")
        .tags(["postgresql", "pg-rehearsal"])
        .description("Written by python -m fleet.dashboard; edit that instead")
        .readonly()
        .time("now-24h", "now")
        .refresh("1m")
        .timezone("browser")
        .with_variable(DatasourceVariable("source").label("Source").type("prometheus"))
    )
    for name, label in (("database", "datname"), ("table", "parent")):
        query = f"label_values(pg_rehearsal_partitions_leaves, {label})"
        variable = QueryVariable(name).label(name.capitalize()).query(query).datasource(SOURCE)
        made.with_variable(variable.include_all(True).all_value(".*").multi(True))
    for panel in panels():
        made.with_panel(panel)
    return JSONEncoder(sort_keys=True, indent=2).encode(made.build()) + "\n"


if __name__ == "__main__":
    sys.stdout.write(dashboard_json())
