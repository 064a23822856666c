"""What a strategy makes of a table's definition: differences that are wanted, each with its reason.

Owns the list; it is shown in the report and never accepted in silence. Pure, but for the names that are mapped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rehearsal.catalog.ddl import add_column, bare_check
from rehearsal.catalog.definition import Definition
from rehearsal.catalog.tables import Table
from rehearsal.postgres.sqlfiles import quote_ident
from rehearsal.switchover.target.carry import Carried, statistics_names
from rehearsal.switchover.target.indexes import plan_indexes
from rehearsal.switchover.target.target import Shape


@dataclass(slots=True)
class Expected:
    """A definition as it is expected after a switch, and the reason for each subject that is not as before."""

    facts: dict[str, dict[str, str]]
    reasons: dict[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def same(cls, before: Definition) -> Expected:
        """Expect what was there before."""
        return cls({subject: dict(facts) for subject, facts in before.items()})

    def change(self, subject: str, facet: str, said: str | None, reason: str) -> None:
        """Expect another text of one fact; None: that it is gone."""
        if said is None:
            self.facts[subject].pop(facet, None)
        else:
            self.facts[subject][facet] = said
        self.reasons[subject] = reason

    def drop(self, subject: str, reason: str) -> None:
        """Expect a subject to be gone."""
        del self.facts[subject]
        self.reasons[subject] = reason


def expect(before: Definition, shape: Shape, key_sql: str, method: str = "range") -> Expected:
    """Return what every partitioned table makes of the definition; `key_sql` is the key as PostgreSQL writes it."""
    wanted = Expected.same(before)
    wanted.change("table", "partitioned by", f"{method.upper()} ({key_sql})", "the plan partitions the table")
    _add_key(wanted, shape, key_sql)
    for subject, facts in before.items():
        if subject.startswith("check ") and facts["definition"].removesuffix(" NOT VALID").endswith(" NO INHERIT"):
            valid = "" if not facts["definition"].endswith(" NOT VALID") else " NOT VALID"
            definition = bare_check(facts["definition"]) + valid
            wanted.change(subject, "definition", definition, "a check of a partitioned table holds for its partitions")
    return wanted


def _add_key(wanted: Expected, shape: Shape, key_sql: str) -> None:
    """A primary key of a partitioned table has to hold the partition key."""
    if shape.key in shape.primary:
        return
    reason = "the primary key of a partitioned table holds the partition key"
    for subject in [known for known in wanted.facts if known.startswith("primary key ")]:
        for changed in (subject, "index " + subject.removeprefix("primary key ")):
            text = wanted.facts[changed]["definition"]
            wanted.change(changed, "definition", add_column(text, key_sql), reason)


def names_of_target(source: Table, target: Table, shape: Shape, statistics: Sequence[Carried]) -> dict[str, str]:
    """Return the subjects of a target's own names -> those of the source: indexes, their constraints, statistics."""
    names: dict[str, str] = {}
    for plan in plan_indexes(source, shape):
        ours, theirs = quote_ident(plan.source_name), quote_ident(plan.parent_name(target.name))
        for noun in ("index", "primary key", "unique constraint", "exclusion constraint"):
            names[f"{noun} {theirs}"] = f"{noun} {ours}"
    return names | target_statistics(statistics)


def target_statistics(statistics: Sequence[Carried]) -> dict[str, str]:
    """Return the subjects of a target's extended statistics -> those of the source."""
    pairs = [(quote_ident(named.target), quote_ident(named.source)) for named in statistics_names(statistics)]
    return {f"statistics {target}": f"statistics {source}" for target, source in pairs}


def renamed(definition: Definition, names: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return a definition with subjects, and facts that name one, renamed."""
    return {
        names.get(subject, subject): {facet: names.get(said, said) for facet, said in facts.items()}
        for subject, facts in definition.items()
    }
