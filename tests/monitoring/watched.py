"""The world of these tests: a real database, its exporter, Prometheus, Alertmanager, and somebody who is told."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psycopg

from fleet.templates import database_url, render
from rehearsal.environment import Database
from rehearsal.postgres.sqlfiles import as_query
from tests.fix_postgres import ROOT
from tests.waiting import eventually

HOSTS = ROOT / "templates" / "hosts"
RULES = HOSTS / "partitions.rules.yml"
QUERIES = HOSTS / "partition_queries.yaml"
PROGRAMS = ("prometheus", "prometheus-alertmanager", "prometheus-postgres-exporter", "promtool", "amtool")
MONITOR = """
do $$ begin
    if not exists (select from pg_roles where rolname = 'monitor') then
        create role monitor login password 'm@n' connection limit 5 in role pg_monitor;
        alter role monitor set default_transaction_read_only = on;
    end if;
end $$
"""
# Long enough for a machine that is busy; each wait ends as soon as it is seen.
WITHIN_S = 90.0


def queries() -> dict[str, str]:
    """Return the exporter's queries by their names."""
    pattern = r"^(\w+):\n(?:  cache_seconds: \d+\n)?  query: \|\n(.*?)^  metrics:"
    found = re.finditer(pattern, QUERIES.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return {match[1]: re.sub("^ {4}", "", match[2], flags=re.MULTILINE) for match in found}


def rule_names() -> list[str]:
    """Return the names of the shipped alerts."""
    return re.findall(r"- alert: (\w+)", RULES.read_text(encoding="utf-8"))


def run_sql(database: Database, *statements: str) -> None:
    """Run statements in a session of its own: what it counted is to be seen when it is over."""
    with psycopg.connect(**database.conninfo(), autocommit=True, application_name="somebody") as conn:
        for text in statements:
            conn.execute(as_query(text))


def free_port() -> int:
    """Return a port of loopback that nobody has just now."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


class Told(ThreadingHTTPServer):
    """Whoever Alertmanager tells: keeps of each alert what was said last."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Told)
        self.alerts: dict[str, dict[str, Any]] = {}

    def said(self, name: str, **labels: str) -> str | None:
        """Return `firing` or `resolved`, as it was said last of an alert with these labels; None if never."""
        fits = [
            alert["status"]
            for alert in list(self.alerts.values())
            if alert["labels"]["alertname"] == name and labels.items() <= alert["labels"].items()
        ]
        return "firing" if "firing" in fits else fits[0] if fits else None


class _Told(BaseHTTPRequestHandler):
    server: Told

    def do_POST(self) -> None:
        """Keep what is said."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for alert in body["alerts"]:
            self.server.alerts[json.dumps(alert["labels"], sort_keys=True)] = alert
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the name that the base class gave it
        """Say nothing."""


@dataclass
class Watched:
    """A database that is watched; `told` is who gets the alerts."""

    database: Database
    folder: Path
    told: Told
    ports: dict[str, int] = field(
        default_factory=lambda: {name: free_port() for name in ("exporter", "prometheus", "alertmanager")}
    )
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict[str, "subprocess.Popen[bytes]"])

    @property
    def monitor(self) -> Database:
        """The database as the role that monitors reaches it."""
        return replace(self.database, user="monitor", password="m@n")

    @property
    def url(self) -> str:
        """Where Prometheus answers."""
        return f"http://127.0.0.1:{self.ports['prometheus']}"

    def start_exporter(self) -> None:
        """Start it with our queries, uncached, on every database but those that others clone."""
        queries = self.folder / "queries.yaml"
        queries.write_text(re.sub("  cache_seconds: .*\n", "", QUERIES.read_text("utf-8")), "utf-8")
        place = self.monitor
        self._start(
            "exporter",
            ["prometheus-postgres-exporter", f"--web.listen-address=127.0.0.1:{self.ports['exporter']}"],
            {
                "DATA_SOURCE_NAME": database_url(
                    place.host, place.port, place.name, place.user, place.password, sslmode="disable"
                ),
                "PG_EXPORTER_EXTEND_QUERY_PATH": str(queries),
            },
        )

    def start_alertmanager(self) -> None:
        """Start it on loopback alone, without a cluster."""
        text = render(
            "hosts/alertmanager.yml.j2", wait="1s", webhook=f"http://127.0.0.1:{self.told.server_address[1]}/"
        )
        path = self.folder / "alertmanager.yml"
        path.write_text(text, "utf-8")
        self._start("alertmanager", [
            "prometheus-alertmanager", f"--config.file={path}", f"--storage.path={self.folder}/alerts",
            f"--web.listen-address=127.0.0.1:{self.ports['alertmanager']}", "--cluster.listen-address=",
        ])  # fmt: skip

    def start_prometheus(self, interval: str = "1s", rules: str | None = None) -> None:
        """Start it with our rules, whose waits alone are shortened, or with these as they are."""
        path, config = self.folder / "rules.yml", self.folder / "prometheus.yml"
        path.write_text(rules or re.sub(r"\bfor: \S+", "for: 1s", RULES.read_text("utf-8")), "utf-8")
        address = "127.0.0.1:{}".format
        values = {name: address(self.ports[name]) for name in ("exporter", "alertmanager")}
        config.write_text(
            render("hosts/prometheus.yml.j2", rules=path, hosts={}, database="db", interval=interval, **values),
            "utf-8",
        )
        subprocess.run(["promtool", "check", "config", config], check=True, capture_output=True)
        self._start("prometheus", [
            "prometheus", f"--config.file={config}", f"--storage.tsdb.path={self.folder}/tsdb",
            f"--web.listen-address={address(self.ports['prometheus'])}",
        ])  # fmt: skip

    def stop(self, name: str) -> None:
        """End one of the programs."""
        process = self.running.pop(name)
        process.terminate()
        process.wait(30)

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """Return the series that an expression has in Prometheus now."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expression}, trust_env=False, timeout=10)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["data"]["result"]
        return found

    def wait_for(self, alert: str, state: str, **labels: str) -> None:
        """Wait until somebody is told that an alert is firing, or resolved."""
        eventually(lambda: self.told.said(alert, **labels), WITHIN_S, that=lambda said: said == state, pause=0.1)

    def _start(self, name: str, command: list[str], env: dict[str, str] | None = None) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                command, env={"PATH": "/usr/bin:/bin", **(env or {})}, stdout=log, stderr=log, cwd=self.folder
            )


@contextmanager
def watching(database: Database, folder: Path) -> Iterator[Watched]:
    """Start everything, wait until Prometheus has seen the database, and end it all."""
    run_sql(database, MONITOR)
    told = Told()
    serving = threading.Thread(target=told.serve_forever, args=(0.05,))
    serving.start()
    world = Watched(database, folder, told)
    try:
        world.start_exporter()
        world.start_alertmanager()
        world.start_prometheus()
        not_yet = (httpx.HTTPError, AssertionError)
        eventually(lambda: world.ask("pg_up == 1 and pg_exporter_last_scrape_error == 0"), WITHIN_S, not_yet=not_yet)
        yield world
    finally:
        for name in list(world.running):
            with suppress(subprocess.TimeoutExpired):
                world.stop(name)
        told.shutdown()
        told.server_close()
        serving.join(10)
