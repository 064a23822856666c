"""The rules by promtool: each fires for what is bad and for nothing else, and a rule that is altered is found."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from fleet.templates import render
from rehearsal.application.rules import SHIPPED
from tests.fix_postgres import ROOT
from tests.monitoring.watched import HOSTS, RULES, rule_names

TESTS = ROOT / "tests" / "monitoring" / "partitions.test.yml"
pytestmark = pytest.mark.usefixtures("programs")


def tool(program: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a program of Prometheus."""
    return subprocess.run([program, *words], capture_output=True, text=True, check=False)


def test_the_rules_are_valid_and_behave() -> None:
    assert (done := tool("promtool", "check", "rules", RULES)).returncode == 0, done.stderr
    assert (done := tool("promtool", "test", "rules", TESTS)).returncode == 0, done.stderr


def test_every_alert_is_tried_and_says_what_to_do() -> None:
    """Completeness: each has a block of series, a summary, a remedy, and how urgent it is."""
    assert set(rule_names()) == set(re.findall(r"- name: (\w+)", TESTS.read_text(encoding="utf-8")))
    for block in RULES.read_text(encoding="utf-8").split("- alert: ")[1:]:
        assert all(f"{word}:" in block for word in ("summary", "remedy", "severity")), block


def test_the_gate_knows_the_rules_as_they_are_shipped() -> None:
    """What it compares with is the file, word by word."""
    units = {"s": 1, "m": 60, "h": 3600}
    found = {
        match[1]: ("".join(match[2].removeprefix(">-").split()), int(match[3]) * units[match[4]])
        for match in re.finditer(
            r"- alert: (\w+)\n(?: +#.*\n)* +expr: ((?:.*\n)+?) +for: (\d+)(\w)", RULES.read_text(encoding="utf-8")
        )
    }
    assert found == {name: ("".join(query.split()), wait) for name, (query, wait) in SHIPPED.items()}


@pytest.mark.parametrize("name", rule_names())
def test_a_rule_that_never_fires_is_found(tmp_path: Path, name: str) -> None:
    """The mutant: the tests are not content with a rule that says nothing."""
    text = RULES.read_text(encoding="utf-8")
    head, rest = text.split(f"- alert: {name}\n")
    dead = re.sub(r"expr: (>-\n(?: {10}.*\n)+|.*\n)", "expr: vector(1) < 0\n", rest, count=1)
    (tmp_path / "rules.yml").write_text(f"{head}- alert: {name}\n{dead}", encoding="utf-8")
    tests = TESTS.read_text(encoding="utf-8").replace("../../templates/hosts/partitions.rules.yml", "rules.yml")
    (tmp_path / "test.yml").write_text(tests, encoding="utf-8")
    assert tool("promtool", "check", "rules", tmp_path / "rules.yml").returncode == 0
    assert tool("promtool", "test", "rules", tmp_path / "test.yml").returncode != 0


@pytest.mark.parametrize("webhook", ["", 'http://127.0.0.1:9/?a="b"'])
def test_the_configurations_are_valid(tmp_path: Path, webhook: str) -> None:
    """With hosts and without, with somebody who is told and without."""
    (tmp_path / "alertmanager.yml").write_text(
        render("hosts/alertmanager.yml.j2", wait="30s", webhook=webhook), "utf-8"
    )
    assert (done := tool("amtool", "check-config", tmp_path / "alertmanager.yml")).returncode == 0, done.stderr
    for hosts in ({}, {"db": "10.0.0.1", "app1": "10.0.0.2"}):
        values = {"exporter": "127.0.0.1:9187", "alertmanager": "127.0.0.1:9093", "database": "db", "interval": "15s"}
        path = tmp_path / "prometheus.yml"
        path.write_text(render("hosts/prometheus.yml.j2", rules=HOSTS / RULES.name, hosts=hosts, **values), "utf-8")
        assert (done := tool("promtool", "check", "config", path)).returncode == 0, done.stderr
