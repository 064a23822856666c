"""A speed is judged by the ends of its interval: proven, refuted, or not clear."""

from __future__ import annotations

import pytest

from rehearsal.checks.queries.compare import Confidence, is_fast
from rehearsal.plan.model import Query


def _query(**limits: float | None) -> Query:
    return Query.model_validate({"name": "q", "sql": "select 1", "table": "public.t", "max_slowdown": None, **limits})


@pytest.mark.parametrize(
    ("low", "high", "want"),
    [(0.52, 0.7, True), (0.1, 0.45, False), (0.4, 0.6, None)],
    ids=["proven", "refuted", "not clear"],
)
def test_speed_up_is_judged_by_both_ends(low: float, high: float, want: bool | None) -> None:
    """Half the time at least: proven by the lower end, refuted by the upper one."""
    got = is_fast(_query(min_speedup=0.5), Confidence((low + high) / 2, low, high), Confidence(0, -5, 5))

    assert got is want


@pytest.mark.parametrize(
    ("low", "high", "slower", "want"),
    [
        (-0.4, -0.2, (3.0, 5.0), True),
        (-0.9, -0.7, (3.0, 5.0), False),
        (-0.9, -0.3, (3.0, 5.0), None),
        (-0.9, -0.7, (0.1, 0.4), True),
    ],
    ids=["within", "beyond", "not clear", "below the slack"],
)
def test_slowdown_is_judged_by_both_ends(
    low: float, high: float, slower: tuple[float, float], want: bool | None
) -> None:
    """Half as long again at most, and a loss below the slack never counts."""
    got = is_fast(_query(max_slowdown=0.5), Confidence((low + high) / 2, low, high), Confidence(1, *slower))

    assert got is want


def test_no_limit_is_no_judgement() -> None:
    """Without a limit there is nothing to say."""
    assert is_fast(_query(), Confidence(0, -1, 1), Confidence(0, -1, 1)) is None
