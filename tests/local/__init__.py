"""Tests that need processes of this machine: a cluster, a process manager, app servers."""
