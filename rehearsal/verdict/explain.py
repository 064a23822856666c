"""Texts about gates, made of the catalogue: the list, one gate explained, the pages in `docs/gates/`.

Owns wording and layout of these texts. Must not know evidence or verdicts.
"""

from __future__ import annotations

import difflib
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

from rehearsal.errors import UsageError
from rehearsal.verdict.gate import Gate
from rehearsal.verdict.gates import GATES


def find_gate(name: str) -> Gate:
    """Return the gate with that id.

    Raises:
        UsageError: there is none; names the nearest.
    """
    known = {gate.id: gate for gate in GATES}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}" if near else "list them with `gates`"
    message = f"no gate {name!r}; {hint}"
    raise UsageError(message)


def list_gates() -> str:
    """Return one line a gate: id and title."""
    width = max(len(gate.id) for gate in GATES)
    return "".join(f"{gate.id:<{width}}  {gate.title}\n" for gate in GATES)


def explain_gate(name: str) -> str:
    """Return what a gate means, for a terminal.

    Raises:
        UsageError: there is no such gate; names the nearest.
    """
    gate = find_gate(name)
    lines = [f"{gate.id}: {gate.title}", ""]
    for label, text in _sentences(gate):
        lines += textwrap.wrap(text, 88, initial_indent=f"{label + ':':<12}", subsequent_indent=" " * 12)
    return "\n".join(lines) + "\n"


def render_gate(gate: Gate) -> str:
    """Return the page `docs/gates/<id>.md`."""
    sentences = "\n\n".join(f"**{label}.** {text}." for label, text in _sentences(gate))
    return f"# {gate.id}\n\n{gate.title}.\n\n{sentences}\n"


def render_gates() -> dict[str, str]:
    """Return every gate page, and the index, by file name."""
    rows = "".join(f"| [{gate.id}]({gate.id}.md) | {gate.title} | {', '.join(gate.steps)} |\n" for gate in GATES)
    index = f"# Gates\n\n| gate | holds when | playbook steps |\n| --- | --- | --- |\n{rows}"
    return {"README.md": index} | {f"{gate.id}.md": render_gate(gate) for gate in GATES}


def _sentences(gate: Gate) -> list[tuple[str, str]]:
    where = ", ".join(kind for kind in ("local", "docker", "staging", "production") if kind in gate.kinds)
    strategies = " and ".join(sorted(gate.strategies))
    needs = f", when the plan declares {gate.needs.replace('_', ' ')}" if gate.needs else ""
    return [
        ("Fails when", gate.condition),
        ("Effect", gate.effect),
        ("Remedy", gate.remedy),
        ("Required", f"In {where} for {strategies}{needs}"),
        ("Playbook", f"{', '.join(gate.steps)} of the step list"),
    ]


def write_pages(folder: Path, pages: Mapping[str, str]) -> list[Path]:
    """Write pages into `folder`, by their file names; pages of what is gone are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in set(folder.glob("*.md")) - {folder / name for name in pages}:
        stale.unlink()
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in pages]


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]), render_gates())
