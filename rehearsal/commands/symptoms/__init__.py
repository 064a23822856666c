"""Symptoms of the runbook that the database can tell: what `doctor` looks for beside the tables themselves."""
