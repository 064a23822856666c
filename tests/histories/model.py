"""What the table must hold: rows as acknowledged transactions left them, in the order of their commits.

Writers of one row wait for each other, so the order of commits is the order of its versions. A row is named by its id
and key; `None` in place of a value means that the row is gone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

Pair = tuple[int, datetime]


@dataclass
class Model:
    """Committed rows, and the commit that touched each pair last."""

    rows: dict[Pair, str] = field(default_factory=dict)
    touched: dict[Pair, int] = field(default_factory=dict)
    commits: int = 0

    def commit(self, effects: list[tuple[Pair, str | None]]) -> None:
        """Take over what a transaction did."""
        self.commits += 1
        for pair, value in effects:
            self.touched[pair] = self.commits
            if value is None:
                self.rows.pop(pair, None)
            else:
                self.rows[pair] = value

    def must_find(self, pair: Pair, since: int, effects: list[tuple[Pair, str | None]]) -> bool:
        """Return whether a transaction that began at commit `since` cannot but find the row.

        It does if the row was there then, nobody has touched it since, and the transaction itself has left it.
        """
        for mine, value in reversed(effects):
            if mine == pair:
                return value is not None
        return pair in self.rows and self.touched.get(pair, 0) <= since
