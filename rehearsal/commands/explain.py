"""`explain`: what a gate or a finding means; of an id that is both, both are told."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path

from rehearsal.checks.preflight.catalogue import ENTRY
from rehearsal.checks.preflight.explain import explain_finding, render_findings
from rehearsal.errors import UsageError
from rehearsal.verdict.explain import explain_gate, list_gates, write_pages
from rehearsal.verdict.gates import GATES


def gates() -> str:
    """Return one line a gate: id and title."""
    return list_gates()


def explain(name: str) -> str:
    """Return what the gate or the finding of that id means, for a terminal.

    Raises:
        UsageError: there is neither; names the nearest.
    """
    known = {gate.id for gate in GATES}
    told = [explain_gate(name)] if name in known else []
    told += [explain_finding(name)] if name in ENTRY else []
    if told:
        return "\n".join(told)
    near = difflib.get_close_matches(name, [*known, *ENTRY], n=1)
    if near and near[0] not in known:
        message = f"no finding {name!r}; did you mean {near[0]!r}"
        raise UsageError(message)
    return explain_gate(name)


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]), render_findings())
