"""The strategies by which a table is switched over, and the groups of them that rules speak of."""

from __future__ import annotations

from typing import get_args

from rehearsal.plan.model import Strategy

STRATEGIES: frozenset[str] = frozenset(get_args(Strategy))
DUAL_WRITE: frozenset[str] = frozenset({"dual-write"})
SWAP: frozenset[str] = frozenset({"swap"})
ATTACH: frozenset[str] = frozenset({"attach"})
# Those that copy rows into a table of their own.
COPYING: frozenset[str] = STRATEGIES - ATTACH
