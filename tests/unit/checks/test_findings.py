"""The catalogue of findings: what the code can say is in it, its texts are whole, its pages are current."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from rehearsal.checks.preflight.catalogue import ENTRIES, ENTRY, Entry, Example, Shown, finding
from rehearsal.checks.preflight.explain import explain_finding, render_findings
from rehearsal.commands.explain import explain
from rehearsal.errors import UsageError
from rehearsal.plan.model import Plan
from rehearsal.plan.strategies import STRATEGIES
from rehearsal.verdict.gates import GATES

ROOT = Path(__file__).resolve().parents[3]
PAGES = ROOT / "docs" / "findings"
CHECKS = ROOT / "rehearsal" / "checks" / "preflight"
# What a plan may accept: statements that go on with another meaning.
ACCEPTED = {
    "on-conflict-any",
    "on-conflict-constraint",
    "ctid-write",
    "ctid-read",
    "system-column",
    "copy-to",
    "only",
    "tableoid",
}


# ── what the code can say ────────────────────────────────────────────────────────────────────────────────────────


def said(folder: Path) -> set[str]:
    """Return every id that a module of the checks can say.

    Raises:
        AssertionError: an id is put together in a way that nobody can read.
    """
    return set(chain.from_iterable(_said_by(ast.parse(path.read_text("utf-8"))) for path in folder.glob("*.py")))


def _said_by(module: ast.Module) -> Iterator[str]:
    for call in _calls(module, "finding"):
        found = list(_ids(call.args[0], module))
        assert found, f"line {call.lineno}: {ast.unparse(call)} has an id that cannot be read"
        yield from found


def _calls(module: ast.Module, name: str) -> Iterator[ast.Call]:
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
            yield node


def _ids(node: ast.expr, module: ast.Module) -> Iterator[str]:
    """Yield the ids that an expression can be: a text, one of two, one of a table, that of a `Use`."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=body, orelse=other):
            yield from chain(_ids(body, module), _ids(other, module))
        case ast.Subscript(value=ast.Name(id=name)):
            yield from chain.from_iterable(_ids(entries, module) for entries in _table(name, module))
        case ast.Attribute(value=ast.Name(id="use"), attr="id"):
            yield from chain.from_iterable(_ids(call.args[0], module) for call in _calls(module, "RiskyUse"))
        case _:
            return


def _table(name: str, module: ast.Module) -> Iterator[ast.expr]:
    for node in module.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=found)], value=ast.Dict(values=values)) if found == name:
                yield from values
            case _:
                continue


def test_what_the_code_can_say_is_the_catalogue() -> None:
    """No check says what has no entry, no entry is said by nobody."""
    assert said(CHECKS) == set(ENTRY)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('finding("a", "t")', {"a"}),
        ('finding("a" if x else "b", "t")', {"a", "b"}),
        ('TABLE = {"one": "a", "two": "b"}\nfinding(TABLE[kind], "t")', {"a", "b"}),
        ('USES = (RiskyUse("a", f), RiskyUse("b", g))\nfinding(use.id, "t")', {"a", "b"}),
    ],
)
def test_ids_are_read_out_of_code(tmp_path: Path, text: str, found: set[str]) -> None:
    """The witness of the test above."""
    (tmp_path / "check.py").write_text(text)
    assert said(tmp_path) == found


def test_an_id_that_is_put_together_is_refused(tmp_path: Path) -> None:
    """It could be anything, and nobody would find it by its name."""
    (tmp_path / "check.py").write_text('finding(f"right-{kind}", "t")')
    with pytest.raises(AssertionError, match="cannot be read"):
        said(tmp_path)


def test_nobody_makes_a_finding_by_hand() -> None:
    """A finding has its texts from the catalogue, which is the only one that calls its class."""
    makers = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "rehearsal").rglob("*.py")
        if "catalog.findings import" in path.read_text("utf-8")
        and any(_calls(ast.parse(path.read_text("utf-8")), "Finding"))
    ]
    assert makers == ["rehearsal/checks/preflight/catalogue/__init__.py"]


# ── entries ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_ids_are_unique_slugs() -> None:
    assert len(ENTRY) == len(ENTRIES)
    assert [entry.id for entry in ENTRIES if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", entry.id)] == []


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
def test_an_entry_is_whole(entry: Entry) -> None:
    """Sentences that say something, at least one strategy, an example or what shows it instead."""
    assert len(entry.title) > 15
    assert entry.title[0].isupper()
    assert not entry.title.endswith(".")
    assert entry.strategies
    assert entry.strategies <= STRATEGIES
    for _, says in entry.cases():
        assert says.condition
        assert says.effect
        assert says.remedy
        assert not says.remedy.endswith(".")
    match entry.example:
        case Example() as example:
            assert example.strategy in entry.strategies
            assert all(text.rstrip().endswith(";") for text in (example.bad_sql, example.good_sql))
            Plan.model_validate(example.plan())
            Plan.model_validate(example.plan(is_mended=True))
        case Shown(by=by, why=why):
            assert len(by) > 5
            assert len(why) > 15


def test_only_a_warning_can_be_accepted() -> None:
    """What a plan may accept is a contract: plans name these ids."""
    assert {entry.id for entry in ENTRIES if entry.may_accept} == ACCEPTED
    for name in ACCEPTED:
        assert ENTRY[name].severities == ("warning",)


def test_a_finding_has_the_texts_of_its_case() -> None:
    """The first case that has its own; words fill the braces, and braces in a word stay."""
    plain = finding("unique-without-key", "t", "swap", key="at", index="{odd}")
    attach = finding("unique-without-key", "t", "attach", key="at", index="{odd}")

    assert plain.remedy == 'decide in the plan: uniques = { "{odd}" = "add-key" } or "per-partition"; or drop it'
    assert attach.remedy == "choose swap, or drop it"
    assert plain.condition == attach.condition == "unique, without at"


# ── texts for people ─────────────────────────────────────────────────────────────────────────────────────────────


def test_every_finding_has_a_current_page_and_no_page_is_left_over() -> None:
    """The pages are what the catalogue renders (mutant: change a word in a page)."""
    got = {path.name: path.read_text(encoding="utf-8") for path in PAGES.glob("*.md")}

    assert got == render_findings(), "render them again: python -m rehearsal.commands.explain docs/findings"


def test_the_index_lists_what_a_plan_may_accept() -> None:
    index = render_findings()["README.md"]

    assert set(re.findall(r"^- \[([a-z-]+)\]", index, re.MULTILINE)) == ACCEPTED
    assert set(re.findall(r"^\| \[([a-z0-9-]+)\]", index, re.MULTILINE)) == set(ENTRY)


def test_explain_says_condition_effect_and_remedy() -> None:
    text = " ".join(explain("key-null").split())

    for part in (ENTRY["key-null"].title, "<rows> rows have no key", "they fit no partition", "give them a key"):
        assert part in text


def test_an_id_that_is_a_gate_too_is_explained_as_both() -> None:
    shared = {gate.id for gate in GATES} & set(ENTRY)
    assert shared == {"restore-drill"}
    for name in shared:
        assert explain_finding(name) in explain(name)
        assert "Playbook:" in explain(name)


@pytest.mark.parametrize(
    ("name", "said"), [("key-nul", "no finding 'key-nul'; did you mean 'key-null'"), ("leger", "no gate 'leger'")]
)
def test_an_unknown_id_names_the_nearest(name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        explain(name)
