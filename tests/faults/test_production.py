"""Which verbs change production, and what lets them: one door, one table of verbs, and nobody is locked in."""

from __future__ import annotations

import argparse
import shutil

import pytest

from rehearsal import cli
from rehearsal.approval import production as door
from rehearsal.approval.acts import ACTS, Consent
from rehearsal.approval.approvals import Approval, store_approval
from rehearsal.postgres.sqlfiles import SqlFiles
from tests.fix_production import Production
from tests.fix_verbs import ROOT

OLD = "0" * 64
# Every verb of the command line that names an environment, as it is called; some twice, since options decide.
CALLS: list[tuple[str, Consent, tuple[str, ...]]] = [
    ("verify", Consent.READS, ()),
    ("status", Consent.READS, ()),
    ("doctor", Consent.READS, ()),
    ("flags-show", Consent.READS, ()),
    ("plan-new", Consent.READS, ("--table", "public.t", "--name", "another")),
    ("rehearse", Consent.READS, ("--dry-run",)),
    ("provision", Consent.READS, ("--dry-run",)),
    ("migrate", Consent.READS, ("--dry-run",)),
    ("switchover", Consent.READS, ("--dry-run",)),
    ("rehearse", Consent.NEVER, ()),
    ("data", Consent.NEVER, ()),
    ("hosts-up", Consent.NEVER, ()),
    ("hosts-status", Consent.NEVER, ()),
    ("hosts-reset", Consent.NEVER, ()),
    ("hosts-down", Consent.NEVER, ()),
    ("hosts-ssh", Consent.NEVER, ()),
    ("provision", Consent.PREPARES, ()),
    ("migrate", Consent.CHANGES, ()),
    ("switchover", Consent.CHANGES, ()),
    ("doctor", Consent.FOLLOWS, ("--fix",)),
    ("load", Consent.CHANGES, ("--seconds", "0.1")),
    ("flags-set", Consent.CHANGES, ("--reads", "on", "--writes", "on")),
    ("flags-set", Consent.CHANGES, ("--reads", "off", "--writes", "on")),
    ("flags-set", Consent.FOLLOWS, ("--reads", "off", "--writes", "off")),
    ("pause", Consent.ALWAYS, ()),
    ("resume", Consent.ALWAYS, ()),
    ("lifecycle-adopt", Consent.CHANGES, ()),
    ("lifecycle-status", Consent.READS, ()),
    ("lifecycle-premake", Consent.BY_POLICY, ()),
    ("lifecycle-premake", Consent.READS, ("--dry-run",)),
    ("lifecycle-retain", Consent.BY_POLICY, ()),
    ("lifecycle-retain", Consent.READS, ("--dry-run",)),
    ("lifecycle-install", Consent.CHANGES, ()),
    ("lifecycle-install", Consent.ALWAYS, ("--remove",)),
    ("lifecycle-install", Consent.READS, ("--dry-run",)),
    ("lifecycle-archive", Consent.BY_POLICY, ("--check",)),
    ("lifecycle-archive", Consent.READS, ("--dry-run",)),
    ("lifecycle-restore", Consent.BY_POLICY, ("--from", "nowhere.json")),
    ("split", Consent.FOLLOWS, ()),
    ("cleanup", Consent.FOLLOWS, ()),
    ("rollback", Consent.FOLLOWS, ()),
]
FREE = {Consent.READS, Consent.ALWAYS, Consent.BY_POLICY}
# To look is free without any GO, so with one as well: seconds each, and asked once.
ASK_HOSTS = ("provision", "flags-show", "plan-new")
OPENS = {
    "none": FREE,
    "local": FREE,
    "old": FREE,
    "stored": FREE | {Consent.FOLLOWS},
    "right": FREE | {Consent.FOLLOWS, Consent.CHANGES, Consent.PREPARES},
}
REFUSAL = "stands for production"


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each verb."""
    actions = cli.make_parser()._actions
    choices = next(action for action in actions if isinstance(action, argparse._SubParsersAction)).choices
    return {str(name): parser for name, parser in choices.items()}


def prepare(production: Production, go: str) -> None:
    """Bring about what there is to be found: no GO, one that does not fit, a stored one, or the right one."""
    if go == "local":
        production.go(kind="local")
    if go == "old":
        production.go(fingerprint=OLD)
    if go == "right":
        production.go()
    if go == "stored":
        approval = Approval(OLD, "20260101T000000Z-staging-managed", OLD, "staging", "GO", "K. Sato", "2026-01-01")
        with production.world.session() as conn:
            store_approval(conn, SqlFiles(ROOT / "sql"), approval, plan="managed", verb="switchover", run="then")


def all_verbs(production: Production, go: str, only: str = "") -> None:
    """Call every verb: those that may run are let in, the others are refused and leave nothing."""
    prepare(production, go)
    for name, act, words in CALLS:
        if only not in ("", name) or (act is Consent.READS and name in ASK_HOSTS and go != "none"):
            continue
        before, spoken = production.traces(), f"{name} {' '.join(words)} with GO {go}"
        said = production.call(name, *words)
        if act in OPENS[go]:
            assert REFUSAL not in said.text, f"{spoken} was refused: {said.text}"
            assert "never runs against" not in said.text, spoken
        else:
            assert said.code == (2 if act is Consent.NEVER else 1), f"{spoken} ended with {said.code}: {said.text}"
            assert act is Consent.NEVER or REFUSAL in said.text, f"{spoken} was not refused: {said.text}"
        if act not in OPENS[go] or act is Consent.READS:
            assert production.traces() == before, f"{spoken} left something"


@pytest.mark.fault("s02")
@pytest.mark.parametrize("go", list(OPENS))
def test_every_verb_that_changes_production_demands_a_go(production: Production, go: str) -> None:
    """Verbs times what there is to be found; the refused leave no trace in the database."""
    all_verbs(production, go)


@pytest.mark.fault("s02", mutant=True)
@pytest.mark.parametrize("verb", ["flags-set", "cleanup", "provision", "load", "split"])
def test_mutant_a_verb_that_nobody_asks(production: Production, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    monkeypatch.setitem(ACTS, verb, Consent.READS)

    with pytest.raises(AssertionError, match=f"{verb}.*(was not refused|ended with)"):
        all_verbs(production, "none", only=verb)


@pytest.mark.fault("s02", mutant=True)
def test_mutant_a_door_that_is_never_asked(production: Production, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rehearsal.commands.session.admit", lambda _context, _asked: None)

    with pytest.raises(AssertionError, match=r"was not refused|ended with"):
        all_verbs(production, "none", only="rollback")


@pytest.mark.fault("s02")
def test_every_verb_has_a_class_and_every_class_is_right_about_the_environment() -> None:
    """A verb without a class does not start; one that names an environment is not harmless, and is in the matrix."""
    found = parsers()
    named = {name for name, parser in found.items() if "--env" in parser.format_help()}

    assert set(found) == set(ACTS)
    assert named == {name for name, act in ACTS.items() if act is not Consent.HARMLESS}
    assert named == {name for name, _, _ in CALLS}


@pytest.mark.fault("s02", mutant=True)
def test_mutant_a_new_verb_without_a_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(ACTS, "cleanup")

    with pytest.raises(KeyError, match="cleanup"):
        parsers()


UNTYPED: list[tuple[tuple[str, ...], str | None, str]] = [
    (("--yes",), "managed", "--yes does not do here"),
    ((), None, "typed by a person on a terminal"),
    ((), "manager", "not confirmed"),
    ((), "", "not confirmed"),
    ((), "yes", "not confirmed"),
]


@pytest.mark.fault("s02")
def test_production_wants_the_name_typed(production: Production) -> None:
    """With the right GO: from a script, without a terminal, and with another word, nothing is changed."""
    production.go()
    before = production.traces()
    for words, typed, match in UNTYPED:
        for verb in ("migrate", "rollback", "cleanup"):
            said = production.call(verb, *words, typed=typed)
            assert (said.code, match in said.text) == (2, True), said.text
    assert production.traces() == before


def switched(production: Production) -> str:
    """Migrate and switch over with the right GO; return the name of its rehearsal."""
    name = production.go().name
    for verb in ("migrate", "switchover"):
        said = production.call(verb)
        assert said.code == 0, said.text
    assert production.approvals() == [(verb, name, None, None) for verb in ("migrate", "switchover")]
    return name


def upgrade(production: Production) -> None:
    """Edit the plan after the switchover, and lose every report."""
    production.world.write_plan("swap", "premake = 4\n[copy]\nworkers = 1")
    path = production.world.root / "plans" / "managed.toml"
    path.write_text("stable_days = 0\n" + path.read_text())
    production.forget_runs()


def the_rollback_is_open(production: Production) -> None:
    """After a switchover, with an edited plan and no report: forward is closed, the way back is open."""
    name = switched(production)
    upgrade(production)

    forward = production.call("switchover")
    assert REFUSAL in forward.text, forward.text
    back = production.call("rollback")

    assert back.code == 0, f"locked in: {back.text}"
    verb, rehearsal, warning, emergency = production.approvals()[-1]
    assert (verb, rehearsal, emergency) == ("rollback", name, None)
    assert "was not rehearsed with them" in str(warning)
    assert "warning" in back.text
    assert production.world.rows("select state from rehearsal.migration") == [("following",)]
    assert production.world.rows("select count(*) from public.t") == [(3_000,)]


@pytest.mark.fault("s02")
def test_the_go_of_a_switchover_opens_its_way_back_after_everything_changed(production: Production) -> None:
    the_rollback_is_open(production)


@pytest.mark.fault("s02", mutant=True)
def test_mutant_a_go_that_is_not_stored(production: Production, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "read_stored", lambda _context: None)

    with pytest.raises(AssertionError, match="locked in"):
        the_rollback_is_open(production)


@pytest.mark.hours
@pytest.mark.fault("s02")
def test_the_go_of_a_switchover_opens_its_clean_up_weeks_later(production: Production) -> None:
    """Same fingerprint: no warning, however old the report is meanwhile; another: the clean-up says so."""
    switched(production)
    production.forget_runs()
    early = production.call("cleanup")
    assert "may be dropped from" in early.text, early.text
    assert production.call("cleanup", typed="no").code == 2
    production.world.write_plan("swap")
    path = production.world.root / "plans" / "managed.toml"
    path.write_text("stable_days = 0\n" + path.read_text())

    said = production.call("cleanup")

    assert said.code == 0, said.text
    warnings = [(verb, bool(warning)) for verb, _, warning, _ in production.approvals()]
    assert warnings[2:] == [("cleanup", False), ("cleanup", True)]
    assert production.world.rows("select to_regclass('public.t_old')") == [(None,)]


@pytest.mark.hours
@pytest.mark.fault("s02")
def test_what_follows_a_change_lengthens_no_approval(production: Production) -> None:
    """A rollback that was let in opens no new switchover, with the old fingerprint or another."""
    switched(production)
    assert production.call("rollback").code == 0
    production.forget_runs()

    for verb in ("switchover", "migrate", "doctor"):
        said = production.call(verb, *(["--fix"] if verb == "doctor" else []))
        assert REFUSAL in said.text, said.text


def an_emergency_works_from_a_script(production: Production) -> None:
    """No report, no stored approval, no terminal: back it goes, and who and why are kept."""
    switched(production)
    production.forget_runs()
    production.world.run("delete from rehearsal.approval")
    refused = production.call("rollback")
    assert "--emergency REASON" in refused.text, refused.text

    said = production.call("rollback", "--emergency", "orders  are lost", "--yes", typed=None)

    assert said.code == 0, f"locked in: {said.text}"
    kept = production.world.rows("select emergency, opened_by <> '', role <> '', opened_at <= now(), run "
                                 "from rehearsal.approval")  # fmt: skip
    assert kept[0][:4] == ("orders are lost", True, True, True)
    assert "emergency: orders are lost" in (production.runs / str(kept[0][4]) / "events.jsonl").read_text()
    assert production.world.rows("select state from rehearsal.migration") == [("following",)]


@pytest.mark.fault("s02")
def test_an_emergency_needs_no_go_and_is_recorded(production: Production) -> None:
    an_emergency_works_from_a_script(production)


@pytest.mark.fault("s02", mutant=True)
def test_mutant_an_emergency_that_asks_for_a_go(production: Production, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "declare", lambda _context, _reason: None)

    with pytest.raises(AssertionError, match="locked in"):
        an_emergency_works_from_a_script(production)


UNSAID: list[tuple[tuple[str, ...], str | None, str]] = [
    (("--emergency", ""), "managed", "an emergency has a reason"),
    (("--emergency", "  \t", "--yes"), None, "an emergency has a reason"),
    (("--emergency", "why"), None, "may be run with --yes"),
    (("--emergency", "why"), "other", "not confirmed"),
]


@pytest.mark.fault("s02")
def test_an_emergency_has_a_reason_and_a_confirmation(production: Production) -> None:
    before = production.traces()

    for words, typed, match in UNSAID:
        said = production.call("rollback", *words, typed=typed)
        assert (said.code, match in said.text) == (2, True), said.text
    assert production.traces() == before


@pytest.mark.hours
@pytest.mark.fault("s02")
def test_a_registry_of_an_earlier_version_gets_the_table(production: Production) -> None:
    """Existing databases have no `rehearsal.approval`; the first verb that is let in makes it, twice is once."""
    production.world.run("drop table rehearsal.approval")
    production.go()

    for verb in ("migrate", "migrate"):
        said = production.call(verb)
        assert said.code == 0, said.text

    assert [verb for verb, _, _, _ in production.approvals()] == ["migrate", "migrate"]


@pytest.mark.hours
@pytest.mark.fault("s02")
def test_staging_is_asked_as_before_and_keeps_an_emergency(production: Production) -> None:
    """No GO on staging; the reason of an emergency is kept there too."""
    world = production.world
    inventory = world.root / "inventories" / "managed.py"
    inventory.write_text(inventory.read_text().replace("'env_kind': 'production'", "'env_kind': 'staging'"))
    world.run("update rehearsal.environment_mark set kind = 'staging'")

    for verb in ("migrate", "switchover", "rollback"):
        world.done(verb)
    assert production.approvals() == []
    world.done("rollback", "--emergency", "a drill")

    assert production.approvals() == [("rollback", None, None, "a drill")]


@pytest.mark.fault("s02")
def test_an_inventory_that_calls_production_staging_opens_nothing(production: Production) -> None:
    """The mark of the database stands against it, in every verb, an emergency too."""
    inventory = production.world.root / "inventories" / "managed.py"
    inventory.write_text(inventory.read_text().replace("'env_kind': 'production'", "'env_kind': 'staging'"))
    before = production.traces()

    for words in (
        ["migrate"],
        ["rollback", "--emergency", "why"],
        ["pause"],
        ["flags-set", "--reads=off", "--writes=off"],
    ):
        said = production.call(*words, "--yes")
        assert (said.code, "is marked 'production'" in said.text) == (1, True), said.text
    assert production.traces() == before


def edited_after_the_rehearsal(production: Production) -> None:
    """The right GO, then an edit of the tool's own code: it is another tool now."""
    tool = production.world.root.parent / "tool"
    for name in ("rehearsal", "fleet", "tasks", "templates"):
        shutil.copytree(ROOT / name, tool / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("deploy.py", "requirements.lock"):
        shutil.copy(ROOT / name, tool / name)
    production.monkeypatch.setattr("rehearsal.approval.fingerprint.PROJECT", tool)
    production.go()
    path = tool / "rehearsal" / "switchover" / "strategies" / "swap" / "exchange.py"
    text = path.read_text()
    assert "Mode.ACCESS_EXCLUSIVE" in text
    path.write_text(text.replace("Mode.ACCESS_EXCLUSIVE", "Mode.SHARE"))

    said = production.call("migrate")

    assert REFUSAL in said.text, f"an edited tool runs in production: {said.text}"
    assert "another is the code of the tool" in said.text, said.text


@pytest.mark.fault("v07")
def test_the_tool_edited_after_the_rehearsal_is_another_one(production: Production) -> None:
    edited_after_the_rehearsal(production)


@pytest.mark.fault("v07", mutant=True)
def test_mutant_a_fingerprint_without_code(production: Production, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rehearsal.approval.fingerprint.CODE", ())

    with pytest.raises(AssertionError, match="an edited tool runs in production"):
        edited_after_the_rehearsal(production)
