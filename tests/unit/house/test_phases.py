"""Phases of a rehearsal: one file a phase, listed once, and none of them leans on another."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from rehearsal.plan.strategies import STRATEGIES
from rehearsal.rehearse.order import PHASES
from rehearsal.rehearse.phase import Phase, choose
from rehearsal.verdict.gates import GATES
from tests.unit.house.test_rooms import arrows

ROOM = "rehearse.phases"
PACKAGE = Path(__file__).resolve().parents[3] / "rehearsal"
FILES = sorted(path.stem for path in (PACKAGE / "rehearse" / "phases").glob("*.py") if path.stem != "__init__")


def leaning(root: Path) -> list[str]:
    """Return who imports a phase but must not: phases themselves, and everybody but the list of them."""
    return sorted({who for who, what in arrows(root) if what.startswith(f"{ROOM}.") and who != "rehearse.order"})


def test_every_file_is_one_phase_of_the_order_and_has_its_name() -> None:
    """A file that nobody lists would be a phase that never runs."""
    found: list[Phase] = [import_module(f"rehearsal.{ROOM}.{name}").PHASE for name in FILES]

    assert [phase.name.replace("-", "_") for phase in found] == FILES
    assert len(PHASES) == len(FILES)
    assert set(PHASES) == set(found)


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_a_strategy_has_each_phase_once_and_gates_that_it_has_too(strategy: str) -> None:
    """The gate of a phase takes its failure, so it must be one of the strategy's."""
    phases = choose(PHASES, strategy)
    gates = {gate.id for gate in GATES if strategy in gate.strategies}

    assert len({phase.name for phase in phases}) == len(phases)
    assert {phase.gate for phase in phases} <= gates


def test_no_phase_leans_on_another() -> None:
    """What two share stands beside the room."""
    assert leaning(PACKAGE) == []


def test_a_phase_that_leans_on_another_is_found(tmp_path: Path) -> None:
    """The witness."""
    folder = tmp_path / "rehearsal" / "rehearse" / "phases"
    folder.mkdir(parents=True)
    (folder / "load.py").write_text("")
    (folder / "rollback.py").write_text("from rehearsal.rehearse.phases.load import keep_load\n")
    (folder.parent / "order.py").write_text("from rehearsal.rehearse.phases import load, rollback\n")

    assert leaning(tmp_path / "rehearsal") == ["rehearse.phases.rollback"]
