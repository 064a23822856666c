"""Decisions about the pooler; what pgbouncer does on a host is in `tests/hosts/test_pooler.py`."""

from __future__ import annotations

from tests.operations.conftest import Fake


def test_a_pooler_of_somebody_else_is_refused_and_any_other_is_ours(fake: Fake) -> None:
    """The refusal says what to do; nothing else is run."""
    foreign = fake.run("pooler.unclaimed", {"dpkg-query": "foreign"})
    ours = fake.run("pooler.unclaimed", {"dpkg-query": ""})

    assert "was written by somebody else and is left alone" in foreign.refusal
    assert ours.noop == "/etc/pgbouncer/pgbouncer.ini is ours to write"


def test_a_pooler_is_enabled_once(fake: Fake) -> None:
    """What is enabled at run time only does not start with the host."""
    assert fake.run("pooler.enabled", {"is-enabled": "enabled"}).noop == "pgbouncer.service starts with the host"
    for said in ("disabled", "enabled-runtime", ""):
        ran = fake.run("pooler.enabled", {"is-enabled": said})
        assert ran.only.words == ["systemctl", "enable", "--quiet", "pgbouncer.service"]


def test_a_pooler_is_taken_out_of_use_with_its_settings_last(fake: Fake) -> None:
    """A run that is killed before the end finds the settings, and does the rest."""
    assert fake.run("pooler.out_of_use", {"echo ours": ""}).noop == "no pooler of ours"
    commands = fake.run("pooler.out_of_use", {"echo ours": "ours"}).commands

    assert commands[0].words[:3] == ["systemctl", "disable", "--now"]
    assert {"/etc/pgbouncer/userlist.txt", "/etc/pgbouncer/server-ca.crt"} <= set(commands[1].words)
    assert commands[-1].words == ["rm", "-f", "/etc/pgbouncer/pgbouncer.ini"]
