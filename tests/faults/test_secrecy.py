"""There is one way for contents to come to a host, and that one cannot be seen; tests/hosts/test_secrecy.py looks."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fleet.delivery import RECEIVE, refuse_told
from tests.operations.conftest import ROOT

# What of pyinfra would send contents, or a password, another way: a text of the code, by its kind.
OTHER = {
    ast.alias: r"FileUploadCommand|RsyncCommand|put_file",
    ast.Attribute: r".*\bfiles\.(put|template|block|line|rsync|sync)|.*\.put_file",
    ast.keyword: r"(_env|_sudo_password|_su_password)\b.*",
}


def other_ways(root: Path) -> list[str]:
    """Return each place in the host layer that sends something in a way of its own."""
    found: list[str] = []
    for path in (root / "deploy.py", *sorted((root / "fleet").glob("*.py")), *sorted((root / "tasks").glob("*.py"))):
        nodes = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if type(node) in OTHER]
        texts = ((OTHER[type(node)], ast.unparse(node)) for node in nodes)
        found += [f"{path.name}: {text}" for kind, text in texts if re.fullmatch(kind, text, re.DOTALL)]
    return found


def one_way(root: Path) -> None:
    """Fail if there is another way."""
    assert other_ways(root) == [], "another way for contents"


@pytest.mark.fault("s01")
def test_contents_have_one_way_to_a_host() -> None:
    """Whoever adds an upload finds this test."""
    one_way(ROOT)


@pytest.mark.fault("s01", mutant=True)
@pytest.mark.parametrize(
    "line",
    [
        "from pyinfra.api import FileUploadCommand",
        "files.put(name='x', src=secret, dest='/x')",
        "files.template(name='x', src='x.j2', dest='/x')",
        "server.shell(name='x', commands=['psql'], _env={'PGPASSWORD': secret})",
    ],
)
def test_another_way_is_found(tmp_path: Path, line: str) -> None:
    """One line of a task file is enough."""
    shutil.copytree(ROOT / "tasks", tmp_path / "tasks")
    shutil.copytree(ROOT / "fleet", tmp_path / "fleet")
    shutil.copy(ROOT / "deploy.py", tmp_path)
    with (tmp_path / "tasks" / "app.py").open("a") as file:
        file.write(line + "\n")

    with pytest.raises(AssertionError, match="another way"):
        one_way(tmp_path)


def received(script: str, path: Path, umask: int) -> None:
    """Have a shell of the host take in a secret; fails if somebody who was there before gets it, or others may read."""
    path.write_text("somebody's")
    path.chmod(0o666)
    with path.open() as before:
        done = subprocess.run(
            ["sh", "-c", script, "sh", str(path)],
            input="secret\n",
            text=True,
            check=False,
            preexec_fn=lambda: os.umask(umask) and None,
        )
        assert done.returncode == 0
        assert before.read() == "somebody's", "a file that somebody had open got the secret"
    assert path.read_text() == "secret\n"
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.fault("s01")
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_file_is_private_before_it_has_its_contents(tmp_path: Path, umask: int) -> None:
    """Whatever the umask, and whoever made a file of that name before and holds it open."""
    received(RECEIVE.format("cat"), tmp_path / "file", umask)


@pytest.mark.fault("s01")
def test_a_link_of_somebody_is_replaced_and_not_followed(tmp_path: Path) -> None:
    """The name of the new file can be worked out; the secret must not go where somebody points it."""
    (tmp_path / "link").symlink_to(tmp_path / "theirs")
    subprocess.run(["sh", "-c", RECEIVE.format("cat"), "sh", str(tmp_path / "link")], input=b"secret", check=True)

    assert not (tmp_path / "theirs").exists()
    assert (tmp_path / "link").read_text() == "secret"


@pytest.mark.fault("s01", mutant=True)
def test_a_file_that_is_written_over_is_caught(tmp_path: Path) -> None:
    """As it was: an existing file kept its readers."""
    with pytest.raises(AssertionError, match="somebody had open"):
        received('umask 077; : >"$1" && chmod 600 "$1" && cat >"$1"', tmp_path / "file", 0o022)


@pytest.mark.fault("s01")
@pytest.mark.parametrize("key", ["_sudo_password", "_su_password"])
def test_a_password_that_pyinfra_would_show_is_refused(key: str) -> None:
    """It puts that into an argument of `env` on the host."""
    refuse_told("app1", {"_sudo": True})
    with pytest.raises(Exception, match=f"{key} of app1 would be in the host's process list; .*NOPASSWD"):
        refuse_told("app1", {key: "secret"})
