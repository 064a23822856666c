"""Partitions after the switchover: making them ahead, detaching and dropping those past their retention."""
