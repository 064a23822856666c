"""Tests of pure values: no database, hence nothing to mock."""
