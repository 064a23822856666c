"""What kinds of ways there are to a partitioned table, told by what they do and not by their names.

Owns the names that a plan may use. How each of them does it is in `switchover/strategies`; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

StrategyName = Literal["dual-write", "swap", "attach"]


@dataclass(frozen=True, slots=True)
class Traits:
    """What a strategy does with a table.

    `copies`: rows are copied into a target, and one table follows the other. `mirrors`: both tables stay in use and
    are equal in every snapshot; flags of the application decide which one it uses. `takes_name`: the partitioned table
    gets the name of the source. `methods`: the methods of partitioning that it can make.
    """

    copies: bool = True
    mirrors: bool = False
    takes_name: bool = False
    methods: tuple[str, ...] = ("range", "list", "hash")

    @property
    def exchanges(self) -> bool:
        """Whether another table takes the name, so that what points at the source has to be brought along."""
        return self.copies and self.takes_name


TRAITS: Mapping[StrategyName, Traits] = {
    "dual-write": Traits(mirrors=True),
    "swap": Traits(takes_name=True),
    "attach": Traits(copies=False, takes_name=True, methods=("range",)),
}


def _those(fits: Callable[[Traits], bool]) -> frozenset[str]:
    return frozenset(name for name, traits in TRAITS.items() if fits(traits))


# Groups that the rules of gates, phases and findings speak of.
STRATEGIES: frozenset[str] = frozenset(get_args(StrategyName))
DUAL_WRITE = _those(lambda traits: traits.mirrors)
SWAP = _those(lambda traits: traits.exchanges)
ATTACH = _those(lambda traits: not traits.copies)
# Those that copy rows into a table of their own.
COPYING = _those(lambda traits: traits.copies)
