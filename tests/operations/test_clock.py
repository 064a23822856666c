"""Decisions of the operations that bring timers to a host, and how a timer's state is read."""

from __future__ import annotations

import hashlib

import pytest

from tests.operations.conftest import Answers, Fake

UNIT = "pg-lifecycle-premake@posts.timer"
ON = ["enabled", "active", "present"]


@pytest.mark.parametrize("state", [[], ["disabled", "inactive"], ["enabled", "inactive"], ["enabled", "active"]])
def test_a_timer_that_is_off_or_older_than_its_file_is_started_anew(fake: Fake, state: list[str]) -> None:
    """One that goes by its present file is left alone."""
    assert fake.run("units.timer_on", {"is-active": ON}, unit=UNIT).noop == f"{UNIT} is on"
    words = fake.run("units.timer_on", {"is-active": state}, unit=UNIT).only.words
    assert words == ["systemctl", "enable", "--quiet", UNIT, "&&", "systemctl", "restart", UNIT]


def test_a_timer_is_stopped_once(fake: Fake) -> None:
    """And stays off when the host starts."""
    assert fake.run("units.timer_off", {"is-active": ["disabled", "inactive"]}, unit=UNIT).noop == f"{UNIT} is off"
    words = fake.run("units.timer_off", {"is-active": ["enabled", "inactive"]}, unit=UNIT).only.words
    assert words == ["systemctl", "disable", "--now", "--quiet", UNIT]


def test_a_template_of_units_is_written_once_and_not_enabled(fake: Fake) -> None:
    """Its instances are; systemd knows nothing of a template by itself."""
    values = {"unit": "x@.service", "text": "[Service]\n", "instance": "posts"}
    same: Answers = {
        "sha256sum": [hashlib.sha256(b"[Service]\n").hexdigest(), "644 root root"],
        "NeedDaemonReload": "no",
    }
    assert fake.run("units.unit_template", same, **values).noop == "x@posts.service has these settings"
    ran = fake.run("units.unit_template", {}, **values)
    assert ran.commands[-1].words == ["systemctl", "daemon-reload"]
    assert not any("enable" in command.words for command in ran.commands)


def test_a_job_is_done_by_its_unit(fake: Fake) -> None:
    """Always: it is asked for."""
    assert fake.run("units.job", {}, unit="x@posts.service").only.words[-1] == "x@posts.service"


def test_only_files_that_are_there_are_removed(fake: Fake) -> None:
    """A second run changes nothing."""
    paths = ["/etc/a b", "/etc/c"]
    assert fake.run("operations.gone", {}, paths=paths).noop == "none of them is there"
    assert fake.run("operations.gone", {"test !": "/etc/a b"}, paths=paths).only.words == ["rm", "-f", "--", "/etc/a b"]


def test_a_timer_is_read_as_systemd_says_it(fake: Fake) -> None:
    """A host without systemd says nothing."""
    said = ["enabled=enabled", "active=active", "next=Sun 2026-11-29 00:04:00 UTC", "last=success "]
    values = {"timer": UNIT, "service": "x@posts.service"}
    found = fake.fact("facts.Timer", said, **values)
    assert found == {"enabled": "enabled", "active": "active", "next": "Sun 2026-11-29 00:04:00 UTC", "last": "success"}
    assert fake.fact("facts.Timer", [], **values) == {"enabled": "", "active": "", "next": "", "last": ""}
