"""Killed anywhere, run again: nothing is lost, nothing is left half done."""
