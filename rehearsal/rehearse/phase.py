"""What a phase is, and how one is found by its name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rehearsal.errors import UsageError
from rehearsal.plan.strategies import STRATEGIES
from rehearsal.rehearse.context import Context


class StopHere(Exception):
    """A gate failed on which nothing may be built: the run goes straight to its report."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One stage of a rehearsal. `gate` takes the evidence when the phase fails before it could record any."""

    name: str
    title: str
    gate: str
    work: Callable[[Context], None]
    strategies: frozenset[str] = STRATEGIES


def choose(phases: Sequence[Phase], plan_strategy: str) -> tuple[Phase, ...]:
    """Return the phases of a strategy."""
    return tuple(phase for phase in phases if plan_strategy in phase.strategies)


def index_of(phases: Sequence[Phase], name: str) -> int:
    """Return the position of a phase.

    Raises:
        UsageError: there is none of that name; names the nearest and all others.
    """
    names = [phase.name for phase in phases]
    if name in names:
        return names.index(name)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    message = f"no phase {name!r}{hint} There are: {', '.join(names)}"
    raise UsageError(message)
