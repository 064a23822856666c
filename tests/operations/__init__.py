"""Decisions of facts and operations, and dry runs of every phase, on hosts that are not there."""
