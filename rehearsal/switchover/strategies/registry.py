"""The strategies: the only place that knows all of them."""

from __future__ import annotations

from collections.abc import Mapping

from rehearsal.plan.model import Plan
from rehearsal.plan.strategies import StrategyName
from rehearsal.switchover.strategies.attach.strategy import Attach
from rehearsal.switchover.strategies.base import Strategy
from rehearsal.switchover.strategies.dual_write.strategy import DualWrite
from rehearsal.switchover.strategies.swap.strategy import Swap

STRATEGIES: Mapping[StrategyName, Strategy] = {strategy.name: strategy for strategy in (DualWrite(), Swap(), Attach())}


def strategy_of(plan: Plan) -> Strategy:
    """Return the strategy of a plan."""
    return STRATEGIES[plan.strategy]
