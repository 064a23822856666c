"""Decisions on rights that a server does not give: asked for, given, or nothing to do."""

from __future__ import annotations

from typing import Any

import pytest

from tests.operations.conftest import SESSION, Fake

NAMES = {"migrator": "rehearsal", "app": "it's", "tables": '["public.t"]'}
GRANT, OWNER = "right\x1fgrant a to b;\x1fowns t", "owner\x1falter table t owner to b;\x1fnobody"
WANTED, SEEN = "wanted\x1fcreate extension x;\x1funseen", "seen\x1f\x1f"
VALUES: dict[str, Any] = {"session": SESSION, "names": NAMES}


@pytest.mark.parametrize("rows", [[], [GRANT], ["nonsense"], [GRANT, "seen"]])
def test_what_was_not_looked_at_to_the_end_is_not_known(fake: Fake, rows: list[str]) -> None:
    """Silence is never a server that gives everything."""
    assert fake.fact("facts.Missing", rows, session=SESSION, query="select 1", names=NAMES) == []
    ran = fake.run("rights.asked", {"json_array": rows}, **VALUES)
    assert (ran.only.text, ran.only.words[-2:]) == ("select 1;", ["-f", "-"])
    assert fake.run("rights.asked", {"json_array": rows}, **VALUES, must_see=False).noop


def test_what_is_missing_is_refused_with_its_statements(fake: Fake) -> None:
    """Each on a line of its own, to be copied; what is only wanted is no reason."""
    refused = fake.run("rights.asked", {"json_array": [GRANT, OWNER, WANTED, SEEN]}, **VALUES).refusal
    left = fake.run("rights.asked", {"json_array": [GRANT, WANTED, SEEN]}, **VALUES, kinds=["owner"])
    fine = fake.run("rights.asked", {"json_array": [WANTED, SEEN]}, **VALUES)

    assert refused.splitlines()[1:] == ["grant a to b;", "alter table t owner to b;"]
    assert "rehearsal lacks 2 rights on the database finance; nothing was written there" in refused
    assert left.noop == fine.noop == "rehearsal can do what it must"
    assert "-v 'app=it'" in fine.lines[0]


def test_a_superuser_gives_rights_and_leaves_decisions(fake: Fake) -> None:
    """All in one transaction; nothing where nothing is missing."""
    given = fake.run("rights.given", {"json_array": [GRANT, OWNER, WANTED, SEEN]}, **VALUES)
    fine = fake.run("rights.given", {"json_array": [OWNER, SEEN]}, **VALUES)

    assert given.only.text == "begin;\ngrant a to b;\ncommit;\n"
    assert fine.noop == "rehearsal has these rights"
