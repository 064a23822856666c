"""What one kind of finding is made of: its texts, whom it concerns, and how to see it for oneself. Pure.

A text is a template: a word in braces is filled by the check that finds it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from rehearsal.catalog.findings import Severity
from rehearsal.plan.strategies import STRATEGIES, TRAITS, StrategyName

MESSAGE = """\
create table public.message (id bigint primary key, at timestamptz not null, body text);
insert into public.message
select n, '2026-01-01'::timestamptz + n * interval '1 hour', 'message ' || n from generate_series(1, 1000) as n;
"""
# The same, owned by a migrating role that may do all that it needs, and no more.
OWNED = """\
create table public.message (id bigint primary key, at timestamptz not null, body text);
create role migrator createdb in role pg_monitor;
alter table public.message owner to migrator;
grant create on schema public to migrator;
grant usage on schema rehearsal to migrator;
grant select on all tables in schema rehearsal to migrator;
"""
# Major versions of the server: every one that is carried, but for what an example says.
OLDEST, NEWEST = 14, 99
FLAGS = {"reads": "USE_PARTITIONED_TABLES", "writes": "ENABLE_PARTITION_ROUTING"}


@dataclass(frozen=True, slots=True)
class Says:
    """What a finding says: its condition, what that would do, what to do about it."""

    condition: str
    effect: str
    remedy: str
    severity: Severity = "blocker"


def warns(condition: str, effect: str, remedy: str) -> Says:
    """Return what a finding says that people decide on."""
    return Says(condition, effect, remedy, "warning")


@dataclass(frozen=True, slots=True)
class Example:
    """A small table on which the finding appears by `bad_sql` and disappears by `good_sql`.

    Each statement ends its line. `spec` is what the plan says of the table besides its name and the key `at`,
    `good_spec` what it says after it was mended, where it must say something else; `along` are findings that come and
    go with this one. `since` and `until` are the major versions of the server on which it can be seen.
    """

    bad_sql: str
    good_sql: str
    strategy: StrategyName = "swap"
    spec: Mapping[str, object] = field(default_factory=dict[str, object])
    good_spec: Mapping[str, object] | None = None
    table: str = MESSAGE
    along: frozenset[str] = frozenset()
    since: int = OLDEST
    until: int = NEWEST

    def plan(self, *, is_mended: bool = False) -> dict[str, object]:
        """Return the plan by which the finding appears, or the one by which it is gone."""
        spec = self.good_spec if is_mended and self.good_spec is not None else self.spec
        flags = {"flags": FLAGS} if TRAITS[self.strategy].mirrors else {}
        table = {"name": "public.message", "key": "at", **spec}
        return {"name": "message", "strategy": self.strategy, **flags, "tables": [table]}


@dataclass(frozen=True, slots=True)
class Shown:
    """What shows a finding that no SQL on a small table can show, and why none can."""

    by: str
    why: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One kind of finding. `otherwise` are its other texts, by the case in which they are said.

    `may_accept`: its id may stand in `accepted` of a table in the plan, which keeps it from being asked about again.
    """

    id: str
    title: str
    says: Says
    example: Example | Shown
    otherwise: Mapping[str, Says] = field(default_factory=dict[str, Says])
    strategies: frozenset[str] = STRATEGIES
    may_accept: bool = False

    def said(self, *cases: str) -> Says:
        """Return the texts of the first of these cases that has its own."""
        return next((self.otherwise[case] for case in cases if case in self.otherwise), self.says)

    def cases(self) -> Iterator[tuple[str, Says]]:
        """Return each of its texts once, with its case; that of all other cases has none."""
        if self.says not in self.otherwise.values():
            yield "", self.says
        yield from self.otherwise.items()

    @property
    def severities(self) -> tuple[Severity, ...]:
        """What it can be: a blocker, a warning, or one or the other."""
        return tuple(dict.fromkeys(says.severity for _, says in self.cases()))
