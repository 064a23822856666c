"""Partitions after the switchover, on a real PostgreSQL."""
