"""The world of these tests itself: a whole switchover and its rollback by single verbs, as a role that only owns."""

from __future__ import annotations

from tests.fix_verbs import Managed


def test_swap_and_back_by_single_verbs(managed: Managed) -> None:
    """Provision, migrate, switch, verify, roll back; the rows are there all the time."""
    managed.setup(rows=500)

    for verb in ("provision", "migrate", "switchover", "verify", "rollback"):
        managed.done(verb)
        assert managed.rows("select count(*) from public.t") == [(500,)], verb
