"""Hosts on Docker, as far as no Docker is needed: addresses, keys, the image's content, what is said without it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509

from fleet.machines import engine, image, keys
from fleet.machines.layout import Layout, MachineError, read_layout, read_pooler

ROOT = Path(__file__).resolve().parents[3]


def layout(base: Path, **variables: str) -> Layout:
    return read_layout({"REHEARSAL_DOCKER_BASE": str(base), **variables})


def test_every_host_has_an_address_of_its_own_before_it_is_made(tmp_path: Path) -> None:
    found = layout(tmp_path, REHEARSAL_DOCKER_APPS="3", REHEARSAL_DOCKER_SUBNET="10.9.8.0/24")

    assert [(machine.name, machine.address) for machine in found.machines] == [
        ("db", "10.9.8.10"),
        ("app1", "10.9.8.101"),
        ("app2", "10.9.8.102"),
        ("app3", "10.9.8.103"),
        ("monitor", "10.9.8.20"),
    ]
    assert found.control == "10.9.8.1"
    found.save()
    assert layout(tmp_path) == found


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REHEARSAL_DOCKER_APPS", "0"),
        ("REHEARSAL_DOCKER_APPS", "many"),
        ("REHEARSAL_DOCKER_SUBNET", "10.9.8.0/28"),
        ("REHEARSAL_DOCKER_SUBNET", "somewhere"),
        ("REHEARSAL_DOCKER_SUBNET", "fd00::/64"),
    ],
)
def test_a_setting_that_means_nothing_is_named(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(MachineError, match=name):
        layout(tmp_path, **{name: value})


def test_a_pooler_is_of_a_mode_that_there_is_or_there_is_none() -> None:
    variable = "REHEARSAL_DOCKER_POOLER"
    assert [read_pooler({variable: mode}) for mode in ("", "session", "transaction")] == ["", "session", "transaction"]
    assert read_pooler({}) == ""
    with pytest.raises(MachineError, match=r"POOLER is 'statement'; set it to session or transaction, or unset it"):
        read_pooler({variable: "statement"})


def test_keys_are_made_once_and_are_this_users_only(tmp_path: Path) -> None:
    found = layout(tmp_path, REHEARSAL_DOCKER_SUBNET="10.9.8.0/24")

    first, second = keys.make_keys(found), keys.make_keys(found)

    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {f"password of the {role} role" for role in keys.ROLES} < set(first)
    assert second == []
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert len({path.read_text() for path in tmp_path.rglob("*.password")}) == len(keys.ROLES)


def test_the_servers_certificate_follows_its_address_and_is_signed_by_the_same_authority(tmp_path: Path) -> None:
    keys.make_keys(layout(tmp_path, REHEARSAL_DOCKER_SUBNET="10.9.8.0/24"))
    authority = (tmp_path / "tls" / "ca.crt").read_bytes()

    again = keys.make_keys(layout(tmp_path, REHEARSAL_DOCKER_SUBNET="10.9.7.0/24"))

    certificate = x509.load_pem_x509_certificate((tmp_path / "tls" / "server.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert again == ["certificate of the database host"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["10.9.7.10"]
    assert (tmp_path / "tls" / "ca.crt").read_bytes() == authority
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority))


def test_the_images_name_is_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same content twice: the same name; one package more, or another base: another one."""
    folders = [tmp_path / str(number) for number in range(4)]
    for folder in folders:
        folder.mkdir()
    same = {image.write_context(folders[0]), image.write_context(folders[1])}
    monkeypatch.setattr(image, "PACKAGES", (*image.PACKAGES, "pgbouncer"))
    other = image.write_context(folders[2])
    monkeypatch.setenv("REHEARSAL_DOCKER_BASE_IMAGE", "mirror.example.org/debian:12")

    assert len(same) == 1
    assert len({*same, other, image.write_context(folders[3])}) == 3


def test_systemd_gets_the_control_groups_that_the_engine_has() -> None:
    first, second = (engine.run_options({"CgroupVersion": version}) for version in ("1", "2"))

    assert first["volumes"]["/sys/fs/cgroup"]["mode"] == "ro"
    assert (second["volumes"]["/sys/fs/cgroup"]["mode"], second["cgroupns"]) == ("rw", "private")
    assert not any("privileged" in options for options in (first, second))


@pytest.mark.parametrize("verb", ["up", "status", "down", "reset"])
def test_without_a_docker_engine_it_says_what_to_do(tmp_path: Path, verb: str) -> None:
    variables = {"DOCKER_HOST": f"unix://{tmp_path}/none.sock", "REHEARSAL_DOCKER_BASE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "rehearsal", f"hosts-{verb}", "--plan", "hospitality", "--env", "docker"],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "no Docker Engine answers: install it" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("env", ["local"])
def test_hosts_are_made_for_docker_only(env: str) -> None:
    command = [sys.executable, "-m", "rehearsal", "hosts-up", "--plan", "hospitality", "--env", env]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "`./inv db.provision` starts it" in done.stderr


def test_logging_in_before_there_is_a_host_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fleet.machines", "ssh", "app1"],
        cwd=ROOT,
        env={**os.environ, "REHEARSAL_DOCKER_BASE": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "./inv hosts.up" in done.stderr) == (1, True)
