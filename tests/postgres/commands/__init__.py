"""Tests of single verbs, on a real server."""
