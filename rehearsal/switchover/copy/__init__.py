"""How rows come into a target, and how it stays in sync."""
