"""Password references and verifiers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from fleet.passwords import PasswordError, is_verifier_of, resolve, scram_verifier


def test_each_kind_of_reference_is_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file's last line end is not part of the password."""
    (tmp_path / "secret").write_text("in a file \n")
    monkeypatch.setenv("A_SECRET", "in the environment")

    assert resolve({"file": str(tmp_path / "secret")}) == "in a file "
    assert resolve({"env": "A_SECRET"}) == "in the environment"
    assert resolve({"command": [sys.executable, "-c", "print('of a command')"]}) == "of a command"


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("hunter2", "by reference.*not by str"),
        ({"password": "hunter2"}, r"by reference.*not by \['password'\]"),
        ({"file": "/nowhere/secret"}, "cannot read the password file /nowhere/secret: No such file"),
        ({"env": "NOT_SET_AT_ALL"}, "NOT_SET_AT_ALL with a password is not set"),
        ({"command": ["/nowhere/pass"]}, "/nowhere/pass, does not run"),
        ({"command": [sys.executable, "-c", "import sys; sys.exit('locked')"]}, "exited with status 1: locked"),
        ({"command": [sys.executable, "-c", ""]}, "is empty"),
        ({"command": [sys.executable, "-c", "print('a\\nb')"]}, "more than one line"),
    ],
)
def test_what_cannot_be_resolved_is_named_without_a_password(reference: Any, message: str) -> None:
    """A literal password in an inventory is refused and does not come back in the message."""
    with pytest.raises(PasswordError, match=message) as caught:
        resolve(reference)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("stored", ["", "md5abc", "SCRAM-SHA-256$x:y$z", scram_verifier("other")])
def test_another_verifier_is_not_that_of_the_password(stored: str) -> None:
    """So the role gets the password."""
    assert not is_verifier_of(stored, "pencil")
    assert is_verifier_of(scram_verifier("pencil"), "pencil")
