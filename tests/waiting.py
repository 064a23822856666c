"""The one way in which tests wait for something that only asking again can tell: with a deadline.

`tests/unit/house/test_waiting.py` refuses loops that wait without one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(
    look: Callable[[], T | None],
    within: float = 10.0,
    *,
    that: Callable[[T], object] = bool,
    unless: Callable[[], object] | None = None,
    not_yet: tuple[type[Exception], ...] = (),
    pause: float = 0.02,
) -> T:
    """Look until what is seen is as wanted, and return it.

    `that` says what is wanted (default: anything that is true), `unless` what would make all waiting vain, `not_yet`
    which errors only mean that it is too early.

    Raises:
        AssertionError: it was not seen within so many seconds, or waiting is vain; with what was seen last.
    """
    deadline = time.monotonic() + within
    while True:
        seen, last = _seen(look, not_yet)
        if seen is not None and that(seen):
            return seen
        if unless and (reason := unless()):
            message = f"it cannot come about any more: {reason}; seen last: {last}"
            raise AssertionError(message)
        if time.monotonic() > deadline:
            message = f"not within {within:g} s; seen last: {last}"
            raise AssertionError(message)
        time.sleep(pause)


def _seen(look: Callable[[], T | None], not_yet: tuple[type[Exception], ...]) -> tuple[T | None, str]:
    try:
        seen = look()
    except not_yet as exc:
        return None, repr(exc)
    return seen, repr(seen)
