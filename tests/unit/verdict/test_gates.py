"""The gate catalogue, its texts and its pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rehearsal.errors import UsageError
from rehearsal.plan.strategies import STRATEGIES
from rehearsal.verdict.decide import DECLARED
from rehearsal.verdict.explain import explain_gate, find_gate, list_gates, render_gates
from rehearsal.verdict.gate import KINDS
from rehearsal.verdict.gates import GATES

PAGES = Path(__file__).resolve().parents[3] / "docs" / "gates"


def test_ids_are_unique_slugs_and_sentences_are_whole() -> None:
    """No gate shadows another, and every field says something."""
    assert len({gate.id for gate in GATES}) == len(GATES)
    for gate in GATES:
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", gate.id)
        assert gate.steps
        assert gate.kinds <= KINDS
        assert gate.strategies <= STRATEGIES
        assert not gate.needs or gate.needs in DECLARED
        for sentence in (gate.title, gate.condition, gate.effect, gate.remedy):
            assert len(sentence) > 15
            assert sentence[0].isupper()
            assert not sentence.endswith(".")


def test_every_gate_has_a_current_page_and_no_page_is_left_over() -> None:
    """The pages are what the catalogue renders (mutant: change a word in a page)."""
    got = {path.name: path.read_text(encoding="utf-8") for path in PAGES.glob("*.md")}

    assert got == render_gates(), "render them again: python -m rehearsal.verdict.explain docs/gates"


def test_list_has_one_line_a_gate() -> None:
    assert len(list_gates().splitlines()) == len(GATES)


def test_explain_says_condition_effect_and_remedy() -> None:
    text = " ".join(explain_gate("ledger").split())

    gate = find_gate("ledger")
    assert gate.condition in text
    assert gate.effect in text
    assert gate.remedy in text


def test_unknown_gate_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'ledger'"):
        explain_gate("leger")
