"""Sessions, locks, client programs and SQL files. Knows no plan."""
