"""Tests of pure values: nothing to start, nothing to mock."""
